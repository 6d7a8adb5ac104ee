"""The console script `esp8266-agent`."""

import sys

from pypmi.agent.app import AgentApp
from pypmi.config.fleet import NodeSettings
from pypmi.config.hardware import Esp8266Hardware, EsphomeHardware, TasmotaHardware
from pypmi.contract import ServiceKind
from pypmi.power.hardware import ButtonHardware
from pypmi.process import run_service
from pypmi.service import Service

from esp8266_agent import provision
from esp8266_agent.board import Board
from esp8266_agent.esphome import EsphomeBoard
from esp8266_agent.tasmota import TasmotaBoard


def make_driver(settings: NodeSettings, service: Service) -> ButtonHardware:
    """The driver for one node. Raises `ValueError` for hardware that this agent can't work."""
    hardware = settings.hardware
    if isinstance(hardware, Esp8266Hardware):
        return Board(hardware, settings.id)
    if isinstance(hardware, TasmotaHardware):
        return TasmotaBoard(hardware, service.bus)
    if isinstance(hardware, EsphomeHardware):
        return EsphomeBoard(hardware, service.bus)
    raise ValueError(f"{settings.id}: esp8266-agent does not work hardware type {hardware.type}")


def main() -> None:
    """Run the agent until it is told to stop; or set one board up."""
    if any(argument.split("=", 1)[0] == provision.OPTION for argument in sys.argv[1:]):
        sys.exit(provision.main(sys.argv[1:]))
    description = (
        "Agent for ESP8266 relay boards (Universal I/O bridge, Tasmota, ESPHome). With --provision NODE it sets one up."
    )
    sys.exit(run_service(ServiceKind.ESP8266_AGENT, description, lambda service: AgentApp(service, make_driver)))


if __name__ == "__main__":
    main()
