"""Send a power command to one node and follow it to its end."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pypmi.bus import BusDisconnectedError, BusError, BusRefusedError, Exchange
from pypmi.contract import (
    CommandStatus,
    ContractError,
    PowerAction,
    PowerCommand,
    PowerResult,
    TopicKind,
    new_id,
    utc_now,
)

from pypmi_cli.commands.common import user_name
from pypmi_cli.commands.nodes import why_unavailable
from pypmi_cli.session import SOURCE, Session

LIFE = 10.0
"""Seconds in which the agent must have begun; later it refuses the command."""
_GRACE = 2.0
"""Seconds more for the answer to come back."""


class Verdict(StrEnum):
    """How it ended, as the tool sees it."""

    COMPLETED = "completed"
    ACCEPTED = "accepted"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNAVAILABLE = "unavailable"
    """Not sent."""
    UNKNOWN = "unknown"
    """No answer, or none in time."""

    @property
    def good(self) -> bool:
        """Whether it went as asked."""
        return self in {Verdict.COMPLETED, Verdict.ACCEPTED}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one command."""

    node: str
    action: PowerAction
    verdict: Verdict
    power: str = "unknown"
    """Sensed, never what was asked for."""
    code: str | None = None
    message: str = ""
    note: str | None = None
    seconds: float = 0.0

    def text(self) -> str:
        """One line for people, without the node's name."""
        note = f" ({self.note})" if self.note else ""
        match self.verdict:
            case Verdict.COMPLETED:
                return f"{self.action} done in {self.seconds:.1f} s, power is {self.power}{note}"
            case Verdict.ACCEPTED:
                return f"{self.action} accepted"
            case Verdict.UNAVAILABLE:
                return f"not sent: {self.message}"
            case Verdict.UNKNOWN:
                return f"{self.action}: {self.message}"
            case _:
                return f"{self.action} {self.verdict}: {self.message} [{self.code}]"

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "node": self.node, "action": self.action.value, "status": self.verdict.value, "power": self.power,
            "error": None if self.verdict.good else {"code": self.code, "message": self.message}, "note": self.note,
            "seconds": round(self.seconds, 3),
        }  # fmt: skip


async def send_power(
    session: Session, node_id: str, action: PowerAction, *, wait: bool, timeout: float, source: str = SOURCE
) -> Outcome:
    """Send one command; with `wait` follow it for `timeout` seconds at the most. Does not raise."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    why = why_unavailable(session.view.node(node_id))
    if why:
        return Outcome(node_id, action, Verdict.UNAVAILABLE, message=why)
    command = PowerCommand(
        id=new_id(), action=action, issued_at=utc_now(), ttl_ms=int(LIFE * 1000), reply_to=session.requests.topic,
        source=source, user=user_name(),
    )  # fmt: skip
    with session.requests.exchange(command.id) as exchange:
        try:
            receipt = await session.bus.publish(
                session.topics.node(node_id, TopicKind.POWER_SET),
                command.to_payload(),
                expiry=int(LIFE),
                response_topic=exchange.response_topic,
                correlation=exchange.correlation,
            )
        except BusRefusedError as error:
            return Outcome(
                node_id, action, Verdict.REJECTED, code="not_authorized",
                message=f"{error}: this account may not send commands to it",
            )  # fmt: skip
        except BusError as error:
            return Outcome(node_id, action, Verdict.UNKNOWN, message=f"the broker was lost meanwhile: {error}")
        if receipt.no_subscribers:
            return Outcome(node_id, action, Verdict.UNAVAILABLE, message="no agent listens for its commands")
        try:
            result = await _result(exchange, LIFE + _GRACE)
            if wait and not result.status.final:
                result = await _result(exchange, timeout)
        except TimeoutError:
            seconds = loop.time() - started
            return Outcome(
                node_id, action, Verdict.UNKNOWN, seconds=seconds,
                message=f"no answer within {seconds:.0f} s; what became of it is not known",
            )  # fmt: skip
        except BusDisconnectedError as error:
            return Outcome(node_id, action, Verdict.UNKNOWN, message=f"the broker was lost meanwhile: {error}")
    verdict = Verdict.ACCEPTED if result.status is CommandStatus.ACCEPTED else Verdict(result.status.value)
    return Outcome(
        node_id,
        action,
        verdict,
        power=result.power,
        code=result.error.code.value if result.error else None,
        message=result.error.message if result.error else "",
        note=result.note,
        seconds=loop.time() - started,
    )


async def _result(exchange: Exchange, timeout: float) -> PowerResult:
    while True:
        message = await exchange.next(timeout)
        try:
            return PowerResult.from_payload(message.payload)
        except ContractError:
            continue
