"""Send Message: the way of a request to a controller behind the gateway (sections 6.13 and 22.7).

A bridged request is a whole message inside the data of another one; dual bridging nests once more. Each layer is
answered by a message of its own, the outermost first, and then comes the answer of the controller. That is the form
that all clients take: an answer nested into the Send Message response is not read by pyghmi.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

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
_USER: Final = int(Privilege.USER)


class Route(NamedTuple):
    """Where a bridged request comes out."""

    answers: tuple[bytes, ...]
    """To send before the request's own answer: the Send Message responses, outermost first."""
    raw: bytes
    """The octets of `request`."""
    request: ipmb.Message
    """The innermost message."""
    bmc: "Bmc"
    channel: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A bridged request that does not come out."""

    answers: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A Send Message request and what is in it."""

    raw: bytes
    """The octets of `inner`."""
    inner: ipmb.Message
    last: bool
    """`inner` is not one more Send Message."""
    channel: int
    accepted: bytes
    """The response to the Send Message request itself."""


def resolve(
    raw: bytes, listener: "Listener", directory: "Directory", user: "User", privilege: Privilege
) -> Route | Refused:
    """Follow a Send Message request (its octets) to its end."""
    answers: tuple[bytes, ...] = ()
    for _ in range(MAX_DEPTH):
        layer = _peel(raw) if privilege >= _USER else Code.INSUFFICIENT_PRIVILEGE
        if isinstance(layer, Code):
            return Refused((*answers, ipmb.respond(raw, layer)))
        bmc = _find(listener, directory, layer.channel, layer.inner.rs_address)
        if bmc is None:
            return Refused((*answers, ipmb.respond(raw, Code.DESTINATION_UNAVAILABLE)))
        if layer.last and not user.may_reach(bmc.node_id):
            return Refused((*answers, ipmb.respond(raw, Code.INSUFFICIENT_PRIVILEGE)))
        answers = (*answers, layer.accepted)
        if layer.last:
            return Route(answers, layer.raw, layer.inner, bmc, layer.channel)
        raw = layer.raw
    return Refused((*answers, ipmb.respond(raw, Code.INVALID_FIELD)))


@lru_cache(ipmb.REMEMBERED)
def _peel(raw: bytes) -> _Layer | Code:
    """What is inside a Send Message request, or why it is refused."""
    message = ipmb.unpack(raw)
    if message is None or len(message.data) < 1 + ipmb.MINIMUM_LENGTH:
        return Code.DATA_LENGTH_INVALID
    if message.data[0] & ~_CHANNEL_MASK != _TRACK_REQUEST:
        return Code.INVALID_FIELD
    inside = message.data[1:]
    inner = ipmb.unpack(inside)
    if inner is None or inner.netfn & 1:
        return Code.INVALID_FIELD
    last = inner.command != SEND_MESSAGE or inner.netfn != NetFn.APP
    return _Layer(inside, inner, last, message.data[0] & _CHANNEL_MASK, ipmb.pack_response(message, Code.OK))


def _find(listener: "Listener", directory: "Directory", channel: int, address: int) -> "Bmc | None":
    """Who an address means to clients of this listener: 20h is always the listener's own controller."""
    if address == BMC_ADDRESS:
        return listener.bmc
    bmc = directory.find(channel, address)
    if bmc is None or listener.bridging or bmc.node_id == listener.bmc.node_id:
        return bmc
    return None
