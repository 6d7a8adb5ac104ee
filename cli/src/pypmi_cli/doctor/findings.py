"""What the doctor says: one finding for each thing looked at, with its cause and the fix."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, or it could not be looked at."""
    WARNING = "warning"
    """It works, and should not stay so."""
    FAULT = "fault"
    """Because of this it does not work."""


class Link(StrEnum):
    """A link of the way from the operator to the node, in its order."""

    CONFIGURATION = "configuration"
    DNS = "dns"
    BROKER = "broker"
    TLS = "tls"
    LOGIN = "login"
    ACCESS = "access"
    AGENT = "agent"
    NODE = "node"
    BOARD = "board"
    STATUS = "status"
    CONSOLE = "console"
    CLOCK = "clock"
    GATEWAY = "gateway"
    IPMI_LOGIN = "ipmi-login"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    link: Link
    level: Level
    code: str
    """For programs: what it is, the same in every version."""
    text: str
    """For people: what was found."""
    fix: str = ""
    """What to do about it; empty when all is well."""
    node: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "link": self.link.value, "level": self.level.value, "code": self.code, "node": self.node,
            "text": self.text, "fix": self.fix or None,
        }  # fmt: skip


def clock_differs(whose: str, ahead: float) -> str:
    """How far a clock is from ours, in words. `ahead` is in seconds, negative for one that is behind."""
    return f"the clock of {whose} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"


@dataclass(slots=True)
class Report:
    """Findings in the order of the links."""

    findings: list[Finding] = field(default_factory=list)

    def ok(self, link: Link, text: str, node: str | None = None) -> None:
        """Nothing is wrong here."""
        self.findings.append(Finding(link, Level.OK, "ok", text, node=node))

    def note(self, link: Link, code: str, text: str, fix: str = "", node: str | None = None) -> None:
        """Worth knowing, or not looked at."""
        self.findings.append(Finding(link, Level.NOTE, code, text, fix, node))

    def warn(self, link: Link, code: str, text: str, fix: str, node: str | None = None) -> None:
        """Works, and should not stay so."""
        self.findings.append(Finding(link, Level.WARNING, code, text, fix, node))

    def fault(self, link: Link, code: str, text: str, fix: str, node: str | None = None) -> None:
        """Does not work because of this."""
        self.findings.append(Finding(link, Level.FAULT, code, text, fix, node))

    @property
    def faults(self) -> Iterator[Finding]:
        """What is broken."""
        return (finding for finding in self.findings if finding.level is Level.FAULT)
