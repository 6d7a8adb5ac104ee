"""A board's timers: all of them end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """One-shot timers on the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handles: set[asyncio.TimerHandle] = set()

    @property
    def now(self) -> float:
        """The event loop's clock, seconds."""
        return self._loop.time()

    def after(self, delay: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls `action` in `delay` seconds."""
        return self.at(self.now + delay, action)

    def at(self, when: float, action: Callable[[], None]) -> asyncio.TimerHandle:
        """Calls `action` at `when`."""

        def run() -> None:
            self._handles.discard(handle)
            action()

        handle = self._loop.call_at(when, run)
        self._handles.add(handle)
        return handle

    def cancel(self, handle: asyncio.TimerHandle) -> None:
        """Cancels one timer."""
        handle.cancel()
        self._handles.discard(handle)

    def close(self) -> None:
        """Cancels all of them."""
        for handle in self._handles:
            handle.cancel()
        self._handles.clear()
