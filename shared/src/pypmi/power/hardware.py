"""What power semantics ask of a hardware driver. A new kind of hardware is one class that has one of these shapes.

Two shapes: `ButtonHardware` moves buttons and reads a status input, and the power semantics turn an action into
presses; `ManagedHardware` understands actions itself, as a machine's own BMC does.
"""

import asyncio
from enum import StrEnum
from typing import Protocol, runtime_checkable

from pypmi.contract import BootDevice, Event, FruFields, PowerAction, SensorInfo


class Button(StrEnum):
    """Buttons on a machine's front panel header."""

    POWER = "power"
    RESET = "reset"
    NMI = "nmi"
    IDENTIFY = "identify"
    """A locator light, not a button: held for as long as it is to shine."""


class HardwareError(Exception):
    """The hardware could not do what was asked. The text is for people: it goes into the result."""


class HardwareUnreachableError(HardwareError):
    """The board or machine does not answer.

    `acted` tells whether the press may have begun all the same (the request was sent, its answer was lost): then
    nobody may simply try again.
    """

    def __init__(self, message: str, *, acted: bool = False) -> None:
        super().__init__(message)
        self.acted = acted


class HardwareUnsafeError(HardwareError):
    """The hardware is not set up as it must be for a safe press (wrong mode, wrong board); nothing was moved."""


class HardwareUnsupportedError(HardwareError):
    """This hardware has no such button or action."""


class HardwareListener(Protocol):
    """Where a driver's `run` tells what it sees. All calls are plain, from the event loop, and cheap."""

    def on_reachable(self, reachable: bool, reason: str = "") -> None:
        """The hardware answers, or does not any more and why. Repeating the same is harmless."""

    def on_status(self, on: bool | None) -> None:
        """The status input as just read, inversion applied, not debounced. None: it can't be read.

        Call it for every reading or edge, also when nothing has changed.
        """

    def on_sensor(self, key: str, value: float) -> None:
        """A new reading of one of `sensors`."""

    def on_firmware(self, version: str) -> None:
        """What runs on the board or BMC, for `info`. Makes the runtime look at the driver's properties again."""

    def on_restart(self, reason: str) -> None:
        """The board has restarted by itself; its outputs may have glitched: the button may have been pressed."""

    def on_event(self, event: Event) -> None:
        """Something that the hardware itself reports, such as an entry of a BMC's event log."""


class PowerOn(Protocol):
    """Another way to switch a machine on than its power button, such as Wake-on-LAN (`pypmi.wake`)."""

    @property
    def name(self) -> str:
        """For notes and logs, such as `wake-on-lan`."""

    async def power_on(self) -> None:
        """Send the wake-up, once. Must be harmless to a machine that is on. Raises `HardwareError`."""


class StatusProbe(Protocol):
    """Another way to know whether a machine is on than a wired status input, such as ping or a TCP port.

    `pypmi.power.probe.ProbedHardware` puts one beside a driver that has no status input.
    """

    @property
    def interval(self) -> float:
        """Seconds between two readings."""

    async def read_status(self) -> bool | None:
        """Whether the machine is on; None when it can't be known. Ends within a few seconds; does not raise."""


@runtime_checkable
class ButtonHardware(Protocol):
    """A driver of buttons and a status input.

    Whoever calls it keeps to this: one press of POWER, RESET or NMI at a time; a press of IDENTIFY and `read_status`
    may come at any moment, also while another press is under way. `run` is entered again after it has ended.
    """

    @property
    def driver(self) -> str:
        """Its name in `info`, such as `esp8266`."""

    @property
    def buttons(self) -> frozenset[Button]:
        """Those that are wired."""

    @property
    def has_status(self) -> bool:
        """Whether there is a status input."""

    @property
    def sensors(self) -> tuple[SensorInfo, ...]:
        """What it can measure besides."""

    async def run(self, listener: HardwareListener) -> None:
        """Keep in touch with the hardware and report what it shows, until cancelled.

        Starting, stopping and reconnecting never drive an output.
        """

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        """Hold `button` for `seconds`, or until `release` is set if that is earlier; return when it is let go.

        The button is let go whatever happens: on errors, on cancellation, and by the device's own timer where it has
        one. Must not repeat a press whose outcome it does not know, and must not wait for a lost board to come back:
        fail within a few seconds. `seconds` is up to 30, for IDENTIFY up to 86 400. Raises `HardwareUnreachableError`
        (`acted` False only when it is certain that nothing moved), `HardwareUnsafeError` (nothing moved) or
        `HardwareUnsupportedError` (nothing moved).
        """

    async def read_status(self) -> bool | None:
        """Read the status input now, inversion applied. Raises `HardwareUnreachableError`.

        Called every quarter of a second while an action is under way; a driver that can't read during a press returns
        what `run` saw last. None without a status input.
        """


@runtime_checkable
class ManagedHardware(Protocol):
    """A driver of a machine that understands power actions itself."""

    @property
    def driver(self) -> str:
        """Its name in `info`, such as `bmc`."""

    @property
    def actions(self) -> frozenset[PowerAction]:
        """What it can do."""

    @property
    def boot_devices(self) -> frozenset[BootDevice]:
        """What `set_boot` takes; empty where it can't."""

    @property
    def can_identify(self) -> bool:
        """Whether there is a locator light."""

    @property
    def sensors(self) -> tuple[SensorInfo, ...]:
        """What it can measure; may grow once `run` has talked to the machine (then `on_firmware` is called again)."""

    async def run(self, listener: HardwareListener) -> None:
        """Keep in touch and report, until cancelled."""

    async def power(self, action: PowerAction) -> None:
        """Pass the action on, once, and return when it was taken. Raises `HardwareError`s as `press` does.

        Retransmission below this call must be harmless (a BMC's own sequence numbers); it ends within some ten seconds.
        """

    async def read_status(self) -> bool | None:
        """Ask for the power state now. Raises `HardwareUnreachableError`."""

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool) -> None:
        """Pass a boot device on. Raises `HardwareError`s."""

    async def identify(self, seconds: int | None) -> None:
        """Locator light on for `seconds`, off (0), or on until told otherwise (None). Raises `HardwareError`s."""


@runtime_checkable
class HasInventory(Protocol):
    """A driver that can read what the machine is, as well. Call `on_firmware` when it has done so."""

    @property
    def fru(self) -> FruFields:
        """Inventory; what fleet.yaml says goes before it."""
