"""What the controllers of one gateway have in common."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ipmi_gateway.controller.facts import Identity, LanFacts, PacketCounts
from ipmi_gateway.sol.payload import SolPolicy
from ipmi_gateway.store import Store

if TYPE_CHECKING:
    from ipmi_gateway.controller.controller import Controller


@dataclass(slots=True)
class Fleet:
    """What the controllers of one gateway have in common."""

    store: Store = field(default_factory=Store)
    name: str = "pypmi"
    """Goes into the GUIDs: two fleets may use the same node ids."""
    wall: Callable[[], float] = time.time
    """Seconds since 1970, for time stamps."""
    clock: Callable[[], float] = time.monotonic
    """The clock that `Request.now` comes from."""
    sel_capacity: int = 1000
    """Records in each event log, up to 65,000; the oldest goes when one more comes."""
    identity: Identity = field(default_factory=Identity)
    lan: LanFacts = field(default_factory=LanFacts)
    packet_counts: Callable[[], PacketCounts] = PacketCounts
    """What the server has counted, for Get IP/UDP/RMCP Statistics."""
    sol: SolPolicy = field(default_factory=SolPolicy)
    """How consoles are served."""
    armed: "set[Controller]" = field(default_factory=set)
    """The controllers that have a timer running."""

    async def keep_time(self, interval: float = 0.2) -> None:
        """Carry out what controllers' timers have due, until cancelled. One task for all controllers."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(interval)
                now = self.clock()
                for controller in [c for c in self.armed if c.deadline is None or now >= c.deadline]:
                    if controller.deadline is None:
                        self.armed.discard(controller)
                    elif not controller.ticking:
                        tasks.create_task(controller.tick(now), name=f"timers of {controller.label}")
