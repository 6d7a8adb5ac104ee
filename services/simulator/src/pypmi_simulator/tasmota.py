"""A relay board with Tasmota: its MQTT topics, as far as switching relays with a pulse time and a switch input go.

Sans-IO: `command` takes what arrived on `cmnd/<topic>/<command>` and returns what is to be published.
Facts: Tasmota's documentation (commands, buttons and switches) and the source of its command drivers:
PulseTime counts tenths of a second up to 111, and whole seconds plus 100 from 112 on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from .pc import PC, Button
from .relays import Relay

MAX_PULSE: Final = 65535
_TENTHS_MAX: Final = 111
_OFFSET: Final = 100
_NAME: Final = re.compile(r"([a-z]+)(\d*)$")
_WORDS: Final = {"0": False, "off": False, "false": False, "1": True, "on": True, "true": True}
_TOGGLE: Final = frozenset({"2", "toggle"})


class Publication(NamedTuple):
    """A message to publish: topic prefix (`stat` or `tele`), the last part of the topic, and the payload."""

    prefix: str
    suffix: str
    payload: str
    retain: bool = False


def pulse_seconds(setting: int) -> float | None:
    """What a PulseTime setting means, seconds; None: no pulse."""
    if setting <= 0:
        return None
    return setting / 10 if setting <= _TENTHS_MAX else float(setting - _OFFSET)


def pulse_setting(seconds: float) -> int:
    """The PulseTime number that is shown for so much time left."""
    return int(seconds) + _OFFSET if seconds > _TENTHS_MAX / 10 else int(seconds * 10)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass(slots=True)
class Tasmota:
    """One device.

    Args:
        pc: the machine.
        relays: which button each `POWER<n>` presses, in order.
        switch: number of the `Switch<n>` on the power LED; None: not wired.
        switch_report: `sensor` sends `tele/.../SENSOR` on a change (SwitchMode 15), `action` sends
            `stat/.../RESULT` (SetOption114), `none` sends nothing before the next telemetry.
    """

    pc: PC
    buttons: tuple[Button, ...] = (Button.POWER,)
    switch: int | None = 1
    switch_report: str = "sensor"
    relays: list[Relay] = field(init=False)
    pulse: list[int] = field(init=False)
    tele_period: int = 300
    _lit: bool = False

    def __post_init__(self) -> None:
        self.relays = [Relay(self.pc, button) for button in self.buttons]
        self.pulse = [0] * len(self.buttons)
        self._lit = self.pc.powered

    # -- connection -----------------------------------------------------------------------------

    def greeting(self, now: float) -> list[Publication]:
        """What is published after connecting."""
        return [
            Publication("tele", "LWT", "Online", retain=True),
            Publication("tele", "INFO1", _json({"Info1": {"Module": "Generic", "Version": "14.2.0(tasmota)"}})),
            *self._telemetry(now),
        ]

    def power_cycle(self, now: float) -> None:
        """The device restarts: relays open (PowerOnState 0), settings stay."""
        for relay in self.relays:
            relay.open(now)

    # -- time -----------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `advance` has something to do next."""
        return min((relay.until for relay in self.relays if relay.until is not None), default=None)

    def advance(self, now: float) -> list[Publication]:
        """Ends pulses, lets the PC go on, and notices a change of the switch input."""
        out: list[Publication] = []
        for index, relay in enumerate(self.relays):
            when = relay.due(now)
            if when is not None:
                relay.open(when)
                out += self._power_report(index)
        self.pc.advance(now)
        lit = self.pc.power_led(now)
        if lit != self._lit:
            self._lit = lit
            out += self._switch_change(now)
        return out

    def _switch_change(self, now: float) -> list[Publication]:
        if self.switch is None or self.switch_report == "none":
            return []
        if self.switch_report == "action":
            action = _json({f"Switch{self.switch}": {"Action": "ON" if self._lit else "OFF"}})
            return [Publication("stat", "RESULT", action)]
        return [Publication("tele", "SENSOR", _json(self._sensors(now)))]

    # -- commands -------------------------------------------------------------------------------

    def command(self, name: str, payload: str, now: float) -> list[Publication]:
        """A message on `cmnd/<topic>/<name>`; names and words in any case."""
        out = self.advance(now)
        match = _NAME.match(name.lower())
        word, index = (match.group(1), match.group(2)) if match else ("", "")
        payload = payload.strip()
        if word == "backlog":
            for part in payload.split(";"):
                inner, _, rest = part.strip().partition(" ")
                if inner:
                    out += self.command(inner, rest, now)
            return out
        number = int(index) if index else 1
        match word:
            case "power" if 1 <= number <= len(self.relays):
                return out + self._power(number - 1, payload, now)
            case "pulsetime" if 1 <= number <= len(self.relays):
                return out + self._pulse_time(number - 1, payload, now, listed=not index and not payload)
            case "status":
                return out + self._status(payload, now)
            case "state":
                return [*out, Publication("stat", "RESULT", _json(self._state(now)))]
            case "teleperiod":
                if payload.isdigit():
                    self.tele_period = int(payload)
                answer = Publication("stat", "RESULT", _json({"TelePeriod": self.tele_period}))
                return [*out, answer, *self._telemetry(now)]
            case _:
                return [*out, Publication("stat", "RESULT", _json({"Command": "Unknown"}))]

    def _key(self, index: int) -> str:
        return "POWER" if len(self.relays) == 1 else f"POWER{index + 1}"

    def _power_report(self, index: int) -> list[Publication]:
        state = "ON" if self.relays[index].closed else "OFF"
        key = self._key(index)
        return [Publication("stat", "RESULT", _json({key: state})), Publication("stat", key, state)]

    def _power(self, index: int, payload: str, now: float) -> list[Publication]:
        relay = self.relays[index]
        word = payload.lower()
        on = not relay.closed if word in _TOGGLE else _WORDS.get(word)
        if on is None and word:
            return [Publication("stat", "RESULT", _json({"Command": "Error"}))]
        if on:
            relay.close(now, pulse=pulse_seconds(self.pulse[index]))
        elif on is False:
            relay.open(now)
        return self._power_report(index)

    def _pulse_time(self, index: int, payload: str, now: float, *, listed: bool) -> list[Publication]:
        if payload.isdigit() and int(payload) <= MAX_PULSE:
            self.pulse[index] = int(payload)
            relay = self.relays[index]
            if relay.closed:  # a new time counts for a pulse that runs, too
                relay.close(now, pulse=pulse_seconds(self.pulse[index]))
        left = [0 if r.until is None else pulse_setting(r.until - now) for r in self.relays]
        if listed:
            return [Publication("stat", "RESULT", _json({"PulseTime": {"Set": self.pulse, "Remaining": left}}))]
        value = {f"PulseTime{index + 1}": {"Set": self.pulse[index], "Remaining": left[index]}}
        return [Publication("stat", "RESULT", _json(value))]

    # -- states ---------------------------------------------------------------------------------

    def _telemetry(self, now: float) -> list[Publication]:
        return [
            Publication("tele", "STATE", _json(self._state(now))),
            Publication("tele", "SENSOR", _json(self._sensors(now))),
        ]

    def _state(self, now: float) -> dict[str, Any]:
        powers = {self._key(i): "ON" if relay.closed else "OFF" for i, relay in enumerate(self.relays)}
        return {"Time": _time(), "UptimeSec": int(now), **powers, "Wifi": {"AP": 1, "RSSI": 76, "Signal": -62}}

    def _sensors(self, now: float) -> dict[str, Any]:
        sensors: dict[str, Any] = {"Time": _time()}
        if self.switch is not None:
            sensors[f"Switch{self.switch}"] = "ON" if self.pc.power_led(now) else "OFF"
        return sensors

    def _status(self, payload: str, now: float) -> list[Publication]:
        match payload:
            case "8" | "10":
                return [Publication("stat", f"STATUS{payload}", _json({"StatusSNS": self._sensors(now)}))]
            case "11":
                return [Publication("stat", "STATUS11", _json({"StatusSTS": self._state(now)}))]
            case _:
                power = sum(1 << index for index, relay in enumerate(self.relays) if relay.closed)
                status = {"Module": 18, "DeviceName": "Tasmota", "Power": power, "PowerOnState": 0}
                return [Publication("stat", "STATUS", _json({"Status": status}))]


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
