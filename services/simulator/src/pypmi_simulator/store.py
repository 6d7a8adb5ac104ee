"""The configuration store: `key=value` lines in one 4 KiB flash sector (reference 4.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from .text import Line

_PLACEHOLDER: Final = re.compile(r"%-?[0-9]*[udx]")
_NAME_MAX: Final = 63
_SECTOR: Final = 4096
_OVERHEAD: Final = 13
"""The magic line and the empty line that ends the list."""


def fill(pattern: str, index1: int, index2: int) -> str:
    """Fills the `%u` placeholders of a key pattern with the two indexes, as the firmware's printf does."""
    indexes = iter((index1, index2))
    return _PLACEHOLDER.sub(lambda _: str(next(indexes, 0)), pattern)[:_NAME_MAX]


@dataclass(slots=True)
class Store:
    """Flash contents; survives reboots of the board.

    With `first_key_bug` (2019) a key that is written while the store has none gets a newline before its
    name, and is then never found again.
    """

    first_key_bug: bool = False
    strict: bool = True
    """Numbers are read strictly (newest), or by C's rules."""
    entries: list[tuple[str, str]] = field(default_factory=list)
    writes: int = 0
    """How often the sector was erased and written: wear, and time (60 to 150 ms each)."""
    locked: bool = False
    """The store can't be opened for writing (fault injection)."""

    def get(self, name: str) -> str | None:
        """Value of the first entry of that name."""
        for key, value in self.entries:
            if key == name:
                return value[:_NAME_MAX]
        return None

    def get_uint(self, name: str) -> int | None:
        """Value as an unsigned number, read by the era's rules; None when missing or not a number."""
        value = self.get(name)
        return None if value is None else Line(value.encode("latin-1"), strict=self.strict).uint(0)

    def get_int(self, name: str) -> int | None:
        """The same for a signed number."""
        value = self.get(name)
        return None if value is None else Line(value.encode("latin-1"), strict=self.strict).sint(0)

    def commit(self, *, delete: str | None = None, prefix: str | None = None, put: dict[str, str | int] | None) -> int:
        """One erase and write: deletes `delete` and everything that begins with `prefix`, then sets `put`.

        Returns:
            How many entries were deleted by `delete` and `prefix`. Nothing is written when nothing changes.

        Raises:
            StoreError: locked, or the sector is full.
        """
        if self.locked:
            raise StoreError("open")
        kept = [
            (key, value)
            for key, value in self.entries
            if not (key == delete or (prefix is not None and key.startswith(prefix)))
        ]
        deleted = len(self.entries) - len(kept)
        for key, value in (put or {}).items():
            kept = [entry for entry in kept if entry[0] != key]
            text = str(value)[:_NAME_MAX]
            kept.append(("\n" + key if self.first_key_bug and not kept else key, text))
        if _OVERHEAD + sum(len(key) + len(value) + 2 for key, value in kept) > _SECTOR:
            raise StoreError("set")
        if deleted or put:
            self.entries = kept
            self.writes += 1
        return deleted

    def erase(self) -> None:
        """What a power cut during a write leaves: an empty store."""
        self.entries = []


class StoreError(Exception):
    """The store can't be written; the argument is the firmware's word for the step (`open`, `set`, `close`)."""
