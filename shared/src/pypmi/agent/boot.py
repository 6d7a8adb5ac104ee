"""A node's boot intent: requests for it, and its use."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pypmi.agent.definition import AgentNode
from pypmi.agent.publisher import Publisher
from pypmi.agent.record import PowerRecord
from pypmi.contract import BootDevice, BootRequest, EventType
from pypmi.power.hardware import HardwareError, ManagedHardware

logger = logging.getLogger(__name__)


class BootDesk:
    """Takes boot requests for one node, one after the other.

    Args:
        node: what it is; a machine with a controller of its own is told too.
        record: keeps the intent.
        publisher: of this node.
        save: writes the record down.
        refuse: reports why a request was not taken.
    """

    def __init__(
        self,
        node: AgentNode,
        record: PowerRecord,
        publisher: Publisher,
        save: Callable[[], Awaitable[None]],
        refuse: Callable[[str], None],
    ) -> None:
        self._node = node
        self._record = record
        self._publisher = publisher
        self._save = save
        self._refuse = refuse
        self._wishes: asyncio.Queue[BootRequest] = asyncio.Queue(16)

    def wish(self, request: BootRequest) -> bool:
        """Take a request. False when too many wait."""
        try:
            self._wishes.put_nowait(request)
        except asyncio.QueueFull:
            return False
        return True

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            request = await self._wishes.get()
            if not await self._pass_on(request):
                continue
            self._record.set_boot(
                request.device, persistent=request.persistent, efi=request.efi, source=request.source, user=request.user
            )
            await self._save()
            self._publisher.boot(self._record.boot)
            self._publisher.event(
                EventType.BOOT_SET, "command", f"boot device is {request.device}", source=request.source,
                user=request.user,
                data={"device": request.device.value, "persistent": request.persistent, "efi": request.efi},
            )  # fmt: skip

    async def _pass_on(self, request: BootRequest) -> bool:
        """Tell the machine's own controller, if it has one; False when it does not take the request."""
        hardware = self._node.hardware
        if not isinstance(hardware, ManagedHardware):
            return True
        if request.device is not BootDevice.NONE and request.device not in hardware.boot_devices:
            self._refuse(f"the machine's controller can't boot from {request.device}")
            return False
        try:
            await hardware.set_boot(request.device, persistent=request.persistent, efi=request.efi)
        except HardwareError as error:
            self._refuse(str(error))
            return False
        except Exception as error:  # a driver's mistake must not end a power command that is under way
            logger.exception("%s: boot/set failed", self._node.id)
            self._refuse(str(error))
            return False
        return True

    def use(self) -> bool:
        """The machine boots: a one-shot intent is spent. False when there was no intent."""
        used = self._record.use_boot()
        if used is None:
            return False
        self._publisher.boot_used(used)
        if not used.persistent:
            self._publisher.boot(self._record.boot)
            self._publisher.event(
                EventType.BOOT_USED, "hardware", f"boots from {used.device}, once", source=used.source, user=used.user,
                data={"device": used.device.value, "efi": used.efi},
            )  # fmt: skip
        return True
