"""An agent with the real runtime, and machines in its process that have what boards don't: sensors, watts, a light.

Takes the arguments of every service.
"""

import asyncio
import sys

from pypmi.agent.app import AgentApp
from pypmi.config.fleet import NodeSettings
from pypmi.contract import SensorInfo, SensorKind, ServiceKind, Thresholds
from pypmi.power.hardware import Button, HardwareListener
from pypmi.process import run_service
from pypmi.service import Service

READINGS = {
    SensorInfo(
        key="cpu",
        name="CPU Temp",
        kind=SensorKind.TEMPERATURE,
        unit="°C",
        thresholds=Thresholds(upper_non_critical=70, upper_critical=80, upper_non_recoverable=90),
    ): 42.0,
    SensorInfo(key="rail", name="12 V", kind=SensorKind.VOLTAGE, unit="V"): 12.1,
    SensorInfo(key="fan", name="Fan 1", kind=SensorKind.FAN, unit="RPM"): 1500.0,
    SensorInfo(key="draw", name="Power Draw", kind=SensorKind.POWER, unit="W"): 87.0,
}


class Machine:
    """A machine whose power follows its button at once."""

    driver = "instruments"
    buttons = frozenset({Button.POWER, Button.RESET, Button.NMI, Button.IDENTIFY})
    has_status = True
    sensors = tuple(READINGS)

    def __init__(self) -> None:
        self._on = False
        self._listener: HardwareListener | None = None

    async def run(self, listener: HardwareListener) -> None:
        self._listener = listener
        listener.on_reachable(True)
        listener.on_status(self._on)
        while True:
            for sensor, value in READINGS.items():
                listener.on_sensor(sensor.key, value)
            await asyncio.sleep(5)

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        if button is Button.POWER:
            self._on = not self._on
            if self._listener is not None:
                self._listener.on_status(self._on)
        elif button is Button.IDENTIFY:
            try:
                await asyncio.wait_for(release.wait(), seconds)
            except TimeoutError:
                return

    async def read_status(self) -> bool | None:
        return self._on


def make(_settings: NodeSettings, _service: Service) -> Machine:
    return Machine()


if __name__ == "__main__":
    sys.exit(run_service(ServiceKind.RPI_GPIO_AGENT, "Machines with sensors.", lambda service: AgentApp(service, make)))
