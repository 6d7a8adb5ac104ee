"""A device without a network, and a client that sees what is on the wire."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from pypmi_simulator.board import SimulatedBoard
from pypmi_simulator.eras import TRAITS, Era
from pypmi_simulator.firmware import Firmware, Outcome
from pypmi_simulator.framing import Framer
from pypmi_simulator.pins import Edge, PinBank
from pypmi_simulator.provisioning import blank_store, provisioned_store
from pypmi_simulator.store import Store

TIMEOUT = 10.0


@dataclass
class Device:
    """Firmware, framing and pins, with a clock that the test turns."""

    era: Era
    store: Store
    now: float = 1000.0
    firmware: Firmware = field(init=False)
    framer: Framer = field(init=False)

    def __post_init__(self) -> None:
        self.pins = PinBank(TRAITS[self.era])
        self.firmware = Firmware(self.era, self.store, self.pins)
        self.reboot("power on")

    def reboot(self, cause: str = "user reset") -> None:
        self.framer = Framer(TRAITS[self.era])
        self.firmware.boot(self.now, cause=cause)

    def outcome(self, text: str) -> Outcome:
        request = self.framer.segment(text.encode("latin-1") + b"\r\n", self.now)
        assert request is not None
        return self.firmware.execute(request.line, self.now)

    def __call__(self, text: str) -> str:
        """The reply to one command that comes with a line end."""
        return self.outcome(text).reply.decode("latin-1")

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.firmware.advance(self.now)

    def level(self, pin: int = 0) -> bool:
        return self.pins.level(pin, self.now)

    def edges(self, pin: int = 0, *, longer_than: float = 1e-4) -> list[Edge]:
        """The recorded edges of a pin, without the lows of microseconds that no relay follows."""
        edges = [edge for edge in self.pins.edges if edge.pin == pin]
        kept: list[Edge] = []
        for edge in edges:
            if kept and edge.time - kept[-1].time <= longer_than:
                kept.pop()
            else:
                kept.append(edge)
        return kept


@pytest.fixture
def blank() -> Callable[[Era], Device]:
    return lambda era: Device(era, blank_store(era))


@pytest.fixture
def ready() -> Callable[[Era], Device]:
    return lambda era: Device(era, provisioned_store(era, identification="pc1"))


@dataclass
class Client:
    """A raw TCP client of a board."""

    sock: socket.socket

    @classmethod
    async def open(cls, port: int, host: str = "127.0.0.1") -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, (host, port)), TIMEOUT)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def recv(self, timeout: float = TIMEOUT) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65536), timeout)

    async def ask(self, command: str) -> str:
        await self.send(command.encode("latin-1") + b"\r\n")
        return (await self.recv()).decode("latin-1")

    async def recv_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self.recv()
            assert piece, f"closed after {len(data)} of {size} bytes"
            data += piece
        return data

    async def silent(self, seconds: float = 0.15) -> bool:
        try:
            data = await self.recv(seconds)
        except TimeoutError:
            return True
        return data == b"?"  # anything else, an end included, is not silence

    async def expect_reset(self) -> None:
        with pytest.raises(ConnectionResetError):
            await self._read_to_the_end()

    async def _read_to_the_end(self) -> None:
        while await self.recv():
            pass

    def close(self) -> None:
        self.sock.close()

    def abort(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


@pytest.fixture
def connect():
    clients: list[Client] = []

    async def open_client(board: SimulatedBoard, *, bridge: bool = False) -> Client:
        client = await Client.open(board.bridge_port if bridge else board.port, board.host)
        clients.append(client)
        return client

    yield open_client
    for client in clients:
        client.close()


async def eventually(condition: Callable[[], bool], timeout: float = TIMEOUT) -> None:
    """Waits until something is true."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually
