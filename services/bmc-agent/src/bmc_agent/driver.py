"""The driver for machines that have a BMC of their own: two sessions with it, each in a worker process.

One session is for power, boot device and light, so that they never wait; the other reads sensors, inventory and event
log, which takes some BMCs a minute.
"""

import asyncio
import logging
import random
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pypmi.config.hardware import BmcHardware
from pypmi.config.secrets import SecretError
from pypmi.contract import BootDevice, Event, EventType, FruFields, PowerAction, SensorInfo, new_id, utc_now
from pypmi.power.hardware import HardwareError, HardwareListener, HardwareUnreachableError

from bmc_agent.client import BOOT_DEVICES, BmcError
from bmc_agent.messages import (
    EventLog,
    Identify,
    Identity,
    Inventory,
    LogEntry,
    Login,
    ReadEvents,
    Readings,
    ReadPower,
    ReadSensors,
    Request,
    SetBoot,
    SetPower,
    TakeInventory,
    Trouble,
)
from bmc_agent.process import BmcProcess

log = logging.getLogger(__name__)

T = TypeVar("T", Inventory, Readings, EventLog)

ANSWER_TIMEOUT = 8.0
"""Seconds for power, boot device and light: pyghmi repeats for some of them, then logs in anew once."""
CHORE_TIMEOUT = 180.0
"""Seconds for inventory, sensors and event log."""
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""Shortest and longest wait, in seconds, before a BMC that does not answer is tried again."""
CREDENTIALS_RETRY = 300.0
"""Seconds before a login that was refused is tried again: BMCs lock accounts out."""
LONGEST_IDENTIFY = 255
"""Seconds that a BMC can time by itself."""
PRIVILEGES = {"user": 2, "operator": 3, "administrator": 4}
"""IPMI 2.0 table 22-20."""


class BmcDriver:
    """Implements `ManagedHardware` for one BMC. `base` is where relative paths of secret files start."""

    driver = "bmc"
    actions = frozenset(PowerAction)
    boot_devices = frozenset(BOOT_DEVICES)
    can_identify = True

    def __init__(
        self, settings: BmcHardware, name: str, epoch: str, context: ForkServerContext, base: Path | None = None
    ) -> None:
        self._settings = settings
        self._name = name
        self._epoch = epoch
        self._context = context
        self._base = base
        self._control: BmcProcess | None = None
        self._why_not = "not connected yet"
        self._dark_at: float | None = None
        self.sensors: tuple[SensorInfo, ...] = ()
        self.fru = FruFields()

    # -- staying in touch ------------------------------------------------------------------------------------------

    async def run(self, listener: HardwareListener) -> None:
        """Log in, read the power state and do the chores; log in anew when the session is lost."""
        wait = RETRY_FIRST
        while True:
            try:
                control, identity = await self._log_in()
                wait = RETRY_FIRST
                await self._serve(control, identity, listener)
            except (BmcError, SecretError, ValidationError) as error:
                self._why_not = str(error)
                refused = isinstance(error, BmcError) and error.trouble is Trouble.CREDENTIALS
                pause = CREDENTIALS_RETRY if refused else wait * random.uniform(0.8, 1.2)  # noqa: S311  no secret
                wait = min(wait * 2, RETRY_LAST)
                log.warning("%s: %s; trying again in %.0f s", self._name, error, pause)
                listener.on_reachable(False, str(error))
                listener.on_status(None)
                await asyncio.sleep(pause)

    async def _log_in(self) -> tuple[BmcProcess, Identity]:
        settings = self._settings
        login = Login(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=await asyncio.to_thread(settings.password.read, self._base),
            kg=None if settings.kg is None else await asyncio.to_thread(settings.kg.read, self._base),
            privilege=PRIVILEGES[settings.privilege],
        )
        process, answer = await BmcProcess.open(login, self._context)
        return process, Identity.model_validate(answer)

    async def _serve(self, control: BmcProcess, identity: Identity, listener: HardwareListener) -> None:
        firmware = f"BMC {identity.firmware} (manufacturer {identity.manufacturer}, product {identity.product})"
        self._control = control
        chores = asyncio.create_task(self._do_chores(firmware, listener), name=f"{self._name} chores")
        try:
            listener.on_status(await self._read_power(control))
            listener.on_reachable(True)
            listener.on_firmware(firmware)
            while True:
                await asyncio.sleep(self._settings.poll_interval)
                listener.on_status(await self._read_power(control))
                await self._darken(control)
                if chores.done():
                    chores.result()
        finally:
            self._control = None
            self._why_not = "the session is closed"
            chores.cancel()
            await asyncio.gather(chores, control.close(), return_exceptions=True)

    async def _read_power(self, control: BmcProcess) -> bool:
        return bool(await control.ask(ReadPower(), ANSWER_TIMEOUT))

    # -- chores ----------------------------------------------------------------------------------------------------

    async def _do_chores(self, firmware: str, listener: HardwareListener) -> None:
        """Keep a session for the slow things. What goes wrong here is logged; power works on without."""
        wait = RETRY_FIRST
        while True:
            try:
                watch, _ = await self._log_in()
                try:
                    wait = RETRY_FIRST
                    await self._watch(watch, firmware, listener)
                finally:
                    await watch.close()
            except (BmcError, SecretError, ValidationError) as error:
                log.warning("%s: no sensors and events for now: %s", self._name, error)
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311  no secret
            wait = min(wait * 2, RETRY_LAST)

    async def _watch(self, watch: BmcProcess, firmware: str, listener: HardwareListener) -> None:
        inventory = await self._chore(watch, TakeInventory(), Inventory)
        if inventory is not None:
            self.sensors, self.fru = inventory.sensors, inventory.fru
            listener.on_firmware(firmware)
        loop = asyncio.get_running_loop()
        sensors_at = events_at = loop.time()
        while True:
            if loop.time() >= sensors_at:
                sensors_at = loop.time() + self._settings.sensor_interval
                readings = await self._chore(watch, ReadSensors(), Readings)
                for key, value in (readings or Readings(values={})).values.items():
                    listener.on_sensor(key, value)
            if loop.time() >= events_at:
                events_at = loop.time() + self._settings.sel_interval
                news = await self._chore(watch, ReadEvents(), EventLog)
                for event in self._events(news or EventLog()):
                    listener.on_event(event)
            await asyncio.sleep(max(0.0, min(sensors_at, events_at) - loop.time()))

    async def _chore(self, watch: BmcProcess, request: Request, answer: type[T]) -> T | None:
        """The answer; None when the BMC refuses, as those do that have no event log or sensors."""
        try:
            return answer.model_validate(await watch.ask(request, CHORE_TIMEOUT))
        except BmcError as error:
            if error.trouble is not Trouble.REFUSED:
                raise
            log.info("%s: %s: %s", self._name, request.op, error)
            return None

    def _events(self, news: EventLog) -> list[Event]:
        found = []
        if news.cleared:
            found.append(self._event("the BMC's event log was cleared", {}))
        found += [self._event(entry.text, _details(entry)) for entry in news.entries]
        return found

    def _event(self, message: str, data: dict[str, object]) -> Event:
        return Event(
            id=new_id(),
            type=EventType.SEL,
            cause="hardware",
            source="bmc",
            message=message[:1024],
            data=data,
            at=utc_now(),
            epoch=self._epoch,
        )

    # -- actions ---------------------------------------------------------------------------------------------------

    async def power(self, action: PowerAction) -> None:
        """Pass the action on; see `ManagedHardware.power`."""
        await self._ask(SetPower(action=action))

    async def read_status(self) -> bool | None:
        """Ask for the power state now. Raises `HardwareUnreachableError`."""
        try:
            return bool(await self._ask(ReadPower()))
        except HardwareUnreachableError:
            raise
        except HardwareError as error:
            raise HardwareUnreachableError(str(error)) from None

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool) -> None:
        """Pass a boot device on. Raises `HardwareError`s."""
        await self._ask(SetBoot(device=device, persistent=persistent, efi=efi))

    async def identify(self, seconds: int | None) -> None:
        """Locator light; what is longer than a BMC can time is switched off from here. Raises `HardwareError`s."""
        self._dark_at = None
        if seconds is not None and seconds > LONGEST_IDENTIFY:
            await self._ask(Identify(seconds=None))
            self._dark_at = asyncio.get_running_loop().time() + seconds
        else:
            await self._ask(Identify(seconds=seconds))

    async def _darken(self, control: BmcProcess) -> None:
        if self._dark_at is not None and asyncio.get_running_loop().time() >= self._dark_at:
            self._dark_at = None
            await control.ask(Identify(seconds=0), ANSWER_TIMEOUT)

    async def _ask(self, request: Request) -> object:
        control = self._control
        if control is None:
            raise HardwareUnreachableError(self._why_not)
        try:
            return await control.ask(request, ANSWER_TIMEOUT)
        except BmcError as error:
            if error.trouble is Trouble.UNREACHABLE:
                raise HardwareUnreachableError(str(error), acted=not isinstance(request, ReadPower)) from None
            raise HardwareError(str(error)) from None


def _details(entry: LogEntry) -> dict[str, object]:
    return entry.model_dump(mode="json", exclude={"text"}, exclude_none=True)
