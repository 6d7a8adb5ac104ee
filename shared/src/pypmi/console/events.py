"""What a console's viewer is told, and what can go wrong when it types."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class ConsoleError(Exception):
    """Base of all errors of a console. The text says why, for people."""


class ConsoleOfflineError(ConsoleError):
    """The console can't take input now: its port, its relay or the broker is away. Nothing was sent."""


class ConsoleRefusedError(ConsoleError):
    """The relay said no: a break on a line that can't carry one, or somebody else is the one writer."""


@dataclass(frozen=True, slots=True)
class ConsoleData:
    """Bytes from the node's serial output, in order and each once."""

    data: bytes
    scrollback: bool = False
    """What the machine said before this viewer attached."""


@dataclass(frozen=True, slots=True)
class ConsoleGap:
    """Bytes are missing here and can't be had any more."""

    lost: int | None
    """How many octets; None when nobody knows (the relay was restarted)."""

    def __str__(self) -> str:
        return "output lost" if self.lost is None else f"{self.lost} octets of output lost"


class NoticeKind(StrEnum):
    """What a notice is about."""

    LIVE = "live"
    """The scrollback is over; live output follows. Comes once per attach, also when there was no scrollback."""
    ONLINE = "online"
    """The console works (again)."""
    OFFLINE = "offline"
    """Port, relay or broker is away. Where the relay lost its port, the stream itself has a line that says so."""
    RESTARTED = "restarted"
    """The relay was restarted: a new stream begins."""
    INPUT_LOST = "input_lost"
    """Bytes that `write` had taken did not reach the port, or nobody knows whether they did."""


@dataclass(frozen=True, slots=True)
class ConsoleNotice:
    """Something about the console that is not in its bytes."""

    kind: NoticeKind
    text: str


ConsoleEvent = ConsoleData | ConsoleGap | ConsoleNotice
OnEvent = Callable[[ConsoleEvent], None]
"""Called in the event loop; must not block. What it raises is logged and goes no further."""


class ConsoleQueue:
    """A bounded queue between a console and a consumer that may be slow: pass `put` as the console's callback.

    When `limit` octets wait, the oldest are thrown away and a `ConsoleGap` stands in their place. Notices are kept.
    """

    def __init__(self, limit: int = 262_144) -> None:
        self._limit = limit
        self._items: deque[ConsoleEvent] = deque()
        self._octets = 0
        self._there = asyncio.Event()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, event: ConsoleEvent) -> None:
        """Take an event; never blocks."""
        self._items.append(event)
        if isinstance(event, ConsoleData):
            self._octets += len(event.data)
            if self._octets > self._limit:
                self._shed()
        self._there.set()

    def _shed(self) -> None:
        lost: int | None = 0
        kept: deque[ConsoleEvent] = deque()
        goal = self._limit // 2  # half: one gap now instead of one for every chunk that follows
        while self._octets > goal:
            item = self._items.popleft()
            if isinstance(item, ConsoleData):
                self._octets -= len(item.data)
                lost = None if lost is None else lost + len(item.data)
            elif isinstance(item, ConsoleGap):
                lost = None if lost is None or item.lost is None else lost + item.lost
            else:
                kept.append(item)
        self._items.appendleft(ConsoleGap(lost))
        # a viewer that sleeps for days must not collect notices without end
        self._items.extendleft(reversed(list(kept)[-16:]))

    def get_nowait(self) -> ConsoleEvent | None:
        """The oldest event, or None."""
        if not self._items:
            return None
        item = self._items.popleft()
        if isinstance(item, ConsoleData):
            self._octets -= len(item.data)
        return item

    async def get(self) -> ConsoleEvent:
        """Wait for the oldest event."""
        while True:
            item = self.get_nowait()
            if item is not None:
                return item
            self._there.clear()
            await self._there.wait()
