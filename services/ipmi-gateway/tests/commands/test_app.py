"""Application commands: identity, resets, power state, enables, system information (IPMI 2.0 sections 20 and 22)."""

import uuid
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, Privilege
from ipmi_gateway.controller.facts import Identity
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.targets.base import Origin
from pypmi.contract import PowerState

APP = 0x06


async def test_device_id(console: Any, fleet: Fleet) -> None:
    fleet.identity = Identity(manufacturer=0x123456, product=0x789A, firmware="3.27.5")
    answer = await console.ok(APP, 0x01)
    assert answer.hex(" ") == "20 81 03 27 02 9f 56 34 12 9a 78 05 00 00 00"
    gateway = await console.ok(APP, 0x01, bmc=Bmc.create(fleet))
    assert gateway[5] == 0xDF


async def test_guids_stay_and_differ(console: Any, fleet: Fleet, machine: Any) -> None:
    guid = await console.ok(APP, 0x37, privilege=Privilege.HIGHEST)
    assert uuid.UUID(bytes=guid[::-1]).version == 5
    assert await console.ok(APP, 0x08) == guid == console.bmc.guid
    assert Bmc.create(fleet, "node1", machine).guid == guid
    others = [Bmc.create(fleet, "node2").guid, Bmc.create(fleet).guid, Bmc.create(Fleet(name="two"), "node1").guid]
    assert len({guid, *others}) == 4


async def test_self_test(console: Any) -> None:
    assert await console.ok(APP, 0x04) == b"\x55\x00"


@pytest.mark.parametrize("command", [0x02, 0x03])
async def test_resets_touch_neither_machine_nor_what_is_kept(console: Any, machine: Any, command: int) -> None:
    await console.ok(0x00, 0x06, 2)
    await console.ok(APP, 0x24, 4, 1, 0, 0, 100, 0)
    await console.ok(APP, 0x2E, 0x01)
    assert await console.ok(APP, command) == b""
    assert machine.calls == []
    assert await console.code(APP, 0x22) == 0x80
    assert await console.ok(APP, 0x2F) == b"\x08"
    assert (await console.ok(0x00, 0x01))[0] >> 5 == 2
    assert await console.code(APP, command, privilege=Privilege.OPERATOR) == Code.INSUFFICIENT_PRIVILEGE


async def test_reset_reaches_a_target_that_can_begin_anew(console: Any, fleet: Fleet, make_machine: Any) -> None:
    class Resettable(make_machine):  # type: ignore[misc]
        async def reset_controller(self, *, cold: bool, origin: Origin) -> None:
            self._take("reset", cold)

    machine = Resettable("node3")
    bmc = Bmc.create(fleet, "node3", machine)
    await console.ok(APP, 0x02, bmc=bmc)
    await console.ok(APP, 0x03, bmc=bmc)
    assert machine.calls == [("reset", True), ("reset", False)]


async def test_acpi_power_state(console: Any, machine: Any) -> None:
    assert await console.ok(APP, 0x07) == b"\x05\x00"
    machine.change(power=PowerState.ON)
    assert await console.ok(APP, 0x07) == b"\x00\x00"
    await console.ok(APP, 0x06, 0x83, 0x81)
    assert await console.ok(APP, 0x07) == b"\x03\x01"
    await console.ok(APP, 0x06, 0x00, 0x02)  # without the "set" bits: no change
    assert await console.ok(APP, 0x07) == b"\x03\x01"
    machine.change(power=PowerState.OFF)
    assert (await console.ok(APP, 0x07))[0] == 0x05
    machine.change(power=PowerState.ON)
    assert (await console.ok(APP, 0x07))[0] == 0x00
    machine.change(power=PowerState.UNKNOWN)
    assert (await console.ok(APP, 0x07))[0] == 0x2A
    machine.available = False
    assert (await console.ok(APP, 0x07))[0] == 0x2A
    assert await console.code(APP, 0x06, 0x8F, 0x80) == Code.INVALID_FIELD


async def test_global_enables_and_flags(console: Any) -> None:
    assert await console.ok(APP, 0x2F) == b"\x08"
    await console.ok(APP, 0x2E, 0x0D)
    assert await console.ok(APP, 0x2F) == b"\x0d"
    assert await console.code(APP, 0x2E, 0x10) == Code.INVALID_FIELD
    assert await console.ok(APP, 0x31) == b"\x00"
    assert await console.ok(APP, 0x30, 0xFF) == b""


async def test_no_events_are_logged_while_logging_is_disabled(console: Any) -> None:
    await console.ok(APP, 0x2E, 0x00)
    await console.ok(0x04, 0x02, 4, 1, 0x30, 1, 9, 0xFF, 0xFF)
    assert len(console.bmc.controller.sel) == 0
    await console.ok(APP, 0x2E, 0x08)
    await console.ok(0x04, 0x02, 4, 1, 0x30, 1, 9, 0xFF, 0xFF)
    assert len(console.bmc.controller.sel) == 1


@pytest.mark.parametrize("command", [0x05, 0x09, 0x36, 0x60, 0xFF])
async def test_what_is_not_there(console: Any, command: int) -> None:
    assert await console.code(APP, command) == Code.INVALID_COMMAND


async def test_master_write_read_is_refused(console: Any) -> None:
    assert await console.code(APP, 0x52, 0x01, 0xA0, 0x01) == Code.INVALID_FIELD


async def test_system_info_defaults(console: Any) -> None:
    assert await console.ok(APP, 0x59, 0x80, 0, 0, 0) == b"\x11"
    assert await console.ok(APP, 0x59, 0, 0, 0, 0) == b"\x11\x00"
    name = await console.ok(APP, 0x59, 0, 2, 0, 0)
    assert name == b"\x11\x00\x00\x0f" + b"node1 in rack "
    assert (await console.ok(APP, 0x59, 0, 2, 1, 0)) == b"\x11\x01" + b"1".ljust(16, b"\0")
    assert await console.code(APP, 0x59, 0, 2, 2, 0) == Code.PARAMETER_OUT_OF_RANGE
    assert await console.code(APP, 0x59, 0, 200, 0, 0) == 0x80


async def test_system_info_is_set_block_by_block_and_kept(console: Any, fleet: Fleet, machine: Any) -> None:
    text = b"Debian GNU/Linux 12 (bookworm) on bare metal"
    whole = bytes((0, len(text))) + text
    for block in range(3):
        await console.ok(APP, 0x58, 4, block, *whole[block * 16 :][:16])
    again = Bmc.create(fleet, "node1", machine)
    read = b"".join([(await console.ok(APP, 0x59, 0, 4, block, 0, bmc=again))[2:] for block in range(3)])
    assert read[: len(whole)] == whole
    assert await console.code(APP, 0x58, 4, 0, 9, 1, 65) == Code.INVALID_FIELD
    assert await console.code(APP, 0x58, 4, 200, 65) == Code.PARAMETER_OUT_OF_RANGE
    assert await console.code(APP, 0x58, 99, 0) == 0x80
