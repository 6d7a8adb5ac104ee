"""What the agent and its worker processes say to each other: one JSON line for each request and each reply."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pypmi.contract import BootDevice, FruFields, PowerAction, SensorInfo

MAX_LINE = 4_194_304
"""Octets of one message; a full event log fits."""


class Trouble(StrEnum):
    """Why a request failed."""

    UNREACHABLE = "unreachable"
    """No answer, or the session is lost: start anew."""
    CREDENTIALS = "credentials"
    """The BMC refuses account, password, BMC key or privilege level."""
    OTHER_HASH = "other-hash"
    """The BMC goes on with another cipher suite than asked for: log in anew with `sha1`."""
    REFUSED = "refused"
    """The BMC answered with an error; the session is good."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Login(_Message):
    """First request: open the session."""

    op: Literal["login"] = "login"
    host: str
    port: int
    user: str
    password: str = Field(repr=False)
    kg: str | None = Field(default=None, repr=False)
    privilege: int
    """2 user, 3 operator, 4 administrator (IPMI 2.0 table 22-20)."""
    sha1: bool = False
    """Offer cipher suite 3 only, instead of 17 first."""


class ReadPower(_Message):
    """Answered with a bool."""

    op: Literal["read-power"] = "read-power"


class SetPower(_Message):
    """Pass a power action on."""

    op: Literal["set-power"] = "set-power"
    action: PowerAction


class SetBoot(_Message):
    """Pass a boot device on."""

    op: Literal["set-boot"] = "set-boot"
    device: BootDevice
    persistent: bool
    efi: bool


class Identify(_Message):
    """Locator light: seconds up to 255, 0 off, None until told otherwise."""

    op: Literal["identify"] = "identify"
    seconds: Annotated[int, Field(ge=0, le=255)] | None


class TakeInventory(_Message):
    """Answered with `Inventory`. May take a minute on a slow BMC."""

    op: Literal["take-inventory"] = "take-inventory"


class ReadSensors(_Message):
    """Answered with `Readings`."""

    op: Literal["read-sensors"] = "read-sensors"


class ReadEvents(_Message):
    """Answered with `EventLog`."""

    op: Literal["read-events"] = "read-events"


Request = Annotated[
    Login | ReadPower | SetPower | SetBoot | Identify | TakeInventory | ReadSensors | ReadEvents,
    Field(discriminator="op"),
]


class Reply(_Message):
    """The answer to a request."""

    trouble: Trouble | None = None
    text: str = ""
    """For people, when there is trouble."""
    result: Any = None


class Identity(_Message):
    """The answer to `Login`: what the BMC says of itself (Get Device ID)."""

    firmware: str
    manufacturer: int
    product: int


class Inventory(_Message):
    """What does not change while the machine is up."""

    fru: FruFields = FruFields()
    sensors: tuple[SensorInfo, ...] = ()


class Readings(_Message):
    """Sensor key to value; sensors that can't be read now are absent."""

    values: dict[str, float]


class LogEntry(_Message):
    """One record of the BMC's event log, newer than those of the last look."""

    record: int
    text: str
    sensor: str | None = None
    sensor_type: str | None = None
    asserted: bool = True
    severity: Literal["ok", "warning", "critical", "failed"] = "ok"
    value: float | None = None
    """What triggered a threshold event, as the raw octet of the record."""


class EventLog(_Message):
    """New records since the last look; the first look only finds the end of the log."""

    entries: tuple[LogEntry, ...] = ()
    cleared: bool = False
    """Somebody has cleared the log meanwhile."""
