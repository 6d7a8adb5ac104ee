"""The IPMI 1.5 session header. Only messages outside a session come in it here: 1.5 sessions are not served."""

import struct
from typing import Final

from ipmi_gateway.packets import rmcp

AUTH_NONE: Final = 0x00
_HEADER: Final = struct.Struct("<BIIB")
MESSAGE_OFFSET: Final = rmcp.HEADER_LENGTH + _HEADER.size
_NO_SESSION: Final = 0


def unpack(datagram: bytes) -> bytes | None:
    """The message in an unauthenticated packet outside any session (section 13.6), or None for anything else."""
    if len(datagram) < MESSAGE_OFFSET:
        return None
    auth_type, sequence, session_id, length = _HEADER.unpack_from(datagram, rmcp.HEADER_LENGTH)
    if auth_type != AUTH_NONE or sequence != 0 or session_id != _NO_SESSION:
        return None
    if len(datagram) - MESSAGE_OFFSET not in {length, length + 1}:  # one octet of legacy pad is allowed behind
        return None
    return datagram[MESSAGE_OFFSET : MESSAGE_OFFSET + length]


def pack(message: bytes) -> bytes:
    """A datagram with a message outside any session."""
    return rmcp.IPMI_HEADER + _HEADER.pack(AUTH_NONE, 0, _NO_SESSION, len(message)) + message
