"""The socket between the broker and two who use it: paho, and the link, which takes the bulk of the traffic past paho.

What paho sends is put behind what the link has written, and goes out in that order, in as few calls as possible. What
comes in, the link reads; it hands paho the packets that are paho's.
"""

import contextlib
import socket
import ssl
from typing import Any

_READ_SIZE = 65_536
"""Octets read in one go: what is handled before other tasks get their turn."""
_WRITE_SIZE = 262_144
"""Octets offered to the system in one go."""


class Channel:
    """To paho a socket, to the link two buffers. `raw` is a TCP or TLS socket, or paho's WebSocket."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self._for_paho = b""
        self._unsent = bytearray()
        self._closed = False

    # -- the link's side -------------------------------------------------------------------------------------------

    def receive(self) -> bytes | None:
        """What has come; None when there is nothing now, b"" when the broker has hung up. Raises OSError."""
        try:
            data: bytes = self.raw.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        return data

    def has_more(self) -> bool:
        """Octets are there that select() does not see: TLS has decrypted them already."""
        pending = getattr(self.raw, "pending", None)
        return pending is not None and pending() > 0

    def hand_over(self, packet: bytes) -> None:
        """Give paho a packet; it takes it at its next `recv`."""
        self._for_paho += packet

    def write(self, packet: bytes) -> None:
        """Put a packet behind all that is to be sent."""
        self._unsent += packet

    @property
    def unsent(self) -> int:
        """Octets that the system has not taken yet."""
        return len(self._unsent)

    def flush(self) -> bool:
        """Send as much as goes; False when something is left. Raises OSError."""
        while self._unsent:
            # paho's WebSocket says 0 for a frame that went in part, and wants to be called again
            try:
                sent = self.raw.send(self._unsent[:_WRITE_SIZE])
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            if not sent:
                return False
            del self._unsent[:sent]
        return True

    def acknowledge(self) -> None:
        """Let the kernel acknowledge now what has come (it falls back to waiting 40 ms by itself, so again each time).

        A broker without TCP_NODELAY (Mosquitto's default) holds its next small message until then.
        """
        if isinstance(self.raw, socket.socket) and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):  # closed meanwhile; noticed by the next read
                self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def send_at_once(self) -> None:
        """Switch Nagle's algorithm off: with it a QoS 1 message takes 40 ms."""
        if isinstance(self.raw, socket.socket):
            self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # -- paho's side -----------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """As a non-blocking socket, of what was handed over."""
        if not self._for_paho:
            raise BlockingIOError
        data, self._for_paho = self._for_paho[:size], self._for_paho[size:]
        return data

    def send(self, data: bytes) -> int:
        """As a socket that always has room."""
        self._unsent += data
        return len(data)

    def setblocking(self, flag: bool) -> None:
        """As a socket."""
        self.raw.setblocking(flag)

    def fileno(self) -> int:
        """As a socket."""
        number: int = self.raw.fileno()
        return number

    def close(self) -> None:
        """As a socket; more than once does nothing."""
        if not self._closed:
            self._closed = True
            self.raw.close()
