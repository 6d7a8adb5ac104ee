"""Exit codes of `pypmi`, the same for all commands. docs/cli.md lists them."""

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """What a script can tell from `$?`."""

    OK = 0
    """Done; or, for doctor and check, nothing wrong found."""
    FAILED = 1
    """Something asked for was refused or failed, at one node at least; or a mistake was found."""
    USAGE = 2
    """The command line makes no sense, or a question can't be asked because there is no terminal."""
    NO_BROKER = 3
    """The broker can't be reached or refuses this account, or the configuration can't be read."""
    NO_SUCH_NODE = 4
    """No node of this name, or none that fits the pattern."""
    UNAVAILABLE = 5
    """The node's agent is away or can't reach its hardware. Nothing was sent."""
    UNKNOWN = 6
    """No answer in time, or the connection was lost: it is not known what became of the command."""
    INTERRUPTED = 130
    """Ctrl-C."""


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; for `doctor` and `check`: nothing wrong found",
    Exit.FAILED: "refused or failed, at one node at least; for `doctor` and `check`: something is wrong",
    Exit.USAGE: "the command line makes no sense, or a question can't be asked because there is no terminal",
    Exit.NO_BROKER: "the broker can't be reached or refuses this account, or the configuration can't be read",
    Exit.NO_SUCH_NODE: "no node of this name, or none that fits the pattern",
    Exit.UNAVAILABLE: "the node's agent is away or can't reach its hardware; nothing was sent",
    Exit.UNKNOWN: "no answer in time, or the connection was lost: what became of the command is not known",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}
"""For the help and the documentation."""


class ToolError(Exception):
    """A command can't go on. The text says why and what helps; `code` is the exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def worst(codes: Iterable[Exit]) -> Exit:
    """One exit code for several nodes: that of those that failed when they agree, else FAILED."""
    bad = {code for code in codes if code is not Exit.OK}
    if not bad:
        return Exit.OK
    return bad.pop() if len(bad) == 1 else Exit.FAILED
