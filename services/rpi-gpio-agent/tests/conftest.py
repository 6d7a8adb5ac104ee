"""Tests that take `rig` run on both back ends."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside the tests

from gpio_rig import GpiodRig, Rig, RpiGpioRig


@pytest.fixture
def gpiod_rig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> GpiodRig:
    return GpiodRig(monkeypatch, tmp_path)


@pytest.fixture(params=["gpiod", "rpi-gpio"])
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rig:
    return GpiodRig(monkeypatch, tmp_path) if request.param == "gpiod" else RpiGpioRig(monkeypatch)
