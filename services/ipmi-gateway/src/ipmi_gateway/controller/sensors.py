"""The sensors of a controller: the fixed discrete ones, and an analog one for each that the node's `info` announces."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from pypmi.contract import SensorInfo, SensorKind, Thresholds

from ipmi_gateway.controller.scaling import LOGARITHMIC, Scaling, scaling_for


class SensorNumber(IntEnum):
    """Numbers of the discrete sensors; the analog ones follow from `FIRST_ANALOG`, in the order of `info`."""

    POWER_STATE = 1
    POWER_UNIT = 2
    WATCHDOG = 3
    LINK = 4
    EVENT_LOG = 5
    SYSTEM_BOOT = 6
    SECURITY = 7
    IDENTIFY = 8
    CONSOLE = 9
    INTERRUPT = 10
    SYSTEM_EVENT = 11
    SYSTEM_RESTART = 12


FIRST_ANALOG = 0x10
LAST_ANALOG = 0xFE


class SensorType(IntEnum):
    """Sensor types (table 42-3)."""

    TEMPERATURE = 0x01
    VOLTAGE = 0x02
    CURRENT = 0x03
    FAN = 0x04
    SECURITY_VIOLATION = 0x06
    POWER_UNIT = 0x09
    OTHER_UNITS = 0x0B
    EVENT_LOGGING = 0x10
    SYSTEM_EVENT = 0x12
    CRITICAL_INTERRUPT = 0x13
    CHASSIS = 0x18
    BOOT_INITIATED = 0x1D
    ACPI_POWER_STATE = 0x22
    WATCHDOG_2 = 0x23
    SUBSYSTEM_HEALTH = 0x28


class EventType(IntEnum):
    """Event/reading types (table 42-1)."""

    THRESHOLD = 0x01
    DEVICE_ENABLED = 0x09
    SENSOR_SPECIFIC = 0x6F


class Entity(IntEnum):
    """Entity ids (table 43-13)."""

    SYSTEM_BOARD = 0x07
    POWER_SUPPLY = 0x0A
    POWER_UNIT = 0x13
    CHASSIS = 0x17
    FAN = 0x1D
    MANAGEMENT_SOFTWARE = 0x2E


class ReadingFlags(IntFlag):
    """Second octet of Get Sensor Reading (table 35-15)."""

    EVENTS_ENABLED = 0x80
    SCANNING_ENABLED = 0x40
    UNAVAILABLE = 0x20


@dataclass(frozen=True, slots=True)
class DiscreteSensor:
    """A sensor that has states, or (`states` 0) only says events."""

    number: SensorNumber
    name: str
    kind: SensorType
    entity: Entity
    states: int
    """The states it can have: bit n for offset n. 0: event-only."""
    events: int
    """The offsets it says events of."""
    event_type: EventType = EventType.SENSOR_SPECIFIC


DISCRETE = (
    DiscreteSensor(
        SensorNumber.POWER_STATE, "Power State", SensorType.ACPI_POWER_STATE, Entity.SYSTEM_BOARD, 0x0041, 0x0061
    ),
    DiscreteSensor(SensorNumber.POWER_UNIT, "Power Unit", SensorType.POWER_UNIT, Entity.POWER_UNIT, 0x0021, 0x0022),
    DiscreteSensor(SensorNumber.WATCHDOG, "Watchdog", SensorType.WATCHDOG_2, Entity.SYSTEM_BOARD, 0x010F, 0x010F),
    DiscreteSensor(
        SensorNumber.LINK, "Agent Link", SensorType.SUBSYSTEM_HEALTH, Entity.MANAGEMENT_SOFTWARE, 0x0002, 0x0002
    ),
    DiscreteSensor(
        SensorNumber.EVENT_LOG, "Event Log", SensorType.EVENT_LOGGING, Entity.MANAGEMENT_SOFTWARE, 0x0030, 0x0004
    ),
    DiscreteSensor(SensorNumber.SYSTEM_BOOT, "System Boot", SensorType.BOOT_INITIATED, Entity.SYSTEM_BOARD, 0, 0x009F),
    DiscreteSensor(
        SensorNumber.SECURITY, "Login", SensorType.SECURITY_VIOLATION, Entity.MANAGEMENT_SOFTWARE, 0, 0x0020
    ),
    DiscreteSensor(
        SensorNumber.IDENTIFY, "Identify", SensorType.CHASSIS, Entity.CHASSIS, 0, 0x0003, EventType.DEVICE_ENABLED
    ),
    DiscreteSensor(
        SensorNumber.CONSOLE, "Console Link", SensorType.SUBSYSTEM_HEALTH, Entity.MANAGEMENT_SOFTWARE, 0, 0x0008
    ),
    DiscreteSensor(SensorNumber.INTERRUPT, "Diag Interrupt", SensorType.CRITICAL_INTERRUPT, Entity.SYSTEM_BOARD, 0, 1),
    DiscreteSensor(SensorNumber.SYSTEM_EVENT, "Configuration", SensorType.SYSTEM_EVENT, Entity.SYSTEM_BOARD, 0, 0x0001),
)


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: SensorType
    entity: Entity
    unit: int
    """Base unit (section 43.17)."""
    minimum: float
    maximum: float


_KINDS = {
    SensorKind.TEMPERATURE: _Kind(SensorType.TEMPERATURE, Entity.SYSTEM_BOARD, 1, -20.0, 107.5),
    SensorKind.VOLTAGE: _Kind(SensorType.VOLTAGE, Entity.SYSTEM_BOARD, 4, 0.0, 15.3),
    SensorKind.CURRENT: _Kind(SensorType.CURRENT, Entity.POWER_UNIT, 5, 0.0, 25.5),
    SensorKind.POWER: _Kind(SensorType.OTHER_UNITS, Entity.POWER_UNIT, 6, 0.0, 1020.0),
    SensorKind.FAN: _Kind(SensorType.FAN, Entity.FAN, 18, 0.0, 12750.0),
    SensorKind.SIGNAL: _Kind(SensorType.OTHER_UNITS, Entity.MANAGEMENT_SOFTWARE, 60, -127.0, 0.0),
    SensorKind.OTHER: _Kind(SensorType.OTHER_UNITS, Entity.SYSTEM_BOARD, 0, 0.0, 255.0),
}
PERCENT = "%"
_UNITS = {
    "°C": 1, "C": 1, "°F": 2, "K": 3, "V": 4, "A": 5, "W": 6, "J": 7, "VA": 9, "lx": 12, "kPa": 14, "RPM": 18,
    "rpm": 18, "Hz": 19, "µs": 20, "ms": 21, "s": 22, "min": 23, "h": 24, "d": 25, "mm": 32, "cm": 33, "m": 34,
    "l": 37, "ohm": 54, "Ω": 54, "ppm": 58, "dB": 60, "dBm": 60, "B": 70, "byte": 70, "kB": 71, "MB": 72, "GB": 73,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnalogSensor:
    """One sensor of `info.sensors`."""

    number: int
    name: str
    """At most 16 octets, none like another's."""
    info: SensorInfo
    scaling: Scaling
    kind: SensorType
    entity: Entity
    instance: int
    unit: int
    percentage: bool

    @property
    def thresholds(self) -> tuple[int | None, ...]:
        """As readings, in the order of the masks: lower non-critical, critical, non-recoverable, then upper."""
        return tuple(None if limit is None else self.scaling.raw(limit) for limit in ordered(self.info.thresholds))

    def reading(self, value: float) -> int | None:
        """The reading that tells `value`; None when it is off the scale.

        Where there are limits, the end of the scale is told instead: what matters is that it is beyond them.
        """
        return self.scaling.raw(value) if self.scaling.covers(value) or any(self.limits) else None

    @property
    def limits(self) -> tuple[bool, ...]:
        """Which thresholds there are, in the order of the masks."""
        return tuple(limit is not None for limit in ordered(self.info.thresholds))

    def crossed(self, value: float) -> int:
        """Threshold comparison status (table 35-15): bit n for each limit that `value` is at or beyond."""
        status = 0
        for bit, limit in enumerate(ordered(self.info.thresholds)):
            if limit is not None and (value <= limit if bit < 3 else value >= limit):
                status |= 1 << bit
        return status


def ordered(thresholds: Thresholds) -> tuple[float | None, ...]:
    """In the order of the specification's masks (bit 0 first)."""
    return (
        thresholds.lower_non_critical,
        thresholds.lower_critical,
        thresholds.lower_non_recoverable,
        thresholds.upper_non_critical,
        thresholds.upper_critical,
        thresholds.upper_non_recoverable,
    )


def analog_sensors(announced: tuple[SensorInfo, ...]) -> tuple[AnalogSensor, ...]:
    """The analog sensors of a node, numbered in the order in which they are announced."""
    names = {sensor.name for sensor in DISCRETE}
    instances: dict[Entity, int] = {}
    result = []
    for number, info in zip(range(FIRST_ANALOG, LAST_ANALOG + 1), announced, strict=False):
        kind = _KINDS[info.kind]
        name = _unique(info.name, names)
        names.add(name)
        instances[kind.entity] = instances.get(kind.entity, 0) % 0x5F + 1
        known = kind.unit if info.kind is not SensorKind.OTHER else _UNITS.get(info.unit.strip(), 0)
        percentage = info.kind is SensorKind.OTHER and info.unit.strip() == PERCENT
        result.append(
            AnalogSensor(
                number=number,
                name=name,
                info=info,
                scaling=_scaling(info, kind, percentage),
                kind=kind.kind,
                entity=kind.entity,
                instance=instances[kind.entity],
                unit=known,
                percentage=percentage,
            )
        )
    return tuple(result)


def _scaling(info: SensorInfo, kind: _Kind, percentage: bool) -> Scaling:
    minimum, maximum = _range(info, kind, percentage)
    unbounded = info.kind is SensorKind.OTHER and info.maximum is None and not percentage
    if unbounded and minimum >= 0 and info.thresholds == Thresholds():
        return LOGARITHMIC
    return scaling_for(minimum, maximum)


def _range(info: SensorInfo, kind: _Kind, percentage: bool) -> tuple[float, float]:
    """What the sensor can read: as announced, else as usual for its kind, widened so that its limits fit."""
    limits = [limit for limit in ordered(info.thresholds) if limit is not None]
    usual = 102.0 if percentage else kind.maximum
    minimum = info.minimum if info.minimum is not None else min([kind.minimum, *limits])
    maximum = info.maximum if info.maximum is not None else max([usual, *(limit * 1.2 for limit in limits)])
    return minimum, maximum


def _unique(name: str, taken: set[str]) -> str:
    """At most 16 octets of Latin-1, different from those taken."""
    plain = name.encode("latin-1", "replace").decode("latin-1")
    short = plain[:16].rstrip()
    number = 2
    while short in taken or not short:
        tail = f" {number}"
        short = plain[: 16 - len(tail)].rstrip() + tail
        number += 1
    return short
