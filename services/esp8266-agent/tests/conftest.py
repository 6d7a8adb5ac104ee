"""A driver on a simulated board with a simulated PC behind it."""

import asyncio
import random
import shutil
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from esp8266_agent.board import Board
from pypmi.bus import Bus
from pypmi.config.hardware import Esp8266Hardware
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import Event
from pypmi.power.hardware import Button, HardwareUnreachableError
from pypmi_simulator import Era, SimulatedBoard

sys.path.append(str(Path(__file__).resolve().parents[3] / "shared/tests"))
from virtual_time import JumpingLoop

ERAS = tuple(Era)


@dataclass
class Listener:
    """Notes what a driver reports."""

    reachable: list[tuple[bool, str]] = field(default_factory=list)
    status: list[bool | None] = field(default_factory=list)
    sensors: dict[str, float] = field(default_factory=dict)
    firmware: list[str] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)

    def on_reachable(self, reachable: bool, reason: str = "") -> None:
        self.reachable.append((reachable, reason))

    def on_status(self, on: bool | None) -> None:
        self.status.append(on)

    def on_sensor(self, key: str, value: float) -> None:
        self.sensors[key] = value

    def on_firmware(self, version: str) -> None:
        self.firmware.append(version)

    def on_restart(self, reason: str) -> None:
        self.restarts.append(reason)

    def on_event(self, event: Event) -> None:
        raise AssertionError("boards have no events of their own")

    @property
    def online(self) -> bool:
        return bool(self.reachable) and self.reachable[-1][0]

    @property
    def offline_because(self) -> str:
        return self.reachable[-1][1] if self.reachable and not self.reachable[-1][0] else ""


class Fate(StrEnum):
    """What the wire does to a command and its reply."""

    PASS = "pass"
    LOSE_COMMAND = "lose the command"
    LOSE_REPLY = "lose the reply"
    RESET_BEFORE = "reset the connection instead of passing the command on"
    RESET_AFTER = "reset the connection instead of passing the reply on"


class Wire:
    """A wire between driver and board that can be told what to do to a command. Connections are reset, never closed."""

    def __init__(self, sim: SimulatedBoard) -> None:
        self._sim = sim
        self._pending: tuple[bytes, Fate] | None = None
        self._next_reply = Fate.PASS
        self._client: asyncio.StreamWriter | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1")
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def at(self, command: bytes, fate: Fate) -> None:
        """Do this to the next command that contains `command`."""
        self._pending = (command, fate)

    def reset(self) -> None:
        """Reset the driver's connection now."""
        if self._client is not None:
            _reset(self._client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._client, self._next_reply = writer, Fate.PASS
        try:
            board_reader, board = await asyncio.open_connection(self._sim.host, self._sim.port)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._commands(reader, writer, board))
                group.create_task(self._replies(board_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            _reset(writer)
            _reset(board)

    async def _commands(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, board: Any) -> None:
        while data := await reader.read(4096):
            fate = Fate.PASS
            if self._pending is not None and self._pending[0] in data:
                fate, self._pending = self._pending[1], None
            if fate is Fate.RESET_BEFORE:
                raise ConnectionResetError
            if fate is not Fate.LOSE_COMMAND:
                self._next_reply = fate
                board.write(data)
        raise ConnectionResetError

    async def _replies(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while data := await reader.read(8192):
            fate, self._next_reply = self._next_reply, Fate.PASS
            if fate is Fate.RESET_AFTER:
                raise ConnectionResetError
            if fate is not Fate.LOSE_REPLY:
                client.write(data)
        raise ConnectionResetError


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class Bench:
    """One simulated board, the driver on it, and what the driver said."""

    sim: SimulatedBoard
    wire: Wire
    board: Board
    listener: Listener
    task: asyncio.Task[None]

    async def press(self, seconds: float = 0.3, release: asyncio.Event | None = None, **kwargs: Any) -> None:
        await self.board.press(kwargs.get("button", Button.POWER), seconds, release or asyncio.Event())

    async def try_press(self, seconds: float) -> HardwareUnreachableError | None:
        """Press, and return the error if the board was lost."""
        try:
            await asyncio.wait_for(self.press(seconds), 20)
        except HardwareUnreachableError as error:
            return error
        return None

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
        await until(condition, what, seconds)

    async def online(self) -> None:
        await self.until(lambda: self.listener.online, f"online: {self.listener.reachable[-1:]}")

    @property
    def presses(self) -> list[float]:
        """Durations of the presses that the PC has seen."""
        return [press.duration for press in self.sim.pc.presses]

    @property
    def at_rest(self) -> bool:
        return not self.sim.relay_closed


async def until(condition: Callable[[], bool], what: str, seconds: float = 15.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


def settings_for(port: int, **changes: Any) -> Esp8266Hardware:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": port, "poll_interval": 0.2, "command_timeout": 0.6}
    return Esp8266Hardware.model_validate(values | changes)


@asynccontextmanager
async def _bench(sim: SimulatedBoard, *, wired: bool = False, **changes: Any) -> AsyncIterator[Bench]:
    async with sim, Wire(sim) as wire:
        board = Board(settings_for(wire.port if wired else sim.port, **changes), "node1", rng=random.Random(1))
        listener = Listener()
        task = asyncio.create_task(board.run(listener))
        try:
            yield Bench(sim, wire, board, listener, task)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()


@pytest.fixture(params=ERAS, ids=[era.value for era in ERAS])
def era(request: pytest.FixtureRequest) -> Era:
    value = request.param
    assert isinstance(value, Era)
    return value


BenchFactory = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture
def run_virtual() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine with real sockets in virtual time: faults pass fast, and a busy host is no slow network."""

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=partial(JumpingLoop, grace=0.0001)) as runner:
            runner.run(coroutine)

    return run


@pytest.fixture
def bench() -> BenchFactory:
    """`async with bench(simulated_board, **settings) as it`: starts the board and a driver on it.

    With `wired=True` the driver reaches the board by `it.wire`, which can do things to single commands.
    """
    return _bench


@pytest.fixture
def make_settings() -> Callable[..., Esp8266Hardware]:
    return settings_for


@pytest.fixture
def fate() -> type[Fate]:
    return Fate


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[MqttSettings]:
    """A mosquitto of the test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(program, "-c", str(config), stdout=quiet, stderr=quiet)

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    await until(listening, "broker")
    yield MqttSettings(url=f"mqtt://127.0.0.1:{port}")
    process.terminate()
    await process.wait()


@pytest.fixture
async def bus(broker: MqttSettings) -> AsyncIterator[Bus]:
    """A connection to it, as the service has one."""
    bus = Bus(broker, "esp8266-agent-test")
    task = asyncio.create_task(bus.run())
    await bus.wait_connected()
    yield bus
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
