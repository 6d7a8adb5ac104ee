"""Escapes in what is typed at a console, as ssh has them: `~.` and the like, at the start of a line. Sans-IO."""

from collections.abc import Iterator
from enum import Enum, auto

HELP = "~. leaves, ~b sends a break, ~~ types a ~, ~? is this; all at the start of a line"

_LINE_ENDS = b"\r\n"


class Escape(Enum):
    """What an escape asks for."""

    LEAVE = auto()
    BREAK = auto()
    HELP = auto()


_KEYS = {ord("."): Escape.LEAVE, ord("b"): Escape.BREAK, ord("B"): Escape.BREAK, ord("?"): Escape.HELP}


class EscapeFilter:
    """Takes escapes out of a stream of typed octets.

    Args:
        key: the escape's first octet; None: everything is typed through.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key[0] if key else None
        self._line_start = True
        self._pending = False

    def feed(self, octets: bytes) -> Iterator[bytes | Escape]:
        """What to send and what to do, in order."""
        if self._key is None:
            if octets:
                yield octets
            return
        out = bytearray()
        for octet in octets:
            if self._pending:
                self._pending = False
                action = _KEYS.get(octet)
                if action is not None:
                    if out:
                        yield bytes(out)
                        out.clear()
                    yield action
                    self._line_start = True
                    continue
                out.append(self._key)
                self._line_start = False
                if octet == self._key:  # typed twice: once is meant
                    continue
            elif octet == self._key and self._line_start:
                self._pending = True
                continue
            out.append(octet)
            self._line_start = octet in _LINE_ENDS
        if out:
            yield bytes(out)
