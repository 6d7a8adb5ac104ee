"""Every power action against a simulated PC: what is pressed, what is confirmed, what is refused."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pypmi.config.power import PowerSettings
from pypmi.contract import Capability, ErrorCode, PowerAction, PowerState
from pypmi.power.buttons import ButtonController
from pypmi.power.controller import Outcome
from pypmi.power.hardware import Button, PowerOn
from pypmi.power.monitor import PowerMonitor
from pypmi.power.status import Cause, StatusChange, StatusTracker

from .machine import Board, Pc
from .virtual_time import run_virtual


class Bench:
    """A board with its PC, monitor and controller, running."""

    def __init__(self, board: Board, settings: PowerSettings, power_on: PowerOn | None = None) -> None:
        self.board, self.pc = board, board.pc
        self.changes: list[StatusChange] = []
        self.monitor = PowerMonitor(StatusTracker(settings), self.changes.append)
        self.controller = ButtonController(board, settings, self.monitor, power_on)

    def on_reachable(self, reachable: bool, reason: str = "") -> None:
        if not reachable:
            self.monitor.lost()

    def on_status(self, on: bool | None) -> None:
        self.monitor.feed(on)

    async def act(self, action: PowerAction) -> Outcome:
        return await self.controller.execute(action)

    @property
    def power(self) -> PowerState:
        return self.monitor.tracker.power


def on_bench(
    pc: Pc,
    story: Callable[[Bench], Awaitable[None]],
    board: Board | None = None,
    settings: PowerSettings | None = None,
    power_on: PowerOn | None = None,
) -> None:
    async def main() -> None:
        bench = Bench(board or Board(pc), settings or PowerSettings(), power_on)
        running = asyncio.create_task(bench.board.run(bench))  # type: ignore[arg-type]
        await asyncio.sleep(2)
        try:
            await story(bench)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            bench.monitor.close()
            pc.close()

    run_virtual(main)


def held(pc: Pc) -> list[tuple[str, float]]:
    return [(button, round(end - start, 1)) for button, start, end in pc.presses]


def test_on_presses_once_and_is_confirmed():
    async def story(bench):
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error is None
        assert outcome.acted
        assert held(bench.pc) == [("power", 1.0)]
        assert bench.power is PowerState.ON
        assert bench.changes[-1].cause is Cause.COMMAND

    on_bench(Pc(), story)


@pytest.mark.parametrize(
    ("action", "on"), [(PowerAction.ON, True), (PowerAction.OFF, False), (PowerAction.SOFT, False)]
)
def test_what_is_so_already_is_completed_without_a_press(action, on):
    async def story(bench):
        outcome = await bench.act(action)
        assert (outcome.error, outcome.acted) == (None, False)
        assert "already" in (outcome.note or "")
        assert bench.pc.presses == []

    on_bench(Pc(on=on), story)


def test_a_forced_off_lets_go_as_soon_as_the_status_shows_off():
    async def story(bench):
        outcome = await bench.act(PowerAction.OFF)
        assert outcome.error is None
        assert not bench.pc.on
        [(button, seconds)] = held(bench.pc)
        assert button == "power"
        assert 4.0 < seconds < 6.0

    on_bench(Pc(on=True, os_obeys=None), story)


def test_cycle_has_an_off_half_a_wait_and_an_on_half():
    async def story(bench):
        outcome = await bench.act(PowerAction.CYCLE)
        assert outcome.error is None
        (_, _, off_end), (_, on_start, _) = bench.pc.presses
        assert on_start - off_end >= 2.0
        assert bench.pc.on
        assert [change.power for change in bench.changes[-2:]] == [PowerState.OFF, PowerState.ON]
        assert {change.cause for change in bench.changes[-2:]} == {Cause.COMMAND}

    on_bench(Pc(on=True, os_obeys=None), story)


def test_cycle_of_a_machine_that_is_off_switches_it_on():
    async def story(bench):
        outcome = await bench.act(PowerAction.CYCLE)
        assert outcome.error is None
        assert held(bench.pc) == [("power", 1.0)]
        assert "was off" in outcome.note

    on_bench(Pc(), story)


def test_cycle_does_not_press_again_when_the_off_half_failed():
    async def story(bench):
        outcome = await bench.act(PowerAction.CYCLE)
        assert outcome.error.code is ErrorCode.NOT_CONFIRMED
        assert len(bench.pc.presses) == 1

    on_bench(Pc(on=True, dead=True), story)


def test_reset_presses_the_reset_button():
    async def story(bench):
        assert (await bench.act(PowerAction.RESET)).error is None
        assert held(bench.pc) == [("reset", 1.0)]
        assert bench.pc.resets == 1

    on_bench(Pc(on=True), story)


def test_reset_without_a_reset_button_is_a_cycle_and_says_so():
    async def story(bench):
        outcome = await bench.act(PowerAction.RESET)
        assert outcome.error is None
        assert [button for button, _ in held(bench.pc)] == ["power", "power"]
        assert "power cycle" in outcome.note

    pc = Pc(on=True)
    on_bench(pc, story, Board(pc, {Button.POWER}))


@pytest.mark.parametrize("action", [PowerAction.RESET, PowerAction.DIAG])
def test_reset_and_diag_of_a_machine_that_is_off_are_refused(action):
    async def story(bench):
        assert bench.controller.refusal(action).code is ErrorCode.INVALID
        outcome = await bench.act(action)
        assert outcome.error.code is ErrorCode.INVALID
        assert bench.pc.presses == []

    on_bench(Pc(), story)


def test_diag_presses_nmi():
    async def story(bench):
        assert (await bench.act(PowerAction.DIAG)).error is None
        assert bench.pc.nmis == 1

    on_bench(Pc(on=True), story)


def test_soft_waits_for_the_operating_system():
    async def story(bench):
        outcome = await bench.act(PowerAction.SOFT)
        assert outcome.error is None
        assert held(bench.pc) == [("power", 1.0)]
        assert not bench.pc.on

    on_bench(Pc(on=True, os_obeys=12), story)


def test_a_shutdown_longer_than_our_patience_is_not_confirmed_but_still_the_commands_doing():
    async def story(bench):
        outcome = await bench.act(PowerAction.SOFT)
        assert outcome.error.code is ErrorCode.NOT_CONFIRMED
        assert bench.power is PowerState.ON
        await asyncio.sleep(100)
        assert bench.power is PowerState.OFF
        assert bench.changes[-1].cause is Cause.COMMAND

    on_bench(Pc(on=True, os_obeys=90), story)


def test_a_machine_that_does_not_follow_is_not_confirmed():
    async def story(bench):
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error.code is ErrorCode.NOT_CONFIRMED
        assert len(bench.pc.presses) == 1

    on_bench(Pc(dead=True), story)


@pytest.mark.parametrize("action", [PowerAction.ON, PowerAction.OFF, PowerAction.SOFT, PowerAction.CYCLE])
def test_nothing_is_pressed_while_the_status_cannot_be_read(action):
    async def story(bench):
        bench.board.reachable = False
        outcome = await bench.act(action)
        assert outcome.error.code is ErrorCode.DEVICE_UNREACHABLE
        assert not outcome.acted
        assert bench.pc.presses == []

    on_bench(Pc(), story)


def test_somebody_pressed_the_real_button_just_before():
    async def story(bench):
        bench.pc.switch(True)  # the last reading that the agent has is older
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error is None
        assert bench.pc.presses == []

    pc = Pc()
    board = Board(pc)
    board.poll = 30
    on_bench(pc, story, board)


def test_a_press_that_never_arrived_is_not_repeated():
    async def story(bench):
        bench.board.lose_before_press = True
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error.code is ErrorCode.DEVICE_UNREACHABLE
        assert bench.pc.presses == []

    on_bench(Pc(), story)


def test_a_press_of_unknown_outcome_is_judged_by_the_status_input():
    async def story(bench):
        bench.board.lose_after_press = 0.5
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error is None
        assert "not repeated" in outcome.note
        assert len(bench.pc.presses) == 1
        bench.pc.os_obeys = None
        bench.board.lose_after_press = 0.5
        outcome = await bench.act(PowerAction.OFF)
        assert outcome.error.code is ErrorCode.NOT_CONFIRMED
        assert "not repeated" in outcome.error.message
        assert len(bench.pc.presses) == 2

    on_bench(Pc(), story)


def test_without_a_status_input_the_power_button_is_for_the_brave():
    async def story(bench):
        for action in (PowerAction.ON, PowerAction.SOFT):
            assert bench.controller.refusal(action).code is ErrorCode.UNSUPPORTED
        outcome = await bench.act(PowerAction.OFF)
        assert outcome.error is None
        assert "not confirmed" in outcome.note
        assert held(bench.pc) == [("power", 10.0)]
        assert Capability.STATUS not in bench.controller.capabilities

    pc = Pc(on=True)
    on_bench(pc, story, Board(pc, has_status=False))


def test_blind_presses_are_done_when_configured():
    async def story(bench):
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error is None
        assert "not confirmed" in outcome.note
        assert bench.pc.on

    pc = Pc()
    on_bench(pc, story, Board(pc, has_status=False), PowerSettings(blind=True))


class Wake:
    name = "wake-on-lan"

    def __init__(self, pc: Pc) -> None:
        self.pc = pc
        self.sent = 0

    async def power_on(self) -> None:
        self.sent += 1
        self.pc.switch(True)


@pytest.mark.parametrize("has_status", [True, False])
def test_wake_on_lan_takes_the_place_of_the_button(has_status):
    pc = Pc()
    wake = Wake(pc)

    async def story(bench):
        outcome = await bench.act(PowerAction.ON)
        assert outcome.error is None
        assert wake.sent == 1
        assert bench.pc.presses == []

    on_bench(pc, story, Board(pc, has_status=has_status), power_on=wake)


def test_too_late_is_not_begun():
    async def story(bench):
        now = asyncio.get_running_loop().time()
        outcome = await bench.controller.execute(PowerAction.ON, deadline=now - 0.1)
        assert outcome.error.code is ErrorCode.EXPIRED
        assert bench.pc.presses == []

    on_bench(Pc(), story)


def test_a_cancelled_press_is_let_go():
    async def story(bench):
        task = asyncio.create_task(bench.act(PowerAction.OFF))
        await asyncio.sleep(1)
        assert bench.pc.held
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not bench.pc.held
        assert bench.pc.on

    on_bench(Pc(on=True, os_obeys=None), story)


def test_a_dip_while_the_machine_starts_does_not_count():
    async def story(bench):
        await bench.act(PowerAction.ON)
        count = len(bench.changes)
        bench.pc.on = False
        await asyncio.sleep(2.5)
        bench.pc.on = True
        await asyncio.sleep(20)
        assert len(bench.changes) == count

    on_bench(Pc(), story)
