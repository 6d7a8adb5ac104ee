"""The services themselves as Home Assistant devices: connectivity, numbers, and whether an update is due."""

from typing import Any

from pypmi.contract import ServiceKind, TopicKind, Topics
from pypmi.homeassistant.entities import Component, entity_name, service_object_name


def service_device(name: str, kind: ServiceKind, version: str, host: str, topics: Topics) -> dict[str, Any]:
    """The device of a service."""
    return {
        "identifiers": [service_object_name(name, topics)],
        "name": name,
        "manufacturer": "pypmi",
        "model": kind.value,
        "sw_version": version,
        "hw_version": host,
    }


def service_components(name: str, kind: ServiceKind, topics: Topics) -> dict[str, Component]:
    """Its components. The connectivity sensor is always available; what the service says of itself while it is up."""
    components: dict[str, Component] = {}
    own, start = service_object_name(name, topics), entity_name(name, topics)
    availability = topics.service(name, TopicKind.SERVICE_AVAILABILITY)
    alive = {"availability_topic": availability}

    def add(key: str, platform: str, label: str, **fields: Any) -> None:
        tail = f"{start}_{key}"
        components[key] = {
            "platform": platform,
            "unique_id": f"{own}_{key}",
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
        state_topic=availability,
        payload_on="online",
        payload_off="offline",
    )
    count = {"state_class": "measurement", **alive}
    add("nodes", "sensor", "Nodes", state_topic=info, value_template="{{ value_json.nodes | count }}", **count)
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
        **alive,
    )
    if kind is ServiceKind.GATEWAY:
        add("sessions", "sensor", "Sessions", state_topic=stats, value_template="{{ value_json.sessions }}", **count)
        add("consoles", "sensor", "Consoles", state_topic=stats, value_template="{{ value_json.consoles }}", **count)
    return components
