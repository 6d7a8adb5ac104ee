"""The entities of a node, as Home Assistant's MQTT discovery wants them described. Pure: dictionaries in and out.

Field names, device classes and categories are those of Home Assistant's MQTT integration, 2024.3 to 2026.11. A
component is keyed by a short word (`power`, `reset` ...) that never changes: unique ids are made from it. Where the
fleet's topics have a prefix the ids have it too, for two fleets may share a broker.
"""

from typing import Any, Literal

from pypmi.contract import (
    BootDevice,
    Capability,
    CommandStatus,
    EventType,
    NodeInfo,
    SensorInfo,
    SensorKind,
    TopicKind,
    Topics,
)

Component = dict[str, Any]

COMMAND_EXPIRY = 15
"""Seconds after which a command is void: by the broker (MQTT 5, newer releases) and by the agent. Home Assistant
sends what it could not send after the connection is back."""
IDENTIFY_SECONDS = 15

_COMMAND = (
    '{"id": "ha-{{ (utcnow().timestamp() * 1000000) | int }}-{{ range(100000) | random }}", "action": "{{ value }}",'
    f' "issued_at": "{{{{ utcnow().isoformat() }}}}", "ttl_ms": {COMMAND_EXPIRY * 1000}, "source": "home-assistant"}}'
)
"""A whole command, so that the agent knows when and by what it was sent. Switches of releases before 2025 do not know
`command_template` and send the bare word, which works too."""
BOOT_NORMAL = "normal"
"""Home Assistant's word for no boot intent: a select takes the contract's `none` for unknown."""
_BOOT_COMMAND = (
    f"""{{"device": "{{{{ 'none' if value == '{BOOT_NORMAL}' else value }}}}", "source": "home-assistant"}}"""
)

_GONE = "{% if value_json is defined %}"
_END = "{% else %}None{% endif %}"
"""Around what is read from a retained topic: a node that leaves has it emptied before its entities are removed."""

_SENSOR_CLASSES: dict[SensorKind, tuple[str | None, str]] = {
    SensorKind.TEMPERATURE: ("temperature", "°C"),
    SensorKind.VOLTAGE: ("voltage", "V"),
    SensorKind.CURRENT: ("current", "A"),
    SensorKind.POWER: ("power", "W"),
    SensorKind.FAN: (None, "rpm"),
    SensorKind.SIGNAL: ("signal_strength", "dBm"),
}
"""Device class and unit. A unit that does not fit its device class costs the entity (seen in 2026.11)."""


def object_name(node_id: str, topics: Topics) -> str:
    """The node's part of discovery topics and unique ids."""
    return f"{_head(topics)}{node_id}"


def service_object_name(name: str, topics: Topics) -> str:
    """A service's part of discovery topics and unique ids."""
    return f"{_head(topics)}service_{name}"


def _head(topics: Topics) -> str:
    # two underscores: a fleet with the prefix "service" must not look like a service of one without
    return f"pypmi_{topics.prefix.replace('/', '_')}__" if topics.prefix else "pypmi_"


def entity_name(name: str, topics: Topics) -> str:
    """What entity ids of a node or service begin with."""
    whole = f"{topics.prefix}_{name}" if topics.prefix else name
    return whole.replace("/", "_").replace("-", "_").lower()


def node_components(
    node_id: str, info: NodeInfo, topics: Topics, turn_off: Literal["soft", "off"]
) -> dict[str, Component]:
    """All components of a node by key, each with `platform` and `unique_id`."""
    components: dict[str, Component] = {}
    own, start = object_name(node_id, topics), entity_name(node_id, topics)

    def add(key: str, platform: str, name: str | None, suffix: str, **fields: Any) -> None:
        tail = f"{start}{'_' + suffix if suffix else ''}"
        components[key] = {
            "platform": platform,
            "unique_id": f"{own}_{key}",
            "name": name,
            # 2025.10 and later / earlier releases: entity ids that stay the same over all of them
            "default_entity_id": f"{platform}.{tail}",
            "object_id": tail,
            **fields,
        }

    power_set = topics.node(node_id, TopicKind.POWER_SET)
    state = topics.node(node_id, TopicKind.STATE)
    can = info.capabilities
    command = {
        "command_topic": power_set,
        "command_template": _COMMAND,
        "retain": False,
        "message_expiry_interval": COMMAND_EXPIRY,
    }
    if Capability.ON in can:
        off = turn_off if Capability(turn_off) in can else "off"
        add(
            "power",
            "switch",
            None,
            "",
            device_class="switch",
            state_topic=state,
            # Home Assistant keeps a switch's last state for any word it does not know; None is its "unknown"
            value_template=_GONE + "{{ 'None' if value_json.power == 'unknown' else value_json.power }}" + _END,
            state_on="on",
            state_off="off",
            payload_on="on",
            payload_off=off,
            **command,
        )
    for action, name, device_class in (
        (Capability.OFF, "Force off", None),
        (Capability.CYCLE, "Power cycle", "restart"),
        (Capability.RESET, "Reset", "restart"),
        (Capability.DIAG, "NMI", None),
    ):
        if action in can:
            word = {Capability.OFF: "force_off", Capability.DIAG: "nmi"}.get(action, action.value)
            extra = {"device_class": device_class} if device_class else {}
            add(word, "button", name, word, payload_press=action.value, **extra, **command)
    if Capability.IDENTIFY in can:
        add(
            "identify",
            "button",
            "Identify",
            "identify",
            device_class="identify",
            payload_press=str(IDENTIFY_SECONDS),
            command_topic=topics.node(node_id, TopicKind.IDENTIFY_SET),
            entity_category="config",
            retain=False,
        )
    _add_status(add, node_id, info, topics)
    if Capability.BOOT in can:
        add(
            "boot",
            "select",
            "Next boot",
            "next_boot",
            options=[BOOT_NORMAL, *(device.value for device in BootDevice if device is not BootDevice.NONE)],
            state_topic=topics.node(node_id, TopicKind.BOOT),
            value_template=_GONE
            + f"{{{{ '{BOOT_NORMAL}' if value_json.device == 'none' else value_json.device }}}}"
            + _END,
            command_topic=topics.node(node_id, TopicKind.BOOT_SET),
            command_template=_BOOT_COMMAND,
            entity_category="config",
            retain=False,
        )
    for sensor in info.sensors:
        add(
            f"sensor_{sensor.key}",
            "sensor",
            sensor.name,
            sensor.key.replace("-", "_"),
            **_sensor(node_id, sensor, topics),
        )
    return components


def _add_status(add: Any, node_id: str, info: NodeInfo, topics: Topics) -> None:
    state = topics.node(node_id, TopicKind.STATE)
    if Capability.STATUS in info.capabilities:
        add(
            "sensed",
            "binary_sensor",
            "Power",
            "power",
            device_class="power",
            state_topic=state,
            value_template=_GONE + "{{ {'on': 'ON', 'off': 'OFF'}.get(value_json.power, 'None') }}" + _END,
        )
    add(
        "problem",
        "binary_sensor",
        "Problem",
        "problem",
        device_class="problem",
        entity_category="diagnostic",
        state_topic=state,
        value_template=_GONE + "{{ 'ON' if value_json.fault else 'OFF' }}" + _END,
    )
    add(
        "events",
        "event",
        "Events",
        "events",
        state_topic=topics.node(node_id, TopicKind.EVENTS),
        event_types=[event.value for event in EventType],
        value_template=(
            "{{ {'event_type': value_json.type, 'cause': value_json.cause, 'user': value_json.user,"
            " 'source': value_json.source, 'message': value_json.message} | tojson }}"
        ),
    )
    result = topics.node(node_id, TopicKind.POWER_RESULT)
    add(
        "outcome",
        "sensor",
        "Last command",
        "last_command",
        device_class="enum",
        options=[status.value for status in CommandStatus],
        entity_category="diagnostic",
        state_topic=result,
        value_template="{{ value_json.status }}",
        json_attributes_topic=result,
        json_attributes_template=(
            "{{ {'action': value_json.action, 'user': value_json.user, 'source': value_json.source,"
            " 'error': value_json.error.message if value_json.error else None} | tojson }}"
        ),
    )


def _sensor(node_id: str, sensor: SensorInfo, topics: Topics) -> Component:
    fields: Component = {
        "state_topic": topics.sensor(node_id, sensor.key),
        "state_class": "measurement",
    }
    if sensor.kind not in {SensorKind.POWER, SensorKind.TEMPERATURE}:
        fields["entity_category"] = "diagnostic"
    device_class, unit = _SENSOR_CLASSES.get(sensor.kind, (None, sensor.unit))
    if sensor.kind is SensorKind.OTHER and unit == "s":
        device_class = "duration"
    if device_class:
        fields["device_class"] = device_class
    if unit:
        fields["unit_of_measurement"] = unit
    return fields


def node_device(node_id: str, info: NodeInfo, topics: Topics) -> dict[str, Any]:
    """The device that a node's entities belong to. Absent fields are left out: Home Assistant refuses null."""
    device: dict[str, Any] = {
        "identifiers": [object_name(node_id, topics)],
        "name": info.name or node_id,
        "manufacturer": info.fru.manufacturer or "pypmi",
        "model": info.fru.product or f"{info.driver} node",
        "sw_version": info.firmware,
        "serial_number": info.fru.serial,
        "suggested_area": info.area,
        "configuration_url": info.url,
        "via_device": service_object_name(info.agent, topics),
        "connections": [["mac", info.mac]] if info.mac else None,
    }
    return {key: value for key, value in device.items() if value is not None}


def node_availability(node_id: str, info: NodeInfo, topics: Topics) -> dict[str, Any]:
    """Available while the agent reaches the hardware and the broker has the agent."""
    return {
        "availability": [
            {"topic": topics.node(node_id, TopicKind.NODE_AVAILABILITY)},
            {"topic": topics.service(info.agent, TopicKind.SERVICE_AVAILABILITY)},
        ],
        "availability_mode": "all",
    }
