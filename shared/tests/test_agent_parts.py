"""Parts of a node in virtual time: sensors, locator light, probes, a machine with a controller of its own, stalls."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from pypmi.agent import AgentNode, AgentObserver, AgentRuntime
from pypmi.agent import publisher as publisher_module
from pypmi.agent import stall as stall_module
from pypmi.agent.intake import Refusal, Request, judge
from pypmi.agent.publisher import Outbox
from pypmi.agent.stall import StallWatch
from pypmi.bus import Bus, Message
from pypmi.config.power import PowerSettings
from pypmi.contract import (
    BootDevice,
    BootIntent,
    CommandStatus,
    ErrorCode,
    Event,
    EventType,
    PowerAction,
    SensorInfo,
    SensorKind,
    Thresholds,
    Topics,
    utc_now,
)
from pypmi.power.hardware import Button, HardwareListener, HardwareUnreachableError
from pypmi.power.probe import ProbedHardware, patient

from .loopback import LoopbackBus
from .machine import Board, Pc
from .virtual_time import run_virtual


class Watcher(AgentObserver):
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.used: list[BootIntent] = []
        self.states: list[str] = []

    def on_event(self, node: str, event: Event) -> None:
        self.events.append(event)

    def on_boot_used(self, node: str, intent: BootIntent) -> None:
        self.used.append(intent)

    def on_state(self, node: str, state: Any) -> None:
        self.states.append(state.identify.value)
        raise RuntimeError("an observer's mistake stops nobody")


class Stage:
    """A runtime with one node on a loopback bus."""

    def __init__(self, hardware: Any, folder: Path, **more: Any) -> None:
        self.bus = LoopbackBus()
        self.watcher = Watcher()
        self.hardware = hardware
        self.node = AgentNode("n1", hardware, **more)
        self.runtime = AgentRuntime(cast("Bus", self.bus), Topics(), "agent", "epoch", folder, observers=[self.watcher])

    def kept(self, what: str) -> Any:
        text = self.bus.kept[f"nodes/n1/{what}"]
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def say(self, what: str, payload: bytes) -> None:
        self.bus.deliver(Message(f"nodes/n1/{what}", payload, False))

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(payload) for topic, payload in self.bus.sent if topic.endswith("power/result")]

    def events(self, kind: EventType) -> list[Event]:
        return [event for event in self.watcher.events if event.type is kind]


def on_stage(stage: Stage, story: Callable[[Stage], Awaitable[None]]) -> None:
    async def main() -> None:
        await stage.runtime.put(stage.node)
        task = asyncio.create_task(stage.runtime.run())
        await asyncio.sleep(3)
        try:
            await story(stage)
        finally:
            task.cancel()
            await asyncio.wait({task})

    run_virtual(main)


# -- sensors -------------------------------------------------------------------------------------------------------

TEMPERATURE = SensorInfo(
    key="t", name="Board", kind=SensorKind.TEMPERATURE, unit="°C", thresholds=Thresholds(upper_critical=80.0)
)


def test_sensors_are_published_on_change_and_not_too_often(tmp_path):
    board = Board(Pc())
    board.sensors = (TEMPERATURE,)

    async def story(stage):
        for value in (40.0, 40.0, 41.0, 42.5):
            board.listener.on_sensor("t", value)
        board.listener.on_sensor("t", float("nan"))
        board.listener.on_sensor("unknown", 1.0)
        await asyncio.sleep(5)
        board.listener.on_sensor("t", 42.5)
        await asyncio.sleep(5)
        assert [payload for topic, payload in stage.bus.sent if "sensors/" in topic] == [b"40", b"42.5"]
        assert stage.kept("info")["sensors"][0]["key"] == "t"

    on_stage(Stage(board, tmp_path), story)


def test_a_crossed_limit_is_said_once_each_way(tmp_path):
    board = Board(Pc())
    board.sensors = (TEMPERATURE,)

    async def story(stage):
        for value in (79, 80, 85, 79.9, 80.1, 70, 60):
            board.listener.on_sensor("t", float(value))
            await asyncio.sleep(2)
        said = [(event.data["asserted"], event.data["value"]) for event in stage.events(EventType.SENSOR)]
        assert said == [(True, 80.0), (False, 70.0)]

    on_stage(Stage(board, tmp_path), story)


# -- locator light -------------------------------------------------------------------------------------------------


def test_the_locator_light_is_held_and_let_go(tmp_path):
    pc = Pc(on=True)
    board = Board(pc, {Button.POWER, Button.IDENTIFY})

    async def story(stage):
        stage.say("identify/set", b"15")
        await asyncio.sleep(1)
        assert (stage.kept("state")["identify"], list(pc.held)) == ("timed", [Button.IDENTIFY])
        stage.say("power/set", b"soft")  # a light does not stand in the way of the power button
        await asyncio.sleep(10)
        assert not pc.on
        await asyncio.sleep(10)
        assert (stage.kept("state")["identify"], list(pc.held)) == ("off", [])
        stage.say("identify/set", b"on")
        await asyncio.sleep(100_000)
        assert (stage.kept("state")["identify"], list(pc.held)) == ("on", [Button.IDENTIFY])
        stage.say("identify/set", b"5")
        await asyncio.sleep(1)
        assert stage.kept("state")["identify"] == "timed"
        stage.say("identify/set", b"off")
        await asyncio.sleep(1)
        assert (stage.kept("state")["identify"], list(pc.held)) == ("off", [])
        stage.say("identify/set", b"on")
        await asyncio.sleep(1)

    on_stage(Stage(board, tmp_path), story)
    assert not pc.held  # let go when the agent stopped


def test_a_node_without_a_light_says_so(tmp_path):
    async def story(stage):
        stage.say("identify/set", b"15")
        await asyncio.sleep(1)
        assert "locator" in stage.events(EventType.REFUSED)[0].message

    on_stage(Stage(Board(Pc()), tmp_path), story)


# -- a machine that understands actions itself ---------------------------------------------------------------------


class Controller:
    """A `ManagedHardware`: a BMC that takes its time."""

    driver = "bmc"
    can_identify = True
    sensors: tuple[SensorInfo, ...] = ()
    boot_devices = frozenset({BootDevice.PXE})

    def __init__(self, on: bool, actions: set[PowerAction]) -> None:
        self.on = on
        self.actions = frozenset(actions)
        self.asked: list[str] = []
        self.works = True
        self.lost_after = False

    async def run(self, listener: HardwareListener) -> None:
        while True:
            listener.on_reachable(True)
            listener.on_status(self.on)
            await asyncio.sleep(5)

    async def power(self, action: PowerAction) -> None:
        self.asked.append(action.value)
        if self.works:
            loop = asyncio.get_running_loop()
            if action is PowerAction.CYCLE:
                loop.call_later(1, setattr, self, "on", False)
                loop.call_later(5, setattr, self, "on", True)
            elif action in {PowerAction.ON, PowerAction.OFF, PowerAction.SOFT}:
                loop.call_later(2, setattr, self, "on", action is PowerAction.ON)
        if self.lost_after:
            raise HardwareUnreachableError("no answer", acted=True)

    async def read_status(self) -> bool | None:
        return self.on

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool) -> None:
        self.asked.append(f"boot {device}")

    async def identify(self, seconds: int | None) -> None:
        self.asked.append(f"identify {seconds}")


ALL = set(PowerAction)


@pytest.mark.parametrize(
    ("actions", "on", "word", "asked", "end"),
    [
        (ALL, False, "on", ["on"], True),
        (ALL, True, "on", [], True),
        (ALL, True, "off", ["off"], False),
        (ALL, True, "soft", ["soft"], False),
        (ALL, True, "cycle", ["cycle"], True),
        (ALL, False, "cycle", ["on"], True),
        (ALL, True, "reset", ["reset"], True),
        (ALL, True, "diag", ["diag"], True),
        ({PowerAction.ON, PowerAction.OFF}, True, "cycle", ["off", "on"], True),
        ({PowerAction.ON, PowerAction.OFF}, True, "reset", ["off", "on"], True),
    ],
)
def test_actions_of_a_controller(tmp_path, actions, on, word, asked, end):
    async def story(stage):
        stage.say("power/set", word.encode())
        await asyncio.sleep(60)
        assert stage.results()[-1]["status"] == "completed", stage.results()[-1]
        assert stage.results()[-1]["power"] == ("on" if end else "off")
        assert stage.hardware.asked == asked
        assert stage.hardware.on is end

    on_stage(Stage(Controller(on, actions), tmp_path), story)


def test_a_controller_that_does_nothing_is_not_believed(tmp_path):
    controller = Controller(False, ALL)
    controller.works = False

    async def story(stage):
        stage.say("power/set", b"on")
        await asyncio.sleep(60)
        assert stage.results()[-1]["error"]["code"] == "not_confirmed"
        assert stage.kept("state")["fault"]["code"] == "not_confirmed"
        assert stage.events(EventType.POWER_FAULT)
        controller.works = controller.lost_after = True
        stage.say("power/set", b"on")
        await asyncio.sleep(60)
        assert stage.results()[-1]["status"] == "completed"
        assert "not repeated" in stage.results()[-1]["note"]
        assert controller.asked == ["on", "on"]
        assert stage.kept("state")["fault"] is None
        assert stage.events(EventType.FAULT_CLEARED)

    on_stage(Stage(controller, tmp_path), story)


def test_boot_and_identify_are_passed_on(tmp_path):
    controller = Controller(True, ALL)

    async def story(stage):
        stage.say("boot/set", b"pxe")
        stage.say("boot/set", b"cdrom")
        stage.say("identify/set", b"10")
        await asyncio.sleep(1)
        assert stage.kept("boot")["device"] == "pxe"
        assert stage.kept("state")["identify"] == "timed"
        assert controller.asked == ["boot pxe", "identify 10"]
        stage.say("power/set", b"reset")
        await asyncio.sleep(20)
        assert stage.kept("boot")["device"] == "none"
        assert [intent.device for intent in stage.watcher.used] == [BootDevice.PXE]
        assert stage.kept("state")["identify"] == "off"
        assert controller.asked[-1] == "reset"

    on_stage(Stage(controller, tmp_path), story)


# -- a probe for a status input ------------------------------------------------------------------------------------


class Probe:
    interval = 5.0

    def __init__(self, pc: Pc, boot: float) -> None:
        self.pc = pc
        self.boot = boot
        self.asked = 0
        self.on_since: float | None = None

    async def read_status(self) -> bool | None:
        self.asked += 1
        now = asyncio.get_running_loop().time()
        self.on_since = (self.on_since or now) if self.pc.on else None
        return self.on_since is not None and now - self.on_since >= self.boot


def test_a_probe_stands_for_the_status_input(tmp_path):
    pc = Pc()
    probe = Probe(pc, boot=60)
    hardware = ProbedHardware(Board(pc, {Button.POWER}, has_status=False), probe)

    async def story(stage):
        assert stage.kept("state")["power"] == "off"
        assert "status" in stage.kept("info")["capabilities"]
        stage.say("power/set", b"on")
        await asyncio.sleep(90)
        assert stage.results()[-1]["status"] == "completed"
        assert len(pc.presses) == 1
        asked = probe.asked
        await asyncio.sleep(100)
        assert probe.asked - asked <= 21

    on_stage(Stage(hardware, tmp_path, power=patient(PowerSettings())), story)


def test_patience_that_was_given_stays():
    assert patient(PowerSettings(on_grace=7)).on_grace == 7
    assert patient(PowerSettings()).on_grace == 120


# -- drivers that misbehave ----------------------------------------------------------------------------------------


class Broken(Board):
    async def run(self, listener: HardwareListener) -> None:
        self.starts += 1
        if self.starts < 3:
            raise RuntimeError("a driver's mistake")
        await super().run(listener)

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        raise RuntimeError("another one")


def test_a_driver_that_fails_is_started_again_and_stops_nobody(tmp_path):
    async def story(stage):
        await asyncio.sleep(60)
        assert stage.kept("availability") == "online"
        stage.say("power/set", b"on")
        await asyncio.sleep(5)
        assert stage.results()[-1]["error"]["code"] == "interrupted"
        stage.say("power/set", b"off")
        await asyncio.sleep(5)
        assert stage.results()[-1]["status"] == "completed"

    on_stage(Stage(Broken(Pc()), tmp_path), story)


def test_hours_and_the_last_action_survive_a_restart(tmp_path):
    pc = Pc()

    async def first(stage):
        stage.say("power/set", b"on")
        await asyncio.sleep(1000)

    async def second(stage):
        state = stage.kept("state")
        assert state["power"] == "on"
        assert state["last_action"] == "on"
        assert state["cause"] == "command"
        assert 950 < state["on_seconds"] < 1050
        assert not stage.events(EventType.POWER_ON)

    on_stage(Stage(Board(pc), tmp_path), first)
    on_stage(Stage(Board(pc), tmp_path), second)


# -- judging -------------------------------------------------------------------------------------------------------


def judged(payload: bytes, waited: float = 0.0, **more: Any) -> Request | Refusal | None:
    return judge(Message("nodes/n1/power/set", payload, False, **more), Topics(), utc_now(), 100.0, waited)


def test_a_bare_word_that_a_stall_may_have_kept_is_late():
    fresh = judged(b"on", waited=4)
    assert isinstance(fresh, Request)
    assert fresh.late == ""
    assert fresh.deadline == pytest.approx(106)
    late = judged(b"on", waited=11)
    assert isinstance(late, Request)
    assert late.late_status is CommandStatus.EXPIRED
    assert "stood still" in late.late


def test_the_deadline_is_the_earlier_of_both():
    issued = (utc_now() - timedelta(seconds=3)).isoformat()
    request = judged(json.dumps({"id": "a", "action": "on", "issued_at": issued, "ttl_ms": 5000}).encode())
    assert isinstance(request, Request)
    assert request.deadline == pytest.approx(102, abs=0.5)
    ahead = (utc_now() + timedelta(seconds=3)).isoformat()  # a clock that is a little ahead buys no time
    request = judged(json.dumps({"id": "a", "action": "on", "issued_at": ahead, "ttl_ms": 5000}).encode())
    assert isinstance(request, Request)
    assert request.deadline == pytest.approx(105, abs=0.5)


@pytest.mark.parametrize(
    "topic", ["services/gw/reply", "services/+/reply", "nodes/n1/power/set", "x", "services/gw/info"]
)
def test_only_reply_topics_take_replies(topic):
    request = judged(json.dumps({"id": "a", "action": "on", "reply_to": topic}).encode())
    assert isinstance(request, Request)
    assert request.reply_to == (topic if topic == "services/gw/reply" else None)


def test_a_refusal_carries_the_id_where_there_is_one():
    refusal = judged(b'{"id": "a1", "action": "explode"}', response_topic="services/gw/reply", correlation=b"c")
    assert isinstance(refusal, Refusal)
    assert (refusal.id, refusal.reply_to, refusal.correlation) == ("a1", "services/gw/reply", b"c")
    assert refusal.error.code is ErrorCode.INVALID


async def test_a_stall_is_noticed(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(stall_module, "_boot_time", lambda: now)
    monkeypatch.setattr(stall_module, "_BEAT", 0.01)
    watch = StallWatch()
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0.05)
    assert watch.age() == 0
    now = 1060.0  # the host was suspended; what waits in the socket is read before the next beat
    assert watch.age() == pytest.approx(60, abs=0.1)
    await asyncio.sleep(0.05)
    assert watch.age() == pytest.approx(60, abs=0.1)
    now = 1063.0
    await asyncio.sleep(0.05)
    now = 1066.0
    await asyncio.sleep(0.05)
    task.cancel()


# -- what is said while the broker goes ----------------------------------------------------------------------------


async def test_what_was_not_acknowledged_is_said_again_in_its_order():
    """The broker hangs, takes events into its socket's buffer, and dies: nobody has seen them."""
    bus = LoopbackBus()
    outbox = Outbox(cast("Bus", bus))
    outbox.send("t", b"1")
    bus.acknowledges = False
    outbox.send("t", b"2")
    outbox.send("t", b"3")
    bus.lose()
    outbox.send("t", b"4")
    bus.acknowledges = True
    await bus.reconnect()
    assert [payload for _, payload in bus.sent] == [b"1", b"2", b"3", b"2", b"3", b"4"]
    await bus.reconnect()
    assert len(bus.sent) == 6


async def test_what_waits_for_the_broker_is_bounded(monkeypatch):
    monkeypatch.setattr(publisher_module, "_MAX_WAITING", 3)
    bus = LoopbackBus()
    outbox = Outbox(cast("Bus", bus))
    bus.lose()
    for number in range(5):
        outbox.send("t", str(number).encode())
    await bus.reconnect()
    assert [payload for _, payload in bus.sent] == [b"2", b"3", b"4"]
