"""A whole agent in virtual time against a PC with ATX rules, under everything that can go wrong at once.

Whatever happens: no command presses more than once (a cycle: once off, once on), nothing is pressed for a command
that was not accepted and written down, no button stays held, every accepted command is answered in the end, and the
reported state ends equal to the PC's.
"""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pypmi.agent import AgentNode, AgentRuntime, Journal, JournalError
from pypmi.agent.store import JournalStore
from pypmi.bus import Bus, Message
from pypmi.config.power import PowerSettings
from pypmi.contract import PowerAction, Topics, new_id, utc_now
from pypmi.power.hardware import Button

from .loopback import LoopbackBus
from .machine import Board, Pc
from .virtual_time import VirtualLoop

TOPIC = "nodes/n1/power/set"
ALLOWED = {PowerAction.CYCLE: 2, PowerAction.RESET: 2}


class MortalStore(JournalStore):
    """Dies as by kill -9: at a chosen transaction, before or after its commit, and nothing is written afterwards."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.dead = False
        self.die_in: int | None = None
        self.die_after_commit = False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self.dead:
            raise JournalError("killed")
        dying = False
        if self.die_in is not None:
            self.die_in -= 1
            dying = self.die_in < 0
        if dying and not self.die_after_commit:
            self.dead = True
            raise JournalError("killed")
        with super().transaction():
            yield
        if dying:
            self.dead = True
            raise JournalError("killed")


class CountingBoard(Board):
    """Notes for which command each press was."""

    def __init__(self, pc: Pc, buttons: set[Button], presses: Counter[str]) -> None:
        super().__init__(pc, buttons)
        self.poll = 1.0
        self.count = presses
        self.runtime: AgentRuntime | None = None

    @property
    def running(self) -> str:
        """The id of the command that is being carried out."""
        assert self.runtime is not None
        command = self.runtime._runners["n1"]._command
        return command.id if command else ""

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        before, running = len(self.pc.presses) + len(self.pc.held), self.running
        try:
            await super().press(button, seconds, release)
        finally:
            self.count[running] += len(self.pc.presses) + len(self.pc.held) - before


class AgentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.folder = Path(tempfile.mkdtemp())
        self.presses: Counter[str] = Counter()
        self.actions: dict[str, PowerAction] = {}
        self.accepted: set[str] = set()
        self.final: dict[str, str] = {}
        self.late: set[str] = set()
        self.runtime: AgentRuntime | None = None

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coroutine)

    @initialize(on=st.booleans(), obeys=st.sampled_from([None, 2.0, 40.0]), reset=st.booleans())
    def set_up(self, on: bool, obeys: float | None, reset: bool) -> None:
        self.pc = Pc(on=on, os_obeys=obeys)
        self.buttons = {Button.POWER, Button.NMI} | ({Button.RESET} if reset else set())
        self.board = CountingBoard(self.pc, self.buttons, self.presses)
        self.do(self.start())
        self.do(asyncio.sleep(3))

    async def start(self) -> None:
        self.bus = LoopbackBus()
        self.bus.on_sent = self.hear
        self.store = MortalStore(self.folder / "journal.sqlite3")
        journal = Journal(self.folder / "journal.sqlite3", self.store)
        self.runtime = AgentRuntime(cast("Bus", self.bus), Topics(), "agent", new_id(), self.folder, journal=journal)
        self.board.runtime = self.runtime
        await self.runtime.put(AgentNode("n1", self.board, PowerSettings()))
        self.task = asyncio.create_task(self.runtime.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        self.runtime = None

    def hear(self, topic: str, payload: bytes) -> None:
        if topic.endswith("power/result"):
            result = json.loads(payload)
            if self.store.dead and result["status"] != "rejected":
                return  # a killed process says nothing any more
            if result["status"] == "accepted":
                self.accepted.add(result["id"])
            elif result["status"] in {"completed", "failed"}:
                # what was said once stays so; interrupted may follow on a final that was not written down
                self.final[result["id"]] = result["status"]

    # -- what people and programs do -------------------------------------------------------------------------------

    def send(self, command_id: str, action: PowerAction, *, retain: bool = False, age: float | None = None) -> None:
        command: dict[str, Any] = {"id": command_id, "action": action.value}
        if age is not None:
            command["issued_at"] = (utc_now() - timedelta(seconds=age)).isoformat()
        if self.bus.connected:
            self.bus.deliver(Message(TOPIC, json.dumps(command).encode(), retain))

    @rule(action=st.sampled_from(list(PowerAction)), wait=st.sampled_from([0, 0, 0.3, 2, 30]))
    def command(self, action: PowerAction, wait: float) -> None:
        command_id = f"c{len(self.actions)}"
        self.actions[command_id] = action
        self.send(command_id, action)
        self.do(asyncio.sleep(wait))

    @precondition(lambda self: self.actions)
    @rule(data=st.data(), times=st.integers(1, 3))
    def repeat(self, data: st.DataObject, times: int) -> None:
        command_id = data.draw(st.sampled_from(sorted(self.actions)))
        for _ in range(times):
            self.send(command_id, self.actions[command_id])
        self.do(asyncio.sleep(0.2))

    @rule(action=st.sampled_from(list(PowerAction)), retain=st.booleans())
    def late_or_retained(self, action: PowerAction, retain: bool) -> None:
        command_id = f"late{len(self.late)}"
        self.late.add(command_id)
        self.send(command_id, action, retain=retain, age=None if retain else 60)
        self.do(asyncio.sleep(0.2))

    @rule(on=st.booleans())
    def somebody_else(self, on: bool) -> None:
        self.pc.switch(on)
        self.do(asyncio.sleep(0.1))

    # -- what goes wrong -------------------------------------------------------------------------------------------

    @rule(after=st.sampled_from([0.05, 0.5, 3.0, 4.5]))
    def the_next_press_loses_its_answer(self, after: float) -> None:
        self.board.lose_after_press = after

    @rule()
    def the_next_press_does_not_arrive(self) -> None:
        self.board.lose_before_press = True

    @rule(seconds=st.sampled_from([0.5, 4, 40]))
    def the_board_is_away(self, seconds: float) -> None:
        self.board.reachable = False
        self.do(asyncio.sleep(seconds))
        self.board.reachable = True

    @rule(seconds=st.sampled_from([0.5, 40]))
    def the_broker_is_away(self, seconds: float) -> None:
        self.bus.connected = False
        self.do(asyncio.sleep(seconds))
        self.do(self.bus.reconnect())

    @rule(dead=st.booleans())
    def the_pc_follows_or_not(self, dead: bool) -> None:
        self.pc.dead = dead

    @rule(steps=st.integers(0, 4), after=st.booleans(), action=st.sampled_from(list(PowerAction)))
    def killed_at_a_journal_step(self, steps: int, after: bool, action: PowerAction) -> None:
        self.store.die_in, self.store.die_after_commit = steps, after
        self.command(action, 30)
        self.killed(0)

    @rule(after=st.sampled_from([0, 0.5, 3]))
    def killed(self, after: float) -> None:
        self.do(asyncio.sleep(after))
        self.store.dead = True
        self.bus.connected = False
        self.do(self.stop())
        self.do(asyncio.sleep(1))
        self.do(self.start())
        self.do(asyncio.sleep(3))

    @rule()
    def stopped_and_started(self) -> None:
        self.do(self.stop())
        self.do(self.start())
        self.do(asyncio.sleep(3))

    @rule(seconds=st.sampled_from([1, 10, 100]))
    def time_passes(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def nobody_pressed_twice(self) -> None:
        for command_id, count in self.presses.items():
            assert command_id in self.actions, f"{command_id!r} was never accepted"
            assert count <= ALLOWED.get(self.actions[command_id], 1), f"{command_id}: {count} presses"

    @invariant()
    def nothing_late_or_retained_was_accepted(self) -> None:
        assert not self.late & self.accepted

    def teardown(self) -> None:
        try:
            if self.runtime is not None:
                self.board.reachable = True
                self.store.die_in = None
                self.do(self.stop())
                self.do(self.start())
                self.do(asyncio.sleep(150))
                assert not self.pc.held
                state = json.loads(self.bus.kept["nodes/n1/state"])
                assert (state["power"], state["target"]) == ("on" if self.pc.on else "off", None)
                assert self.bus.kept["nodes/n1/availability"] == b"online"
                self.nobody_pressed_twice()
                for command_id in self.accepted:
                    self.send(command_id, self.actions[command_id])
                    self.do(asyncio.sleep(0.2))
                    assert command_id in self.final, f"{command_id} was never answered"
                self.do(self.stop())
        finally:
            self.pc.close() if hasattr(self, "pc") else None
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.close()
            shutil.rmtree(self.folder)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        AgentMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_agent_model():
    run(60, 25)


@pytest.mark.nightly
@pytest.mark.timeout(6 * 3600)
def test_agent_model_at_length():
    run(10_000, 40)
