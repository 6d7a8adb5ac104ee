"""How the firmware reads a command: words between single spaces, and numbers by each era's own rules.

Reference section 1.3 to 1.5. Newest reads numbers strictly. The older ones use C's `strtoul`, on a buffer
that still has bytes of older, longer commands behind the end of this one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_UINT_MAX: Final = 0xFFFFFFFF
_INT_MAX: Final = 0x7FFFFFFF
_INT_MIN: Final = -0x80000000
_STRICT_DECIMAL: Final = re.compile(rb"[0-9]+")
_STRICT_HEX: Final = re.compile(rb"[0-9a-fA-F]+")
_END_OF_WORD: Final = b" \0\r\n"
_C_NUMBER: Final = re.compile(rb"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Line:
    """One command as it stands in the device's buffer."""

    text: bytes
    strict: bool
    stale: bytes = b""
    """What stands behind the text in the buffer: the older eras' numbers run on into it."""

    def _start(self, index: int) -> int | None:
        """Offset of word `index`; None when the line ends before it (also when it would be empty at the end)."""
        offset = 0
        for _ in range(index):
            offset = self.text.find(b" ", offset) + 1
            if offset == 0:
                return None
        return offset if offset < len(self.text) else None

    def word(self, index: int) -> str | None:
        """Word `index` (0 is the command), without the characters the era throws away."""
        start = self._start(index)
        if start is None:
            return None
        raw = self.text[start:].split(b" ", 1)[0]
        if self.strict:
            return raw.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")
        return bytes(c for c in raw if 0x20 < c <= 0x7E).decode("latin-1")

    def rest(self, index: int) -> str | None:
        """Everything from word `index` on, spaces included."""
        start = self._start(index)
        return None if start is None else self.text[start:].decode("latin-1")

    def uint(self, index: int, base: int = 0) -> int | None:
        """Word `index` as an unsigned 32 bit number; None when missing or not a number."""
        start = self._start(index)
        if start is None:
            return None
        if self.strict:
            value = _strict(self.text, start, base)
            return None if value is None else value & _UINT_MAX
        value = _strtol(self.text[start:] + self.stale)
        if value is None:
            return None
        return _UINT_MAX if abs(value) > _UINT_MAX else value & _UINT_MAX

    def sint(self, index: int) -> int | None:
        """Word `index` as a signed 32 bit number; None when missing or not a number."""
        start = self._start(index)
        if start is None:
            return None
        if self.strict:
            sign = self.text[start : start + 1]
            value = _strict(self.text, start + 1, 10) if sign in (b"-", b"+") else _strict(self.text, start, 0)
            if value is None:
                return None
            return _wrap(-value if sign == b"-" else value)
        value = _strtol(self.text[start:] + self.stale)
        if value is None:
            return None
        if value >= _INT_MAX:  # the firmware tries again, unsigned
            return _wrap(min(value, _UINT_MAX))
        return max(value, _INT_MIN)


def _strict(text: bytes, start: int, base: int) -> int | None:
    if base == 0:
        base = 10
        if text[start : start + 2] == b"0x":
            base, start = 16, start + 2
    match = (_STRICT_HEX if base > 10 else _STRICT_DECIMAL).match(text, start)
    if match is None:
        return None
    end = match.end()
    if end < len(text) and text[end] not in _END_OF_WORD:
        return None
    return int(match.group(), base)


def _strtol(text: bytes) -> int | None:
    match = _C_NUMBER.match(text)
    if match is None:
        return None
    digits = match.group(2).lower()
    if digits.startswith(b"0x"):
        value = int(digits, 16)
    elif digits.startswith(b"0"):
        value = int(digits, 8)
    else:
        value = int(digits)
    return -value if match.group(1) == b"-" else value


def _wrap(value: int) -> int:
    value &= _UINT_MAX
    return value - (_UINT_MAX + 1) if value > _INT_MAX else value


def trim_line_end(text: bytes) -> tuple[bytes, bytes]:
    r"""Takes one trailing `\r\n`, `\n\r`, `\n` or `\r` off; returns the text and what was taken off."""
    for end in (b"\r\n", b"\n\r", b"\n", b"\r"):
        if text.endswith(end):
            return text[: -len(end)], end
    return text, b""
