"""One press of a relay whose pulse the board times itself: a train of triggers, each before the last has run out.

The times that count are the board's. A trigger acts somewhere between our sending it and the arrival of its reply, and
its pulse ends `pulse_ms` later whatever happens to us. A further trigger prolongs the same press only when it acts
before that; later it would be a second press. So the train goes on only while that is certain, and a trigger whose
reply has not come in time is thrown away with its connection (reference 6.2, 6.3).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from pypmi.config.hardware import BoardPin

from esp8266_agent import protocol
from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.protocol import ReplyError

TRIGGER_PERIOD: Final = 0.25
"""Seconds between two triggers of a long press (reference 6.2: 250 to 300 ms)."""
GUARD: Final = 0.03
"""Seconds of doubt about the board's own timing: its 10 ms ticks, and some jitter."""
OPEN_SLACK: Final = 0.1
"""Seconds after which a pulse that should be over is over (late ticks while the board is busy)."""


class LapsedError(Exception):
    """The press ended before its time. `again`: it may have begun a second time."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Train:
    """One press of `relay`. The first trigger is the caller's, who knows how to send it at most once."""

    def __init__(self, relay: BoardPin, seconds: float, release: asyncio.Event) -> None:
        self._relay = relay
        self._pulse = relay.pulse_ms / 1000
        self._period = min(TRIGGER_PERIOD, self._pulse / 2)
        self._seconds = seconds
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._on = protocol.trigger(relay.pin, "on")
        self._off = protocol.trigger(relay.pin, "off")
        self._last = 0.0
        self.begun = 0.0
        """Loop time at which the first trigger was sent."""
        self.open_by: float | None = None
        """Loop time at which the contact is open for certain, whatever became of the rest. None: not triggered."""

    @property
    def held(self) -> float:
        """Seconds for which the contact was closed, as far as is known."""
        return min(self._loop.time(), self._last + self._pulse) - self.begun

    def triggered(self, sent_at: float) -> None:
        """A trigger was sent, or may have been, at loop time `sent_at`."""
        self.open_by = self._loop.time() + self._pulse + OPEN_SLACK
        if not self.begun:
            self.begun = sent_at
        self._last = sent_at

    async def hold(self, link: CommandLink, watch: Callable[[float], Awaitable[None]]) -> None:
        """Keep the contact closed for the time asked for, then open it. `triggered` has been called.

        `watch` is called between triggers, with the seconds it may take, to look at the status input. Raises
        `LapsedError`. Returns, also with an error, when the contact is open; when cancelled, the board opens it
        within one pulse.
        """
        try:
            await self._prolong(link, watch)
        except (LinkError, ReplyError) as error:
            raise LapsedError(str(error), again=False) from None
        finally:
            await self._let_go(link)
        await self.wait_open()

    async def _prolong(self, link: CommandLink, watch: Callable[[float], Awaitable[None]]) -> None:
        end = self.begun + self._seconds
        while (now := self._loop.time()) < end and not self._release.is_set():
            runs_until = self._last + self._pulse - GUARD
            due = end if runs_until >= end else min(self._last + self._period, end)
            if now < due:
                await self._wait(due - now)
                continue
            # the reply of a trigger that acts in time is here at the latest then
            left = runs_until + link.round_trip - now
            if left <= link.round_trip + GUARD:
                raise LapsedError("the board or this host was too slow to prolong the pulse", again=False)
            try:
                await link.ask(self._on, timeout=left)
            except (LinkError, ReplyError) as error:
                self.open_by = self._loop.time() + self._pulse + OPEN_SLACK
                raise LapsedError(f"a trigger was not confirmed in time: {error}", again=True) from None
            self.triggered(link.sent_at)
            await watch(self._last + self._pulse - GUARD - self._loop.time())

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._release.wait()

    async def _let_go(self, link: CommandLink) -> None:
        if link.error is None:
            with contextlib.suppress(LinkError, ReplyError):  # then the board's timer does it
                await link.ask(self._off)
                self.open_by = self._loop.time()

    async def wait_open(self) -> None:
        """Return when the contact is open."""
        if self.open_by is not None:
            await asyncio.sleep(max(self.open_by - self._loop.time(), 0))
