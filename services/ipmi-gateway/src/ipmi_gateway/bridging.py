"""Send Message: the way of a request to a controller behind the gateway (sections 6.13 and 22.7).

A bridged request is a whole message inside the data of another one; dual bridging nests once more. Each layer is
answered by a message of its own, the outermost first, and then comes the answer of the controller. That is the form
that all clients take: an answer nested into the Send Message response is not read by pyghmi.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipmi_gateway.codes import BMC_ADDRESS, Code, NetFn, Privilege
from ipmi_gateway.packets import ipmb

if TYPE_CHECKING:
    from ipmi_gateway.bmc import Bmc
    from ipmi_gateway.directory import Directory, Listener
    from ipmi_gateway.sessions.users import User

SEND_MESSAGE: Final = 0x34
MAX_DEPTH: Final = 2
"""Single and dual bridging."""
_TRACK_REQUEST: Final = 0x40
_CHANNEL_MASK: Final = 0x0F


@dataclass(frozen=True, slots=True)
class Route:
    """Where a bridged request comes out."""

    answers: tuple[bytes, ...]
    """To send before the request's own answer: the Send Message responses, outermost first."""
    request: ipmb.Message
    """The innermost message."""
    bmc: "Bmc"
    channel: int


def is_send_message(message: ipmb.Message) -> bool:
    """Whether a request is to be bridged."""
    return message.command == SEND_MESSAGE and message.netfn == NetFn.APP


def resolve(
    message: ipmb.Message, listener: "Listener", directory: "Directory", user: "User", privilege: Privilege
) -> Route | tuple[bytes, ...]:
    """Follow a Send Message request to its end, or return the answers that refuse it."""
    answers: tuple[bytes, ...] = ()
    find = _finder(listener, directory)
    for _ in range(MAX_DEPTH):
        code, inner = _unwrap(message, privilege)
        if inner is None:
            return (*answers, ipmb.pack_response(message, code))
        channel = message.data[0] & _CHANNEL_MASK
        bmc = find(channel, inner.rs_address)
        if bmc is None:
            return (*answers, ipmb.pack_response(message, Code.DESTINATION_UNAVAILABLE))
        last = not is_send_message(inner)
        if last and not user.may_reach(bmc.node_id):
            return (*answers, ipmb.pack_response(message, Code.INSUFFICIENT_PRIVILEGE))
        answers = (*answers, ipmb.pack_response(message, Code.OK))
        if last:
            return Route(answers, inner, bmc, channel)
        message = inner
    return (*answers, ipmb.pack_response(message, Code.INVALID_FIELD))


def _unwrap(message: ipmb.Message, privilege: Privilege) -> tuple[Code, ipmb.Message | None]:
    """The message inside a Send Message request, or None and why it is refused."""
    data = message.data
    if privilege < Privilege.USER:
        return Code.INSUFFICIENT_PRIVILEGE, None
    if len(data) < 1 + ipmb.MINIMUM_LENGTH:
        return Code.DATA_LENGTH_INVALID, None
    if data[0] & ~_CHANNEL_MASK != _TRACK_REQUEST:
        return Code.INVALID_FIELD, None
    inner = ipmb.unpack(data[1:])
    if inner is None or inner.netfn & 1:
        return Code.INVALID_FIELD, None
    return Code.OK, inner


def _finder(listener: "Listener", directory: "Directory") -> Callable[[int, int], "Bmc | None"]:
    """How addresses are found from this listener: 20h is always its own controller."""

    def find(channel: int, address: int) -> "Bmc | None":
        if address == BMC_ADDRESS:
            return listener.bmc
        bmc = directory.find(channel, address)
        if bmc is None or listener.bridging or bmc.node_id == listener.bmc.node_id:
            return bmc
        return None

    return find
