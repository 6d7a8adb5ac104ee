"""A driver on a simulated board with a simulated PC behind it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from esp8266_agent.board import Board
from pypmi.config.hardware import Esp8266Hardware
from pypmi.contract import Event
from pypmi.power.hardware import Button, HardwareUnreachableError
from pypmi_simulator import Era, SimulatedBoard

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


@dataclass
class Bench:
    """One simulated board, the driver on it, and what the driver said."""

    sim: SimulatedBoard
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

    def at_command(self, start: bytes, action: Callable[[], object]) -> None:
        """Call `action` when the next command that begins with `start` has arrived, before it is executed."""
        begin = self.sim._begin

        def hooked(request: Any) -> None:
            if request.line.text.startswith(start):
                self.sim._begin = begin  # type: ignore[method-assign]
                action()
            begin(request)

        self.sim._begin = hooked  # type: ignore[method-assign]

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
        await asyncio.sleep(0.01)


def settings_for(sim: SimulatedBoard, **changes: Any) -> Esp8266Hardware:
    values: dict[str, Any] = {"host": sim.host, "port": sim.port, "poll_interval": 0.2, "command_timeout": 0.6}
    return Esp8266Hardware.model_validate(values | changes)


@asynccontextmanager
async def _bench(sim: SimulatedBoard, **changes: Any) -> AsyncIterator[Bench]:
    async with sim:
        board = Board(settings_for(sim, **changes), "node1", rng=random.Random(1))
        listener = Listener()
        task = asyncio.create_task(board.run(listener))
        try:
            yield Bench(sim, board, listener, task)
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
def bench() -> BenchFactory:
    """`async with bench(simulated_board, **settings) as it`: starts the board and a driver on it."""
    return _bench


@pytest.fixture
def make_settings() -> Callable[..., Esp8266Hardware]:
    return settings_for


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    return until
