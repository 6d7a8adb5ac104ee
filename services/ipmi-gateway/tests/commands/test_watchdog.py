"""The watchdog timer (IPMI 2.0 section 27)."""

import asyncio
from typing import Any

import pytest
from ipmi_gateway.codes import Code, Privilege
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.targets.base import TargetUnavailableError
from pypmi.contract import Event, EventType, PowerAction, PowerState, utc_now

APP, RESET, SET, GET = 0x06, 0x22, 0x24, 0x25


async def start(console: Any, *octets: int) -> None:
    await console.ok(APP, SET, *octets)
    await console.ok(APP, RESET)


async def test_reset_before_set(console: Any) -> None:
    assert await console.code(APP, RESET) == 0x80
    assert await console.ok(APP, GET) == bytes(8)


async def test_set_does_not_start_it(console: Any, clock: Any) -> None:
    await console.ok(APP, SET, 0x84, 0x01, 0, 0, 0x2C, 0x01)
    clock.advance(100)
    assert await console.ok(APP, GET) == bytes((0x84, 0x01, 0, 0, 0x2C, 0x01, 0x2C, 0x01))


async def test_it_counts_down_and_starts_again(console: Any, clock: Any) -> None:
    await start(console, 0x04, 0x01, 0, 0, 100, 0)
    clock.advance(4)
    assert await console.ok(APP, GET) == bytes((0x44, 0x01, 0, 0, 100, 0, 60, 0))
    await console.ok(APP, RESET)
    assert (await console.ok(APP, GET))[6:] == bytes((100, 0))


@pytest.mark.parametrize(
    ("action", "done"), [(0, None), (1, PowerAction.RESET), (2, PowerAction.OFF), (3, PowerAction.CYCLE)]
)
async def test_time_out(console: Any, machine: Any, clock: Any, action: int, done: PowerAction | None) -> None:
    await start(console, 0x03, action, 0, 0, 50, 0)
    clock.advance(5.1)
    await console.bmc.controller.tick(clock.now)
    assert [call[1] for call in machine.calls] == ([] if done is None else [done])
    if done is not None:
        assert machine.calls[0][2].user == "watchdog"
    answer = await console.ok(APP, GET)
    assert answer[0] == 0x03
    assert answer[3] == 1 << 3
    assert answer[6:] == b"\0\0"
    record, _next = console.bmc.controller.sel.find(0xFFFF)
    assert record[10:13] == bytes((0x23, 0x03, 0x6F))
    assert record[13:15] == bytes((0xC0 | action, 0x03))
    assert (await console.ok(0x04, 0x2D, 3))[2] & 0x0F == 1 << action


async def test_without_logging(console: Any, clock: Any) -> None:
    await start(console, 0x84, 0x00, 0, 0, 10, 0)
    clock.advance(2)
    await console.bmc.controller.tick(clock.now)
    assert len(console.bmc.controller.sel) == 0


async def test_pre_timeout_interrupt(console: Any, machine: Any, clock: Any) -> None:
    await start(console, 0x04, 0x21, 3, 0, 100, 0)
    clock.advance(7.5)
    await console.bmc.controller.tick(clock.now)
    assert [call[1] for call in machine.calls] == [PowerAction.DIAG]
    record, _next = console.bmc.controller.sel.find(0xFFFF)
    assert record[13:15] == bytes((0xC8, 0x24))
    clock.advance(3)
    await console.bmc.controller.tick(clock.now)
    assert [call[1] for call in machine.calls] == [PowerAction.DIAG, PowerAction.RESET]


async def test_expiration_flags_are_cleared_on_request(console: Any, clock: Any) -> None:
    for use in (1, 4):
        await start(console, use, 0, 0, 0, 1, 0)
        clock.advance(1)
        await console.bmc.controller.tick(clock.now)
    assert (await console.ok(APP, GET))[3] == 0x12
    await console.ok(APP, SET, 4, 0, 0, 0x02, 1, 0)
    assert (await console.ok(APP, GET))[3] == 0x10


async def test_set_stops_it_unless_told_not_to(console: Any, clock: Any) -> None:
    await start(console, 0x04, 0, 0, 0, 100, 0)
    await console.ok(APP, SET, 0x44, 0, 0, 0, 200, 0)
    assert (await console.ok(APP, GET))[0] == 0x44
    assert (await console.ok(APP, GET))[6] == 200
    await console.ok(APP, SET, 0x04, 0, 0, 0, 200, 0)
    assert (await console.ok(APP, GET))[0] == 0x04


@pytest.mark.parametrize(
    "octets",
    [
        (0x00, 0x01, 0, 0, 10, 0),
        (0x06, 0x01, 0, 0, 10, 0),
        (0x14, 0x01, 0, 0, 10, 0),
        (0x04, 0x04, 0, 0, 10, 0),
        (0x04, 0x41, 0, 0, 10, 0),
        (0x04, 0x11, 2, 0, 10, 0),
    ],
)
async def test_wrong_fields(console: Any, octets: tuple[int, ...]) -> None:
    assert await console.code(APP, SET, *octets) == Code.INVALID_FIELD
    assert await console.code(APP, RESET) == 0x80


async def test_lengths_and_privilege(console: Any) -> None:
    assert await console.code(APP, SET, 4, 0, 0, 0, 10) == Code.DATA_LENGTH_INVALID
    assert await console.code(APP, SET, 4, 0, 0, 0, 10, 0, 0) == Code.DATA_LENGTH_INVALID
    assert await console.code(APP, SET, 4, 0, 0, 0, 10, 0, privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE


async def test_switching_off_stops_it(console: Any, machine: Any, clock: Any) -> None:
    machine.change(power=PowerState.ON)
    await console.ok(0x00, 0x01)
    await start(console, 0x04, 0x03, 0, 0, 100, 0)
    machine.change(power=PowerState.OFF)
    clock.advance(11)
    await console.bmc.controller.tick(clock.now)
    assert machine.calls == []
    assert not (await console.ok(APP, GET))[0] & 0x40


async def test_the_start_that_follows_is_put_down_to_it(console: Any, machine: Any, clock: Any) -> None:
    await start(console, 0x04, 0x01, 0, 0, 10, 0)
    clock.advance(2)
    await console.bmc.controller.tick(clock.now)
    event = Event(type=EventType.RESET, cause="command", at=utc_now(), epoch="e")
    console.bmc.controller.record_event(event, clock.now)
    assert (await console.ok(0x00, 0x07))[0] == 4


async def test_an_action_that_fails_is_no_harm(console: Any, machine: Any, clock: Any) -> None:
    machine.failure = TargetUnavailableError("away")
    await start(console, 0x04, 0x01, 0, 0, 10, 0)
    clock.advance(2)
    await console.bmc.controller.tick(clock.now)
    assert len(console.bmc.controller.sel) == 1


async def test_the_fleet_keeps_the_time_of_all(console: Any, machine: Any, fleet: Fleet, clock: Any) -> None:
    await start(console, 0x04, 0x01, 0, 0, 10, 0)
    task = asyncio.create_task(fleet.keep_time(interval=0.01))
    clock.advance(1.5)
    async with asyncio.timeout(30):
        while not machine.calls or fleet.armed:
            await asyncio.sleep(0.01)
    assert machine.calls[0][1] is PowerAction.RESET
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_node_that_is_no_longer_served_is_left_alone(console: Any, machine: Any, fleet: Fleet) -> None:
    await start(console, 0x04, 0x01, 0, 0, 10, 0)
    assert console.bmc.controller in fleet.armed
    console.bmc.controller.retire()
    assert console.bmc.controller not in fleet.armed
    assert console.bmc.controller.deadline is None
