"""Stands in for `RPi.GPIO` (and rpi-lgpio, which has the same API) and the pins below it.

Only what the agent may use is here, with the real names, arguments and errors; `test_stand_ins.py` holds them against
the published type stubs. As in the real one, edge callbacks come from a thread of the library's own.
"""

import queue
import sys
import threading
import time
from types import ModuleType

VERSION = "0.7.1"
BOARD, BCM = 10, 11
OUT, IN = 0, 1
LOW, HIGH = 0, 1
PUD_OFF, PUD_DOWN, PUD_UP = 20, 21, 22
RISING, FALLING, BOTH = 31, 32, 33

levels: dict = {}
"""BCM number to level: the voltages. They stay when the program ends, as on the real thing."""
history: dict = {}
"""BCM number to (monotonic time, level) of every level that this program has driven."""
wired_to: dict = {}
"""BCM number to a function: what hangs on an output, told of each level."""
broken = ""
"""What every call fails with; empty: none does."""
_directions: dict = {}
_callbacks: dict = {}
_edges: queue.Queue = queue.Queue()
_mode = None
_thread = None
edge_error = ""
"""What `add_event_detect` fails with, as RPi.GPIO does on kernels without /sys/class/gpio."""


def _drive(channel, level):
    levels[channel] = bool(level)
    history.setdefault(channel, []).append((time.monotonic(), bool(level)))
    wired_to.get(channel, bool)(bool(level))


def _check_mode():
    if broken:
        raise RuntimeError(broken)
    if _mode is None:
        raise RuntimeError("Please set pin numbering mode using GPIO.setmode(GPIO.BOARD) or GPIO.setmode(GPIO.BCM)")


def setmode(mode, /):
    global _mode  # noqa: PLW0603 a module's state, as in the real one
    if _mode is not None and mode != _mode:
        raise ValueError("A different mode has already been set!")
    _mode = mode


def setwarnings(gpio_warnings, /):
    assert isinstance(gpio_warnings, bool)


def setup(channel, direction, pull_up_down=PUD_OFF, initial=-1):
    _check_mode()
    if not 0 <= channel < 54:
        raise ValueError("The channel sent is invalid on a Raspberry Pi")
    if direction == OUT:
        if pull_up_down != PUD_OFF:
            raise ValueError("pull_up_down parameter is not valid for outputs")
        if initial != -1:
            _drive(channel, initial)
    elif initial != -1:
        raise ValueError("initial parameter is not valid for inputs")
    else:
        levels.setdefault(channel, pull_up_down == PUD_UP)
    _directions[channel] = direction


def output(channel, value, /):
    _check_mode()
    if _directions.get(channel) != OUT:
        raise RuntimeError("The GPIO channel has not been set up as an OUTPUT")
    _drive(channel, value)


def input(channel, /):  # noqa: A001 as the real one
    _check_mode()
    if channel not in _directions:
        raise RuntimeError("You must setup() the GPIO channel first")
    return int(levels[channel])


def add_event_detect(channel, edge, callback=None, bouncetime=-666):
    global _thread  # noqa: PLW0603
    if edge_error:
        raise RuntimeError(edge_error)
    if _directions.get(channel) != IN:
        raise RuntimeError("You must setup() the GPIO channel as an input first")
    if channel in _callbacks:
        raise RuntimeError("Conflicting edge detection already enabled for this GPIO channel")
    _callbacks[channel] = callback
    if _thread is None:
        _thread = threading.Thread(target=_poll_thread, daemon=True)
        _thread.start()


def remove_event_detect(channel, /):
    _callbacks.pop(channel, None)


def cleanup(channel=-666):
    assert channel != -666, "would take other programs' nodes' pins along"
    _directions.pop(channel, None)
    _callbacks.pop(channel, None)


def _poll_thread():
    while True:
        channel = _edges.get()
        callback = _callbacks.get(channel)
        if callback is not None:
            callback(channel)


def set_input(channel, level):
    """The world outside changes an input's voltage."""
    changed = levels.get(channel) != level
    levels[channel] = level
    if changed:
        _edges.put(channel)


def install(monkeypatch):
    """Put this module in the place of `RPi.GPIO` for one test, with no pin set up."""
    global _mode, edge_error, broken
    _mode, edge_error, broken = None, "", ""
    for state in (levels, history, wired_to, _directions, _callbacks):
        state.clear()
    package = ModuleType("RPi")
    package.GPIO = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "RPi", package)
    monkeypatch.setitem(sys.modules, "RPi.GPIO", sys.modules[__name__])
