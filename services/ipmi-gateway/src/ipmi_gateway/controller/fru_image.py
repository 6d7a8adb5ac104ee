"""The inventory of a node as an FRU image (Platform Management FRU Information Storage Definition v1.0)."""

from collections.abc import Iterable

from pypmi.contract import FruFields

_FORMAT = 0x01
_ENGLISH = 25
_END = 0xC1
_TEXT = 0xC0
_RACK_MOUNT_CHASSIS = 0x17
_UNSPECIFIED_DATE = bytes(3)
MAX_TEXT = 63
"""Octets of one field."""


def field(text: str | None) -> bytes:
    """A type/length octet and its text: 8-bit ASCII + Latin-1, empty for None.

    A single character gets a space: one octet of 8-bit text would have the type/length octet C1h, which means "no more
    fields" (and 6-bit ASCII, which has none of that, brings pyghmi's client down).
    """
    data = (text or "").encode("latin-1", "replace")[:MAX_TEXT]
    if len(data) == 1:
        data += b" "
    return bytes((_TEXT | len(data),)) + data


def _checked(data: bytes) -> bytes:
    """With the octet that makes the sum zero."""
    return data + bytes((-sum(data) & 0xFF,))


def area(head: bytes, fields: Iterable[str | None]) -> bytes:
    """An info area: version, length in units of 8 octets, `head`, fields, end mark, padding, checksum."""
    content = head + b"".join(field(text) for text in fields) + bytes((_END,))
    length = -(-(len(content) + 3) // 8)
    return _checked((bytes((_FORMAT, length)) + content).ljust(length * 8 - 1, b"\0"))


def build_image(fru: FruFields, *, name: str, asset_tag: str | None) -> bytes:
    """The whole image: a common header and the areas that have something to say.

    `name` stands for a product name that nobody gave; `asset_tag`, set by a client, goes before the one in `fru`.
    """
    chassis = board = b""
    if fru.chassis_part_number or fru.chassis_serial:
        chassis = area(bytes((_RACK_MOUNT_CHASSIS,)), (fru.chassis_part_number, fru.chassis_serial))
    if fru.board_manufacturer or fru.board_product or fru.board_serial or fru.board_part_number:
        board = area(
            bytes((_ENGLISH,)) + _UNSPECIFIED_DATE,
            (fru.board_manufacturer, fru.board_product, fru.board_serial, fru.board_part_number, None),
        )
    product = area(
        bytes((_ENGLISH,)),
        (
            fru.manufacturer,
            fru.product or name,
            fru.part_number,
            fru.version,
            fru.serial,
            asset_tag if asset_tag is not None else fru.asset_tag,
            None,
        ),
    )
    offsets, image, position = [], b"", 1
    for part in (chassis, board, product):
        offsets.append(position if part else 0)
        position += len(part) // 8
        image += part
    return _checked(bytes((_FORMAT, 0, *offsets, 0, 0))) + image
