"""Set-up of boards: what is refused, and provisioning, which never presses and writes only what differs."""

import asyncio

import pytest
from esp8266_agent import protocol
from esp8266_agent.session import Session
from pypmi.power.hardware import HardwareUnreachableError, HardwareUnsafeError
from pypmi_simulator import Era, Network, SimulatedBoard


async def _provisions_a_blank_board_without_a_press(bench, era: Era) -> None:
    changes = {"identification": "pc1", "uart": {"baud": 38400, "parity": "even", "bits": 7}, "bridge_port": 23}
    async with bench(SimulatedBoard(era, provisioned=False), provision=True, **changes) as it:
        await it.until(lambda: it.listener.online, f"online: {it.listener.reachable[-1:]}", 40)
        assert it.presses == []
        firmware = it.sim.firmware
        assert firmware.bridge_port == 23
        assert (firmware.uarts[0].baud, firmware.uarts[0].data_bits, firmware.uarts[0].parity) == (38400, 7, 1)
        assert it.sim.store.get("identification") == "pc1"
        await it.press(0.3)
        assert len(it.presses) == 1
        # once more: nothing is written to a board that is as it must be
        writes = it.sim.store.writes
        boots = it.sim.boots
        it.sim.reboot()
        await asyncio.sleep(0.5)
        await it.until(lambda: it.board._session is not None, "connected again")
        await it.press(0.3)
        assert (it.sim.store.writes, it.sim.boots) == (writes, boots + 1)


async def test_provisions_a_blank_board_without_a_press(bench) -> None:
    await asyncio.gather(*(_provisions_a_blank_board_without_a_press(bench, era) for era in Era))


async def _provisioning_writes_only_what_differs(bench, era: Era) -> None:
    sim = SimulatedBoard(era, name="pc1")
    async with bench(sim, provision=True, identification="pc1", uart={"baud": 9600}) as it:
        await it.online()
        assert sim.firmware.uarts[0].baud == 9600
        assert sim.store.writes == 1
        assert sim.boots == 1


async def test_provisioning_writes_only_what_differs(bench) -> None:
    await asyncio.gather(*(_provisioning_writes_only_what_differs(bench, era) for era in Era))


async def test_a_relay_that_would_be_pressed_after_a_restart_is_seen_before_it(bench) -> None:
    sim = SimulatedBoard(Era.NEWEST)
    async with bench(sim, wired=True) as it:
        await it.online()
        sim.store.commit(put={"io.0.0.flags": 0})  # it runs with `invert` and would start without
        it.wire.reset()
        await it.until(lambda: "a restart may press" in it.listener.offline_because, "refused")
        assert it.presses == []


async def _another_boards_name_is_not_overwritten(bench, era: Era) -> None:
    async with bench(SimulatedBoard(era, name="pc2"), identification="pc1", provision=True) as it:
        await it.until(lambda: "'pc2', not 'pc1'" in it.listener.offline_because, "refused")
        assert it.sim.store.writes == 0


async def test_another_boards_name_is_not_overwritten(bench) -> None:
    await asyncio.gather(*(_another_boards_name_is_not_overwritten(bench, era) for era in Era))


WRONG = [
    ({"io.0.0.flags": 257}, "autostart"),
    ({"io.0.0.flags": 258}, "repeat"),
    ({"io.0.0.flags": 0}, "flags none"),
    ({"io.0.0.timer.direction": 2}, "pulses up and must pulse down"),
    ({"io.0.0.timer.delay": 250}, "for 250 ms and must for 500"),
    ({"io.0.0.mode": 3}, "'digital output'"),
    ({"io.0.2.mode": 3, "io.0.2.llmode": 3}, "status pin 2"),
    ({"io.0.2.flags": 256}, "invert"),
    ({"flags": 1 << 17}, "cmd-from-uart"),
    ({"flags": 1 << 1}, "log-to-uart"),
    ({"flags": 1 << 9}, "auto-sequencer"),
    ({"trigger.status.io": 0, "trigger.status.pin": 0}, "trigger.status"),
    ({"trigger.assoc.io": 0, "trigger.assoc.pin": 0}, "trigger.assoc"),
]


async def _wrong_set_up(bench, put: dict, text: str) -> None:
    sim = SimulatedBoard(Era.NEWEST)
    sim.store.commit(put=put)
    sim.store.writes = 0
    async with bench(sim) as it:
        await it.until(lambda: text in it.listener.offline_because, text)
        it.sim.pc.presses.clear()  # some of these press by themselves; the driver must not
        with pytest.raises(HardwareUnsafeError):
            await it.press()
        assert sim.store.writes == 0
    async with bench(sim, provision=True) as it:
        await it.until(lambda: it.listener.online, f"online after provisioning {it.listener.reachable[-1:]}", 40)
        it.sim.pc.presses.clear()
        await it.press(0.3)
        assert len(it.presses) == 1


async def test_wrong_set_up_is_refused_with_the_reason_and_can_be_provisioned(bench) -> None:
    await asyncio.gather(*(_wrong_set_up(bench, put, text) for put, text in WRONG))


async def test_wrong_console_settings_do_not_stop_the_power_button(bench, era: Era, caplog) -> None:
    async with bench(SimulatedBoard(era), uart={"baud": 9600}) as it:
        await it.online()
        assert "UART baud rate is 115200 and fleet.yaml says 9600" in caplog.text
        await it.press(0.3)
        assert len(it.presses) == 1
        assert it.sim.store.writes == 0


async def test_told_the_wrong_firmware(bench) -> None:
    async with bench(SimulatedBoard(Era.NEWEST), firmware="2019") as it:
        await it.until(lambda: "firmware: auto" in it.listener.offline_because, "refused")


# -- plain outputs -----------------------------------------------------------------------------------------------------


def _plain_board(era: Era, *, invert: bool) -> SimulatedBoard:
    sim = SimulatedBoard(era)
    sim.store.commit(prefix="io.0.0.", put=None)
    # released at boot: logical 0 through `invert`, or logical 1 by `autostart`
    sim.store.commit(put={"io.0.0.mode": 3, "io.0.0.llmode": 3, "io.0.0.flags": 256 if invert else 1})
    return sim


PLAIN = [(Era.OLD, False), (Era.MIDDLE, True), (Era.NEWEST, True), (Era.NEWEST, False)]


def _plain_boards() -> list[SimulatedBoard]:
    return [_plain_board(era, invert=invert) for era, invert in PLAIN]


async def _plain_output_is_refused_unless_asked_for(bench, plain: SimulatedBoard) -> None:
    async with bench(plain) as it:
        await it.until(lambda: "must be in mode 'timer'" in it.listener.offline_because, "refused")


async def test_plain_output_is_refused_unless_asked_for(bench) -> None:
    await asyncio.gather(*(_plain_output_is_refused_unless_asked_for(bench, plain) for plain in _plain_boards()))


async def _plain_output_presses(bench, plain: SimulatedBoard) -> None:
    async with bench(plain, output_mode="plain") as it:
        await it.online()
        assert it.presses == []
        await it.press(0.4)
        assert len(it.presses) == 1
        assert 0.35 < it.presses[0] < 0.7
        assert it.at_rest


async def test_plain_output_presses(bench) -> None:
    await asyncio.gather(*(_plain_output_presses(bench, plain) for plain in _plain_boards()))


async def test_plain_output_that_would_boot_pressed_is_refused(bench) -> None:
    sim = _plain_board(Era.NEWEST, invert=True)
    sim.store.commit(put={"io.0.0.flags": 0})
    async with bench(sim, output_mode="plain") as it:
        await it.until(lambda: "at every start" in it.listener.offline_because, "refused")


async def _let_go_over_a_new_connection(bench, fate, plain: SimulatedBoard, what: str, command: str) -> None:
    async with bench(plain, output_mode="plain", wired=True) as it:
        await it.online()
        inverted = plain.store.get("io.0.0.flags") == "256"
        value = inverted == (command == "press")
        it.wire.at(f"iw 0 0 {int(value)}".encode(), fate[what])
        error = await it.try_press(0.3)
        assert error is None or error.acted
        assert len(it.presses) <= 1
        await it.until(lambda: it.at_rest, "let go", 5)


async def test_plain_output_is_let_go_over_a_new_connection(bench, fate) -> None:
    await asyncio.gather(
        *(
            _let_go_over_a_new_connection(bench, fate, plain, what, command)
            for what in ("LOSE_COMMAND", "LOSE_REPLY", "RESET_BEFORE", "RESET_AFTER")
            for command in ("press", "release")
            for plain in _plain_boards()
        )
    )


async def _plain_output_is_let_go_when_the_board_is_back(bench, plain: SimulatedBoard) -> None:
    async with bench(plain, output_mode="plain", connect_timeout=0.5) as it:
        await it.online()
        press = asyncio.create_task(it.press(1.0))
        await it.until(lambda: plain.relay_closed, "pressed")
        plain.cut_network(Network.BLACKHOLE)
        with pytest.raises(HardwareUnreachableError, match="may still be held"):
            await press
        assert plain.relay_closed
        plain.restore_network()
        await it.until(lambda: it.at_rest, "let go")


async def test_plain_output_is_let_go_when_the_board_is_back(bench) -> None:
    await asyncio.gather(*(_plain_output_is_let_go_when_the_board_is_back(bench, plain) for plain in _plain_boards()))


async def _plain_output_is_let_go_when_the_driver_stops(bench, plain: SimulatedBoard) -> None:
    async with bench(plain, output_mode="plain") as it:
        await it.online()
        press = asyncio.create_task(it.press(10.0))
        await it.until(lambda: plain.relay_closed, "pressed")
        await asyncio.sleep(0.1)
        it.task.cancel()
        press.cancel()
        await asyncio.gather(press, it.task, return_exceptions=True)
        await it.until(lambda: it.at_rest, "let go", 1.0)


async def test_plain_output_is_let_go_when_the_driver_stops(bench) -> None:
    await asyncio.gather(*(_plain_output_is_let_go_when_the_driver_stops(bench, plain) for plain in _plain_boards()))


def test_a_drifting_clock_is_no_restart() -> None:
    def seen(booted_at: float, at: float) -> Session:
        return Session(None, protocol.Era.NEWEST, protocol.Firmware("", ""), booted_at, at)  # type: ignore[arg-type]

    day = 86_400.0
    first = seen(100.0, 200.0)
    assert not seen(101.0, 260.0).restarted_since(first)
    assert not seen(104.0, 200.0 + day).restarted_since(first)
    assert seen(210.0, 220.0).restarted_since(first)
    assert seen(day, day + 100.0).restarted_since(first)
