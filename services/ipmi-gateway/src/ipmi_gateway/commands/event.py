"""Event commands (section 29): the event receiver and platform events."""

from ipmi_gateway.codes import REMOTE_CONSOLE_ADDRESS, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.event_log import EVM_REVISION

registry = Registry()

SET_EVENT_RECEIVER, GET_EVENT_RECEIVER, PLATFORM_EVENT = 0x00, 0x01, 0x02
_OLD_EVM_REVISION = 0x03
"""IPMI 1.0's."""
_EVENT_SIZE = 7
_UNSPECIFIED = 0xFF


@registry.add(NetFn.SENSOR, SET_EVENT_RECEIVER, Privilege.ADMINISTRATOR, 2, changes=True)
def set_event_receiver(request: Request) -> bytes:
    """Set Event Receiver (section 29.1): kept until a reset; this controller logs its events itself."""
    address, lun = request.data
    if lun > 3 or (address & 1 and address != _UNSPECIFIED):
        raise CompletionError(Code.INVALID_FIELD)
    request.bmc.controller.event_receiver = (address, lun)
    return b""


@registry.add(NetFn.SENSOR, GET_EVENT_RECEIVER, Privilege.USER)
def get_event_receiver(request: Request) -> bytes:
    """Get Event Receiver (section 29.2)."""
    return bytes(request.bmc.controller.event_receiver)


@registry.add(NetFn.SENSOR, PLATFORM_EVENT, Privilege.OPERATOR, (5, 8), changes=True)
def platform_event(request: Request) -> bytes:
    """Platform Event (section 29.3): into the log. Eight octets begin with a generator id, as on a system interface."""
    data = request.data
    generator = REMOTE_CONSOLE_ADDRESS
    if len(data) > _EVENT_SIZE:
        generator, data = data[0], data[1:]
    if data[0] not in (EVM_REVISION, _OLD_EVM_REVISION):
        raise CompletionError(Code.INVALID_FIELD)
    # Data 2 and 3 may be left out (section 29.3).
    request.bmc.controller.record(bytes((generator, 0)) + data.ljust(_EVENT_SIZE, b"\xff"))
    return b""
