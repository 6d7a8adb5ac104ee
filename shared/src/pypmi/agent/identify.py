"""A node's locator light: on for a while, on until told otherwise, off."""

import asyncio
import logging
from collections.abc import Callable

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
        wish: int | None = 0
        while True:
            if wish == 0:
                wish = await self._wishes.get()
                if wish == 0 and isinstance(self._hardware, ManagedHardware):
                    await self._tell(0)
                continue
            next_wish = await self._shine(wish)
            if next_wish == 0 and isinstance(self._hardware, ManagedHardware):
                await self._tell(0)
            wish = next_wish

    async def _shine(self, seconds: int | None) -> int | None:
        """Light up; return the next wish, or 0 when the time is over."""
        self._on_state(IdentifyState.ON if seconds is None else IdentifyState.TIMED)
        try:
            if isinstance(self._hardware, ManagedHardware):
                return await self._shine_managed(seconds)
            return await self._shine_held(self._hardware, seconds)
        finally:
            self._on_state(IdentifyState.OFF)

    async def _shine_managed(self, seconds: int | None) -> int | None:
        if not await self._tell(seconds):
            return 0
        try:
            async with asyncio.timeout(seconds):
                return await self._wishes.get()
        except TimeoutError:
            return 0

    async def _shine_held(self, hardware: ButtonHardware, seconds: int | None) -> int | None:
        release = asyncio.Event()
        held = asyncio.create_task(self._hold(hardware, seconds, release))
        heard = asyncio.create_task(self._wishes.get())
        try:
            await asyncio.wait({held, heard}, return_when=asyncio.FIRST_COMPLETED)
            return heard.result() if heard.done() else 0
        finally:
            release.set()
            if not heard.done():
                heard.cancel()
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
