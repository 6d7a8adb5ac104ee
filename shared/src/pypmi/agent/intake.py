"""Judges a `power/set` message as it comes in: retained, readable, in time, and where its answers may go.

Pure: both clocks are arguments.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime

from pypmi.bus import Message
from pypmi.contract import (
    CommandError,
    CommandStatus,
    ContractError,
    ErrorCode,
    PowerAction,
    PowerCommand,
    TopicKind,
    Topics,
    new_id,
    parse_power_command,
)
from pypmi.contract.power import DEFAULT_TTL_MS

CLOCK_TOLERANCE = 5.0
"""Seconds by which a sender's clock may be ahead of ours."""
_MAX_CORRELATION = 1024
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Request:
    """A readable command."""

    command: PowerCommand
    deadline: float
    """Local monotonic time after which it must not be begun."""
    reply_to: str | None
    correlation: bytes | None
    late: str = ""
    """Why it must not be carried out although it can be read: it is late, or the clocks disagree. Empty: it may."""
    late_status: CommandStatus = CommandStatus.EXPIRED


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that is no command, or one that must not be obeyed. It is not journalled."""

    id: str
    action: PowerAction | None
    error: CommandError
    reply_to: str | None
    correlation: bytes | None
    source: str | None = None
    user: str | None = None


def judge(
    message: Message, topics: Topics, wall: datetime, now: float, waited: float = 0.0
) -> Request | Refusal | None:
    """Judge a message; None when it is nothing at all (a retained topic that is being cleared).

    Args:
        message: from the node's `power/set`.
        topics: to check where answers may go.
        wall: the wall clock.
        now: the monotonic clock.
        waited: seconds that the message may have lain in this host's buffers.
    """
    if message.retain and not message.payload:
        return None
    correlation = message.correlation
    if correlation is not None and len(correlation) > _MAX_CORRELATION:
        correlation = None
    try:
        command = parse_power_command(message.payload)
    except ContractError as error:
        said = CommandError(code=ErrorCode.INVALID, message=str(error)[:1024])
        return Refusal(_id_in(message.payload), None, said, allowed_reply(message.response_topic, topics), correlation)
    reply_to = allowed_reply(message.response_topic or command.reply_to, topics)
    if message.retain:
        said = CommandError(
            code=ErrorCode.INVALID,
            message="retained: a command must never be kept by the broker; send it without the retain flag"
            " and clear the topic",
        )
        return Refusal(command.id, command.action, said, reply_to, correlation, command.source, command.user)
    ttl = (command.ttl_ms or DEFAULT_TTL_MS) / 1000
    if command.issued_at is None:
        late = ""
        if waited > ttl:
            late = f"this agent stood still for {_span(waited)}; it is not known when the command was sent"
        return Request(command, now + ttl - waited, reply_to, correlation, late)
    age = (wall - command.issued_at).total_seconds()
    if age < -CLOCK_TOLERANCE:
        late = f"issued {_span(-age)} in the future: the clocks of the sender and of this agent disagree; set them"
        return Request(command, now, reply_to, correlation, late, CommandStatus.REJECTED)
    if age > ttl:
        late = (
            f"issued {_span(age)} ago, with a life of {ttl:g} s: it was held up on its way,"
            " or the clocks of the sender and of this agent disagree"
        )
        return Request(command, now, reply_to, correlation, late)
    return Request(command, now + min(ttl, ttl - age), reply_to, correlation)


def allowed_reply(topic: str | None, topics: Topics) -> str | None:
    """`topic` if results may go there: the reply topic of a service of this fleet.

    Anything else could make the agent write where its account may and the sender's may not.
    """
    if not topic:
        return None
    try:
        return topic if topics.parse(topic).kind is TopicKind.SERVICE_REPLY else None
    except ContractError:
        return None


def _id_in(payload: bytes) -> str:
    """The id in a command that is wrong otherwise, so that its sender knows the answer; else a new one."""
    try:
        value = json.loads(payload[:65_536])
    except (ValueError, RecursionError):
        return new_id()
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else new_id()


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
