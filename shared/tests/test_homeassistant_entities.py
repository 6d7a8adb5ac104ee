"""What Home Assistant is told of a node and a service, against the rules of its MQTT integration."""

import json
import re
from typing import Any

import pytest
from pypmi.contract import (
    BootRequest,
    Capability,
    FruFields,
    IdentifyRequest,
    NodeInfo,
    SensorInfo,
    SensorKind,
    ServiceKind,
    Topics,
    parse_power_command,
)
from pypmi.homeassistant.entities import node_availability, node_components, node_device, object_name
from pypmi.homeassistant.services import service_components, service_device

SENSORS = (
    SensorInfo(key="rssi", name="Signal", kind=SensorKind.SIGNAL, unit="dBm"),
    SensorInfo(key="cpu-temp", name="CPU", kind=SensorKind.TEMPERATURE, unit="°C"),
    SensorInfo(key="watts", name="Watts", kind=SensorKind.POWER, unit="W"),
    SensorInfo(key="fan", name="Fan", kind=SensorKind.FAN, unit="RPM"),
    SensorInfo(key="volts", name="12 V", kind=SensorKind.VOLTAGE, unit="V"),
    SensorInfo(key="uptime", name="Uptime", kind=SensorKind.OTHER, unit="s"),
)
ALL = frozenset(Capability)
CATEGORIES = {
    "switch": {None, "config", "diagnostic"},
    "button": {None, "config", "diagnostic"},
    "select": {None, "config", "diagnostic"},
    "sensor": {None, "diagnostic"},
    "binary_sensor": {None, "diagnostic"},
    "event": {None, "diagnostic"},
    "update": {None, "config", "diagnostic"},
}
DEVICE_CLASSES = {
    "switch": {"switch", "outlet"},
    "button": {"restart", "identify", "update"},
    "binary_sensor": {"problem", "connectivity", "power", "running"},
    "sensor": {"power", "temperature", "voltage", "current", "duration", "signal_strength", "enum"},
    "event": {"button"},
    "update": {"firmware"},
    "select": set(),
}
UNITS = {"power": "W", "temperature": "°C", "voltage": "V", "current": "A", "signal_strength": "dBm", "duration": "s"}


def node_info(**fields: Any) -> NodeInfo:
    base: dict[str, Any] = {
        "name": "Node 1", "agent": "esp8266-agent", "driver": "esp8266", "capabilities": ALL, "sensors": SENSORS,
        "epoch": "e",
    }  # fmt: skip
    return NodeInfo(**(base | fields))


def everything(topics: Topics) -> dict[str, dict[str, Any]]:
    found = node_components("n-1", node_info(), topics, "soft")
    for kind in ServiceKind:
        found |= {f"{kind}_{key}": item for key, item in service_components(f"s-{kind}", kind, topics).items()}
    return found


def test_each_thing_the_issue_names_is_there():
    found = node_components("n1", node_info(), Topics(), "soft")
    platforms = {key: item["platform"] for key, item in found.items()}
    assert platforms == {
        "power": "switch",
        "force_off": "button", "cycle": "button", "reset": "button", "nmi": "button", "identify": "button",
        "sensed": "binary_sensor", "problem": "binary_sensor",
        "boot": "select",
        "events": "event",
        "outcome": "sensor",
        **{f"sensor_{sensor.key}": "sensor" for sensor in SENSORS},
    }  # fmt: skip
    assert found["power"]["command_topic"] == "nodes/n1/power/set"
    assert found["power"]["state_topic"] == "nodes/n1/state"
    assert (found["power"]["payload_on"], found["power"]["payload_off"]) == ("on", "soft")
    assert found["force_off"]["payload_press"] == "off"


def test_only_what_a_node_can_do_is_offered():
    bare = node_components("n1", node_info(capabilities=frozenset({Capability.ON}), sensors=()), Topics(), "soft")
    assert set(bare) == {"power", "problem", "events", "outcome"}
    assert bare["power"]["payload_off"] == "off"
    off = node_components("n1", node_info(), Topics(), "off")
    assert off["power"]["payload_off"] == "off"


@pytest.mark.parametrize("topics", [Topics(), Topics("lab/rack-1")], ids=["plain", "prefix"])
def test_what_home_assistant_refuses_is_not_there(topics):
    found = everything(topics)
    unique = [item["unique_id"] for item in found.values()]
    assert len(set(unique)) == len(unique)
    entity_ids = [item["default_entity_id"] for item in found.values()]
    assert len(set(entity_ids)) == len(entity_ids)
    for key, item in found.items():
        platform = item["platform"]
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
        assert re.fullmatch(rf"{platform}\.[a-z0-9_]+", item["default_entity_id"])
        assert item["default_entity_id"] == f"{platform}.{item['object_id']}"
        assert item.get("entity_category") in CATEGORIES[platform], key
        device_class = item.get("device_class")
        assert device_class is None or device_class in DEVICE_CLASSES[platform], key
        if platform == "sensor" and device_class in UNITS:
            assert item["unit_of_measurement"] == UNITS[device_class]
        if device_class == "enum":
            assert item["options"]
            assert "state_class" not in item
        assert not [name for name, value in item.items() if value is None and name != "name"], "null is refused"
        for name in ("state_topic", "command_topic", "availability_topic", "json_attributes_topic"):
            if name in item:
                assert not set("+#") & set(item[name])
                assert item[name].startswith(topics.prefix)
        if "command_topic" in item:
            assert item["retain"] is False


def test_two_fleets_on_one_broker_do_not_meet():
    names = {object_name("n1", Topics()), object_name("n1", Topics("lab")), object_name("n1", Topics("service"))}
    names |= {service_device("n1", ServiceKind.GATEWAY, "1", "h", Topics())["identifiers"][0]}
    assert len(names) == 4


def rendered(template: str, value: str) -> bytes:
    """The templates' few expressions, as Home Assistant fills them in (the real ones run in tests/e2e)."""
    text = template.replace("{{ value }}", value)
    text = text.replace("{{ 'none' if value == 'normal' else value }}", "none" if value == "normal" else value)
    text = text.replace("{{ utcnow().isoformat() }}", "2026-01-01T12:00:00.123456+00:00")
    text = text.replace("{{ (utcnow().timestamp() * 1000000) | int }}", "1767268800123456")
    return text.replace("{{ range(100000) | random }}", "4711").encode()


def test_commands_can_be_read_by_the_agent():
    found = node_components("n1", node_info(), Topics(), "soft")
    wanted = {"force_off": "off", "cycle": "cycle", "reset": "reset", "nmi": "diag"}
    for key, action in wanted.items():
        item = found[key]
        command = parse_power_command(rendered(item["command_template"], item["payload_press"]))
        assert (command.action.value, command.source, command.ttl_ms) == (action, "home-assistant", 15_000)
        assert command.issued_at is not None
        assert parse_power_command(item["payload_press"].encode()).action.value == action
    for payload in ("payload_on", "payload_off"):
        assert parse_power_command(found["power"][payload].encode())
        assert parse_power_command(rendered(found["power"]["command_template"], found["power"][payload]))
    for option in found["boot"]["options"]:
        request = BootRequest.parse(rendered(found["boot"]["command_template"], option))
        assert (request.device.value, request.persistent) == (option.replace("normal", "none"), False)
    assert found["boot"]["options"][0] == "normal"
    assert "none" not in found["boot"]["options"], "Home Assistant takes it for unknown"
    assert IdentifyRequest.parse(found["identify"]["payload_press"].encode()).seconds


def test_the_device_leaves_out_what_is_not_known():
    device = node_device("n1", node_info(), Topics())
    assert device == {
        "identifiers": ["pypmi_n1"], "name": "Node 1", "manufacturer": "pypmi", "model": "esp8266 node",
        "via_device": "pypmi_service_esp8266-agent",
    }  # fmt: skip
    full = node_device(
        "n1",
        node_info(
            fru=FruFields(manufacturer="Acme", product="Box", serial="7"), firmware="2024", area="Rack 1",
            url="http://n1/", mac="02:00:00:00:00:01",
        ),
        Topics(),
    )  # fmt: skip
    assert full["manufacturer"] == "Acme"
    assert full["serial_number"] == "7"
    assert full["sw_version"] == "2024"
    assert full["suggested_area"] == "Rack 1"
    assert full["configuration_url"] == "http://n1/"
    assert full["connections"] == [["mac", "02:00:00:00:00:01"]]
    json.dumps(full)


def test_a_node_is_available_with_its_agent():
    said = node_availability("n1", node_info(), Topics("lab"))
    assert said["availability_mode"] == "all"
    assert [item["topic"] for item in said["availability"]] == [
        "lab/nodes/n1/availability", "lab/services/esp8266-agent/availability",
    ]  # fmt: skip


def test_a_service_is_connectivity_numbers_and_an_update():
    found = service_components("gw", ServiceKind.GATEWAY, Topics())
    assert set(found) == {"connection", "nodes", "contract", "sessions", "consoles"}
    assert "availability_topic" not in found["connection"]  # it is the one that says so
    assert found["sessions"]["availability_topic"] == "services/gw/availability"
    assert set(service_components("a", ServiceKind.ESP8266_AGENT, Topics())) == {"connection", "nodes", "contract"}
