"""A serial line between a PC and whatever listens: paced to the baud rate, with nobody waiting on a timer when idle."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

BITS_PER_BYTE: Final = 10
TICK: Final = 0.010
"""Seconds between two deliveries of a paced line."""
MAX_CATCH_UP: Final = 0.03
"""Seconds' worth of bytes that are delivered at once, at most."""
HIGH_WATER: Final = 4096
"""Queued bytes at which a well-behaved source stops."""


class PacedLine:
    """One direction of a serial line: bytes written come out at the far end no faster than the baud rate.

    Args:
        deliver: gets the bytes.
        baud: bits per second; None delivers at once.
        drained: called when the queue falls below the high-water mark again.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], None],
        *,
        baud: int | None,
        drained: Callable[[], None] | None = None,
    ) -> None:
        self.baud = baud
        self._deliver = deliver
        self._drained = drained
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._credit = 0.0
        self._last = 0.0
        self._handle: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> int:
        """Bytes that have not come out yet."""
        return self._queued

    def write(self, data: bytes) -> None:
        """Queues bytes."""
        if not data:
            return
        if not self.baud and not self._queue:
            self._deliver(data)
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._handle is None:
            loop = asyncio.get_running_loop()
            self._last, self._credit = loop.time(), 0.0
            self._handle = loop.call_later(TICK, self._tick)

    def clear(self) -> None:
        """Forgets what is queued."""
        self._queue.clear()
        self._queued = 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        before = self._queued
        if self.baud:
            rate = self.baud / BITS_PER_BYTE
            # A late timer is made up for, but only by so much: on a busy host the line gets slower, and does not
            # pour out at once what no receiver could take.
            self._credit = min(self._credit + (now - self._last) * rate, max(rate * MAX_CATCH_UP, 1.0))
            budget = int(self._credit)
        else:
            budget = self._queued
        self._last = now
        out = self._take(budget)
        self._credit -= len(out)
        self._handle = loop.call_later(TICK, self._tick) if self._queue else None
        if out:
            self._deliver(out)
        if self._drained is not None and before >= HIGH_WATER > self._queued:
            self._drained()

    def _take(self, budget: int) -> bytes:
        parts = []
        while self._queue and budget > 0:
            head = self._queue.popleft()
            if len(head) > budget:
                self._queue.appendleft(head[budget:])
                head = head[:budget]
            parts.append(head)
            budget -= len(head)
        out = b"".join(parts)
        self._queued -= len(out)
        return out
