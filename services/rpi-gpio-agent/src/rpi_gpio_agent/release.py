"""`rpi-gpio-agent --release`: let go of everything, for systemd to run after the agent has ended, however it ended.

A process that was killed in the middle of a press leaves the pin driven: RPi.GPIO always does, libgpiod on Raspberry
Pi's own kernels. It is harmless at any other time.
"""

import argparse
import os
import sys
from pathlib import Path

from pypmi.config.document import ConfigError
from pypmi.config.hardware import GpioHardware
from pypmi.config.load import load_fleet
from pypmi.contract import ServiceKind

from rpi_gpio_agent.driver import OpenBackend, release_outputs
from rpi_gpio_agent.lines import LineError, open_backend


def release(argv: list[str], *, backend: OpenBackend = open_backend) -> int:
    """Drive every output of this agent's nodes inactive. Returns the exit code: 0 when all were."""
    parser = argparse.ArgumentParser(prog=ServiceKind.RPI_GPIO_AGENT.value)
    parser.add_argument("--release", action="store_true", required=True, help="let go of every button and stop")
    parser.add_argument("--config", type=Path, default=Path(os.environ.get("PYPMI_CONFIG", "fleet.yaml")))
    parser.add_argument("--name", default=os.environ.get("PYPMI_NAME", ServiceKind.RPI_GPIO_AGENT.value))
    options, _ = parser.parse_known_args(argv)
    try:
        fleet = load_fleet(options.config).fleet
    except ConfigError as error:
        print(f"{options.config}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    failed = False
    for node in fleet.nodes_of_agent(options.name):
        if isinstance(node.hardware, GpioHardware):
            try:
                release_outputs(node.hardware, node.id, backend=backend)
            except LineError as error:
                print(f"{node.id}: {error}", file=sys.stderr)  # noqa: T201
                failed = True
    return int(failed)
