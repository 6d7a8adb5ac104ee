"""The RPi.GPIO back end, and which back end `auto` takes."""

import builtins
import sys
from types import ModuleType

import fake_rpi_gpio
import pytest
from gpio_rig import POWER, STATUS, GpiodRig, running, until
from pypmi.config.hardware import GpioHardware, GpioLine, GpioStatus
from rpi_gpio_agent import driver as driver_module
from rpi_gpio_agent import lines
from rpi_gpio_agent.driver import GpioDriver
from rpi_gpio_agent.gpiod_lines import GpiodBackend
from rpi_gpio_agent.lines import LineError, open_backend
from rpi_gpio_agent.rpigpio_lines import RpiGpioBackend


@pytest.fixture(autouse=True)
def rpi_gpio(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_rpi_gpio.install(monkeypatch)


def settings(backend: str) -> GpioHardware:
    return GpioHardware.model_validate(
        {"type": "gpio", "backend": backend, "power_button": {"line": POWER}, "status": {"line": STATUS}}
    )


def test_names_are_refused_with_the_way_out() -> None:
    with pytest.raises(LineError, match="backend: gpiod"):
        RpiGpioBackend().output(GpioLine(line="GPIO17"))


def test_numbers_out_of_range() -> None:
    with pytest.raises(LineError, match="GPIO 99: The channel sent is invalid"):
        RpiGpioBackend().output(GpioLine(line=99))


def test_another_numbering_already_set() -> None:
    fake_rpi_gpio.setmode(fake_rpi_gpio.BOARD)
    with pytest.raises(LineError, match="different mode"):
        RpiGpioBackend()


def test_closed_output_stays_inactive() -> None:
    line = RpiGpioBackend().output(GpioLine(line=POWER, active="low"))
    line.write(True)
    assert line.read() is True
    assert fake_rpi_gpio.levels[POWER] is False
    line.close()
    line.write(True)
    assert fake_rpi_gpio.levels[POWER] is True


async def test_without_edge_detection_the_status_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_rpi_gpio, "edge_error", "Failed to add edge detection")
    monkeypatch.setattr(driver_module, "POLL_INTERVAL", 0.02)
    async with running(GpioDriver(settings("rpi-gpio"), "pc1")) as seen:
        fake_rpi_gpio.levels[STATUS] = True
        await until(lambda: bool(seen.status) and seen.status[-1] is True)


async def test_closed_input_is_silent_and_unreadable() -> None:
    line = RpiGpioBackend().input(GpioStatus(line=STATUS), lambda: None)
    line.close()
    line.close()
    with pytest.raises(LineError, match="closed"):
        line.read()


def test_auto_takes_gpiod_first(gpiod_rig: GpiodRig) -> None:
    assert isinstance(open_backend(settings("auto"), "me"), GpiodBackend)


def test_auto_takes_rpi_gpio_where_gpiod_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_installed", lambda module: module == "RPi")
    assert isinstance(open_backend(settings("auto"), "me"), RpiGpioBackend)


def test_nothing_installed_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_installed", lambda module: False)
    with pytest.raises(LineError, match=r"pip install 'pypmi-rpi-gpio-agent\[gpiod\]'"):
        open_backend(settings("auto"), "me")


@pytest.mark.parametrize(("backend", "module"), [("gpiod", "gpiod"), ("rpi-gpio", "RPi")])
def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, backend: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what makes `import` say that there is none
    with pytest.raises(LineError, match=rf"cannot import .*'pypmi-rpi-gpio-agent\[{backend}\]'"):
        open_backend(settings(backend), "me")


def test_not_on_a_raspberry_pi(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> ModuleType:
        if name == "RPi":
            raise RuntimeError("This module can only be run on a Raspberry Pi!")
        return real_import(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(LineError, match=r"can only be run on a Raspberry Pi! On a Pi 5 use"):
        RpiGpioBackend()
