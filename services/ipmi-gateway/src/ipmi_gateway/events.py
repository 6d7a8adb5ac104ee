"""What the engine reports: sessions and commands that change something, for the audit log and the event logs."""

from dataclasses import dataclass
from enum import StrEnum


class CloseReason(StrEnum):
    """Why a session ended."""

    CLIENT = "closed by the client"
    ADMINISTRATOR = "closed by an administrator"
    TIMEOUT = "inactivity timeout"
    USER_CHANGED = "the user was removed or changed"
    SHUTDOWN = "the gateway stops"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent:
    """What all events have."""

    user: str
    peer: str
    """Address and port of the client, as text."""
    listener: str
    """Name of the listener that it came by."""
    node: str | None
    """The node concerned; None for the gateway itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(SessionEvent):
    """Somebody logged in."""

    session: int
    privilege: int
    """The ceiling (`codes.Privilege`)."""
    suite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(SessionEvent):
    """A session ended."""

    session: int
    reason: CloseReason
    duration: float
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFailed(SessionEvent):
    """A login was refused. Of a flood only some are reported: `failures` says how many there were from this source."""

    status: int
    """The RMCP+ status code that was answered (section 13.24)."""
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDone(SessionEvent):
    """A command that changes something was done, or refused."""

    session: int
    netfn: int
    command: int
    data: bytes
    code: int
    """Completion code."""


Event = SessionOpened | SessionClosed | LoginFailed | CommandDone
