"""The console script `rpi-gpio-agent`."""

import sys

from pypmi.agent.app import AgentApp
from pypmi.config.fleet import NodeSettings
from pypmi.config.hardware import GpioHardware
from pypmi.contract import ServiceKind
from pypmi.power.hardware import ButtonHardware
from pypmi.process import run_service
from pypmi.service import Service

from rpi_gpio_agent.driver import GpioDriver
from rpi_gpio_agent.release import release


def make_driver(settings: NodeSettings, service: Service) -> ButtonHardware:
    """The driver for one node. Raises `ValueError` for hardware that this agent can't work."""
    del service
    hardware = settings.hardware
    if isinstance(hardware, GpioHardware):
        return GpioDriver(hardware, settings.id)
    raise ValueError(f"{settings.id}: rpi-gpio-agent does not work hardware type {hardware.type}")


def main() -> None:
    """Run the agent until it is told to stop; with `--release` only let go of its buttons."""
    if "--release" in sys.argv[1:]:
        sys.exit(release(sys.argv[1:]))
    description = "Agent for buttons and power LEDs wired to Raspberry Pi GPIO."
    sys.exit(run_service(ServiceKind.RPI_GPIO_AGENT, description, lambda service: AgentApp(service, make_driver)))


if __name__ == "__main__":
    main()
