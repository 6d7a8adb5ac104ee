"""`rpi-gpio-agent --release`, as systemd runs it after the agent has ended."""

from pathlib import Path

import pytest
from gpio_rig import POWER, RESET, GpiodRig
from rpi_gpio_agent.release import release

FLEET = f"""\
nodes:
  - id: pc1
    hardware: {{type: gpio, backend: gpiod, power_button: {{line: {POWER}}}}}
  - id: pc2
    hardware: {{type: gpio, backend: gpiod, power_button: {{line: {RESET}, active: low}}}}
  - id: pc3
    hardware: {{type: esp8266, host: 192.0.2.1}}
"""


def fleet(folder: Path, text: str = FLEET) -> str:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return str(path)


def test_lets_go_of_every_node(gpiod_rig: GpiodRig, tmp_path: Path) -> None:
    gpiod_rig.board.wires[POWER].level = True
    assert release(["--release", "--config", fleet(tmp_path)]) == 0
    assert not gpiod_rig.level(POWER)
    assert gpiod_rig.level(RESET)


def test_says_what_could_not_be_let_go_and_does_the_rest(
    gpiod_rig: GpiodRig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = FLEET.replace(f"line: {POWER}", "line: NO_SUCH")
    gpiod_rig.board.wires[RESET].level = False
    assert release(["--release", "--config", fleet(tmp_path, text)]) == 1
    assert "pc1: GPIO line NO_SUCH" in capsys.readouterr().err
    assert gpiod_rig.level(RESET)


def test_wrong_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release(["--release", "--config", fleet(tmp_path, "nodes: 3")]) == 2
    assert "fleet.yaml" in capsys.readouterr().err
