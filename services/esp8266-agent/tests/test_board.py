"""The driver on simulated boards of every firmware era: presses are counted on the PC behind the relay."""

import asyncio

import pytest
from esp8266_agent.board import Board
from pypmi.power.hardware import Button, HardwareUnreachableError, HardwareUnsafeError, HardwareUnsupportedError
from pypmi_simulator import Era, SimulatedBoard

FIRMWARE = {Era.OLD: "2019", Era.MIDDLE: "2021", Era.NEWEST: "2024"}


async def _reports_what_the_board_shows(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era, name="pc1"), identification="pc1") as it:
        await it.online()
        await it.until(lambda: it.listener.status[-1:] == [False], "off")
        assert FIRMWARE[era] in it.listener.firmware[0]
        await it.until(lambda: it.listener.sensors.get("signal") == -55, "signal")
        it.sim.pc.turn_on(it.sim.now)
        await it.until(lambda: it.listener.status[-1] is True, "on")
        assert await it.board.read_status() is True
        assert it.presses == []


async def test_reports_what_the_board_shows(bench) -> None:
    await asyncio.gather(*(_reports_what_the_board_shows(bench, era) for era in Era))


async def _connecting_polling_and_stopping_move_nothing(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        await asyncio.sleep(0.5)
        relay_edges = [
            edge for edge in it.sim.pins.edges if edge.pin == 0 and edge.time > it.sim.firmware.booted_at + 0.1
        ]
        assert relay_edges == []
    assert it.presses == []


async def test_connecting_polling_and_stopping_move_nothing(bench) -> None:
    await asyncio.gather(*(_connecting_polling_and_stopping_move_nothing(bench, era) for era in Era))


@pytest.mark.parametrize("told", [True, False])
async def test_short_press_turns_the_pc_on(bench, era: Era, told: bool) -> None:
    async with bench(SimulatedBoard(era), firmware=FIRMWARE[era] if told else "auto") as it:
        await it.online()
        await it.press(0.3)
        assert len(it.presses) == 1
        assert 0.25 < it.presses[0] < 0.5
        assert it.sim.pc.powered
        assert it.at_rest


async def _a_press_longer_than_the_pulse_is_one_press(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        await it.press(1.7)
        assert len(it.presses) == 1
        assert 1.6 < it.presses[0] < 2.0


async def test_a_press_longer_than_the_pulse_is_one_press(bench) -> None:
    await asyncio.gather(*(_a_press_longer_than_the_pulse_is_one_press(bench, era) for era in Era))


async def _early_release(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        it.sim.pc.powered = True
        await it.online()
        release = asyncio.Event()
        press = asyncio.create_task(it.press(10.0, release))
        await asyncio.sleep(0.9)
        release.set()
        await press
        assert len(it.presses) == 1
        assert 0.8 < it.presses[0] < 1.4


async def test_early_release(bench) -> None:
    await asyncio.gather(*(_early_release(bench, era) for era in Era))


async def test_status_is_reported_during_a_press(bench) -> None:
    async with bench(SimulatedBoard()) as it:
        await it.online()
        press = asyncio.create_task(it.press(1.5))
        await it.until(lambda: it.listener.status[-1] is True, "on while the button is held")
        assert not press.done()
        assert await it.board.read_status() is True
        await press


async def _cancelling_lets_go(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era)) as it:
        await it.online()
        press = asyncio.create_task(it.press(10.0))
        await it.until(lambda: it.sim.relay_closed, "pressed")
        await asyncio.sleep(0.1)
        press.cancel()
        await asyncio.gather(press, return_exceptions=True)
        await it.until(lambda: it.at_rest, "let go", 1.0)
        assert len(it.presses) == 1


async def test_cancelling_lets_go(bench) -> None:
    await asyncio.gather(*(_cancelling_lets_go(bench, era) for era in Era))


async def test_stopping_the_driver_in_a_press_lets_go(bench) -> None:
    async with bench(SimulatedBoard()) as it:
        await it.online()
        press = asyncio.create_task(it.press(10.0))
        await it.until(lambda: it.sim.relay_closed, "pressed")
        await asyncio.sleep(0.1)
        it.task.cancel()
        press.cancel()
        await asyncio.gather(press, it.task, return_exceptions=True)
        await it.until(lambda: it.at_rest, "let go", 1.0)
        assert len(it.presses) == 1


async def test_reset_relay(bench) -> None:
    sim = SimulatedBoard(reset_pin=4)
    async with bench(sim, reset_relay={"pin": 4}) as it:
        sim.pc.powered = True
        await it.online()
        assert it.board.buttons == {Button.POWER, Button.RESET}
        await it.press(0.3, button=Button.RESET)
        assert sim.pc.resets == 1


async def test_no_such_button(bench) -> None:
    async with bench(SimulatedBoard()) as it:
        with pytest.raises(HardwareUnsupportedError):
            await it.press(0.3, button=Button.NMI)


async def _active_high_relay_and_active_low_led(bench, era: Era) -> None:
    sim = SimulatedBoard(era, active_low=False, led_active_low=True)
    async with bench(sim, relay={"pin": 0, "active": "high"}, status={"pin": 2, "active": "low"}) as it:
        await it.online()
        await it.press(0.3)
        assert len(it.presses) == 1
        await it.until(lambda: it.listener.status[-1] is True, "on")


async def test_active_high_relay_and_active_low_led(bench) -> None:
    await asyncio.gather(*(_active_high_relay_and_active_low_led(bench, era) for era in Era))


async def _wrong_board_is_never_pressed(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era, name="pc2"), identification="pc1") as it:
        await it.until(lambda: "'pc2', not 'pc1'" in it.listener.offline_because, "refused")
        with pytest.raises(HardwareUnsafeError, match="pc2"):
            await it.press()
        assert it.presses == []


async def test_wrong_board_is_never_pressed(bench) -> None:
    await asyncio.gather(*(_wrong_board_is_never_pressed(bench, era) for era in Era))


async def _blank_board_is_never_pressed_and_says_the_way_out(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era, provisioned=False)) as it:
        await it.until(lambda: "--provision node1" in it.listener.offline_because, "refused")
        assert "relay pin 0 is in mode 'disabled'" in it.listener.offline_because
        with pytest.raises(HardwareUnsafeError):
            await it.press()
        assert it.presses == []
        assert it.sim.store.writes == 0


async def test_blank_board_is_never_pressed_and_says_the_way_out(bench) -> None:
    await asyncio.gather(*(_blank_board_is_never_pressed_and_says_the_way_out(bench, era) for era in Era))


async def test_board_that_is_not_there(make_settings, listener, wait_until) -> None:
    sim = SimulatedBoard()
    async with sim:
        pass
    board = Board(make_settings(sim.port), "node1")
    task = asyncio.create_task(board.run(listener))
    await wait_until(lambda: "refused" in listener.offline_because, "offline")
    with pytest.raises(HardwareUnreachableError) as caught:
        await board.press(Button.POWER, 0.3, asyncio.Event())
    assert not caught.value.acted
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
