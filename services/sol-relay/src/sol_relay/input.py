"""Input on its way to a port: in order, each octet once, bounded, acknowledged; refused aloud, never in silence."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pypmi.bus import Message
from pypmi.contract import ConsoleAck, SolPosition

QUEUE_LIMIT = 262_144
"""Octets that wait for one port."""
_SENDERS = 256
_ACK_EVERY = 4096
"""Octets written between two acknowledgements while there is more."""


@dataclass(slots=True)
class Sender:
    """One stream of input. Offsets count its octets."""

    stream: str
    received: int
    """All before this one have come."""
    waiting: int = 0
    """Octets in the queue."""
    told: int = -1
    """`written` in the last acknowledgement."""
    refused: int = 0
    why: str = ""
    reply_topic: str | None = None
    correlation: str = ""

    @property
    def written(self) -> int:
        """All before this one have gone to the port, or were refused."""
        return self.received - self.waiting

    def ack(self) -> ConsoleAck:
        """Where this stream stands."""
        return ConsoleAck(
            id=self.correlation, stream=self.stream, offset=self.received, written=self.written,
            refused=self.refused, error=self.why or None,
        )  # fmt: skip


@dataclass(slots=True)
class _Data:
    sender: Sender | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Break:
    """A break that waits for the input before it. `done` is called with None, or with why it was not sent."""

    seconds: float
    done: Callable[[str | None], None]


class InputQueue:
    """Input of one console. No I/O: `next` gives what to write, `wrote` takes how much of it was.

    Args:
        acknowledge: called with (reply topic, acknowledgement).
        on_refused: called with (octets, why) for input thrown away, for the line in the console.
    """

    def __init__(self, acknowledge: Callable[[str, ConsoleAck], None], on_refused: Callable[[int, str], None]) -> None:
        self._acknowledge = acknowledge
        self._on_refused = on_refused
        self._items: deque[_Data | Break] = deque()
        self._octets = 0
        self._senders: dict[str, Sender] = {}

    @property
    def octets(self) -> int:
        """How many wait."""
        return self._octets

    # -- from the bus ----------------------------------------------------------------------------------------------

    def take(self, message: Message, position: SolPosition | None, refuse: str) -> None:
        """A message from `sol/tx`. `refuse` says why its octets can't be taken; empty when they can."""
        if position is None:
            if not refuse and self._octets + len(message.payload) > QUEUE_LIMIT:
                refuse = "too much input waits for the port"
            if refuse:
                self._on_refused(len(message.payload), refuse)
            elif message.payload:
                self._append(None, message.payload)
            return
        sender = self._sender(position)
        sender.reply_topic = message.response_topic
        sender.correlation = (message.correlation or b"").decode("ascii", "replace")
        fresh = self._fresh(sender, position, message.payload)
        if refuse and fresh:
            self._refuse(sender, len(fresh), refuse)
        elif fresh:
            fresh = fresh[: max(0, QUEUE_LIMIT - self._octets)]
            # what does not fit is sent again by those who listen to acknowledgements; others must be told
            sender.received += len(fresh)
            self._append(sender, fresh)
            rest = position.offset + len(message.payload) - sender.received
            if rest and sender.reply_topic is None:
                self._refuse(sender, rest, "too much input waits for the port")
        # otherwise it is acknowledged when written
        if not sender.waiting or not fresh:
            self._tell(sender)

    def _sender(self, position: SolPosition) -> Sender:
        sender = self._senders.pop(position.stream, None)
        if sender is None:
            if len(self._senders) >= _SENDERS:
                del self._senders[next(iter(self._senders))]  # the one silent for longest
            sender = Sender(position.stream, position.offset)
        self._senders[position.stream] = sender  # at the end: the most recent
        return sender

    def _fresh(self, sender: Sender, position: SolPosition, data: bytes) -> bytes:
        """The octets of a message that are new and in order."""
        if position.offset <= sender.received:
            return data[sender.received - position.offset :]
        if sender.reply_topic is not None:
            return b""  # octets are missing before these: the acknowledgement makes the sender go back
        missing = position.offset - sender.received
        sender.received = position.offset
        self._on_refused(missing, "lost on the way to the relay")
        return data

    def _append(self, sender: Sender | None, data: bytes) -> None:
        if data:
            self._items.append(_Data(sender, data))
            self._octets += len(data)
            if sender is not None:
                sender.waiting += len(data)

    def add_break(self, item: Break) -> None:
        """A break, after the input that waits."""
        self._items.append(item)

    def _refuse(self, sender: Sender, octets: int, why: str) -> None:
        sender.received += octets
        sender.refused += octets
        sender.why = why
        self._on_refused(octets, why)

    # -- to the port -----------------------------------------------------------------------------------------------

    def next(self) -> bytes | Break | None:
        """What to write now; a `Break` is taken out by this call."""
        if not self._items:
            return None
        item = self._items[0]
        if isinstance(item, Break):
            self._items.popleft()
            return item
        return item.data

    def wrote(self, octets: int) -> None:
        """So many octets of `next` have gone to the port."""
        item = self._items[0]
        if isinstance(item, Break):
            raise TypeError("a break is not written")
        self._octets -= octets
        sender = item.sender
        if octets == len(item.data):
            self._items.popleft()
        else:
            item.data = item.data[octets:]
        if sender is not None:
            sender.waiting -= octets
            if not sender.waiting or sender.written - sender.told >= _ACK_EVERY:
                self._tell(sender)

    def fail(self, why: str) -> None:
        """The port is gone: everything that waits is refused."""
        items, self._items, self._octets = self._items, deque(), 0
        lost = 0
        for item in items:
            if isinstance(item, Break):
                item.done(why)
                continue
            lost += len(item.data)
            if item.sender is not None:
                item.sender.waiting = 0
                item.sender.refused += len(item.data)
                item.sender.why = why
        for sender in {id(item.sender): item.sender for item in items if isinstance(item, _Data)}.values():
            if sender is not None:
                self._tell(sender)
        if lost:
            self._on_refused(lost, why)

    def _tell(self, sender: Sender) -> None:
        sender.told = sender.written
        if sender.reply_topic is not None and sender.correlation:
            self._acknowledge(sender.reply_topic, sender.ack())
