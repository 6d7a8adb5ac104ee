"""What is said of a node's sensors; their values stand bare on topics of their own."""

from enum import StrEnum
from typing import Annotated

from pydantic import StringConstraints

from pypmi.contract.base import Payload

SensorKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class SensorKind(StrEnum):
    """What a sensor measures; decides the IPMI sensor type and Home Assistant's device class."""

    TEMPERATURE = "temperature"
    """unit °C"""
    VOLTAGE = "voltage"
    """unit V"""
    CURRENT = "current"
    """unit A"""
    POWER = "power"
    """unit W"""
    FAN = "fan"
    """unit RPM"""
    SIGNAL = "signal"
    """unit dBm"""
    OTHER = "other"


class Thresholds(Payload):
    """Limits in the sensor's unit; absent ones are not watched (IPMI 2.0 section 35.9)."""

    lower_non_recoverable: float | None = None
    """Damage below this."""
    lower_critical: float | None = None
    """Critical below this."""
    lower_non_critical: float | None = None
    """A warning below this."""
    upper_non_critical: float | None = None
    """A warning above this."""
    upper_critical: float | None = None
    """Critical above this."""
    upper_non_recoverable: float | None = None
    """Damage above this."""


class SensorInfo(Payload):
    """One sensor of a node; its value stands on `sensors/<key>` as a number in text."""

    key: SensorKey
    """The tail of its topic."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """For people."""
    kind: SensorKind = SensorKind.OTHER
    """What it measures."""
    unit: Annotated[str, StringConstraints(max_length=16)] = ""
    """As in `°C`."""
    minimum: float | None = None
    """The least that can be read, for scaling; guessed from `kind` when absent."""
    maximum: float | None = None
    """The most that can be read."""
    thresholds: Thresholds = Thresholds()
    """Limits that are watched."""
