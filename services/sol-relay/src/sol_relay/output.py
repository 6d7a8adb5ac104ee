"""From a console's ring to the bus: chunks, a window of unacknowledged messages, nothing lost in silence."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from functools import partial

from pypmi.bus import Bus, BusError, BusRefusedError, PublishReceipt
from pypmi.contract import SolPosition

from sol_relay.markers import marker
from sol_relay.ring import Ring

logger = logging.getLogger(__name__)

_CHUNK = 4096
_CHUNK_BEHIND = 16_384
"""Octets in a message when much waits: fewer, larger messages catch up faster."""
_WINDOW = 8
"""Messages without acknowledgement, for one console."""


class Pace:
    """How often consoles publish, so that all together stay below a rate of messages that a core can carry.

    A console that was quiet publishes its first octets at once, the next shortly after, and then, while there is more,
    at intervals that double up to `longest`: a key's echo is quick however many others print.
    """

    SHORTEST = 0.02
    LONGEST = 0.15
    MESSAGES_PER_SECOND = 2000.0

    def __init__(self, rng: random.Random | None = None) -> None:
        self.busy = 0
        """Consoles that are publishing at intervals now."""
        self.shortest = self.SHORTEST
        self._rng = rng or random.Random()  # noqa: S311 - spreads the work, not a secret
        self._messages = 0

    @property
    def longest(self) -> float:
        """Seconds."""
        return min(self.LONGEST, max(self.shortest, self.busy / self.MESSAGES_PER_SECOND))

    def interval(self, busy_ticks: int) -> float:
        """Seconds until a console that had output in its last `busy_ticks` intervals publishes again.

        Jittered: consoles that began together must not stay together.
        """
        interval = self.shortest
        if busy_ticks:
            longest = self.longest
            interval = min(longest, max(interval, longest / 4) * (1 << min(busy_ticks, 8)))
        return interval * (0.75 + self._rng.random() / 2)

    def count(self) -> None:
        """A message was published."""
        self._messages += 1

    def settle(self, seconds: float) -> None:
        """Called every so many seconds: when many consoles with little output make too many messages, slow down."""
        rate, self._messages = self._messages / seconds, 0
        if rate > 1.75 * self.MESSAGES_PER_SECOND:
            self.shortest = min(self.LONGEST, self.shortest * 2)
        elif rate < 1.25 * self.MESSAGES_PER_SECOND:  # busy consoles alone make about 1
            self.shortest = max(self.SHORTEST, self.shortest / 2)


class Output:
    """Publishes one console's stream.

    Args:
        bus: the relay's connection.
        topic: `sol/rx` of the node.
        stream: the name of this run's stream.
        ring: the console's octets; new ones are appended by `add`.
        pace: counts the messages.
        on_room: called when acknowledgements have made room for more.
    """

    def __init__(
        self, bus: Bus, topic: str, stream: str, ring: Ring, *, pace: Pace, on_room: Callable[[], None]
    ) -> None:
        self.stream = stream
        self.ring = ring
        self.sent = 0
        """Offset of the next octet to publish."""
        self.dropped = 0
        """Octets that fell out of the ring before they could be published."""
        self._bus = bus
        self._topic = topic
        self._on_room = on_room
        self._pace = pace
        self._unacknowledged: deque[int] = deque()
        """End offsets of messages under way, in order."""
        self._acknowledged: set[int] = set()
        self._safe = 0
        """All octets before this one are with the broker."""
        self._generation = 0

    @property
    def backlog(self) -> int:
        """Octets that wait to be published."""
        return self.ring.end - self.sent

    def add(self, data: bytes) -> None:
        """Append octets to the stream."""
        self.ring.append(data)

    def flush(self) -> None:
        """Publish what there is, as far as the window goes. Never raises."""
        while self.sent < self.ring.end and len(self._unacknowledged) < _WINDOW:
            if self.sent < self.ring.start:
                self._mark_loss()
            chunk = self.ring.read(self.sent, _CHUNK if self.backlog <= _CHUNK else _CHUNK_BEHIND)
            position = SolPosition(self.stream, self.sent)
            try:
                receipt = self._bus.publish_tracked(self._topic, chunk, properties=position.to_properties())
            except BusError:  # stays in the ring; sent when the broker is back, or has room
                return
            self._pace.count()
            self.sent += len(chunk)
            self._unacknowledged.append(self.sent)
            receipt.add_done_callback(partial(self._on_receipt, self._generation, self.sent))

    def _mark_loss(self) -> None:
        """Write over the oldest octets held how many are missing: viewers that know nothing of offsets see it too."""
        lost = self.ring.start - self.sent
        text = marker(f"{lost} octets of output lost: the broker was away or too slow")
        if self.ring.end - self.ring.start >= len(text):
            self.ring.overwrite(self.ring.start, text)
            lost += len(text)
        self.dropped += lost
        self.sent = self.ring.start

    def _on_receipt(self, generation: int, end: int, receipt: asyncio.Future[PublishReceipt]) -> None:
        if generation != self._generation or receipt.cancelled():
            return
        error = receipt.exception()
        if isinstance(error, BusRefusedError):
            # trying again would not help; once is enough to say
            logger.error("console output on %s: %s", self._topic, error)
            self.dropped += end - self._safe
        elif error is not None:
            return  # the connection is gone: `resume` sends again what is not known to have arrived
        self._acknowledged.add(end)
        while self._unacknowledged and self._unacknowledged[0] in self._acknowledged:
            self._safe = self._unacknowledged.popleft()
            self._acknowledged.discard(self._safe)
        if self.backlog >= _CHUNK:
            self.flush()
            self._on_room()

    def resume(self) -> None:
        """The broker is back: send again what it may not have. Receivers drop what they know by its offset."""
        self._generation += 1
        self._unacknowledged.clear()
        self._acknowledged.clear()
        self.sent = self._safe
        self.flush()
