"""All that an agent says of one node, and who in the agent's own process listens to it."""

import asyncio
import bisect
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from pypmi.bus import Bus, BusDisconnectedError, BusError, PublishReceipt
from pypmi.contract import (
    Availability,
    BootIntent,
    Event,
    EventType,
    NodeInfo,
    NodeState,
    PowerResult,
    TopicKind,
    Topics,
    utc_now,
)

logger = logging.getLogger(__name__)

_MAX_WAITING = 5000
"""Results and events that wait for the broker; the oldest go first."""


class AgentObserver:
    """What else happens in the agent's process when something is said of a node (discovery, metrics, boot scripts).

    Calls come from the event loop, after the publish; they must be quick and not raise.
    """

    def on_state(self, node: str, state: NodeState) -> None:
        """`state` was published."""

    def on_availability(self, node: str, online: bool) -> None:
        """`availability` was published."""

    def on_info(self, node: str, info: NodeInfo) -> None:
        """`info` was published."""

    def on_boot(self, node: str, intent: BootIntent) -> None:
        """`boot` was published."""

    def on_start(self, node: str) -> None:
        """The machine was switched on or reset; `on_boot_used` follows where there is an intent."""

    def on_boot_used(self, node: str, intent: BootIntent) -> None:
        """The machine was switched on or reset while this intent, one-shot or persistent, was in force."""

    def on_event(self, node: str, event: Event) -> None:
        """An event was published."""

    def on_result(self, node: str, result: PowerResult) -> None:
        """A command's result was published."""

    def on_removed(self, node: str) -> None:
        """The node has left the fleet; its retained topics are cleared."""

    def on_moved(self, node: str) -> None:
        """Another agent works the node now; what is retained of it is that one's."""
        self.on_removed(node)


@dataclass(frozen=True, slots=True)
class _Letter:
    topic: str
    payload: bytes
    correlation: bytes | None = None
    retain: bool = False


class Outbox:
    """Results and events: sent at once, or, while there is no broker, when it is back. What is in it moves nothing.

    What was sent and not acknowledged when the connection broke is sent again, so it may come twice: readers know
    results and events by their ids.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._numbers = itertools.count()
        self._waiting: list[tuple[int, _Letter]] = []
        """In the order in which they were given."""
        bus.on_connected(self._flush)

    def send(self, topic: str, payload: bytes, correlation: bytes | None = None) -> None:
        """Publish, now or on the next connection."""
        self._send(_Letter(topic, payload, correlation))

    def clear(self, topic: str) -> None:
        """Remove a retained message from the broker."""
        with suppress(BusError):
            self._bus.clear_retained(topic)  # the bus must not publish it again
        if not self._bus.connected:
            self._send(_Letter(topic, b"", retain=True))

    def _send(self, letter: _Letter) -> None:
        self._keep(next(self._numbers), letter)
        self._send_waiting()

    def _keep(self, number: int, letter: _Letter) -> None:
        if len(self._waiting) >= _MAX_WAITING:
            logger.warning("dropped the oldest of %d messages that wait for the broker", _MAX_WAITING)
            del self._waiting[0]
        bisect.insort(self._waiting, (number, letter), key=itemgetter(0))

    def _send_waiting(self) -> None:
        while self._waiting:
            number, letter = self._waiting.pop(0)
            if not self._try(number, letter):
                self._waiting.insert(0, (number, letter))
                return

    def _try(self, number: int, letter: _Letter) -> bool:
        try:
            receipt = self._bus.publish_tracked(
                letter.topic, letter.payload, retain=letter.retain, correlation=letter.correlation
            )
        except BusError:
            return False
        receipt.add_done_callback(partial(self._done, number, letter))
        return True

    def _done(self, number: int, letter: _Letter, receipt: asyncio.Future[PublishReceipt]) -> None:
        error = None if receipt.cancelled() else receipt.exception()
        if isinstance(error, BusDisconnectedError):
            self._keep(number, letter)
            return
        if error is not None:
            logger.error("%s: %s (check the access rules of this account)", letter.topic, error)
        if self._waiting:  # there was no room for more without an acknowledgement
            self._send_waiting()

    async def _flush(self) -> None:
        self._send_waiting()


class RateLimit:
    """Lets `burst` through at once and `rate` a second after that."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._at = float(burst), clock()

    def allow(self) -> bool:
        """Whether one more may pass now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Publisher:
    """Publishes for one node.

    Args:
        bus: keeps what is retained and publishes it again on every connection.
        topics: names the topics.
        outbox: takes what is not retained.
        observers: hear of everything too.
        node: its id.
        epoch: of this start of the agent.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        outbox: Outbox,
        observers: tuple[AgentObserver, ...],
        *,
        node: str,
        epoch: str,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._outbox = outbox
        self._observers = observers
        self.node = node
        self.epoch = epoch
        self.state_numbers = itertools.count(1)
        """Go on when the node is replaced: within an epoch readers ignore a lower number."""
        self._sensor_topics: set[str] = set()
        self._events = RateLimit(rate=2, burst=50)

    def _retain(self, kind: TopicKind, payload: bytes) -> bool:
        topic = self._topics.node(self.node, kind)
        if self._bus.retained(topic) == payload:
            return False
        self._set(topic, payload)
        return True

    def _set(self, topic: str, payload: bytes, qos: int = 1) -> None:
        try:
            self._bus.set_retained(topic, payload, qos=qos)
        except BusError as error:  # kept by the bus, and published on the next connection
            logger.warning("%s: %s", self.node, error)

    def _tell(self, what: str, *arguments: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, what)(self.node, *arguments)
            except Exception:
                logger.exception("%s: an observer failed in %s", self.node, what)

    def state(self, state: NodeState) -> None:
        """Publish the state."""
        if self._retain(TopicKind.STATE, state.to_payload()):
            self._tell("on_state", state)

    def availability(self, online: bool) -> None:
        """Publish whether the hardware can be reached."""
        word = Availability.ONLINE if online else Availability.OFFLINE
        if self._retain(TopicKind.NODE_AVAILABILITY, word.value.encode()):
            self._tell("on_availability", online)

    def info(self, info: NodeInfo) -> None:
        """Publish what the node is."""
        if self._retain(TopicKind.NODE_INFO, info.to_payload()):
            self._tell("on_info", info)

    def boot(self, intent: BootIntent) -> None:
        """Publish the boot intent."""
        if self._retain(TopicKind.BOOT, intent.to_payload()):
            self._tell("on_boot", intent)

    def started(self) -> None:
        """Tell the observers that the machine was switched on or reset."""
        self._tell("on_start")

    def boot_used(self, intent: BootIntent) -> None:
        """Tell the observers that the machine starts under this intent."""
        self._tell("on_boot_used", intent)

    def sensor(self, key: str, text: str) -> None:
        """Publish a reading."""
        topic = self._topics.sensor(self.node, key)
        self._sensor_topics.add(topic)
        self._set(topic, text.encode(), qos=0)

    def event(
        self,
        kind: EventType,
        cause: str,
        message: str,
        *,
        source: str | None = None,
        user: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Publish an event, unless there have been very many."""
        if not self._events.allow():
            logger.warning("%s: too many events; not published: %s %s", self.node, kind, message)
            return
        self.pass_event(
            Event(
                type=kind, cause=cause, source=source, user=user, message=message[:1024], data=data or {},
                at=utc_now(), epoch=self.epoch,
            )
        )  # fmt: skip

    def pass_event(self, event: Event) -> None:
        """Publish an event that the hardware reported."""
        self._outbox.send(self._topics.node(self.node, TopicKind.EVENTS), event.to_payload())
        self._tell("on_event", event)

    def result(self, result: PowerResult, reply_to: str | None, correlation: bytes | None) -> None:
        """Publish a command's result, for everybody and for who asked."""
        payload = result.to_payload()
        if reply_to is not None:  # first: somebody waits for it
            self._outbox.send(reply_to, payload, correlation)
        self._outbox.send(self._topics.node(self.node, TopicKind.POWER_RESULT), payload)
        self._tell("on_result", result)

    def drop(self) -> None:
        """Say nothing more of the node: another agent has it now, and what is retained is that one's."""
        for topic in self._kept():
            self._bus.forget_retained(topic)
        self._tell("on_moved")

    def clear(self, info: NodeInfo | None = None) -> None:
        """Remove all that is retained of the node: it has left the fleet. `info` names sensors of an earlier run."""
        if info is not None:
            self._sensor_topics.update(self._topics.sensor(self.node, sensor.key) for sensor in info.sensors)
        for topic in self._kept():
            self._outbox.clear(topic)
        self._tell("on_removed")

    def _kept(self) -> tuple[str, ...]:
        kinds = (TopicKind.STATE, TopicKind.NODE_AVAILABILITY, TopicKind.NODE_INFO, TopicKind.BOOT)
        return (*(self._topics.node(self.node, kind) for kind in kinds), *sorted(self._sensor_topics))
