"""What goes wrong on the way to a board: one accepted press is at most one press, and the relay never stays closed."""

import asyncio
import random

import pytest
from pypmi.power.hardware import HardwareUnreachableError, HardwareUnsafeError
from pypmi_simulator import Era, Network, SimulatedBoard


async def _take_over(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0.05)
    writer.close()


FIRST_TRIGGER = b"it 0 0 on"
CHECK = b"im 0 0"
LET_GO = b"it 0 0 off"


async def _the_triggers_reply_does_not_come_and_the_board_has_pressed(bench, fate, era: Era, what: str) -> None:
    async with bench(SimulatedBoard(era), wired=True) as it:
        await it.online()
        it.wire.at(FIRST_TRIGGER, fate[what])
        error = await it.try_press(0.3)
        assert error is not None
        assert error.acted
        assert len(it.presses) == 1
        assert it.at_rest
        await it.online()
        await asyncio.sleep(0.7)
        assert len(it.presses) == 1


async def test_the_triggers_reply_does_not_come_and_the_board_has_pressed(bench, fate) -> None:
    await asyncio.gather(
        *(
            _the_triggers_reply_does_not_come_and_the_board_has_pressed(bench, fate, era, what)
            for era in Era
            for what in ("LOSE_REPLY", "RESET_AFTER")
        )
    )


async def _the_trigger_does_not_arrive(bench, fate, era: Era, what: str) -> None:
    async with bench(SimulatedBoard(era), wired=True) as it:
        await it.online()
        it.wire.at(FIRST_TRIGGER, fate[what])
        error = await it.try_press(0.3)
        if era is Era.NEWEST:  # the same transaction id again: it can"t be two presses
            assert error is None
            assert len(it.presses) == 1
        else:  # it can"t be known that nothing has moved
            assert error is not None
            assert error.acted
            assert it.presses == []
        assert it.at_rest


async def test_the_trigger_does_not_arrive(bench, fate) -> None:
    await asyncio.gather(
        *(
            _the_trigger_does_not_arrive(bench, fate, era, what)
            for era in Era
            for what in ("LOSE_COMMAND", "RESET_BEFORE")
        )
    )


async def _the_check_before_the_press_fails(bench, fate, era: Era, what: str) -> None:
    async with bench(SimulatedBoard(era), wired=True) as it:
        await it.online()
        it.wire.at(CHECK, fate[what])
        await it.press(0.3)  # nothing had moved, so it went on with a new connection
        assert len(it.presses) == 1
        assert it.at_rest


async def test_the_check_before_the_press_fails(bench, fate) -> None:
    await asyncio.gather(
        *(
            _the_check_before_the_press_fails(bench, fate, era, what)
            for era in Era
            for what in ("LOSE_COMMAND", "LOSE_REPLY", "RESET_BEFORE", "RESET_AFTER")
        )
    )


async def _letting_go_fails_and_the_boards_timer_does_it(bench, fate, era: Era, what: str) -> None:
    async with bench(SimulatedBoard(era), wired=True) as it:
        await it.online()
        it.wire.at(LET_GO, fate[what])
        error = await it.try_press(0.3)
        assert error is not None  # the board might have restarted in the middle
        assert error.acted
        assert it.at_rest
        assert len(it.presses) == 1
        assert it.presses[0] < 0.6


async def test_letting_go_fails_and_the_boards_timer_does_it(bench, fate) -> None:
    await asyncio.gather(
        *(
            _letting_go_fails_and_the_boards_timer_does_it(bench, fate, era, what)
            for era in Era
            for what in ("LOSE_COMMAND", "LOSE_REPLY", "RESET_BEFORE", "RESET_AFTER")
        )
    )


async def _reply_later_than_the_time_out(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        it.sim.faults.reply_delay = 0.9
        with pytest.raises(HardwareUnreachableError):
            await it.press(0.3)
        it.sim.faults.reply_delay = 0
        await it.until(lambda: it.listener.online and it.listener.status[-1] is not None, "online again")
        assert len(it.presses) <= 1
        assert it.at_rest
        # nothing that came late is taken for the answer to something else
        it.sim.pc.presses.clear()
        await asyncio.sleep(0.5)
        await it.press(0.3)
        assert len(it.presses) == 1


async def test_reply_later_than_the_time_out(bench) -> None:
    await asyncio.gather(*(_reply_later_than_the_time_out(bench, era) for era in Era))


async def _slow_replies_within_the_time_out(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era), command_timeout=1.0) as it:
        it.sim.faults.reply_delay = 0.3
        await it.online()
        await it.press(1.2)
        assert len(it.presses) == 1
        assert it.at_rest


async def test_slow_replies_within_the_time_out(bench) -> None:
    await asyncio.gather(*(_slow_replies_within_the_time_out(bench, era) for era in Era))


async def _lose_commands(bench, era: Era, count: int) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        it.sim.faults.lose_commands = count
        error = await it.try_press(0.3)
        assert error is None or error.acted or not it.presses
        assert len(it.presses) <= 1
        await it.until(lambda: it.at_rest, "let go", 1.0)
        await it.online()


async def test_commands_lost_on_the_way(bench) -> None:
    await asyncio.gather(*(_lose_commands(bench, era, count) for era in Era for count in range(1, 5)))


async def _cut(bench, era: Era, how: str, after: float) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        press = asyncio.create_task(it.try_press(1.5))
        await asyncio.sleep(after)
        match how:
            case "take-over":
                await _take_over(it.sim.port)
            case "blackhole":
                it.sim.cut_network(Network.BLACKHOLE)
            case "refuse":
                it.sim.cut_network(Network.REFUSE)
            case "reboot":
                it.sim.reboot()
        error = await press
        assert error is None or error.acted or not it.presses
        await it.until(lambda: it.at_rest, "let go", 1.0)
        it.sim.restore_network()
        await it.until(lambda: it.listener.online and it.board._session is not None, "online again", 30)
        await asyncio.sleep(0.6)
        assert len(it.presses) <= 1
        assert it.at_rest


@pytest.mark.parametrize("how", ["take-over", "blackhole", "refuse", "reboot"])
def test_connection_cut_in_a_long_press(bench, how: str, run_virtual) -> None:
    for after in (0.0, 0.005, 0.01, 0.1, 0.3, 0.6, 1.1, 1.49):
        for era in Era:
            run_virtual(_cut(bench, era, how, after))


async def _cut_at_random(bench, era: Era, rng: random.Random) -> None:
    async with bench(SimulatedBoard(era), wired=True) as it:
        for _ in range(2):
            await it.online()
            it.sim.pc.presses.clear()
            press = asyncio.create_task(it.try_press(rng.choice([0.3, 0.9])))
            await asyncio.sleep(rng.random() * 0.8)
            rng.choice([it.wire.reset, it.sim.reboot])()
            await press
            await it.until(lambda: it.at_rest, "let go", 1.0)
            await asyncio.sleep(0.2)
            assert len(it.presses) <= 1, it.presses


def test_cut_at_random_moments_never_presses_twice(bench, run_virtual) -> None:
    rng = random.Random(4)
    for era in Era:
        for _ in range(10):
            run_virtual(_cut_at_random(bench, era, random.Random(rng.random())))


async def _restart_is_reported(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        await asyncio.sleep(2.2)  # what two computations of the start may differ by
        it.sim.reboot("hardware watchdog")
        await it.until(lambda: bool(it.listener.restarts), "restart")
        assert "hardware watchdog" in it.listener.restarts[0]
        await it.online()
        assert [up for up, _ in it.listener.reachable].count(False) == 0


async def test_restart_is_reported(bench) -> None:
    await asyncio.gather(*(_restart_is_reported(bench, era) for era in Era))


async def test_a_short_loss_does_not_flap(bench) -> None:
    async with bench(SimulatedBoard()) as it:
        await it.online()
        it.sim.cut_network(Network.REFUSE)
        await asyncio.sleep(1.0)
        it.sim.restore_network()
        await asyncio.sleep(1.5)
        assert {up for up, _ in it.listener.reachable} == {True}


async def test_a_long_loss_is_reported_and_ends(bench) -> None:
    async with bench(SimulatedBoard(), connect_timeout=0.5) as it:
        it.sim.pc.powered = True
        await it.online()
        it.sim.cut_network(Network.BLACKHOLE)
        await it.until(lambda: not it.listener.online, "offline")
        assert it.listener.status[-1] is None
        it.sim.restore_network()
        await it.online()
        await it.until(lambda: it.listener.status[-1] is True, "status")
        assert it.presses == []


async def test_another_program_that_keeps_the_connection_is_said(bench) -> None:
    async with bench(SimulatedBoard()) as it:
        await it.online()
        for _ in range(3):
            await it.until(lambda: it.board._session is not None, "connected")
            await _take_over(it.sim.port)
            await asyncio.sleep(0.1)
        await it.until(lambda: "another program" in it.listener.offline_because, "said")


async def test_hung_board(bench) -> None:
    async with bench(SimulatedBoard()) as it:
        await it.online()
        it.sim.faults.hung = True
        with pytest.raises(HardwareUnreachableError) as caught:
            await it.press()
        assert not caught.value.acted
        assert it.presses == []


async def _board_that_was_flashed_anew_while_connected(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        it.sim.store.erase()
        it.sim.reboot()
        await it.until(lambda: "not set up" in it.listener.offline_because, "refused")
        with pytest.raises(HardwareUnsafeError):
            await it.press()
        assert it.presses == []


async def test_board_that_was_flashed_anew_while_connected(bench) -> None:
    await asyncio.gather(*(_board_that_was_flashed_anew_while_connected(bench, era) for era in Era))


async def test_set_up_changed_behind_our_back(bench) -> None:
    async with bench(SimulatedBoard(), poll_interval=60) as it:
        await it.online()
        it.sim.pins.pins[0].speed = 5000
        with pytest.raises(HardwareUnsafeError, match="pulses for 5000 ms"):
            await it.press()
        assert it.presses == []


async def _contact_left_closed_by_another_program_is_opened(bench, era: Era) -> None:
    sim = SimulatedBoard(era)
    async with bench(sim) as it:
        pin = sim.pins.pins[0]
        sim.pins.write(pin, 0 if era is Era.OLD else 1, sim.now)  # `iw` on a timer pin stays
        assert sim.relay_closed
        await it.online()
        await it.until(lambda: it.at_rest, "opened")


async def test_contact_left_closed_by_another_program_is_opened(bench) -> None:
    await asyncio.gather(*(_contact_left_closed_by_another_program_is_opened(bench, era) for era in Era))


async def test_sensors_that_are_read_slowly_do_not_come_between_triggers(bench) -> None:
    async with bench(SimulatedBoard(), command_timeout=1.0) as it:
        it.sim.faults.reply_delay = 0.25
        await it.until(lambda: it.board._session is not None, "connected")
        await it.press(1.5)  # with the first reading of the sensors under way
        assert len(it.presses) == 1


async def test_newest_firmware_from_before_packet_mode(bench, fate) -> None:
    async with bench(SimulatedBoard(Era.NEWEST), wired=True) as it:
        it.wire.at(b"\x01\x02\xfb\x4a", fate.LOSE_COMMAND)  # as such firmware does: it waits for a line end
        await it.online()
        await it.press(0.3)
        assert len(it.presses) == 1
        assert {up for up, _ in it.listener.reachable} == {True}
        it.wire.at(FIRST_TRIGGER, fate.LOSE_REPLY)
        error = await it.try_press(0.3)
        assert error is not None
        assert error.acted
        assert len(it.presses) == 2
