"""The device's sequencer: a list of (io, pin, value, ms) steps (reference 6.6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ENTRY_COUNT: Final = 2047
"""Usable entries of the flash area of 16 KiB."""
FLASH_SIZE: Final = 16384
_DURATION_MASK: Final = 0x7FFFFF


@dataclass(frozen=True, slots=True)
class Step:
    """One entry."""

    io: int
    pin: int
    value: int
    duration: int
    """Milliseconds."""
    active: bool = True


@dataclass(slots=True)
class Sequencer:
    """Entries (in flash) and what plays at the moment (in RAM)."""

    valid: bool = False
    """The flash area has been cleared once, with a header; without one nothing can be set."""
    entries: dict[int, Step] = field(default_factory=dict)
    begin: int = 0
    current: int = -1
    repeats: int = 0
    due: float | None = None
    """When the next step is played; None when stopped."""

    def clear(self) -> None:
        """Formats the flash area."""
        self.valid = True
        self.entries.clear()
        self.stop()

    def get(self, index: int) -> Step | None:
        """Entry `index`; an inactive one where none was set; None outside the area."""
        if not self.valid or not 0 <= index < ENTRY_COUNT:
            return None
        return self.entries.get(index, Step(0, 0, index, 0, active=False))

    def set(self, index: int, step: Step) -> bool:
        """Stores an entry; the fields are cut to the width that the firmware has for them."""
        if not self.valid or not 0 <= index < ENTRY_COUNT:
            return False
        self.entries[index] = Step(
            step.io & 15, step.pin & 15, step.value, step.duration & _DURATION_MASK, active=step.active
        )
        return True

    def start(self, begin: int, repeats: int, now: float) -> None:
        """Plays from `begin`, `repeats` times; nothing happens with 0."""
        self.begin, self.current, self.repeats = begin, begin - 1, repeats
        self.due = now if repeats > 0 else None

    def stop(self) -> None:
        """Stops; the pins stay as they are."""
        self.begin, self.current, self.repeats, self.due = 0, -1, 0, None

    def step(self, now: float) -> Step | None:
        """Goes on to the next entry and returns it; None when that was the end."""
        self.current += 1
        entry = self.get(self.current)
        if entry is None or not entry.active:
            self.repeats -= 1
            self.current = self.begin
            entry = self.get(self.current)
            if self.repeats <= 0 or entry is None or not entry.active:
                self.stop()
                return None
        self.due = now + max(entry.duration, 1) / 1000
        return entry
