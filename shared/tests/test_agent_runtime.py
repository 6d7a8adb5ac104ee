"""The agent runtime over a real Mosquitto: commands and their results, refusals, repeats, restarts, reloads."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pypmi.agent import AgentNode, AgentRuntime
from pypmi.agent.store import JournalStore
from pypmi.bus import Bus, Message, RetainedReplay
from pypmi.config.mqtt import MqttSettings
from pypmi.config.power import PowerSettings
from pypmi.contract import Topics, new_id, utc_now

from .machine import Board, Pc

QUICK = PowerSettings(
    on_press=0.1, off_press=5, cycle_off_press=5, cycle_wait=0.1, cycle_on_press=0.1, reset_press=0.1,
    soft_press=0.1, soft_patience=5, on_grace=5, off_grace=5, boot_settle=0.3, debounce=0.05, blink_dark=0.1,
)  # fmt: skip


@pytest.fixture(params=["5", "3.1.1"])
def settings(request, mosquitto) -> MqttSettings:
    return MqttSettings(url=mosquitto.url, protocol=request.param)


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Person:
    """Somebody on the bus who sends commands and hears everything."""

    def __init__(self, settings: MqttSettings) -> None:
        self.bus = Bus(settings, f"person-{new_id()}")
        self.heard: list[tuple[str, Any]] = []
        self.replies: list[Message] = []
        self.kept: dict[str, bytes] = {}
        self.bus.subscribe("nodes/#", self._on_message)
        self.bus.subscribe("services/person/reply", self.replies.append)

    def _on_message(self, message: Message) -> None:
        self.kept[message.topic] = message.payload
        kind = message.topic.split("/", 2)[2]
        if message.payload.startswith(b"{"):
            self.heard.append((kind, json.loads(message.payload)))

    def results(self, command_id: str | None = None) -> list[dict[str, Any]]:
        return [
            value for kind, value in self.heard
            if kind == "power/result" and (command_id is None or value["id"] == command_id)
        ]  # fmt: skip

    def statuses(self, command_id: str | None = None) -> list[str]:
        return [value["status"] for value in self.results(command_id)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [value for topic, value in self.heard if topic == "events" and value["type"] == kind]

    @property
    def state(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.kept.get("nodes/n1/state", b"{}"))
        return value

    async def say(self, payload: bytes | dict[str, Any], *, what: str = "power/set", **more: Any) -> None:
        body = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        await self.bus.publish(f"nodes/n1/{what}", body, **more)

    async def ask(self, action: str, command_id: str | None = None, **more: Any) -> list[dict[str, Any]]:
        """Send a command and wait for its end."""
        command_id = command_id or new_id()
        await self.say({"id": command_id, "action": action, **more})
        await until(lambda: any(s != "accepted" for s in self.statuses(command_id)))
        return self.results(command_id)


@asynccontextmanager
async def task_of(coroutine: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def agent(
    settings: MqttSettings, folder: Path, board: Board | None, node: str = "n1", **more: Any
) -> AsyncIterator[AgentRuntime]:
    bus = Bus(settings, "agent")
    runtime = AgentRuntime(bus, Topics(), "test-agent", new_id(), folder, **more)
    if board is not None:
        await runtime.put(AgentNode(node, board, QUICK))
    async with task_of(bus.run()):
        await bus.wait_connected()
        async with task_of(runtime.run()):
            yield runtime


@asynccontextmanager
async def person(settings: MqttSettings) -> AsyncIterator[Person]:
    someone = Person(settings)
    async with task_of(someone.bus.run()):
        await someone.bus.wait_connected()
        yield someone


@asynccontextmanager
async def bench(settings: MqttSettings, folder: Path, pc: Pc) -> AsyncIterator[tuple[Person, Board]]:
    """A person, an agent, a board and a PC whose state is known."""
    board = Board(pc)
    async with person(settings) as someone, agent(settings, folder, board) as runtime:
        # of this start of the agent: what an earlier one left in the broker says nothing of its subscriptions
        await until(lambda: someone.state.get("epoch") == runtime.epoch)
        await until(lambda: someone.state["power"] == ("on" if pc.on else "off"))
        yield someone, board
    pc.close()


async def test_a_bare_word_switches_on(settings, tmp_path):
    async with bench(settings, tmp_path, Pc()) as (someone, board):
        await someone.say(b"ON")
        await until(lambda: "completed" in someone.statuses())
        accepted, completed = someone.results()
        assert (accepted["status"], accepted["power"]) == ("accepted", "off")
        assert (completed["status"], completed["power"], completed["error"]) == ("completed", "on", None)
        assert accepted["id"] == completed["id"]
        await until(lambda: someone.events("power_on"))
        assert someone.events("power_on")[0]["cause"] == "command"
        assert board.pc.on
        assert len(board.pc.presses) == 1
        targets = [value["target"] for kind, value in someone.heard if kind == "state"]
        assert "on" in targets
        assert targets[-1] is None
        seqs = [value["seq"] for kind, value in someone.heard if kind == "state"]
        assert seqs == sorted(set(seqs))


async def test_answers_go_to_the_reply_topic_with_their_correlation(settings, tmp_path):
    async with bench(settings, tmp_path, Pc()) as (someone, _board):
        more: dict[str, Any] = {"reply_to": "services/person/reply"}
        properties: dict[str, Any] = {}
        if settings.protocol == "5":
            more, properties = {}, {"response_topic": "services/person/reply", "correlation": b"c1"}
        await someone.say({"id": "a1", "action": "on", **more}, **properties)
        await until(lambda: len(someone.replies) == 2)
        assert [json.loads(m.payload)["status"] for m in someone.replies] == ["accepted", "completed"]
        if settings.protocol == "5":
            assert {m.correlation for m in someone.replies} == {b"c1"}


async def test_answers_go_to_no_topic_that_is_not_for_replies(settings, tmp_path):
    async with bench(settings, tmp_path, Pc()) as (someone, _board):
        await someone.ask("on", "a1", reply_to="nodes/n2/power/set")
        assert "nodes/n2/power/set" not in someone.kept


async def test_the_same_id_again_gets_the_recorded_result(settings, tmp_path):
    pc = Pc()
    async with bench(settings, tmp_path, pc) as (someone, _board):
        command = {"id": "a1", "action": "on"}
        for _ in range(3):
            await someone.say(command)
        await until(lambda: "completed" in someone.statuses("a1"))
        await someone.say(command)
        await until(lambda: someone.statuses("a1").count("completed") == 2)
        assert len(pc.presses) == 1
        first_epoch = someone.results("a1")[0]["epoch"]
        await someone.say({"id": "a1", "action": "off"})
        await until(lambda: someone.statuses("a1")[-1] == "rejected")
        assert someone.results("a1")[-1]["error"]["code"] == "invalid"
    async with bench(settings, tmp_path, pc) as (someone, _board):  # the agent has been restarted
        await someone.say(command)
        await until(lambda: someone.statuses("a1") == ["completed"])
        assert someone.results("a1")[0]["epoch"] != first_epoch
        assert len(pc.presses) == 1


async def test_one_at_a_time_but_the_same_wish_joins_in(settings, tmp_path):
    async with bench(settings, tmp_path, Pc(on=True, os_obeys=1.0)) as (someone, board):
        await someone.say({"id": "a1", "action": "soft"})
        await until(lambda: someone.statuses("a1"))
        await someone.say({"id": "b1", "action": "off"})
        await someone.say({"id": "a2", "action": "soft"})
        await until(lambda: "completed" in someone.statuses("a2"))
        assert someone.results("b1")[0]["error"]["code"] == "busy"
        assert someone.statuses("a1") == ["accepted", "completed"]
        assert someone.statuses("a2") == ["accepted", "completed"]
        assert len(board.pc.presses) == 1


async def test_a_retained_command_is_refused(settings, tmp_path):
    pc = Pc()
    async with person(settings) as someone:
        await someone.say(b"on", retain=True)  # kept by the broker before the agent comes
        async with agent(settings, tmp_path, Board(pc)):
            await until(lambda: someone.state.get("power") == "off")
            if settings.protocol == "5":
                assert someone.results() == []  # not even replayed
                await someone.say(b"on", retain=True)
            await until(someone.results)
            assert someone.results()[0]["status"] == "rejected"
            assert "retain" in someone.results()[0]["error"]["message"]
            await until(lambda: someone.events("refused"))
            await someone.say(b"", retain=True)
            await someone.ask("off")
            assert pc.presses == []


async def test_without_a_journal_nothing_is_pressed(settings, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with bench(settings, tmp_path, Pc()) as (someone, board):
        with monkeypatch.context() as patch:
            patch.setattr(JournalStore, "record", full)
            [result] = await someone.ask("on", "a1")
        assert result["status"] == "rejected"
        assert "disk is full" in result["error"]["message"]
        assert board.pc.presses == []
        assert (await someone.ask("on", "a2"))[-1]["status"] == "completed"


@pytest.mark.parametrize(
    ("age", "status", "words"),
    [(11, "expired", "ago"), (86400, "expired", "disagree"), (-60, "rejected", "disagree")],
)
async def test_late_commands_and_wrong_clocks(settings, tmp_path, age, status, words):
    async with bench(settings, tmp_path, Pc()) as (someone, board):
        issued = (utc_now() - timedelta(seconds=age)).isoformat()
        [result] = await someone.ask("on", "late-1", issued_at=issued)
        assert result["status"] == status
        assert words in result["error"]["message"]
        [again] = (await someone.ask("on", "late-1", issued_at=issued))[-1:]
        assert again["status"] == status
        assert board.pc.presses == []
        results = await someone.ask("on", "now-1", issued_at=utc_now().isoformat(), ttl_ms=5000)
        assert results[-1]["status"] == "completed"


async def test_what_is_no_command_is_refused_with_a_reason(settings, tmp_path):
    async with bench(settings, tmp_path, Pc()) as (someone, board):
        wrong = [b"", b"toggle", b"{", b"\xff\xfe", b'{"action": "on"}', b'{"id": "w1", "action": "up"}', b"[" * 5000]
        for payload in wrong:
            await someone.say(payload)
        await until(lambda: len(someone.results()) == len(wrong))
        assert {result["status"] for result in someone.results()} == {"rejected"}
        assert {result["error"]["code"] for result in someone.results()} == {"invalid"}
        assert someone.statuses("w1") == ["rejected"]
        assert (await someone.ask("on"))[-1]["status"] == "completed"
        assert len(board.pc.presses) == 1


async def test_a_board_that_is_away(settings, tmp_path):
    async with bench(settings, tmp_path, Pc()) as (someone, board):
        board.reachable = False
        await until(lambda: someone.kept["nodes/n1/availability"] == b"offline")
        await until(lambda: someone.state["power"] == "unknown")
        [result] = await someone.ask("on")
        assert (result["status"], result["error"]["code"]) == ("rejected", "device_unreachable")
        board.reachable = True
        await until(lambda: someone.kept["nodes/n1/availability"] == b"online" and someone.state["power"] == "off")
        assert someone.events("node_lost")
        assert someone.events("node_back")
        assert not someone.events("power_off")


async def test_the_real_button(settings, tmp_path):
    async with bench(settings, tmp_path, Pc()) as (someone, board):
        board.pc.switch(True)
        await until(lambda: someone.state["power"] == "on")
        assert someone.state["cause"] == "external"
        await until(lambda: someone.events("power_on"))
        assert someone.events("power_on")[0]["cause"] == "external"


async def test_a_stop_in_the_middle_lets_go_and_says_interrupted(settings, tmp_path):
    pc = Pc(on=True, os_obeys=None)
    async with person(settings) as someone:
        async with agent(settings, tmp_path, Board(pc)):
            await until(lambda: someone.state.get("power") == "on")
            await someone.say({"id": "a1", "action": "off"})
            await until(lambda: pc.held)
        assert not pc.held
        await until(lambda: "failed" in someone.statuses("a1"))
        assert someone.results("a1")[-1]["error"]["code"] == "interrupted"
        epoch = someone.state["epoch"]
        async with agent(settings, tmp_path, Board(pc)):
            await until(lambda: someone.state["epoch"] != epoch)
            await someone.say({"id": "a1", "action": "off"})
            await until(lambda: someone.statuses("a1").count("failed") == 2)
        assert len(pc.presses) == 1
        pc.close()


async def test_boot_intent_is_kept_and_a_one_shot_is_spent_at_the_next_power_on(settings, tmp_path):
    pc = Pc()
    async with bench(settings, tmp_path, pc) as (someone, _board):
        await someone.say({"device": "pxe", "efi": True, "user": "ann"}, what="boot/set")
        await until(lambda: json.loads(someone.kept["nodes/n1/boot"])["device"] == "pxe")
        await until(lambda: someone.events("boot_set"))
    async with bench(settings, tmp_path, pc) as (someone, _board):
        assert json.loads(someone.kept["nodes/n1/boot"])["device"] == "pxe"
        assert json.loads(someone.kept["nodes/n1/boot"])["user"] == "ann"
        await someone.ask("on")
        await until(lambda: json.loads(someone.kept["nodes/n1/boot"])["device"] == "none")
        await until(lambda: someone.events("boot_used"))
        await someone.say({"device": "disk", "persistent": True}, what="boot/set")
        await someone.say(b"nonsense", what="boot/set")
        await someone.ask("reset")
        assert json.loads(someone.kept["nodes/n1/boot"])["device"] == "disk"
        assert someone.events("refused")


async def test_nodes_come_and_go_without_touching_the_others(settings, tmp_path):
    boards = {name: Board(Pc()) for name in ("n1", "n2", "n3")}
    async with person(settings) as someone, agent(settings, tmp_path, None) as runtime:

        def build(node: str) -> AgentNode:
            return AgentNode(node, boards[node], QUICK)

        await runtime.apply({"n1": 1, "n2": 1}, build)
        await until(lambda: {"nodes/n1/state", "nodes/n2/state"} <= someone.kept.keys())
        await runtime.apply({"n1": 1, "n2": 2, "n3": 1}, build)
        await until(lambda: "nodes/n3/state" in someone.kept)
        assert [board.starts for board in boards.values()] == [1, 2, 1]
        await runtime.apply({"n1": 1}, build)
        for kind in ("state", "info", "availability", "boot"):
            await until(lambda kind=kind: someone.kept[f"nodes/n2/{kind}"] == b"")
            assert someone.kept[f"nodes/n1/{kind}"] != b""
        assert runtime.nodes == ("n1",)


async def test_states_are_numbered_on_when_a_node_is_replaced(settings, tmp_path):
    """Readers ignore what has a lower number in the same epoch: a reload must not start again at 1."""
    board = Board(Pc())
    async with person(settings) as someone, agent(settings, tmp_path, None) as runtime:

        def states() -> list[dict[str, Any]]:
            return [value for kind, value in someone.heard if kind == "state"]

        for version in range(4):
            before = len(states())
            await runtime.apply({"n1": version}, lambda node: AgentNode(node, board, QUICK))
            await until(lambda before=before: [state for state in states()[before:] if state["power"] == "off"])
        numbers = [state["seq"] for state in states()]
        assert len({state["epoch"] for state in states()}) == 1
        assert numbers == sorted(set(numbers))


async def test_a_node_that_has_moved_to_another_agent_is_left_alone(settings, tmp_path):
    async with person(settings) as someone, agent(settings, tmp_path, Board(Pc())) as runtime:
        await until(lambda: someone.kept.get("nodes/n1/info") and someone.kept.get("nodes/n1/state"))
        info = json.loads(someone.kept["nodes/n1/info"])
        await someone.bus.publish("nodes/n1/info", json.dumps({**info, "agent": "other"}).encode(), retain=True)
        await runtime.remove("n1")
        await asyncio.sleep(0.3)
        assert json.loads(someone.kept["nodes/n1/info"])["agent"] == "other"
        assert someone.kept["nodes/n1/state"] != b""


async def test_what_ends_while_the_broker_is_away_is_said_when_it_is_back(mosquitto, tmp_path):
    settings = MqttSettings(url=mosquitto.url, reconnect_max=1)
    pc = Pc(on=True, os_obeys=1.5)
    async with bench(settings, tmp_path, pc) as (someone, _board):
        await someone.say({"id": "a1", "action": "soft"})
        await until(lambda: pc.presses)
        await mosquitto.stop()
        await until(lambda: not pc.on)
        await asyncio.sleep(1)
        heard = len(someone.heard)
        await mosquitto.start()
        await until(lambda: someone.heard[heard:] and someone.state["power"] == "off", 30)
        await until(lambda: "completed" in someone.statuses("a1") or someone.bus.connected, 30)
        assert len(pc.presses) == 1


async def test_commands_are_subscribed_so_that_the_broker_never_keeps_them(settings, tmp_path, monkeypatch):
    asked: dict[str, tuple[int, RetainedReplay]] = {}
    original = Bus.subscribe

    def spy(self, topic_filter, handler, *, qos=1, replay=RetainedReplay.SEND):
        asked[topic_filter] = (qos, replay)
        original(self, topic_filter, handler, qos=qos, replay=replay)

    monkeypatch.setattr(Bus, "subscribe", spy)
    async with bench(settings, tmp_path, Pc()):
        pass
    for kind in ("power/set", "boot/set", "identify/set"):
        assert asked[f"nodes/n1/{kind}"] == (0, RetainedReplay.NEVER)
