"""A probe of the machine's network in the place of a status input that is not wired.

It is the operating system that answers a probe. While the machine starts it says off, and the patience after a press
must last until the system is up (`patient`).
"""

import asyncio

from pypmi.config.power import PowerSettings
from pypmi.contract import SensorInfo
from pypmi.power.hardware import Button, ButtonHardware, HardwareListener, StatusProbe

_FRESH = 1.0
"""Seconds for which an answer is good enough while an action is under way."""
_PATIENCE = {"on_grace": 120.0, "off_grace": 30.0, "soft_patience": 60.0}
"""Instead of the defaults, which are for a light on the front panel."""


def patient(settings: PowerSettings) -> PowerSettings:
    """The durations for a node whose state a probe tells: longer where fleet.yaml does not give them."""
    longer = {name: value for name, value in _PATIENCE.items() if name not in settings.model_fields_set}
    return settings.model_copy(update=longer)


class ProbedHardware:
    """A `ButtonHardware` with a `StatusProbe` for its status input.

    Args:
        hardware: without a status input of its own.
        probe: asked every `probe.interval` seconds, and every second while an action is under way.
    """

    def __init__(self, hardware: ButtonHardware, probe: StatusProbe) -> None:
        self._hardware = hardware
        self._probe = probe
        self._asking = asyncio.Lock()
        self._last: bool | None = None
        self._last_at = float("-inf")

    @property
    def driver(self) -> str:
        """That of the hardware."""
        return self._hardware.driver

    @property
    def buttons(self) -> frozenset[Button]:
        """Those of the hardware."""
        return self._hardware.buttons

    @property
    def has_status(self) -> bool:
        """The probe tells."""
        return True

    @property
    def sensors(self) -> tuple[SensorInfo, ...]:
        """Those of the hardware."""
        return self._hardware.sensors

    async def run(self, listener: HardwareListener) -> None:
        """Run the hardware and the probe until cancelled."""
        hardware = asyncio.ensure_future(self._hardware.run(listener))
        probing = asyncio.ensure_future(self._run_probe(listener))
        try:
            await asyncio.wait({hardware, probing}, return_when=asyncio.FIRST_COMPLETED)
            for done in (hardware, probing):
                if done.done():
                    done.result()  # raises what it failed with
        finally:
            hardware.cancel()
            probing.cancel()
            await asyncio.gather(hardware, probing, return_exceptions=True)

    async def _run_probe(self, listener: HardwareListener) -> None:
        while True:
            listener.on_status(await self._ask())
            await asyncio.sleep(self._probe.interval)

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        """Press on the hardware."""
        await self._hardware.press(button, seconds, release)

    async def read_status(self) -> bool | None:
        """What the probe says, not older than a second."""
        return await self._ask(_FRESH)

    async def _ask(self, fresh: float = 0.0) -> bool | None:
        async with self._asking:
            loop = asyncio.get_running_loop()
            if loop.time() - self._last_at >= fresh:
                self._last = await self._probe.read_status()
                self._last_at = loop.time()
            return self._last
