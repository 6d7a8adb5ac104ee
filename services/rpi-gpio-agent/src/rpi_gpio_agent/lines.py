"""GPIO lines as the driver needs them, whatever library works them: one small protocol, and which back end to take."""

import importlib.util
import logging
from collections.abc import Callable
from typing import Protocol

from pypmi.config.hardware import GpioHardware, GpioLine, GpioStatus

log = logging.getLogger(__name__)

EXTRAS_HINT = (
    "install one of this package's extras on the Pi: pip install 'pypmi-rpi-gpio-agent[gpiod]' (any Pi), "
    "'pypmi-rpi-gpio-agent[rpi-gpio]' (Pi 1-4) or 'pypmi-rpi-gpio-agent[rpi-lgpio]' (Pi 5)"
)


class LineError(Exception):
    """A line can't be had or worked. The text is for people and says what to do about it."""


class Line(Protocol):
    """One requested line. Levels are logical: True is active, whatever voltage that is."""

    def read(self) -> bool:
        """The level now. Raises `LineError`."""

    def close(self) -> None:
        """Give the line back, an output inactive. Never raises; may be called twice."""


class OutputLine(Line, Protocol):
    """A line that is driven."""

    def write(self, active: bool) -> None:
        """Drive it. May be called from any thread. Raises `LineError`; harmless once closed."""


class LineBackend(Protocol):
    """A GPIO library."""

    @property
    def version(self) -> str:
        """Library, version and chip, for `info`."""

    def output(self, line: GpioLine) -> OutputLine:
        """Request an output, inactive from the first moment. Raises `LineError`."""

    def input(self, status: GpioStatus, on_edge: Callable[[], None]) -> Line:
        """Request an input. Raises `LineError`.

        `on_edge` is called in the running event loop after each change, where the hardware can tell of changes.
        """


def open_backend(settings: GpioHardware, consumer: str) -> LineBackend:
    """The back end that `settings.backend` names, or the first that is installed. Raises `LineError`.

    `consumer` is shown as the line's user by `gpioinfo`.
    """
    from rpi_gpio_agent.gpiod_lines import GpiodBackend
    from rpi_gpio_agent.rpigpio_lines import RpiGpioBackend

    match settings.backend:
        case "gpiod":
            return GpiodBackend(settings.chip, consumer)
        case "rpi-gpio":
            return RpiGpioBackend()
        case "auto":
            if _installed("gpiod"):
                return GpiodBackend(settings.chip, consumer)
            if _installed("RPi"):
                return RpiGpioBackend()
    raise LineError(f"no GPIO library is installed; {EXTRAS_HINT}")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
