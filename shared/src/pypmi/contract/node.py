"""What is said of a node and of a service: state, info, boot intent, identify, sensors, events."""

from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from pypmi.contract.base import (
    CONTRACT_VERSION,
    CommandId,
    ContractError,
    LongText,
    Payload,
    ShortText,
    Timestamp,
    new_id,
)
from pypmi.contract.power import ErrorCode

# The nodes of a fleet are much alike: what is equal in their infos is kept once, which saves a gateway a third of its
# memory. It is immutable, so nobody can tell.
_shared = AfterValidator(lru_cache(1024)(lambda value: value))
SensorKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Availability(StrEnum):
    """The whole payload of an `availability` topic, bare."""

    ONLINE = "online"
    OFFLINE = "offline"


class PowerState(StrEnum):
    """Sensed power. `unknown` is a state of its own: front ends answer it with an error, never with a guess."""

    ON = "on"
    """The status input says on."""
    OFF = "off"
    """The status input says off."""
    UNKNOWN = "unknown"
    """It can't be known now."""


class IdentifyState(StrEnum):
    """Of the locator light (IPMI 2.0 table 28-3, chassis identify state)."""

    OFF = "off"
    TIMED = "timed"
    ON = "on"


class NodeFault(Payload):
    """A standing problem with the node's power control, such as a button press that was not followed."""

    code: ErrorCode
    """For programs."""
    message: LongText
    """For people."""
    since: Timestamp
    """When it began."""


class NodeState(Payload):
    """The retained truth about a node's power, from its status input."""

    power: PowerState
    """Sensed."""
    target: Literal["on", "off"] | None = None
    """What an accepted command is heading for; null when idle."""
    action: ShortText | None = None
    """The command under way (`on`, `off`, `cycle` ...); null when idle."""
    since: Timestamp | None = None
    """When `power` last changed, as far as the agent has seen."""
    cause: ShortText | None = None
    """What changed `power` last: `command`, `external` (somebody pressed the real button), `unknown`."""
    last_action: ShortText | None = None
    """The last power action carried out (`on`, `off`, `cycle`, `reset`, `soft`, `diag`)."""
    fault: NodeFault | None = None
    """A standing problem; null when there is none."""
    identify: IdentifyState = IdentifyState.OFF
    """The locator light."""
    on_seconds: int = 0
    """Seconds this node has been on, all told, as far as the agent has seen (IPMI: power-on hours)."""
    at: Timestamp
    """When the agent said so."""
    epoch: ShortText
    """Of the agent's start that says so; what belongs to an older one is ignored."""
    seq: Annotated[int, Field(ge=0)] = 0
    """Counts the messages of one epoch, so that an older one that comes late is known as old."""


class Capability(StrEnum):
    """What a node can do. Power actions carry the words of `power/set`."""

    ON = "on"
    """Can be switched on."""
    OFF = "off"
    """Can be forced off."""
    CYCLE = "cycle"
    """Can be power cycled."""
    RESET = "reset"
    """Can be reset."""
    SOFT = "soft"
    """Can be asked to shut down."""
    DIAG = "diag"
    """Has an NMI button."""
    STATUS = "status"
    """`state.power` is sensed, not always unknown."""
    IDENTIFY = "identify"
    """Has a locator light."""
    BOOT = "boot"
    """Keeps a boot intent."""
    CONSOLE = "console"
    """Has a serial console."""


class SensorKind(StrEnum):
    """What a sensor measures; decides the IPMI sensor type and Home Assistant's device class."""

    TEMPERATURE = "temperature"
    """unit °C"""
    VOLTAGE = "voltage"
    """unit V"""
    CURRENT = "current"
    """unit A"""
    POWER = "power"
    """unit W"""
    FAN = "fan"
    """unit RPM"""
    SIGNAL = "signal"
    """unit dBm"""
    OTHER = "other"


class Thresholds(Payload):
    """Limits in the sensor's unit; absent ones are not watched (IPMI 2.0 section 35.9)."""

    lower_non_recoverable: float | None = None
    """Damage below this."""
    lower_critical: float | None = None
    """Critical below this."""
    lower_non_critical: float | None = None
    """A warning below this."""
    upper_non_critical: float | None = None
    """A warning above this."""
    upper_critical: float | None = None
    """Critical above this."""
    upper_non_recoverable: float | None = None
    """Damage above this."""


class SensorInfo(Payload):
    """One sensor of a node; its value stands on `sensors/<key>` as a number in text."""

    key: SensorKey
    """The tail of its topic."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """For people."""
    kind: SensorKind = SensorKind.OTHER
    """What it measures."""
    unit: Annotated[str, StringConstraints(max_length=16)] = ""
    """As in `°C`."""
    minimum: float | None = None
    """The least that can be read, for scaling; guessed from `kind` when absent."""
    maximum: float | None = None
    """The most that can be read."""
    thresholds: Thresholds = Thresholds()
    """Limits that are watched."""


class FruFields(Payload):
    """Inventory of the machine (IPMI Platform Management FRU Information, board and product areas)."""

    manufacturer: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Of the machine as a whole (product area)."""
    product: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The product's name."""
    part_number: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The product's part or model number."""
    serial: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The product's serial number."""
    version: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The product's version."""
    asset_tag: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The owner's own mark."""
    board_manufacturer: Annotated[str, StringConstraints(max_length=63)] | None = None
    """Of the main board."""
    board_product: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The main board's name."""
    board_serial: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The main board's serial number."""
    board_part_number: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The main board's part number."""
    chassis_part_number: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The case's part number."""
    chassis_serial: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The case's serial number."""


class NodeInfo(Payload):
    """What a node is and can do. Retained."""

    name: ShortText
    """For people."""
    agent: ShortText
    """The service name of its agent: look at `services/<agent>/availability` too."""
    driver: ShortText
    """The kind of hardware."""
    capabilities: Annotated[frozenset[Capability], _shared] = frozenset()
    """What it can do."""
    sensors: Annotated[tuple[SensorInfo, ...], Field(max_length=200), _shared] = ()
    """What stands on `sensors/<key>`."""
    console: bool = False
    """Whether there is a serial console."""
    fru: Annotated[FruFields, _shared] = FruFields()
    """Inventory."""
    firmware: ShortText | None = None
    """Of the relay board or the machine's BMC."""
    mac: ShortText | None = None
    """Of the network card that boots."""
    area: ShortText | None = None
    """Room or rack."""
    url: Annotated[str, StringConstraints(max_length=512)] | None = None
    """A page about the machine."""
    epoch: ShortText
    """Of the agent's start."""
    contract: int = CONTRACT_VERSION
    """Version of the contract that the agent speaks."""


class BootDevice(StrEnum):
    """Where to boot from (IPMI 2.0 table 28-14, boot flags, data 2)."""

    NONE = "none"
    PXE = "pxe"
    DISK = "disk"
    SAFE = "safe"
    DIAG = "diag"
    CDROM = "cdrom"
    BIOS = "bios"
    FLOPPY = "floppy"
    REMOTE_FLOPPY = "remote_floppy"
    REMOTE_CDROM = "remote_cdrom"
    REMOTE_MEDIA = "remote_media"
    REMOTE_DISK = "remote_disk"


_BOOT_WORDS = frozenset(device.value for device in BootDevice)


class BootRequest(Payload):
    """A `boot/set` payload: a JSON object, or the bare name of a device (one-shot). `none` clears."""

    device: BootDevice
    """Where to boot from; `none` clears."""
    persistent: bool = False
    """For every boot, not just the next one."""
    efi: bool = False
    """In UEFI mode."""
    source: ShortText | None = None
    """The program that asks."""
    user: ShortText | None = None
    """The person or account behind it."""

    @classmethod
    def parse(cls, payload: bytes) -> "BootRequest":
        """Read either form. Raises `ContractError`."""
        word = payload[:32].decode("utf-8", "replace").strip().lower() if len(payload) <= 32 else ""
        if word in _BOOT_WORDS:
            return cls(device=BootDevice(word))
        if not payload.lstrip().startswith(b"{"):
            raise ContractError(f"boot/set takes one of the words {' '.join(BootDevice)}, or a JSON object with device")
        return cls.from_payload(payload)


class BootIntent(Payload):
    """The retained boot intent of a node. One-shot intents become `none` at the next power-on or reset."""

    device: BootDevice = BootDevice.NONE
    """Where the machine is to boot from."""
    persistent: bool = False
    """For every boot, not just the next one."""
    efi: bool = False
    """In UEFI mode."""
    at: Timestamp | None = None
    """When it was set."""
    source: ShortText | None = None
    """The program that asked."""
    user: ShortText | None = None
    """The person or account behind it."""
    epoch: ShortText
    """Of the agent's start."""


class IdentifyRequest(Payload):
    """An `identify/set` payload: `on` (until told otherwise), `off`, or a number of seconds."""

    seconds: Annotated[int, Field(ge=0, le=86_400)] | None
    """None: until told otherwise. 0: off."""

    @classmethod
    def parse(cls, payload: bytes) -> "IdentifyRequest":
        """Read the payload. Raises `ContractError`."""
        word = payload[:16].decode("utf-8", "replace").strip().lower()
        if len(payload) <= 16:
            if word == "on":
                return cls(seconds=None)
            if word == "off":
                return cls(seconds=0)
            if word.isascii() and word.isdigit() and int(word) <= 86_400:
                return cls(seconds=int(word))
        raise ContractError("identify/set takes on, off, or a number of seconds from 0 to 86400")

    def to_payload(self) -> bytes:
        """The bare word or number."""
        return b"on" if self.seconds is None else b"off" if self.seconds == 0 else str(self.seconds).encode()


class EventType(StrEnum):
    """What happened. Source of SEL entries and of Home Assistant's event entity."""

    POWER_ON = "power_on"
    """It is on now."""
    POWER_OFF = "power_off"
    """It is off now."""
    POWER_CYCLE = "power_cycle"
    """Off and on again, by command."""
    RESET = "reset"
    """Reset by command."""
    SOFT_OFF = "soft_off"
    """The operating system was asked to shut down."""
    NMI = "nmi"
    """The NMI button was pressed."""
    POWER_FAULT = "power_fault"
    """A press was not followed, or the status contradicts itself."""
    FAULT_CLEARED = "fault_cleared"
    """The standing problem is over."""
    BOOT_SET = "boot_set"
    """The boot intent was changed."""
    BOOT_USED = "boot_used"
    """A one-shot boot intent was used up."""
    IDENTIFY = "identify"
    """The locator light was changed."""
    NODE_LOST = "node_lost"
    """The agent can't reach the hardware any more."""
    NODE_BACK = "node_back"
    """The hardware can be reached again."""
    CONSOLE_LOST = "console_lost"
    """The relay lost the console's port."""
    CONSOLE_BACK = "console_back"
    """The port is back."""
    SENSOR = "sensor"
    """A sensor crossed a threshold; `data` has key, value, threshold, asserted."""
    SEL = "sel"
    """An entry of the machine's own BMC; `data` has what it said."""
    REFUSED = "refused"
    """A command was refused for safety (retained, late, malformed)."""


class Event(Payload):
    """One thing that happened to a node. Not retained; the gateway keeps them as SEL."""

    id: CommandId = Field(default_factory=new_id)
    """The same event again, by a redelivery, has the same id."""
    type: EventType
    """What happened."""
    cause: ShortText = "unknown"
    """`command`, `external`, `watchdog`, `timer`, `hardware` or `unknown`."""
    source: ShortText | None = None
    """The program behind it, where there is one."""
    user: ShortText | None = None
    """The person or account behind it, where there is one."""
    message: LongText = ""
    """For people."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Details by type; at most 32 entries."""
    at: Timestamp
    """When it happened."""
    epoch: ShortText
    """Of the start of who says so."""

    @field_validator("data")
    @classmethod
    def _small(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) > 32:
            raise ValueError("at most 32 entries")
        return value


class ServiceKind(StrEnum):
    """The programs there are."""

    GATEWAY = "ipmi-gateway"
    ESP8266_AGENT = "esp8266-agent"
    RPI_GPIO_AGENT = "rpi-gpio-agent"
    BMC_AGENT = "bmc-agent"
    SOL_RELAY = "sol-relay"
    SIMULATOR = "simulator"
    TOOL = "tool"


class ServiceStats(Payload):
    """Numbers of a service that change. Retained, at most every few seconds; null where they mean nothing."""

    sessions: int | None = None
    """IPMI sessions that are open."""
    consoles: int | None = None
    """Consoles that are open."""
    nodes_online: int | None = None
    """Nodes that commands can reach."""
    epoch: ShortText
    """Of the service's start."""


class ServiceInfo(Payload):
    """Who is on the bus. Retained."""

    kind: ServiceKind
    """Which program it is."""
    version: ShortText
    """Of the program."""
    contract: int = CONTRACT_VERSION
    """Version of the contract that it speaks."""
    host: ShortText
    """The machine's host name."""
    started: Timestamp
    """When it started."""
    nodes: Annotated[tuple[ShortText, ...], Field(max_length=20_000)] = ()
    """Ids of the nodes that it serves."""
    epoch: ShortText
    """Random, new at each start."""
    url: Annotated[str, StringConstraints(max_length=512)] | None = None
    """A page about the service."""
    contract_seen: int = CONTRACT_VERSION
    """The newest contract that this service has seen another one speak: newer than `contract` asks for an update."""
