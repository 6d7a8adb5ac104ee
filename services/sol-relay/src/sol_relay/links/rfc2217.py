"""A serial port behind an RFC 2217 server, such as ser2net: line settings and breaks travel in-band."""

import asyncio
import logging
import socket
from collections.abc import Callable

from sol_relay.links.base import LinkError
from sol_relay.links.target import PortTarget
from sol_relay.links.tcp import TcpLink, connect
from sol_relay.links.telnet import Control, TelnetComPort

logger = logging.getLogger(__name__)

_NEGOTIATION_SECONDS = 5.0
_READ = 65_536
_WRITE = 4096
_SUSPENDED_RETRY = 0.05


async def open_rfc2217(target: PortTarget) -> "Rfc2217Link":
    """Connect, negotiate, set the line. Raises `LinkError`."""
    sock = await connect(target)
    loop = asyncio.get_running_loop()
    telnet = TelnetComPort(target)
    first = bytearray()
    try:
        async with asyncio.timeout(_NEGOTIATION_SECONDS):
            while True:
                await loop.sock_sendall(sock, bytes(telnet.outgoing))
                telnet.outgoing.clear()
                if telnet.ready:
                    return Rfc2217Link(target, sock, telnet, bytes(first))
                raw = await loop.sock_recv(sock, _READ)
                if not raw:
                    raise LinkError(f"{target} closed the connection at once (port in use?)")
                first += telnet.receive(raw)
    except TimeoutError:
        sock.close()
        raise LinkError(f"{target} does not answer RFC 2217; is it a raw port (type tcp)?") from None
    except OSError as error:
        sock.close()
        raise LinkError(f"connection to {target} lost: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise


class Rfc2217Link(TcpLink):
    """An open port."""

    can_break = True

    def __init__(self, target: PortTarget, sock: socket.socket, telnet: TelnetComPort, first: bytes) -> None:
        super().__init__(target, sock)
        self._telnet = telnet
        self._first = first
        self._complained = 0

    def read(self, *, announced: bool) -> bytes:
        """See `Link`."""
        first, self._first = self._first, b""
        data = self._telnet.receive(super().read(announced=announced))
        self._flush()
        for complaint in self._telnet.complaints[self._complained :]:
            logger.warning("%s: %s", self._target, complaint)
        self._complained = len(self._telnet.complaints)
        return first + data

    def write(self, data: bytes) -> int:
        """See `Link`."""
        if self._telnet.suspended or not self._flush():
            return 0
        taken = data[:_WRITE]
        self._telnet.outgoing += self._telnet.escape(taken)
        self._flush()
        return len(taken)

    def _flush(self) -> bool:
        """Send what waits; return whether all of it went."""
        outgoing = self._telnet.outgoing
        if outgoing:
            del outgoing[: super().write(bytes(outgoing))]
            if outgoing:
                super().on_writable(self._flush_on)
        return not outgoing

    def _flush_on(self) -> None:
        self._flush()

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See `Link`."""

        def ready() -> None:
            self._flush()
            callback()

        if self._telnet.suspended:
            self._loop.call_later(_SUSPENDED_RETRY, callback)
        else:
            super().on_writable(ready)

    def set_break(self, on: bool) -> None:
        """See `Link`."""
        self._telnet.control(Control.BREAK_ON if on else Control.BREAK_OFF)
        self._flush()
