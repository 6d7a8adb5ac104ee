"""The contract's events as records of a system event log: right sensor types, each event once."""

from datetime import timedelta
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from pypmi.contract import Event, EventType, PowerState, utc_now

# Sensor type, number, event type, offset (event data 1), of every record that an event becomes.
EXPECTED: dict[EventType, list[tuple[int, int, int, int]]] = {
    EventType.POWER_ON: [(0x22, 1, 0x6F, 0), (0x1D, 6, 0x6F, 0)],
    EventType.POWER_OFF: [(0x22, 1, 0x6F, 6)],
    EventType.SOFT_OFF: [(0x22, 1, 0x6F, 5)],
    EventType.POWER_CYCLE: [(0x09, 2, 0x6F, 1)],
    EventType.RESET: [(0x1D, 6, 0x6F, 1)],
    EventType.NMI: [(0x13, 10, 0x6F, 0)],
    EventType.POWER_FAULT: [(0x09, 2, 0x6F, 5)],
    EventType.FAULT_CLEARED: [(0x09, 2, 0xEF, 5)],
    EventType.BOOT_SET: [(0x12, 11, 0x6F, 0)],
    EventType.BOOT_USED: [(0x1D, 6, 0x6F, 3)],
    EventType.IDENTIFY: [(0x18, 8, 0x09, 1)],
    EventType.NODE_LOST: [(0x28, 4, 0x6F, 1)],
    EventType.NODE_BACK: [(0x28, 4, 0xEF, 1)],
    EventType.CONSOLE_LOST: [(0x28, 9, 0x6F, 3)],
    EventType.CONSOLE_BACK: [(0x28, 9, 0xEF, 3)],
    EventType.SENSOR: [(0x01, 0x10, 0x01, 0x59)],
    EventType.SEL: [(0x0C, 0x53, 0x6F, 0x00)],
    EventType.REFUSED: [],
}
DATA: dict[EventType, dict[str, Any]] = {
    EventType.BOOT_USED: {"device": "pxe"},
    EventType.IDENTIFY: {"state": "timed"},
    EventType.SENSOR: {"key": "inlet", "value": 71.0, "threshold": "upper_critical", "asserted": True},
    EventType.SEL: {"record": "0100020000000041000" + "40c536f00ffff"},
}


def event(kind: EventType, **fields: Any) -> Event:
    return Event(type=kind, cause="command", at=utc_now(), epoch="e", **fields)


def records(console: Any) -> list[bytes]:
    return list(console.bmc.controller.sel._records.values())


@pytest.mark.parametrize("kind", list(EventType))
def test_each_type(console: Any, clock: Any, kind: EventType) -> None:
    clock.wall = utc_now().timestamp()
    happened = event(kind, data=DATA.get(kind, {}))
    console.bmc.controller.record_event(happened, clock.now)
    found = [(record[10], record[11], record[12], record[13]) for record in records(console)]
    assert found == EXPECTED[kind]
    for record in records(console):
        assert record[2] == 0x02
        assert int.from_bytes(record[3:7], "little") == int(happened.at.timestamp())
        assert record[9] == 0x04


def test_threshold_events_have_reading_and_limit(console: Any, clock: Any) -> None:
    fields = {"key": "inlet", "value": 64.0, "threshold": "upper_critical", "asserted": False}
    console.bmc.controller.record_event(event(EventType.SENSOR, data=fields), clock.now)
    (record,) = records(console)
    assert record[12] == 0x81
    scaling = console.bmc.controller.analog[0].scaling
    assert (scaling.value(record[14]), scaling.value(record[15])) == (64.0, 70.0)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"key": "nothing", "value": 1, "threshold": "upper_critical"},
        {"key": "inlet", "value": "hot", "threshold": "upper_critical"},
        {"key": "inlet", "value": 1.0, "threshold": "sideways"},
        {"key": "inlet", "value": True, "threshold": "upper_critical"},
    ],
)
def test_malformed_sensor_events_are_left_out(console: Any, clock: Any, fields: dict[str, Any]) -> None:
    console.bmc.controller.record_event(event(EventType.SENSOR, data=fields), clock.now)
    assert records(console) == []


@pytest.mark.parametrize("record", ["", "zz", "0102", "00" * 16])
def test_malformed_records_of_other_bmcs_are_left_out(console: Any, clock: Any, record: str) -> None:
    console.bmc.controller.record_event(event(EventType.SEL, data={"record": record}), clock.now)
    assert records(console) == []


def test_an_event_that_comes_twice_is_logged_once(console: Any, clock: Any) -> None:
    happened = event(EventType.POWER_OFF)
    console.bmc.controller.record_event(happened, clock.now)
    console.bmc.controller.record_event(happened, clock.now)
    assert len(records(console)) == 1
    console.bmc.controller.record_event(event(EventType.POWER_OFF), clock.now)
    assert len(records(console)) == 2


def test_an_agent_without_a_clock_is_not_believed(console: Any, clock: Any) -> None:
    clock.wall = utc_now().timestamp()
    happened = event(EventType.POWER_OFF).model_copy(update={"at": utc_now() - timedelta(days=9000)})
    console.bmc.controller.record_event(happened, clock.now)
    assert int.from_bytes(records(console)[0][3:7], "little") == int(clock.wall)


def test_identify_off(console: Any, clock: Any) -> None:
    console.bmc.controller.record_event(event(EventType.IDENTIFY, data={"state": "off"}), clock.now)
    assert records(console)[0][13] == 0


# -- changes that nobody tells of ------------------------------------------------------------------------------------


def states_logged(console: Any) -> list[int]:
    return [record[13] for record in records(console) if record[10] == 0x22]


async def change(console: Any, clock: Any, machine: Any, power: PowerState, wait: float = 4.0) -> None:
    """The machine goes on or off, the state says so, and time passes."""
    machine.change(power=power, since=utc_now())
    console.bmc.controller.observe(clock.now)
    clock.advance(wait)
    await console.bmc.controller.tick(clock.now)


async def test_a_change_whose_event_was_missed_is_logged_by_the_state(console: Any, clock: Any, machine: Any) -> None:
    clock.wall = utc_now().timestamp()
    controller = console.bmc.controller
    controller.observe(clock.now)
    assert controller.deadline is None, "what was so before the first look is no change"
    await change(console, clock, machine, PowerState.ON)
    await controller.tick(clock.now)
    assert states_logged(console) == [0x00]
    assert abs(int.from_bytes(records(console)[0][3:7], "little") - utc_now().timestamp()) < 3, "as of its own time"
    controller.record_event(event(EventType.POWER_ON), clock.now)  # after all
    assert states_logged(console) == [0x00]
    controller.record_event(event(EventType.POWER_OFF), clock.now)
    await change(console, clock, machine, PowerState.OFF)
    assert states_logged(console) == [0x00, 0x06]


async def test_a_change_whose_event_comes_is_logged_once(console: Any, clock: Any, machine: Any) -> None:
    controller = console.bmc.controller
    controller.observe(clock.now)
    machine.change(power=PowerState.ON, since=utc_now())
    controller.observe(clock.now)
    clock.advance(1)
    controller.record_event(event(EventType.POWER_ON), clock.now)
    clock.advance(10)
    await controller.tick(clock.now)
    assert states_logged(console) == [0x00]


async def test_a_change_while_the_gateway_was_away_is_logged_when_it_is_back(
    console: Any, clock: Any, machine: Any, fleet: Any
) -> None:
    console.bmc.controller.observe(clock.now)
    machine.change(power=PowerState.ON, since=utc_now())
    console.bmc = Bmc.create(fleet, "node1", machine)  # the gateway's next run
    console.bmc.controller.observe(clock.now)
    clock.advance(4)
    await console.bmc.controller.tick(clock.now)
    assert states_logged(console) == [0x00]


async def test_a_status_that_comes_and_goes_at_once_is_no_change(console: Any, clock: Any, machine: Any) -> None:
    console.bmc.controller.observe(clock.now)
    await change(console, clock, machine, PowerState.ON, 0.5)
    await change(console, clock, machine, PowerState.OFF, 0.5)
    assert console.bmc.controller.deadline is None
    clock.advance(10)
    await console.bmc.controller.tick(clock.now)
    assert states_logged(console) == []
