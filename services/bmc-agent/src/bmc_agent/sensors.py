"""From a BMC's sensor records to the contract's sensors."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pypmi.contract import SensorInfo, SensorKind, Thresholds

MAX_SENSORS = 200
"""As many as `info` may hold."""

_KINDS = {
    ("Temperature", "°C"): SensorKind.TEMPERATURE,
    ("Fan", "RPM"): SensorKind.FAN,
    ("Voltage", "V"): SensorKind.VOLTAGE,
    ("Current", "A"): SensorKind.CURRENT,
}
_KINDS_BY_UNIT = {
    "°C": SensorKind.TEMPERATURE,
    "RPM": SensorKind.FAN,
    "V": SensorKind.VOLTAGE,
    "A": SensorKind.CURRENT,
    "W": SensorKind.POWER,
}

GET_SENSOR_THRESHOLDS = (0x04, 0x27)
"""NetFn and command (IPMI 2.0 section 35.9)."""
_THRESHOLD_FIELDS = (
    "lower_non_critical",
    "lower_critical",
    "lower_non_recoverable",
    "upper_non_critical",
    "upper_critical",
    "upper_non_recoverable",
)
"""In the order of the response's mask bits and octets."""


@dataclass(frozen=True, slots=True)
class BmcSensor:
    """A numeric sensor: the contract's description and pyghmi's record of it."""

    info: SensorInfo
    record: Any


def slug(name: str) -> str:
    """A sensor key made from the BMC's name: `CPU1 Temp` becomes `cpu1_temp`."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:56] or "sensor"


def describe(records: Iterable[Any], thresholds: dict[int, Thresholds]) -> tuple[BmcSensor, ...]:
    """The numeric ones of pyghmi's `SDREntry` records, each with a key of its own that stays from run to run.

    `thresholds` by the position in `records`. Discrete sensors have no number to publish; what they notice comes as
    events.
    """
    found: list[BmcSensor] = []
    keys: set[str] = set()
    for position, record in enumerate(records):
        if not is_numeric(record) or len(found) == MAX_SENSORS:
            continue
        name = str(record.sensor_name).strip("\0 ")[:64] or f"Sensor {record.sensor_number}"
        key = slug(name)
        if key in keys:
            key = f"{key}_{record.sensor_lun}_{record.sensor_number}"
        if key in keys:
            continue
        keys.add(key)
        unit = str(record.unit_suffix).strip()[:16]
        kind = _KINDS.get((record.sensor_type, unit)) or _KINDS_BY_UNIT.get(unit, SensorKind.OTHER)
        info = SensorInfo(key=key, name=name, kind=kind, unit=unit, thresholds=thresholds.get(position, Thresholds()))
        found.append(BmcSensor(info, record))
    return tuple(found)


def is_numeric(record: Any) -> bool:
    """Whether a record describes a sensor that gives a number."""
    numeric_format = getattr(record, "numeric_format", 3)
    has_name = getattr(record, "sensor_name", None) is not None
    threshold_based = getattr(record, "has_thresholds", False) or getattr(record, "reading_type", 0) == 1
    return has_name and (numeric_format in {1, 2} or (numeric_format == 0 and threshold_based))


def decode_thresholds(data: bytes, record: Any, command: Any) -> Thresholds:
    """The response data of Get Sensor Thresholds, in the sensor's unit. Limits that the BMC does not watch are absent.

    `command` is pyghmi's Command, which non-linear sensors ask for their factors.
    """
    if len(data) < 7:
        return Thresholds()
    values: dict[str, float] = {}
    for bit, field in enumerate(_THRESHOLD_FIELDS):
        if not data[0] >> bit & 1:
            continue
        raw = data[1 + bit]
        if record.numeric_format == 2 and raw > 127:
            raw -= 256
        elif record.numeric_format == 1 and raw > 127:
            raw -= 255
        try:
            value = record.decode_value(command, raw)
        except (ArithmeticError, ValueError):
            continue
        if math.isfinite(value):
            values[field] = round(value, 4)
    if record.linearization == 7:  # 1/x: what is low for the BMC is high for people
        values = {_mirror(field): value for field, value in values.items()}
    return Thresholds(**values)


def _mirror(field: str) -> str:
    side, _, rest = field.partition("_")
    return f"{'upper' if side == 'lower' else 'lower'}_{rest}"
