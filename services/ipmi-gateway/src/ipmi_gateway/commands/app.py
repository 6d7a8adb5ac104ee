"""Application commands (sections 20 and 22): identity, resets, self-test, power state, message flags."""

from collections.abc import Awaitable
from enum import IntEnum
from functools import lru_cache

from pypmi.contract import PowerState

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.actions import carried_out, origin_of, refreshed
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.facts import Identity
from ipmi_gateway.targets.base import ResettableTarget

registry = Registry()


class AppCommand(IntEnum):
    """Numbers of appendix G."""

    GET_DEVICE_ID = 0x01
    COLD_RESET = 0x02
    WARM_RESET = 0x03
    GET_SELF_TEST_RESULTS = 0x04
    SET_ACPI_POWER_STATE = 0x06
    GET_ACPI_POWER_STATE = 0x07
    GET_DEVICE_GUID = 0x08
    SET_GLOBAL_ENABLES = 0x2E
    GET_GLOBAL_ENABLES = 0x2F
    CLEAR_MESSAGE_FLAGS = 0x30
    GET_MESSAGE_FLAGS = 0x31
    GET_SYSTEM_GUID = 0x37
    MASTER_WRITE_READ = 0x52


_DEVICE_ID = 0x20
_PROVIDES_SDRS, _DEVICE_REVISION = 0x80, 0x01
_IPMI_VERSION = 0x02
"""2.0, low digit first."""
_SELF_TEST_PASSED = 0x55
_CHANGE = 0x80
_NO_CHANGE = 0x7F
_S0, _S5, _UNKNOWN_STATE = 0x00, 0x05, 0x2A
_SYSTEM_STATES = frozenset((*range(7), 0x07, 0x08, 0x09, 0x0A, 0x20, 0x21, 0x2A))
"""Of table 20-6."""
_ON_STATES = frozenset((0x00, 0x01, 0x02, 0x03, 0x08, 0x20))
"""Those in which a machine counts as on."""
_DEVICE_STATES = frozenset((0, 1, 2, 3, 0x2A))
_GLOBAL_ENABLES = 0x0F
"""The bits of section 22.1 that have a meaning; three more are for OEMs."""


@registry.add(NetFn.APP, AppCommand.GET_DEVICE_ID, Privilege.USER)
def get_device_id(request: Request) -> bytes:
    """Get Device ID (section 20.1). The auxiliary firmware revision holds the patch level."""
    controller = request.bmc.controller
    return _device_id(controller.fleet.identity, controller.support)


@lru_cache(16)
def _device_id(identity: Identity, support: int) -> bytes:
    numbers = [int(part) if part.isdigit() else 0 for part in (*identity.firmware.split("."), "0", "0")]
    major, minor, patch = min(numbers[0], 0x7F), min(numbers[1], 99), min(numbers[2], 255)
    return (
        bytes(
            (
                _DEVICE_ID,
                _PROVIDES_SDRS | _DEVICE_REVISION,
                major,
                minor // 10 << 4 | minor % 10,
                _IPMI_VERSION,
                support,
            )
        )
        + identity.manufacturer.to_bytes(3, "little")
        + identity.product.to_bytes(2, "little")
        + bytes((patch, 0, 0, 0))
    )


def _reset(request: Request, *, cold: bool) -> bytes | Awaitable[bytes]:
    request.bmc.controller.reset()
    target: object = request.bmc.target
    if isinstance(target, ResettableTarget):
        return carried_out(request, target.reset_controller(cold=cold, origin=origin_of(request)))
    return b""


@registry.add(NetFn.APP, AppCommand.COLD_RESET, Privilege.ADMINISTRATOR, changes=True)
def cold_reset(request: Request) -> bytes | Awaitable[bytes]:
    """Cold Reset (section 20.2): this controller starts anew. Neither the machine nor the gateway is touched."""
    return _reset(request, cold=True)


@registry.add(NetFn.APP, AppCommand.WARM_RESET, Privilege.ADMINISTRATOR, changes=True)
def warm_reset(request: Request) -> bytes | Awaitable[bytes]:
    """Warm Reset (section 20.3)."""
    return _reset(request, cold=False)


@registry.add(NetFn.APP, AppCommand.GET_SELF_TEST_RESULTS, Privilege.USER)
def get_self_test_results(request: Request) -> bytes:  # noqa: ARG001 - all handlers are called alike
    """Get Self Test Results (section 20.4): passed, or there would be no answer."""
    return bytes((_SELF_TEST_PASSED, 0))


@registry.add(NetFn.APP, AppCommand.SET_ACPI_POWER_STATE, Privilege.ADMINISTRATOR, 2, changes=True)
def set_acpi_power_state(request: Request) -> bytes:
    """Set ACPI Power State (section 20.6): what system software says of itself; nothing is switched by it."""
    system, device = request.data
    controller = request.bmc.controller
    if (system & 0x7F not in _SYSTEM_STATES and system & 0x7F != _NO_CHANGE) or (
        device & 0x7F not in _DEVICE_STATES and device & 0x7F != _NO_CHANGE
    ):
        raise CompletionError(Code.INVALID_FIELD)
    if system & _CHANGE and system & 0x7F != _NO_CHANGE:
        controller.acpi_state = system & 0x7F
    if device & _CHANGE and device & 0x7F != _NO_CHANGE:
        controller.acpi_device_state = device & 0x7F
    return b""


@registry.add(NetFn.APP, AppCommand.GET_ACPI_POWER_STATE, Privilege.USER)
@refreshed
def get_acpi_power_state(request: Request) -> bytes:
    """Get ACPI Power State (section 20.7): S5 and S0 as sensed, a sleep state as announced, or unknown."""
    controller = request.bmc.controller
    controller.observe(request.now)
    target = request.bmc.target
    state = target.state if target is not None else None
    if state is None or state.power is PowerState.UNKNOWN:
        system = _UNKNOWN_STATE
    elif state.power is PowerState.OFF:
        system = _S5
    else:
        system = controller.acpi_state if controller.acpi_state in _ON_STATES else _S0
    return bytes((system, controller.acpi_device_state))


@registry.add(NetFn.APP, AppCommand.GET_DEVICE_GUID, Privilege.USER)
def get_device_guid(request: Request) -> bytes:
    """Get Device GUID (section 20.8)."""
    return request.bmc.guid


@registry.add(NetFn.APP, AppCommand.GET_SYSTEM_GUID, Privilege.HIGHEST)
def get_system_guid(request: Request) -> bytes:
    """Get System GUID (section 22.14): also before a session."""
    return request.bmc.guid


@registry.add(NetFn.APP, AppCommand.SET_GLOBAL_ENABLES, Privilege.ADMINISTRATOR, 1, changes=True)
def set_global_enables(request: Request) -> bytes:
    """Set BMC Global Enables (section 22.1): event logging obeys; the other bits are about a bus that is not there."""
    enables = request.data[0]
    if enables & 0x10:
        raise CompletionError(Code.INVALID_FIELD)
    request.bmc.controller.global_enables = enables & _GLOBAL_ENABLES
    return b""


@registry.add(NetFn.APP, AppCommand.GET_GLOBAL_ENABLES, Privilege.USER)
def get_global_enables(request: Request) -> bytes:
    """Get BMC Global Enables (section 22.2)."""
    return bytes((request.bmc.controller.global_enables,))


@registry.add(NetFn.APP, AppCommand.CLEAR_MESSAGE_FLAGS, Privilege.ADMINISTRATOR, 1)
def clear_message_flags(request: Request) -> bytes:  # noqa: ARG001
    """Clear Message Flags (section 22.3): no message waits, so none is set."""
    return b""


@registry.add(NetFn.APP, AppCommand.GET_MESSAGE_FLAGS, Privilege.USER)
def get_message_flags(request: Request) -> bytes:  # noqa: ARG001
    """Get Message Flags (section 22.4)."""
    return bytes((0,))


@registry.add(NetFn.APP, AppCommand.MASTER_WRITE_READ, Privilege.OPERATOR, (3, 255))
def master_write_read(request: Request) -> bytes:  # noqa: ARG001
    """Master Write-Read (section 22.11): there is no bus behind it, so every one is refused."""
    raise CompletionError(Code.INVALID_FIELD)
