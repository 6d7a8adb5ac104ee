"""What happened to a node: the source of event logs."""

from enum import StrEnum
from typing import Any

from pydantic import Field, field_validator

from pypmi.contract.base import CommandId, LongText, Payload, ShortText, Timestamp, new_id


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
