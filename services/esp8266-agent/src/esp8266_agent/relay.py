"""How a relay pin must be set up so that it presses only when told to, and what is wrong with one that is not."""

from dataclasses import dataclass
from typing import Final

from pypmi.config.hardware import BoardPin, Esp8266Hardware

from esp8266_agent import pins
from esp8266_agent.pins import PinReport
from esp8266_agent.protocol import Era

_MODE_TIMER, _LOW_LEVEL_OUTPUT = 4, 3
_DIRECTION_DOWN, _DIRECTION_UP = 1, 2
_FLAG_INVERT: Final = 256


@dataclass(frozen=True, slots=True)
class RelaySetup:
    """How a relay pin must be set up in timer mode."""

    direction: pins.Direction
    flags: frozenset[str]
    stored: dict[str, int]
    """Keys below `io.0.<pin>.`, in the order in which they are safely written: `mode` last (6.4)."""


def relay_setup(era: Era, relay: BoardPin) -> RelaySetup:
    """The safe set-up of a relay: idle is released, through restarts and through later changes of the pin.

    With the flag `invert` an active-low pin is released at logical 0, where the newer eras drive it at every change
    (5.6). 2019 has no such flag and does not drive it, so there the timer runs the other way.
    """
    stored = {"timer.delay": relay.pulse_ms, "llmode": _LOW_LEVEL_OUTPUT, "mode": _MODE_TIMER}
    if relay.active == "high":
        return RelaySetup("down", frozenset(), {"timer.direction": _DIRECTION_DOWN, **stored})
    if era.has_invert:
        flags = {"flags": _FLAG_INVERT, "timer.direction": _DIRECTION_DOWN}
        return RelaySetup("down", frozenset({"invert"}), {**flags, **stored})
    return RelaySetup("up", frozenset(), {"timer.direction": _DIRECTION_UP, **stored})


def relays(settings: Esp8266Hardware) -> tuple[BoardPin, ...]:
    """All relays that are wired."""
    return tuple(relay for relay in (settings.relay, settings.reset_relay, settings.nmi_relay) if relay is not None)


def relay_fault(era: Era, relay: BoardPin, report: PinReport) -> str | None:
    """What is wrong with a relay pin in timer mode as it is now; None when nothing is."""
    wanted = relay_setup(era, relay)
    if report.timer is None or report.mode != pins.TIMER_MODE or report.hardware != pins.OUTPUT_MODE:
        return f"relay pin {relay.pin} is in mode {report.mode!r} and must be in mode 'timer'"
    if report.flags != wanted.flags:
        return f"relay pin {relay.pin} has the flags {words(report.flags)} and must have {words(wanted.flags)}"
    if report.timer.direction != wanted.direction:
        return f"relay pin {relay.pin} pulses {report.timer.direction} and must pulse {wanted.direction}"
    if report.timer.pulse_ms != relay.pulse_ms:
        return f"relay pin {relay.pin} pulses for {report.timer.pulse_ms} ms and must for {relay.pulse_ms} ms"
    return None


def is_held(relay: BoardPin, report: PinReport) -> bool:
    """Whether a relay's contact is closed now. Only for a relay that is set up as it must be."""
    if report.timer is None:
        return report.state is plain_press_value(relay, report)
    return report.state is (report.timer.direction == "down")


def plain_press_value(relay: BoardPin, report: PinReport) -> bool:
    """The value to write to a plain output so that its contact closes."""
    return (relay.active == "high") != ("invert" in report.flags)


def plain_relay_fault(relay: BoardPin, report: PinReport) -> str | None:
    """What is wrong with a relay pin that is a plain output; None when nothing is."""
    if report.mode != pins.OUTPUT_MODE or report.hardware != pins.OUTPUT_MODE:
        return f"relay pin {relay.pin} is in mode {report.mode!r} and must be in mode 'doutput'"
    if report.flags - {"invert", "autostart"}:
        return f"relay pin {relay.pin} has the flags {words(report.flags)}"
    if ("autostart" in report.flags) == plain_press_value(relay, report):
        return f"relay pin {relay.pin} would press at every start of the board: flags {words(report.flags)}"
    return None


def words(flags: frozenset[str]) -> str:
    """Flags, for messages."""
    return " ".join(sorted(flags)) or "none"
