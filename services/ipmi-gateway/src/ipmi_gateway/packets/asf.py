"""ASF presence ping and pong, by which a client finds out that somebody speaks IPMI here (section 13.2.3, 13.2.4)."""

import struct
from enum import IntEnum
from typing import Final

from ipmi_gateway.packets import rmcp

IANA_ASF: Final = 4542
_MESSAGE: Final = struct.Struct(">IBBxB")
_PONG_DATA: Final = struct.Struct(">I4xBB6x")
_SUPPORTED_ENTITIES: Final = 0x81
"""Bit 7: IPMI; low bits: ASF version 1.0."""


class MessageType(IntEnum):
    """ASF message types that concern us."""

    PONG = 0x40
    PING = 0x80


def answer_ping(datagram: bytes) -> bytes | None:
    """The pong for a presence ping (a whole datagram), or None when it is something else."""
    if len(datagram) < rmcp.HEADER_LENGTH + _MESSAGE.size:
        return None
    iana, kind, tag, length = _MESSAGE.unpack_from(datagram, rmcp.HEADER_LENGTH)
    if iana != IANA_ASF or kind != MessageType.PING or length != 0:
        return None
    return (
        rmcp.ASF_HEADER
        + _MESSAGE.pack(IANA_ASF, MessageType.PONG, tag, _PONG_DATA.size)
        + _PONG_DATA.pack(IANA_ASF, _SUPPORTED_ENTITIES, 0)
    )
