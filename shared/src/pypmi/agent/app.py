"""The inside of every agent's service: the nodes that fleet.yaml gives it, each with a driver made for it.

An agent is this and a function that makes drivers:

    def make(settings: NodeSettings, service: Service) -> ButtonHardware | ManagedHardware: ...

    sys.exit(run_service(ServiceKind.RPI_GPIO_AGENT, "...", lambda service: AgentApp(service, make)))
"""

import asyncio
from collections.abc import Callable, Iterable

from pypmi.agent.bootserver import BootServer
from pypmi.agent.definition import AgentNode
from pypmi.agent.publisher import AgentObserver
from pypmi.agent.runtime import AgentRuntime
from pypmi.config.fleet import Fleet, NodeSettings
from pypmi.config.load import LoadedFleet
from pypmi.metrics import AgentMetrics
from pypmi.power.hardware import ButtonHardware, ManagedHardware
from pypmi.power.probe import ProbedHardware, patient
from pypmi.reach import HostProbe
from pypmi.service import Service
from pypmi.wake import WakeOnLan
from pypmi.wol_hardware import WakeOnlyHardware

MakeDriver = Callable[[NodeSettings, Service], ButtonHardware | ManagedHardware]


class AgentApp:
    """Runs the nodes of one agent, and follows fleet.yaml."""

    def __init__(self, service: Service, make: MakeDriver, observers: Iterable[AgentObserver] = ()) -> None:
        self._service = service
        self._make = make
        self._boot = BootServer(service.fleet.boot, self._boot_listen(service.fleet), self._use_boot)
        self.runtime = AgentRuntime(
            service.bus,
            service.topics,
            service.name,
            service.epoch,
            service.state_dir,
            observers=(service.discovery, self._boot, AgentMetrics(service.registry), *observers),
        )

    def _boot_listen(self, fleet: Fleet) -> str | None:
        return fleet.service(self._service.name).boot_listen or fleet.boot.listen

    def _use_boot(self, node_id: str) -> None:
        self.runtime.use_boot(node_id)

    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes worked."""
        return tuple(node.id for node in self._service.fleet.nodes_of_agent(self._service.name))

    def not_ready(self) -> str | None:
        """Always None: a node that can't be reached says so itself."""
        return None

    async def run(self) -> None:
        """Work the nodes until cancelled."""
        await self._apply(self._service.loaded)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._boot.run(), name="boot server")
            await self.runtime.run()

    async def reload(self, loaded: LoadedFleet) -> None:
        """Add, replace and remove the nodes that changed; the others are not touched."""
        self._boot.configure(loaded.fleet.boot, self._boot_listen(loaded.fleet))
        await self._apply(loaded)

    async def _apply(self, loaded: LoadedFleet) -> None:
        configured = {node.id: node for node in loaded.fleet.nodes_of_agent(self._service.name)}

        def build(node_id: str) -> AgentNode:
            settings = configured[node_id]
            wake = WakeOnLan(settings.wake) if settings.wake is not None else None
            # a machine that can only be woken needs no driver of the agent's own kind
            driver = WakeOnlyHardware() if settings.hardware.type == "wol" else self._make(settings, self._service)
            if settings.probe is not None and isinstance(driver, ButtonHardware) and not driver.has_status:
                driver = ProbedHardware(driver, HostProbe(settings.probe))
                settings = settings.model_copy(update={"power": patient(settings.power)})
            return AgentNode.from_settings(settings, driver, wake)

        await self.runtime.apply(configured, build)
