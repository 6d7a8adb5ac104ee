"""Power commands and their results: the payloads that move hardware."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from pypmi.contract.base import CommandId, ContractError, LongText, Payload, ShortText, Timestamp, new_id

MAX_TTL_MS = 600_000
"""A command may wait ten minutes at the most; later than that nobody remembers having asked."""

DEFAULT_TTL_MS = 10_000
"""The life of a bare word, and of a JSON command that names none: as long as ipmitool waits for an answer."""


class PowerAction(StrEnum):
    """What can be asked of a node (IPMI 2.0 section 28.3, Chassis Control, has the same six)."""

    ON = "on"
    """Press power on a machine that is off; nothing on one that is on."""
    OFF = "off"
    """Hold power until the machine is off."""
    CYCLE = "cycle"
    """Off, wait, on. A machine that is off is switched on."""
    RESET = "reset"
    """Press reset; without a reset button a power cycle. Refused while off."""
    SOFT = "soft"
    """A short press: ask the operating system to shut down."""
    DIAG = "diag"
    """Press NMI. Refused while off."""


_WORDS = frozenset(action.value for action in PowerAction)


class CommandStatus(StrEnum):
    """How far a command has come. `accepted` is followed by `completed` or `failed`; the others are final at once."""

    ACCEPTED = "accepted"
    """Taken, and written to the journal. `completed` or `failed` follows."""
    COMPLETED = "completed"
    """Done, and the status input says so."""
    FAILED = "failed"
    """Tried, without success; `error` says why."""
    REJECTED = "rejected"
    """Not tried: wrong payload, unsupported, or busy."""
    EXPIRED = "expired"
    """Not tried: it came too late."""

    @property
    def final(self) -> bool:
        """Whether no further result follows."""
        return self is not CommandStatus.ACCEPTED


class ErrorCode(StrEnum):
    """Why a command was not carried out. A closed list; `message` has the details for people."""

    DEVICE_UNREACHABLE = "device_unreachable"
    """The agent can't reach the board, pin or BMC."""
    BUSY = "busy"
    """Another power action is under way."""
    UNSUPPORTED = "unsupported"
    """This hardware can't do that."""
    INVALID = "invalid"
    """A wrong payload, or an action that makes no sense now (reset of a machine that is off)."""
    EXPIRED = "expired"
    """Older than its life."""
    NOT_CONFIRMED = "not_confirmed"
    """The button was pressed, and the status input did not follow."""
    INTERRUPTED = "interrupted"
    """The agent ended in the middle. It is not done again."""


class CommandError(Payload):
    """The reason of a `failed`, `rejected` or `expired` result."""

    code: ErrorCode
    """For programs."""
    message: LongText
    """For people."""


class PowerCommand(Payload):
    """A request to move a node's power, from the gateway, Home Assistant, a script or a person."""

    id: CommandId
    """Chosen by the sender, unique. The same id again gets the recorded result, never a second press."""
    action: PowerAction
    """What to do."""
    issued_at: Timestamp | None = None
    """When the sender asked. With `ttl_ms`: the agent refuses the command after issued_at + ttl_ms."""
    ttl_ms: Annotated[int, Field(ge=1, le=MAX_TTL_MS)] | None = None
    """The command's life in milliseconds; 10,000 when absent."""
    reply_to: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """Where results go besides `power/result`; the same as MQTT 5's Response Topic, for 3.1.1 senders."""
    source: ShortText | None = None
    """The program that sent it, for the audit trail: `gateway`, `home-assistant`, a script's name."""
    user: ShortText | None = None
    """The person or account behind it, for the audit trail."""


class PowerResult(Payload):
    """What became of a command. Published for every command, also for those that are refused."""

    id: CommandId
    """Of the command."""
    node: ShortText
    """Whose result this is."""
    action: PowerAction | None
    """None only when the payload was too wrong to tell."""
    status: CommandStatus
    """How far the command has come."""
    power: str = "unknown"
    """The sensed power after the action: `on`, `off` or `unknown`; never what was asked for."""
    error: CommandError | None = None
    """Why not, where it was not carried out."""
    at: Timestamp
    """When the agent said so."""
    epoch: ShortText
    """Of the agent's start that says so."""
    note: LongText | None = None
    """What a person should know of a success, such as "no reset button: done as a power cycle"."""
    source: ShortText | None = None
    """Of the command."""
    user: ShortText | None = None
    """Of the command."""


def parse_power_command(payload: bytes) -> PowerCommand:
    """Read a `power/set` payload: a bare word in any case, or a JSON command.

    A bare word gets an id of its own; its life is the receiver's default (`DEFAULT_TTL_MS` from receipt).
    Raises `ContractError` that says what is wrong.
    """
    if len(payload) <= 16:
        word = payload.decode("utf-8", "replace").strip().lower()
        if word in _WORDS:
            return PowerCommand(id=new_id(), action=PowerAction(word))
    if not payload.lstrip().startswith(b"{"):
        words = " ".join(PowerAction)
        raise ContractError(f"power/set takes one of the words {words}, or a JSON object with id and action")
    return PowerCommand.from_payload(payload)
