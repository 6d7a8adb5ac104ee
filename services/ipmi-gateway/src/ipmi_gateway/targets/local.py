"""The gateway itself as a machine, for commands that are not bridged: it is on, and can't be switched from here."""

from collections.abc import Callable
from datetime import UTC, datetime

from pypmi.contract import (
    BootDevice,
    BootIntent,
    Capability,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerState,
    new_id,
    utc_now,
)

from ipmi_gateway.targets.base import Origin, TargetUnsupportedError

_ADVICE = "this is the gateway itself: name the node with -t"


class LocalTarget:
    """A `Target` for address 20h. `name` is shown to clients; `now` is the wall clock."""

    def __init__(self, name: str = "ipmi-gateway", now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._started = now()
        self._epoch = new_id()
        self._info = NodeInfo(
            name=name,
            agent="ipmi-gateway",
            driver="ipmi-gateway",
            capabilities=frozenset({Capability.STATUS}),
            epoch=self._epoch,
        )
        self._state: NodeState | None = None

    @property
    def node_id(self) -> str:
        """Not a node of the fleet: the name of the service."""
        return "ipmi-gateway"

    @property
    def available(self) -> bool:
        """It answers, so it is there."""
        return True

    @property
    def state(self) -> NodeState:
        """On, for as long as the process runs. A new object once a second: making one takes as long as an answer."""
        now = self._now()
        seconds = max(int((now - self._started).total_seconds()), 0)
        if self._state is None or self._state.on_seconds != seconds:
            self._state = NodeState(
                power=PowerState.ON,
                since=self._started,
                on_seconds=seconds,
                at=now.astimezone(UTC),
                epoch=self._epoch,
            )
        return self._state

    @property
    def info(self) -> NodeInfo:
        """Name and service."""
        return self._info

    @property
    def boot(self) -> BootIntent | None:
        """It has none."""
        return None

    def sensor(self, key: str) -> float | None:  # noqa: ARG002 - the protocol's signature
        """It has none."""
        return None

    async def power(self, action: PowerAction, origin: Origin) -> None:  # noqa: ARG002
        """Refused: whoever forgot `-t` must not switch anything."""
        raise TargetUnsupportedError(_ADVICE)

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool, origin: Origin) -> None:  # noqa: ARG002
        """Refused."""
        raise TargetUnsupportedError(_ADVICE)

    async def identify(self, seconds: int | None, origin: Origin) -> None:  # noqa: ARG002
        """Refused."""
        raise TargetUnsupportedError(_ADVICE)
