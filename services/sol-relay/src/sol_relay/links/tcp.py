"""Raw TCP: the serial line's octets and nothing else, as ser2net's raw mode and many console servers speak it."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

from sol_relay.links.base import LinkBreakError, LinkError
from sol_relay.links.target import PortTarget

_CONNECT_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_READ = 65_536
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A peer that vanished without a word is noticed within 30 s."""
_USER_TIMEOUT_MS = 20_000
"""The same for octets on the way to it."""


async def connect(target: PortTarget, *, max_segment: int | None = None) -> socket.socket:
    """Connect to the target. `max_segment` limits the TCP segments sent, in octets. Raises `LinkError`."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            failure: OSError | None = None
            for family, kind, protocol, _, address in found:
                sock = socket.socket(family, kind, protocol)
                try:
                    sock.setblocking(False)
                    _set_options(sock, max_segment)
                    await loop.sock_connect(sock, address)
                except OSError as error:
                    sock.close()
                    failure = error
                except BaseException:
                    sock.close()
                    raise
                else:
                    return sock
    except TimeoutError:
        raise LinkError(f"{target} does not answer") from None
    except OSError as error:
        raise LinkError(f"cannot resolve {target.host}: {error.strerror or error}") from None
    raise LinkError(f"cannot connect to {target}: {failure.strerror if failure else 'no address'}")


def _set_options(sock: socket.socket, max_segment: int | None) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    if max_segment is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, max_segment)


async def open_tcp(target: PortTarget) -> "TcpLink":
    """Connect to a raw TCP console."""
    return TcpLink(target, await connect(target))


class TcpLink:
    """An open connection."""

    polled = True
    can_wait = True
    can_break = False

    def __init__(self, target: PortTarget, sock: socket.socket) -> None:
        self._target = target
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    def read(self, *, announced: bool) -> bytes:  # noqa: ARG002 - a closed connection shows without it
        """See `Link`."""
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost(error) from None
        if not data:
            raise LinkError(f"{self._target} closed the connection")
        return data

    def _lost(self, error: OSError) -> LinkError:
        if isinstance(error, ConnectionResetError):
            return LinkError(f"{self._target} reset the connection (restarted, or somebody else took it over)")
        return LinkError(f"connection to {self._target} lost: {error.strerror or error}")

    def arm(self, on_readable: Callable[[], None]) -> None:
        """See `Link`."""
        self._loop.add_reader(self._sock, on_readable)

    def disarm(self) -> None:
        """See `Link`."""
        self._loop.remove_reader(self._sock)

    def write(self, data: bytes) -> int:
        """See `Link`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._lost(error) from None

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See `Link`."""

        def ready() -> None:
            self._loop.remove_writer(self._sock)
            callback()

        self._loop.add_writer(self._sock, ready)

    def set_break(self, on: bool) -> None:  # noqa: ARG002
        """See `Link`."""
        raise LinkBreakError("a raw TCP console has no way to carry a break; RFC 2217 has (type rfc2217)")

    async def close(self) -> None:
        """See `Link`."""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        await close_cleanly(self._sock)


async def close_cleanly(sock: socket.socket, *, seconds: float = _CLOSE_SECONDS) -> bytes:
    """Send FIN, read until the other side's FIN, close. Returns what was read; never raises.

    A connection closed with unread octets in it ends with a reset, which mutes the ESP8266 bridge (reference 8.3).
    """
    loop = asyncio.get_running_loop()
    rest = bytearray()
    with suppress(OSError, TimeoutError):
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(seconds):
            while data := await loop.sock_recv(sock, _READ):
                rest += data
                if len(rest) > _READ:
                    del rest[:-_READ]
    sock.close()
    return bytes(rest)
