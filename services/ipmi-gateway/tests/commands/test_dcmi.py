"""DCMI (group extension DCh), and the other groups, which are not served."""

import struct
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, Privilege
from pypmi.contract import NodeInfo

GROUP, DCMI = 0x2C, 0xDC


@pytest.mark.parametrize(
    ("selector", "data"),
    [(1, "000100"), (2, "1490050001"), (3, "3000"), (4, "01ffff"), (5, "00")],
)
async def test_capabilities_also_before_a_session(console: Any, selector: int, data: str) -> None:
    answer = await console.ok(GROUP, 0x01, DCMI, selector, privilege=Privilege.HIGHEST)
    assert answer.hex() == "dc010502" + data


async def test_capabilities_refusals(console: Any) -> None:
    assert await console.code(GROUP, 0x01, DCMI, 6) == Code.INVALID_FIELD
    assert await console.code(GROUP, 0x01, DCMI) == Code.DATA_LENGTH_INVALID
    assert await console.code(GROUP, 0x01, DCMI, 1, 1) == Code.DATA_LENGTH_INVALID


@pytest.mark.parametrize("group", [0x00, 0x01, 0x03, 0x52, 0xDD])
@pytest.mark.parametrize("command", [0x00, 0x01, 0x02, 0x06, 0x08, 0x3E])
async def test_other_groups(console: Any, group: int, command: int) -> None:
    assert await console.code(GROUP, command, group) == Code.INVALID_COMMAND
    assert await console.code(GROUP, command, group, 0, 0) == Code.INVALID_COMMAND


async def test_power_reading(console: Any, clock: Any) -> None:
    answer = await console.ok(GROUP, 0x02, DCMI, 1, 0, 0)
    assert answer == struct.pack("<BHHHHIIB", DCMI, 187, 187, 187, 187, int(clock.wall), 1000, 0x40)
    assert await console.code(GROUP, 0x02, DCMI, 3, 0, 0) == Code.INVALID_FIELD
    assert await console.code(GROUP, 0x02, DCMI, 1, 0) == Code.DATA_LENGTH_INVALID
    assert await console.code(GROUP, 0x02, DCMI, 1, 0, 0, privilege=Privilege.CALLBACK) == Code.INSUFFICIENT_PRIVILEGE


async def test_power_that_is_not_known(console: Any, machine: Any) -> None:
    del machine.values["power"]
    assert await console.code(GROUP, 0x02, DCMI, 1, 0, 0) == Code.NOT_IN_PRESENT_STATE
    machine.available = False
    assert await console.code(GROUP, 0x02, DCMI, 1, 0, 0) == Code.DESTINATION_UNAVAILABLE


async def test_without_a_power_sensor(console: Any, machine: Any) -> None:
    machine.info = machine.info.model_copy(update={"sensors": ()})
    assert await console.code(GROUP, 0x02, DCMI, 1, 0, 0) == Code.INVALID_COMMAND
    assert await console.code(GROUP, 0x03, DCMI, 0, 0) == Code.INVALID_COMMAND
    assert (await console.ok(GROUP, 0x01, DCMI, 1))[5] == 0


async def test_power_limit(console: Any) -> None:
    code, data = await console.ask(GROUP, 0x03, DCMI, 0, 0)
    assert (code, data) == (0x80, bytes((DCMI,)) + bytes(13))
    for command in (0x04, 0x05):
        assert await console.code(GROUP, command, DCMI, 0, 0) == Code.INVALID_COMMAND


async def test_asset_tag(console: Any, machine: Any, fleet: Any) -> None:
    assert await console.ok(GROUP, 0x06, DCMI, 0, 16) == bytes((DCMI, 6)) + b"LAB-42"
    tag = b"a tag that needs more than sixteen octets"
    for offset in range(0, len(tag), 16):
        part = tag[offset : offset + 16]
        answer = await console.ok(GROUP, 0x08, DCMI, offset, len(part), *part)
        assert answer == bytes((DCMI, offset + len(part)))
    again = Bmc.create(fleet, "node1", machine)
    read = b"".join([(await console.ok(GROUP, 0x06, DCMI, offset, 16, bmc=again))[2:] for offset in (0, 16, 32)])
    assert read == tag
    assert await console.code(GROUP, 0x06, DCMI, 0, 17) == Code.PARAMETER_OUT_OF_RANGE
    assert await console.code(GROUP, 0x08, DCMI, 60, 4, 1, 2, 3, 4) == Code.PARAMETER_OUT_OF_RANGE
    assert await console.code(GROUP, 0x08, DCMI, 0, 4, 1) == Code.DATA_LENGTH_INVALID
    assert await console.code(GROUP, 0x08, DCMI, 0, 0, privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE


async def test_controller_id(console: Any) -> None:
    assert await console.ok(GROUP, 0x09, DCMI, 0, 16) == bytes((DCMI, 6)) + b"node1\0"
    assert await console.ok(GROUP, 0x0A, DCMI, 0, 5, *b"bmc7\0") == bytes((DCMI, 5))
    assert await console.ok(GROUP, 0x09, DCMI, 0, 16) == bytes((DCMI, 5)) + b"bmc7\0"
    assert await console.code(GROUP, 0x0A, DCMI, 0, 0, privilege=Privilege.OPERATOR) == Code.INSUFFICIENT_PRIVILEGE


async def test_temperature_sensors(console: Any, machine: Any) -> None:
    number = len(console.bmc.repository()) - 4
    assert await console.ok(GROUP, 0x07, DCMI, 1, 0x42, 0, 0) == bytes((DCMI, 1, 1, number, 0))
    assert console.bmc.repository()[number - 1][7] == 0x10
    assert await console.ok(GROUP, 0x07, DCMI, 1, 0x40, 0, 0) == bytes((DCMI, 0, 0))
    assert await console.code(GROUP, 0x07, DCMI, 1, 0x99, 0, 0) == Code.INVALID_FIELD
    assert await console.code(GROUP, 0x07, DCMI, 2, 0x42, 0, 0) == Code.INVALID_FIELD
    assert await console.ok(GROUP, 0x10, DCMI, 1, 0x42, 0, 0) == bytes((DCMI, 1, 1, 24, 1))
    machine.values["inlet"] = -7.2
    assert await console.ok(GROUP, 0x10, DCMI, 1, 0x42, 0, 0) == bytes((DCMI, 1, 1, 0x87, 1))
    del machine.values["inlet"]
    assert await console.ok(GROUP, 0x10, DCMI, 1, 0x42, 0, 0) == bytes((DCMI, 1, 0))


async def test_a_controller_without_a_machine(console: Any, fleet: Any) -> None:
    bmc = Bmc.create(fleet, "empty")
    assert await console.ok(GROUP, 0x06, DCMI, 0, 16, bmc=bmc) == bytes((DCMI, 0))
    assert await console.ok(GROUP, 0x10, DCMI, 1, 0x42, 0, 0, bmc=bmc) == bytes((DCMI, 0, 0))


async def test_an_asset_tag_in_another_script(console: Any, machine: Any) -> None:
    info: NodeInfo = machine.info
    machine.info = info.model_copy(update={"fru": info.fru.model_copy(update={"asset_tag": "Gerät"})})
    assert (await console.ok(GROUP, 0x06, DCMI, 0, 16))[2:] == "Gerät".encode()
