"""The table of handshakes under way: bounded, and so that a flood from one source pushes out its own and no others."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SHARE: Final = 4
"""A source that has a fourth of all places counts as a flood, and gives way first."""


class HandshakeTable(Generic[T]):
    """Handshakes by our session id, oldest first. With `maximum` of them the next one takes the place of another."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._handshakes: OrderedDict[int, tuple[str, T]] = OrderedDict()
        self._by_source: dict[str, OrderedDict[int, None]] = {}
        self._flood = ""
        """The source that was last seen to have more than its share."""

    def add(self, session_id: int, source: str, handshake: T) -> None:
        """Put one in; where there is no room, a flood's oldest goes, else the oldest of all."""
        while len(self._handshakes) >= self._maximum:
            self.remove(self._to_give_way(source))
        self._handshakes[session_id] = source, handshake
        self._by_source.setdefault(source, OrderedDict())[session_id] = None

    def _to_give_way(self, source: str) -> int:
        share = self._maximum // _SHARE
        if len(self._by_source.get(source, ())) > share:
            self._flood = source
        flood = self._by_source.get(self._flood)
        return next(iter(flood if flood is not None and len(flood) > share else self._handshakes))

    def get(self, session_id: int) -> T | None:
        """The handshake, or None."""
        found = self._handshakes.get(session_id)
        return None if found is None else found[1]

    def remove(self, session_id: int) -> None:
        """Take one out. Raises `KeyError` when it is not there."""
        source, _ = self._handshakes.pop(session_id)
        of_source = self._by_source[source]
        del of_source[session_id]
        if not of_source:
            del self._by_source[source]

    def clear(self) -> None:
        """Take all out."""
        self._handshakes.clear()
        self._by_source.clear()

    def items(self) -> Iterator[tuple[int, T]]:
        """Session ids and handshakes, oldest first."""
        return ((session_id, handshake) for session_id, (_, handshake) in self._handshakes.items())

    def __contains__(self, session_id: int) -> bool:
        return session_id in self._handshakes

    def __len__(self) -> int:
        return len(self._handshakes)
