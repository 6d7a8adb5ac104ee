"""An agent with the real runtime (topics, commands, journal) and machines that are simulated in the process.

Takes the arguments of every service, and `--sensors` for two sensors a machine.
"""

import asyncio
import sys
from functools import partial

from pypmi.agent.app import AgentApp
from pypmi.config.fleet import NodeSettings
from pypmi.contract import SensorInfo, ServiceKind
from pypmi.power.hardware import Button, HardwareListener
from pypmi.process import run_service
from pypmi.service import Service

SENSORS = (
    SensorInfo(key="cpu", name="CPU", kind="temperature", unit="°C"),
    SensorInfo(key="volt", name="12 V", kind="voltage", unit="V"),
)


class Machine:
    """A machine whose power follows its button at once: nothing here takes time, so the rest is what is measured."""

    driver = "bench"
    buttons = frozenset({Button.POWER, Button.RESET})
    has_status = True

    def __init__(self, sensors: bool) -> None:
        self.sensors = SENSORS if sensors else ()
        self._on = True
        self._listener: HardwareListener | None = None

    async def run(self, listener: HardwareListener) -> None:
        self._listener = listener
        listener.on_reachable(True)
        listener.on_status(self._on)
        for sensor in self.sensors:
            listener.on_sensor(sensor.key, 42.0)
        await asyncio.get_running_loop().create_future()

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:  # noqa: ARG002
        if button is Button.POWER:
            self._on = not self._on
            if self._listener is not None:
                self._listener.on_status(self._on)

    async def read_status(self) -> bool | None:
        return self._on


def make(_settings: NodeSettings, _service: Service, sensors: bool) -> Machine:
    return Machine(sensors)


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--sensors"]
    sensors = len(arguments) != len(sys.argv) - 1
    build = partial(make, sensors=sensors)
    sys.exit(
        run_service(
            ServiceKind.RPI_GPIO_AGENT, "Simulated machines.", lambda service: AgentApp(service, build), arguments
        )
    )


if __name__ == "__main__":
    main()
