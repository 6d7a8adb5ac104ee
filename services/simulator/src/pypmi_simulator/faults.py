"""Things that go wrong on purpose: the network, lost replies, slow answers."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Network(enum.StrEnum):
    """State of the network between clients and a board."""

    UP = "up"
    REFUSE = "refuse"
    """Connections are refused; those that exist get a RST."""
    BLACKHOLE = "blackhole"
    """Nothing gets through, in either direction; connections stay open and silent, new ones get no answer."""
    RESET = "reset"
    """Every connection gets a RST as soon as it is made."""


@dataclass(slots=True)
class Faults:
    """What the board does wrong at the moment; change it at any time."""

    reply_delay: float = 0.0
    """Seconds a reply spends on the network."""
    lose_replies: int = 0
    """So many next commands are executed, and their replies lost."""
    lose_commands: int = 0
    """So many next commands never arrive."""
    reset_replies: int = 0
    """So many next commands are executed, and the connection is reset instead of the reply."""
    hung: bool = False
    """The module hangs: TCP connects, nothing is answered (reference 9.6)."""


@dataclass(frozen=True, slots=True)
class BoardTimings:
    """Durations in seconds. The defaults are quick; `realistic()` is what a module in a WLAN does."""

    command: float = 0.002
    """From a command's arrival to its execution; what arrives meanwhile is dropped."""
    flash_write: float = 0.010
    """Erasing and writing the configuration's sector."""
    boot: float = 0.1
    """Reset to reachable."""
    fin_wait: float = 2.0
    """How long a reset waits for the client to close."""
    boot_glitch: float = 0.0
    """GPIO0 low at every boot; about 0.1 on real relay modules."""

    @classmethod
    def realistic(cls) -> BoardTimings:
        """As measured by users: seconds to boot, slow flash."""
        return cls(command=0.010, flash_write=0.1, boot=3.0, fin_wait=20.0, boot_glitch=0.1)
