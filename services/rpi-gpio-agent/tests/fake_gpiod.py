"""Stands in for the `gpiod` package (libgpiod 2.x) and the kernel below it.

Only what the agent may use is here, with the real package's names, arguments and errors; `test_stand_ins.py` holds
them against the real package. The kernel's part is `Board`: who has which line, levels, edges, what a release does.
"""

import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from types import ModuleType

__version__ = "2.5.0"


class ChipClosedError(Exception):
    def __init__(self):
        super().__init__("I/O operation on closed chip")


class RequestReleasedError(Exception):
    def __init__(self):
        super().__init__("GPIO lines have been released")


class Value(Enum):
    INACTIVE = 0
    ACTIVE = 1

    def __bool__(self):
        return self is Value.ACTIVE


Direction = Enum("Direction", [("AS_IS", 1), ("INPUT", 2), ("OUTPUT", 3)])
Bias = Enum("Bias", [("AS_IS", 1), ("UNKNOWN", 2), ("DISABLED", 3), ("PULL_UP", 4), ("PULL_DOWN", 5)])
Drive = Enum("Drive", [("PUSH_PULL", 1), ("OPEN_DRAIN", 2), ("OPEN_SOURCE", 3)])
Edge = Enum("Edge", [("NONE", 1), ("RISING", 2), ("FALLING", 3), ("BOTH", 4)])
Clock = Enum("Clock", [("MONOTONIC", 1), ("REALTIME", 2), ("HTE", 3)])

line = ModuleType("gpiod.line")
for _enum in (Value, Direction, Bias, Drive, Edge, Clock):
    setattr(line, _enum.__name__, _enum)


@dataclass
class LineSettings:
    direction: Direction = Direction.AS_IS
    edge_detection: Edge = Edge.NONE
    bias: Bias = Bias.AS_IS
    drive: Drive = Drive.PUSH_PULL
    active_low: bool = False
    debounce_period: timedelta = timedelta()
    event_clock: Clock = Clock.MONOTONIC
    output_value: Value = Value.INACTIVE


@dataclass(frozen=True)
class ChipInfo:
    name: str
    label: str
    num_lines: int


@dataclass
class Wire:
    """One line as the board has it. `level` is the voltage: True is high."""

    name: str = ""
    level: bool = False
    owner: "LineRequest | None" = None
    consumer: str = ""
    settings: LineSettings | None = None
    history: list = field(default_factory=list)
    """(monotonic time, level) of every level that this program has driven, the first one at the request."""
    wired_to: Callable[[bool], None] = lambda _level: None
    """What hangs on an output; told of each level."""

    def drive(self, level: bool) -> None:
        self.level = level
        self.history.append((time.monotonic(), level))
        self.wired_to(level)


@dataclass
class Board:
    """One GPIO chip. `strict` is Raspberry Pi OS's dtparam=strict_gpiod: a released output becomes an input."""

    path: str
    label: str = "pinctrl-bcm2711"
    wires: list = field(default_factory=lambda: [Wire(f"GPIO{n}") for n in range(28)])
    strict: bool = False
    denied: int = 0
    """An errno that opening the chip fails with."""
    broken: int = 0
    """An errno that every use of a request fails with, as when a USB chip was pulled out."""

    def set_input(self, offset: int, level: bool) -> None:
        """The world outside changes an input's voltage."""
        wire = self.wires[offset]
        changed, wire.level = wire.level != level, level
        if changed and wire.owner is not None and wire.settings.edge_detection is Edge.BOTH:
            wire.owner.queue_edge(offset, level)


boards: dict = {}
"""Path to `Board`: what is plugged in."""


class LineRequest:
    def __init__(self, req):
        self._req = req  # (board, [offsets])
        self._events = deque()
        self._pipe = os.pipe()

    def __bool__(self):
        return self._req is not None

    def _wires(self):
        if self._req is None:
            raise RequestReleasedError
        board, offsets = self._req
        if board.broken:
            raise OSError(board.broken, os.strerror(board.broken))
        return {offset: board.wires[offset] for offset in offsets}

    def queue_edge(self, offset, level):
        self._events.append((offset, level))
        os.write(self._pipe[1], b"e")

    def release(self):
        if self._req is not None:
            board, offsets = self._req
            self._req = None
            for offset in offsets:
                wire = board.wires[offset]
                if board.strict and wire.settings.direction is Direction.OUTPUT:
                    wire.level = False
                wire.owner, wire.settings, wire.consumer = None, None, ""
            for fd in self._pipe:
                os.close(fd)

    def get_value(self, line):
        wire = self._wires()[line]
        return Value.ACTIVE if wire.level != wire.settings.active_low else Value.INACTIVE

    def set_value(self, line, value):
        wire = self._wires()[line]
        if wire.settings.direction is not Direction.OUTPUT:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        wire.drive(bool(value) != wire.settings.active_low)

    def read_edge_events(self, max_events=None):
        self._wires()
        os.read(self._pipe[0], 64)
        events = list(self._events)
        self._events.clear()
        return events

    @property
    def fd(self):
        if self._req is None:
            raise RequestReleasedError
        return self._pipe[0]


class Chip:
    def __init__(self, path):
        board = boards.get(path)
        if board is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if board.denied:
            raise OSError(board.denied, os.strerror(board.denied))
        self._board = board

    def __enter__(self):
        self._check()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.close()

    def _check(self):
        if self._board is None:
            raise ChipClosedError

    def close(self):
        self._board = None

    def get_info(self):
        self._check()
        name = self._board.path.rsplit("/", 1)[-1]
        return ChipInfo(name=name, label=self._board.label, num_lines=len(self._board.wires))

    def line_offset_from_id(self, id):  # noqa: A002 as the real one
        self._check()
        offset = id
        if not isinstance(id, int):
            for number, wire in enumerate(self._board.wires):
                if wire.name == id:
                    return number
            try:
                offset = int(id)
            except ValueError:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        if offset >= len(self._board.wires):
            raise ValueError("line offset of out range")
        return offset

    def request_lines(self, config, consumer=None, event_buffer_size=None, output_values=None):
        self._check()
        offsets = [self.line_offset_from_id(line) for line in config]
        for offset in offsets:
            if self._board.wires[offset].owner is not None:
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        request = LineRequest((self._board, offsets))
        for offset, settings in zip(offsets, config.values(), strict=True):
            wire = self._board.wires[offset]
            wire.owner, wire.consumer, wire.settings = request, consumer, settings
            if settings.direction is Direction.OUTPUT:
                wire.drive(bool(settings.output_value) != settings.active_low)
        return request


def install(monkeypatch):
    """Put this module in the place of `gpiod` for one test, with nothing plugged in."""
    boards.clear()
    monkeypatch.setitem(sys.modules, "gpiod", sys.modules[__name__])
    monkeypatch.setitem(sys.modules, "gpiod.line", line)
