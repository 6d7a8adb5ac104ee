"""One BMC through pyghmi: synchronous, for a worker process of its own.

Why a process: pyghmi keeps all sessions of a process in module globals and lets any caller's thread run any
session's packets. Tried with 1.6.19: while one thread logs in to a dead BMC, a login to a living one in another thread
takes as long (5 s) and fails; a BMC that answers oddly raises its error in another BMC's call.
"""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, TypeVar

from pyghmi import exceptions
from pyghmi.constants import Health
from pyghmi.ipmi import command as pyghmi_command
from pyghmi.ipmi.events import EventHandler
from pyghmi.ipmi.fru import FRU
from pyghmi.ipmi.private import session as pyghmi_session
from pypmi.contract import BootDevice, FruFields, PowerAction, Thresholds

from bmc_agent.messages import EventLog, Identity, Inventory, LogEntry, Login, Readings, Trouble
from bmc_agent.sensors import GET_SENSOR_THRESHOLDS, BmcSensor, decode_thresholds, describe, is_numeric

T = TypeVar("T")

ANSWER_TIMEOUT = 4.0
"""Seconds to wait for the answer to an action that is sent only once."""
MAX_NEW_EVENTS = 500
"""Records of one look at the event log; the rest comes with the next."""


FRU_PIECE, MAX_FRU = 16, 4096
"""Octets of FRU information read at once, and at all."""


class NetFn(IntEnum):
    """Network functions (IPMI 2.0 table 5-1)."""

    CHASSIS = 0x00
    STORAGE = 0x0A


class ChassisCommand(IntEnum):
    """IPMI 2.0 section 28."""

    CONTROL = 0x02
    IDENTIFY = 0x04
    SET_BOOT_OPTIONS = 0x08


class StorageCommand(IntEnum):
    """IPMI 2.0 sections 31 and 34."""

    GET_FRU_AREA_INFO = 0x10
    READ_FRU_DATA = 0x11
    GET_SEL_INFO = 0x40
    GET_SEL_ENTRY = 0x43


CHASSIS_CONTROL = {
    PowerAction.OFF: 0,
    PowerAction.ON: 1,
    PowerAction.CYCLE: 2,
    PowerAction.RESET: 3,
    PowerAction.DIAG: 4,
    PowerAction.SOFT: 5,
}
"""IPMI 2.0 table 28-4."""
REPEATABLE = frozenset({PowerAction.ON, PowerAction.OFF})
"""Actions that may reach the BMC twice without harm. The others are sent once, and never again when unanswered."""

BOOT_DEVICES = {
    BootDevice.NONE: 0,
    BootDevice.PXE: 1,
    BootDevice.DISK: 2,
    BootDevice.SAFE: 3,
    BootDevice.DIAG: 4,
    BootDevice.CDROM: 5,
    BootDevice.BIOS: 6,
    BootDevice.REMOTE_FLOPPY: 7,
    BootDevice.REMOTE_CDROM: 8,
    BootDevice.REMOTE_MEDIA: 9,
    BootDevice.REMOTE_DISK: 11,
    BootDevice.FLOPPY: 15,
}
"""Boot device selector (IPMI 2.0 table 28-14, parameter 5, data 2, bits 5:2)."""
BOOT_INFO_ACKNOWLEDGE = 3
BOOT_FLAGS = 5
BOOT_VALID, BOOT_PERSISTENT, BOOT_EFI = 0x80, 0x40, 0x20
KEEP_VALID_ON_TIMEOUT = 0x08
"""Parameter 3, bit 3: do not clear the flags when no command follows within 60 s."""
FIRST_ENTRY, LAST_ENTRY = 0x0000, 0xFFFF

CREDENTIAL_TEXTS = (
    "password",
    "name in RAKP2",
    "Invalid username",
    "wrong Kg",
    "integrity check value",
    "role",
    "privilege",
    "privelege",
)
"""Parts of pyghmi's texts for logins that the BMC refuses."""


@dataclass(frozen=True, slots=True)
class LogMark:
    """What changes when the event log does (Get SEL Info, IPMI 2.0 section 31.2)."""

    count: int
    added: int
    erased: int


class BmcError(Exception):
    """What went wrong, for the reply."""

    def __init__(self, trouble: Trouble, text: str) -> None:
        super().__init__(text)
        self.trouble = trouble


class BmcClient:
    """A session with one BMC. Methods raise `BmcError`."""

    def __init__(self, login: Login) -> None:
        self._where = f"BMC {login.host}:{login.port}"
        self._command = self._log_in(login)
        self._sensors: tuple[BmcSensor, ...] = ()
        self._last_record: int | None = None
        self._log_mark: LogMark | None = None
        self._log_known = False

    def _log_in(self, login: Login) -> Any:
        if login.sha1:
            _offer_sha1_only()
        try:
            return pyghmi_command.Command(
                bmc=login.host,
                userid=login.user,
                password=login.password,
                port=login.port,
                kg=login.kg,
                privlevel=login.privilege,
            )
        except struct.error:
            # pyghmi takes for granted that the BMC goes on with the suite asked for; fakebmc and VirtualBMC take 3
            raise BmcError(Trouble.OTHER_HASH, "the BMC goes on with another cipher suite") from None
        except exceptions.IpmiException as error:
            text = str(error)
            if any(part in text for part in CREDENTIAL_TEXTS):
                raise BmcError(
                    Trouble.CREDENTIALS, f"{self._where} refuses the login of {login.user!r}: {text}"
                ) from None
            if text in {"None", "timeout", ""}:
                text = "no answer (some BMCs do not answer to a wrong user name either)"
            raise BmcError(Trouble.UNREACHABLE, f"{self._where}: {text}") from None
        except OSError as error:
            raise BmcError(Trouble.UNREACHABLE, f"{self._where}: {error.strerror or error}") from None

    def log_out(self) -> None:
        """Close the session, as BMCs have few."""
        self._command.ipmi_session.logout()

    def keep_alive(self) -> None:
        """Do pyghmi's housekeeping. Call at least every ten seconds."""
        pyghmi_command.Command.wait_for_rsp(timeout=0)

    def identity(self) -> Identity:
        """Get Device ID."""
        data = self._raw(0x06, 0x01)
        if len(data) < 11:
            raise BmcError(Trouble.REFUSED, f"{self._where}: short answer to Get Device ID")
        return Identity(
            firmware=f"{data[2] & 0x7F}.{data[3]:02x}",
            manufacturer=int.from_bytes(data[6:9], "little") & 0xFFFFF,
            product=int.from_bytes(data[9:11], "little"),
        )

    # -- chassis ---------------------------------------------------------------------------------------------------

    def power(self) -> bool:
        """Get Chassis Status."""
        return bool(self._raw(NetFn.CHASSIS, 0x01)[0] & 1)

    def set_power(self, action: PowerAction) -> None:
        """Chassis Control."""
        data = (CHASSIS_CONTROL[action],)
        if action in REPEATABLE:
            self._raw(NetFn.CHASSIS, ChassisCommand.CONTROL, data)
        else:
            self._send_once(NetFn.CHASSIS, ChassisCommand.CONTROL, data)

    def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool) -> None:
        """Set System Boot Options: the boot flags, valid until used."""
        flags = 0
        if device is not BootDevice.NONE:
            flags = BOOT_VALID | (BOOT_PERSISTENT if persistent else 0) | (BOOT_EFI if efi else 0)
            try:
                self._raw(
                    NetFn.CHASSIS, ChassisCommand.SET_BOOT_OPTIONS, (BOOT_INFO_ACKNOWLEDGE, KEEP_VALID_ON_TIMEOUT)
                )
            except BmcError as error:
                if error.trouble is not Trouble.REFUSED:  # optional: without it the flags may last 60 s only
                    raise
        selector = BOOT_DEVICES[device] << 2
        self._raw(NetFn.CHASSIS, ChassisCommand.SET_BOOT_OPTIONS, (BOOT_FLAGS, flags, selector, 0, 0, 0))

    def identify(self, seconds: int | None) -> None:
        """Chassis Identify: up to 255 seconds, 0 off, None until told otherwise."""
        data = (0, 1) if seconds is None else (seconds,)
        self._raw(NetFn.CHASSIS, ChassisCommand.IDENTIFY, data)

    # -- inventory, sensors, events --------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        """Read the sensor records, their thresholds, and FRU 0."""
        repository = self._guard(self._command.init_sdr)
        records = [repository.sensors[number] for number in repository.get_sensor_numbers()]
        thresholds = {
            position: self._thresholds(record) for position, record in enumerate(records) if is_numeric(record)
        }
        self._sensors = describe(records, thresholds)
        return Inventory(fru=self._fru(), sensors=tuple(sensor.info for sensor in self._sensors))

    def _thresholds(self, record: Any) -> Thresholds:
        if not record.has_thresholds:
            return Thresholds()
        try:
            data = self._raw(*GET_SENSOR_THRESHOLDS, (record.sensor_number,), lun=record.sensor_lun)
        except BmcError as error:
            if error.trouble is not Trouble.REFUSED:
                raise
            return Thresholds()
        return decode_thresholds(data, record, self._command)

    def _fru(self) -> FruFields:
        try:
            image = self._fru_image()
            fields = self._guard(lambda: FRU(rawdata=image).info) if image else {}
        except BmcError as error:
            if error.trouble is not Trouble.REFUSED:
                raise
            return FruFields()  # no FRU, or one that can't be parsed
        return fru_fields(fields or {})

    def _fru_image(self) -> bytes:
        """FRU 0 in small pieces: pyghmi asks for 224 octets and gives up at some of BMCs' errors for that."""
        info = self._raw(NetFn.STORAGE, StorageCommand.GET_FRU_AREA_INFO, (0,))
        size = min(int.from_bytes(info[:2], "little"), MAX_FRU)
        image = b""
        while len(image) < size:
            wanted = min(FRU_PIECE, size - len(image))
            request = struct.pack("<BHB", 0, len(image), wanted)
            data = self._raw(NetFn.STORAGE, StorageCommand.READ_FRU_DATA, tuple(request))
            if len(data) < 2:
                break
            image += data[1 : 1 + wanted]
        return image

    def readings(self) -> Readings:
        """Read every sensor once. Those that are not there or not ready are left out."""
        values: dict[str, float] = {}
        for sensor in self._sensors:
            record = sensor.record
            try:
                data = self._raw(0x04, 0x2D, (record.sensor_number,), lun=record.sensor_lun)
                if len(data) < 3:
                    continue
                reading = self._guard(partial(record.decode_sensor_reading, self._command, data))
            except BmcError as error:
                if error.trouble is Trouble.REFUSED:
                    continue
                raise
            if reading.value is not None and not reading.unavailable:
                values[sensor.info.key] = round(reading.value, 3)
        return Readings(values=values)

    def events(self) -> EventLog:
        """What is new in the event log since the last call. The first call only finds its end."""
        info = self._raw(NetFn.STORAGE, StorageCommand.GET_SEL_INFO)
        if len(info) < 13:
            raise BmcError(Trouble.REFUSED, f"{self._where}: short answer to Get SEL Info")
        mark = LogMark(*struct.unpack_from("<HxxII", info, 1))
        if mark == self._log_mark:
            return EventLog()
        first, self._log_known = not self._log_known, True
        cleared = not first and self._log_mark is not None and self._log_mark.erased != mark.erased
        self._log_mark = mark
        if cleared or not mark.count:
            self._last_record = None
        if not mark.count:
            return EventLog(cleared=cleared)
        if first:
            self._last_record, _, _ = self._read_sel(LAST_ENTRY)
            return EventLog()
        entries = self._new_entries()
        if len(entries) == MAX_NEW_EVENTS:
            self._log_mark = None  # there may be more: look again, whatever the mark says
        return EventLog(entries=tuple(entries), cleared=cleared)

    def _new_entries(self) -> list[LogEntry]:
        decoder = EventHandler(self._guard(self._command.init_sdr), self._command)
        following = FIRST_ENTRY
        if self._last_record is not None:
            try:
                _, following, _ = self._read_sel(self._last_record)
            except BmcError as error:
                if error.trouble is not Trouble.REFUSED:
                    raise
                following = FIRST_ENTRY  # that record is gone
        entries: list[LogEntry] = []
        while following != LAST_ENTRY and len(entries) < MAX_NEW_EVENTS:
            self._last_record, following, raw = self._read_sel(following)
            event = self._guard(partial(decoder._sel_decode, raw))
            entries.append(log_entry(event, self._last_record))
        return entries

    def _read_sel(self, record: int) -> tuple[int, int, bytearray]:
        """One record: its id, the id of the one that follows (FFFFh: none), its 16 octets."""
        request = struct.pack("<HHBB", 0, record, 0, 0xFF)
        data = self._raw(NetFn.STORAGE, StorageCommand.GET_SEL_ENTRY, tuple(request))
        if len(data) < 18:
            raise BmcError(Trouble.REFUSED, f"{self._where}: short record in the event log")
        return int.from_bytes(data[2:4], "little"), int.from_bytes(data[0:2], "little"), bytearray(data[2:18])

    # -- pyghmi ----------------------------------------------------------------------------------------------------

    def _guard(self, function: Callable[[], T]) -> T:
        """Call into pyghmi and turn what it raises into `BmcError`."""
        try:
            return function()
        except exceptions.IpmiException as error:
            lost = error.ipmicode in {None, 0xFFFF} and _is_lost(str(error))
            trouble = Trouble.UNREACHABLE if lost else Trouble.REFUSED
            raise BmcError(trouble, f"{self._where}: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
            # pyghmi stumbles over malformed answers in many ways; the session is good all the same
            raise BmcError(Trouble.REFUSED, f"{self._where}: answer not understood ({error!r})") from None

    def _raw(self, netfn: int, command: int, data: tuple[int, ...] = (), lun: int = 0) -> bytes:
        """Send a request, with pyghmi's repetitions, and return the response data. Raises for completion codes."""
        response = self._guard(lambda: self._command.xraw_command(netfn=netfn, command=command, data=data, rslun=lun))
        return bytes(response["data"])

    def _send_once(self, netfn: int, command: int, data: tuple[int, ...]) -> None:
        """Send one datagram and wait for its answer; never send it again, nor after a new login as pyghmi would.

        No answer is `UNREACHABLE`: the BMC may have done it.
        """
        session = self._command.ipmi_session
        answers: list[dict[str, Any]] = []
        try:
            self._guard(
                lambda: session.raw_command(
                    netfn=netfn, command=command, data=data, retry=False, callback=answers.append
                )
            )
            deadline = time.monotonic() + ANSWER_TIMEOUT
            while not answers and (left := deadline - time.monotonic()) > 0:
                pyghmi_session.Session.wait_for_rsp(timeout=left)
        finally:
            session.incommand = False
            while session.evq:
                session.evq.popleft().set()
        if not answers:
            raise BmcError(Trouble.UNREACHABLE, f"{self._where}: no answer within {ANSWER_TIMEOUT:g} s")
        code = answers[0].get("code", 0xFFFF)
        if code:
            raise BmcError(Trouble.REFUSED, f"{self._where} refuses: completion code {code:#04x}")


def _is_lost(text: str) -> bool:
    return text in {"None", "", "timeout"} or "no longer connected" in text


def _offer_sha1_only() -> None:
    """Make pyghmi propose cipher suite 3 from the start, in this process. It has no argument for that."""
    original = pyghmi_session.Session._initsession

    def init_with_sha1(session: Any) -> None:
        original(session)  # type: ignore[no-untyped-call]
        session.attemptedhash = 1

    pyghmi_session.Session._initsession = init_with_sha1  # type: ignore[method-assign]


_FRU_NAMES = {
    "manufacturer": "Manufacturer",
    "product": "Product name",
    "part_number": "Model",
    "serial": "Serial Number",
    "version": "Hardware Version",
    "asset_tag": "Asset Number",
    "board_manufacturer": "Board manufacturer",
    "board_product": "Board product name",
    "board_serial": "Board serial number",
    "board_part_number": "Board model",
    "chassis_part_number": "Chassis part number",
    "chassis_serial": "Chassis serial number",
}


def fru_fields(inventory: dict[str, object]) -> FruFields:
    """The contract's inventory from pyghmi's names for FRU fields."""
    found = {}
    for field, name in _FRU_NAMES.items():
        value = inventory.get(name)
        if isinstance(value, str) and value.strip("\0 "):
            found[field] = value.strip("\0 ")[:63]
    return FruFields(**found)


def log_entry(event: dict[str, Any], record: int) -> LogEntry:
    """An event log record as pyghmi decodes it."""
    severity = event.get("severity", Health.Ok)
    what = event.get("event") or (f"OEM record {bytes(event['oemdata']).hex()}" if "oemdata" in event else "event")
    sensor = event.get("component")
    details = event.get("event_data")
    text = ": ".join(str(part) for part in (sensor, what, details) if part)
    if event.get("deassertion"):
        text += " (no longer)"
    value = event.get("triggered_value")
    return LogEntry(
        record=record,
        text=text[:1000],
        sensor=str(sensor)[:64] if sensor else None,
        sensor_type=str(event["component_type"])[:64] if event.get("component_type") else None,
        asserted=not event.get("deassertion", False),
        severity="failed"
        if severity & Health.Failed
        else "critical"
        if severity & Health.Critical
        else "warning"
        if severity & Health.Warning
        else "ok",
        value=float(value) if isinstance(value, int | float) else None,
    )
