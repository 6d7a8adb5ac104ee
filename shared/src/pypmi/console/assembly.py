"""Puts a console's output in order: drops duplicates, finds gaps, takes repairs in. No I/O.

The order is that of the relay's stream offsets. Chunks without a position (MQTT 3.1.1) pass as they come.
"""

from collections import deque
from dataclasses import dataclass, field

from pypmi.contract import SolPosition

HELD_LIMIT = 1_048_576
"""Octets held back behind a gap while its repair is under way; beyond it the gap is given up."""
_RETIRED = 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes in order. `position` is None where the sender gave none."""

    data: bytes
    position: SolPosition | None


@dataclass(frozen=True, slots=True)
class Lost:
    """Bytes that can't be had any more; None when nobody knows how many."""

    octets: int | None
    restarted: bool = False
    """The relay began a new stream."""


Piece = Chunk | Lost


@dataclass(slots=True)
class StreamAssembler:
    """One console's output. Each method returns what can be delivered now."""

    stream: str | None = None
    next: int = 0
    """Offset of the next octet to deliver in `stream`."""
    _held: dict[int, bytes] = field(default_factory=dict)
    _held_octets: int = 0
    _retired: deque[str] = field(default_factory=lambda: deque(maxlen=_RETIRED))

    @property
    def has_gap(self) -> bool:
        """Octets are missing before others that are there."""
        return bool(self._held)

    def live(self, position: SolPosition | None, data: bytes) -> list[Piece]:
        """A chunk from `sol/rx`."""
        if position is None:
            return [Chunk(data, None)]
        pieces: list[Piece] = []
        if self.stream is None:
            self.stream, self.next = position.stream, position.offset
        elif position.stream != self.stream:
            if position.stream in self._retired:
                return []  # of an older run, delivered late
            pieces += self.begin(position.stream)
        if position.offset > self.next:
            self._hold(position.offset, data)
            return pieces + (self.give_up() if self._held_octets > HELD_LIMIT else [])
        return pieces + self._take(position.offset, data) + self._drain()

    def begin(self, stream: str, offset: int = 0) -> list[Piece]:
        """The relay has a new stream, of which `offset` is the first octet wanted."""
        if stream == self.stream:
            return []
        first = self.stream is None
        pieces = self.give_up()
        if self.stream is not None:
            self._retired.append(self.stream)
        self.stream, self.next = stream, offset
        return pieces if first else [*pieces, Lost(None, restarted=True)]

    def repaired(self, position: SolPosition, data: bytes) -> list[Piece]:
        """A piece of the answer to a replay request that asked for `next` onwards."""
        pieces: list[Piece] = []
        if position.stream != self.stream:
            if position.stream in self._retired:
                return []
            pieces += self.begin(position.stream)
        if position.offset > self.next:
            # what lies between is held by nobody any more, unless it came live meanwhile
            pieces += self._drain()
            if position.offset > self.next:
                pieces.append(Lost(position.offset - self.next))
                self.next = position.offset
        return pieces + self._take(position.offset, data) + self._drain()

    def give_up(self) -> list[Piece]:
        """Stop waiting for what is missing: deliver what is held, with the gaps named."""
        pieces: list[Piece] = []
        while self._held:
            offset = min(self._held)
            if offset > self.next:
                pieces.append(Lost(offset - self.next))
                self.next = offset
            pieces += self._drain()
        return pieces

    def _hold(self, offset: int, data: bytes) -> None:
        known = self._held.get(offset)
        if known is None or len(known) < len(data):
            self._held_octets += len(data) - len(known or b"")
            self._held[offset] = data

    def _take(self, offset: int, data: bytes) -> list[Piece]:
        seen = self.next - offset
        if seen >= len(data) or self.stream is None:
            return []
        fresh = data[seen:] if seen else data
        chunk = Chunk(fresh, SolPosition(self.stream, self.next))
        self.next += len(fresh)
        return [chunk]

    def _drain(self) -> list[Piece]:
        pieces: list[Piece] = []
        while self._held:
            offset = min(self._held)
            if offset > self.next:
                break
            data = self._held.pop(offset)
            self._held_octets -= len(data)
            pieces += self._take(offset, data)
        return pieces
