"""What the contract's events become in a system event log (sections 29.7, 32.1 and table 42-3)."""

from collections.abc import Mapping
from typing import Any

from pypmi.contract import BootDevice, Event
from pypmi.contract import EventType as Happened

from ipmi_gateway.controller.event_log import EVM_REVISION, OWN_GENERATOR, RECORD_SIZE
from ipmi_gateway.controller.sensors import AnalogSensor, EventType, SensorNumber, SensorType, ordered

_DEASSERTED = 0x80
_UNSPECIFIED = 0xFF
_DATA2_SENSOR_SPECIFIC = 0xC0
_READING_AND_THRESHOLD = 0x50

POWER_ON_STATE, SOFT_OFF_S5, SOFT_OFF = 0x00, 0x05, 0x06
"""Offsets of System ACPI Power State; the last one leaves open whether it was S4 or S5, as a status wire does."""
POWER_CYCLED, SOFT_CONTROL_FAILURE = 0x01, 0x05
"""Offsets of Power Unit."""
CONTROLLER_UNREACHABLE, CONTROLLER_GONE = 0x01, 0x03
"""Offsets of Management Subsystem Health."""
RESTART = 0x07
"""Offset of System Boot / Restart Initiated; data 2 has the restart cause."""
OUT_OF_BAND_PASSWORD = 0x05
"""Offset of Platform Security Violation Attempt."""

_BOOTS = {BootDevice.PXE: 0x03, BootDevice.DIAG: 0x04}
_THRESHOLDS = (
    "lower_non_critical",
    "lower_critical",
    "lower_non_recoverable",
    "upper_non_critical",
    "upper_critical",
    "upper_non_recoverable",
)
_THRESHOLD_OFFSETS = (0, 2, 4, 7, 9, 11)


def body(
    kind: SensorType,
    number: int,
    offset: int,
    data2: int = _UNSPECIFIED,
    data3: int = _UNSPECIFIED,
    *,
    event_type: int = EventType.SENSOR_SPECIFIC,
    asserted: bool = True,
) -> bytes:
    """The nine octets behind the time stamp, of an event of this controller. `offset` may carry data 1's upper bits."""
    direction = event_type if asserted else event_type | _DEASSERTED
    return OWN_GENERATOR + bytes((EVM_REVISION, kind, number, direction, offset, data2, data3))


def login_failed() -> bytes:
    """Somebody gave a wrong name or password."""
    return body(SensorType.SECURITY_VIOLATION, SensorNumber.SECURITY, OUT_OF_BAND_PASSWORD)


def watchdog_expired(offset: int, use: int, interrupt: int) -> bytes:
    """A watchdog time-out (offset = action) or pre-time-out (8); data 2 has timer use and interrupt type."""
    return body(SensorType.WATCHDOG_2, SensorNumber.WATCHDOG, _DATA2_SENSOR_SPECIFIC | offset, interrupt << 4 | use)


def power_changed(kind: Happened) -> tuple[bytes, ...]:
    """The records of `POWER_ON` or `POWER_OFF`."""
    return _FIXED[kind]


def of_event(event: Event, analog: Mapping[str, AnalogSensor]) -> tuple[bytes, ...]:
    """The records of an event; none for what a system event log has no place for. `analog`: sensors by key."""
    match event.type:
        case Happened.SENSOR:
            return _of_sensor(event.data, analog)
        case Happened.SEL:
            return _of_own_bmc(event.data)
        case Happened.BOOT_USED:
            offset = _BOOTS.get(_device(event.data), 0x00)
            return (body(SensorType.BOOT_INITIATED, SensorNumber.SYSTEM_BOOT, offset),)
        case Happened.IDENTIFY:
            lit = event.data.get("state", "on") != "off" and event.data.get("seconds", 1) != 0
            return (body(SensorType.CHASSIS, SensorNumber.IDENTIFY, int(lit), event_type=EventType.DEVICE_ENABLED),)
        case _:
            return _FIXED.get(event.type, ())


_LINK = (SensorType.SUBSYSTEM_HEALTH, SensorNumber.LINK, CONTROLLER_UNREACHABLE)
_CONSOLE = (SensorType.SUBSYSTEM_HEALTH, SensorNumber.CONSOLE, CONTROLLER_GONE)
_FAULT = (SensorType.POWER_UNIT, SensorNumber.POWER_UNIT, SOFT_CONTROL_FAILURE)
_STATE = (SensorType.ACPI_POWER_STATE, SensorNumber.POWER_STATE)
_FIXED: dict[Happened, tuple[bytes, ...]] = {
    Happened.POWER_ON: (
        body(*_STATE, POWER_ON_STATE),
        body(SensorType.BOOT_INITIATED, SensorNumber.SYSTEM_BOOT, 0x00),
    ),
    Happened.POWER_OFF: (body(*_STATE, SOFT_OFF),),
    Happened.SOFT_OFF: (body(*_STATE, SOFT_OFF_S5),),
    Happened.POWER_CYCLE: (body(SensorType.POWER_UNIT, SensorNumber.POWER_UNIT, POWER_CYCLED),),
    Happened.RESET: (body(SensorType.BOOT_INITIATED, SensorNumber.SYSTEM_BOOT, 0x01),),
    Happened.NMI: (body(SensorType.CRITICAL_INTERRUPT, SensorNumber.INTERRUPT, 0x00),),
    Happened.POWER_FAULT: (body(*_FAULT),),
    Happened.FAULT_CLEARED: (body(*_FAULT, asserted=False),),
    Happened.BOOT_SET: (body(SensorType.SYSTEM_EVENT, SensorNumber.SYSTEM_EVENT, 0x00),),
    Happened.NODE_LOST: (body(*_LINK),),
    Happened.NODE_BACK: (body(*_LINK, asserted=False),),
    Happened.CONSOLE_LOST: (body(*_CONSOLE),),
    Happened.CONSOLE_BACK: (body(*_CONSOLE, asserted=False),),
}


def _device(data: Mapping[str, Any]) -> BootDevice:
    try:
        return BootDevice(str(data.get("device", "")))
    except ValueError:
        return BootDevice.NONE


def _of_sensor(data: Mapping[str, Any], analog: Mapping[str, AnalogSensor]) -> tuple[bytes, ...]:
    """A threshold event (section 29.7.1): reading in data 2, threshold in data 3."""
    sensor = analog.get(str(data.get("key", "")))
    name, value = data.get("threshold"), data.get("value")
    if sensor is None or name not in _THRESHOLDS or isinstance(value, bool) or not isinstance(value, int | float):
        return ()
    bit = _THRESHOLDS.index(name)
    limit = ordered(sensor.info.thresholds)[bit]
    return (
        body(
            sensor.kind,
            sensor.number,
            _READING_AND_THRESHOLD | _THRESHOLD_OFFSETS[bit],
            sensor.scaling.raw(value),
            _UNSPECIFIED if limit is None else sensor.scaling.raw(limit),
            event_type=EventType.THRESHOLD,
            asserted=bool(data.get("asserted", True)),
        ),
    )


def _of_own_bmc(data: Mapping[str, Any]) -> tuple[bytes, ...]:
    """An entry that the machine's own BMC reported: `record` is its 16 octets in hexadecimal."""
    try:
        record = bytes.fromhex(str(data.get("record", "")))
    except ValueError:
        return ()
    return (record[7:],) if len(record) == RECORD_SIZE and record[2] == 0x02 else ()
