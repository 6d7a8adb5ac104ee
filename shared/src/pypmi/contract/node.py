"""What is said of a node: availability, state, what it is and can do."""

from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from pypmi.contract.base import CONTRACT_VERSION, LongText, Payload, ShortText, Timestamp
from pypmi.contract.identify import IdentifyState
from pypmi.contract.power import ErrorCode
from pypmi.contract.sensor import SensorInfo

# The nodes of a fleet are much alike: what is equal in their infos is kept once, which saves a gateway a third of its
# memory. It is immutable, so nobody can tell.
_shared = AfterValidator(lru_cache(1024)(lambda value: value))


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
