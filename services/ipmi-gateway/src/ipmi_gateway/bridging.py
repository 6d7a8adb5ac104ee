"""Send Message: the way of a request to a controller behind the gateway (sections 6.13 and 22.7).

A bridged request is a whole message inside the data of another one; dual bridging nests once more. Each layer is
answered by a message of its own, the outermost first, and then comes the answer of the controller. That is the form
that all clients take: an answer nested into the Send Message response is not read by pyghmi.
"""

from dataclasses import dataclass
from functools import lru_cache
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
_APP: Final = int(NetFn.APP)
_OK: Final = int(Code.OK)
_USER: Final = int(Privilege.USER)


@dataclass(slots=True)
class Route:
    """Where a bridged request comes out."""

    answers: tuple[bytes, ...]
    """To send before the request's own answer: the Send Message responses, outermost first."""
    request: ipmb.Message
    """The innermost message."""
    bmc: "Bmc"
    channel: int


def resolve(
    message: ipmb.Message, listener: "Listener", directory: "Directory", user: "User", privilege: Privilege
) -> Route | tuple[bytes, ...]:
    """Follow a Send Message request to its end, or return the answers that refuse it."""
    answers: tuple[bytes, ...] = ()
    for _ in range(MAX_DEPTH):
        inner = _unwrap(message.data) if privilege >= _USER else Code.INSUFFICIENT_PRIVILEGE
        if isinstance(inner, Code):
            return (*answers, ipmb.pack_response(message, inner))
        channel = message.data[0] & _CHANNEL_MASK
        bmc = _find(listener, directory, channel, inner.rs_address)
        if bmc is None:
            return (*answers, ipmb.pack_response(message, Code.DESTINATION_UNAVAILABLE))
        last = inner.command != SEND_MESSAGE or inner.netfn != _APP
        if last and not user.may_reach(bmc.node_id):
            return (*answers, ipmb.pack_response(message, Code.INSUFFICIENT_PRIVILEGE))
        answers = (*answers, ipmb.pack_response(message, _OK))
        if last:
            return Route(answers, inner, bmc, channel)
        message = inner
    return (*answers, ipmb.pack_response(message, Code.INVALID_FIELD))


@lru_cache(ipmb.REMEMBERED)
def _unwrap(data: bytes) -> ipmb.Message | Code:
    """The message inside the data of a Send Message request, or why it is refused."""
    if len(data) < 1 + ipmb.MINIMUM_LENGTH:
        return Code.DATA_LENGTH_INVALID
    if data[0] & ~_CHANNEL_MASK != _TRACK_REQUEST:
        return Code.INVALID_FIELD
    inner = ipmb.unpack(data[1:])
    return Code.INVALID_FIELD if inner is None or inner.netfn & 1 else inner


def _find(listener: "Listener", directory: "Directory", channel: int, address: int) -> "Bmc | None":
    """Who an address means to clients of this listener: 20h is always the listener's own controller."""
    if address == BMC_ADDRESS:
        return listener.bmc
    bmc = directory.find(channel, address)
    if bmc is None or listener.bridging or bmc.node_id == listener.bmc.node_id:
        return bmc
    return None
