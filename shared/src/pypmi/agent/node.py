"""One node of an agent: its driver, its power, its commands, its boot intent, and what is said of it."""

import asyncio
import logging
import random

from pypmi.agent.boot import BootDesk
from pypmi.agent.definition import AgentNode
from pypmi.agent.desk import CommandDesk
from pypmi.agent.identify import IdentifyDesk
from pypmi.agent.journal import Journal
from pypmi.agent.publisher import Publisher, RateLimit
from pypmi.agent.record import PowerRecord
from pypmi.agent.sensors import SensorDesk
from pypmi.agent.stall import StallWatch
from pypmi.agent.store import JournalError
from pypmi.bus import Bus, Message, RetainedReplay
from pypmi.contract import (
    BootRequest,
    Capability,
    ContractError,
    ErrorCode,
    Event,
    EventType,
    IdentifyRequest,
    IdentifyState,
    PowerAction,
    PowerCommand,
    PowerState,
    TopicKind,
    Topics,
)
from pypmi.power.buttons import ButtonController
from pypmi.power.controller import TARGETS, Outcome, PowerController
from pypmi.power.hardware import ManagedHardware
from pypmi.power.managed import ManagedController
from pypmi.power.monitor import PowerMonitor
from pypmi.power.status import Cause, StatusChange, StatusTracker

logger = logging.getLogger(__name__)

_FIRST_WORD = 2.0
"""Seconds that a starting node may take to know its state before it says that it does not."""
_DRIVER_RETRY = (1.0, 60.0)
"""Shortest and longest wait before a driver that failed is started again."""

_ACTION_EVENTS = {
    PowerAction.CYCLE: EventType.POWER_CYCLE,
    PowerAction.RESET: EventType.RESET,
    PowerAction.SOFT: EventType.SOFT_OFF,
    PowerAction.DIAG: EventType.NMI,
}


class NodeRunner:
    """Runs one node. It is its driver's `HardwareListener` and its command desk's owner.

    Args:
        node: what it is.
        agent: the service's name.
        bus: for subscriptions.
        topics: names the topics.
        journal: open.
        publisher: of this node.
        stalls: tells how old what comes in may be.
    """

    def __init__(
        self,
        node: AgentNode,
        *,
        agent: str,
        bus: Bus,
        topics: Topics,
        journal: Journal,
        publisher: Publisher,
        stalls: StallWatch,
    ) -> None:
        self.node = node
        self._agent = agent
        self._bus = bus
        self._topics = topics
        self._journal = journal
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        memory = journal.memory(node.id)
        self._record = PowerRecord(memory, publisher.epoch, publisher.state_numbers, self._loop.time)
        managed = isinstance(node.hardware, ManagedHardware)
        tracker = StatusTracker(node.power, steady=managed, last_known=memory.power)
        self._monitor = PowerMonitor(tracker, self._on_change)
        self._controller = self._make_controller()
        self._commands = CommandDesk(
            topics=topics,
            journal=journal,
            publisher=publisher,
            controller=self._controller,
            owner=self,
            stalls=stalls,
        )
        self._sensors = SensorDesk(publisher, lambda: node.hardware.sensors)
        self._identify = IdentifyDesk(node.id, node.hardware, self._on_identify)
        self._boots = BootDesk(node, self._record, publisher, self.save, lambda why: self._refuse("boot/set", why))
        self._changed = asyncio.Event()
        self._reachable: bool | None = None
        self._unreachable_why = "there was no contact with the hardware yet"
        self._firmware: str | None = None
        self._command: PowerCommand | None = None
        self._started = False
        """Whether the machine was seen to start since the last command began."""
        self._speaking = False
        self._log = RateLimit(rate=0.2, burst=20, clock=self._loop.time)

    def _make_controller(self) -> PowerController:
        node = self.node
        if isinstance(node.hardware, ManagedHardware):
            return ManagedController(node.hardware, node.power, self._monitor, node.power_on)
        return ButtonController(node.hardware, node.power, self._monitor, node.power_on)

    # -- life ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the node until cancelled. Nothing is moved by starting or stopping."""
        handlers = (
            (TopicKind.POWER_SET, self._commands.receive),
            (TopicKind.BOOT_SET, self._on_boot_set),
            (TopicKind.IDENTIFY_SET, self._on_identify_set),
        )
        first_word = self._loop.call_later(_FIRST_WORD, self._speak)
        self._publish_info()
        self._publisher.boot(self._record.boot)
        for kind, handler in handlers:
            # QoS 0: the broker must not keep a command for an agent that is away (contract, never late)
            topic = self._topics.node(self.node.id, kind)
            self._bus.subscribe(topic, handler, qos=0, replay=RetainedReplay.NEVER)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_driver(), name=f"{self.node.id} driver")
                group.create_task(self._commands.run(), name=f"{self.node.id} commands")
                group.create_task(self._boots.run(), name=f"{self.node.id} boot")
                group.create_task(self._identify.run(), name=f"{self.node.id} identify")
                group.create_task(self._run_memory(), name=f"{self.node.id} memory")
        finally:
            for kind, handler in handlers:
                self._bus.unsubscribe(self._topics.node(self.node.id, kind), handler)
            first_word.cancel()
            self._monitor.close()
            self._sensors.close()
            await self.save()

    async def _run_driver(self) -> None:
        delay = _DRIVER_RETRY[0]
        while True:
            started = self._loop.time()
            try:
                await self.node.hardware.run(self)
                reason = "its driver ended by itself"
            except Exception as error:
                logger.exception("%s: the driver failed", self.node.id)
                reason = f"its driver failed: {error}"
            self.on_reachable(False, reason)
            if self._loop.time() - started > _DRIVER_RETRY[1]:
                delay = _DRIVER_RETRY[0]
            await asyncio.sleep(delay * (0.5 + random.random() / 2))  # noqa: S311 - jitter
            delay = min(delay * 2, _DRIVER_RETRY[1])

    async def _run_memory(self) -> None:
        """Keep what has changed, outside of everybody's way."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.save()

    async def save(self) -> None:
        """Write down what must survive a restart."""
        try:
            await self._journal.remember(self.node.id, self._record.memory())
        except JournalError as error:
            if self._log.allow():
                logger.error("%s: its state is not in the journal: %s", self.node.id, error)

    @property
    def idle_on(self) -> bool:
        """Whether the machine is on, so that its hours count."""
        return self._record.power is PowerState.ON

    # -- HardwareListener ------------------------------------------------------------------------------------------

    def on_reachable(self, reachable: bool, reason: str = "") -> None:
        """The hardware answers, or does not any more."""
        if not reachable:
            self._unreachable_why = reason or "the hardware does not answer"
            self._monitor.lost()
        if reachable is self._reachable:
            return
        first, self._reachable = self._reachable is None, reachable
        if reachable:
            logger.info("%s: reached", self.node.id)
            if not first:
                self._publisher.event(EventType.NODE_BACK, "hardware", "the hardware answers again")
        else:
            logger.warning("%s: not reachable: %s", self.node.id, self._unreachable_why)
            if not first:
                self._publisher.event(EventType.NODE_LOST, "hardware", self._unreachable_why)
        self._publish_state()

    def on_status(self, on: bool | None) -> None:
        """A reading of the status input."""
        self._monitor.feed(on)

    def on_sensor(self, key: str, value: float) -> None:
        """A reading of a sensor."""
        self._sensors.reading(key, value)

    def on_firmware(self, version: str) -> None:
        """What runs on the board or BMC."""
        self._firmware = version[:128]
        self._publish_info()

    def on_restart(self, reason: str) -> None:
        """The board restarted by itself."""
        logger.warning("%s: the board restarted (%s): its outputs may have glitched", self.node.id, reason)
        self._monitor.tracker.restarted(self._loop.time())

    def on_event(self, event: Event) -> None:
        """The hardware reports something itself."""
        self._publisher.pass_event(event.model_copy(update={"epoch": self._publisher.epoch}))

    # -- power -----------------------------------------------------------------------------------------------------

    @property
    def power(self) -> PowerState:
        """The sensed power."""
        return self._monitor.tracker.power

    def unreachable(self) -> str | None:
        """Why the hardware can't be reached."""
        return None if self._reachable else self._unreachable_why

    def _on_change(self, change: StatusChange) -> None:
        self._record.changed(change)
        if change.real:
            by = self._command if change.cause is Cause.COMMAND else None
            kind = EventType.POWER_ON if change.power is PowerState.ON else EventType.POWER_OFF
            known = change.before is not PowerState.UNKNOWN
            if known:  # else: the agent has only just begun to look
                logger.info("%s: %s (%s)", self.node.id, change.power, change.cause)
                self._publisher.event(
                    kind,
                    change.cause.value,
                    f"power is {change.power}",
                    source=by.source if by else None,
                    user=by.user if by else None,
                )
            if known and change.power is PowerState.ON:
                self._machine_starts()
            self._changed.set()
        if self._record.clear_fault(change.power):
            self._publisher.event(EventType.FAULT_CLEARED, change.cause.value, f"power is {change.power}")
        self._publish_state(known=change.power is not PowerState.UNKNOWN)

    def command_begins(self, command: PowerCommand) -> None:
        """An accepted command begins to act."""
        self._command = command
        self._started = False
        self._record.begin(command.action)
        self._publish_state(known=True)

    def command_ended(self, command: PowerCommand, outcome: Outcome) -> None:
        """It has ended."""
        self._record.end(command.action, outcome.acted)
        error = outcome.error
        if error is None:
            if outcome.acted:
                if self._record.clear_fault():
                    self._publisher.event(EventType.FAULT_CLEARED, "command", f"{command.action} went well")
                self._report_done(command)
        elif outcome.acted and error.code is not ErrorCode.INTERRUPTED:
            self._record.set_fault(error.code, error.message, TARGETS[command.action])
            self._publisher.event(
                EventType.POWER_FAULT, "command", error.message, source=command.source, user=command.user,
                data={"action": command.action.value, "code": error.code.value},
            )  # fmt: skip
        self._changed.set()
        self._publish_state(known=True)

    def _report_done(self, command: PowerCommand) -> None:
        kind = _ACTION_EVENTS.get(command.action)
        if kind is not None:
            self._publisher.event(kind, "command", f"{command.action} done", source=command.source, user=command.user)
        if command.action in {PowerAction.RESET, PowerAction.CYCLE} and not self._started:
            self._machine_starts()

    def _machine_starts(self) -> None:
        self._started = True
        self._publisher.started()
        self.use_boot()

    def use_boot(self) -> None:
        """The machine boots: what it was told to boot once is spent. For its network card, too, that asks for it."""
        if self._boots.use():
            self._changed.set()

    # -- boot and identify -----------------------------------------------------------------------------------------

    def _on_boot_set(self, message: Message) -> None:
        if self._must_refuse(message, "boot/set"):
            return
        try:
            request = BootRequest.parse(message.payload)
        except ContractError as error:
            self._refuse("boot/set", str(error))
            return
        if not self._boots.wish(request):
            self._refuse("boot/set", "too many requests wait")

    def _on_identify_set(self, message: Message) -> None:
        if self._must_refuse(message, "identify/set"):
            return
        try:
            request = IdentifyRequest.parse(message.payload)
        except ContractError as error:
            self._refuse("identify/set", str(error))
            return
        if Capability.IDENTIFY not in self._controller.capabilities:
            self._refuse("identify/set", "the node has no locator light")
        elif not self._identify.wish(request.seconds):
            self._refuse("identify/set", "too many requests wait")

    def _on_identify(self, state: IdentifyState) -> None:
        if state is not self._record.identify:
            self._record.identify = state
            self._publisher.event(EventType.IDENTIFY, "command", f"locator light: {state}", data={"state": state.value})
            self._publish_state()

    def _must_refuse(self, message: Message, what: str) -> bool:
        if message.retain and message.payload:
            self._refuse(what, "retained: a request must never be kept by the broker; clear the topic")
        return message.retain

    def _refuse(self, what: str, why: str) -> None:
        if self._log.allow():
            logger.warning("%s: %s refused: %s", self.node.id, what, why)
            self._publisher.event(EventType.REFUSED, "command", f"{what}: {why}")

    # -- saying ----------------------------------------------------------------------------------------------------

    def _speak(self) -> None:
        self._speaking = True
        self._publish_state()

    def _publish_state(self, *, known: bool = False) -> None:
        """Publish state and availability; a node that has just started waits a little until there is something."""
        if not (self._speaking or known):
            return
        self._speaking = True
        self._publisher.availability(bool(self._reachable))
        self._publisher.state(self._record.state())

    def _publish_info(self) -> None:
        self._publisher.info(
            self.node.info(
                agent=self._agent,
                capabilities=self._controller.capabilities,
                firmware=self._firmware,
                epoch=self._publisher.epoch,
            )
        )
