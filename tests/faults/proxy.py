"""Proxies that stand between two processes and spoil what goes through: TCP and UDP, on the loopback interface.

A `Weather` says what happens to everything that passes from now on. TCP bytes are never lost or reordered one by one:
TCP would repair that; what reaches a program is delay, so a lossy line is one whose bytes come late, now and then by a
second, as retransmissions do.
"""

import asyncio
import contextlib
import enum
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_CHUNK = 65536
_CLIENTS = 64
"""Clients of a UDP proxy whose answers find their way; each run of ipmitool is one."""


class Line(enum.Enum):
    """State of a line."""

    UP = "up"
    CUT = "cut"
    """TCP: connections are reset, new ones refused. UDP: everything is dropped."""
    SILENT = "silent"
    """Nothing passes in either direction. TCP connections stay open, new ones are taken and never answered."""


@dataclass(frozen=True)
class Weather:
    """What a line does. Chances are between 0 and 1, times are seconds."""

    line: Line = Line.UP
    delay: float = 0.0
    """Everything comes later by this; twice that at the most."""
    loss: float = 0.0
    """UDP: chance of a loss. TCP: chance that a piece waits for `retransmission`."""
    retransmission: float = 1.0
    duplication: float = 0.0
    """UDP only."""
    reordering: float = 0.0
    """UDP only: chance that a datagram is held back behind the following ones."""


CLEAR = Weather()


class TcpProxy:
    """Forwards connections to `port` to `target`. All calls belong into its event loop."""

    def __init__(self, target: int, rng: random.Random) -> None:
        self.target = target
        self.weather = CLEAR
        self.port = 0
        self._rng = rng
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen on a free port."""
        await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        connection.task = asyncio.ensure_future(connection.run())
        connection.task.add_done_callback(lambda _: self._connections.discard(connection))

    async def set(self, weather: Weather) -> None:
        """Change the weather."""
        was, self.weather = self.weather, weather
        if weather.line is Line.CUT:
            await self._stop_listening()
            self.reset()
        elif was.line is Line.CUT:
            await self._listen()
        for connection in tuple(self._connections):
            connection.moved.set()

    def reset(self) -> None:
        """End all connections as a peer does that knows nothing of them (RST)."""
        for connection in tuple(self._connections):
            connection.abort()

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """End everything."""
        await self._stop_listening()
        self.reset()
        for connection in tuple(self._connections):
            with contextlib.suppress(asyncio.CancelledError):
                await connection.task


class _Connection:
    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.moved = asyncio.Event()
        """The weather has changed."""
        self.task: asyncio.Future[None]
        self._reader, self._writer = reader, writer
        self._far: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._passable()
            far_reader, self._far = await asyncio.open_connection("127.0.0.1", self.proxy.target)
            for writer in (self._writer, self._far):
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = [
                asyncio.ensure_future(self._forward(self._reader, self._far)),
                asyncio.ensure_future(self._forward(far_reader, self._writer)),
            ]
            try:
                await asyncio.gather(*ways)
            finally:
                for way in ways:
                    way.cancel()
        self._reset()

    async def _passable(self) -> None:
        while self.proxy.weather.line is not Line.UP:
            self.moved.clear()
            await self.moved.wait()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pieces in their order, each late by what the weather then wants. A reset throws away what is on its way."""
        loop = asyncio.get_running_loop()
        waiting: deque[tuple[float, bytes]] = deque()
        news = asyncio.Event()

        async def deliver() -> None:
            while True:
                while not waiting:
                    news.clear()
                    await news.wait()
                when, data = waiting[0]
                await asyncio.sleep(max(when - loop.time(), 0))
                await self._passable()
                waiting.popleft()
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()

        delivery = asyncio.ensure_future(deliver())
        try:
            data = b"-"
            while data:
                data = await reader.read(_CHUNK)
                weather = self.proxy.weather
                late = weather.delay * (1 + self.proxy._rng.random())
                if self.proxy._rng.random() < weather.loss:
                    late += weather.retransmission
                earliest = waiting[-1][0] if waiting else 0.0
                waiting.append((max(loop.time() + late, earliest), data))
                news.set()
            await delivery
        finally:
            delivery.cancel()

    def abort(self) -> None:
        """Reset both sides."""
        self.task.cancel()
        self._reset()

    def _reset(self) -> None:
        for writer in (self._writer, self._far):
            if writer is not None:
                with contextlib.suppress(OSError):
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()


class UdpProxy:
    """Forwards datagrams to `port` to `target`, from a socket of its own for each client, and the answers back."""

    def __init__(self, target: int, rng: random.Random) -> None:
        self.target = target
        self.weather = CLEAR
        self.port = 0
        self._rng = rng
        self._near: asyncio.DatagramTransport | None = None
        self._far: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._held: dict[object, tuple[asyncio.DatagramTransport, bytes, tuple[str, int] | None]] = {}
        self._sending: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Bind a free port."""
        loop = asyncio.get_running_loop()
        self._near, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._from_client), local_addr=("127.0.0.1", self.port)
        )
        self.port = self._near.get_extra_info("sockname")[1]

    async def set(self, weather: Weather) -> None:
        """Change the weather."""
        self.weather = weather

    def reset(self) -> None:
        """There are no connections to reset."""

    async def close(self) -> None:
        """Close all sockets."""
        for task in tuple(self._sending):
            task.cancel()
        for transport in (self._near, *self._far.values()):
            if transport is not None:
                transport.close()

    def _from_client(self, data: bytes, client: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._to_server(data, client))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _to_server(self, data: bytes, client: tuple[str, int]) -> None:
        far = self._far.get(client)
        if far is None:
            loop = asyncio.get_running_loop()
            far, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(lambda answer, _: self._pass(answer, self._near, client)),
                remote_addr=("127.0.0.1", self.target),
            )
            self._far[client] = far
            while len(self._far) > _CLIENTS:
                self._far.pop(next(iter(self._far))).close()
        self._pass(data, far, None)

    def _pass(self, data: bytes, to: asyncio.DatagramTransport | None, address: tuple[str, int] | None) -> None:
        weather, rng = self.weather, self._rng
        if to is None or weather.line is not Line.UP or rng.random() < weather.loss:
            return
        key = (id(to), address)
        held = self._held.pop(key, None)
        if held is None and rng.random() < weather.reordering:
            self._held[key] = (to, data, address)
            return
        for _ in range(2 if rng.random() < weather.duplication else 1):
            self._send(to, data, address)
        if held is not None:
            self._send(*held)

    def _send(self, to: asyncio.DatagramTransport, data: bytes, address: tuple[str, int] | None) -> None:
        late = self.weather.delay * (1 + self._rng.random())
        loop = asyncio.get_running_loop()
        loop.call_later(late, lambda: None if to.is_closing() else to.sendto(data, address))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        """A port that is not there just now: as good as a loss."""


Proxy = TcpProxy | UdpProxy
