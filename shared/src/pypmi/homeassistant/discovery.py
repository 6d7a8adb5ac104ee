"""Tells Home Assistant of nodes and services: when, in which form, and how it forgets them again.

Discovery messages are retained. Two forms exist: one message for a device with all its components (2024.12 and later),
or one message for each component. What an earlier run left in the broker is looked at first: the other form is moved
over as Home Assistant asks for (`migrate_discovery`), and what is no longer there is removed.
"""

import asyncio
import json
import logging
import random
from dataclasses import dataclass, field
from typing import Any

from pypmi.agent.publisher import AgentObserver
from pypmi.bus import Bus, Message
from pypmi.config.fleet import HomeAssistantSettings
from pypmi.contract import NodeInfo, Topics
from pypmi.homeassistant.entities import (
    Component,
    node_availability,
    node_components,
    node_device,
    object_name,
)

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How long the broker gets to hand over what earlier runs left."""
SETTLE_SECONDS = 3.0
"""Between telling Home Assistant of a change and removing what it replaces."""
BIRTH_JITTER = 5.0
"""Home Assistant is told again within this time after its start; not by all agents in the same moment."""
_MAX_LEFT = 200_000
_SUPPORT_URL = "https://github.com/pypmi/pypmi"


@dataclass(slots=True)
class _Left:
    """What the broker holds of one device: platform by component key for the device form, topics for the other."""

    components: dict[str, str] = field(default_factory=dict)
    single: dict[str, str] = field(default_factory=dict)
    """Topic by component key."""

    @property
    def is_device(self) -> bool:
        return bool(self.components)


@dataclass(frozen=True, slots=True)
class _Device:
    """One device as it is to be announced."""

    name: str
    device: dict[str, Any]
    shared: dict[str, Any]
    components: dict[str, Component]


class Discovery(AgentObserver):
    """Discovery for the nodes of one agent, and for the services themselves.

    Args:
        settings: prefix and form; `enabled` false removes what earlier runs left.
        version: of pypmi, for the origin.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        settings: HomeAssistantSettings,
        version: str,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._settings = settings
        self._origin = {"name": "pypmi", "sw_version": version, "support_url": _SUPPORT_URL}
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._wanted: dict[str, _Device | None] = {}
        self._dirty: set[str] = set()
        self._left: dict[str, _Left] = {}
        self._changed = asyncio.Event()
        self._birth = asyncio.Event()
        if settings.enabled:
            bus.subscribe(f"{settings.prefix}/status", self._on_status)

    # -- what the agent says ---------------------------------------------------------------------------------------

    def on_info(self, node: str, info: NodeInfo) -> None:
        """A node is there, or is described anew."""
        self.announce(
            object_name(node),
            node_device(node, info),
            node_availability(node, info, self._topics),
            node_components(node, info, self._topics, self._settings.turn_off),
        )

    def on_removed(self, node: str) -> None:
        """A node has left the fleet: Home Assistant forgets it."""
        self._want(object_name(node), None)

    def announce(
        self, name: str, device: dict[str, Any], shared: dict[str, Any], components: dict[str, Component]
    ) -> None:
        """Announce any device, such as a service."""
        self._want(name, _Device(name, device, shared, components))

    def _want(self, name: str, device: _Device | None) -> None:
        if not self._settings.enabled:
            device = None
        if name in self._wanted and self._wanted[name] == device:
            return
        self._wanted[name] = device
        self._dirty.add(name)
        self._changed.set()

    # -- what the broker and Home Assistant say ----------------------------------------------------------------------

    def _on_status(self, message: Message) -> None:
        if message.payload == b"online" and not message.retain:
            self._birth.set()

    def _on_left(self, message: Message) -> None:
        """A retained discovery message, ours or another program's."""
        if not message.payload or not message.retain:
            return
        parts = message.topic.removeprefix(f"{self._settings.prefix}/").split("/")
        if len(parts) == 3 and parts[0] == "device" and parts[1].startswith("pypmi_"):
            try:
                config = json.loads(message.payload)
                components = {str(key): str(value["platform"]) for key, value in config["components"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                components = {"unreadable": "sensor"}
            self._left.setdefault(parts[1], _Left()).components = components
        elif len(parts) == 4 and parts[1].startswith("pypmi_") and len(self._left) < _MAX_LEFT:
            self._left.setdefault(parts[1], _Left()).single[parts[2]] = message.topic

    # -- work --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish what changes until cancelled."""
        await self._bus.wait_connected()
        await self._look()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._greet())
            while True:
                await self._changed.wait()
                self._changed.clear()
                names, self._dirty = self._dirty, set()
                for count, name in enumerate(sorted(names), start=1):
                    await self._publish(name, group)
                    if count % 50 == 0:
                        await asyncio.sleep(0)

    async def _look(self) -> None:
        filters = (f"{self._settings.prefix}/device/+/config", f"{self._settings.prefix}/+/+/+/config")
        for topic_filter in filters:
            self._bus.subscribe(topic_filter, self._on_left)
        await asyncio.sleep(LOOK_SECONDS)
        for topic_filter in filters:
            self._bus.unsubscribe(topic_filter, self._on_left)

    async def _greet(self) -> None:
        """Home Assistant has started: say everything again, for a broker may have lost it."""
        while True:
            await self._birth.wait()
            self._birth.clear()
            await asyncio.sleep(self._rng.random() * BIRTH_JITTER)
            await self._bus.republish()

    def _device_topic(self, name: str) -> str:
        return f"{self._settings.prefix}/device/{name}/config"

    def _single_topic(self, name: str, key: str, component: Component) -> str:
        return f"{self._settings.prefix}/{component['platform']}/{name}/{key}/config"

    async def _publish(self, name: str, group: asyncio.TaskGroup) -> None:
        device = self._wanted[name]
        left = self._left.get(name) or _Left()
        if device is None:
            self._remove(name, left)
        elif self._settings.form == "device":
            self._publish_device(device, left, group)
        else:
            self._publish_single(device, left, group)

    def _remove(self, name: str, left: _Left) -> None:
        if left.is_device:
            self._bus.clear_retained(self._device_topic(name))
        for topic in left.single.values():
            self._bus.clear_retained(topic)
        self._left.pop(name, None)
        self._wanted.pop(name, None)

    def _publish_device(self, device: _Device, left: _Left, group: asyncio.TaskGroup) -> None:
        topic = self._device_topic(device.name)
        old_topics = list(left.single.values())
        for old in old_topics:
            self._bus.set_retained(old, b'{"migrate_discovery": true}')
        gone = {
            key: {"platform": platform} for key, platform in left.components.items() if key not in device.components
        }
        gone.pop("unreadable", None)
        config = {
            "device": device.device,
            "origin": self._origin,
            **device.shared,
            "qos": 1,
            "components": {**device.components, **gone},
        }
        self._bus.set_retained(topic, _dump(config))
        self._left[device.name] = _Left({key: item["platform"] for key, item in device.components.items()})
        if gone or old_topics:
            config["components"] = device.components
            group.create_task(self._clean_up(old_topics, topic, _dump(config) if gone else None))

    def _publish_single(self, device: _Device, left: _Left, group: asyncio.TaskGroup) -> None:
        old_topics = []
        if left.is_device:
            old_topics.append(self._device_topic(device.name))
            self._bus.set_retained(old_topics[0], b'{"migrate_discovery": true}')
        topics = {key: self._single_topic(device.name, key, item) for key, item in device.components.items()}
        for key, item in device.components.items():
            config = {"device": device.device, "origin": self._origin, **device.shared, "qos": 1, **item}
            del config["platform"]
            self._bus.set_retained(topics[key], _dump(config))
        for topic in set(left.single.values()) - set(topics.values()):
            self._bus.clear_retained(topic)
        self._left[device.name] = _Left(single=topics)
        if old_topics:
            group.create_task(self._clean_up(old_topics, "", None))

    async def _clean_up(self, old_topics: list[str], topic: str, final: bytes | None) -> None:
        """Second half of a change: Home Assistant has taken the new over, what it replaces can go."""
        await asyncio.sleep(SETTLE_SECONDS)
        for old in old_topics:
            self._bus.clear_retained(old)
        if final is not None and self._bus.retained(topic) is not None:
            self._bus.set_retained(topic, final)


def _dump(config: dict[str, Any]) -> bytes:
    return json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode()
