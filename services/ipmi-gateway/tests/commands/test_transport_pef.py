"""LAN configuration (IPMI 2.0 section 23) and what clients ask of platform event filtering (section 30)."""

import struct
from typing import Any

import pytest
from ipmi_gateway.codes import Code, Privilege
from ipmi_gateway.controller.facts import LanFacts, PacketCounts

TRANSPORT, SENSOR = 0x0C, 0x04
LAN = LanFacts(
    address="192.0.2.7",
    netmask="255.255.255.0",
    gateway="192.0.2.1",
    mac=bytes.fromhex("02005e102030"),
    port=6230,
    vlan=300,
    ipv6_address="2001:db8::7",
)

LAN_VALUES = {
    0: "00",
    1: "00",
    2: "0000000000",
    3: "c0000207",
    4: "01",
    5: "02005e102030",
    6: "ffffff00",
    7: "404010",
    8: "5618",
    9: "9802",
    10: "00",
    11: "00",
    12: "c0000201",
    13: "000000000000",
    14: "00000000",
    15: "000000000000",
    16: b"public".hex() + "00" * 12,
    17: "00",
    18: "00000000",
    19: "00" * 13,
    20: "2c81",
    21: "00",
    22: "02",
    23: "001103",
    24: "004440" + "00" * 6,
    25: "00000000",
    26: "000000000000",
    50: "02",
    51: "02",
    55: "010000",
    56: "0080" + "20010db8000000000000000000000007" + "4000",
    64: "00",
    **dict.fromkeys((65, 68, 69, 72), "00" * 16),
    **dict.fromkeys((66, 70), "00" * 6),
    **dict.fromkeys((67, 71), "00"),
}


@pytest.fixture
def lan(console: Any) -> Any:
    console.bmc = console.bmc.view(0x30, 2, LAN)
    return console


@pytest.mark.parametrize("channel", [0x01, 0x0E])
async def test_all_lan_parameters(lan: Any, channel: int) -> None:
    for number in range(256):
        code, answer = await lan.ask(TRANSPORT, 0x02, channel, number, 0, 0)
        if number in LAN_VALUES:
            assert (code, answer.hex()) == (0, "11" + LAN_VALUES[number]), number
        else:
            assert code == 0x80, number


async def test_lan_refusals(lan: Any) -> None:
    assert await lan.ok(TRANSPORT, 0x02, 0x81, 3, 0, 0) == b"\x11"
    assert await lan.code(TRANSPORT, 0x02, 0x02, 3, 0, 0) == Code.INVALID_FIELD
    assert await lan.code(TRANSPORT, 0x02, 1, 3, 0) == Code.DATA_LENGTH_INVALID
    for number in (18, 19, 25, 56):
        assert await lan.code(TRANSPORT, 0x02, 1, number, 1, 0) == Code.PARAMETER_OUT_OF_RANGE
    assert await lan.code(TRANSPORT, 0x02, 1, 3, 0, 0, privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE


async def test_nothing_of_it_can_be_set(lan: Any) -> None:
    for number in LAN_VALUES:
        if number:
            assert await lan.code(TRANSPORT, 0x01, 1, number, 1, 2, 3, 4) == 0x82
    assert await lan.code(TRANSPORT, 0x01, 1, 99, 1) == 0x80
    assert await lan.ok(TRANSPORT, 0x01, 1, 0, 1) == b""
    assert await lan.code(TRANSPORT, 0x01, 1, 0, 3) == Code.INVALID_FIELD
    assert await lan.code(TRANSPORT, 0x01, 1, 3, 1, privilege=Privilege.OPERATOR) == Code.INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize(
    ("announced", "shown"),
    [
        ("A0:20:A6:01:02:03", "a020a6010203"),
        ("a0-20-a6-01-02-03", "a020a6010203"),
        ("not a mac!!!", "000000000000"),
        (None, "000000000000"),
    ],
)
async def test_hardware_address_of_the_node(console: Any, machine: Any, announced: str | None, shown: str) -> None:
    machine.info = machine.info.model_copy(update={"mac": announced})
    assert (await console.ok(TRANSPORT, 0x02, 1, 5, 0, 0)).hex() == "11" + shown


async def test_statistics(console: Any, fleet: Any) -> None:
    fleet.packet_counts = lambda: PacketCounts(received=70_000, valid=12, sent=9)
    assert await console.ok(TRANSPORT, 0x04, 1, 0) == struct.pack("<9H", 0xFFFF, 0, 0, 0, 9, 0xFFFF, 12, 0, 0)
    assert await console.code(TRANSPORT, 0x04, 3, 0) == Code.INVALID_FIELD


async def test_there_is_no_event_filtering(console: Any) -> None:
    assert await console.ok(SENSOR, 0x10) == b"\x51\x00\x00"
    for number in (0, 1, 2, 3, 4, 5, 8, 11):
        assert await console.ok(SENSOR, 0x13, number, 0, 0) == b"\x11\x00"
    assert await console.ok(SENSOR, 0x13, 10, 0, 0) == b"\x11\x00" + console.bmc.guid
    assert await console.ok(SENSOR, 0x13, 0x85, 0, 0) == b"\x11"
    for number in (6, 7, 9, 14, 100):
        assert await console.code(SENSOR, 0x13, number, 0, 0) == 0x80
    assert await console.code(SENSOR, 0x12, 1, 1) == 0x82
    assert await console.code(SENSOR, 0x12, 99, 1) == 0x80


async def test_the_one_alert_string_is_empty(console: Any) -> None:
    assert await console.ok(SENSOR, 0x13, 12, 0, 0) == b"\x11\0\0\0"
    assert await console.ok(SENSOR, 0x13, 13, 0, 1) == b"\x11\0\x01" + bytes(16)
    for data in ((12, 1, 0), (13, 1, 1), (13, 0, 0), (13, 0, 200)):
        assert await console.code(SENSOR, 0x13, *data) == Code.PARAMETER_OUT_OF_RANGE


async def test_last_processed_event(console: Any) -> None:
    assert await console.ok(SENSOR, 0x15) == b"\xff" * 6 + bytes(4)
    await console.ok(SENSOR, 0x02, 4, 1, 0x30, 1, 9, 0xFF, 0xFF)
    assert (await console.ok(SENSOR, 0x15))[4:] == bytes((1, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("command", [0x00, 0x03, 0x05, 0x10, 0x40])
async def test_what_is_not_there(console: Any, command: int) -> None:
    assert await console.code(TRANSPORT, command, 1, 0) == Code.INVALID_COMMAND
