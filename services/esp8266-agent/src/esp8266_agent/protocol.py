r"""The command port of the "Universal I/O bridge" firmware, sans-IO: requests, where replies end, what they say.

There is no prompt and no end marker, so every request knows how its own reply ends, and every reply is matched in
full: a reply that merely resembles the right one means that the conversation has slipped, and is an error.
Sections are those of the firmware's protocol reference, see docs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_REPLY: Final = 4191
"""Octets: the longest reply of any era (1.5)."""
MAX_COMMAND: Final = 256
"""Octets, ours; the firmware takes 1459."""


class Era(StrEnum):
    """Generation of the firmware. Values are those of fleet.yaml."""

    OLD = "2019"
    MIDDLE = "2021"
    NEWEST = "2024"

    @property
    def has_invert(self) -> bool:
        """Whether pins have the flag `invert`, and `im`, `isf`, `icf` drive an output to logical off (5.6)."""
        return self is not Era.OLD


class ReplyError(Exception):
    """A reply that is not one of those that the request can have. What the board did is not known from it."""


class RefusedError(ReplyError):
    """The board says that it did not do it."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A command and how to read what comes back.

    `parse` gets the whole reply and raises `ReplyError`. `ends` tells from the octets so far whether the reply is
    whole; where it is None, or says no for ever, the reply ends when the line is quiet after a line feed.
    """

    text: str
    parse: Callable[[str], T]
    ends: Callable[[bytes], bool] | None = None
    writes_flash: bool = False
    """Erases and writes a flash sector: some 100 ms, with room for more (1.6)."""

    def encode(self) -> bytes:
        r"""The octets to send, in one segment: right for TCP in every era (1.3, 1.4)."""
        return encode(self.text)

    def read(self, reply: bytes) -> T:
        """What the reply says. Raises `ReplyError`."""
        return self.parse(reply.decode("latin-1"))


def encode(text: str) -> bytes:
    """Octets of a command. Raises ValueError for what the firmware would read differently (1.3: single spaces only)."""
    if not text.isascii() or not text.isprintable() or text != text.strip() or "  " in text or len(text) > MAX_COMMAND:
        raise ValueError(f"not a command: {text!r}")
    return text.encode("ascii") + b"\r\n"


def shown(reply: str) -> str:
    """The start of a reply, for messages."""
    start = reply[:80]
    return repr(start) + ("..." if len(reply) > len(start) else "")


def ends_with_line(buffer: bytes) -> bool:
    """For replies of one line."""
    return b"\n" in buffer


def _matched(pattern: re.Pattern[str], reply: str, what: str) -> re.Match[str]:
    match = pattern.fullmatch(reply)
    if match is None:
        raise ReplyError(f"{what}: unexpected answer {shown(reply)}")
    return match


# -- session (section 2) -----------------------------------------------------------------------------------------------

EMPTY_REPLY: Final = b"> empty command\n"
RESYNC: Final = b"\r\n"
"""Ends whatever the older eras still hold from an earlier connection (1.4)."""


def _knows(command: str, start: str) -> Callable[[str], bool]:
    def parse(reply: str) -> bool:
        if reply == f"{command}: command unknown\n":
            return False
        if reply.startswith(start):
            return True
        raise ReplyError(f"{command}: unexpected answer {shown(reply)}")

    return parse


HAS_UART_STATISTICS: Final[Request[bool]] = Request("su", _knows("su", "> * spurious interrupts:"))
"""True on newest only (2.3)."""
HAS_FLASH_STATISTICS: Final[Request[bool]] = Request("sf", _knows("sf", ">"))
"""True on newest and 2021 (2.3)."""


def _identification(reply: str) -> str:
    return _matched(_ID, reply, "id").group(1)


_ID: Final = re.compile(r'identification is "(.*)"\n', re.DOTALL)
UNSET: Final = "<unset>"
IDENTIFICATION: Final[Request[str]] = Request("id", _identification, ends_with_line)


def set_identification(text: str) -> Request[str]:
    """Name the board; the reply has the name as stored (2019 may not have stored it: 4.1)."""
    return Request(f"id {text}", _identification, ends_with_line, writes_flash=True)


_FIRMWARE_DATE: Final = re.compile(r"^>\s+(?:firmware version )?date: *(.+?) *$", re.MULTILINE)
_RESET_CAUSE: Final = re.compile(r"^> *reset cause: *([^,\n]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Firmware:
    """From `s`; empty where the layout is not known."""

    date: str
    reset_cause: str


def _firmware(reply: str) -> Firmware:
    if not reply.startswith("> firmware"):
        raise ReplyError(f"s: unexpected answer {shown(reply)}")
    date, cause = _FIRMWARE_DATE.search(reply), _RESET_CAUSE.search(reply)
    return Firmware(date.group(1) if date else "", cause.group(1).strip() if cause else "")


STATISTICS: Final[Request[Firmware]] = Request("s", _firmware)

_UPTIME: Final = re.compile(r"^> *uptime:? +(\d{1,6}) +(\d{1,2}):(\d{2}):(\d{2})(?:\.(\d{3}))?", re.MULTILINE)


def _uptime(reply: str) -> float:
    match = _UPTIME.search(reply)
    if match is None:
        raise ReplyError(f"st: no uptime in {shown(reply)}")
    days, hours, minutes, seconds = (int(match.group(i)) for i in range(1, 5))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds + int(match.group(5) or 0) / 1000


UPTIME: Final[Request[float]] = Request("st", _uptime)
"""Seconds since the board started."""

_SIGNAL: Final = re.compile(r"signal strength: *(-?\d{1,3}) *dB")


def _signal(reply: str) -> int | None:
    match = _SIGNAL.search(reply)
    return int(match.group(1)) if match else None


SIGNAL: Final[Request[int | None]] = Request("sw", _signal)
"""dBm; None where the board does not say. The reply holds the WLAN key: never log it."""


def _exactly(text: str, command: str) -> Callable[[str], None]:
    def parse(reply: str) -> None:
        if reply != text:
            raise ReplyError(f"{command}: unexpected answer {shown(reply)}")

    return parse


RESET: Final[Request[None]] = Request("r", _exactly("> reset\n", "r"), ends_with_line)
"""The board restarts when the client has closed, too (2.2)."""

# -- configuration store and flags (section 4) -------------------------------------------------------------------------

_ENTRY: Final = re.compile(r"^([A-Za-z0-9_.%-]{1,63})=(.*)$", re.MULTILINE)
_ANNOTATION: Final = re.compile(r" \(-?\d+/\d+/(?:0x)?[0-9a-fA-F]+\)$")
_DUMP_END: Final = re.compile(rb"\ntotal config entries: \d+, flags: [0-9a-fA-F]+\n\Z")


def _dump(reply: str) -> dict[str, str]:
    if not _DUMP_END.search(reply.encode("latin-1")):
        raise ReplyError("cd: the answer is not whole")  # not shown: it holds the WLAN key
    return {match.group(1): _ANNOTATION.sub("", match.group(2)) for match in _ENTRY.finditer(reply)}


STORE: Final[Request[dict[str, str]]] = Request("cd", _dump, lambda buffer: _DUMP_END.search(buffer) is not None)
"""The stored configuration. Holds the WLAN key: never log it."""


def _deleted(reply: str) -> int:
    return int(_matched(re.compile(r"(\d{1,3}) config entries deleted\n"), reply, "cde").group(1))


def delete_stored(prefix: str) -> Request[int]:
    """Delete all keys that begin with `prefix`; the reply is their number. Running settings stay until a restart."""
    return Request(f"cde {prefix} -1 -1 1", _deleted, ends_with_line, writes_flash=True)


def store(key: str, value: int) -> Request[None]:
    """Store one number. Running settings stay until a restart."""
    return Request(f"cs {key} -1 -1 {value}", _exactly("OK\n", "cs"), ends_with_line, writes_flash=True)


_FLAG: Final = re.compile(r"^> +(no )?([a-z0-9][a-z0-9-]*)$", re.MULTILINE)


def _flags(reply: str) -> dict[str, bool]:
    flags = {match.group(2): match.group(1) is None for match in _FLAG.finditer(reply)}
    if not reply.startswith("> flags:\n>\n") or "cmd-from-uart" not in flags or "log-to-uart" not in flags:
        raise ReplyError(f"fs: unexpected answer {shown(reply)}")
    return flags


FLAGS: Final[Request[dict[str, bool]]] = Request("fs", _flags)
"""The device flags by name (4.2)."""


def clear_flag(name: str) -> Request[dict[str, bool]]:
    """Clear a device flag; the reply is all of them."""
    return Request(f"fu {name}", _flags, writes_flash=True)


def _setting(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda reply: _matched(compiled, reply, "setting").group(1)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that is asked for and set by the same command.

    Setting what is the default already answers with an error that means nothing (4.3): ask first, set only when
    different, ask again.
    """

    name: str
    command: str
    pattern: str

    def ask(self) -> Request[str]:
        """The value as text."""
        return Request(self.command, _setting(self.pattern), ends_with_line)

    def put(self, value: str) -> Request[str]:
        """Set it; the reply is the value as it is then, whatever was asked for."""
        return Request(f"{self.command} {value}", _setting(self.pattern), ends_with_line, writes_flash=True)


BRIDGE_PORT: Final = Setting("bridge port", "bp", r"> port: (\d{1,5})\n")
BAUD: Final = Setting("UART baud rate", "ub 0", r"> baudrate\[0\]: (\d{1,8})\n")
DATA_BITS: Final = Setting("UART data bits", "ud 0", r"data bits\[0\]: (\d)\n")
STOP_BITS: Final = Setting("UART stop bits", "us 0", r"> stop bits\[0\]: (\d)\n")
PARITY: Final = Setting("UART parity", "up 0", r"parity\[0\]: ([a-z]+)\n")
