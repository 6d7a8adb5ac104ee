"""Lines through libgpiod 2 (the `gpiod` package): any Raspberry Pi, and any other machine with /dev/gpiochip*.

What happens to an output when this process is killed is the kernel's choice: mainline turns it back into an input,
Raspberry Pi's own kernels leave it driven as it was unless `dtparam=strict_gpiod` stands in config.txt. That is why a
new start requests every output inactive before anything else, and why systemd runs `rpi-gpio-agent --release` after
the service has stopped.
"""

import asyncio
import errno
import logging
import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pypmi.config.hardware import GpioLine, GpioStatus

from rpi_gpio_agent.lines import EXTRAS_HINT, Line, LineError, OutputLine

if TYPE_CHECKING:
    import gpiod

log = logging.getLogger(__name__)

MAX_CONSUMER = 31
"""Characters of a consumer's name that the kernel keeps (GPIO_MAX_NAME_SIZE less the terminator)."""
DEVICES = Path("/dev")


def _import_gpiod() -> ModuleType:
    try:
        import gpiod
    except ImportError as error:
        raise LineError(f"cannot import gpiod ({error}); {EXTRAS_HINT}") from None
    if not hasattr(gpiod, "LineSettings"):
        raise LineError(
            "the gpiod module here is of libgpiod 1 (python3-libgpiod of Debian 12, perhaps); version 2 is needed: "
            "pip install 'pypmi-rpi-gpio-agent[gpiod]' in a virtual environment without system packages"
        )
    return gpiod


def explain(error: OSError, what: str) -> LineError:
    """Say what an error of the GPIO character device means for the person who set it up."""
    match error.errno:
        case errno.EACCES | errno.EPERM:
            fix = "not permitted; add the service's user to the group gpio (and pass the device into a container)"
        case errno.EBUSY:
            fix = "in use by another program; `gpioinfo` shows which"
        case errno.ENOENT:
            fix = "there is no such line; `gpioinfo` lists them"
        case errno.ENODEV:
            fix = "the chip is gone"
        case _:
            fix = error.strerror or str(error)
    return LineError(f"{what}: {fix}")


class _OutputLine:
    """An output. The lock is there because the release guard's thread may write while the event loop does."""

    def __init__(self, gpio: ModuleType, request: "gpiod.LineRequest", offset: int, what: str) -> None:
        self._gpio = gpio
        self._request = request
        self._offset = offset
        self._what = what
        self._lock = threading.Lock()

    def read(self) -> bool:
        with self._lock:
            if not self._request:
                raise LineError(f"{self._what}: closed")
            try:
                return bool(self._request.get_value(self._offset))
            except OSError as error:
                raise explain(error, self._what) from None

    def write(self, active: bool) -> None:
        value = self._gpio.line.Value.ACTIVE if active else self._gpio.line.Value.INACTIVE
        with self._lock:
            if not self._request:
                return
            try:
                self._request.set_value(self._offset, value)
            except OSError as error:
                raise explain(error, self._what) from None

    def close(self) -> None:
        try:
            self.write(False)
        except LineError as error:
            log.warning("letting go: %s", error)
        with self._lock:
            self._request.release()


class _InputLine:
    """An input whose edges arrive through the event loop."""

    def __init__(self, request: "gpiod.LineRequest", offset: int, what: str, on_edge: Callable[[], None]) -> None:
        self._request = request
        self._offset = offset
        self._what = what
        self._on_edge = on_edge
        self._loop = asyncio.get_running_loop()
        self._fd = request.fd
        self._loop.add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        try:
            self._request.read_edge_events()
        except OSError as error:
            # The chip is gone, say a USB one. Stop listening, or the loop spins; the next read reports it.
            log.warning("%s", explain(error, self._what))
            self._loop.remove_reader(self._fd)
        self._on_edge()

    def read(self) -> bool:
        if not self._request:
            raise LineError(f"{self._what}: closed")
        try:
            return bool(self._request.get_value(self._offset))
        except OSError as error:
            raise explain(error, self._what) from None

    def close(self) -> None:
        if self._request:
            self._loop.remove_reader(self._fd)
            self._request.release()


class GpiodBackend:
    """Finds the chip by label, name or path and requests its lines, one request for each.

    Raises `LineError` when the package is missing or too old, or when not exactly one chip matches.
    """

    def __init__(self, chip: str, consumer: str) -> None:
        self._gpio = _import_gpiod()
        self._consumer = consumer[:MAX_CONSUMER]
        self._path, label = self._find(chip)
        self.version = f"gpiod {self._gpio.__version__} on {label}"

    def output(self, line: GpioLine) -> OutputLine:
        """Request an output, inactive from the first moment. Raises `LineError`."""
        kinds = self._gpio.line
        settings = self._gpio.LineSettings(
            direction=kinds.Direction.OUTPUT,
            active_low=line.active == "low",
            output_value=kinds.Value.INACTIVE,
        )
        request, offset, what = self._request(line.line, settings)
        return _OutputLine(self._gpio, request, offset, what)

    def input(self, status: GpioStatus, on_edge: Callable[[], None]) -> Line:
        """Request an input with edge detection. Raises `LineError`."""
        kinds = self._gpio.line
        bias = {
            "none": kinds.Bias.DISABLED,
            "pull-up": kinds.Bias.PULL_UP,
            "pull-down": kinds.Bias.PULL_DOWN,
        }[status.bias]
        settings = self._gpio.LineSettings(
            direction=kinds.Direction.INPUT,
            edge_detection=kinds.Edge.BOTH,
            bias=bias,
            active_low=status.active == "low",
        )
        request, offset, what = self._request(status.line, settings)
        return _InputLine(request, offset, what, on_edge)

    def _request(self, line: int | str, settings: object) -> tuple["gpiod.LineRequest", int, str]:
        what = f"GPIO line {line} of {self._path}"
        try:
            with self._gpio.Chip(str(self._path)) as chip:
                offset = chip.line_offset_from_id(line)
                request = chip.request_lines(config={offset: settings}, consumer=self._consumer)
        except ValueError:
            raise LineError(f"{what}: the chip has no such line; `gpioinfo` lists them") from None
        except OSError as error:
            raise explain(error, what) from None
        return request, offset, what

    def _find(self, wanted: str) -> tuple[Path, str]:
        if wanted.startswith("/"):
            return self._label(Path(wanted))
        # A Pi 5 has /dev/gpiochip4 as a link to gpiochip0 for old programs: the same chip, not a second one.
        paths = [path for path in sorted(DEVICES.glob("gpiochip*")) if not path.is_symlink()]
        chips, refused = [], None
        for path in paths:
            try:
                chip = self._label(path)
            except LineError as error:
                refused = error
                continue
            if fnmatchcase(chip[1], wanted) or fnmatchcase(path.name, wanted):
                chips.append(chip)
        if len(chips) == 1:
            return chips[0]
        if chips:
            names = ", ".join(f"{label} ({path.name})" for path, label in chips)
            raise LineError(f"chip {wanted!r} fits several: {names}; give one label")
        if refused is not None:
            raise refused
        if not paths:
            raise LineError(
                f"there is no {DEVICES}/gpiochip*; is this a Raspberry Pi, and is the device passed into the container?"
            )
        raise LineError(f"no GPIO chip has the label or name {wanted!r}; `gpiodetect` lists them")

    def _label(self, path: Path) -> tuple[Path, str]:
        try:
            with self._gpio.Chip(str(path)) as chip:
                return path, chip.get_info().label
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise LineError(f"there is no GPIO chip {path}; `gpiodetect` lists them") from None
            raise explain(error, f"GPIO chip {path}") from None
