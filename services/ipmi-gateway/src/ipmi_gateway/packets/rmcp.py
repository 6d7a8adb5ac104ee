"""RMCP: the four octets before everything on UDP port 623 (section 13.1.3; ASF 2.0, section 3.2.2)."""

from enum import IntEnum
from typing import Final

VERSION: Final = 0x06
NO_ACK: Final = 0xFF
"""Sequence number of a message that must not be acknowledged; all IPMI messages have it."""
HEADER_LENGTH: Final = 4
ACK: Final = 0x80
"""Bit of the class octet: this is an acknowledge."""
CLASS_MASK: Final = 0x1F


class MessageClass(IntEnum):
    """Lower five bits of the class octet."""

    ASF = 0x06
    IPMI = 0x07
    OEM = 0x08


IPMI_HEADER: Final = bytes((VERSION, 0, NO_ACK, MessageClass.IPMI))
ASF_HEADER: Final = bytes((VERSION, 0, NO_ACK, MessageClass.ASF))


def acknowledge(header: bytes) -> bytes:
    """The RMCP acknowledge of a message: its header with the ACK bit set and nothing behind."""
    return bytes((VERSION, 0, header[2], header[3] | ACK))
