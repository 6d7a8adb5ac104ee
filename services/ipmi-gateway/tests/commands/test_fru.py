"""FRU inventory (IPMI 2.0 section 34, and the FRU information storage definition)."""

import struct
from typing import Any

import pytest
from ipmi_gateway.codes import Code
from ipmi_gateway.controller.fru_image import area, build_image, field
from pypmi.contract import FruFields

STORAGE = 0x0A


def parse(image: bytes) -> dict[int, list[str]]:
    """Areas by their place in the header, as lists of texts; checks every checksum."""
    assert len(image) % 8 == 0
    assert sum(image[:8]) & 0xFF == 0
    assert image[0] == 1
    areas = {}
    for place, head in ((2, 3), (3, 6), (4, 3)):
        start = image[place] * 8
        if not start:
            continue
        content = image[start : start + image[start + 1] * 8]
        assert content[0] == 1
        assert sum(content) & 0xFF == 0
        position, texts = head, []
        while content[position] != 0xC1:
            length = content[position] & 0x3F
            octets = content[position + 1 : position + 1 + length]
            assert content[position] >> 6 == 3
            texts.append(octets.decode("latin-1").rstrip())
            position += 1 + length
        areas[place] = texts
    return areas


async def read_all(console: Any, chunk: int) -> bytes:
    size, by_words = struct.unpack("<HB", await console.ok(STORAGE, 0x10, 0))
    assert by_words == 0
    image = b""
    while len(image) < size:
        count = min(chunk, size - len(image))
        answer = await console.ok(STORAGE, 0x11, 0, len(image) & 0xFF, len(image) >> 8, count)
        assert answer[0] == len(answer) - 1 == count
        image += answer[1:]
    return image


@pytest.mark.parametrize("chunk", [3, 16, 240])
async def test_all_areas(console: Any, chunk: int) -> None:
    assert parse(await read_all(console, chunk)) == {
        2: ["CH-1", "CH-SN-9"],
        3: ["ACME Boards", "Main Board", "MB-1", "X", ""],
        4: ["ACME Corp", "Rack Server 9000", "RS-9000", "B", "SN12345", "LAB-42", ""],
    }


async def test_a_node_without_inventory_has_its_name(console: Any, machine: Any) -> None:
    machine.info = None
    assert parse(await read_all(console, 64)) == {4: ["", "node1", "", "", "", "", ""]}


async def test_reading_too_much(console: Any) -> None:
    (size,) = struct.unpack_from("<H", await console.ok(STORAGE, 0x10, 0))
    for offset, count, code in (
        (0, size + 1, Code.CANNOT_RETURN_BYTES),
        (size - 1, 2, Code.CANNOT_RETURN_BYTES),
        (size, 1, Code.PARAMETER_OUT_OF_RANGE),
        (0xFFFF, 1, Code.PARAMETER_OUT_OF_RANGE),
    ):
        assert await console.code(STORAGE, 0x11, 0, offset & 0xFF, offset >> 8, count & 0xFF) == code
    assert await console.ok(STORAGE, 0x11, 0, 0, 0, 0) == b"\0"


async def test_other_devices_and_writing(console: Any) -> None:
    for command, data in ((0x10, ()), (0x11, (0, 0, 8)), (0x12, (0, 0, 1))):
        assert await console.code(STORAGE, command, 1, *data) == Code.NOT_PRESENT
    before = await read_all(console, 64)
    assert await console.code(STORAGE, 0x12, 0, 0, 0, 1, 2, 3) == 0x80
    assert await read_all(console, 64) == before


async def test_the_asset_tag_that_a_client_sets_is_shown(console: Any) -> None:
    await console.ok(0x2C, 0x08, 0xDC, 0, 5, *b"TAG-9")
    assert parse(await read_all(console, 64))[4][5] == "TAG-9"


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (None, b"\xc0"),
        ("", b"\xc0"),
        ("A", b"\xc2A "),
        ("a", b"\xc2a "),
        ("ab", b"\xc2ab"),
        ("é", b"\xc2\xe9 "),
        ("日本", b"\xc2??"),
        ("x" * 70, b"\xff" + b"x" * 63),
    ],
)
def test_fields(text: str | None, encoded: bytes) -> None:
    assert field(text) == encoded


@pytest.mark.parametrize("length", range(20))
def test_areas_are_padded_and_add_up(length: int) -> None:
    built = area(b"\x19", ["x" * length])
    assert len(built) == built[1] * 8
    assert sum(built) & 0xFF == 0


def test_longest_fields_still_fit() -> None:
    texts = dict.fromkeys(FruFields.model_fields, "w" * 63)
    image = build_image(FruFields(**texts), name="n", asset_tag=None)
    assert all(text == "w" * 63 for text in parse(image)[4][:6])
