"""Chassis commands (IPMI 2.0 section 28): status is never a guess, control answers when accepted."""

from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, Privilege
from ipmi_gateway.targets.base import (
    TargetBusyError,
    TargetError,
    TargetStateError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnsupportedError,
)
from ipmi_gateway.targets.local import LocalTarget
from pypmi.contract import (
    Capability,
    ErrorCode,
    Event,
    EventType,
    IdentifyState,
    NodeFault,
    PowerAction,
    PowerState,
    utc_now,
)

CHASSIS = 0x00


async def test_status_says_off_and_on(console: Any, machine: Any) -> None:
    assert await console.ok(CHASSIS, 0x01) == bytes((0x00, 0x00, 0x40, 0x00))
    machine.change(power=PowerState.ON, cause="command")
    assert await console.ok(CHASSIS, 0x01) == bytes((0x01, 0x10, 0x40, 0x00))
    machine.change(cause="external")
    assert (await console.ok(CHASSIS, 0x01))[1] == 0x00


async def test_status_shows_fault_identify_and_policy(console: Any, machine: Any) -> None:
    machine.change(
        power=PowerState.ON,
        identify=IdentifyState.TIMED,
        fault=NodeFault(code=ErrorCode.NOT_CONFIRMED, message="pressed, and nothing happened", since=utc_now()),
    )
    await console.ok(CHASSIS, 0x06, 0x02)
    power, _last, misc, _panel = await console.ok(CHASSIS, 0x01)
    assert power == 0x01 | 0x10 | 2 << 5
    assert misc == 0x40 | 0x10
    machine.change(identify=IdentifyState.ON)
    assert (await console.ok(CHASSIS, 0x01))[2] == 0x40 | 0x20


async def test_a_machine_without_a_light_is_marked(console: Any, machine: Any, clock: Any) -> None:
    machine.info = machine.info.model_copy(update={"capabilities": frozenset({Capability.ON})})

    async def misc() -> int:
        return (await console.ok(CHASSIS, 0x01))[2]

    assert await misc() == 0x40
    await console.ok(CHASSIS, 0x04, 5)
    assert await misc() == 0x40 | 0x10
    clock.now += 5
    assert await misc() == 0x40
    await console.ok(CHASSIS, 0x04, 0, 1)
    assert await misc() == 0x40 | 0x20
    await console.ok(CHASSIS, 0x04, 0)
    assert await misc() == 0x40


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"available": False}, Code.DESTINATION_UNAVAILABLE),
        ({"state": None}, Code.DESTINATION_UNAVAILABLE),
    ],
)
async def test_status_of_a_machine_that_is_away(console: Any, machine: Any, change: Any, code: int) -> None:
    for name, value in change.items():
        setattr(machine, name, value)
    assert await console.code(CHASSIS, 0x01) == code


async def test_unknown_power_is_not_off(console: Any, machine: Any) -> None:
    machine.change(power=PowerState.UNKNOWN)
    assert await console.code(CHASSIS, 0x01) == Code.NOT_IN_PRESENT_STATE


@pytest.mark.parametrize(
    ("number", "action"),
    [
        (0, PowerAction.OFF),
        (1, PowerAction.ON),
        (2, PowerAction.CYCLE),
        (3, PowerAction.RESET),
        (4, PowerAction.DIAG),
        (5, PowerAction.SOFT),
    ],
)
async def test_control_actions(console: Any, machine: Any, number: int, action: PowerAction) -> None:
    assert await console.ok(CHASSIS, 0x02, number) == b""
    assert [call[:2] for call in machine.calls] == [("power", action)]


@pytest.mark.parametrize("number", [6, 7, 0x0F, 0x10, 0xFF])
async def test_unknown_control_action(console: Any, machine: Any, number: int) -> None:
    assert await console.code(CHASSIS, 0x02, number) == Code.INVALID_FIELD
    assert machine.calls == []


async def test_control_needs_its_octet_and_operator(console: Any, machine: Any) -> None:
    assert await console.code(CHASSIS, 0x02) == Code.DATA_LENGTH_INVALID
    assert await console.code(CHASSIS, 0x02, 1, 1) == Code.DATA_LENGTH_INVALID
    assert await console.code(CHASSIS, 0x02, 1, privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE
    assert machine.calls == []
    assert await console.code(CHASSIS, 0x02, 1, privilege=Privilege.OPERATOR) == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TargetUnavailableError("away"), Code.DESTINATION_UNAVAILABLE),
        (TargetBusyError("busy"), Code.NODE_BUSY),
        (TargetTimeoutError("slow"), Code.TIMEOUT),
        (TargetUnsupportedError("no button"), Code.INVALID_FIELD),
        (TargetStateError("off"), Code.NOT_IN_PRESENT_STATE),
        (TargetError("broken"), Code.UNSPECIFIED),
    ],
)
async def test_what_went_wrong_decides_the_code(console: Any, machine: Any, error: TargetError, code: int) -> None:
    machine.failure = error
    assert await console.code(CHASSIS, 0x02, 1) == code


async def test_a_controller_without_a_machine(console: Any, fleet: Any) -> None:
    bmc = Bmc.create(fleet, "empty")
    for command, data in ((0x01, ()), (0x02, (1,)), (0x04, ()), (0x0F, ())):
        assert await console.code(CHASSIS, command, *data, bmc=bmc) == Code.DESTINATION_UNAVAILABLE


@pytest.mark.parametrize(
    ("data", "seconds"), [((), 15), ((0,), 0), ((7,), 7), ((255, 0), 255), ((9, 1), None), ((0, 1), None)]
)
async def test_identify(console: Any, machine: Any, data: tuple[int, ...], seconds: int | None) -> None:
    assert await console.ok(CHASSIS, 0x04, *data) == b""
    assert machine.calls[-1][:2] == ("identify", seconds)


async def test_identify_refusals(console: Any, machine: Any) -> None:
    assert await console.code(CHASSIS, 0x04, 5, 2) == Code.INVALID_FIELD
    assert await console.code(CHASSIS, 0x04, 5, 1, 0) == Code.DATA_LENGTH_INVALID


async def test_restore_policy_is_kept_and_asked_for(console: Any) -> None:
    assert await console.ok(CHASSIS, 0x06, 1) == b"\x07"
    assert await console.ok(CHASSIS, 0x06, 3) == b"\x07"
    assert (await console.ok(CHASSIS, 0x01))[0] >> 5 == 1
    assert await console.code(CHASSIS, 0x06, 4) == Code.INVALID_FIELD
    assert (await console.ok(CHASSIS, 0x01))[0] >> 5 == 1


@pytest.mark.parametrize(("cause", "code"), [("command", 1), ("external", 3), ("hardware", 0)])
async def test_restart_cause_from_events(console: Any, clock: Any, cause: str, code: int) -> None:
    assert await console.ok(CHASSIS, 0x07) == bytes((0, 0))
    event = Event(type=EventType.POWER_ON, cause=cause, at=utc_now(), epoch="e")
    console.bmc.controller.record_event(event, clock.now)
    assert await console.ok(CHASSIS, 0x07) == bytes((code, 1 if code == 1 else 0))


async def test_restart_cause_from_the_state_alone(console: Any, machine: Any) -> None:
    await console.ok(CHASSIS, 0x01)
    machine.change(power=PowerState.ON, cause="external")
    assert (await console.ok(CHASSIS, 0x07))[0] == 3


async def test_power_on_hours_count_minutes_up_to_now(console: Any, machine: Any, clock: Any) -> None:
    assert await console.ok(CHASSIS, 0x0F) == bytes((1,)) + (120).to_bytes(4, "little")
    machine.change(power=PowerState.ON)
    clock.wall = machine.state.at.timestamp() + 600.5
    assert await console.ok(CHASSIS, 0x0F) == bytes((1,)) + (130).to_bytes(4, "little")


async def test_capabilities_name_the_address_that_is_seen(console: Any) -> None:
    assert await console.ok(CHASSIS, 0x00) == bytes((0x04, 0x30, 0x30, 0x30, 0x30))
    assert await console.ok(CHASSIS, 0x00, bmc=console.bmc.view()) == bytes((0x04, 0x20, 0x20, 0x20, 0x20))


async def test_front_panel_and_cycle_interval(console: Any) -> None:
    assert await console.ok(CHASSIS, 0x0A, 0) == b""
    assert await console.code(CHASSIS, 0x0A, 1) == Code.INVALID_FIELD
    assert await console.ok(CHASSIS, 0x0B, 10) == b""


async def test_the_gateway_itself_is_on_and_switches_nothing(console: Any, fleet: Any) -> None:
    gateway = Bmc.create(fleet, None, LocalTarget())
    assert (await console.ok(CHASSIS, 0x01, bmc=gateway))[0] & 1
    for number in range(6):
        assert await console.code(CHASSIS, 0x02, number, bmc=gateway) == Code.INVALID_FIELD
    assert await console.ok(CHASSIS, 0x04, 1, bmc=gateway) == b""
    assert await console.code(CHASSIS, 0x08, 5, 0x80, 4, 0, 0, 0, bmc=gateway) == Code.INVALID_COMMAND
    assert (await console.ok(CHASSIS, 0x0F, bmc=gateway))[0] == 1
