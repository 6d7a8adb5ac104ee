"""Wake-on-LAN: a way to switch a machine on by its network card, for every agent (`PowerOn`).

A magic packet has no answer. Whether it worked shows on the status input, or on a probe (`pypmi.reach`).
"""

import asyncio
import logging

import wakeonlan

from pypmi.config.hardware import WakeSettings
from pypmi.power.hardware import HardwareUnreachableError

log = logging.getLogger(__name__)

REPEATS = 3
"""Copies of the packet: UDP may lose one, and a machine that is on ignores them."""
SEND_TIMEOUT = 5.0
"""Seconds for sending, which may include a slow name look-up."""


class WakeOnLan:
    """Sends magic packets as `settings` say. Implements `PowerOn`."""

    name = "wake-on-lan"

    def __init__(self, settings: WakeSettings) -> None:
        self._settings = settings

    async def power_on(self) -> None:
        """Send the packets. Raises `HardwareUnreachableError` when they can't be sent, and nothing was."""
        settings = self._settings
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                # in a thread: the library resolves names and sends synchronously
                await asyncio.to_thread(
                    wakeonlan.wake,
                    *[settings.mac] * REPEATS,
                    host=settings.broadcast,
                    port=settings.port,
                    interface=settings.interface,
                )
        except TimeoutError:
            text = f"the magic packet was not sent within {SEND_TIMEOUT:g} s; is {settings.broadcast} a name?"
            raise HardwareUnreachableError(text, acted=True) from None
        except OSError as error:
            hint = "" if settings.interface else "; on a host with several networks give `interface`"
            raise HardwareUnreachableError(
                f"the magic packet can't be sent to {settings.broadcast}:{settings.port}: "
                f"{error.strerror or error}{hint}"
            ) from None
        log.info("sent %d magic packets for %s to %s:%d", REPEATS, settings.mac, settings.broadcast, settings.port)
