"""Sensor data records (section 43) for a controller as it is seen at one address and channel."""

import struct
from collections.abc import Iterable

from ipmi_gateway.controller.sensors import AnalogSensor, DiscreteSensor, Entity, EventType

SDR_VERSION = 0x51
_FULL, _COMPACT, _EVENT_ONLY, _FRU_LOCATOR, _MC_LOCATOR = 0x01, 0x02, 0x03, 0x11, 0x12
_INIT = 0x67
"""Scanning and events on at start, and enabled now (octet 11 of a full record)."""
_NO_ANALOG = 0xC0
_LOGICAL_FRU = 0x10
_FRU_ID = 0


def text(value: str) -> bytes:
    """A type/length octet and at most 16 octets of 8-bit ASCII + Latin-1 (section 43.15)."""
    encoded = value.encode("latin-1", "replace")[:16]
    return bytes((0xC0 | len(encoded),)) + encoded


def _record(number: int, kind: int, body: bytes) -> bytes:
    return struct.pack("<HBBB", number, SDR_VERSION, kind, len(body)) + body


def _factors(sensor: AnalogSensor) -> bytes:
    """Octets 24-30 of a full record: linearization, M, tolerance 0, B, accuracy 0, exponents."""
    scaling = sensor.scaling
    return bytes(
        (
            scaling.linearization,
            scaling.m & 0xFF,
            (scaling.m >> 8 & 0x03) << 6,
            scaling.b & 0xFF,
            (scaling.b >> 8 & 0x03) << 6,
            0x01,  # an input
            (scaling.r_exponent & 0x0F) << 4 | scaling.b_exponent & 0x0F,
        )
    )


def factors_reply(sensor: AnalogSensor) -> bytes:
    """The data of Get Sensor Reading Factors (section 35.5) but for its first octet: the same for all readings."""
    scaling = sensor.scaling
    return bytes(
        (
            scaling.m & 0xFF,
            (scaling.m >> 8 & 0x03) << 6,
            scaling.b & 0xFF,
            (scaling.b >> 8 & 0x03) << 6,
            0,
            (scaling.r_exponent & 0x0F) << 4 | scaling.b_exponent & 0x0F,
        )
    )


def readable_mask(sensor: AnalogSensor) -> int:
    """Bit n for each threshold that there is."""
    return sum(1 << bit for bit, limit in enumerate(sensor.thresholds) if limit is not None)


def threshold_events(sensor: AnalogSensor) -> tuple[int, int]:
    """The assertion and deassertion events of a threshold sensor (table 43-1, octets 15-18)."""
    # Offsets: lower limits "going low" are 0, 2, 4; upper limits "going high" are 7, 9, 11.
    offsets = (0, 2, 4, 7, 9, 11)
    events = sum(1 << offsets[bit] for bit, limit in enumerate(sensor.thresholds) if limit is not None)
    return events, events


def full_record(number: int, sensor: AnalogSensor, address: int, channel: int) -> bytes:
    """A full sensor record (section 43.1)."""
    mask = readable_mask(sensor)
    asserts, deasserts = threshold_events(sensor)
    limits = [0 if limit is None else limit for limit in sensor.thresholds]
    lower, upper = limits[:3], limits[3:]
    body = struct.pack(
        "<BBBBBBBBBHHBBBBB",
        address,
        channel << 4,
        sensor.number,
        sensor.entity,
        sensor.instance,
        _INIT if mask else _INIT & ~0x22,
        0x44 if mask else 0x43,  # re-arms by itself; thresholds readable, events per threshold, or none of both
        sensor.kind,
        EventType.THRESHOLD,
        (mask & 0x07) << 12 | asserts,
        (mask >> 3) << 12 | deasserts,
        mask,
        0,  # no threshold can be set
        0x01 if sensor.percentage else 0,
        sensor.unit,
        0,
    )
    body += _factors(sensor)
    body += bytes((0, 0, 0, 0, 0xFF, 0x00))  # no nominal values; the reading's range
    body += bytes((*reversed(upper), *reversed(lower)))
    body += bytes(5)  # no hysteresis, reserved, OEM
    return _record(number, _FULL, body + text(sensor.name))


def compact_record(number: int, sensor: DiscreteSensor, address: int, channel: int) -> bytes:
    """A compact sensor record (section 43.2)."""
    body = struct.pack(
        "<BBBBBBBBBHHHBBB",
        address,
        channel << 4,
        sensor.number,
        sensor.entity,
        1,
        _INIT,
        0x40,
        sensor.kind,
        sensor.event_type,
        sensor.events,
        sensor.events,
        sensor.states,
        _NO_ANALOG,
        0,
        0,
    )
    return _record(number, _COMPACT, body + bytes((0x01, 0, 0, 0, 0, 0, 0, 0)) + text(sensor.name))


def event_only_record(number: int, sensor: DiscreteSensor, address: int, channel: int) -> bytes:
    """An event-only record (section 43.3)."""
    body = bytes(
        (address, channel << 4, sensor.number, sensor.entity, 1, sensor.kind, sensor.event_type, 0x01, 0, 0, 0)
    )
    return _record(number, _EVENT_ONLY, body + text(sensor.name))


def fru_locator(number: int, name: str, address: int, channel: int) -> bytes:
    """An FRU device locator record (section 43.8) for the logical FRU device 0."""
    body = bytes((address, _FRU_ID, 0x80, channel << 4, 0, _LOGICAL_FRU, 0, Entity.SYSTEM_BOARD, 1, 0))
    return _record(number, _FRU_LOCATOR, body + text(name))


def controller_locator(number: int, name: str, address: int, channel: int, support: int) -> bytes:
    """A management controller device locator record (section 43.9)."""
    body = bytes((address, channel, 0, support, 0, 0, 0, Entity.MANAGEMENT_SOFTWARE, 1, 0))
    return _record(number, _MC_LOCATOR, body + text(name))


def build_repository(
    name: str,
    discrete: Iterable[DiscreteSensor],
    analog: Iterable[AnalogSensor],
    *,
    address: int,
    channel: int,
    support: int,
) -> list[bytes]:
    """All records, with ids from 1. `support`: the device capabilities of Get Device ID."""
    records = [controller_locator(1, name, address, channel, support), fru_locator(2, name, address, channel)]
    for sensor in discrete:
        build = compact_record if sensor.states else event_only_record
        records.append(build(len(records) + 1, sensor, address, channel))
    for reading in analog:
        records.append(full_record(len(records) + 1, reading, address, channel))
    return records
