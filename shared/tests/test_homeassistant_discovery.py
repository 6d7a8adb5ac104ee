"""When Home Assistant is told what, with a real broker in between."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from pypmi.bus import Bus, Message
from pypmi.config.fleet import HomeAssistantSettings
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import Capability, NodeInfo, Topics
from pypmi.homeassistant.discovery import Discovery, Pace

PACE = Pace(quiet=0.3, migrate=0.05, look=10, settle=0.4, jitter=0.05)
FEW = frozenset({Capability.ON, Capability.STATUS})
MORE = FEW | {Capability.RESET}
DEVICE_TOPIC = "homeassistant/device/pypmi_n1/config"
MIGRATE = {"migrate_discovery": True}


def node_info(capabilities: frozenset[Capability] = MORE) -> NodeInfo:
    return NodeInfo(name="N1", agent="agent", driver="esp8266", capabilities=capabilities, epoch="e")


class Listener:
    """Home Assistant's ears: all discovery messages as they came, and what is retained."""

    def __init__(self, bus: Bus, prefix: str = "homeassistant") -> None:
        self.log: list[tuple[str, Any]] = []
        self.kept: dict[str, Any] = {}
        bus.subscribe(f"{prefix}/#", self._hear)

    def _hear(self, message: Message) -> None:
        if message.topic.endswith("/status"):
            return
        content = json.loads(message.payload) if message.payload else None
        self.log.append((message.topic, content))
        if content is None:
            self.kept.pop(message.topic, None)
        else:
            self.kept[message.topic] = content


@asynccontextmanager
async def connected(broker, name: str) -> AsyncIterator[Bus]:
    bus = Bus(MqttSettings(url=broker.url), f"test-{name}")
    task = asyncio.create_task(bus.run())
    try:
        await bus.wait_connected()
        yield bus
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def discovery(bus: Bus, *, topics: Topics | None = None, **settings: Any) -> AsyncIterator[Discovery]:
    running = Discovery(bus, topics or Topics(), HomeAssistantSettings(**settings), "1.0", pace=PACE)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Any, timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


async def test_one_message_for_a_device(mosquitto):
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha, discovery(bus) as said:
        heard = Listener(ha)
        said.on_info("n1", node_info())
        await until(lambda: DEVICE_TOPIC in heard.kept)
        config = heard.kept[DEVICE_TOPIC]
        assert config["origin"]["name"] == "pypmi"
        assert config["device"]["identifiers"] == ["pypmi_n1"]
        assert config["availability_mode"] == "all"
        assert config["qos"] == 1
        for item in config["components"].values():
            assert item["platform"]
            assert item["unique_id"]
        assert list(heard.kept) == [DEVICE_TOPIC]


async def test_one_message_for_each_component(mosquitto):
    async with (
        connected(mosquitto, "agent") as bus,
        connected(mosquitto, "ha") as ha,
        discovery(bus, form="component", prefix="ha/disc") as said,
    ):
        heard = Listener(ha, "ha/disc")
        said.on_info("n1", node_info(FEW))
        await until(lambda: len(heard.kept) == 5)
        switch = heard.kept["ha/disc/switch/pypmi_n1/power/config"]
        assert "platform" not in switch
        assert switch["availability_mode"] == "all"
        assert switch["origin"]["name"] == "pypmi"
        assert not any("/device/" in topic for topic in heard.kept)


async def test_a_node_that_leaves_is_forgotten(mosquitto):
    for form in ("device", "component"):
        async with (
            connected(mosquitto, "agent") as bus,
            connected(mosquitto, "ha") as ha,
            discovery(bus, form=form) as said,
        ):
            heard = Listener(ha)
            said.on_info("n1", node_info())
            said.on_info("n2", node_info())
            await until(lambda heard=heard: any("n2" in topic for topic in heard.kept))
            said.on_removed("n1")
            await until(lambda heard=heard: heard.kept and not any("n1" in topic for topic in heard.kept))
            said.on_removed("n2")
            await until(lambda heard=heard: not heard.kept)


async def test_a_node_that_left_while_the_agent_was_away_is_forgotten(mosquitto):
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha:
        heard = Listener(ha)
        async with discovery(bus) as said:
            said.on_info("n1", node_info())
            await until(lambda: heard.kept)
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha:
        heard = Listener(ha)
        await until(lambda: heard.kept)
        async with discovery(bus) as said:
            said.on_removed("n1")
            await until(lambda: not heard.kept)


async def test_a_node_that_moved_to_another_agent_stays(mosquitto):
    async with (
        connected(mosquitto, "one") as one,
        connected(mosquitto, "two") as two,
        connected(mosquitto, "ha") as ha,
        discovery(one) as old,
        discovery(two) as new,
    ):
        heard = Listener(ha)
        old.on_info("n1", node_info())
        await until(lambda: heard.kept)
        new.on_info("n1", node_info(FEW).model_copy(update={"agent": "two"}))
        await until(lambda: heard.kept[DEVICE_TOPIC]["device"]["via_device"] == "pypmi_service_two")
        old.on_moved("n1")
        old.on_info("n9", node_info())
        await until(lambda: any("n9" in topic for topic in heard.kept))
        await one.republish()
        await asyncio.sleep(0.3)
        assert heard.kept[DEVICE_TOPIC]["device"]["via_device"] == "pypmi_service_two"


async def test_a_component_that_goes_is_named_once_more_and_then_left_out(mosquitto):
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha, discovery(bus) as said:
        heard = Listener(ha)
        said.on_info("n1", node_info(MORE))
        await until(lambda: heard.kept)
        said.on_info("n1", node_info(FEW))
        await until(lambda: len(heard.log) == 3)
        assert heard.log[1][1]["components"]["reset"] == {"platform": "button"}
        assert "reset" not in heard.log[2][1]["components"]


async def test_what_changes_meanwhile_is_not_undone_by_the_clean_up(mosquitto):
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha, discovery(bus) as said:
        heard = Listener(ha)
        said.on_info("n1", node_info(MORE))
        await until(lambda: heard.kept)
        said.on_info("n1", node_info(FEW))
        await until(lambda: len(heard.log) == 2)
        said.on_info("n1", node_info(MORE))
        await until(lambda: len(heard.log) == 3)
        await asyncio.sleep(3 * PACE.settle)
        assert "reset" in heard.kept[DEVICE_TOPIC]["components"]
        assert len(heard.log) == 3


async def test_each_form_takes_over_from_the_other_as_home_assistant_asks_for(mosquitto):
    """A restart with the other form: migrate, the old is emptied (unloaded, not removed), then the new form."""
    async with connected(mosquitto, "ha") as ha:
        async with connected(mosquitto, "agent") as bus, discovery(bus, form="component") as said:
            said.on_info("n1", node_info(FEW))
            await until(lambda: bus.retained("homeassistant/switch/pypmi_n1/power/config"))
            await asyncio.sleep(0.3)
        heard = Listener(ha)
        await until(lambda: len(heard.kept) == 5)
        single = set(heard.kept)
        heard.log.clear()
        async with connected(mosquitto, "agent") as bus, discovery(bus, form="device") as said:
            said.on_info("n1", node_info(FEW))
            await until(lambda: list(heard.kept) == [DEVICE_TOPIC])
        assert {topic for topic, content in heard.log[:5] if content == MIGRATE} == single
        assert {topic for topic, content in heard.log[5:10] if content is None} == single
        assert heard.log[10][0] == DEVICE_TOPIC
        assert set(heard.log[10][1]["components"]) == {"power", "sensed", "problem", "events", "outcome"}
        heard.log.clear()
        async with connected(mosquitto, "agent") as bus, discovery(bus, form="component") as said:
            said.on_info("n1", node_info(FEW))
            await until(lambda: set(heard.kept) == single)
        assert heard.log[0] == (DEVICE_TOPIC, MIGRATE)
        assert heard.log[1] == (DEVICE_TOPIC, None)
        assert {topic for topic, content in heard.log[2:7] if content} == single


async def test_changed_settings_are_taken_over_at_once(mosquitto):
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha, discovery(bus) as said:
        heard = Listener(ha)
        said.on_info("n1", node_info(MORE | {Capability.SOFT, Capability.OFF}))
        await until(lambda: heard.kept)
        assert heard.kept[DEVICE_TOPIC]["components"]["power"]["payload_off"] == "soft"
        said.configure(HomeAssistantSettings(turn_off="off"))
        await until(lambda: heard.kept[DEVICE_TOPIC]["components"]["power"]["payload_off"] == "off")
        said.configure(HomeAssistantSettings(form="component"))
        await until(lambda: "homeassistant/switch/pypmi_n1/power/config" in heard.kept)
        assert DEVICE_TOPIC not in heard.kept
        assert heard.kept["homeassistant/switch/pypmi_n1/power/config"]["payload_off"] == "soft"
        said.configure(HomeAssistantSettings(form="device"))
        await until(lambda: list(heard.kept) == [DEVICE_TOPIC])
        said.configure(HomeAssistantSettings(enabled=False))
        await until(lambda: not heard.kept)
        said.configure(HomeAssistantSettings())
        await until(lambda: DEVICE_TOPIC in heard.kept)


async def test_switched_off_it_removes_what_an_earlier_run_left(mosquitto):
    async with connected(mosquitto, "ha") as ha:
        heard = Listener(ha)
        async with connected(mosquitto, "agent") as bus, discovery(bus) as said:
            said.on_info("n1", node_info())
            await until(lambda: heard.kept)
        async with connected(mosquitto, "agent") as bus, discovery(bus, enabled=False) as said:
            said.on_info("n1", node_info())
            await until(lambda: not heard.kept)


async def test_all_is_said_again_when_home_assistant_starts(mosquitto):
    """By its birth message, which a broker that forgot everything would need."""
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha, discovery(bus) as said:
        heard = Listener(ha)
        said.on_info("n1", node_info())
        await until(lambda: heard.kept)
        await ha.publish(DEVICE_TOPIC, b"", retain=True)
        await until(lambda: not heard.kept)
        await ha.publish("homeassistant/status", b"online")
        await until(lambda: heard.kept)


async def test_another_programs_messages_are_left_alone(mosquitto):
    async with connected(mosquitto, "agent") as bus, connected(mosquitto, "ha") as ha:
        heard = Listener(ha)
        theirs = ("homeassistant/device/zigbee_1/config", "homeassistant/switch/tasmota/power/config")
        for topic in (*theirs, "homeassistant/device/pypmi_other/config"):
            await ha.publish(topic, b'{"a": 1}', retain=True)
        await ha.publish(DEVICE_TOPIC, b'{"not": "ours"}', retain=True)
        async with discovery(bus) as said:
            said.on_removed("n1")
            await until(lambda: DEVICE_TOPIC not in heard.kept)
        assert set(heard.kept) == {*theirs, "homeassistant/device/pypmi_other/config"}
