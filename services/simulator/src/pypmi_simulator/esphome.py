"""A board with ESPHome and its MQTT component: buttons that press for a set time, and a binary sensor on the LED.

Sans-IO. Topics are `<prefix>/<component>/<object id>/command` and `.../state`, with `<prefix>/status` as birth
and last will (ESPHome's mqtt component). A button takes `PRESS`, and answers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .pc import PC, Button
from .relays import Relay


class EspPublication(NamedTuple):
    """A message to publish: topic below the device's prefix, and the payload; all of them are retained."""

    suffix: str
    payload: str


@dataclass(frozen=True, slots=True)
class EspButton:
    """An ESPHome `button` whose `on_press` closes an output for a time."""

    object_id: str
    button: Button = Button.POWER
    seconds: float = 0.5


@dataclass(slots=True)
class Esphome:
    """One device.

    Args:
        pc: the machine.
        buttons: its buttons; those for one of the PC's buttons share the relay.
        sensor: object id of the `binary_sensor` on the power LED; None: not wired.
    """

    pc: PC
    buttons: tuple[EspButton, ...] = (EspButton("power_button"),)
    sensor: str | None = "power_led"
    ignored: list[str] = field(default_factory=list)
    """Payloads that were not understood; a real device logs them."""
    _relays: dict[Button, Relay] = field(init=False)
    _lit: bool = False

    def __post_init__(self) -> None:
        self._relays = {entry.button: Relay(self.pc, entry.button) for entry in self.buttons}
        self._lit = self.pc.powered

    def command_suffixes(self) -> list[str]:
        """Topics below the prefix that the device subscribes to."""
        return [f"button/{entry.object_id}/command" for entry in self.buttons]

    def greeting(self, now: float) -> list[EspPublication]:
        """What is published after connecting."""
        return [EspPublication("status", "online"), *self._state(now)]

    def power_cycle(self, now: float) -> None:
        """The device restarts: its outputs open."""
        for relay in self._relays.values():
            relay.open(now)

    def deadline(self) -> float | None:
        """When `advance` has something to do next."""
        return min((relay.until for relay in self._relays.values() if relay.until is not None), default=None)

    def advance(self, now: float) -> list[EspPublication]:
        """Ends pulses, lets the PC go on, and notices a change of the LED."""
        for relay in self._relays.values():
            when = relay.due(now)
            if when is not None:
                relay.open(when)
        self.pc.advance(now)
        lit = self.pc.power_led(now)
        if lit == self._lit:
            return []
        self._lit = lit
        return self._state(now)

    def command(self, suffix: str, payload: str, now: float) -> list[EspPublication]:
        """A message on one of the command topics."""
        out = self.advance(now)
        entry = next((entry for entry in self.buttons if suffix == f"button/{entry.object_id}/command"), None)
        if entry is None or payload != "PRESS":
            self.ignored.append(payload)
            return out
        self._relays[entry.button].close(now, pulse=entry.seconds)
        return out

    def _state(self, now: float) -> list[EspPublication]:
        if self.sensor is None:
            return []
        return [EspPublication(f"binary_sensor/{self.sensor}/state", "ON" if self.pc.power_led(now) else "OFF")]
