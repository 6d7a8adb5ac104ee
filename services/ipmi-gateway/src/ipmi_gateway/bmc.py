"""The management controller of a node, or of the gateway itself: what it remembers, and how it is seen.

A `Controller` is the one management controller of a node. A `Bmc` is that controller as seen at an address: bridged
at (channel, address), or at 20h on a port of the node's own. Views of one controller share everything but the address.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from ipmi_gateway.codes import BMC_ADDRESS
from ipmi_gateway.store import Store
from ipmi_gateway.targets.base import Target

_GUIDS = uuid.UUID("6f7a1c1e-57a5-5c0e-9c5b-2f6d1a0f4c11")
"""Name space of the GUIDs that are made from fleet and node names."""


@dataclass(slots=True)
class Fleet:
    """What the controllers of one gateway have in common."""

    store: Store = field(default_factory=Store)
    name: str = "pypmi"
    """Goes into the GUIDs: two fleets may use the same node ids."""
    wall: Callable[[], float] = time.time
    """Seconds since 1970, for time stamps; deadlines use the monotonic `now` of each request."""
    sel_capacity: int = 1000
    """Records in each event log; the oldest goes when one more comes."""


class Controller:
    """One management controller: shared by all the ways in which it can be reached."""

    def __init__(self, fleet: Fleet, node_id: str | None, target: Target | None) -> None:
        self.fleet = fleet
        self.node_id = node_id
        """None for the gateway itself."""
        self.target = target
        self.guid = uuid.uuid5(_GUIDS, f"{fleet.name}/{node_id or ''}").bytes


class Bmc:
    """A controller as seen at `address` on `channel` (0, the primary IPMB, on a port of the node's own)."""

    __slots__ = ("address", "channel", "controller")

    def __init__(self, controller: Controller, address: int = BMC_ADDRESS, channel: int = 0) -> None:
        self.controller = controller
        self.address = address
        self.channel = channel

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

    def view(self, address: int = BMC_ADDRESS, channel: int = 0) -> "Bmc":
        """The same controller, seen at another address."""
        return Bmc(self.controller, address, channel)

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
