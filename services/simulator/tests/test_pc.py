"""The machine behind the pins: ATX and ACPI rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypmi_simulator.pc import PC, AfterPowerLoss, Button, OsState, PcTimings, SoftOff, magic_packet_mac

POWER, RESET = Button.POWER, Button.RESET
T = PcTimings()


def hold(pc: PC, start: float, seconds: float, button: Button = POWER) -> float:
    pc.press(button, start)
    pc.release(button, start + seconds)
    return start + seconds


def running(**options) -> PC:
    return PC(powered=True, **options)


def test_a_short_press_turns_on_and_the_system_boots():
    pc = PC()
    end = hold(pc, 10, 0.2)
    assert pc.powered
    assert pc.os is OsState.BOOTING
    pc.advance(end + T.boot)
    assert pc.os is OsState.RUNNING
    assert pc.presses == [(10, pytest.approx(0.2), POWER)]
    assert [event.what for event in pc.events] == ["on", "running"]


def test_a_contact_shorter_than_the_debounce_time_is_no_press():
    pc = PC()
    hold(pc, 10, 2e-6)
    pc.advance(20)
    assert not pc.powered
    assert pc.presses == []


def test_a_short_press_while_running_halts_in_time():
    pc = running()
    hold(pc, 10, 0.2)
    assert pc.os is OsState.HALTING
    assert pc.powered
    pc.advance(10 + T.debounce + T.halt - 0.01)
    assert pc.powered
    pc.advance(10 + T.debounce + T.halt)
    assert not pc.powered


def test_a_system_that_ignores_the_button():
    pc = running(soft_off=SoftOff.IGNORE)
    hold(pc, 10, 0.2)
    pc.advance(100)
    assert pc.powered
    assert pc.os is OsState.RUNNING


def test_a_hung_system_needs_the_long_press():
    pc = running()
    pc.hang(5)
    hold(pc, 10, 3.9)
    assert pc.powered
    hold(pc, 20, 4.1)
    assert not pc.powered


def test_holding_forces_off_while_still_held():
    pc = running(soft_off=SoftOff.IGNORE)
    pc.press(POWER, 10)
    pc.advance(13.99)
    assert pc.powered
    pc.advance(14)
    assert not pc.powered
    pc.release(POWER, 16)
    assert not pc.powered
    assert pc.presses == [(10, 6, POWER)]


def test_holding_from_off_turns_on_and_off_again():
    pc = PC()
    pc.press(POWER, 10)
    pc.advance(11)
    assert pc.powered
    pc.advance(14)
    assert not pc.powered
    patient = PC(hold_from_off=False)
    patient.press(POWER, 10)
    patient.advance(20)
    assert patient.powered


def test_a_press_while_booting():
    pc = PC()
    hold(pc, 10, 0.1)
    hold(pc, 10.2, 0.1)
    assert pc.powered
    touchy = PC(press_while_booting=True)
    hold(touchy, 10, 0.1)
    hold(touchy, 10.2, 0.1)
    assert not touchy.powered


def test_reset_boots_again_with_the_power_on():
    pc = running()
    hold(pc, 10, 0.2, RESET)
    assert pc.os is OsState.BOOTING
    assert pc.resets == 1
    assert "off" not in [event.what for event in pc.events]
    assert pc.presses[0].button is RESET
    off = PC()
    hold(off, 10, 0.2, RESET)
    assert not off.powered
    assert off.resets == 0


def test_the_nmi_button_reaches_what_runs_and_changes_no_power():
    pc, off = running(), PC()
    for machine in (pc, off):
        hold(machine, 10, 0.2, Button.NMI)
        machine.advance(11)
    assert (pc.nmis, pc.powered, pc.os) == (1, True, OsState.RUNNING)
    assert (off.nmis, off.powered) == (0, False)


def test_reset_frees_a_hung_system_and_stops_a_shutdown():
    pc = running()
    pc.shutdown(9.9)
    hold(pc, 10, 0.1, RESET)
    pc.advance(20)
    assert pc.powered
    pc.hang(21)
    hold(pc, 22, 0.1, RESET)
    pc.advance(30)
    assert pc.os is OsState.RUNNING


def test_relay_and_hand_are_wired_in_parallel():
    pc = running(soft_off=SoftOff.IGNORE)
    pc.press(POWER, 10, by="hand")
    pc.press(POWER, 12)
    pc.release(POWER, 13, by="hand")
    assert pc.held(POWER)
    pc.advance(14)
    assert not pc.powered
    pc.release(POWER, 15)
    assert pc.presses == [(12, 3, POWER)]
    assert pc.hand_presses == [(10, 3, POWER)]


def test_power_supplies():
    dead = PC(psu_ok=False)
    hold(dead, 10, 0.2)
    dead.advance(20)
    assert not dead.powered
    weak = PC(psu_weak=True)
    hold(weak, 10, 0.2)
    assert weak.powered
    weak.advance(20)
    assert not weak.powered
    slow = PC(timings=PcTimings(power_good=0.5))
    hold(slow, 10, 0.2)
    assert not slow.powered
    slow.advance(10.6)
    assert slow.powered


@pytest.mark.parametrize(("setting", "was_on", "comes_up"), [
    (AfterPowerLoss.STAY_OFF, True, False),
    (AfterPowerLoss.LAST_STATE, True, True),
    (AfterPowerLoss.LAST_STATE, False, False),
    (AfterPowerLoss.TURN_ON, False, True),
])  # fmt: skip
def test_mains(setting, was_on, comes_up):
    pc = PC(powered=was_on, after_power_loss=setting)
    pc.unplug(10)
    assert not pc.powered
    hold(pc, 11, 0.2)
    assert not pc.powered
    pc.plug(12)
    assert pc.powered is comes_up


def test_the_led_blinks_in_sleep():
    pc = running()
    assert pc.power_led(5)
    pc.sleep(10)
    assert {pc.power_led(10 + n * T.blink_period / 2 + 0.1) for n in range(4)} == {True, False}
    hold(pc, 20, 0.1)
    assert pc.os is OsState.RUNNING
    dark = running(sleep_blinks=False)
    dark.sleep(10)
    assert not any(dark.power_led(10 + n / 3) for n in range(20))


def test_wake_on_lan():
    pc = PC(mac="02:50:4d:00:00:01")
    mac = magic_packet_mac(b"\xff" * 6 + bytes.fromhex("02504d000001") * 16)
    assert mac == pc.mac
    pc.wake(10)
    assert pc.powered
    assert magic_packet_mac(b"\xff" * 6 + b"\1\2\3\4\5\6" * 15) is None
    assert magic_packet_mac(b"junk" + b"\xff" * 7 + bytes.fromhex("02504d000001") * 16) == pc.mac


def test_listeners():
    seen: list = []
    pc = PC()
    pc.on_power = lambda on, now: seen.append(("power", on, now))
    pc.on_running = lambda now: seen.append(("running", now))
    hold(pc, 10, 0.1)
    pc.advance(20)
    pc.unplug(30)
    start = 10 + T.debounce
    assert seen == [("power", True, start), ("running", start + T.boot), ("power", False, 30)]


@given(
    st.lists(
        st.tuples(st.floats(0.001, 6, allow_nan=False), st.floats(0.001, 3, allow_nan=False)), min_size=1, max_size=8
    )
)
def test_every_real_press_is_recorded_once_and_time_never_runs_back(pairs):
    pc = PC()
    now, expected = 1.0, 0
    for gap, length in pairs:
        now += gap
        pc.press(POWER, now)
        now += length
        pc.release(POWER, now)
        expected += length >= T.debounce
    pc.advance(now + 100)
    assert abs(len(pc.presses) - expected) <= sum(abs(length - T.debounce) < 1e-9 for _, length in pairs)
    assert [e.time for e in pc.events] == sorted(e.time for e in pc.events)
    assert pc.deadline() is None
