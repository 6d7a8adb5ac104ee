"""SDR repository and sensors (IPMI 2.0 sections 33, 35, 36 and 43)."""

import random
import struct
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code, Privilege
from ipmi_gateway.controller.scaling import scaling_for
from ipmi_gateway.controller.sensors import analog_sensors
from pypmi.contract import PowerState, SensorInfo, SensorKind, Thresholds

STORAGE, SENSOR = 0x0A, 0x04
FULL, COMPACT, EVENT_ONLY, FRU_LOCATOR, MC_LOCATOR = 0x01, 0x02, 0x03, 0x11, 0x12


async def repository(console: Any, bmc: Bmc | None = None, netfn: int = STORAGE, command: int = 0x23) -> list[bytes]:
    records, number = [], 0
    while number != 0xFFFF:
        answer = await console.ok(netfn, command, 0, 0, number & 0xFF, number >> 8, 0, 0xFF, bmc=bmc)
        (number,) = struct.unpack_from("<H", answer)
        records.append(answer[2:])
    return records


def name(record: bytes) -> str:
    start = {FULL: 47, COMPACT: 31, EVENT_ONLY: 16, FRU_LOCATOR: 15, MC_LOCATOR: 15}[record[3]]
    assert record[start] & 0xC0 == 0xC0
    assert len(record) == start + 1 + (record[start] & 0x1F)
    return record[start + 1 :].decode("latin-1")


async def test_records_are_well_formed(console: Any) -> None:
    records = await repository(console)
    assert [struct.unpack_from("<H", record)[0] for record in records] == list(range(1, len(records) + 1))
    for record in records:
        assert record[2] == 0x51
        assert record[4] == len(record) - 5
    assert [record[3] for record in records[:2]] == [MC_LOCATOR, FRU_LOCATOR]
    names = [name(record) for record in records]
    assert names[:3] == ["node1 in rack 1", "node1 in rack 1", "Power State"]
    assert names[-5:] == ["Inlet Temp", "12V", "Input Power", "WLAN Signal", "Fan 1"]
    assert await repository(console, netfn=SENSOR, command=0x21) == records
    info = await console.ok(STORAGE, 0x20)
    assert struct.unpack_from("<BH", info) == (0x51, len(records))
    assert struct.unpack_from("<H", await console.ok(STORAGE, 0x21))[0] == len(records)


async def test_owner_is_the_address_that_is_seen(console: Any) -> None:
    for bmc, address, channel in (
        (console.bmc, 0x30, 2),
        (console.bmc.view(), 0x20, 0),
        (console.bmc.view(7, 9), 7, 9),
    ):
        for record in await repository(console, bmc):
            assert record[5] == address
            if record[3] in {FULL, COMPACT, EVENT_ONLY}:
                assert record[6] == channel << 4
            elif record[3] == FRU_LOCATOR:
                assert (record[6], record[7], record[8]) == (0, 0x80, channel << 4)
            else:
                assert record[6] == channel


async def test_partial_reads(console: Any) -> None:
    whole = (await repository(console))[-1]
    number = struct.unpack_from("<H", whole)[0]

    async def read(reservation: int, offset: int, count: int) -> tuple[int, bytes]:
        data = struct.pack("<HHBB", reservation, number, offset, count)
        answer: tuple[int, bytes] = await console.ask(STORAGE, 0x23, *data)
        return answer

    assert (await read(0, 0, 5))[1][2:] == whole[:5]
    assert (await read(0, 5, 5))[0] == Code.RESERVATION_CANCELLED
    reservation = int.from_bytes(await console.ok(STORAGE, 0x22), "little")
    pieces = [
        (await read(reservation, offset, min(8, len(whole) - offset)))[1][2:] for offset in range(0, len(whole), 8)
    ]
    assert b"".join(pieces) == whole
    assert (await read(reservation, 5, 0xFF))[1][2:] == whole[5:]
    assert (await read(reservation, 0, len(whole) + 1))[0] == Code.CANNOT_RETURN_BYTES
    assert (await read(reservation, 200, 1))[0] == Code.PARAMETER_OUT_OF_RANGE
    newer = int.from_bytes(await console.ok(STORAGE, 0x22), "little")
    assert newer != reservation
    assert (await read(reservation, 5, 5))[0] == Code.RESERVATION_CANCELLED
    assert await console.code(STORAGE, 0x23, 0, 0, 0x40, 0, 0, 0xFF) == Code.NOT_PRESENT


async def test_last_record(console: Any) -> None:
    last = (await repository(console))[-1]
    assert await console.ok(STORAGE, 0x23, 0, 0, 0xFF, 0xFF, 0, 0xFF) == b"\xff\xff" + last


async def test_a_change_of_sensors_ends_the_reservation(console: Any, machine: Any, clock: Any) -> None:
    before = len(await repository(console))
    reservation = await console.ok(STORAGE, 0x22)
    clock.advance(100)
    machine.info = machine.info.model_copy(update={"sensors": machine.info.sensors[:1]})
    assert await console.code(STORAGE, 0x23, *reservation, 1, 0, 5, 1) == Code.RESERVATION_CANCELLED
    assert len(await repository(console)) == before - 4
    assert struct.unpack_from("<I", await console.ok(STORAGE, 0x20), 5)[0] == int(clock.wall)


async def test_a_node_that_nobody_has_announced(console: Any, machine: Any) -> None:
    machine.info = None
    machine.available = False
    records = await repository(console)
    assert name(records[0]) == "node1"
    assert all(record[3] != FULL for record in records)


async def test_full_record_scales_as_the_reading_does(console: Any, machine: Any) -> None:
    for record in [record for record in await repository(console) if record[3] == FULL]:
        m = record[24] | (record[25] & 0xC0) << 2
        b = record[26] | (record[27] & 0xC0) << 2
        b -= 1024 if b > 511 else 0
        r_exponent, b_exponent = record[29] >> 4, record[29] & 0x0F
        r_exponent -= 16 if r_exponent > 7 else 0
        b_exponent -= 16 if b_exponent > 7 else 0
        reading = (await console.ok(SENSOR, 0x2D, record[7]))[0]
        value = (m * reading + b * 10**b_exponent) * 10**r_exponent
        info = next(info for info in machine.info.sensors if info.name == name(record))
        assert value == pytest.approx(machine.values[info.key], abs=abs(m * 10**r_exponent) / 2 + 1e-9)
        factors = await console.ok(SENSOR, 0x23, record[7], reading)
        assert factors == bytes(
            (reading, record[24], record[25], record[26], record[27], record[28] & 0xF0, record[29])
        )


async def test_full_record_of_a_sensor_with_thresholds(console: Any) -> None:
    record = next(record for record in await repository(console) if record[3] == FULL)
    assert (record[12], record[13], record[21]) == (0x01, 0x01, 1)
    lower, upper, readable, settable = struct.unpack_from("<HHBB", record, 14)
    assert lower == 1 << 13 | 1 << 2 | 1 << 7 | 1 << 9
    assert upper == 3 << 12 | 1 << 2 | 1 << 7 | 1 << 9
    assert (readable, settable) == (0b011010, 0)
    thresholds = await console.ok(SENSOR, 0x27, record[7])
    assert thresholds[0] == readable
    assert [record[38], record[37], record[40]] == [thresholds[4], thresholds[5], thresholds[2]]


@pytest.mark.parametrize(
    ("value", "status"), [(23.5, 0xC0), (60.0, 0xC8), (70.0, 0xD8), (-10.0, 0xC2), (-15.0, 0xC2), (59.9, 0xC0)]
)
async def test_threshold_status(console: Any, machine: Any, value: float, status: int) -> None:
    machine.values["inlet"] = value
    assert (await console.ok(SENSOR, 0x2D, 0x10))[1:] == bytes((0xC0, status))
    events = int.from_bytes((await console.ok(SENSOR, 0x2B, 0x10))[1:3], "little")
    assert bool(events & 1 << 7) == (value >= 60)
    assert bool(events & 1 << 9) == (value >= 70)
    assert bool(events & 1 << 2) == (value <= -10)


async def test_what_is_not_known_is_unavailable(console: Any, machine: Any) -> None:
    del machine.values["inlet"]
    assert (await console.ok(SENSOR, 0x2D, 0x10))[1] & 0x20
    assert (await console.ok(SENSOR, 0x2B, 0x10))[0] & 0x20
    machine.available = False
    for number in (0x11, 1, 2):
        assert (await console.ok(SENSOR, 0x2D, number))[1] & 0x20
        assert (await console.ok(SENSOR, 0x2B, number))[0] & 0x20
    assert await console.ok(SENSOR, 0x2D, 4) == bytes((0, 0xC0, 0x02, 0x80))
    machine.available = True
    assert await console.ok(SENSOR, 0x2D, 4) == bytes((0, 0xC0, 0x00, 0x80))
    machine.change(power=PowerState.UNKNOWN)
    assert (await console.ok(SENSOR, 0x2D, 1))[1] & 0x20


async def test_power_sensors(console: Any, machine: Any) -> None:
    assert await console.ok(SENSOR, 0x2D, 1) == bytes((0, 0xC0, 0x40, 0x80))
    assert await console.ok(SENSOR, 0x2D, 2) == bytes((0, 0xC0, 0x01, 0x80))
    machine.change(power=PowerState.ON)
    assert await console.ok(SENSOR, 0x2D, 1) == bytes((0, 0xC0, 0x01, 0x80))
    assert await console.ok(SENSOR, 0x2D, 2) == bytes((0, 0xC0, 0x00, 0x80))


async def test_sensors_that_do_not_exist(console: Any) -> None:
    for command, data in ((0x2D, ()), (0x27, ()), (0x25, ()), (0x29, ()), (0x2B, ()), (0x2F, ()), (0x23, (0,))):
        assert await console.code(SENSOR, command, 0x99, *data) == Code.NOT_PRESENT
        assert await console.code(SENSOR, command, 0x10, *data, lun=1) == Code.NOT_PRESENT
    assert await console.code(SENSOR, 0x2D, 6) == Code.NOT_PRESENT  # only says events


async def test_sensor_settings(console: Any) -> None:
    assert await console.ok(SENSOR, 0x2F, 0x10) == b"\x01\x01"
    assert await console.ok(SENSOR, 0x2F, 1) == b"\x22\x6f"
    assert await console.ok(SENSOR, 0x25, 0x10) == b"\0\0"
    assert await console.ok(SENSOR, 0x29, 1) == bytes((0xC0, 0x61, 0, 0x61, 0))
    assert (await console.ok(SENSOR, 0x29, 0x10))[1:] == struct.pack("<HH", 0x284, 0x284)
    assert await console.ok(SENSOR, 0x2A, 1, 0) == b""
    assert await console.code(SENSOR, 0x27, 1) == Code.ILLEGAL_FOR_SENSOR
    for command, length in ((0x26, 8), (0x24, 4), (0x28, 2), (0x2E, 3)):
        assert await console.code(SENSOR, command, 0x10, *bytes(length - 1)) == Code.ILLEGAL_FOR_SENSOR


async def test_device_sdr_info(console: Any) -> None:
    sensors = await console.ok(SENSOR, 0x20)
    records = await console.ok(SENSOR, 0x20, 1)
    assert (sensors[0], records[0]) == (16, 18)
    assert sensors[1] == 0x81
    assert await console.ok(SENSOR, 0x22)


async def test_writing_records_is_not_served(console: Any) -> None:
    for command in (0x24, 0x25, 0x26, 0x27, 0x29, 0x2A, 0x2B):
        assert await console.code(STORAGE, command, *bytes(6)) == Code.INVALID_COMMAND
    assert await console.ok(STORAGE, 0x2C, 0) == b"\x01"
    assert await console.code(STORAGE, 0x2C, 0, privilege=Privilege.USER) == Code.INSUFFICIENT_PRIVILEGE


def test_scaling_covers_its_range() -> None:
    numbers = random.Random(7)
    for _ in range(3000):
        low = numbers.uniform(-1000, 1000)
        high = low + 10 ** numbers.uniform(0, 4)
        scaling = scaling_for(low, high)
        step = scaling.m * 10.0**scaling.r_exponent
        assert 1 <= scaling.m <= 511
        assert abs(scaling.b) <= 511
        assert scaling.value(0) <= low + 1e-6
        assert scaling.value(255) >= high - 1e-6 * abs(high)
        value = numbers.uniform(low, high)
        assert abs(scaling.value(scaling.raw(value)) - value) <= step / 2 + 1e-9


@pytest.mark.parametrize(
    ("low", "high", "value"),
    [(-20, 100, 23.5), (0, 500, 186.0), (-127, 0, -61.0), (0, 12750, 4200.0), (3.0, 3.6, 3.3), (0, 100, 42.0)],
)
def test_round_values_stay_round(low: float, high: float, value: float) -> None:
    scaling = scaling_for(low, high)
    assert scaling.value(scaling.raw(value)) == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (5, 5), (10, 1), (-1e9, 1e12), (0, 1e-9)])
def test_strange_ranges_do_no_harm(low: float, high: float) -> None:
    scaling = scaling_for(low, high)
    assert all(0 <= scaling.raw(value) <= 255 for value in (low, high, -1e30, 1e30, 0))


@pytest.mark.parametrize("value", [1, 3, 42, 3600, 86_400, 40_000_000])
def test_sensors_without_a_range_have_a_logarithmic_scale(value: int) -> None:
    (uptime,) = analog_sensors((SensorInfo(key="uptime", name="Uptime", unit="s"),))
    reading = uptime.reading(value)
    assert reading is not None
    assert uptime.scaling.value(reading) == pytest.approx(value, rel=0.04)
    assert uptime.reading(0) == 0
    assert uptime.reading(1e9) is None
    assert uptime.reading(-1) is None


def test_off_the_scale_is_no_reading_unless_there_are_limits() -> None:
    plain = SensorInfo(key="a", name="A", kind=SensorKind.VOLTAGE, minimum=0, maximum=15)
    watched = plain.model_copy(update={"thresholds": Thresholds(upper_critical=13)})
    first, second = analog_sensors((plain, watched))
    assert first.reading(12) is not None
    assert first.reading(20) is None
    assert first.reading(-1) is None
    assert second.reading(20) == 255
    assert second.crossed(20) == 0x10


def test_names_fit_and_differ() -> None:
    announced = [SensorInfo(key=f"s{n}", name="Temperature of the CPU socket") for n in range(3)]
    announced += [
        SensorInfo(key="x", name="Power State"),
        SensorInfo(key="y", name="日本"),
        SensorInfo(key="z", name=" "),
    ]
    names = [sensor.name for sensor in analog_sensors(tuple(announced))]
    assert len(set(names)) == len(names)
    assert all(0 < len(name.encode("latin-1")) <= 16 for name in names)
    assert "Power State" not in names


def test_units_and_percentages() -> None:
    announced = (
        SensorInfo(key="h", name="Humidity", unit="%"),
        SensorInfo(key="f", name="Mains", unit="Hz"),
        SensorInfo(key="q", name="Odd", unit="furlong"),
        SensorInfo(key="t", name="T", kind=SensorKind.TEMPERATURE, thresholds=Thresholds(upper_critical=400)),
    )
    humidity, mains, odd, hot = analog_sensors(announced)
    assert (humidity.percentage, humidity.unit) == (True, 0)
    assert (mains.percentage, mains.unit) == (False, 19)
    assert odd.unit == 0
    assert hot.scaling.value(255) >= 400


def test_more_sensors_than_numbers() -> None:
    announced = tuple(SensorInfo(key=f"s{n}", name=f"Sensor {n}") for n in range(300))
    sensors = analog_sensors(announced)
    assert sensors[-1].number == 0xFE
    assert len({sensor.number for sensor in sensors}) == len(sensors)
