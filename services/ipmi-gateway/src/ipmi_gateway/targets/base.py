"""What the IPMI side asks of a machine, whatever stands behind it.

State is at hand (`state`, `info`, `boot`, `sensor` return at once, from the retained-state cache or the object);
actions are awaited until they are *accepted*, never until a button is let go.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pypmi.contract import BootDevice, BootIntent, NodeInfo, NodeState, PowerAction


class TargetError(Exception):
    """An action or a reading failed. The subclass decides the completion code; the text goes to the log."""


class TargetUnavailableError(TargetError):
    """Agent or hardware away, or the bus is down (D3h)."""


class TargetBusyError(TargetError):
    """Another power action is under way (C0h)."""


class TargetTimeoutError(TargetError):
    """No answer within the deadline (C3h)."""


class TargetUnsupportedError(TargetError):
    """This machine can't do that (CCh in Chassis Control; C1h elsewhere)."""


class TargetStateError(TargetError):
    """Not possible in the present state (D5h)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """On whose behalf an action is done, for the audit trail and the node's events."""

    user: str
    address: str
    """Of the client, as text."""
    source: str = "ipmi"


@runtime_checkable
class Target(Protocol):
    """A machine. Readers never block and never raise; None means that it is not known (never a guess)."""

    @property
    def node_id(self) -> str:
        """The contract's node id."""

    @property
    def available(self) -> bool:
        """Whether commands can reach it: its own availability and its agent's are both online."""

    @property
    def state(self) -> NodeState | None:
        """Sensed power and what else is retained; None while nothing is known or the node is not available."""

    @property
    def info(self) -> NodeInfo | None:
        """Name, capabilities, sensors, inventory; kept also while the node is away."""

    @property
    def boot(self) -> BootIntent | None:
        """The boot intent that the agent holds."""

    def sensor(self, key: str) -> float | None:
        """The last value of one of `info.sensors`; None while it is not known."""

    async def power(self, action: PowerAction, origin: Origin) -> None:
        """Ask for a power action; return when it has been accepted. Raises `TargetError`."""

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool, origin: Origin) -> None:
        """Change the boot intent (`BootDevice.NONE` clears it). Raises `TargetError`."""

    async def identify(self, seconds: int | None, origin: Origin) -> None:
        """Locator light on for `seconds`, off (0), or on until told otherwise (None). Raises `TargetError`."""


@runtime_checkable
class ResettableTarget(Protocol):
    """A target whose way to the machine can be begun anew (Cold Reset and Warm Reset)."""

    async def reset_controller(self, *, cold: bool, origin: Origin) -> None:
        """Connect anew; the machine's power stays as it is. Raises `TargetError`."""


@runtime_checkable
class RefreshingTarget(Protocol):
    """A target whose state has to be fetched. Commands that tell the state refresh it before they answer."""

    async def refresh(self) -> None:
        """Bring `state` and `boot` up to date. Raises `TargetError`."""
