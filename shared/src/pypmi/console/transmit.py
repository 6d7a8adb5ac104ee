"""The sender's side of `sol/tx`: a window of input that the relay has not written to the port yet. No I/O."""

from dataclasses import dataclass

from pypmi.contract import ConsoleAck

WINDOW = 16_384
"""Octets taken by `write` and not yet written to the port. A paste goes as fast as the port does."""


@dataclass(slots=True)
class TransmitWindow:
    """Offsets count octets of one stream: `written` <= `received` <= `next`."""

    written: int = 0
    """Octets before this one are out of the port, or refused."""
    received: int = 0
    """Octets before this one are with the relay."""
    refused: int = 0
    limit: int = WINDOW
    _kept: bytes = b""
    """What lies between `received` and `next`: sent, and sent again when need be."""

    @property
    def next(self) -> int:
        """Offset of the next octet to send."""
        return self.received + len(self._kept)

    @property
    def room(self) -> int:
        """Octets that may be sent now."""
        return self.limit - (self.next - self.written)

    @property
    def unanswered(self) -> bytes:
        """Octets that may not have reached the relay, from offset `received` on."""
        return self._kept

    @property
    def idle(self) -> bool:
        """Everything sent is written."""
        return self.written == self.next

    def send(self, data: bytes) -> tuple[int, bytes]:
        """Take as much as there is room for; return its offset and the part taken (which may be empty)."""
        offset = self.next
        taken = data[: max(0, self.room)]
        self._kept += taken
        return offset, taken

    def acknowledge(self, ack: ConsoleAck) -> int:
        """Take in the relay's word; return how many octets it refused since the last one. Stale ones are ignored."""
        received = min(ack.offset, self.next)
        if received > self.received:
            self._kept = self._kept[received - self.received :]
            self.received = received
        self.written = max(self.written, min(ack.written, self.received))
        refused = max(0, ack.refused - self.refused)
        self.refused += refused
        return refused

    def assume_written(self, octets: int) -> None:
        """Without acknowledgements (MQTT 3.1.1): so many octets will have left the port by now."""
        self.written = min(self.written + octets, self.next)
        if self.written > self.received:
            self._kept = self._kept[self.written - self.received :]
            self.received = self.written
