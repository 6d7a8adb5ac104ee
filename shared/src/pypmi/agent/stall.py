"""Notices that the process stood still (stopped, swapped out, suspended with its host).

What comes in right after that may have waited in a TCP buffer for as long, and a bare word does not say when it was
sent.
"""

import asyncio
import time

_BEAT = 1.0
_AFTERMATH = 2.0
"""Seconds after a stall in which what is read may still come from before it."""


def _boot_time() -> float:
    """Monotonic seconds that also count while the host is suspended, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class StallWatch:
    """Beats once a second while `run` does."""

    def __init__(self) -> None:
        self._beat = _boot_time()
        self._stall = 0.0
        self._until = 0.0

    async def run(self) -> None:
        """Beat until cancelled."""
        self._beat = _boot_time()
        while True:
            await asyncio.sleep(_BEAT)
            now = _boot_time()
            late = now - self._beat - _BEAT
            if late > _BEAT:
                self._stall, self._until = late, now + _AFTERMATH
            self._beat = now

    def age(self) -> float:
        """Seconds that a message read now may have waited in this host's buffers."""
        now = _boot_time()
        since = now - self._beat - 2 * _BEAT
        recent = self._stall if now < self._until else 0.0
        return max(0.0, since, recent)
