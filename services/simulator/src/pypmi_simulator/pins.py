"""The sixteen GPIO pins: modes, levels, hardware-timed pulses, and a record of every edge.

Sans-IO: time is an argument (seconds, any monotonic origin). Reference sections 5 and 6.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .eras import LowMode, Mode, PinFlag, Traits

PIN_COUNT: Final = 16
FLASH_PINS: Final = frozenset(range(6, 12))
"""Wired to the flash chip: unusable."""
UART_PINS: Final[dict[int, tuple[int, str]]] = {1: (0, "tx"), 2: (1, "tx"), 3: (0, "rx")}
"""Pin to (uart, direction)."""
TICK: Final = 0.010
"""Seconds between two looks at running pulses; 0.1 with `wlan-power-save`."""
ENABLE_GLITCH: Final = 2e-6
"""Seconds between enabling an output and writing its level: no relay follows that."""
_SPEED_MASK: Final = 0x3FFFF
_EDGES_KEPT: Final = 4096


class Edge(NamedTuple):
    """A change of the level at a pin."""

    time: float
    pin: int
    level: bool


class PinError(Exception):
    """The firmware's text for what does not work, as it appends it to the reply."""


@dataclass(slots=True)
class Pin:
    """One GPIO pin: its configuration and its output stage."""

    number: int
    mode: Mode = Mode.DISABLED
    low: LowMode = LowMode.DISABLED
    flags: PinFlag = PinFlag.NONE
    suspended: bool = False
    direction: int = 0
    """Configured direction of a timer: 1 down, 2 up."""
    speed: int = 0
    """Configured pulse time, ms."""
    running: int = 0
    """Direction of the running pulse; 0 when idle."""
    delay: int = 0
    """What was left of the pulse, ms, at tick `since`."""
    since: int = 0
    i2c: int = 0
    """1 sda, 2 scl."""
    counter: int = 0
    output: bool = False
    open_drain: bool = False
    latch: bool = False
    forced: bool | None = None
    """Level forced from outside the firmware, as by the boot ROM."""

    @property
    def invert(self) -> bool:
        """Levels are swapped, for reading and writing."""
        return bool(self.flags & PinFlag.INVERT)


def _no_edge(_edge: Edge) -> None:
    """Default listener."""


@dataclass(slots=True)
class PinBank:
    """io 0: the chip's own pins."""

    traits: Traits
    on_edge: Callable[[Edge], None] = _no_edge
    """Told of every change of an output's level (and of forced levels), in order of time."""
    tick: float = TICK
    origin: float = 0.0
    """When the tick counter started: at boot."""
    pins: list[Pin] = field(default_factory=lambda: [Pin(n) for n in range(PIN_COUNT)])
    inputs: dict[int, Callable[[float], bool]] = field(default_factory=dict)
    """What drives a pin from outside; without an entry the pull-up does (high)."""
    edges: deque[Edge] = field(default_factory=lambda: deque(maxlen=_EDGES_KEPT))
    _levels: list[bool] = field(default_factory=lambda: [True] * PIN_COUNT)

    # -- levels ---------------------------------------------------------------------------------

    def level(self, number: int, now: float) -> bool:
        """Level at the pin, as a meter would show it."""
        pin = self.pins[number]
        if pin.forced is not None:
            return pin.forced
        if pin.output and not (pin.open_drain and pin.latch):
            return pin.latch
        source = self.inputs.get(number)
        return True if source is None else source(now)

    def _driven(self, pin: Pin) -> bool:
        if pin.forced is not None:
            return pin.forced
        return pin.latch if pin.output else True

    def _changed(self, pin: Pin, now: float) -> None:
        level = self._driven(pin)
        if level != self._levels[pin.number]:
            self._levels[pin.number] = level
            edge = Edge(now, pin.number, level)
            self.edges.append(edge)
            self.on_edge(edge)

    def force(self, number: int, *, level: bool | None, now: float) -> None:
        """Drives a pin from outside the firmware (boot ROM, a finger); None lets go."""
        self.pins[number].forced = level
        self._changed(self.pins[number], now)

    def reset(self, now: float) -> None:
        """Chip reset: all pins are inputs with pull-up, all latches 0, nothing runs."""
        for number, old in enumerate(self.pins):
            self.pins[number] = Pin(number, forced=old.forced)
            self._changed(self.pins[number], now)

    # -- modes ----------------------------------------------------------------------------------

    def initialise(self, pin: Pin, now: float) -> None:
        """Sets the hardware up for `pin.low`.

        Raises:
            PinError: with the text that the firmware gives.
        """
        if pin.number in FLASH_PINS:
            raise PinError("io invalid\n")
        match pin.low:
            case LowMode.DISABLED:
                raise PinError(f"pin {pin.number} disabled\n")
            case LowMode.INPUT | LowMode.COUNTER:
                pin.output = pin.open_drain = False
                self._changed(pin, now)
            case LowMode.OUTPUT:
                pin.output, pin.open_drain = True, False
                self._changed(pin, now)
                if self.traits.invert:
                    pin.latch = pin.invert
                    self._changed(pin, now + ENABLE_GLITCH)
            case LowMode.I2C:
                pin.output, pin.open_drain = True, True
                self._changed(pin, now)
                pin.latch = True
                self._changed(pin, now + ENABLE_GLITCH)
            case LowMode.UART:
                if pin.number not in UART_PINS:
                    raise PinError(f"gpio pin {pin.number} cannot be used for uart\n")
                pin.output = False
                self._changed(pin, now)
            case _:
                raise PinError(f"gpio {pin.number} invalid mode: ")

    def set_mode(self, pin: Pin, mode: Mode, low: LowMode, now: float) -> None:
        """Changes the mode; a pulse that runs is kept, and stands still outside timer mode, as in the firmware."""
        self._settle(pin, now)
        pin.mode, pin.low = mode, low
        pin.since = self._tick(now)

    # -- reading and writing --------------------------------------------------------------------

    def read(self, pin: Pin, now: float) -> int:
        """Value as the firmware reads it, through `invert`.

        Raises:
            PinError: not readable.
        """
        if pin.mode is Mode.COUNTER:
            return pin.counter
        if not self.traits.strict and pin.mode is Mode.DISABLED:
            raise PinError("cannot read from this pin")
        if pin.number in FLASH_PINS:
            raise PinError(f"gpio {pin.number} invalid\n")
        match pin.low:
            case LowMode.INPUT | LowMode.OUTPUT | LowMode.I2C:
                return int(self.level(pin.number, now) != pin.invert)
            case LowMode.UART:
                return 0
            case _:
                raise PinError(f"cannot read from gpio {pin.number}\n")

    def write(self, pin: Pin, value: int, now: float) -> None:
        """Sets an output's level, through `invert`.

        Raises:
            PinError: not an output; with an empty text when the pin is suspended.
        """
        if pin.suspended:
            raise PinError("")
        if pin.mode is Mode.COUNTER:
            pin.counter = value
            return
        if not self.traits.strict and pin.mode is Mode.DISABLED:
            raise PinError("cannot write to this pin")
        self._write(pin, value, now)

    def _write(self, pin: Pin, value: int, now: float) -> None:
        if pin.number in FLASH_PINS:
            raise PinError(f"gpio {pin.number} invalid\n")
        if pin.low is LowMode.UART and UART_PINS[pin.number][1] == "tx":
            return  # starts or stops the uart's autofill test pattern
        if pin.low is LowMode.UART:
            raise PinError(f"cannot uart write to gpio {pin.number}\n")
        if pin.low is LowMode.OUTPUT or (pin.low is LowMode.I2C and not self.traits.invert):
            pin.latch = bool(value) != pin.invert
            self._changed(pin, now)
            return
        raise PinError(f"cannot write to gpio {pin.number}\n")

    def write_mask(self, mask: int, levels: int, now: float) -> None:
        """Writes all output latches at once, past `invert`: those in `mask` as given, the others as they read."""
        for pin in self.pins:
            bit = 1 << pin.number
            pin.latch = bool(levels & bit) if mask & bit else self.level(pin.number, now)
        for pin in self.pins:
            self._changed(pin, now)

    def trigger(self, pin: Pin, action: str, now: float) -> None:
        """Does what `it` does.

        Raises:
            PinError: with the text that the firmware gives; empty when the pin is suspended.
        """
        if pin.suspended:
            raise PinError("")
        match pin.mode:
            case Mode.DOUTPUT:
                if action not in {"off", "stop", "down", "on", "start", "up"}:
                    raise PinError("invalid trigger type")
                self._write(pin, int(action in {"on", "start", "up"}), now)
            case Mode.COUNTER:
                if action not in {"up", "down"}:
                    raise PinError("invalid trigger type")
                pin.counter = pin.counter + 1 if action == "up" else max(pin.counter - 1, 0)
            case Mode.TIMER:
                if action in {"off", "stop"}:
                    self._write(pin, int(pin.direction == 2), now)
                    pin.running, pin.delay = 0, 0
                elif action in {"on", "start"}:
                    self._write(pin, int(pin.direction != 2), now)
                    pin.running, pin.delay, pin.since = pin.direction, pin.speed, self._tick(now)
                else:
                    raise PinError("invalid trigger type")
            case _:
                raise PinError("cannot trigger this pin")

    # -- pulses ---------------------------------------------------------------------------------

    def _tick(self, now: float) -> int:
        return math.floor((now - self.origin) / self.tick + 1e-9)

    @property
    def _tick_ms(self) -> int:
        return round(self.tick * 1000)

    def _end(self, pin: Pin) -> float:
        ticks = max(1, math.ceil(pin.delay / self._tick_ms))
        return self.origin + (pin.since + ticks) * self.tick

    def remaining(self, pin: Pin, now: float) -> int:
        """What is left of a running pulse, ms, as `im` shows it."""
        if not pin.running or pin.mode is not Mode.TIMER:
            return pin.delay
        return max(pin.delay - (self._tick(now) - pin.since) * self._tick_ms, 0)

    def _settle(self, pin: Pin, now: float) -> None:
        pin.delay = self.remaining(pin, now)
        pin.since = self._tick(now)

    def deadline(self) -> float | None:
        """When `advance` has something to do next; None: never, as things are."""
        return min((self._end(pin) for pin in self.pins if pin.running and pin.mode is Mode.TIMER), default=None)

    def advance(self, now: float) -> None:
        """Ends every pulse that is due by `now`, each at its own time."""
        while True:
            due = [(self._end(pin), pin) for pin in self.pins if pin.running and pin.mode is Mode.TIMER]
            due = [(end, pin) for end, pin in due if end <= now]
            if not due:
                return
            end, pin = min(due, key=lambda item: item[0])
            up = pin.running == 2
            with contextlib.suppress(PinError):  # the firmware does not look either
                self._write(pin, int(up), end)
            if pin.flags & PinFlag.REPEAT:
                pin.running = 1 if up else 2
                pin.delay, pin.since = pin.speed, self._tick(end)
            else:
                pin.running, pin.delay = 0, 0


def clamp_speed(value: int) -> int:
    """The pulse time as it fits the firmware's 18 bit field: larger values wrap."""
    return value & _SPEED_MASK
