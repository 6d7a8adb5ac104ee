"""The GPIO driver on both back ends: presses, releases on every way out, status, lines that are not to be had."""

import asyncio
import time

import fake_rpi_gpio
import pytest
from gpio_rig import IDENTIFY, NMI, POWER, RESET, STATUS, GpiodRig, Rig, running, until
from pypmi.power.hardware import (
    Button,
    HardwareUnreachableError,
    HardwareUnsafeError,
    HardwareUnsupportedError,
)
from rpi_gpio_agent import driver as driver_module
from rpi_gpio_agent import guard
from rpi_gpio_agent.driver import GpioDriver, release_outputs


async def test_tells_what_is_wired(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    assert driver.buttons == {Button.POWER, Button.RESET, Button.IDENTIFY}
    assert driver.has_status
    assert not GpioDriver(rig.settings(status=None), "pc1").has_status


async def test_start_and_stop_drive_nothing_but_the_inactive_level(rig: Rig) -> None:
    async with running(GpioDriver(rig.settings(), "pc1")) as seen:
        assert seen.reachable == [(True, "")]
        assert seen.firmware[0].startswith("gpiod" if rig.name == "gpiod" else "RPi.GPIO")
        assert rig.levels(POWER) == [False]
        assert rig.levels(RESET) == [True]
        assert rig.levels(IDENTIFY) == [False]
    assert set(rig.levels(POWER)) == {False}
    assert set(rig.levels(RESET)) == {True}


@pytest.mark.parametrize(("button", "line", "active"), [(Button.POWER, POWER, True), (Button.RESET, RESET, False)])
async def test_press_lasts_as_long_as_asked(rig: Rig, button: Button, line: int, active: bool) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    async with running(driver):
        await driver.press(button, 0.2, asyncio.Event())
        assert rig.level(line) is not active
        edges = rig.history(line)
        assert [level for _, level in edges] == [not active, active, not active]
        assert edges[2][0] - edges[1][0] >= 0.19


async def test_release_ends_a_press_early(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    release = asyncio.Event()
    async with running(driver):
        press = asyncio.create_task(driver.press(Button.POWER, 30.0, release))
        await until(lambda: rig.level(POWER))
        release.set()
        async with asyncio.timeout(5):
            await press
        assert not rig.level(POWER)


async def test_cancelling_a_press_lets_go(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    async with running(driver):
        press = asyncio.create_task(driver.press(Button.POWER, 30.0, asyncio.Event()))
        await until(lambda: rig.level(POWER))
        press.cancel()
        with pytest.raises(asyncio.CancelledError):
            await press
        assert not rig.level(POWER)
        await driver.press(Button.POWER, 0.01, asyncio.Event())  # and the driver works on


async def test_ending_run_lets_go_and_says_that_the_press_was_cut(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    async with running(driver):
        press = asyncio.create_task(driver.press(Button.POWER, 30.0, asyncio.Event()))
        await until(lambda: rig.level(POWER))
    assert not rig.level(POWER)
    with pytest.raises(HardwareUnreachableError) as caught:
        await press
    assert caught.value.acted


async def test_guard_lets_go_when_the_event_loop_hangs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MARGIN", 0.1)
    driver = GpioDriver(rig.settings(), "pc1")
    async with running(driver):
        press = asyncio.create_task(driver.press(Button.POWER, 0.1, asyncio.Event()))
        await until(lambda: rig.level(POWER))
        deadline = time.monotonic() + 20
        while rig.level(POWER) and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 the point: nothing runs in the event loop
        assert not rig.level(POWER)
        await press


async def test_one_press_at_a_time_and_a_light_beside_it(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    release = asyncio.Event()
    async with running(driver):
        press = asyncio.create_task(driver.press(Button.POWER, 30.0, release))
        await until(lambda: rig.level(POWER))
        for button in (Button.POWER, Button.RESET):
            with pytest.raises(HardwareUnsafeError, match="another press"):
                await driver.press(button, 0.01, asyncio.Event())
        assert rig.levels(RESET) == [True]
        await driver.press(Button.IDENTIFY, 0.01, asyncio.Event())
        assert rig.levels(IDENTIFY) == [False, True, False]
        release.set()
        await press


async def test_buttons_that_are_not_wired_are_unsupported(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(reset_button=None), "pc1")
    async with running(driver):
        for button in (Button.RESET, Button.NMI):
            with pytest.raises(HardwareUnsupportedError):
                await driver.press(button, 0.01, asyncio.Event())
    assert rig.history(RESET) == rig.history(NMI) == []


async def test_press_before_the_lines_are_requested_moves_nothing(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    with pytest.raises(HardwareUnreachableError) as caught:
        await driver.press(Button.POWER, 0.01, asyncio.Event())
    assert not caught.value.acted
    with pytest.raises(HardwareUnreachableError):
        await driver.read_status()
    assert rig.history(POWER) == []


async def test_external_change_is_told_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "POLL_INTERVAL", 600.0)  # only an edge can tell now
    driver = GpioDriver(rig.settings(), "pc1")
    async with running(driver) as seen:
        await until(lambda: seen.status == [False])
        rig.set_status(True)
        await until(lambda: seen.status[-1] is True)
        assert await driver.read_status() is True
        rig.set_status(False)
        await until(lambda: seen.status[-1] is False)


async def test_status_is_polled_under_lost_edges(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "POLL_INTERVAL", 0.02)
    driver = GpioDriver(rig.settings(), "pc1")
    async with running(driver) as seen:
        await until(lambda: len(seen.status) >= 3)


@pytest.mark.parametrize("level", [False, True])
async def test_active_low_status(rig: Rig, level: bool) -> None:
    rig.set_status(level)
    driver = GpioDriver(rig.settings(status={"line": STATUS, "active": "low", "bias": "pull-up"}), "pc1")
    async with running(driver) as seen:
        rig.set_status(level)
        await until(lambda: bool(seen.status) and seen.status[-1] is (not level))


async def test_without_a_status_input(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(status=None), "pc1")
    async with running(driver) as seen:
        assert await driver.read_status() is None
        assert seen.status == []
        await driver.press(Button.POWER, 0.01, asyncio.Event())
    assert rig.levels(POWER)[:3] == [False, True, False]


async def test_can_be_run_again(rig: Rig) -> None:
    driver = GpioDriver(rig.settings(), "pc1")
    for _ in range(2):
        async with running(driver) as seen:
            rig.set_status(not rig.level(STATUS))
            await until(lambda: bool(seen.status) and seen.status[-1] is rig.level(STATUS))
            await driver.press(Button.POWER, 0.01, asyncio.Event())
    assert rig.levels(POWER).count(True) == 2


async def test_release_outputs_after_a_kill(rig: Rig) -> None:
    """A process that was killed in a press leaves the pin driven; what systemd runs afterwards lets go of all."""
    if isinstance(rig, GpiodRig):
        rig.board.wires[POWER].level = True
    else:
        fake_rpi_gpio.levels[POWER] = True
    release_outputs(rig.settings(), "pc1")
    assert not rig.level(POWER)
    assert rig.level(RESET)
    assert True not in rig.levels(POWER)
    async with running(GpioDriver(rig.settings(), "pc1")):  # and has given the lines back
        pass
