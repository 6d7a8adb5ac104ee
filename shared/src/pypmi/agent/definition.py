"""A node as an agent hands it to the runtime, and what is announced of it."""

from dataclasses import dataclass, field
from typing import Self

from pypmi.config.fleet import NodeSettings
from pypmi.config.power import PowerSettings
from pypmi.contract import Capability, FruFields, NodeInfo
from pypmi.power.hardware import ButtonHardware, HasInventory, ManagedHardware, PowerOn


@dataclass(frozen=True)
class AgentNode:
    """One node: its driver, and what fleet.yaml says of it."""

    id: str
    hardware: ButtonHardware | ManagedHardware
    power: PowerSettings = field(default_factory=PowerSettings)
    power_on: PowerOn | None = None
    """Switches on instead of the power button, such as Wake-on-LAN."""
    name: str = ""
    """For people; the id when empty."""
    console: bool = False
    """Whether a relay carries its serial console."""
    fru: FruFields = field(default_factory=FruFields)
    mac: str | None = None
    area: str | None = None
    url: str | None = None

    @classmethod
    def from_settings(
        cls, settings: NodeSettings, hardware: ButtonHardware | ManagedHardware, power_on: PowerOn | None = None
    ) -> Self:
        """From a node of fleet.yaml and the driver made for it."""
        return cls(
            id=settings.id,
            hardware=hardware,
            power=settings.power,
            power_on=power_on,
            name=settings.display_name,
            console=settings.console is not None,
            fru=settings.fru,
            mac=settings.boot_mac,
            area=settings.area,
            url=settings.url,
        )

    def info(self, *, agent: str, capabilities: frozenset[Capability], firmware: str | None, epoch: str) -> NodeInfo:
        """The payload of `info`; of the inventory, what fleet.yaml says goes before what the hardware says."""
        fru = self.fru
        if isinstance(self.hardware, HasInventory):
            fru = self.hardware.fru.model_copy(update=fru.model_dump(exclude_none=True))
        return NodeInfo(
            name=self.name or self.id,
            agent=agent,
            driver=self.hardware.driver,
            capabilities=capabilities | {Capability.CONSOLE} if self.console else capabilities,
            sensors=self.hardware.sensors,
            console=self.console,
            fru=fru,
            firmware=firmware,
            mac=self.mac,
            area=self.area,
            url=self.url,
            epoch=epoch,
        )
