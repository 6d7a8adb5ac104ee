"""Packet mode (reference section 1.7): commands that the board acts on at most once, by their transaction id."""

import hashlib
import random
import struct
from typing import Final

from esp8266_agent.protocol import ReplyError, encode

_PACKET: Final = struct.Struct("<BBHHHHHHHI8xI")
_START: Final = 1
_VERSION: Final = 2
_ID_FIELD: Final = 0x4AFB
_WANT_MD5, _HAS_MD5, _HAS_TRANSACTION = 1, 2, 4


def encode_packet(text: str, transaction: int) -> bytes:
    """A command in packet mode. The board drops it in silence when `transaction` is one of the last two it saw.

    `transaction` is 1 to 2**32-1. Newest firmware only: older ones take it for text without an end.
    """
    if not 0 < transaction < 1 << 32:
        raise ValueError(f"transaction id {transaction} is not 1 to 2**32-1")
    data = encode(text)[:-2]
    end = _PACKET.size + len(data)
    flags = _WANT_MD5 | _HAS_MD5 | _HAS_TRANSACTION
    fields = (_START, _VERSION, _ID_FIELD, end, _PACKET.size, end, end, 0, flags, transaction)
    return _PACKET.pack(*fields, _checksum(_PACKET.pack(*fields, 0) + data)) + data


def _checksum(packet: bytes) -> int:
    # on the wire stand the first four octets of the MD5 in reverse order: read big endian, packed little endian
    return int.from_bytes(hashlib.md5(packet, usedforsecurity=False).digest()[:4], "big")


def packet_ends(buffer: bytes) -> bool:
    """Whether a packet reply is whole (or so wrong that waiting for more is no use)."""
    if len(buffer) < _PACKET.size:
        return bool(buffer) and buffer[0] != _START
    return len(buffer) >= int.from_bytes(buffer[4:6], "little")


def decode_packet(reply: bytes, transaction: int) -> bytes:
    """The text of a packet reply to `transaction`. Raises `ReplyError`."""
    if len(reply) < _PACKET.size:
        raise ReplyError("packet mode: the answer is too short")
    start, version, ident, length, data, end, _, _, flags, echoed, checksum = _PACKET.unpack_from(reply)
    wrong = (start, version, ident) != (_START, _VERSION, _ID_FIELD) or length != len(reply)
    if wrong or not _PACKET.size <= data <= end <= length:
        raise ReplyError("packet mode: the answer is no packet")
    if flags & _HAS_MD5 and _checksum(reply[: _PACKET.size - 4] + bytes(4) + reply[_PACKET.size :]) != checksum:
        raise ReplyError("packet mode: the answer's checksum is wrong")
    if not flags & _HAS_TRANSACTION or echoed != transaction:
        raise ReplyError("packet mode: the answer is to another transaction")
    return reply[data:end]


def new_transaction(rng: random.Random) -> int:
    """A transaction id that the board has not just seen. 0 is not one."""
    return rng.randrange(1, 1 << 32)
