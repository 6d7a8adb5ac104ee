"""The libgpiod back end: finding the chip, what each error says, lines that vanish; and the real package's own edge."""

import asyncio
import errno

import gpiod
import pytest
from fake_gpiod import Bias, Direction
from gpio_rig import POWER, RESET, STATUS, GpiodRig, running, until
from pypmi.config.hardware import GpioLine, GpioStatus
from pypmi.power.hardware import Button, HardwareUnreachableError
from rpi_gpio_agent import driver as driver_module
from rpi_gpio_agent.driver import GpioDriver
from rpi_gpio_agent.gpiod_lines import GpiodBackend
from rpi_gpio_agent.lines import LineError


@pytest.mark.parametrize("chip", ["pinctrl-*", "pinctrl-bcm2711", "gpiochip0"])
def test_chip_by_label_or_name(gpiod_rig: GpiodRig, chip: str) -> None:
    assert GpiodBackend(chip, "me").version == "gpiod 2.5.0 on pinctrl-bcm2711"


def test_chip_by_path(gpiod_rig: GpiodRig) -> None:
    assert GpiodBackend(str(gpiod_rig.dev / "gpiochip1"), "me").version.endswith("raspberrypi-exp-gpio")


def test_link_to_the_same_chip_does_not_count_twice(gpiod_rig: GpiodRig) -> None:
    (gpiod_rig.dev / "gpiochip4").symlink_to(gpiod_rig.dev / "gpiochip0")
    assert GpiodBackend("pinctrl-*", "me")


def test_several_chips_are_named(gpiod_rig: GpiodRig) -> None:
    gpiod_rig.plug("gpiochip2", "pinctrl-other")
    with pytest.raises(LineError, match=r"fits several: pinctrl-bcm2711 \(gpiochip0\), pinctrl-other \(gpiochip2\)"):
        GpiodBackend("pinctrl-*", "me")


def test_unknown_chip(gpiod_rig: GpiodRig) -> None:
    with pytest.raises(LineError, match="gpiodetect"):
        GpiodBackend("pinctrl-rp1", "me")
    with pytest.raises(LineError, match="there is no GPIO chip"):
        GpiodBackend(str(gpiod_rig.dev / "gpiochip9"), "me")


def test_no_permission_names_the_group(gpiod_rig: GpiodRig) -> None:
    gpiod_rig.board.denied = errno.EACCES
    with pytest.raises(LineError, match="group gpio"):
        GpiodBackend("pinctrl-*", "me")


def test_lines_by_name_and_number(gpiod_rig: GpiodRig) -> None:
    backend = GpiodBackend("pinctrl-*", "pypmi-a-node-with-quite-a-long-name")
    line = backend.output(GpioLine(line="GPIO17"))
    line.write(True)
    wire = gpiod_rig.board.wires[17]
    assert wire.level
    assert wire.consumer == "pypmi-a-node-with-quite-a-long-"
    assert line.read()
    line.close()
    line.close()
    line.write(True)
    assert not wire.level
    with pytest.raises(LineError, match="closed"):
        line.read()
    assert backend.output(GpioLine(line="27")).read() is False


@pytest.mark.parametrize("name", ["NO_SUCH", 99])
def test_unknown_line(gpiod_rig: GpiodRig, name: int | str) -> None:
    with pytest.raises(LineError, match="gpioinfo"):
        GpiodBackend("pinctrl-*", "me").output(GpioLine(line=name))


def test_line_in_use(gpiod_rig: GpiodRig) -> None:
    backend = GpiodBackend("pinctrl-*", "me")
    held = backend.output(GpioLine(line=17))
    with pytest.raises(LineError, match="in use by another program"):
        backend.output(GpioLine(line=17))
    held.close()


async def test_input_settings(gpiod_rig: GpiodRig) -> None:
    backend = GpiodBackend("pinctrl-*", "me")
    for bias, expected in (("none", Bias.DISABLED), ("pull-up", Bias.PULL_UP), ("pull-down", Bias.PULL_DOWN)):
        status = GpioStatus.model_validate({"line": STATUS, "bias": bias, "active": "low"})
        line = backend.input(status, lambda: None)
        settings = gpiod_rig.board.wires[STATUS].settings
        assert settings is not None
        assert (settings.direction, settings.bias, settings.active_low) == (Direction.INPUT, expected, True)
        line.close()


async def test_lines_in_use_are_retried_and_what_was_had_is_given_back(
    gpiod_rig: GpiodRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "RETRY_INTERVAL", 0.02)
    other = GpiodBackend("pinctrl-*", "other").output(GpioLine(line=RESET))
    driver = GpioDriver(gpiod_rig.settings(), "pc1")
    async with running(driver) as seen:
        assert seen.reachable[0][0] is False
        assert "in use" in seen.reachable[0][1]
        assert seen.status[0] is None
        assert gpiod_rig.board.wires[POWER].owner is None
        with pytest.raises(HardwareUnreachableError, match="in use") as caught:
            await driver.press(Button.POWER, 0.01, asyncio.Event())
        assert not caught.value.acted
        other.close()
        await until(lambda: seen.reachable[-1] == (True, ""))
        await driver.press(Button.POWER, 0.01, asyncio.Event())


async def test_chip_pulled_out_in_a_press(gpiod_rig: GpiodRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "POLL_INTERVAL", 0.02)
    monkeypatch.setattr(driver_module, "RETRY_INTERVAL", 0.02)
    driver = GpioDriver(gpiod_rig.settings(), "pc1")
    async with running(driver) as seen:
        press = asyncio.create_task(driver.press(Button.POWER, 30.0, asyncio.Event()))
        await until(lambda: gpiod_rig.level(POWER))
        gpiod_rig.board.broken = gpiod_rig.board.denied = errno.ENODEV
        with pytest.raises(HardwareUnreachableError) as caught:
            await press
        assert caught.value.acted
        await until(lambda: not seen.reachable[-1][0])
        assert "the chip is gone" in seen.reachable[-1][1]
        assert seen.status[-1] is None
        gpiod_rig.board.broken = gpiod_rig.board.denied = 0
        await until(lambda: seen.reachable[-1][0])
        assert not gpiod_rig.level(POWER)


async def test_edge_of_a_vanished_chip_does_not_spin(gpiod_rig: GpiodRig) -> None:
    edges = []
    line = GpiodBackend("pinctrl-*", "me").input(GpioStatus(line=STATUS), lambda: edges.append(1))
    gpiod_rig.board.broken = errno.ENODEV
    gpiod_rig.set_status(True)
    await until(lambda: bool(edges))
    await asyncio.sleep(0.05)
    assert edges == [1]
    gpiod_rig.board.broken = 0
    line.close()


def test_libgpiod_1_is_recognised(gpiod_rig: GpiodRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(gpiod_rig.module, "LineSettings")
    with pytest.raises(LineError, match="libgpiod 1"):
        GpiodBackend("pinctrl-*", "me")


def test_real_package_without_chips(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package on a machine whose /dev/null is no GPIO chip: its own errors are understood."""
    assert gpiod.__name__ == "gpiod"
    with pytest.raises(LineError, match="there is no GPIO chip /dev/gpiochip-none"):
        GpiodBackend("/dev/gpiochip-none", "me")
    with pytest.raises(LineError, match="GPIO chip /dev/null: the chip is gone"):
        GpiodBackend("/dev/null", "me")
