"""The account of a node's power: what `state` says, and what is remembered over a restart."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pypmi.agent.store import NodeMemory
from pypmi.contract import (
    BootDevice,
    BootIntent,
    ErrorCode,
    IdentifyState,
    NodeFault,
    NodeState,
    PowerAction,
    PowerState,
    utc_now,
)
from pypmi.power.controller import TARGETS
from pypmi.power.status import StatusChange


@dataclass(slots=True)
class _Fault:
    fault: NodeFault
    cleared_by: PowerState | None


class PowerRecord:
    """Keeps count for one node.

    Args:
        memory: from before the restart.
        epoch: of this start.
        numbers: of the states to come. They rise throughout the epoch, over a reload too: readers ignore lower ones.
        clock: monotonic seconds.
    """

    def __init__(self, memory: NodeMemory, epoch: str, numbers: Iterator[int], clock: Callable[[], float]) -> None:
        self._epoch = epoch
        self._numbers = numbers
        self._clock = clock
        self.power = PowerState.UNKNOWN
        self._known = memory.power
        self._since = memory.since
        self._cause = memory.cause
        self._last_action = memory.last_action
        self._on_seconds = memory.on_seconds
        self._on_from: float | None = None
        self._target: Literal["on", "off"] | None = None
        self._action: PowerAction | None = None
        self._fault: _Fault | None = None
        self.identify = IdentifyState.OFF
        self.boot = (memory.boot or BootIntent(epoch=epoch)).model_copy(update={"epoch": epoch})

    # -- what happens ----------------------------------------------------------------------------------------------

    def changed(self, change: StatusChange) -> None:
        """The status tracker reports a change."""
        self._count_on()
        self.power = change.power
        self._on_from = self._clock() if change.power is PowerState.ON else None
        if change.real:
            self._since, self._cause = utc_now(), change.cause.value
        if change.power is not PowerState.UNKNOWN:
            self._known = change.power

    def begin(self, action: PowerAction) -> None:
        """An accepted command begins."""
        target = TARGETS[action]
        self._action = action
        self._target = None if target is None else ("on" if target is PowerState.ON else "off")

    def end(self, action: PowerAction, acted: bool) -> None:
        """It has ended."""
        self._action = self._target = None
        if acted:
            self._last_action = action.value

    def set_fault(self, code: ErrorCode, message: str, cleared_by: PowerState | None) -> None:
        """A standing problem; gone when the power is `cleared_by`, or by the next action that goes well."""
        self._fault = _Fault(NodeFault(code=code, message=message[:1024], since=utc_now()), cleared_by)

    def clear_fault(self, power: PowerState | None = None) -> bool:
        """Clear the fault, if `power` (None: whatever it is) does; return whether there was one."""
        if self._fault is None or (power is not None and self._fault.cleared_by is not power):
            return False
        self._fault = None
        return True

    def set_boot(
        self, device: BootDevice, *, persistent: bool, efi: bool, source: str | None, user: str | None
    ) -> None:
        """A new boot intent."""
        cleared = device is BootDevice.NONE
        self.boot = BootIntent(
            device=device, persistent=persistent and not cleared, efi=efi and not cleared, at=utc_now(),
            source=source, user=user, epoch=self._epoch,
        )  # fmt: skip

    def use_boot(self) -> BootIntent | None:
        """The machine starts: return the intent it starts under, if any; a one-shot one is spent."""
        used = self.boot
        if used.device is BootDevice.NONE:
            return None
        if not used.persistent:
            self.boot = BootIntent(at=utc_now(), epoch=self._epoch)
        return used

    # -- what is said ----------------------------------------------------------------------------------------------

    @property
    def since(self) -> datetime | None:
        """When the power last changed."""
        return self._since

    def _count_on(self) -> None:
        if self._on_from is not None:
            now = self._clock()
            self._on_seconds += max(0.0, now - self._on_from)
            self._on_from = now

    def state(self) -> NodeState:
        """What to publish; each has the next number."""
        self._count_on()
        return NodeState(
            power=self.power,
            target=self._target,
            action=None if self._action is None else self._action.value,
            since=self._since,
            cause=self._cause,
            last_action=self._last_action,
            fault=self._fault.fault if self._fault else None,
            identify=self.identify,
            on_seconds=int(self._on_seconds),
            at=utc_now(),
            epoch=self._epoch,
            seq=next(self._numbers),
        )

    def memory(self) -> NodeMemory:
        """What to keep over a restart."""
        self._count_on()
        return NodeMemory(
            power=self._known,
            since=self._since,
            cause=self._cause,
            last_action=self._last_action,
            on_seconds=self._on_seconds,
            boot=self.boot,
        )
