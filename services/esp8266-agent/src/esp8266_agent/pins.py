"""Pin commands of the firmware (reference section 5): how a pin is set up, what it reads, triggers and writes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from esp8266_agent.protocol import RefusedError, ReplyError, Request, ends_with_line, shown

TIMER_MODE: Final = "timer (blink)"
INPUT_MODE: Final = "digital input"
OUTPUT_MODE: Final = "digital output"
UART_MODE: Final = "uart"

Direction = Literal["none", "down", "up"]

_HEADER: Final = re.compile(r"(\* )?io\[0\]: Internal GPIO@00\n")
_PIN: Final = re.compile(
    r"  pin: ([ \d]\d), mode: (.{1,20}?) *\[hw: ([^\]]*?) *\] flags: \[([a-z0-9 -]*)\], (.*),"
    r" max value: \d+, info: .*\n"
)
_TIMER: Final = re.compile(
    r"config direction: (none|down|up), speed: (\d+) ms, current direction: (none|down|up), delay: (\d+) ms,"
    r" state: (on|off)"
)
_STATE: Final = re.compile(r"(?:output, )?state: (on|off)")


@dataclass(frozen=True, slots=True)
class TimerReport:
    """A pin in timer mode. `direction` is configured, `running` that of the pulse under way, `none` when idle."""

    direction: Direction
    pulse_ms: int
    running: Direction
    remaining_ms: int


@dataclass(frozen=True, slots=True)
class PinReport:
    """What `im 0 N` shows of a pin."""

    star: bool
    """The header starts with `* `: 2021 and newest."""
    number: int
    mode: str
    hardware: str
    flags: frozenset[str]
    timer: TimerReport | None
    state: bool | None
    """Logical value, through `invert`; None where the mode has none."""


_DIRECTIONS: Final[dict[str, Direction]] = {"none": "none", "down": "down", "up": "up"}


def _pin_report(pin: int) -> Callable[[str], PinReport]:
    def parse(reply: str) -> PinReport:
        header = _HEADER.match(reply)
        line = _PIN.fullmatch(reply, header.end()) if header else None
        if header is None or line is None or int(line.group(1)) != pin:
            raise ReplyError(f"im 0 {pin}: unexpected answer {shown(reply)}")
        detail = line.group(5)
        timer, state = _TIMER.fullmatch(detail), _STATE.fullmatch(detail)
        report = None
        if timer is not None:
            report = TimerReport(
                _DIRECTIONS[timer.group(1)], int(timer.group(2)), _DIRECTIONS[timer.group(3)], int(timer.group(4))
            )
        word = timer.group(5) if timer else state.group(1) if state else None
        return PinReport(
            star=header.group(1) is not None,
            number=pin,
            mode=line.group(2),
            hardware=line.group(3),
            flags=frozenset(line.group(4).split()),
            timer=report,
            state=None if word is None else word == "on",
        )

    return parse


def _pin_report_ends(buffer: bytes) -> bool:
    if not buffer.endswith(b"\n"):
        return False
    return b", info: " in buffer or not buffer.startswith((b"* io[", b"io["))


def show_pin(pin: int) -> Request[PinReport]:
    """How a pin is set up and what it does now."""
    return Request(f"im 0 {pin}", _pin_report(pin), _pin_report_ends)


def set_mode(pin: int, mode: Literal["dinput", "uart"]) -> Request[PinReport]:
    """Set up an input or a UART pin. Never for a relay pin: it may press (6.4)."""
    return Request(f"im 0 {pin} {mode}", _pin_report(pin), _pin_report_ends, writes_flash=True)


def _value(mode: str) -> Callable[[str], bool]:
    on, off = f"{mode}: [1]\n", f"{mode}: [0]\n"

    def parse(reply: str) -> bool:
        if reply == on:
            return True
        if reply == off:
            return False
        raise ReplyError(f"read of a {mode}: unexpected answer {shown(reply)}")

    return parse


def read_pin(pin: int, mode: str) -> Request[bool]:
    """The value of a pin that is in `mode`, through `invert`."""
    return Request(f"ir 0 {pin}", _value(mode), ends_with_line)


def write_output(pin: int, value: bool) -> Request[bool]:
    """Set a plain output; the reply is the pin as read back. The level stays until the next write."""
    return Request(f"iw 0 {pin} {int(value)}", _value(OUTPUT_MODE), ends_with_line)


def trigger(pin: int, action: Literal["on", "off"]) -> Request[None]:
    """Start (or prolong) the pulse of a timer pin, or end it. `RefusedError`: the board says that it did not."""
    ok = f"trigger {action} 0/{pin}: ok\n"
    head = f"trigger {action} 0/{pin}: "
    refusals = (f"{head}cannot trigger this pin\n", f"{head}invalid trigger type\n", f"{head}\n", "invalid pin\n")

    def parse(reply: str) -> None:
        if reply == ok:
            return
        if reply in refusals:
            raise RefusedError(f"the board answered {shown(reply)}")
        raise ReplyError(f"it 0 {pin} {action}: unexpected answer {shown(reply)}")

    return Request(f"it 0 {pin} {action}", parse, ends_with_line)
