"""Relays with pulse times, wired to a PC's buttons: what Tasmota and ESPHome devices have in common. Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from .pc import PC, Button


@dataclass(slots=True)
class Relay:
    """One relay; closed, it presses a button of the PC.

    Every change goes through `close` and `open`, so that the PC sees each contact once.
    """

    pc: PC
    button: Button
    closed: bool = False
    until: float | None = None
    """When it opens by itself."""

    def close(self, now: float, *, pulse: float | None = None) -> None:
        """Closes, or stays closed; `pulse` seconds from now it opens again."""
        self.until = None if pulse is None else now + pulse
        if not self.closed:
            self.closed = True
            self.pc.press(self.button, now)

    def open(self, now: float) -> None:
        """Opens."""
        self.until = None
        if self.closed:
            self.closed = False
            self.pc.release(self.button, now)

    def due(self, now: float) -> float | None:
        """When its time was over, if that is by `now`."""
        return self.until if self.until is not None and self.until <= now else None
