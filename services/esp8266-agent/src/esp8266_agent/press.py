"""Presses of a relay whose pulse the board times itself: trains of triggers, each before the last has run out.

The times that count are the board's. A trigger acts somewhere between our sending it and the arrival of its reply, and
its pulse ends `pulse_ms` later whatever happens to us. A further trigger prolongs the same press only when it acts
before that; later it would be a second press. So the train goes on only while that is certain, and a trigger whose
reply has not come in time is thrown away with its connection (reference 6.2, 6.3).
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from pypmi.config.hardware import BoardPin
from pypmi.power.hardware import HardwareError, HardwareUnreachableError, HardwareUnsafeError

from esp8266_agent import pins
from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.packets import new_transaction
from esp8266_agent.protocol import RefusedError, ReplyError
from esp8266_agent.session import Session

logger = logging.getLogger(__name__)

TRIGGER_PERIOD: Final = 0.2
"""Seconds between two triggers of a long press at the most; at least half of it. The reference (6.2) takes 0.25 to 0.3;
less leaves more room for a reply that is late. Drawn anew each time, so that many presses at once spread."""
WATCH_PERIOD: Final = 0.3
"""Seconds between two looks at the status input during a press."""
GUARD: Final = 0.03
"""Seconds of doubt about the board's own timing: its 10 ms ticks, and some jitter."""
OPEN_SLACK: Final = 0.1
"""Seconds after which a pulse that should be over is over (late ticks while the board is busy)."""
SHORT_PRESS: Final = 4.0
"""Seconds: a shorter press is a short press to a machine, however short it gets (ATX: 4 s forces off)."""
RETRY_WAIT: Final = 3.0
"""Seconds after a lost reply within which the same transaction may be sent again."""

GetSession = Callable[[float], Awaitable[Session]]
"""Gives a session that works, within so many seconds; raises `HardwareError`s."""
Watch = Callable[[CommandLink, float], Awaitable[None]]
"""Looks at the status input between triggers; may take so many seconds. Raises as `CommandLink.ask`."""


class LapsedError(Exception):
    """The press ended before its time. `whole`: it was one, and lasted a pulse at least; else it may have been two."""

    def __init__(self, reason: str, *, whole: bool) -> None:
        super().__init__(reason)
        self.whole = whole


class Train:
    """One press of `relay`. The first trigger is the caller's, who knows how to send it at most once."""

    def __init__(self, relay: BoardPin, seconds: float, release: asyncio.Event, rng: random.Random) -> None:
        self._pulse = relay.pulse_ms / 1000
        self._longest = min(TRIGGER_PERIOD, self._pulse / 2)
        self._rng = rng
        self._period = self._longest
        self._seconds = seconds
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._on = pins.trigger(relay.pin, "on")
        self._off = pins.trigger(relay.pin, "off")
        self._last = self._watched = 0.0
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
            self.begun = self._watched = sent_at
        self._last = sent_at
        self._period = self._longest * self._rng.uniform(0.5, 1.0)

    async def hold(self, link: CommandLink, watch: Watch) -> None:
        """Keep the contact closed for the time asked for, then open it. `triggered` has been called.

        `watch` is called between triggers. Raises `LapsedError`. When cancelled, the board opens the contact within one
        pulse.
        """
        try:
            await self._prolong(link, watch)
        except (LinkError, ReplyError) as error:
            raise LapsedError(str(error), whole=False) from None
        finally:
            confirmed = await self._let_go(link)
        if not confirmed:  # perhaps the board has restarted in the middle of the pulse
            raise LapsedError(f"letting go was not confirmed ({link.error})", whole=False)

    async def _prolong(self, link: CommandLink, watch: Watch) -> None:
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
                raise LapsedError("the board or this host was too slow to prolong the pulse", whole=True)
            try:
                await link.ask(self._on, timeout=left, send_by=now + GUARD)
            except (LinkError, ReplyError) as error:
                if isinstance(error, LinkError) and not error.sent:
                    raise LapsedError(str(error), whole=link.error is None) from None
                self.open_by = self._loop.time() + self._pulse + OPEN_SLACK
                raise LapsedError(f"a trigger was not confirmed in time: {error}", whole=False) from None
            self.triggered(link.sent_at)
            now = self._loop.time()
            spare = self._last + self._pulse - GUARD - now
            if now - self._watched > WATCH_PERIOD and spare > 2 * link.round_trip + GUARD:
                self._watched = now
                await watch(link, spare)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._release.wait()

    async def _let_go(self, link: CommandLink) -> bool:
        if link.error is None:
            with contextlib.suppress(LinkError, ReplyError):  # then the board's timer does it
                await link.ask(self._off)
                self.open_by = self._loop.time()
                return True
        return False

    async def wait_open(self) -> None:
        """Return when the contact is open."""
        if self.open_by is not None:
            await asyncio.sleep(max(self.open_by - self._loop.time(), 0))


class TimedPress:
    """A whole press: the first trigger, at most once, and what follows it.

    Args:
        relay: in timer mode, known to be set up as it must be and at rest.
        get_session: for another try under the same transaction id.
        watch: between triggers.
        rng: for transaction ids.
        packets: whether the board knows packet mode.
    """

    def __init__(
        self, relay: BoardPin, get_session: GetSession, watch: Watch, rng: random.Random, *, packets: bool
    ) -> None:
        self._relay = relay
        self._get_session = get_session
        self._watch = watch
        self._rng = rng
        self._packets = packets
        self._loop = asyncio.get_running_loop()
        self._on = pins.trigger(relay.pin, "on")

    async def hold(self, session: Session, seconds: float, release: asyncio.Event) -> None:
        """See `ButtonHardware.press`."""
        train = Train(self._relay, seconds, release, self._rng)
        link = await self._first(session, train)
        try:
            await train.hold(link, self._watch)
        except LapsedError as error:
            await train.wait_open()
            text = f"the button was held for {train.held:.1f} s of {seconds:g} s, as far as is known: {error}"
            if not error.whole or link.error is not None or seconds >= SHORT_PRESS:
                raise HardwareUnreachableError(text, acted=True) from None
            logger.warning("%s; as a short press it counts all the same", text)

    async def _first(self, session: Session, train: Train) -> CommandLink:
        """Begin the press, once; returns the link to go on with."""
        transaction = new_transaction(self._rng)
        link = session.link
        began = self._loop.time()
        try:
            if self._packets:
                await link.ask_once(self._on, transaction)
            else:
                await link.ask(self._on)
        except RefusedError as error:
            raise HardwareUnsafeError(f"the board did not press: {error}") from None
        except (LinkError, ReplyError) as error:
            if isinstance(error, LinkError) and not error.sent:
                raise HardwareUnreachableError(f"the board does not answer: {error}") from None
            lost = str(error)
        else:
            train.triggered(link.sent_at)
            return link
        again = await self._repeat(transaction, began) if self._packets else None
        if again is None:
            train.triggered(began)
            await train.wait_open()
            text = f"the board may have pressed the button, its answer was lost ({lost})"
            raise HardwareUnreachableError(text, acted=True)
        train.triggered(again.sent_at)
        return again

    async def _repeat(self, transaction: int, began: float) -> CommandLink | None:
        """Send a trigger again whose reply was lost, under the same transaction id: the board acts on one of them only.

        None when it is not known to act now: it did the first time, or is away, or has started anew since `began`, when
        the first one was sent, and forgotten the id.
        """
        until = began + RETRY_WAIT
        try:
            again = await self._get_session(until - self._loop.time())
            if again.booted_at > began or self._loop.time() > until:
                return None
            await again.link.ask_once(self._on, transaction)
        except (HardwareError, LinkError, ReplyError):
            return None
        logger.info("the first trigger was lost on the way, the second arrived")
        return again.link
