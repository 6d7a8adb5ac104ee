"""The audit log: one line for each session, failed login and command that changes something.

A line is `key=value` pairs in a fixed order; values with spaces are quoted. The same pairs are in the record's
`audit` attribute, for handlers that write JSON.
"""

import json
import logging
import re

from ipmi_gateway.codes import Privilege
from ipmi_gateway.events import CommandDone, Event, LoginFailed, SessionClosed, SessionOpened

log = logging.getLogger("ipmi_gateway.audit")

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
"""Printable ASCII without space, quote, equals sign and backslash."""


def fields(event: Event) -> dict[str, str | int]:
    """What is said about an event: who, from where, which node, what, outcome."""
    who: dict[str, str | int] = {
        "user": event.user,
        "peer": event.peer,
        "listener": event.listener,
        "node": event.node or "-",
    }
    match event:
        case SessionOpened():
            privilege = Privilege(event.privilege).name.lower()
            return {"event": "session-opened", **who, "session": f"{event.session:08x}", "privilege": privilege,
                    "suite": event.suite}  # fmt: skip
        case SessionClosed():
            return {"event": "session-closed", **who, "session": f"{event.session:08x}", "reason": event.reason.value,
                    "seconds": round(event.duration)}  # fmt: skip
        case LoginFailed():
            return {"event": "login-failed", **who, "status": f"{event.status:02x}h", "failures": event.failures}
        case CommandDone():
            return {"event": "command", **who, "session": f"{event.session:08x}",
                    "command": f"{event.netfn:02x}h/{event.command:02x}h", "data": event.data.hex() or "-",
                    "code": f"{event.code:02x}h"}  # fmt: skip


def write(event: Event) -> None:
    """Write the line of an event. Refusals are warnings."""
    failed = isinstance(event, LoginFailed) or (isinstance(event, CommandDone) and event.code != 0)
    level = logging.WARNING if failed else logging.INFO
    if not log.isEnabledFor(level):
        return  # putting the line together costs more than opening the session's packets
    pairs = fields(event)
    line = " ".join(f"{key}={_quote(value)}" for key, value in pairs.items())
    log.log(level, "%s", line, extra={"audit": pairs})


def _quote(value: str | int) -> str:
    """As it is where that is clear, else as a JSON string: user names come from strangers."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
