"""Timers without a clock: a heap of due times; whoever owns it says what time it is."""

import heapq
from collections.abc import Callable

TimerCallback = Callable[[float], None]


class Timer:
    """A callback that is due once, unless cancelled before."""

    __slots__ = ("_callback", "_serial", "when")

    def __init__(self, when: float, serial: int, callback: TimerCallback) -> None:
        self.when = when
        self._serial = serial
        self._callback: TimerCallback | None = callback

    def cancel(self) -> None:
        """Never call back. May be called at any time, any number of times."""
        self._callback = None

    @property
    def active(self) -> bool:
        """Neither run nor cancelled."""
        return self._callback is not None

    def run(self, now: float) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(now)

    def __lt__(self, other: "Timer") -> bool:
        return (self.when, self._serial) < (other.when, other._serial)


class Timers:
    """All timers of one engine. Times are seconds of whatever clock the owner uses throughout."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._serial = 0

    def call_at(self, when: float, callback: TimerCallback) -> Timer:
        """Call `callback(now)` at the first `run` at or after `when`."""
        self._serial += 1
        timer = Timer(when, self._serial, callback)
        heapq.heappush(self._heap, timer)
        return timer

    def next(self) -> float | None:
        """When the next one is due; None when there is none."""
        heap = self._heap
        while heap and not heap[0].active:
            heapq.heappop(heap)
        return heap[0].when if heap else None

    def run(self, now: float) -> None:
        """Run what is due; what the callbacks add for now or earlier has to wait for the next call."""
        due: list[Timer] = []
        while self._heap and self._heap[0].when <= now:
            due.append(heapq.heappop(self._heap))
        for timer in due:
            timer.run(now)
