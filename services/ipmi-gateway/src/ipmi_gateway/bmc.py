"""A management controller as it is seen at an address: bridged at (channel, address), or at 20h on a port of its own.

A `Controller` is the one management controller of a node, or of the gateway itself. Views of one controller share
everything but the address.
"""

from ipmi_gateway.codes import BMC_ADDRESS
from ipmi_gateway.controller import sdr_records
from ipmi_gateway.controller.controller import Controller
from ipmi_gateway.controller.facts import LanFacts
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.controller.sensors import DISCRETE, AnalogSensor
from ipmi_gateway.store import Store
from ipmi_gateway.targets.base import Target


class Bmc:
    """A controller as seen at `address` on `channel` (0, the primary IPMB, on a port of the node's own)."""

    __slots__ = ("_repository", "address", "channel", "controller", "lan")

    def __init__(
        self, controller: Controller, address: int = BMC_ADDRESS, channel: int = 0, lan: LanFacts | None = None
    ) -> None:
        self.controller = controller
        self.address = address
        self.channel = channel
        self.lan = lan or controller.fleet.lan
        """Of the address and port by which this view is reached."""
        self._repository: tuple[tuple[AnalogSensor, ...], str, list[bytes]] | None = None

    @classmethod
    def create(
        cls,
        fleet: Fleet,
        node_id: str | None = None,
        target: Target | None = None,
        *,
        address: int = BMC_ADDRESS,
        channel: int = 0,
    ) -> "Bmc":
        """A new controller, seen at `address`."""
        return cls(Controller(fleet, node_id, target), address, channel)

    def view(self, address: int = BMC_ADDRESS, channel: int = 0, lan: LanFacts | None = None) -> "Bmc":
        """The same controller, seen at another address."""
        return Bmc(self.controller, address, channel, lan)

    @property
    def node_id(self) -> str | None:
        """The contract's node id; None for the gateway itself."""
        return self.controller.node_id

    @property
    def target(self) -> Target | None:
        """The machine that is managed."""
        return self.controller.target

    @property
    def guid(self) -> bytes:
        """16 octets as they go over the wire (section 20.8); the same over restarts."""
        return self.controller.guid

    @property
    def store(self) -> Store:
        """Where settings and event logs are kept."""
        return self.controller.fleet.store

    def repository(self) -> list[bytes]:
        """The sensor data records, which say the address that this view has; record id n is at n - 1."""
        controller = self.controller
        analog, name = controller.analog, controller.name
        built = self._repository
        if built is None or built[0] is not analog or built[1] != name:
            records = sdr_records.build_repository(
                name, DISCRETE, analog, address=self.address, channel=self.channel, support=controller.support
            )
            self._repository = built = (analog, name, records)
        return built[2]
