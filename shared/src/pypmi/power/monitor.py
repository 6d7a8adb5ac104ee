"""The status tracker in the event loop: feeds it, keeps its timer, and wakes those that wait for a state."""

import asyncio
from collections.abc import Callable

from pypmi.power.status import StatusChange, StatusTracker


class PowerMonitor:
    """A `StatusTracker` with a clock.

    Args:
        tracker: takes the readings.
        on_change: called in the loop for each change, before anybody who waits goes on.
    """

    def __init__(self, tracker: StatusTracker, on_change: Callable[[StatusChange], None]) -> None:
        self.tracker = tracker
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def feed(self, on: bool | None) -> None:
        """Take a reading of the status input."""
        self._took(self.tracker.reading(on, self._loop.time()))

    def lost(self) -> None:
        """The hardware does not answer any more."""
        self._took(self.tracker.lost(self._loop.time()))

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until `condition` holds, for at most `timeout` seconds; return whether it does."""
        end = self._loop.time() + timeout
        while not condition():
            left = end - self._loop.time()
            if left <= 0:
                return False
            woken: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(woken)
            try:
                async with asyncio.timeout(left):
                    await woken
            except TimeoutError:
                return condition()
            finally:
                self._waiting.discard(woken)
        return True

    def _took(self, change: StatusChange | None) -> None:
        self.close()
        due = self.tracker.next_timer()
        if due is not None:
            self._timer = self._loop.call_at(due, self._tick)
        if change is not None:
            self._on_change(change)
        for woken in self._waiting:  # also without a change: the tracker may have settled
            if not woken.done():
                woken.set_result(None)

    def _tick(self) -> None:
        self._timer = None
        self._took(self.tracker.tick(self._loop.time()))
