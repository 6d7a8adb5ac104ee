"""Two rigs with the same wires, one for each back end, and a listener that keeps what a driver tells."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import ModuleType

import fake_gpiod
import fake_rpi_gpio
import pytest
from pypmi.config.hardware import GpioHardware
from pypmi.contract import Event
from rpi_gpio_agent import gpiod_lines
from rpi_gpio_agent.driver import GpioDriver

POWER, RESET, NMI, IDENTIFY, STATUS = 17, 27, 22, 5, 23


class Rig:
    """Stand-in hardware with a power button (active high), a reset button (active low), a light and a status input."""

    name: str
    module: ModuleType

    def settings(self, **changes: object) -> GpioHardware:
        return GpioHardware.model_validate(
            {
                "type": "gpio",
                "backend": self.name,
                "power_button": {"line": POWER},
                "reset_button": {"line": RESET, "active": "low"},
                "identify_led": {"line": IDENTIFY},
                "status": {"line": STATUS},
                **changes,
            }
        )

    def level(self, line: int) -> bool:
        raise AssertionError

    def history(self, line: int) -> list[tuple[float, bool]]:
        raise AssertionError

    def set_status(self, level: bool) -> None:
        raise AssertionError

    def levels(self, line: int) -> list[bool]:
        return [level for _, level in self.history(line)]


class GpiodRig(Rig):
    name = "gpiod"
    module = fake_gpiod

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dev: Path) -> None:
        fake_gpiod.install(monkeypatch)
        monkeypatch.setattr(gpiod_lines, "DEVICES", dev)
        self.dev = dev
        self.board = self.plug("gpiochip0", "pinctrl-bcm2711")
        self.plug("gpiochip1", "raspberrypi-exp-gpio")

    def plug(self, name: str, label: str) -> fake_gpiod.Board:
        (self.dev / name).touch()
        board = fake_gpiod.Board(str(self.dev / name), label)
        fake_gpiod.boards[board.path] = board
        return board

    def level(self, line: int) -> bool:
        return bool(self.board.wires[line].level)

    def history(self, line: int) -> list[tuple[float, bool]]:
        return list(self.board.wires[line].history)

    def set_status(self, level: bool) -> None:
        self.board.set_input(STATUS, level)


class RpiGpioRig(Rig):
    name = "rpi-gpio"
    module = fake_rpi_gpio

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_rpi_gpio.install(monkeypatch)

    def level(self, line: int) -> bool:
        return bool(fake_rpi_gpio.levels.get(line, False))

    def history(self, line: int) -> list[tuple[float, bool]]:
        return list(fake_rpi_gpio.history.get(line, []))

    def set_status(self, level: bool) -> None:
        fake_rpi_gpio.set_input(STATUS, level)


class Seen:
    """A `HardwareListener` that keeps what it is told."""

    def __init__(self) -> None:
        self.reachable: list[tuple[bool, str]] = []
        self.status: list[bool | None] = []
        self.firmware: list[str] = []

    def on_reachable(self, reachable: bool, reason: str = "") -> None:
        self.reachable.append((reachable, reason))

    def on_status(self, on: bool | None) -> None:
        self.status.append(on)

    def on_sensor(self, key: str, value: float) -> None:
        raise AssertionError

    def on_firmware(self, version: str) -> None:
        self.firmware.append(version)

    def on_restart(self, reason: str) -> None:
        raise AssertionError

    def on_event(self, event: Event) -> None:
        raise AssertionError


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(driver: GpioDriver) -> AsyncIterator[Seen]:
    seen = Seen()
    task = asyncio.create_task(driver.run(seen))
    try:
        await until(lambda: bool(seen.reachable))
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
