"""Whether a board counts as reachable, and when to try it again: without flapping, and without hammering it."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import Final

from esp8266_agent.client import LinkError

logger = logging.getLogger(__name__)

FIRST_RETRY: Final = 0.1
LAST_RETRY: Final = 5.0
"""Seconds: pauses between attempts grow from the one to the other, jittered; with the longest, a board that is back is
in use well within 10 s."""
OFFLINE_AFTER: Final = 6.0
"""Seconds of silence after which a board is offline, however few attempts fit into them."""
OFFLINE_NOT_BEFORE: Final = 3.0
"""Seconds of silence before which it is not, however many did: a board restarts in that time."""
STEADY_AFTER: Final = 10.0
"""Seconds a connection must have lasted for the pauses to start anew."""
TAKEOVERS: Final = 3
TAKEOVER_WINDOW: Final = 30.0
"""So many connections reset within so many seconds, without a restart, mean that another program wants the board."""
TAKEOVER_OVER: Final = 15.0
"""Seconds without a further one after which the other program counts as gone."""
_CONTESTED: Final = (
    "another program keeps taking the board's command connection over (it has room for one): find and stop it"
)


class Availability:
    """Counts what succeeds and fails on one board.

    Args:
        host: for log lines.
        retries: attempts that may fail in a row before the board is offline.
        report: told of every change, with the reason, and of every further reason while offline.
    """

    def __init__(self, host: str, retries: int, report: Callable[[bool, str], None], rng: random.Random) -> None:
        self._host = host
        self._retries = retries
        self._report_to = report
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._reachable: bool | None = None
        self._failures = 0
        self._heard_at = self._loop.time()
        self._retry = FIRST_RETRY
        self._timer: asyncio.TimerHandle | None = None
        self._resets: deque[float] = deque(maxlen=TAKEOVERS)
        self.reason = "not connected yet"
        """Why the last attempt failed."""

    def answered(self) -> None:
        """The board gave a reply. Cheap: called for every poll."""
        self._heard_at = self._loop.time()
        if self._failures or self._reachable is not True:
            self._failures = 0
            self.close()
            if not self._contested:
                self._report(True, "")

    def failed(self, error: Exception, *, lasted: float | None) -> float:
        """An attempt failed, or a connection that had `lasted` so many seconds did; returns the pause to make."""
        now = self._loop.time()
        self.reason = str(error)
        self._failures += 1
        if lasted is not None:
            if lasted > STEADY_AFTER:
                self._retry = FIRST_RETRY
            if isinstance(error, LinkError) and error.reset:
                self._resets.append(now)
        silent = now - self._heard_at
        if self._contested:
            self.reason = _CONTESTED
            self._report(False, _CONTESTED)
        elif self._reachable is not True or (self._failures >= self._retries and silent >= OFFLINE_NOT_BEFORE):
            self._report(False, self.reason)
        elif self._timer is None:
            self._timer = self._loop.call_later(max(OFFLINE_AFTER - silent, 0), self._went_silent)
        pause = self.jittered(self._retry)
        self._retry = min(self._retry * 2, LAST_RETRY)
        return pause

    def refused(self, reason: str) -> None:
        """The board answers and must not be used."""
        self.reason = reason
        self._report(False, reason)

    def restarted(self) -> None:
        """The board has restarted: that explains the connections that were reset."""
        self._resets.clear()

    def jittered(self, seconds: float) -> float:
        """Half to the whole of it, so that boards that were lost together do not come back together."""
        return seconds * (0.5 + self._rng.random() / 2)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def _contested(self) -> bool:
        resets = self._resets
        recent = len(resets) == TAKEOVERS and resets[-1] - resets[0] < TAKEOVER_WINDOW
        return recent and self._loop.time() - resets[-1] < TAKEOVER_OVER

    def _went_silent(self) -> None:
        self._timer = None
        self._report(False, self.reason)

    def _report(self, reachable: bool, reason: str) -> None:
        if self._reachable is not reachable:
            self._reachable = reachable
            level = logging.INFO if reachable else logging.WARNING
            logger.log(level, "%s: %s", self._host, reason or "the board answers")
        self._report_to(reachable, reason)
