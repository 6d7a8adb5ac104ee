"""The SOL payload format (section 15.9, table 15-2): four octets of header, then up to 255 characters."""

from enum import IntFlag
from typing import Final

HEADER_LENGTH: Final = 4
"""Packet sequence number, acknowledged packet sequence number, accepted character count, operation or status."""
MAX_CHARACTERS: Final = 255
"""Of one packet: the accepted character count has one octet."""
MAX_PAYLOAD: Final = 255
"""Octets of payload, header included, that Activate Payload announces, each way.

ipmitool and FreeIPMI take the header off (251 characters), pyghmi does not (255 characters): all of them stay
within `MAX_CHARACTERS`. With the AES padding, 251 characters fill whole blocks.
"""
MAX_SEQUENCE: Final = 15
"""Packet sequence numbers go from 1 to 15; 0 marks a packet that only acknowledges or informs."""


class Operation(IntFlag):
    """The fourth octet in packets from the remote console."""

    NACK = 0x40
    RING = 0x20
    BREAK = 0x10
    """Generate a break on the console's input."""
    PAUSE = 0x08
    """Deassert CTS: the machine shall send no more."""
    DROP_DCD_DSR = 0x04
    FLUSH_INBOUND = 0x02
    """Drop characters on their way to the machine."""
    FLUSH_OUTBOUND = 0x01
    """Drop characters on their way to the remote console."""


class Status(IntFlag):
    """The fourth octet in packets to the remote console."""

    NACK = 0x40
    UNAVAILABLE = 0x20
    """Characters can't be transferred: the machine is off or asleep."""
    DEACTIVATED = 0x10
    """SOL is deactivated or being deactivated."""
    OVERRUN = 0x08
    """Characters were dropped between this packet and the one before."""
    BREAK = 0x04
    """The machine sent a break."""


def following(sequence: int) -> int:
    """The packet sequence number after this one."""
    return sequence % MAX_SEQUENCE + 1
