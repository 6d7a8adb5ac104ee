"""The commands of one node: at most once, never late, one at a time, and every one answered."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from pypmi.agent.intake import Refusal, Request, judge
from pypmi.agent.journal import Journal
from pypmi.agent.publisher import Publisher, RateLimit
from pypmi.agent.stall import StallWatch
from pypmi.agent.store import Entry, JournalError
from pypmi.bus import Message
from pypmi.contract import (
    CommandError,
    CommandStatus,
    ErrorCode,
    EventType,
    PowerAction,
    PowerCommand,
    PowerResult,
    PowerState,
    Topics,
    utc_now,
)
from pypmi.power.controller import Outcome, PowerController

logger = logging.getLogger(__name__)

_MAX_WAITING = 32
"""Commands that may wait for the journal; more are refused as busy."""
_LEVELS = frozenset({PowerAction.ON, PowerAction.OFF, PowerAction.SOFT})
"""Wishes for a state. The same wish while it is being fulfilled joins in; a second cycle or reset is another wish."""
_INTERRUPTED = Outcome(
    CommandError(
        code=ErrorCode.INTERRUPTED,
        message="the agent was stopped while it carried this out; the button is let go, and it is not done again",
    ),
    acted=True,
)


class DeskOwner(Protocol):
    """What the desk asks of and tells its node."""

    @property
    def power(self) -> PowerState:
        """The sensed power."""

    def unreachable(self) -> str | None:
        """Why the hardware can't be reached; None when it can."""

    def command_begins(self, command: PowerCommand) -> None:
        """An accepted command begins to act."""

    def command_ended(self, command: PowerCommand, outcome: Outcome) -> None:
        """It has ended, and its end is in the journal; its result is published next."""


@dataclass(slots=True)
class _Running:
    request: Request
    ended: asyncio.Future[Outcome]


class CommandDesk:
    """Takes commands for one node.

    Args:
        topics: to check reply topics.
        journal: written before anything moves.
        publisher: says the results.
        controller: carries actions out.
        owner: the node.
        stalls: tells how old what comes in may be.
    """

    def __init__(
        self,
        *,
        topics: Topics,
        journal: Journal,
        publisher: Publisher,
        controller: PowerController,
        owner: DeskOwner,
        stalls: StallWatch,
    ) -> None:
        self._topics = topics
        self._journal = journal
        self._publisher = publisher
        self._controller = controller
        self._owner = owner
        self._stalls = stalls
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[Request] = asyncio.Queue(_MAX_WAITING)
        self._running: _Running | None = None
        self._recording: asyncio.Future[Entry | None] | None = None
        self._open: dict[str, Request] = {}
        """Accepted and written down, without an end yet."""
        self._log = RateLimit(rate=0.2, burst=20, clock=self._loop.time)

    def receive(self, message: Message) -> None:
        """Take a `power/set` message."""
        judged = judge(message, self._topics, utc_now(), self._loop.time(), self._stalls.age())
        if isinstance(judged, Refusal):
            self._refuse(judged)
        elif judged is not None:
            try:
                self._waiting.put_nowait(judged)
            except asyncio.QueueFull:
                error = CommandError(code=ErrorCode.BUSY, message=f"{_MAX_WAITING} commands wait already")
                self._say(judged, CommandStatus.REJECTED, error)

    async def run(self) -> None:
        """Work until cancelled; what is under way then is let go and reported as interrupted."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._take(await self._waiting.get(), group)
        finally:
            if self._recording is not None:
                await asyncio.wait({self._recording})
                await asyncio.sleep(0)
            for request in list(self._open.values()):  # accepted, and stopped before the first step
                await self._end(request, _INTERRUPTED, first=False)
            while not self._waiting.empty():
                error = CommandError(code=ErrorCode.INTERRUPTED, message="the agent is stopping; nothing was done")
                self._say(self._waiting.get_nowait(), CommandStatus.REJECTED, error)

    # -- taking ----------------------------------------------------------------------------------------------------

    async def _take(self, request: Request, group: asyncio.TaskGroup) -> None:
        command, running = request.command, self._running
        if running is not None and running.request.command.id == command.id:
            if running.request.command.action is command.action:
                self._say(request, CommandStatus.ACCEPTED)
            else:
                self._say(request, CommandStatus.REJECTED, self._reused(command))
            return
        status, error = self._decide(request, running)
        result = self._result(command, status, error)
        entry = Entry(self._publisher.node, command.id, command.action, result, request.reply_to, request.correlation)
        # the write can't be called back: when the agent stops now, `run` sees to what it wrote
        self._recording = asyncio.ensure_future(self._journal.record(entry))
        self._recording.add_done_callback(lambda done: self._recorded(request, status, done))
        try:
            found = await asyncio.shield(self._recording)
        except JournalError as failed:
            logger.error("%s: refused %s: %s", self._publisher.node, command.action, failed)
            self._say(
                request,
                CommandStatus.REJECTED,
                CommandError(
                    code=ErrorCode.DEVICE_UNREACHABLE,
                    message=f"refused, for it could not be journalled: {failed}"[:1024],
                ),
            )
            return
        if found is not None:
            self._say_again(request, found)
            return
        self._publisher.result(result, request.reply_to, request.correlation)
        if status is not CommandStatus.ACCEPTED:
            self._report_refusal(request, result)
        elif running is not None:
            group.create_task(self._follow(request, running))
        else:
            self._running = _Running(request, self._loop.create_future())
            group.create_task(self._carry_out(self._running))

    def _recorded(self, request: Request, status: CommandStatus, done: asyncio.Future[Entry | None]) -> None:
        if status is CommandStatus.ACCEPTED and not done.cancelled() and not done.exception() and not done.result():
            self._open[request.command.id] = request

    def _decide(self, request: Request, running: _Running | None) -> tuple[CommandStatus, CommandError | None]:
        action = request.command.action
        if request.late:
            code = ErrorCode.EXPIRED if request.late_status is CommandStatus.EXPIRED else ErrorCode.INVALID
            return request.late_status, CommandError(code=code, message=request.late)
        if self._loop.time() > request.deadline:
            message = "its life ended while it waited for the agent"
            return CommandStatus.EXPIRED, CommandError(code=ErrorCode.EXPIRED, message=message)
        if running is not None:
            if action is running.request.command.action and action in _LEVELS:
                return CommandStatus.ACCEPTED, None
            message = f"{running.request.command.action} is under way"
            return CommandStatus.REJECTED, CommandError(code=ErrorCode.BUSY, message=message)
        error = self._controller.refusal(action)
        if error is None and (reason := self._owner.unreachable()) is not None:
            error = CommandError(code=ErrorCode.DEVICE_UNREACHABLE, message=reason[:1024])
        return (CommandStatus.ACCEPTED, None) if error is None else (CommandStatus.REJECTED, error)

    def _say_again(self, request: Request, found: Entry) -> None:
        """The same id again: what was said of it, and nothing else."""
        if found.action is not request.command.action:
            self._say(request, CommandStatus.REJECTED, self._reused(request.command))
            return
        logger.info("%s: command %s again: its recorded result is sent", self._publisher.node, found.id)
        result = found.result.model_copy(update={"epoch": self._publisher.epoch})
        self._publisher.result(result, request.reply_to, request.correlation)

    @staticmethod
    def _reused(command: PowerCommand) -> CommandError:
        return CommandError(
            code=ErrorCode.INVALID,
            message=f"the id {command.id} was used for another action; each command takes its own",
        )

    # -- doing -----------------------------------------------------------------------------------------------------

    async def _carry_out(self, running: _Running) -> None:
        request = running.request
        command = request.command
        logger.info(
            "%s: %s (%s) for %s, %s",
            self._publisher.node, command.action, command.id, command.user or "?", command.source or "?",
        )  # fmt: skip
        self._owner.command_begins(command)
        try:
            outcome = await self._controller.execute(command.action, request.deadline)
        except asyncio.CancelledError:
            await self._finish(running, _INTERRUPTED)
            raise
        except Exception:
            logger.exception(
                "%s: %s failed for a reason that is a mistake in pypmi", self._publisher.node, command.action
            )
            message = "an error in the agent; it is not known how far this came, see the agent's log"
            outcome = Outcome(CommandError(code=ErrorCode.INTERRUPTED, message=message), acted=True)
        await self._finish(running, outcome)

    async def _finish(self, running: _Running, outcome: Outcome) -> None:
        await self._end(running.request, outcome, first=True)
        self._running = None
        running.ended.set_result(outcome)

    async def _follow(self, request: Request, running: _Running) -> None:
        """The same wish as the one under way: it ends as that one does."""
        try:
            outcome = await asyncio.shield(running.ended)
        except asyncio.CancelledError:
            await self._end(request, _INTERRUPTED, first=False)
            raise
        await self._end(request, outcome, first=False)

    async def _end(self, request: Request, outcome: Outcome, *, first: bool) -> None:
        self._open.pop(request.command.id, None)
        status = CommandStatus.COMPLETED if outcome.error is None else CommandStatus.FAILED
        result = self._result(request.command, status, outcome.error, outcome.note)
        try:
            await self._journal.finish(result)
        except JournalError as error:
            logger.error("%s: the end of %s is not in the journal: %s", self._publisher.node, request.command.id, error)
        if first:
            self._owner.command_ended(request.command, outcome)
        level = logging.INFO if outcome.error is None else logging.WARNING
        said = outcome.note if outcome.error is None else f"{outcome.error.code}: {outcome.error.message}"
        logger.log(
            level, "%s: %s (%s) %s%s", self._publisher.node, request.command.action, request.command.id, status,
            f": {said}" if said else "",
        )  # fmt: skip
        self._publisher.result(result, request.reply_to, request.correlation)

    # -- saying ----------------------------------------------------------------------------------------------------

    def _result(
        self, command: PowerCommand, status: CommandStatus, error: CommandError | None, note: str | None = None
    ) -> PowerResult:
        return PowerResult(
            id=command.id,
            node=self._publisher.node,
            action=command.action,
            status=status,
            power=self._owner.power.value,
            error=error,
            at=utc_now(),
            epoch=self._publisher.epoch,
            note=note,
            source=command.source,
            user=command.user,
        )

    def _say(self, request: Request, status: CommandStatus, error: CommandError | None = None) -> None:
        result = self._result(request.command, status, error)
        self._publisher.result(result, request.reply_to, request.correlation)

    def _report_refusal(self, request: Request, result: PowerResult) -> None:
        if result.error is not None and self._log.allow():
            logger.warning(
                "%s: %s %s from %s: %s",
                result.node, result.status, request.command.action, result.source or "?", result.error.message,
            )  # fmt: skip
            if request.late:
                self._refused_event(result.error.message, result.source, result.user)

    def _refuse(self, refusal: Refusal) -> None:
        result = PowerResult(
            id=refusal.id,
            node=self._publisher.node,
            action=refusal.action,
            status=CommandStatus.REJECTED,
            power=self._owner.power.value,
            error=refusal.error,
            at=utc_now(),
            epoch=self._publisher.epoch,
            source=refusal.source,
            user=refusal.user,
        )
        if self._log.allow():
            logger.warning("%s: refused a command: %s", result.node, refusal.error.message)
            self._refused_event(refusal.error.message, refusal.source, refusal.user)
        self._publisher.result(result, refusal.reply_to, refusal.correlation)

    def _refused_event(self, message: str, source: str | None, user: str | None) -> None:
        self._publisher.event(EventType.REFUSED, "command", message, source=source, user=user)
