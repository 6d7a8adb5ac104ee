"""IPMI messages in IPMB form, with their two checksums (section 13.8, table 13-8)."""

from functools import lru_cache
from typing import Final, NamedTuple

MINIMUM_LENGTH: Final = 7
"""Address, NetFn/LUN, checksum, address, sequence/LUN, command, checksum."""
REMEMBERED: Final = 8192
"""Messages whose octets and values are remembered. Clients that poll send the same few messages over and over (the
sequence number has six bits), and looking one up costs 0.1 µs instead of 0.7. At some 500 octets each, 4 MB at most."""


class Message(NamedTuple):
    """A request. Names are the specification's, seen from the requester: rs = responder, rq = requester."""

    rs_address: int
    netfn: int
    rs_lun: int
    rq_address: int
    rq_sequence: int
    rq_lun: int
    command: int
    data: bytes


def checksum(octets: bytes) -> int:
    """Two's complement of the sum modulo 256: octets and checksum add up to zero."""
    return -sum(octets) & 0xFF


@lru_cache(REMEMBERED)
def unpack(raw: bytes) -> Message | None:
    """Take a message apart; None when it is too short or a checksum is wrong."""
    if len(raw) < MINIMUM_LENGTH or (raw[0] + raw[1] + raw[2]) & 0xFF or sum(raw[3:]) & 0xFF:
        return None
    return Message(raw[0], raw[1] >> 2, raw[1] & 3, raw[3], raw[4] >> 2, raw[4] & 3, raw[5], raw[6:-1])


def pack_request(message: Message) -> bytes:
    """The octets of a request."""
    head = bytes((message.rs_address, message.netfn << 2 | message.rs_lun))
    body = bytes((message.rq_address, message.rq_sequence << 2 | message.rq_lun, message.command)) + message.data
    return b"%b%c%b%c" % (head, checksum(head), body, checksum(body))


def pack_response(request: Message, code: int, data: bytes = b"") -> bytes:
    """The octets of the response to a request: its addresses and LUNs exchanged, its sequence number kept."""
    rq_address = request.rq_address
    netfn_lun = (request.netfn | 1) << 2 | request.rq_lun
    body = b"%c%c%c%c%b" % (
        request.rs_address,
        request.rq_sequence << 2 | request.rs_lun,
        request.command,
        code,
        data,
    )
    return b"%c%c%c%b%c" % (rq_address, netfn_lun, -(rq_address + netfn_lun) & 0xFF, body, -sum(body) & 0xFF)


@lru_cache(REMEMBERED)
def respond(raw: bytes, code: int, data: bytes = b"") -> bytes:
    """The octets of the response to a request that `unpack` has taken. Raises ValueError for one that it has not."""
    request = unpack(raw)
    if request is None:
        raise ValueError("not an IPMI message")
    return pack_response(request, code, data)
