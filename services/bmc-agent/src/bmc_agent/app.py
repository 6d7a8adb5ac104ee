"""The service: its drivers, made from fleet.yaml."""

from pypmi.agent.app import AgentApp
from pypmi.config.fleet import NodeSettings
from pypmi.config.hardware import BmcHardware
from pypmi.contract import ServiceKind
from pypmi.power.hardware import ManagedHardware
from pypmi.process import run_service
from pypmi.service import Service

from bmc_agent.driver import BmcDriver
from bmc_agent.process import worker_context


def make_driver(settings: NodeSettings, service: Service) -> ManagedHardware:
    """The driver for one node. Raises `ValueError` for hardware that this agent can't work."""
    hardware = settings.hardware
    if isinstance(hardware, BmcHardware):
        return BmcDriver(hardware, settings.id, service.epoch, worker_context(), base=service.loaded.base)
    raise ValueError(f"{settings.id}: bmc-agent does not work hardware type {hardware.type}")


def run() -> int:
    """Run the agent until it is told to stop. Returns the exit code."""
    description = "Agent for machines that have a BMC of their own (IPMI 2.0)."
    return run_service(ServiceKind.BMC_AGENT, description, lambda service: AgentApp(service, make_driver))
