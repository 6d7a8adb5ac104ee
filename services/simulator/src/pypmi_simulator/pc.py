"""The machine behind the pins: an ATX PC with buttons, a power LED, an operating system and its moods.

Sans-IO: time is an argument. Whoever owns a PC calls `advance` at `deadline` (the board does).

    Rules (ATX, ACPI): a press while off starts the machine; a short press while an operating system runs asks it
    to shut down; holding the power button forces the power off; reset restarts without dropping power.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple


class Button(enum.StrEnum):
    """The front panel's buttons."""

    POWER = "power"
    RESET = "reset"
    NMI = "nmi"


class OsState(enum.StrEnum):
    """What runs on the machine."""

    NONE = "none"
    BOOTING = "booting"
    RUNNING = "running"
    HALTING = "halting"
    HUNG = "hung"
    ASLEEP = "asleep"


class SoftOff(enum.StrEnum):
    """What a running operating system makes of a short press."""

    HALT = "halt"
    IGNORE = "ignore"


class AfterPowerLoss(enum.StrEnum):
    """Firmware setting: what happens when mains come back."""

    STAY_OFF = "off"
    LAST_STATE = "last"
    TURN_ON = "on"


class Press(NamedTuple):
    """One closing of a button's contact."""

    start: float
    duration: float
    button: Button


class PcEvent(NamedTuple):
    """Something that happened to the machine."""

    time: float
    what: str


@dataclass(frozen=True, slots=True)
class PcTimings:
    """Durations in seconds. The defaults are a fast machine; `realistic()` is a slow one."""

    debounce: float = 0.010
    """Shorter closings of a contact are not seen at all (and a relay does not follow them)."""
    boot: float = 0.5
    """Power-on (or reset) to operating system running."""
    halt: float = 0.3
    """Request to power off."""
    force_off: float = 4.0
    """Holding the power button that long cuts the power."""
    power_good: float = 0.0
    """Press to power LED on."""
    brownout: float = 0.3
    """How long the power stays on with a power supply that fails under load."""
    blink_period: float = 2.0
    """Sleeping power LED, one on and off."""

    @classmethod
    def realistic(cls) -> PcTimings:
        """A real server's: half a minute to boot, ten seconds to halt."""
        return cls(debounce=0.016, boot=30.0, halt=10.0, power_good=0.1)


def _nothing(_now: float) -> None:
    """Default listener."""


@dataclass(slots=True)
class PC:
    """One machine.

    Args:
        timings: durations.
        soft_off: what the operating system does on a short press.
        psu_ok: False: the power supply does not start at all.
        psu_weak: True: it starts, and fails after `timings.brownout`.
        sleep_blinks: the power LED blinks while the machine sleeps (else it is off then).
        press_while_booting: True: a press before the operating system runs cuts the power (as many firmwares do).
        hold_from_off: holding the button that started the machine forces it off again after `force_off`.
        after_power_loss: firmware setting.
        mac: for Wake-on-LAN, `aa:bb:cc:dd:ee:ff`; None: no such thing.
        powered: initial state; True: on, operating system running.
    """

    timings: PcTimings = field(default_factory=PcTimings)
    soft_off: SoftOff = SoftOff.HALT
    psu_ok: bool = True
    psu_weak: bool = False
    sleep_blinks: bool = True
    press_while_booting: bool = False
    hold_from_off: bool = True
    after_power_loss: AfterPowerLoss = AfterPowerLoss.STAY_OFF
    mac: str | None = None
    powered: bool = False
    os: OsState = OsState.NONE
    mains: bool = True
    presses: list[Press] = field(default_factory=list)
    """Completed presses by the relay, in order of release; contacts shorter than the debounce time are left out."""
    hand_presses: list[Press] = field(default_factory=list)
    """Completed presses of the real buttons."""
    events: list[PcEvent] = field(default_factory=list)
    boots: int = 0
    resets: int = 0
    nmis: int = 0
    """Non-maskable interrupts that the operating system got."""
    on_power: Callable[[bool, float], None] = field(default=lambda _on, _now: None)
    """Told when the power goes on or off."""
    on_running: Callable[[float], None] = _nothing
    """Told when the operating system is up."""
    on_reset: Callable[[float], None] = _nothing
    _contacts: dict[tuple[Button, str], float] = field(default_factory=dict)
    _pressed_since: dict[Button, float] = field(default_factory=dict)
    _seen: set[Button] = field(default_factory=set)
    _overridden: bool = False
    _was_off: bool = False
    _due: dict[str, float] = field(default_factory=dict)
    _slept_at: float = 0.0

    def __post_init__(self) -> None:
        if self.powered and self.os is OsState.NONE:
            self.os = OsState.RUNNING

    # -- buttons --------------------------------------------------------------------------------

    def press(self, button: Button, now: float, *, by: str = "relay") -> None:
        """A contact closes; `by` tells contacts apart that are wired in parallel (`hand` is the real button)."""
        self.advance(now)
        self._contacts.setdefault((button, by), now)
        if button not in self._pressed_since:
            self._pressed_since[button] = now
            self._overridden = False
            self._due[f"debounce-{button}"] = now + self.timings.debounce

    def release(self, button: Button, now: float, *, by: str = "relay") -> None:
        """A contact opens."""
        self.advance(now)
        start = self._contacts.pop((button, by), None)
        if start is None:
            return
        if now - start >= self.timings.debounce:
            record = self.hand_presses if by == "hand" else self.presses
            record.append(Press(start, now - start, button))
        if not any(other == button for other, _ in self._contacts):
            del self._pressed_since[button]
            self._seen.discard(button)
            self._due.pop(f"debounce-{button}", None)
            if button is Button.POWER:
                self._due.pop("force-off", None)

    def held(self, button: Button) -> bool:
        """Tells whether any contact of the button is closed."""
        return button in self._pressed_since

    # -- time -----------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `advance` has something to do next."""
        return min(self._due.values(), default=None)

    def advance(self, now: float) -> None:
        """Lets everything happen that is due by `now`, each at its own time."""
        while self._due:
            what, when = min(self._due.items(), key=lambda item: item[1])
            if when > now:
                return
            del self._due[what]
            self._happen(what, when)

    def _happen(self, what: str, when: float) -> None:
        match what:
            case "debounce-power":
                self._seen.add(Button.POWER)
                self._power_button(when)
            case "debounce-reset":
                self._seen.add(Button.RESET)
                if self.powered:
                    self.resets += 1
                    self._note(when, "reset")
                    self.on_reset(when)
                    self._boot(when)
            case "debounce-nmi":
                self._seen.add(Button.NMI)
                if self.powered:
                    self.nmis += 1
                    self._note(when, "nmi")
            case "force-off":
                if self.powered:
                    self._overridden = True
                    self._note(when, "forced off")
                    self._cut(when)
            case "power-good":
                self._start(when)
            case "booted":
                self.os = OsState.RUNNING
                self._note(when, "running")
                self.on_running(when)
            case "halted":
                self._note(when, "halted")
                self._cut(when)
            case "brownout":
                self._note(when, "power supply failed")
                self._cut(when)

    def _power_button(self, when: float) -> None:
        pressed = self._pressed_since[Button.POWER]
        was_on = self.powered
        if not was_on:
            self.turn_on(when)
        elif self.os is OsState.ASLEEP:
            self.wake(when)
        elif self.os is OsState.RUNNING:
            self._note(when, "power button: soft off asked")
            if self.soft_off is SoftOff.HALT:
                self.shutdown(when)
        elif self.os is OsState.BOOTING and self.press_while_booting:
            self._note(when, "power button: off before the system ran")
            self._cut(when)
        if was_on or self.hold_from_off:
            self._due["force-off"] = pressed + self.timings.force_off

    # -- what happens to the machine ------------------------------------------------------------

    def turn_on(self, now: float) -> None:
        """Starts the machine, if there is power."""
        if self.powered or not self.mains or not self.psu_ok or "power-good" in self._due:
            return
        if self.timings.power_good > 0:
            self._due["power-good"] = now + self.timings.power_good
        else:
            self._start(now)

    def _start(self, now: float) -> None:
        self.powered = True
        self._note(now, "on")
        self.on_power(True, now)
        self._boot(now)
        if self.psu_weak:
            self._due["brownout"] = now + self.timings.brownout

    def _boot(self, now: float) -> None:
        self.boots += 1
        self._due.pop("halted", None)
        self.os = OsState.BOOTING
        self._due["booted"] = now + self.timings.boot

    def _cut(self, now: float) -> None:
        for what in ("booted", "halted", "brownout", "power-good"):
            self._due.pop(what, None)
        self.os = OsState.NONE
        if self.powered:
            self.powered = False
            self._note(now, "off")
            self.on_power(False, now)

    def shutdown(self, now: float) -> None:
        """The operating system begins to halt (asked by the button, or from inside)."""
        self.advance(now)
        if self.os in {OsState.RUNNING, OsState.ASLEEP}:
            self.os = OsState.HALTING
            self._due["halted"] = now + self.timings.halt

    def hang(self, now: float) -> None:
        """The operating system freezes: only holding the button, reset or mains help."""
        self.advance(now)
        if self.powered:
            self._due.pop("halted", None)
            self._due.pop("booted", None)
            self.os = OsState.HUNG
            self._note(now, "hung")

    def sleep(self, now: float) -> None:
        """Suspends to RAM."""
        self.advance(now)
        if self.os is OsState.RUNNING:
            self.os = OsState.ASLEEP
            self._slept_at = now
            self._note(now, "asleep")

    def wake(self, now: float) -> None:
        """Wakes up, or starts: what a Wake-on-LAN packet does."""
        self.advance(now)
        if self.os is OsState.ASLEEP:
            self.os = OsState.RUNNING
            self._note(now, "awake")
        elif not self.powered:
            self.turn_on(now)

    def unplug(self, now: float) -> None:
        """Mains are lost."""
        self.advance(now)
        self.mains = False
        self._was_off = not self.powered
        self._cut(now)

    def plug(self, now: float) -> None:
        """Mains are back."""
        self.advance(now)
        if self.mains:
            return
        self.mains = True
        setting = self.after_power_loss
        if setting is AfterPowerLoss.TURN_ON or (setting is AfterPowerLoss.LAST_STATE and not self._was_off):
            self.turn_on(now)

    def power_led(self, now: float) -> bool:
        """Tells whether the power LED is lit."""
        if not self.powered:
            return False
        if self.os is OsState.ASLEEP:
            half = self.timings.blink_period / 2
            return self.sleep_blinks and int((now - self._slept_at) / half) % 2 == 1
        return True

    def _note(self, now: float, what: str) -> None:
        self.events.append(PcEvent(now, what))
        del self.events[:-EVENTS_KEPT]


EVENTS_KEPT: Final = 1000
MAGIC_HEAD: Final = b"\xff" * 6


def magic_packet_mac(packet: bytes) -> str | None:
    """MAC address of a Wake-on-LAN magic packet anywhere in `packet`; None when it is none."""
    start = packet.find(MAGIC_HEAD)
    while start >= 0:
        address = packet[start + 6 : start + 12]
        if len(address) == 6 and packet[start + 6 : start + 102] == address * 16:
            return address.hex(":")
        start = packet.find(MAGIC_HEAD, start + 1)
    return None
