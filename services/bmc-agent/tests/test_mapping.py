"""From pyghmi's records to the contract, without a BMC."""

from types import SimpleNamespace

import pytest
from bmc_agent.client import fru_fields, log_entry
from bmc_agent.messages import Login
from bmc_agent.sensors import MAX_SENSORS, decode_thresholds, describe, slug
from hypothesis import given
from hypothesis import strategies as st
from pypmi.contract import SensorKind, Thresholds, Topics


def record(name: str = "CPU1 Temp", **changes: object) -> SimpleNamespace:
    values = {
        "sensor_name": name,
        "sensor_type": "Temperature",
        "unit_suffix": "°C",
        "sensor_number": 1,
        "sensor_lun": 0,
        "numeric_format": 0,
        "has_thresholds": True,
        "reading_type": 1,
        "linearization": 0,
        "decode_value": lambda command, raw: float(raw),
    }
    return SimpleNamespace(**{**values, **changes})


@given(st.text(max_size=80))
def test_keys_can_stand_in_topics(name: str) -> None:
    assert Topics().sensor("pc1", slug(name))


@pytest.mark.parametrize(
    ("sensor_type", "unit", "kind"),
    [
        ("Temperature", "°C", SensorKind.TEMPERATURE),
        ("Fan", "RPM", SensorKind.FAN),
        ("Cooling Device", "RPM", SensorKind.FAN),
        ("Voltage", "V", SensorKind.VOLTAGE),
        ("Current", "A", SensorKind.CURRENT),
        ("Power", "W", SensorKind.POWER),
        ("Fan", "% ", SensorKind.OTHER),
        ("Temperature", "°F", SensorKind.OTHER),
    ],
)
def test_kinds(sensor_type: str, unit: str, kind: SensorKind) -> None:
    (sensor,) = describe([record(sensor_type=sensor_type, unit_suffix=unit)], {})
    assert sensor.info.kind is kind


def test_alike_names_get_keys_of_their_own_and_discrete_sensors_none() -> None:
    records = [
        record("Fan", sensor_number=1),
        record("Fan", sensor_number=2),
        record("Chassis", numeric_format=3),
        record("Status", numeric_format=0, has_thresholds=False, reading_type=0x6F),
        record("fan", sensor_number=3),
    ]
    assert [sensor.info.key for sensor in describe(records, {})] == ["fan", "fan_0_2", "fan_0_3"]


def test_no_more_than_info_can_hold() -> None:
    assert len(describe([record(f"T{n}", sensor_number=n) for n in range(300)], {})) == MAX_SENSORS


def test_thresholds_are_those_that_are_watched() -> None:
    data = bytes([0b010001, 5, 6, 7, 70, 80, 90])
    assert decode_thresholds(data, record(), None) == Thresholds(lower_non_critical=5, upper_critical=80)
    assert decode_thresholds(b"", record(), None) == Thresholds()


def test_thresholds_of_signed_and_inverse_sensors() -> None:
    data = bytes([0b000001, 0xFB, 0, 0, 0, 0, 0])
    assert decode_thresholds(data, record(numeric_format=2), None).lower_non_critical == -5
    assert decode_thresholds(data, record(numeric_format=1), None).lower_non_critical == -4
    inverse = record(linearization=7, decode_value=lambda command, raw: 1 / raw)
    assert decode_thresholds(bytes([0b000001, 2, 0, 0, 0, 0, 0]), inverse, None) == Thresholds(upper_non_critical=0.5)
    assert decode_thresholds(bytes([0b000001, 0, 0, 0, 0, 0, 0]), inverse, None) == Thresholds()


def test_fru_names() -> None:
    fields = fru_fields(
        {"Manufacturer": "Acme\0", "Model": bytearray(b"x"), "Serial Number": "", "Board model": "B" * 99}
    )
    assert (fields.manufacturer, fields.part_number, fields.serial) == ("Acme", None, None)
    assert fields.board_part_number == "B" * 63


def test_log_entries() -> None:
    oem = log_entry({"record_id": 3, "oemdata": bytearray(b"\x01\x02")}, 3)
    assert (oem.text, oem.severity, oem.asserted) == ("OEM record 0102", "ok", True)
    gone = log_entry({"component": "Fan", "event": "Failure", "deassertion": True, "severity": 2, "event_data": "x"}, 4)
    assert (gone.text, gone.severity, gone.asserted) == ("Fan: Failure: x (no longer)", "critical", False)


def test_login_hides_its_secrets() -> None:
    login = Login(host="h", port=623, user="u", password="hunter2", kg="sesame", privilege=3)
    assert "hunter2" not in repr(login)
    assert "sesame" not in repr(login)
