"""A machine that can only be woken: hardware type `wol`, without buttons and without a status input.

The runtime puts `WakeOnLan` (the node's `wake` part) and `HostProbe` (its `probe` part) beside it, as with any driver.
"""

import asyncio

from pypmi.contract import SensorInfo
from pypmi.power.hardware import Button, HardwareListener, HardwareUnsupportedError


class WakeOnlyHardware:
    """Implements `ButtonHardware` with nothing wired: always reachable, for nothing has to be reached."""

    driver = "wol"
    buttons: frozenset[Button] = frozenset()
    has_status = False
    sensors: tuple[SensorInfo, ...] = ()

    async def run(self, listener: HardwareListener) -> None:
        """Say once that the hardware is there; ends only when cancelled."""
        listener.on_reachable(True)
        await asyncio.get_running_loop().create_future()

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:  # noqa: ARG002
        """There is nothing to press: raises `HardwareUnsupportedError`."""
        raise HardwareUnsupportedError(f"no {button} button is wired; this machine can only be woken")

    async def read_status(self) -> bool | None:
        """None: there is no status input."""
        return None
