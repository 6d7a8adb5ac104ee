"""Real Home Assistant over a fleet of 20 simulated boards, in every release that is installed (`make e2e`).

The tests of one release share one installation and run in the order they stand here.
"""

import itertools
import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from homeassistant import RELEASES, ROOT, HomeAssistant, Release
from lab import Lab
from stack import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NODES = 20
DOCS = ROOT / "docs" / "integrations" / "home-assistant.md"
NODE_ENTITIES = (
    "switch.{}", "button.{}_force_off", "button.{}_cycle", "button.{}_reset", "button.{}_nmi",
    "binary_sensor.{}_power", "binary_sensor.{}_problem", "select.{}_next_boot", "event.{}_events",
    "sensor.{}_last_command", "sensor.{}_signal", "sensor.{}_uptime",
)  # fmt: skip
SERVICE_ENTITIES = ("binary_sensor.{}_connection", "sensor.{}_nodes", "update.{}_contract")
SERVICES = ("esp8266_agent", "sol_relay", "ipmi_gateway")
INSTALLED = [release for release in RELEASES if release.program.exists()]


def expected(nodes: int = NODES) -> set[str]:
    """Entity ids of the whole fleet."""
    found = {entity.format(f"node{n}") for n in range(1, nodes + 1) for entity in NODE_ENTITIES}
    found |= {entity.format(service) for service in SERVICES for entity in SERVICE_ENTITIES}
    return found | {"sensor.ipmi_gateway_sessions", "sensor.ipmi_gateway_consoles"}


def documented(kind: str) -> list[str]:
    """The docs' YAML blocks that begin with the comment `# kind`."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return [block for block in blocks if block.startswith(f"# {kind}\n")]


@dataclass
class Stage:
    lab: Lab
    ha: HomeAssistant
    release: Release

    def settled(self, *, nodes: int = NODES, timeout: float = 90) -> None:
        """Wait until all entities are there, available, and say what the boards say."""
        until(lambda: not self.differences(nodes), timeout, "Home Assistant to know the truth")

    def differences(self, nodes: int = NODES) -> list[str]:
        """What Home Assistant does not know, or knows wrong."""
        states = self.ha.states()
        wrong = [f"{entity} is missing" for entity in expected(nodes) - set(states)]
        wrong += [f"{entity} unavailable" for entity in expected(nodes) if self.is_away(states.get(entity))]
        boards = {item["name"]: item["power"] for item in self.lab.boards()}
        for number in range(1, nodes + 1):
            for entity in (f"switch.node{number}", f"binary_sensor.node{number}_power"):
                said = states.get(entity, {}).get("state")
                if said != boards[f"node{number}"]:
                    wrong.append(f"{entity} says {said}, the board {boards[f'node{number}']}")
        return wrong

    @staticmethod
    def is_away(state: dict[str, Any] | None) -> bool:
        return state is not None and state["state"] == "unavailable"

    def idle(self, *numbers: int) -> None:
        """Wait until no command is under way."""

        def busy() -> list[str]:
            topics = self.lab.retained("nodes/+/state", 1)
            return [
                topic
                for topic, payload in topics.items()
                if json.loads(payload)["action"] and int(topic.split("/")[1].removeprefix("node")) in numbers
            ]

        until(lambda: not busy(), 60, f"nodes {numbers} idle")

    def running(self, *numbers: int) -> None:
        """Wait until the machines' systems are up: before that, none of them listens to its power button."""
        for number in numbers:
            until(lambda n=number: self.lab.board(n)["os"] == "running", 60, f"node{number} up")
        self.idle(*numbers)


@pytest.fixture(
    scope="module",
    params=[pytest.param(item, id=item.version) for item in INSTALLED],
)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    release: Release = request.param
    folder = tmp_path_factory.mktemp("ha")
    lab = Lab(folder, NODES, homeassistant={"form": release.form})
    extra = folder / "homeassistant"
    ha = HomeAssistant(
        release, folder, lab.mqtt_port, extra="automation: !include automations.yaml\nlovelace:\n  mode: yaml\n"
    )
    automations = "".join(documented("automations.yaml"))
    # the docs' minutes, in seconds
    (extra / "automations.yaml").write_text(automations.replace("00:05:00", "00:00:04").replace("00:03:00", "00:00:02"))
    cards = [yaml.safe_load(block) for block in documented("card")]
    (extra / "ui-lovelace.yaml").write_text(yaml.safe_dump({"views": [{"title": "Machines", "cards": cards}]}))
    try:
        lab.start()
        ha.start()
        yield Stage(lab, ha, release)
    finally:
        ha.stop()
        lab.stop()


def test_at_least_one_release_is_installed():
    assert INSTALLED, "no Home Assistant here; run `make e2e`, which installs it"


def test_discovery_of_20_nodes_with_no_error_in_the_log(stage: Stage):
    stage.settled()
    known = {entity for entity in stage.ha.states() if entity.split(".")[0] in
             {"switch", "button", "binary_sensor", "select", "event", "sensor", "update"}}  # fmt: skip
    ours = {entity for entity in known if re.search(r"\.(node\d|esp8266_agent|sol_relay|ipmi_gateway)", entity)}
    assert ours == expected()
    assert stage.ha.complaints() == []


def test_devices_are_described(stage: Stage):
    devices = {device["name"]: device for device in stage.ha.ask("config/device_registry/list")}
    assert {"Lab PC 3", "esp8266-agent"} <= set(devices)
    node, agent = devices["Lab PC 3"], devices["esp8266-agent"]
    assert (node["manufacturer"], node["model"]) == ("Acme", "Box")
    assert node["serial_number"] == "LAB0003"
    assert node["configuration_url"] == "http://node3.lab/"
    assert node["via_device_id"] == agent["id"]
    assert node["sw_version"]
    assert node["identifiers"] == [["mqtt", "pypmi_node3"]]
    assert (agent["manufacturer"], agent["model"]) == ("pypmi", "esp8266-agent")
    areas = {area["area_id"]: area["name"] for area in stage.ha.ask("config/area_registry/list")}
    assert areas[node["area_id"]] == "Rack 2"
    assert sum(device["name"].startswith("Lab PC") for device in devices.values()) == NODES


def test_every_switch_switches_its_machine(stage: Stage):
    switches = [f"switch.node{number}" for number in range(1, NODES + 1)]
    for service, wanted in (("switch.turn_on", "on"), ("switch.turn_off", "off")):
        for switch in switches:
            stage.ha.call(service, switch)
        until(lambda wanted=wanted: all(b["power"] == wanted for b in stage.lab.boards()), 90, f"all boards {wanted}")
        stage.settled()
        stage.idle(*range(1, NODES + 1))
    asked = [event["what"] for event in stage.lab.board(7)["events"]]
    assert asked[-3:] == ["power button: soft off asked", "halted", "off"], "off is soft"
    presses = stage.lab.board(7)["presses"]
    assert [press["button"] for press in presses] == ["power", "power"]
    assert max(press["duration"] for press in presses) < 2, "a short press, far from the 4 s that cut the power"


def test_every_button_reaches_the_machine(stage: Stage):
    """Reset, NMI, cycle and force off, on machines whose system does not listen to its power button."""
    numbers = (1, 11)
    for number in numbers:
        stage.lab.control(number, "pc", soft_off="ignore")
        stage.ha.call("switch.turn_on", f"switch.node{number}")
    stage.running(*numbers)
    for key, count in (("reset", "pc_resets"), ("nmi", "pc_nmis"), ("cycle", "pc_boots")):
        before = {number: stage.lab.board(number) for number in numbers}
        for number in numbers:
            stage.ha.call("button.press", f"button.node{number}_{key}")
        for number in numbers:
            wanted = before[number][count] + 1
            until(lambda n=number, c=count, w=wanted: stage.lab.board(n)[c] == w, 60, f"node{number} {key}")
        stage.running(*numbers)
        for number in numbers:
            others = {"pc_resets", "pc_nmis"} - {count}
            assert {name: stage.lab.board(number)[name] for name in others} == {
                name: before[number][name] for name in others
            }
    for number in numbers:
        stage.ha.call("button.press", f"button.node{number}_force_off")
    for number in numbers:
        until(lambda n=number: stage.lab.machine(n) == "off", 30, f"node{number} forced off")
    stage.idle(*numbers)
    for number in numbers:
        assert stage.lab.board(number)["presses"][-1]["duration"] > 4
        stage.ha.wait_state(f"switch.node{number}", "off")
        stage.lab.control(number, "pc", soft_off="halt")


def test_outcome_and_events_say_what_happened_and_who_did_it(stage: Stage):
    stage.ha.call("switch.turn_on", "switch.node2")
    stage.ha.wait_state("switch.node2", "on")
    stage.idle(2)
    stage.ha.call("button.press", "button.node2_reset")
    until(lambda: stage.ha.attributes("event.node2_events").get("event_type") == "reset", 30, "event reset")
    event = stage.ha.attributes("event.node2_events")
    assert (event["cause"], event["source"]) == ("command", "home-assistant")
    stage.ha.wait_state("sensor.node2_last_command", "completed")
    outcome = stage.ha.attributes("sensor.node2_last_command")
    assert (outcome["action"], outcome["source"], outcome["error"]) == ("reset", "home-assistant", None)
    stage.lab.ipmitool("chassis", "power", "off", target=2)
    until(lambda: stage.ha.attributes("event.node2_events").get("event_type") == "power_off", 30, "event power_off")
    assert stage.ha.attributes("event.node2_events")["user"] == "admin"
    stage.idle(2)
    stage.lab.press(2)
    until(lambda: stage.ha.attributes("event.node2_events").get("cause") == "external", 30, "somebody at the button")
    stage.ha.wait_state("switch.node2", "on")
    stage.running(2)
    stage.ha.call("switch.turn_off", "switch.node2")
    stage.ha.wait_state("switch.node2", "off")


def test_the_next_boot_is_chosen_and_used_once(stage: Stage):
    select = "select.node4_next_boot"
    assert stage.ha.state(select) == "normal"
    stage.ha.call("select.select_option", select, option="pxe")
    stage.ha.wait_state(select, "pxe")
    assert "Force PXE" in stage.lab.ipmitool("chassis", "bootparam", "get", "5", target=4).out
    assert stage.lab.ipmitool("chassis", "bootdev", "cdrom", target=4).code == 0
    stage.ha.wait_state(select, "cdrom")
    stage.ha.call("switch.turn_on", "switch.node4")
    stage.ha.wait_state(select, "normal")
    stage.ha.call("select.select_option", select, option="disk")
    stage.ha.wait_state(select, "disk")
    stage.ha.call("select.select_option", select, option="normal")
    stage.ha.wait_state(select, "normal")
    stage.running(4)
    stage.ha.call("switch.turn_off", "switch.node4")
    stage.ha.wait_state("switch.node4", "off")


def test_a_press_that_is_not_followed_is_a_problem(stage: Stage):
    stage.lab.control(5, "pc", psu_ok=False)
    stage.ha.call("switch.turn_on", "switch.node5")
    stage.ha.wait_state("binary_sensor.node5_problem", "on", 60)
    stage.ha.wait_state("sensor.node5_last_command", "failed")
    assert stage.ha.attributes("sensor.node5_last_command")["error"]
    assert stage.ha.state("switch.node5") == "off"
    stage.lab.control(5, "pc", psu_ok=True)
    stage.ha.call("switch.turn_on", "switch.node5")
    stage.ha.wait_state("switch.node5", "on", 60)
    stage.ha.wait_state("binary_sensor.node5_problem", "off")
    stage.running(5)
    stage.ha.call("switch.turn_off", "switch.node5")
    stage.ha.wait_state("switch.node5", "off")


def test_sensors_and_services_have_numbers(stage: Stage):
    assert float(stage.ha.state("sensor.node1_signal")) < 0
    assert float(stage.ha.state("sensor.node1_uptime")) > 0
    signal_strength = stage.ha.attributes("sensor.node1_signal")
    assert (signal_strength["device_class"], signal_strength["unit_of_measurement"]) == ("signal_strength", "dBm")
    assert stage.ha.state("sensor.esp8266_agent_nodes") == str(NODES)
    for entity in ("sensor.ipmi_gateway_sessions", "sensor.ipmi_gateway_consoles"):
        until(lambda e=entity: stage.ha.state(e).isdigit(), 20, entity)
    for service in SERVICES:
        assert stage.ha.state(f"binary_sensor.{service}_connection") == "on"
        assert stage.ha.state(f"update.{service}_contract") == "off"


def test_a_newer_contract_is_an_update(stage: Stage):
    topic = "services/newer/info"
    (own,) = stage.lab.retained("services/esp8266-agent/info").values()
    stage.lab.publish(topic, json.dumps({**json.loads(own), "contract": 2, "epoch": "other"}))
    stage.ha.wait_state("update.esp8266_agent_contract", "on")
    assert stage.ha.attributes("update.esp8266_agent_contract")["latest_version"] == "2"


def test_docs_automations_and_card(stage: Stage):
    stage.settled()
    loaded = {entity for entity in stage.ha.states() if entity.startswith("automation.")}
    assert len(loaded) == 4, stage.ha.process.tail()
    board = stage.ha.ask("lovelace/config")
    used = set(re.findall(r"(?:switch|button|sensor|binary_sensor|select|event)\.node1\w*", json.dumps(board)))
    assert len(used) >= 8
    assert used <= set(stage.ha.states())

    stage.ha.set_state("binary_sensor.node1_ping", "off")
    stage.ha.set_state("person.anna", "not_home")
    stage.ha.set_state("person.anna", "home")
    until(lambda: stage.lab.machine(1) == "on", 30, "node1 on at arrival")
    until(lambda: "node1_failed_boot" in notifications(stage), 30, "a note of the failed boot")
    stage.idle(1)
    resets = stage.lab.board(1)["pc_resets"]
    stage.ha.set_state("binary_sensor.node1_ping", "on")
    stage.ha.set_state("binary_sensor.node1_ping", "off")
    until(lambda: stage.lab.board(1)["pc_resets"] == resets + 1, 30, "node1 reset")
    stage.running(1)
    stage.ha.call("switch.turn_off", "switch.node1")
    stage.ha.wait_state("switch.node1", "off")
    stage.idle(1)
    stage.lab.control(1, "pc", psu_ok=False)
    stage.ha.call("switch.turn_on", "switch.node1")
    until(lambda: "node1_no_power" in notifications(stage), 60, "a note of the power that did not come")
    assert "press" in notifications(stage)["node1_no_power"]
    stage.lab.control(1, "pc", psu_ok=True)
    stage.idle(1)


def grumbles(stage: Stage) -> list[str]:
    """What is in the log beside lost connections, and a notice on the way back to single entities.

    On that way 2025.4 says of each device that its emptied topic leaves nothing to clean up; no entity is lost by it.
    """
    harmless = ("connect", "no device components to cleanup")
    return [text for text in stage.ha.complaints() if not any(word in text.lower() for word in harmless)]


def notifications(stage: Stage) -> dict[str, str]:
    found = stage.ha.ask("persistent_notification/get")
    return {item["notification_id"]: item["message"] for item in found}


def test_availability_follows_board_and_agent(stage: Stage):
    stage.lab.control(6, "network", mode="blackhole")
    stage.ha.wait_state("switch.node6", "unavailable", 60)
    assert stage.ha.state("button.node6_reset") == "unavailable"
    assert stage.ha.state("switch.node7") == "off"
    stage.lab.control(6, "network", mode="up")
    stage.ha.wait_state("switch.node6", "off", 60)
    stage.lab.agent.kill()
    stage.ha.wait_state("switch.node7", "unavailable", 30)
    assert stage.ha.state("binary_sensor.esp8266_agent_connection") == "off"
    assert stage.ha.state("sensor.esp8266_agent_nodes") == "unavailable"
    stage.lab.press(7)
    stage.lab.agent.start()
    stage.settled()
    assert stage.ha.state("switch.node7") == "on"


def test_until_here_the_log_has_no_complaint(stage: Stage):
    assert stage.ha.complaints() == []


def test_the_truth_is_known_after_restarts_in_every_order(stage: Stage):
    """All three are stopped, somebody presses buttons meanwhile, and they come back in each of the six orders."""
    parts = {"home assistant": stage.ha, "broker": stage.lab.broker, "agent": stage.lab.agent}
    for count, order in enumerate(itertools.permutations(parts)):
        for name in reversed(order):
            parts[name].stop()
        for number in (2 + count, 8 + count):
            stage.lab.press(number)
        time.sleep(0.5)
        for name in order:
            if name == "home assistant":
                stage.ha.start(wait=False)
            else:
                parts[name].start()
        stage.ha.wait_running()
        stage.settled()
        stage.ha.call("switch.toggle", f"switch.node{15 + count % 6}")
        stage.settled()
        said = grumbles(stage)
        assert said == [], f"after a restart in the order {order}"


def test_each_alone_comes_back(stage: Stage):
    """A broker that forgets everything, and one after the other killed as by a power cut."""
    for part in (stage.lab.broker, stage.lab.agent, stage.lab.gateway):
        part.kill()
        stage.lab.press(3)
        part.start()
        stage.settled()
    stage.ha.stop()
    stage.lab.press(3)
    stage.ha.start()
    stage.settled()


def test_migration_between_the_forms_keeps_every_entity(stage: Stage):
    if stage.release.form != "device":  # this release knows only one
        return
    stage.settled()
    before = registry(stage)
    until(lambda: announced(stage) == (NODES + len(SERVICES), 0), 30, "device form announced")
    for form in ("component", "device"):
        stage.lab.fleet["homeassistant"] = {"form": form}
        stage.lab.write_fleet()
        for service in (stage.lab.agent, stage.lab.relay, stage.lab.gateway):
            service.signal(signal.SIGHUP)
        wanted = (NODES + len(SERVICES), 0) if form == "device" else (0, len(expected()))
        until(lambda wanted=wanted: announced(stage) == wanted, 60, f"{form} form announced")
        stage.settled()
        assert registry(stage) == before
        stage.ha.call("switch.toggle", "switch.node9")
        stage.settled()
    said = grumbles(stage)
    assert said == []


def announced(stage: Stage) -> tuple[int, int]:
    """How many devices and single components are retained."""
    devices = stage.lab.retained("homeassistant/device/+/config", 1)
    return len(devices), len(stage.lab.retained("homeassistant/+/+/+/config", 1))


def registry(stage: Stage) -> dict[str, str]:
    """Unique id by entity id of our entities."""
    listed = stage.ha.ask("config/entity_registry/list")
    return {item["entity_id"]: item["unique_id"] for item in listed if item["platform"] == "mqtt"}


def test_a_node_that_leaves_the_fleet_leaves_home_assistant(stage: Stage):
    gone = stage.lab.fleet["nodes"].pop()
    stage.lab.write_fleet()
    services = (stage.lab.agent, stage.lab.relay, stage.lab.gateway)
    for service in services:
        service.signal(signal.SIGHUP)
    until(lambda: not of_node(stage, NODES), 30, "node20 removed")
    assert gone["name"] not in {device["name"] for device in stage.ha.ask("config/device_registry/list")}
    for service in services:
        service.stop()
    stage.lab.fleet["nodes"].pop()
    stage.lab.write_fleet()
    stage.lab.start()
    until(lambda: not of_node(stage, NODES - 1), 30, "node19 removed")
    stage.settled(nodes=NODES - 2)
    left = [topic for topic in stage.lab.retained("#") if "node19" in topic or "node20" in topic]
    assert left == []
    said = grumbles(stage)
    assert said == []


def of_node(stage: Stage, number: int) -> set[str]:
    mine = {entity.format(f"node{number}") for entity in NODE_ENTITIES}
    return mine & (set(stage.ha.states()) | set(registry(stage)))
