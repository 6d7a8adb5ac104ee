"""One TCP connection to a board's command port: one command at a time, and an end to it at the first doubt.

A command that waits in a buffer may act late, and a reply that comes late may be taken for that of another command.
So the connection is reset, never closed politely, as soon as anything is not as it should be: a reply that does not
come in time, that does not match, or that nobody asked for. The socket has SO_LINGER 0 from the start: whatever ends
this process, the kernel throws away what is not sent yet.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from math import inf
from typing import Final, Self, TypeVar

from esp8266_agent import packets, protocol
from esp8266_agent.protocol import ReplyError, Request

T = TypeVar("T")

QUIET: Final = 0.1
"""Seconds of silence after a line feed that end a reply of unknown length (reference 1.5)."""
FLASH_EXTRA: Final = 2.5
"""Seconds more for commands that write flash."""
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_PROBES = 10, 5, 3
_TCP_KEEPIDLE: int | None = getattr(socket, "TCP_KEEPIDLE", None)
_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class LinkError(Exception):
    """The connection could not be made or is over. `sent`: the command may have reached the board."""

    def __init__(self, message: str, *, sent: bool = False, reset: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.reset = reset
        """The board reset the connection: it restarted, or another program took over (reference 1.2)."""


class CommandLink(asyncio.Protocol):
    """A connection to a command port. Made by `open`; over for good after the first error."""

    def __init__(self, command_timeout: float) -> None:
        self._timeout = command_timeout
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._lock = asyncio.Lock()
        self._waiter: asyncio.Future[bytes] | None = None
        self._ends: Callable[[bytes], bool] | None = None
        self._buffer = b""
        self._ends_quietly = False
        self._quiet: asyncio.TimerHandle | None = None
        self._error: LinkError | None = None
        self._pausing: asyncio.Future[None] | None = None
        self.sent_at = 0.0
        """Loop time at which the last command was handed to the kernel."""
        self.round_trip = command_timeout
        """Seconds: the shortest time between a command and its reply on this connection so far."""

    @classmethod
    async def open(cls, host: str, port: int, *, connect_timeout: float, command_timeout: float) -> Self:
        """Connect. Raises `LinkError`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_timeout):
                _, link = await loop.create_connection(lambda: cls(command_timeout), host, port)
        except TimeoutError:
            raise LinkError(f"no connection to {host}:{port} within {connect_timeout:g} s") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise LinkError(f"no connection to {host}:{port}: {reason}") from None
        return link

    # -- asyncio's side --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up so that nothing waits in it, and nothing in it outlives us."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes no other
        self._transport = transport
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if _TCP_KEEPIDLE is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_KEEPIDLE, _KEEPALIVE_IDLE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
        if _TCP_USER_TIMEOUT is not None:
            # also when this process hangs or is stopped, the kernel gives up on a segment and does not send it late
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, max(int(self._timeout * 1000), 500))

    def data_received(self, data: bytes) -> None:
        """Collect the reply; octets that nobody waits for end the connection."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.abort("the board sent something that was not asked for")
            return
        self._buffer += data
        if len(self._buffer) > protocol.MAX_REPLY:
            self.abort("the board's answer is longer than any that it can give")
        elif self._ends is not None and self._ends(self._buffer):
            waiter.set_result(self._buffer)
        elif self._ends_quietly:
            self._cancel_quiet()
            self._quiet = self._loop.call_later(QUIET, self._on_quiet)

    def _cancel_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None

    def _on_quiet(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(self._buffer)

    def eof_received(self) -> None:
        """The board closes: after a restart command, or for reasons of its own."""
        self._end(LinkError("the board closed the connection", sent=True))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        reset = isinstance(exc, ConnectionResetError | BrokenPipeError)
        text = "the board reset the connection" if reset else f"the connection is lost: {exc or 'closed'}"
        self._end(LinkError(text, sent=True, reset=reset))

    def _end(self, error: LinkError) -> None:
        if self._error is not None:
            return
        self._error = error
        self._cancel_quiet()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # -- our side --------------------------------------------------------------------------------------------------

    @property
    def error(self) -> LinkError | None:
        """Why the connection is over; None while it is not."""
        return self._error

    async def wait_lost(self, seconds: float) -> None:
        """Wait for so long, for one task at a time. Raises the `LinkError` as soon as the connection is over."""
        if self._error is None:
            self._pausing = self._loop.create_future()
            timer = self._loop.call_later(seconds, self._wake)
            try:
                await self._pausing
            finally:
                timer.cancel()
                self._pausing = None
        if self._error is not None:
            raise self._error

    def _wake(self) -> None:
        if self._pausing is not None and not self._pausing.done():
            self._pausing.set_result(None)

    def abort(self, reason: str) -> None:
        """Reset the connection now; nothing that is buffered on this side is sent any more."""
        self._end(LinkError(reason, sent=True))

    async def exchange(
        self,
        octets: bytes,
        ends: Callable[[bytes], bool] | None,
        timeout: float,
        *,
        quiet: bool = False,
        send_by: float = inf,
    ) -> bytes:
        """Send one segment and return the whole reply. Raises `LinkError`; after it the link is over.

        The reply ends where `ends` says, and, with `quiet` or without `ends`, when the line is quiet. After loop time
        `send_by` nothing is sent any more (then the link goes on).
        A caller that is cancelled in the middle ends the link, too: nobody would read the reply.
        """
        async with self._lock:
            if self._error is not None or self._transport is None:
                raise LinkError(str(self._error or "not connected"))
            if self._loop.time() > send_by:
                raise LinkError("too late to send it")
            waiter: asyncio.Future[bytes] = self._loop.create_future()
            self._waiter, self._ends, self._buffer = waiter, ends, b""
            self._ends_quietly = quiet or ends is None
            timer = self._loop.call_later(timeout, lambda: self.abort(f"no answer within {timeout:.2g} s"))
            self.sent_at = sent_at = self._loop.time()
            self._transport.write(octets)
            try:
                reply = await waiter
            except asyncio.CancelledError:
                self.abort("given up in the middle of a command")
                raise
            finally:
                timer.cancel()
                self._cancel_quiet()
                self._waiter = None
            if ends is not None:
                self.round_trip = min(self.round_trip, self._loop.time() - sent_at)
            return reply

    async def ask(self, request: Request[T], *, timeout: float | None = None, send_by: float = inf) -> T:
        """Send a command, return what its reply says. Raises `LinkError`, `ReplyError`; after either the link is over.

        Only after `RefusedError`, a reply that is well understood, the link goes on.
        """
        if timeout is None:
            timeout = self._timeout + (FLASH_EXTRA if request.writes_flash else 0.0)
        reply = await self.exchange(request.encode(), request.ends, timeout, send_by=send_by)
        return self._read(request, reply)

    async def ask_once(self, request: Request[T], transaction: int, *, timeout: float | None = None) -> T:
        """As `ask`, in packet mode: the board acts on a transaction id at most once (and is silent the second time)."""
        octets = packets.encode_packet(request.text, transaction)
        reply = await self.exchange(octets, packets.packet_ends, timeout if timeout is not None else self._timeout)
        try:
            text = packets.decode_packet(reply, transaction)
        except ReplyError as error:
            self.abort(str(error))
            raise
        return self._read(request, text)

    def _read(self, request: Request[T], reply: bytes) -> T:
        try:
            return request.read(reply)
        except protocol.RefusedError:
            raise
        except ReplyError as error:
            self.abort(str(error))
            raise

    async def resync(self) -> None:
        """Clear what an earlier connection may have left in the board's buffer (reference 1.4). Raises as `ask`."""
        for _ in range(2):
            reply = await self.exchange(
                protocol.RESYNC, lambda got: got == protocol.EMPTY_REPLY, self._timeout, quiet=True
            )
            if reply == protocol.EMPTY_REPLY:
                return
        message = "the board does not answer an empty line as the Universal I/O bridge does"
        self.abort(message)
        raise ReplyError(message)

    async def restart_board(self) -> None:
        """Restart the board and end the link. Raises as `ask`.

        The board restarts when the client has closed properly (reference 2.2), so this one time the socket does.
        """
        if self._transport is not None:
            sock: socket.socket = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        await self.ask(protocol.RESET)
        self.abort("the board is restarting")
