"""Platform event filtering (section 30). There is none: what happens goes to the broker, where anything may act on it.

The commands that ask are answered with "no filters, no policies", which is what clients show.
"""

import struct
from enum import IntEnum

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request

registry = Registry()

GET_CAPABILITIES, SET_PARAMETERS, GET_PARAMETERS, GET_LAST_PROCESSED = 0x10, 0x12, 0x13, 0x15
PARAMETER_NOT_SUPPORTED, READ_ONLY = 0x80, 0x82
_VERSION = 0x51
REVISION = 0x11
_REVISION_ONLY = 0x80
_GUID_NOT_USED = 0x00
_STRING_BLOCK = 16
_STRING_BLOCKS = 4
"""As many as FreeIPMI reads of a string."""


class PefParameter(IntEnum):
    """PEF configuration parameters (table 30-6), of those without filters and policies."""

    SET_IN_PROGRESS = 0
    CONTROL = 1
    ACTION_CONTROL = 2
    STARTUP_DELAY = 3
    ALERT_STARTUP_DELAY = 4
    NUMBER_OF_FILTERS = 5
    NUMBER_OF_POLICIES = 8
    SYSTEM_GUID = 10
    NUMBER_OF_ALERT_STRINGS = 11
    ALERT_STRING_KEYS = 12
    ALERT_STRINGS = 13


@registry.add(NetFn.SENSOR, GET_CAPABILITIES, Privilege.USER)
def get_capabilities(request: Request) -> bytes:  # noqa: ARG001 - all handlers are called alike
    """Get PEF Capabilities (section 30.1): no actions, no filters."""
    return bytes((_VERSION, 0, 0))


@registry.add(NetFn.SENSOR, GET_PARAMETERS, Privilege.OPERATOR, 3)
def get_parameters(request: Request) -> bytes:
    """Get PEF Configuration Parameters (section 30.4)."""
    if request.data[0] & _REVISION_ONLY:
        return bytes((REVISION,))
    number = request.data[0]
    if number not in set(PefParameter):
        raise CompletionError(PARAMETER_NOT_SUPPORTED)
    if number == PefParameter.SYSTEM_GUID:
        return bytes((REVISION, _GUID_NOT_USED)) + request.bmc.guid
    if number in (PefParameter.ALERT_STRING_KEYS, PefParameter.ALERT_STRINGS):
        return bytes((REVISION,)) + _alert_string(PefParameter(number), request.data[1], request.data[2])
    return bytes((REVISION, 0))


def _alert_string(number: PefParameter, selector: int, block: int) -> bytes:
    """String 0, the volatile one for Alert Immediate, is there and empty; no other is."""
    if selector or (number is PefParameter.ALERT_STRINGS and not 1 <= block <= _STRING_BLOCKS):
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    if number is PefParameter.ALERT_STRING_KEYS:
        return bytes(3)
    return bytes((0, block)) + bytes(_STRING_BLOCK)


@registry.add(NetFn.SENSOR, SET_PARAMETERS, Privilege.ADMINISTRATOR, (1, 64))
def set_parameters(request: Request) -> bytes:
    """Set PEF Configuration Parameters (section 30.3): nothing can be set."""
    raise CompletionError(READ_ONLY if request.data[0] & 0x7F in set(PefParameter) else PARAMETER_NOT_SUPPORTED)


@registry.add(NetFn.SENSOR, GET_LAST_PROCESSED, Privilege.ADMINISTRATOR)
def get_last_processed(request: Request) -> bytes:
    """Get Last Processed Event ID (section 30.6): the newest record, and that none was processed."""
    log = request.bmc.controller.sel
    newest = log.find(0xFFFF)
    last = struct.unpack_from("<H", newest[0])[0] if newest is not None else 0xFFFF
    return struct.pack("<IHHH", log.added_at, last, 0, 0)
