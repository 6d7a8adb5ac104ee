"""Random octets, drawn from the system in bulk: asking the kernel for each IV would cost more than encrypting."""

import os
from collections.abc import Callable
from typing import Final

_BULK: Final = 4096
_BLOCK: Final = 16


class Entropy:
    """Unpredictable octets. Each is given out once; `source(n)` gives n new ones."""

    __slots__ = ("_pool", "_position", "_source")

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._pool = b""
        self._position = 0

    def block(self) -> bytes:
        """16 octets."""
        position = self._position
        if position == len(self._pool):
            self._pool = self._source(_BULK)
            position = 0
        self._position = end = position + _BLOCK
        return self._pool[position:end]

    def identifier(self) -> int:
        """A 32-bit number that is not zero."""
        while not (number := int.from_bytes(self.block()[:4], "little")):
            pass
        return number
