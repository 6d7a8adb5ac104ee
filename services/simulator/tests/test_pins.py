"""Levels and edges: pulses, side effects of configuring, what boot leaves, provisioning without a press."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypmi_simulator.eras import TRAITS, Era
from pypmi_simulator.firmware import Firmware
from pypmi_simulator.pins import PinBank
from pypmi_simulator.provisioning import provisioned_store
from pypmi_simulator.text import Line

OLD, MIDDLE, NEWEST = Era.OLD, Era.MIDDLE, Era.NEWEST
ALL = (OLD, MIDDLE, NEWEST)
LATER = (MIDDLE, NEWEST)

STORE_RECIPE = [
    "cde io.0.0. -1 -1 1",
    "cs io.0.0.flags -1 -1 256",
    "cs io.0.0.timer.direction -1 -1 1",
    "cs io.0.0.timer.delay -1 -1 500",
    "cs io.0.0.llmode -1 -1 3",
    "cs io.0.0.mode -1 -1 4",
]
OLD_STORE_RECIPE = [
    "id x",
    "id x",
    "cde io.0.0. -1 -1 1",
    "cs io.0.0.timer.direction -1 -1 2",
    "cs io.0.0.timer.delay -1 -1 500",
    "cs io.0.0.llmode -1 -1 3",
    "cs io.0.0.mode -1 -1 4",
]
LIVE_RECIPE = ["im 0 0 dinput", "isf 0 0 invert", "im 0 0 timer down 500", "isf 0 0 invert"]
OLD_LIVE_RECIPE = ["id x", "id x", "im 0 0 i2c sda", "im 0 0 timer up 500"]


def presses(device) -> list[float]:
    """Lengths of the lows on GPIO0 that a relay would follow; an unfinished one is infinite."""
    lows, start = [], None
    for edge in device.edges():
        if not edge.level:
            start = edge.time
        elif start is not None:
            lows.append(edge.time - start)
            start = None
    return lows if start is None else [*lows, float("inf")]


@pytest.mark.parametrize("era", ALL)
def test_provisioning_by_the_store_presses_nothing(blank, era):
    device = blank(era)
    for text in OLD_STORE_RECIPE if era is OLD else STORE_RECIPE:
        device(text)
        device.wait(0.2)
    assert presses(device) == []
    device.reboot()
    device.wait(1)
    assert presses(device) == []
    assert device.level()
    assert device("ir 0 0") == f"timer (blink): [{int(era is OLD)}]\n"


@pytest.mark.parametrize("era", LATER)
@pytest.mark.parametrize("cut", range(len(STORE_RECIPE) + 1))
def test_a_half_done_recipe_boots_released(blank, era, cut):
    device = blank(era)
    for text in STORE_RECIPE[:cut]:
        device(text)
    device.reboot()
    device.wait(1)
    assert presses(device) == []
    assert device.level()


@pytest.mark.parametrize("era", ALL)
def test_provisioning_without_a_reboot_presses_nothing(blank, era):
    device = blank(era)
    for text in OLD_LIVE_RECIPE if era is OLD else LIVE_RECIPE:
        device(text)
        device.wait(0.2)
    assert presses(device) == []
    if era is not OLD:
        assert "flags: [invert]" in device("im 0 0")
        assert "io.0.0.flags=256" in device("cd")
    device.reboot()
    device.wait(1)
    assert presses(device) == []
    device("it 0 0 on")
    device.wait(1)
    (press,) = presses(device)
    assert 0.49 <= press <= 0.5


@pytest.mark.parametrize("era", ALL)
def test_naive_provisioning_presses_and_stays(blank, era):
    device = blank(era)
    device("im 0 0 doutput")
    assert presses(device) == [float("inf")]


@pytest.mark.parametrize("era", LATER)
def test_timer_up_without_invert_holds_the_button(blank, era):
    device = blank(era)
    device("im 0 0 timer up 500")
    device.wait(10)
    assert presses(device) == [float("inf")]
    device.reboot()  # but the stored mode boots released
    device.wait(1)
    assert device.level()


@pytest.mark.parametrize("era", LATER)
@pytest.mark.parametrize("text", ["im 0 0 timer up 500", "isf 0 0 repeat", "icf 0 0 repeat"])
def test_reconfiguring_an_uninverted_pin_presses(blank, era, text):
    device = blank(era)
    device("im 0 0 timer up 500")
    device.reboot()
    assert device.level()
    device(text)
    assert not device.level()


def test_2019_leaves_the_latch_alone(blank):
    device = blank(OLD)
    device("im 0 0 doutput")
    device("iw 0 0 1")
    device("im 0 0 timer up 500")
    assert device.level()
    device("isf 0 0 repeat")
    assert device.level()


# -- pulses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ALL)
@pytest.mark.parametrize(("direction", "idle"), [("down", False), ("up", True)])
def test_pulse_and_idle_levels(blank, era, direction, idle):
    device = blank(era)
    device(f"im 0 4 timer {direction} 500")
    device("it 0 4 off")
    assert device.level(4) is idle
    device("it 0 4 on")
    assert device.level(4) is not idle
    device.wait(0.485)
    assert device.level(4) is not idle
    device.wait(0.016)
    assert device.level(4) is idle


@pytest.mark.parametrize("era", ALL)
def test_a_second_trigger_extends_the_pulse_without_a_gap(ready, era):
    device = ready(era)
    before = len(device.edges())
    device("it 0 0 on")
    for _ in range(20):
        device.wait(0.3)
        device("it 0 0 on")
    device("it 0 0 off")
    edges = device.edges()[before:]
    assert [edge.level for edge in edges] == [False, True]
    assert edges[1].time - edges[0].time == pytest.approx(6.0)


@pytest.mark.parametrize("era", ALL)
def test_a_pulse_ends_at_once_when_told(ready, era):
    device = ready(era)
    device("it 0 0 on")
    device.wait(0.1)
    device("it 0 0 stop")
    assert presses(device) == [pytest.approx(0.1)]
    assert "current direction: none, delay: 0 ms" in device("im 0 0")
    assert device.firmware.deadline() is None


@pytest.mark.parametrize("era", ALL)
def test_iw_on_a_timer_pin_stays(ready, era):
    device = ready(era)
    device("iw 0 0 " + ("0" if era is OLD else "1"))
    device.wait(10)
    assert not device.level()
    device("it 0 0 off")
    assert device.level()


@pytest.mark.parametrize("era", ALL)
def test_repeat_blinks_for_ever(ready, era):
    device = ready(era)
    device("isf 0 0 repeat")
    device("it 0 0 on")
    before = len(device.edges())
    device.wait(5.0)
    assert len(device.edges()) - before in {9, 10}
    assert device.firmware.deadline() is not None


@pytest.mark.parametrize("era", ALL)
def test_a_late_look_ends_the_pulse_at_its_own_time(ready, era):
    device = ready(era)
    device("it 0 0 on")
    device.wait(100)
    (press,) = presses(device)
    assert 0.49 <= press <= 0.5


@pytest.mark.parametrize("era", ALL)
def test_reset_ends_a_pulse(ready, era):
    device = ready(era)
    device("it 0 0 on")
    device.wait(0.2)
    device.reboot()
    assert presses(device) == [pytest.approx(0.2, abs=1e-4)]


@pytest.mark.parametrize("era", ALL)
def test_disabling_keeps_the_level_until_reboot(ready, era):
    device = ready(era)
    device("iw 0 0 " + ("0" if era is OLD else "1"))
    assert device("im 0 0 disabled") == "pin 0 disabled\n"
    assert not device.level()
    device.reboot()
    assert device.level()


def test_power_save_slows_the_newest_era(ready):
    device = ready(NEWEST)
    device("fs wlan-power-save")
    device.reboot()
    device.wait(0.05)
    device("it 0 0 on")
    device.wait(1)
    (press,) = presses(device)
    assert 0.4 <= press <= 0.5
    assert press * 1000 % 100 == pytest.approx(50, abs=1)


@pytest.mark.parametrize("era", ALL)
@pytest.mark.parametrize(("autostart", "level"), [(False, False), (True, True)])
def test_output_after_boot(blank, era, autostart, level):
    device = blank(era)
    device("id x")  # the first key is lost in 2019
    device("im 0 4 doutput")
    device(("isf" if autostart else "icf") + " 0 4 autostart")
    device.reboot()
    assert device.level(4) is level


@pytest.mark.parametrize("era", ALL)
def test_a_timer_with_autostart_pulses_at_boot(ready, era):
    device = ready(era)
    device("isf 0 0 autostart")
    if era is not OLD:
        device("isf 0 0 invert")
    device.reboot()
    device.wait(1)
    assert presses(device) == [pytest.approx(0.495, abs=0.01)]


@pytest.mark.parametrize("era", LATER)
def test_invert_swaps_reads_and_writes(blank, era):
    device = blank(era)
    device("im 0 0 dinput")
    device("isf 0 0 invert")
    device("im 0 0 doutput")
    assert device("iw 0 0 1") == "digital output: [1]\n"
    assert not device.level()
    assert device("ir 0 0") == "digital output: [1]\n"


@given(
    era=st.sampled_from(ALL),
    speed=st.integers(100, 5000),
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    phase=st.floats(0, 0.01),
)
def test_pulses_are_never_longer_than_the_last_trigger_and_the_time(era, speed, gaps, phase):
    pins = PinBank(TRAITS[era])
    firmware = Firmware(era, provisioned_store(era, pulse_ms=speed), pins)
    firmware.boot(0.0)
    pins.edges.clear()
    now = 1.0 + phase
    last = now
    line = Line(b"it 0 0 on", strict=era is NEWEST)
    for gap in gaps:
        firmware.execute(line, now)
        last = now
        now += gap / 1000
    firmware.advance(now + 10)
    assert pins.level(0, now + 10)
    end = max(edge.time for edge in pins.edges)
    assert speed / 1000 - 0.0101 <= end - last <= speed / 1000 + 0.0101
    lows = [edge for edge in pins.edges if not edge.level]
    assert len(lows) <= len(gaps)
