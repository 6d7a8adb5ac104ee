"""One power action at a time on one machine: what may be done, how, and what the status input says of it.

The order is always the same: know the state, move once, watch the status input, say what it says. A press whose
outcome is not known is never repeated. Nothing here looks at ids, deadlines or topics: that is the agent's part.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import Protocol

from pypmi.config.power import PowerSettings
from pypmi.contract import Capability, CommandError, ErrorCode, PowerAction, PowerState
from pypmi.power.hardware import HardwareError, HardwareUnreachableError, HardwareUnsupportedError
from pypmi.power.monitor import PowerMonitor

logger = logging.getLogger(__name__)

SETTLE_TIMEOUT = 5.0
"""Seconds to wait for a readable, steady status before an action that needs one."""
POLL_INTERVAL = 0.25
"""Seconds between two readings of the status while an action is under way."""
LATE_CREDIT = 1800.0
"""Seconds in which a change that comes after the command has been given up is still the command's doing."""

TARGETS: dict[PowerAction, PowerState | None] = {
    PowerAction.ON: PowerState.ON,
    PowerAction.OFF: PowerState.OFF,
    PowerAction.CYCLE: PowerState.ON,
    PowerAction.RESET: PowerState.ON,
    PowerAction.SOFT: PowerState.OFF,
    PowerAction.DIAG: None,
}
"""The power that each action leads to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an action ended."""

    error: CommandError | None = None
    """None: carried out, and confirmed where there is a status input."""
    note: str | None = None
    acted: bool = False
    """Whether something was moved, or may have been."""


class ActionFailedError(Exception):
    """An action could not be carried out or was not confirmed. The text is for people."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class StatusReader(Protocol):
    """The part of a driver that every action needs."""

    async def read_status(self) -> bool | None:
        """Read the status now. Raises `HardwareUnreachableError`."""


class PowerController(Protocol):
    """What the agent runtime asks of a node's power control."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The actions it can do, and `status` where power is sensed."""

    def refusal(self, action: PowerAction) -> CommandError | None:
        """Why `action` can't even be begun, as far as is known now; None when it can. Moves and awaits nothing."""

    async def execute(self, action: PowerAction, deadline: float = inf) -> Outcome:
        """Carry out one action; never two at a time.

        Nothing is begun after `deadline` (the event loop's clock). When cancelled, everything is let go first.
        """


class Run:
    """One execution of an action: what both kinds of controller share.

    Args:
        hardware: read while the action is under way.
        monitor: hears of the readings and says what they mean.
        settings: durations.
        sensed: whether there is a status input at all.
        deadline: nothing is begun after it.
        poll_interval: seconds between two readings.
    """

    def __init__(
        self,
        hardware: StatusReader,
        monitor: PowerMonitor,
        settings: PowerSettings,
        *,
        sensed: bool,
        deadline: float,
        poll_interval: float = POLL_INTERVAL,
    ) -> None:
        self._hardware = hardware
        self._loop = asyncio.get_running_loop()
        self.monitor = monitor
        self.tracker = monitor.tracker
        self.settings = settings
        self.sensed = sensed
        self.deadline = deadline
        self._poll_interval = poll_interval
        self.acted = False
        self.notes: list[str] = []
        self.doubt = ""
        """Why it is not known whether the last press happened; empty when it is."""

    @property
    def power(self) -> PowerState:
        """What the status input says now."""
        return self.tracker.power

    async def known_power(self) -> PowerState:
        """The power once the status is readable and steady; unknown where there is none or it stays so."""
        if self.sensed:
            await self._read()  # what `run` saw last may be older than somebody's press of the real button
            await self.monitor.wait(
                lambda: self.tracker.settled and self.power is not PowerState.UNKNOWN, SETTLE_TIMEOUT
            )
            if not self.tracker.settled:
                raise ActionFailedError(
                    ErrorCode.DEVICE_UNREACHABLE, "the status input keeps changing; nothing was pressed"
                )
        return self.power

    async def need_power(self) -> PowerState:
        """Like `known_power`, for actions that must not be begun without knowing it."""
        power = await self.known_power()
        if power is PowerState.UNKNOWN and self.sensed:
            raise ActionFailedError(
                ErrorCode.DEVICE_UNREACHABLE,
                "the status input can't be read: a press might do the opposite of what is asked; nothing was pressed",
            )
        return power

    def begin(self) -> None:
        """Call right before the first thing is moved. Raises `ActionFailedError` when it is too late for that."""
        if not self.acted and self._loop.time() > self.deadline:
            raise ActionFailedError(ErrorCode.EXPIRED, "the command's deadline has passed; nothing was pressed")
        self.acted = True

    def failed(self, error: HardwareError, what: str) -> None:
        """Judge an error of the driver: returns when the action may have happened, else raises `ActionFailedError`."""
        if isinstance(error, HardwareUnreachableError) and error.acted:
            # Never again: whether it happened shows on the status input
            self.doubt = f"the connection was lost during {what} ({error}); it was not repeated"
            return
        code = ErrorCode.DEVICE_UNREACHABLE
        if isinstance(error, HardwareUnsupportedError):
            code = ErrorCode.UNSUPPORTED
        raise ActionFailedError(code, f"{what}: {error}") from None

    async def confirm(self, wanted: PowerState, patience: float, what: str) -> None:
        """Wait until the status input shows `wanted`. Raises `ActionFailedError` when it does not."""
        if not self.sensed:
            if self.doubt:
                raise ActionFailedError(ErrorCode.DEVICE_UNREACHABLE, self.doubt)
            self.note("there is no status input: not confirmed")
            return
        if await self.monitor.wait(lambda: self.power is wanted and self.tracker.settled, patience):
            if self.doubt:
                self.note(f"{self.doubt}; the status input shows {wanted}")
                self.doubt = ""
            return
        doubt = f"; {self.doubt}" if self.doubt else ""
        if self.power is PowerState.UNKNOWN:
            raise ActionFailedError(
                ErrorCode.DEVICE_UNREACHABLE, f"{what}, but the status input can't be read any more{doubt}"
            )
        raise ActionFailedError(
            ErrorCode.NOT_CONFIRMED,
            f"{what}, but the status input still shows {self.power} after {patience:g} s{doubt}",
        )

    def note(self, text: str) -> None:
        """Say something in the result; once."""
        if text not in self.notes:
            self.notes.append(text)

    async def perform(self, action: PowerAction, steps: Callable[["Run"], Awaitable[None]]) -> Outcome:
        """Do `steps`, reading the status often meanwhile and putting changes down to the command."""
        target = TARGETS[action]
        expected = {target} if target is not None else set()
        if action in {PowerAction.CYCLE, PowerAction.RESET}:
            expected.add(PowerState.OFF)
        self.tracker.expect(expected)
        poll = asyncio.create_task(self._poll()) if self.sensed else None
        error: CommandError | None = None
        try:
            await steps(self)
        except ActionFailedError as failed:
            error = CommandError(code=failed.code, message=str(failed)[:1024])
        finally:
            self.tracker.expect(())
            if poll is not None:
                poll.cancel()
                await asyncio.gather(poll, return_exceptions=True)
        if error is not None and self.acted and target is not None and self.power is not target:
            # a shutdown that takes longer than our patience is still this command's doing
            self.tracker.expect({target}, self._loop.time() + LATE_CREDIT)
        return Outcome(error, "; ".join(self.notes)[:1024] or None, self.acted)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            await self._read()

    async def _read(self) -> None:
        try:
            self.monitor.feed(await self._hardware.read_status())
        except HardwareError:
            self.monitor.feed(None)
        except Exception:
            logger.exception("reading the status failed")
            self.monitor.feed(None)


def require_on(action: PowerAction, power: PowerState) -> None:
    """Raise `ActionFailedError` for an action that does nothing to a machine that is off."""
    refused = refuse_state(action, power)
    if refused is not None:
        raise ActionFailedError(refused.code, refused.message)


def refuse_state(action: PowerAction, power: PowerState) -> CommandError | None:
    """Reset and diag do nothing to a machine that is off (IPMI 2.0 table 28-4 recommends D5h): say so."""
    if action in {PowerAction.RESET, PowerAction.DIAG} and power is PowerState.OFF:
        return CommandError(code=ErrorCode.INVALID, message=f"the machine is off; {action} needs it on")
    return None
