"""Keeps a port open: connects, notices the loss, tries again at growing, jittered intervals."""

import asyncio
import logging
import random
from collections.abc import Callable

from sol_relay.links import Link, LinkError, PortTarget, open_link

logger = logging.getLogger(__name__)

_FIRST_RETRY = 0.5
_LONGEST_RETRY = 5.0
_LONGEST_RETRY_LOCAL = 2.0
"""Seconds. A console that is back is shown within 10 s. Looking for a device file costs nothing."""
_STABLE = 10.0
"""Seconds a link must have held before the next loss is tried again at once."""


class Port:
    """One console's port.

    Args:
        target: where it is.
        on_open: called with each new link.
        on_lost: called with why there is none: after each loss, and after each failure to open that says another
            reason than the one before.
        on_close: called before a link is closed, for whatever reason: from then on it must not be touched.
    """

    def __init__(
        self,
        target: PortTarget,
        on_open: Callable[[Link], None],
        on_lost: Callable[[str], None],
        on_close: Callable[[], None],
        rng: random.Random | None = None,
    ) -> None:
        self._target = target
        self._on_open = on_open
        self._on_lost = on_lost
        self._on_close = on_close
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._lost: asyncio.Future[str] | None = None

    def lose(self, why: str) -> None:
        """The link in use has failed: close it and connect anew."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(why)

    async def run(self) -> None:
        """Work until cancelled; then close the link properly."""
        loop = asyncio.get_running_loop()
        longest = _LONGEST_RETRY_LOCAL if self._target.type == "serial" else _LONGEST_RETRY
        delay, said = _FIRST_RETRY, ""
        while True:
            try:
                link = await open_link(self._target)
                opened, said = loop.time(), ""
                await self._use(link)
                if loop.time() - opened > _STABLE:
                    delay = _FIRST_RETRY
            except LinkError as error:
                if str(error) != said:
                    said = str(error)
                    self._on_lost(said)
            except Exception as error:
                # one port's trouble must not end the others': said in full, and tried again
                logger.exception("%s: unexpected error", self._target)
                self._on_lost(f"internal error: {error}")
            await asyncio.sleep(delay * (0.5 + self._rng.random() / 2))
            delay = min(delay * 2, longest)

    async def _use(self, link: Link) -> None:
        """Hand the link out until it is lost."""
        self._lost = asyncio.get_running_loop().create_future()
        try:
            self._on_open(link)
            why = await self._lost
            self._on_lost(why)
        finally:
            self._lost = None
            self._on_close()
            await link.close()
