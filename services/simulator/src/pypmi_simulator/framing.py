"""From segments and datagrams to commands, and from replies to bytes: each era's own way (reference 1.3 to 1.7).

Sans-IO. There is one buffer per device, shared by TCP, UDP (and console commands), as in the firmware.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .eras import Traits
from .text import Line, trim_line_end

SEGMENT: Final = 1460
"""A segment of exactly this size means "more follows" (newest)."""
MAX_SEGMENTS: Final = 3
MORE_TIMEOUT: Final = 1.0
"""Seconds."""
_SECTOR: Final = 4096
_HEADER: Final = struct.Struct("<BBHHHHHHHIIII")
HEADER_SIZE: Final = _HEADER.size
SOH: Final = 0x01
VERSION: Final = 0x02
PACKET_ID: Final = 0x4AFB
WANT_MD5: Final = 1
HAS_MD5: Final = 2
HAS_TRANSACTION: Final = 4


@dataclass(frozen=True, slots=True)
class Request:
    """A complete command, and how its reply has to be wrapped."""

    line: Line
    packet: bool = False
    want_checksum: bool = False
    transaction: int | None = None


def checksum(packet: bytes) -> int:
    """First four bytes of the MD5 of a packet whose checksum field is 0, as the number that is sent little-endian."""
    return int.from_bytes(hashlib.md5(packet, usedforsecurity=False).digest()[:4], "big")


def pack(data: bytes, *, flags: int = 0, transaction: int = 0) -> bytes:
    """A packet around `data`; `flags` with `HAS_MD5` adds the checksum."""
    length = HEADER_SIZE + len(data)
    fields = [SOH, VERSION, PACKET_ID, length, HEADER_SIZE, length, length, 0, flags, transaction, 0, 0, 0]
    packet = _HEADER.pack(*fields) + data
    if flags & HAS_MD5:
        fields[-1] = checksum(packet)
        packet = _HEADER.pack(*fields) + data
    return packet


@dataclass(slots=True)
class Framer:
    """The command socket's receive buffer."""

    traits: Traits
    duplicates: int = 0
    checksum_errors: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _memory: bytearray = field(default_factory=bytearray)
    """What the buffer's bytes were: the older eras read past the end of the command."""
    _parts: int = 0
    _expected: int = 0
    _until: float | None = None
    _transactions: deque[int] = field(default_factory=lambda: deque((0, 0), maxlen=2))

    def segment(self, data: bytes, now: float) -> Request | None:
        """One TCP segment arrived (longer ones than `SEGMENT` count as several); returns a command when complete."""
        if not self.traits.strict:
            return self._collect(data, datagram=False)
        self.expire(now)
        self._parts += max(1, -(-len(data) // SEGMENT))
        self._buffer += data
        if self._parts > MAX_SEGMENTS or len(self._buffer) > self.traits.command_buffer:
            self.clear()
            return None
        if self._until is not None:
            return self._continued()
        if self._looks_packed():
            return self._begin_packet(now)
        if len(self._buffer) != SEGMENT:
            return self._text(trim_line_end(self._take())[0])
        self._until = now + MORE_TIMEOUT
        return None

    def datagram(self, data: bytes, now: float) -> Request | None:
        """One UDP datagram arrived."""
        if not self.traits.strict:
            return self._collect(data, datagram=True)
        self.expire(now)
        if self._until is not None:
            self.clear()
            return None
        self._buffer += data[: self.traits.command_buffer]
        if self._looks_packed():
            packet = self._take()
            return self._packet(packet) if len(packet) == int.from_bytes(packet[4:6], "little") else None
        return self._text(self._take())

    def console(self, byte: int) -> Request | None:
        """One byte came over the UART with `cmd-from-uart`; a line end makes a command of what was collected."""
        if byte not in b"\r\n " and not 0x20 < byte < 0x7F:
            return None
        if len(self._buffer) < self.traits.command_buffer:
            self._buffer.append(0x0A if byte == 0x0D else byte)
        if byte not in b"\r\n":
            return None
        text = bytes(self._buffer)
        self.clear()
        return Request(Line(text, strict=self.traits.strict, stale=self._remember(text, b"")))

    def clear(self) -> None:
        """Throws away what is not complete."""
        self._buffer.clear()
        self._parts, self._expected, self._until = 0, 0, None

    def expire(self, now: float) -> None:
        """Throws away the beginning of a command whose rest is overdue."""
        if self._until is not None and now >= self._until:
            self.clear()

    # -- 2019 and 2021 --------------------------------------------------------------------------

    def _collect(self, data: bytes, *, datagram: bool) -> Request | None:
        room = self.traits.command_buffer - len(self._buffer)
        self._buffer += data[:room]
        text, end = trim_line_end(bytes(self._buffer))
        if not end and not datagram:
            return None
        self._buffer.clear()
        return Request(Line(text, strict=False, stale=self._remember(text, end)))

    def _remember(self, text: bytes, end: bytes) -> bytes:
        """Puts the command over the older bytes in memory; returns what then stands behind it (up to a NUL)."""
        raw = text + end
        if len(self._memory) < len(raw):
            self._memory.extend(bytes(len(raw) - len(self._memory)))
        self._memory[: len(raw)] = raw
        return bytes(self._memory[len(text) :]).split(b"\0", 1)[0]

    # -- newest ---------------------------------------------------------------------------------

    def _take(self) -> bytes:
        data = bytes(self._buffer)
        self.clear()
        return data

    def _looks_packed(self) -> bool:
        head = self._buffer[:4]
        return len(self._buffer) >= HEADER_SIZE and head[0] == SOH and int.from_bytes(head[2:4], "little") == PACKET_ID

    def _begin_packet(self, now: float) -> Request | None:
        length = int.from_bytes(self._buffer[4:6], "little")
        if len(self._buffer) == length:
            return self._packet(self._take())
        if len(self._buffer) > length:
            self.clear()
            return None
        self._expected, self._until = length, now + MORE_TIMEOUT
        return None

    def _continued(self) -> Request | None:
        if self._expected == 0:
            return self._text(self._take()) if len(self._buffer) > _SECTOR else None
        if len(self._buffer) == self._expected:
            return self._packet(self._take())
        if len(self._buffer) > self._expected:
            self.clear()
        return None

    def _text(self, data: bytes) -> Request | None:
        zero = data.find(b"\0")
        if zero > 0 and zero + 1 < len(data):  # a binary attachment, and one character of the text is lost
            attachment = (zero // 4 + 1) * 4
            if attachment >= len(data):
                return None
            data = data[: zero - 1]
        return Request(Line(data, strict=True))

    def _packet(self, packet: bytes) -> Request | None:
        (_, version, _, length, start, end, attachment, groups, flags, transaction, _, _, given) = _HEADER.unpack_from(
            packet
        )
        if version != VERSION or groups != 0:
            return None
        if flags & HAS_MD5 and checksum(packet[:28] + bytes(4) + packet[32:]) != given:
            self.checksum_errors += 1
            return None
        if attachment != length and attachment % 4:
            return None
        if flags & HAS_TRANSACTION and transaction in self._transactions:
            self.duplicates += 1
            return None
        return Request(
            Line(packet[start:end], strict=True),
            packet=True,
            want_checksum=bool(flags & WANT_MD5),
            transaction=transaction if flags & HAS_TRANSACTION else None,
        )

    def reply(self, request: Request, reply: bytes) -> bytes:
        """Wraps a reply the way the request came, and remembers its transaction."""
        if not request.packet:
            return reply
        flags = HAS_MD5 if request.want_checksum else 0
        if request.transaction is not None:
            flags |= HAS_TRANSACTION
            self._transactions.appendleft(request.transaction)
        return pack(reply, flags=flags, transaction=request.transaction or 0)
