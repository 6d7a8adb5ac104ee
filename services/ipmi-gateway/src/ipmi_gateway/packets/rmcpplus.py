"""The RMCP+ (IPMI 2.0) session header and trailer (section 13.6, table 13-8)."""

import struct
from enum import IntEnum
from typing import Final

from ipmi_gateway.packets import rmcp

AUTH_FORMAT: Final = 0x06
"""The "authentication type" octet that marks an RMCP+ packet."""
ENCRYPTED: Final = 0x80
AUTHENTICATED: Final = 0x40
PAYLOAD_TYPE_MASK: Final = 0x3F
NEXT_HEADER: Final = 0x07

HEADER: Final = struct.Struct("<BBIIH")
"""Format, payload type and its bits, session id, sequence number, payload length."""
PAYLOAD_OFFSET: Final = rmcp.HEADER_LENGTH + HEADER.size

INTEGRITY_TRAILERS: Final = tuple(b"\xff" * pad + bytes((pad, NEXT_HEADER)) for pad in range(4))
"""Integrity pad, pad length and next header, by the length of the pad."""


class PayloadType(IntEnum):
    """Payload types (table 13-16)."""

    IPMI = 0x00
    SOL = 0x01
    OEM_EXPLICIT = 0x02
    OPEN_SESSION_REQUEST = 0x10
    OPEN_SESSION_RESPONSE = 0x11
    RAKP_1 = 0x12
    RAKP_2 = 0x13
    RAKP_3 = 0x14
    RAKP_4 = 0x15


class Status(IntEnum):
    """RMCP+ and RAKP status codes (section 13.24, table 13-15)."""

    OK = 0x00
    INSUFFICIENT_RESOURCES = 0x01
    INVALID_SESSION_ID = 0x02
    INVALID_PAYLOAD_TYPE = 0x03
    INVALID_AUTHENTICATION = 0x04
    INVALID_INTEGRITY = 0x05
    NO_MATCHING_AUTHENTICATION_PAYLOAD = 0x06
    NO_MATCHING_INTEGRITY_PAYLOAD = 0x07
    INACTIVE_SESSION_ID = 0x08
    INVALID_ROLE = 0x09
    UNAUTHORIZED_ROLE = 0x0A
    INSUFFICIENT_RESOURCES_FOR_ROLE = 0x0B
    INVALID_NAME_LENGTH = 0x0C
    UNAUTHORIZED_NAME = 0x0D
    UNAUTHORIZED_GUID = 0x0E
    INVALID_INTEGRITY_CHECK = 0x0F
    INVALID_CONFIDENTIALITY = 0x10
    NO_SUITE_MATCH = 0x11
    ILLEGAL_PARAMETER = 0x12


def pack_sessionless(payload_type: int, payload: bytes) -> bytes:
    """A datagram outside any session: no encryption, no trailer."""
    return rmcp.IPMI_HEADER + HEADER.pack(AUTH_FORMAT, payload_type, 0, 0, len(payload)) + payload
