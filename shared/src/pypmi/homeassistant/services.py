"""The services themselves as Home Assistant devices: connectivity, numbers, and whether an update is due."""

from typing import Any

from pypmi.contract import ServiceKind, TopicKind, Topics
from pypmi.homeassistant.entities import Component, service_object_name


def service_device(name: str, kind: ServiceKind, version: str, host: str) -> dict[str, Any]:
    """The device of a service."""
    return {
        "identifiers": [service_object_name(name)],
        "name": name,
        "manufacturer": "pypmi",
        "model": kind.value,
        "sw_version": version,
        "hw_version": host,
    }


def service_components(name: str, kind: ServiceKind, topics: Topics) -> dict[str, Component]:
    """Its components. They need no availability: the connectivity sensor is it."""
    components: dict[str, Component] = {}

    def add(key: str, platform: str, label: str, **fields: Any) -> None:
        tail = f"{name.replace('-', '_')}_{key}"
        components[key] = {
            "platform": platform,
            "unique_id": f"{service_object_name(name)}_{key}",
            "name": label,
            "default_entity_id": f"{platform}.{tail}",
            "object_id": tail,
            "entity_category": "diagnostic",
            **fields,
        }

    info = topics.service(name, TopicKind.SERVICE_INFO)
    stats = topics.service(name, TopicKind.SERVICE_STATS)
    add(
        "connection",
        "binary_sensor",
        "Connection",
        device_class="connectivity",
        state_topic=topics.service(name, TopicKind.SERVICE_AVAILABILITY),
        payload_on="online",
        payload_off="offline",
    )
    add("nodes", "sensor", "Nodes", state_topic=info, value_template="{{ value_json.nodes | count }}")
    add(
        "contract",
        "update",
        "Contract",
        device_class="firmware",
        state_topic=info,
        value_template=(
            "{{ {'installed_version': value_json.contract | string,"
            " 'latest_version': value_json.contract_seen | string} | tojson }}"
        ),
    )
    if kind is ServiceKind.GATEWAY:
        add("sessions", "sensor", "Sessions", state_topic=stats, value_template="{{ value_json.sessions }}")
        add("consoles", "sensor", "Consoles", state_topic=stats, value_template="{{ value_json.consoles }}")
    return components
