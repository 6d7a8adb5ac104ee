"""Tells Home Assistant of nodes and services: when, in which form, and how it forgets them again.

Discovery messages are retained. Two forms exist: one message for a device with all its components (2024.12 and later),
or one message for each component. What an earlier run left in the broker is looked at first: the other form is moved
over as Home Assistant asks for (`migrate_discovery`), and what is no longer there is removed.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable
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

_MAX_LEFT = 200_000
_MIGRATE = b'{"migrate_discovery": true}'
_SUPPORT_URL = "https://github.com/pypmi/pypmi"


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds."""

    quiet: float = 1.0
    """The broker has handed over what earlier runs left when it has said nothing for so long."""
    look: float = 30.0
    """It gets no longer than this."""
    migrate: float = 1.5
    """Between the steps of a move to the other form: Home Assistant unloads each entity in a task of its own."""
    settle: float = 3.0
    """Between telling Home Assistant of a change and removing what it replaces."""
    jitter: float = 5.0
    """Home Assistant is told again within this time after its start; not by all services in the same moment."""


@dataclass(slots=True)
class _Left:
    """What the broker holds of one device: platform by component key for the device form, topics for the other."""

    components: dict[str, str] = field(default_factory=dict)
    single: dict[str, str] = field(default_factory=dict)
    """Topic by component key."""


@dataclass(frozen=True, slots=True)
class _Device:
    """One device as it is to be announced."""

    name: str
    device: dict[str, Any]
    shared: dict[str, Any]
    components: dict[str, Component]


_UNREADABLE = {"unreadable": ""}
"""Components of a device message that can't be read."""


class Discovery(AgentObserver):
    """Discovery for the nodes of one agent, and for the services themselves.

    Args:
        bus: keeps the messages, and publishes them again on every connection.
        topics: names the topics.
        settings: prefix and form; `enabled` false removes what earlier runs left.
        version: of pypmi, for the origin.
        pace: times.
        rng: jitter; an argument so that tests are repeatable.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        settings: HomeAssistantSettings,
        version: str,
        *,
        pace: Pace | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._settings = settings
        self._prefix = settings.prefix
        self._origin = {"name": "pypmi", "sw_version": version, "support_url": _SUPPORT_URL}
        self._pace = pace or Pace()
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._makers: dict[str, Callable[[], _Device]] = {}
        self._wanted: dict[str, _Device | None] = {}
        self._dirty: dict[str, None] = {}
        """Names to be published, in the order they came: an agent's own device stands before its nodes'."""
        self._left: dict[str, _Left] = {}
        self._heard = 0
        self._changed = asyncio.Event()
        self._birth = asyncio.Event()
        bus.subscribe(f"{self._prefix}/status", self._on_status)

    # -- what the agent says ---------------------------------------------------------------------------------------

    def on_info(self, node: str, info: NodeInfo) -> None:
        """A node is there, or is described anew."""
        name = object_name(node, self._topics)
        self._makers[name] = lambda: _Device(
            name,
            node_device(node, info, self._topics),
            node_availability(node, info, self._topics),
            node_components(node, info, self._topics, self._settings.turn_off),
        )
        self._want(name)

    def on_removed(self, node: str) -> None:
        """A node has left the fleet: Home Assistant forgets it."""
        name = object_name(node, self._topics)
        self._makers.pop(name, None)
        self._want(name)

    def on_moved(self, node: str) -> None:
        """Another agent announces the node now: its messages are left alone."""
        name = object_name(node, self._topics)
        self._makers.pop(name, None)
        self._wanted.pop(name, None)
        self._dirty.pop(name, None)
        left = self._left.pop(name, None) or _Left()
        for topic in (self._device_topic(name), *left.single.values()):
            self._bus.forget_retained(topic)

    def announce(
        self, name: str, device: dict[str, Any], shared: dict[str, Any], components: dict[str, Component]
    ) -> None:
        """Announce any device, such as a service."""
        self._makers[name] = lambda: _Device(name, device, shared, components)
        self._want(name)

    def configure(self, settings: HomeAssistantSettings) -> None:
        """Take over changed settings; a changed prefix takes a restart."""
        if settings.prefix != self._prefix:
            logger.warning("a changed homeassistant.prefix takes a restart; the rest is taken over now")
        if settings == self._settings:
            return
        same_form = settings.form == self._settings.form
        self._settings = settings
        for name in list(self._makers):
            if not same_form:
                self._wanted.pop(name, None)
            self._want(name)

    def _want(self, name: str) -> None:
        maker = self._makers.get(name)
        device = maker() if maker is not None and self._settings.enabled else None
        if name in self._wanted and self._wanted[name] == device:
            return
        self._wanted[name] = device
        self._dirty[name] = None
        self._changed.set()

    # -- what the broker and Home Assistant say ----------------------------------------------------------------------

    def _on_status(self, message: Message) -> None:
        if message.payload == b"online" and not message.retain:
            self._birth.set()

    def _on_left(self, message: Message) -> None:
        """A retained discovery message, ours or another program's."""
        self._heard += 1
        if not message.payload or not message.retain:
            return
        parts = message.topic.removeprefix(f"{self._prefix}/").split("/")
        if len(parts) == 3 and parts[0] == "device" and parts[1].startswith("pypmi_"):
            try:
                config = json.loads(message.payload)
                components = {str(key): str(value["platform"]) for key, value in config["components"].items()}
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                components = dict(_UNREADABLE)
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
                names, self._dirty = self._dirty, {}
                await self._move([name for name in names if self._wanted.get(name) is not None])
                for count, name in enumerate(names, start=1):
                    self._publish(name, group)
                    if count % 50 == 0:
                        await asyncio.sleep(0)

    async def _look(self) -> None:
        """Hear what earlier runs left, until the broker has nothing more to say."""
        filters = (f"{self._prefix}/device/+/config", f"{self._prefix}/+/+/+/config")
        for topic_filter in filters:
            self._bus.subscribe(topic_filter, self._on_left)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._pace.look
        before = -1
        while self._heard != before and loop.time() < deadline:
            before = self._heard
            await asyncio.sleep(self._pace.quiet)
        for topic_filter in filters:
            self._bus.unsubscribe(topic_filter, self._on_left)

    async def _greet(self) -> None:
        """Home Assistant has started: say everything again, for a broker may have lost it."""
        while True:
            await self._birth.wait()
            self._birth.clear()
            await asyncio.sleep(self._rng.random() * self._pace.jitter)
            if self._settings.enabled:
                await self._bus.republish()

    def _device_topic(self, name: str) -> str:
        return f"{self._prefix}/device/{name}/config"

    def _single_topic(self, name: str, key: str, component: Component) -> str:
        return f"{self._prefix}/{component['platform']}/{name}/{key}/config"

    async def _move(self, names: list[str]) -> None:
        """Say that devices come in the other form, so that their entities keep their place in the registry.

        Then the old topics are emptied: that unloads the entities, and does not remove them. Those still loaded when
        the new form comes are refused as a conflict (seen in 2025.4).
        """
        old_topics = [topic for name in names for topic in self._in_other_form(name)]
        if not old_topics:
            return
        for topic in old_topics:
            self._bus.set_retained(topic, _MIGRATE)
        await asyncio.sleep(self._pace.migrate)
        for topic in old_topics:
            if self._bus.retained(topic) == _MIGRATE:
                self._bus.clear_retained(topic)
        for name in names:
            left = self._left.get(name)
            if left is not None and self._in_other_form(name):
                self._left[name] = _Left() if self._settings.form == "device" else _Left(single=left.single)
        await asyncio.sleep(self._pace.migrate)

    def _in_other_form(self, name: str) -> tuple[str, ...]:
        left = self._left.get(name) or _Left()
        if self._settings.form == "device":
            return tuple(left.single.values())
        return (self._device_topic(name),) if left.components else ()

    def _publish(self, name: str, group: asyncio.TaskGroup) -> None:
        if name not in self._wanted:  # moved to another agent meanwhile
            return
        device = self._wanted[name]
        left = self._left.get(name) or _Left()
        if device is None:
            self._remove(name, left)
        elif self._settings.form == "device":
            self._publish_device(device, left, group)
        else:
            self._publish_single(device, left)

    def _remove(self, name: str, left: _Left) -> None:
        if left.components:
            self._bus.clear_retained(self._device_topic(name))
        for topic in left.single.values():
            self._bus.clear_retained(topic)
        self._left.pop(name, None)
        self._wanted.pop(name, None)

    def _publish_device(self, device: _Device, left: _Left, group: asyncio.TaskGroup) -> None:
        gone = {
            key: {"platform": platform}
            for key, platform in left.components.items()
            if platform and key not in device.components
        }
        self._bus.set_retained(self._device_topic(device.name), self._device_message(device, gone))
        self._left[device.name] = _Left({key: item["platform"] for key, item in device.components.items()})
        if gone:
            group.create_task(self._clean_up(device))

    def _device_message(self, device: _Device, gone: dict[str, Component]) -> bytes:
        """One message for all. A component that is its platform alone is removed by Home Assistant."""
        components = {**device.components, **gone}
        return _dump(
            {"device": device.device, "origin": self._origin, **device.shared, "qos": 1, "components": components}
        )

    def _publish_single(self, device: _Device, left: _Left) -> None:
        topics = {key: self._single_topic(device.name, key, item) for key, item in device.components.items()}
        for key, item in device.components.items():
            config = {"device": device.device, "origin": self._origin, **device.shared, "qos": 1, **item}
            del config["platform"]
            self._bus.set_retained(topics[key], _dump(config))
        for topic in set(left.single.values()) - set(topics.values()):
            self._bus.clear_retained(topic)
        self._left[device.name] = _Left(single=topics)

    async def _clean_up(self, device: _Device) -> None:
        """Home Assistant has removed the components that are gone: they need not be named any longer."""
        await asyncio.sleep(self._pace.settle)
        if self._settings.form == "device" and self._wanted.get(device.name) is device:
            self._bus.set_retained(self._device_topic(device.name), self._device_message(device, {}))


def _dump(config: dict[str, Any]) -> bytes:
    return json.dumps(config, ensure_ascii=False, separators=(",", ":")).encode()
