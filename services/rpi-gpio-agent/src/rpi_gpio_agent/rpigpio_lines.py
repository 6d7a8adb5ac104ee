"""Lines through the RPi.GPIO module: RPi.GPIO itself (Pi 1 to 4) or rpi-lgpio, which has the same API (Pi 5).

RPi.GPIO writes the processor's registers: when the process is killed, a pin stays as it was. So an output is let go
by writing the inactive level, and it is left driven at that level on exit; a new start writes it first of all.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import ModuleType

from pypmi.config.hardware import GpioLine, GpioStatus

from rpi_gpio_agent.lines import EXTRAS_HINT, Line, LineError, OutputLine

log = logging.getLogger(__name__)


def _import_rpi_gpio() -> ModuleType:
    try:
        from RPi import GPIO
    except ImportError as error:
        raise LineError(f"cannot import RPi.GPIO ({error}); {EXTRAS_HINT}") from None
    except RuntimeError as error:
        # What both packages raise away from a Pi, and RPi.GPIO on a Pi 5.
        raise LineError(f"RPi.GPIO does not work here: {error} On a Pi 5 use the extra rpi-lgpio or gpiod") from None
    return GPIO


def _number(line: int | str) -> int:
    try:
        return int(line)
    except ValueError:
        raise LineError(f"line {line!r}: RPi.GPIO takes BCM numbers; names work with backend: gpiod") from None


class _OutputLine:
    """An output. RPi.GPIO's single calls may come from any thread."""

    def __init__(self, gpio: ModuleType, line: GpioLine) -> None:
        self._gpio = gpio
        self._pin = _number(line.line)
        self._active_low = line.active == "low"
        self._closed = False
        try:
            # Both packages set the level before they turn the pin into an output.
            gpio.setup(self._pin, gpio.OUT, initial=self._level(False))
        except (RuntimeError, ValueError) as error:
            raise LineError(f"GPIO {self._pin}: {error}") from None

    def _level(self, active: bool) -> int:
        return int(active != self._active_low)

    def read(self) -> bool:
        try:
            return bool(self._gpio.input(self._pin)) != self._active_low
        except RuntimeError as error:
            raise LineError(f"GPIO {self._pin}: {error}") from None

    def write(self, active: bool) -> None:
        if self._closed:
            return
        try:
            self._gpio.output(self._pin, self._level(active))
        except RuntimeError as error:
            raise LineError(f"GPIO {self._pin}: {error}") from None

    def close(self) -> None:
        try:
            self.write(False)
        except LineError as error:
            log.warning("letting go: %s", error)
        self._closed = True


class _InputLine:
    """An input. Edges are told by a thread of the library's and handed over to the event loop."""

    def __init__(self, gpio: ModuleType, status: GpioStatus, on_edge: Callable[[], None]) -> None:
        self._gpio = gpio
        self._pin = _number(status.line)
        self._active_low = status.active == "low"
        self._on_edge = on_edge
        self._loop = asyncio.get_running_loop()
        self._closed = False
        pull = {"none": gpio.PUD_OFF, "pull-up": gpio.PUD_UP, "pull-down": gpio.PUD_DOWN}[status.bias]
        try:
            gpio.setup(self._pin, gpio.IN, pull_up_down=pull)
        except (RuntimeError, ValueError) as error:
            raise LineError(f"GPIO {self._pin}: {error}") from None
        try:
            gpio.add_event_detect(self._pin, gpio.BOTH, callback=self._from_thread)
        except RuntimeError as error:
            # RPi.GPIO needs the old /sys/class/gpio for edges, which newer kernels number differently or lack.
            log.warning("GPIO %d: no edge detection (%s); the status is polled instead", self._pin, error)

    def _from_thread(self, _channel: int) -> None:
        try:
            self._loop.call_soon_threadsafe(self._edge)
        except RuntimeError:
            log.debug("GPIO %d: edge after the event loop had ended", self._pin)

    def _edge(self) -> None:
        if not self._closed:
            self._on_edge()

    def read(self) -> bool:
        if self._closed:
            raise LineError(f"GPIO {self._pin}: closed")
        try:
            return bool(self._gpio.input(self._pin)) != self._active_low
        except RuntimeError as error:
            raise LineError(f"GPIO {self._pin}: {error}") from None

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with contextlib.suppress(RuntimeError):
                self._gpio.remove_event_detect(self._pin)
                self._gpio.cleanup(self._pin)


class RpiGpioBackend:
    """RPi.GPIO by BCM numbers. Raises `LineError` when the package is missing or does not run here."""

    def __init__(self) -> None:
        self._gpio = _import_rpi_gpio()
        # It warns of outputs that an earlier run has left driven, which here is as it should be.
        self._gpio.setwarnings(False)
        try:
            self._gpio.setmode(self._gpio.BCM)
        except (RuntimeError, ValueError) as error:
            raise LineError(f"RPi.GPIO: {error}") from None
        self.version = f"RPi.GPIO {self._gpio.VERSION}"

    def output(self, line: GpioLine) -> OutputLine:
        """Set a pin up as an output, inactive from the first moment. Raises `LineError`."""
        return _OutputLine(self._gpio, line)

    def input(self, status: GpioStatus, on_edge: Callable[[], None]) -> Line:
        """Set a pin up as an input with edge detection. Raises `LineError`."""
        return _InputLine(self._gpio, status, on_edge)
