"""System boot options (IPMI 2.0 sections 28.12-28.14)."""

from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code
from ipmi_gateway.controller.boot_options import Intent, flags_of, intent_of
from ipmi_gateway.targets.base import TargetUnavailableError
from pypmi.contract import BootDevice, BootIntent, Event, EventType, PowerState, utc_now

CHASSIS, SET, GET = 0x00, 0x08, 0x09
PXE_ONCE = (0x80, 0x04, 0, 0, 0)


async def flags(console: Any) -> bytes:
    answer: bytes = await console.ok(CHASSIS, GET, 5, 0, 0)
    assert answer[:2] == b"\x01\x05"
    return answer[2:]


@pytest.mark.parametrize(
    "octets",
    [
        (0xE0, 0x04, 0x00, 0x00, 0x00),
        (0xA0, 0x08, 0x12, 0x34, 0x1F),
        (0xC0, 0x94, 0x60, 0x00, 0x00),
        (0x80, 0x18, 0x00, 0x00, 0x00),
        (0x80, 0x0C, 0x00, 0x00, 0x00),
        (0x00, 0x04, 0x00, 0x00, 0x00),
        (0x80, 0x3C, 0xFF, 0xFF, 0x1F),
    ],
)
async def test_flags_come_back_bit_for_bit(console: Any, octets: tuple[int, ...]) -> None:
    assert await console.ok(CHASSIS, SET, 5, *octets) == b""
    assert await flags(console) == bytes(octets)


@pytest.mark.parametrize("device", list(BootDevice))
def test_every_device_has_flags(device: BootDevice) -> None:
    intent = Intent(device, persistent=True, efi=True)
    assert intent_of(flags_of(intent)).same_effect(intent)


async def test_the_agent_is_told_what_the_flags_mean(console: Any, machine: Any) -> None:
    await console.ok(CHASSIS, SET, 5, 0xE0, 0x08, 0, 0, 0)
    assert machine.calls[-1][:4] == ("set_boot", BootDevice.DISK, True, True)
    await console.ok(CHASSIS, SET, 5, 0x00, 0x08, 0, 0, 0)
    assert machine.calls[-1][:2] == ("set_boot", BootDevice.NONE)


async def test_clearing_what_is_clear_needs_no_agent(console: Any, machine: Any) -> None:
    machine.available = False
    assert await console.ok(CHASSIS, SET, 5, 0x80, 0, 0, 0, 0) == b""
    assert machine.calls == []


async def test_refused_flags_change_nothing(console: Any, machine: Any) -> None:
    machine.failure = TargetUnavailableError("away")
    assert await console.code(CHASSIS, SET, 5, *PXE_ONCE) == Code.DESTINATION_UNAVAILABLE
    machine.failure = None
    assert await flags(console) == bytes(5)
    assert await console.code(CHASSIS, SET, 5, 0x80, 0x28, 0, 0, 0) == Code.INVALID_FIELD
    for length in (1, 2, 3, 4, 6):
        assert await console.code(CHASSIS, SET, 5, *[0x80] * length) == Code.DATA_LENGTH_INVALID
    assert await flags(console) == bytes(5)


async def test_one_shot_is_used_up_when_the_agent_says_so(console: Any, machine: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    assert await flags(console) == bytes(PXE_ONCE)
    await console.ok(CHASSIS, 0x02, 1)
    assert machine.boot.device is BootDevice.NONE
    assert await flags(console) == bytes(5)


async def test_persistent_outlives_starts(console: Any, machine: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 3, 0x08)
    await console.ok(CHASSIS, SET, 5, 0xC0, 0x04, 0, 0, 0)
    for _ in range(3):
        await console.ok(CHASSIS, 0x02, 2)
        clock.advance(100)
        await console.bmc.controller.tick(clock.now)
        assert await flags(console) == bytes((0xC0, 0x04, 0, 0, 0))


async def test_an_agent_that_is_slow_to_say_it_is_given_time(console: Any, machine: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    machine.boot = BootIntent(epoch="e1")  # not yet there
    clock.advance(2)
    assert await flags(console) == bytes(PXE_ONCE)
    clock.advance(10)
    assert await flags(console) == bytes(5)


async def test_an_intent_from_elsewhere_shows_in_the_flags(console: Any, machine: Any) -> None:
    machine.boot = BootIntent(device=BootDevice.CDROM, persistent=True, efi=True, epoch="e1")
    assert await flags(console) == bytes((0xE0, 0x14, 0, 0, 0))
    machine.boot = BootIntent(epoch="e1")
    assert await flags(console) == bytes(5)


async def test_without_an_agent_that_tracks_it_the_next_start_uses_it_up(
    console: Any, machine: Any, clock: Any
) -> None:
    machine.boot = None
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    machine.boot = None
    console.bmc.controller.record_event(
        Event(type=EventType.RESET, cause="command", at=utc_now(), epoch="e"), clock.now
    )
    assert await flags(console) == bytes(5)
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    machine.boot = None
    machine.change(power=PowerState.OFF)
    await console.ok(CHASSIS, 0x01)
    machine.change(power=PowerState.ON)
    assert await flags(console) == bytes(5)


async def test_valid_bit_goes_after_sixty_seconds(console: Any, machine: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 5, 0xA0, 0x04, 0, 0, 0)
    clock.advance(59)
    await console.bmc.controller.tick(clock.now)
    assert (await flags(console))[0] & 0x80
    clock.advance(2)
    assert await flags(console) == bytes((0x20, 0x04, 0, 0, 0))
    assert machine.boot.device is BootDevice.PXE
    await console.bmc.controller.tick(clock.now)
    assert machine.boot.device is BootDevice.NONE
    assert await flags(console) == bytes((0x20, 0x04, 0, 0, 0))
    assert console.bmc.controller.deadline is None


async def test_a_node_that_is_away_is_told_later(console: Any, machine: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    machine.available = False
    clock.advance(61)
    await console.bmc.controller.tick(clock.now)
    assert machine.boot.device is BootDevice.PXE
    machine.available = True
    clock.advance(6)
    await console.bmc.controller.tick(clock.now)
    assert machine.boot.device is BootDevice.NONE


async def test_parameter_3_stops_the_clock(console: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 3, 0x08)
    assert await console.ok(CHASSIS, GET, 3, 0, 0) == b"\x01\x03\x08"
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    clock.advance(3600)
    await console.bmc.controller.tick(clock.now)
    assert await flags(console) == bytes(PXE_ONCE)
    await console.ok(CHASSIS, SET, 3, 0)
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    await console.ok(CHASSIS, SET, 3, 0x08)
    clock.advance(61)
    assert await flags(console) == bytes(PXE_ONCE)


async def test_chassis_control_starts_the_sixty_seconds_anew(console: Any, machine: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 5, *PXE_ONCE)
    clock.advance(50)
    await console.ok(CHASSIS, 0x02, 0)
    clock.advance(50)
    assert await flags(console) == bytes(PXE_ONCE)
    clock.advance(11)
    assert not (await flags(console))[0] & 0x80


async def test_set_in_progress(console: Any, clock: Any) -> None:
    assert await console.ok(CHASSIS, GET, 0, 0, 0) == b"\x01\x00\x00"
    await console.ok(CHASSIS, SET, 0, 1)
    assert await console.ok(CHASSIS, GET, 0, 0, 0) == b"\x01\x00\x01"
    assert await console.code(CHASSIS, SET, 0, 1) == 0x81
    await console.ok(CHASSIS, SET, 0, 0)
    await console.ok(CHASSIS, SET, 0, 1)
    clock.advance(61)
    assert await console.ok(CHASSIS, GET, 0, 0, 0) == b"\x01\x00\x00"
    assert await console.code(CHASSIS, SET, 0, 3) == Code.INVALID_FIELD
    assert await console.code(CHASSIS, SET, 0, 0, 0) == Code.DATA_LENGTH_INVALID


async def test_info_acknowledge_obeys_its_mask(console: Any) -> None:
    await console.ok(CHASSIS, SET, 4, 0x01, 0x01)
    assert await console.ok(CHASSIS, GET, 4, 0, 0) == b"\x01\x04\x00\x01"
    await console.ok(CHASSIS, SET, 4, 0x10, 0xFF)
    assert await console.ok(CHASSIS, GET, 4, 0, 0) == b"\x01\x04\x00\x11"
    await console.ok(CHASSIS, SET, 4, 0x01, 0x00)
    assert await console.ok(CHASSIS, GET, 4, 0, 0) == b"\x01\x04\x00\x10"


@pytest.mark.parametrize(("number", "value"), [(1, (5,)), (2, (3,)), (6, tuple(range(9)))])
async def test_plain_parameters(console: Any, number: int, value: tuple[int, ...]) -> None:
    await console.ok(CHASSIS, SET, number, *value)
    assert await console.ok(CHASSIS, GET, number, 0, 0) == bytes((1, number, *value))
    assert await console.code(CHASSIS, SET, number, *value, 0) == Code.DATA_LENGTH_INVALID


async def test_mailbox(console: Any) -> None:
    await console.ok(CHASSIS, SET, 7, 2, *range(16))
    await console.ok(CHASSIS, SET, 7, 2, 0xAA, 0xBB)
    assert await console.ok(CHASSIS, GET, 7, 2, 0) == bytes((1, 7, 2, 0xAA, 0xBB, *range(2, 16)))
    assert await console.ok(CHASSIS, GET, 7, 3, 0) == bytes((1, 7, 3)) + bytes(16)
    assert await console.code(CHASSIS, SET, 7, 16, 0) == Code.PARAMETER_OUT_OF_RANGE
    assert await console.code(CHASSIS, GET, 7, 16, 0) == Code.PARAMETER_OUT_OF_RANGE


@pytest.mark.parametrize("number", [8, 9, 95, 96, 127])
async def test_unknown_parameters(console: Any, number: int) -> None:
    assert await console.code(CHASSIS, GET, number, 0, 0) == 0x80
    assert await console.code(CHASSIS, SET, number, 1) == 0x80


async def test_lock_bit(console: Any) -> None:
    await console.ok(CHASSIS, SET, 0x80 | 1)
    assert (await console.ok(CHASSIS, GET, 1, 0, 0))[1] == 0x81
    await console.ok(CHASSIS, SET, 1)
    assert (await console.ok(CHASSIS, GET, 1, 0, 0))[1] == 0x01


async def test_all_of_it_outlives_a_restart(console: Any, machine: Any, fleet: Any, clock: Any) -> None:
    await console.ok(CHASSIS, SET, 1, 9)
    await console.ok(CHASSIS, SET, 7, 0, 1, 2, 3)
    await console.ok(CHASSIS, SET, 5, 0xE0, 0x04, 7, 0, 0)
    clock.advance(30)
    clock.now = 5.0  # another boot of the host: the monotonic clock has begun anew
    again = Bmc.create(fleet, "node1", machine)
    assert await console.ok(CHASSIS, GET, 5, 0, 0, bmc=again) == bytes((1, 5, 0xE0, 0x04, 7, 0, 0))
    assert await console.ok(CHASSIS, GET, 1, 0, 0, bmc=again) == bytes((1, 1, 9))
    assert (await console.ok(CHASSIS, GET, 7, 0, 0, bmc=again))[3:6] == bytes((1, 2, 3))
    clock.advance(31)
    assert not (await console.ok(CHASSIS, GET, 5, 0, 0, bmc=again))[2] & 0x80
