"""A node's locator light: on for a while, on until told otherwise, off."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pypmi.contract import IdentifyState
from pypmi.power.hardware import Button, ButtonHardware, HardwareError, ManagedHardware

logger = logging.getLogger(__name__)

_FOR_EVER = 86_400.0
"""Seconds that "until told otherwise" lasts on a relay that must be held; then it is held anew."""


class IdentifyDesk:
    """Works one node's light.

    Args:
        node: its id, for the log.
        hardware: the driver.
        on_state: called when the light's state changes.
    """

    def __init__(
        self, node: str, hardware: ButtonHardware | ManagedHardware, on_state: Callable[[IdentifyState], None]
    ) -> None:
        self._node = node
        self._hardware = hardware
        self._on_state = on_state
        self._wishes: asyncio.Queue[int | None] = asyncio.Queue(8)

    def wish(self, seconds: int | None) -> bool:
        """Take a request: seconds, 0 for off, None until told otherwise. False when too many wait."""
        try:
            self._wishes.put_nowait(seconds)
        except asyncio.QueueFull:
            return False
        return True

    async def run(self) -> None:
        """Work until cancelled; a light that is held is let go."""
        wish = await self._wishes.get()
        while True:
            if wish == 0:
                await self._tell(0)
                wish = await self._wishes.get()
                continue
            self._on_state(IdentifyState.ON if wish is None else IdentifyState.TIMED)
            heard: asyncio.Future[int | None] = asyncio.ensure_future(self._wishes.get())
            try:
                await self._shine(wish, heard)
                if not (heard.done() and heard.result() != 0):  # else it goes on, in another way
                    self._on_state(IdentifyState.OFF)
                wish = await heard
            except asyncio.CancelledError:
                heard.cancel()
                self._on_state(IdentifyState.OFF)
                raise

    async def _shine(self, seconds: int | None, heard: asyncio.Future[int | None]) -> None:
        """Light up until the time is over or the next wish is heard."""
        if isinstance(self._hardware, ManagedHardware):
            if await self._tell(seconds):  # and it counts the seconds itself
                await asyncio.wait({heard}, timeout=seconds)
            return
        release = asyncio.Event()
        held = asyncio.ensure_future(self._hold(self._hardware, seconds, release))
        either: set[asyncio.Future[Any]] = {held, heard}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            release.set()
            await asyncio.wait({held})

    async def _hold(self, hardware: ButtonHardware, seconds: int | None, release: asyncio.Event) -> None:
        try:
            while True:
                await hardware.press(Button.IDENTIFY, _FOR_EVER if seconds is None else float(seconds), release)
                if seconds is not None or release.is_set():
                    return
        except HardwareError as error:
            logger.warning("%s: identify: %s", self._node, error)
        except Exception:  # a driver's mistake must not end a power command that is under way
            logger.exception("%s: identify failed", self._node)

    async def _tell(self, seconds: int | None) -> bool:
        if not isinstance(self._hardware, ManagedHardware):
            return True
        try:
            await self._hardware.identify(seconds)
        except HardwareError as error:
            logger.warning("%s: identify: %s", self._node, error)
            return False
        except Exception:
            logger.exception("%s: identify failed", self._node)
            return False
        return True
