"""A node behind the bus: state from the retained-state cache, actions as commands to its agent."""

import asyncio

from pypmi.bus import Bus, BusDisconnectedError, BusError, Requests
from pypmi.contract import (
    BootDevice,
    BootIntent,
    BootRequest,
    Capability,
    CommandStatus,
    ContractError,
    ErrorCode,
    IdentifyRequest,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerCommand,
    PowerResult,
    TopicKind,
    Topics,
    new_id,
    utc_now,
)
from pypmi.view import NodeView

from ipmi_gateway.targets.base import (
    Origin,
    TargetBusyError,
    TargetError,
    TargetStateError,
    TargetTimeoutError,
    TargetUnavailableError,
    TargetUnsupportedError,
)

_REFUSALS: dict[ErrorCode, type[TargetError]] = {
    ErrorCode.BUSY: TargetBusyError,
    ErrorCode.UNSUPPORTED: TargetUnsupportedError,
    ErrorCode.DEVICE_UNREACHABLE: TargetUnavailableError,
    # reset or diag of a machine that is off
    ErrorCode.INVALID: TargetStateError,
    # the command was too old when it arrived: to the client that is a time-out, and it may try again
    ErrorCode.EXPIRED: TargetTimeoutError,
}


CLOCK_TOLERANCE = 2.0
"""Seconds added to a command's life for clocks that differ: gateway and agent may be on two machines."""
_IDLE_POLL = 0.05
_LAST_TRY = 0.3
"""Seconds that are left for the agent's answer when a busy node is asked again."""


def _is_busy(result: PowerResult) -> bool:
    return result.error is not None and result.error.code is ErrorCode.BUSY


class NodeTarget:
    """A `Target` whose machine is worked by an agent.

    Args:
        view: the node in the retained-state cache.
        accept_timeout: seconds to wait for the agent's word; also the command's life (with `CLOCK_TOLERANCE`), so that
            one that was answered with a time-out is not done later.
    """

    def __init__(self, view: NodeView, bus: Bus, requests: Requests, topics: Topics, accept_timeout: float) -> None:
        self._view = view
        self._bus = bus
        self._requests = requests
        self._topics = topics
        self._timeout = accept_timeout

    @property
    def node_id(self) -> str:
        """The contract's node id."""
        return self._view.id

    @property
    def available(self) -> bool:
        """The broker, the agent and the hardware can all be reached."""
        return self._bus.connected and self._view.available

    @property
    def state(self) -> NodeState | None:
        """The retained state; None while the node is not available, because nobody would correct it."""
        view = self._view
        return view.state if self._bus.connected and view.available else None

    @property
    def info(self) -> NodeInfo | None:
        """The retained info, also while the node is away."""
        return self._view.info

    @property
    def boot(self) -> BootIntent | None:
        """The retained boot intent."""
        return self._view.boot

    def sensor(self, key: str) -> float | None:
        """The last reading; None while the node is not available."""
        return self._view.sensors.get(key) if self.available else None

    def _require(self, capability: Capability | None = None) -> None:
        if not self._bus.connected:
            raise TargetUnavailableError(f"no connection to the broker: {self._bus.last_error}")
        if not self._view.agent_available:
            info = self._view.info
            raise TargetUnavailableError(f"agent {info.agent} is away" if info else "no agent has announced this node")
        if not self._view.node_available:
            raise TargetUnavailableError("its agent can't reach the hardware")
        info = self._view.info
        if capability is not None and info is not None and capability not in info.capabilities:
            raise TargetUnsupportedError(f"{self.node_id} has no {capability}")

    async def power(self, action: PowerAction, origin: Origin) -> None:
        """Send the command and wait until the agent has accepted it. Raises `TargetError`.

        An agent that is just ending another action gets a moment: whoever sees that the machine is on may well ask for
        the next thing while the button is still being let go.
        """
        self._require(Capability(action.value))
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    result = await self._ask(self._command(action, origin))
                    if not _is_busy(result):
                        break
                    if not await self._idle(deadline):
                        raise TargetBusyError(result.error.message if result.error else "busy")
        except TimeoutError:
            raise TargetTimeoutError(f"the agent did not answer within {self._timeout} s") from None
        except BusDisconnectedError as error:
            raise TargetUnavailableError(str(error)) from None
        except BusError as error:
            raise TargetError(str(error)) from None
        if result.status in {CommandStatus.ACCEPTED, CommandStatus.COMPLETED}:
            return
        code = result.error.code if result.error else ErrorCode.INVALID
        text = result.error.message if result.error else result.status
        raise _REFUSALS.get(code, TargetError)(text)

    def _command(self, action: PowerAction, origin: Origin) -> PowerCommand:
        return PowerCommand(
            id=new_id(),
            action=action,
            issued_at=utc_now(),
            ttl_ms=int((self._timeout + CLOCK_TOLERANCE) * 1000),
            reply_to=self._requests.topic,
            source=origin.source,
            user=origin.user,
        )

    async def _idle(self, deadline: float) -> bool:
        """Wait until the agent says that no action is under way; False when that takes too long."""
        now = asyncio.get_running_loop().time
        while now() < deadline - _LAST_TRY:
            await asyncio.sleep(_IDLE_POLL)
            state = self._view.state
            if state is not None and state.action is None:
                return True
        return False

    async def _ask(self, command: PowerCommand) -> PowerResult:
        with self._requests.exchange(command.id) as exchange:
            receipt = await self._bus.publish(
                self._topics.node(self.node_id, TopicKind.POWER_SET),
                command.to_payload(),
                expiry=max(1, round(self._timeout)),
                response_topic=exchange.response_topic,
                correlation=exchange.correlation,
            )
            if receipt.no_subscribers:
                raise TargetUnavailableError("no agent listens for this node's commands")
            while True:
                message = await exchange.next(self._timeout)
                try:
                    return PowerResult.from_payload(message.payload)
                except ContractError:
                    continue  # not from an agent of ours; the real answer may still come

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool, origin: Origin) -> None:
        """Hand the boot intent to the agent. Raises `TargetError`."""
        self._require()
        request = BootRequest(device=device, persistent=persistent, efi=efi, source=origin.source, user=origin.user)
        await self._tell(TopicKind.BOOT_SET, request.to_payload())

    async def identify(self, seconds: int | None, origin: Origin) -> None:
        """Switch the locator light. Raises `TargetError`."""
        del origin  # identify/set has no room for it; the audit log has the line
        self._require(Capability.IDENTIFY)
        await self._tell(TopicKind.IDENTIFY_SET, IdentifyRequest(seconds=seconds).to_payload())

    async def _tell(self, kind: TopicKind, payload: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                await self._bus.publish(self._topics.node(self.node_id, kind), payload, expiry=5)
        except TimeoutError:
            raise TargetTimeoutError(f"the broker did not answer within {self._timeout} s") from None
        except BusDisconnectedError as error:
            raise TargetUnavailableError(str(error)) from None
        except BusError as error:
            raise TargetError(str(error)) from None
