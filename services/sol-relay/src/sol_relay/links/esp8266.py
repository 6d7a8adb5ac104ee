"""The UART bridge of the ESP8266 Universal I/O firmware: raw TCP with small buffers and no back-pressure.

Rules from the firmware's reference, section 8: a segment of more than 128 octets is dropped or cut; what does not fit
the UART's ring of 1023 is lost, so writes are paced to the line; its output comes in pieces of 127, each only after
the one before was acknowledged; a connection that ended badly mutes the bridge until one is closed properly.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable

from sol_relay.links.target import PortTarget
from sol_relay.links.tcp import TcpLink, close_cleanly, connect

_MAX_SEGMENT = 128
_WRITE = 100
_CREDIT = 500
"""Octets that may go ahead of the line, and octets that may be unacknowledged: both together fit the UART's ring."""
_SPEED = 0.98
"""Of the nominal line speed: the board's clock and ours differ."""
_BITS_PER_OCTET = 10
_RETRY_SECONDS = 0.005
_HEAL_SECONDS = 1.0


async def open_esp8266(target: PortTarget) -> "Esp8266Link":
    """Connect to a bridge.

    It connects twice: a first connection that ends properly unmutes a bridge whose last one did not (reference 8.3).
    Nobody can tell whether it did: the last client may have been another, or this process before it was killed.
    """
    first = await close_cleanly(await connect(target, max_segment=_MAX_SEGMENT), seconds=_HEAL_SECONDS)
    return Esp8266Link(target, await connect(target, max_segment=_MAX_SEGMENT), first)


class Esp8266Link(TcpLink):
    """An open bridge."""

    polled = False
    can_wait = False

    def __init__(self, target: PortTarget, sock: socket.socket, first: bytes = b"") -> None:
        super().__init__(target, sock)
        self._rate = target.baud / _BITS_PER_OCTET * _SPEED
        self._credit = float(_CREDIT)
        self._credited_at = self._loop.time()
        self._retry: asyncio.TimerHandle | None = None
        self._first = first
        self._acknowledge()

    def _acknowledge(self) -> None:
        # the kernel falls back to delayed acknowledgements by itself, so this is said again after every piece
        if hasattr(socket, "TCP_QUICKACK"):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def read(self, *, announced: bool) -> bytes:
        """See `Link`."""
        first, self._first = self._first, b""
        data = super().read(announced=announced)
        self._acknowledge()
        return first + data

    def write(self, data: bytes) -> int:
        """See `Link`."""
        now = self._loop.time()
        self._credit = min(_CREDIT, self._credit + (now - self._credited_at) * self._rate)
        self._credited_at = now
        room = min(int(self._credit), _CREDIT - self._unacknowledged(), _WRITE)
        if room <= 0:
            return 0
        taken = super().write(data[:room])
        self._credit -= taken
        return taken

    def _unacknowledged(self) -> int:
        (octets,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, b"\0\0\0\0"))
        return int(octets)

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See `Link`."""
        if self._retry is not None:
            self._retry.cancel()
        # until there is credit for a full write, or, if acknowledgements are what is missing, a little later
        wait = max(_RETRY_SECONDS, (_WRITE - self._credit) / self._rate)
        self._retry = self._loop.call_later(wait, callback)

    async def close(self) -> None:
        """See `Link`."""
        if self._retry is not None:
            self._retry.cancel()
        await super().close()
