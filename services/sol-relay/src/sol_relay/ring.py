"""The last octets of a stream, addressed by their offset in it."""


class Ring:
    """Holds the last `size` octets appended. Memory grows with what comes, up to about `size`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.end = 0
        """Offset after the last octet: how many were ever appended."""
        self._held = bytearray()

    @property
    def start(self) -> int:
        """Offset of the oldest octet held."""
        return self.end - len(self._held)

    def append(self, data: bytes) -> None:
        """Add octets; the oldest fall out when there are more than `size`."""
        self._held += data
        self.end += len(data)
        excess = len(self._held) - self.size
        if excess > 0:
            del self._held[:excess]  # cheap: a bytearray only moves its start

    def read(self, offset: int, length: int) -> bytes:
        """Octets from `offset` on, at most `length`; empty at the end. Raises `IndexError` for what is not held."""
        start = offset - self.start
        if not 0 <= start <= len(self._held):
            raise IndexError(f"octet {offset} is not between {self.start} and {self.end}")
        return bytes(self._held[start : start + length])

    def overwrite(self, offset: int, data: bytes) -> None:
        """Put `data` in the place of octets that are held. Raises `IndexError`."""
        start = offset - self.start
        if not 0 <= start <= len(self._held) - len(data):
            raise IndexError(f"{len(data)} octets at {offset} are not between {self.start} and {self.end}")
        self._held[start : start + len(data)] = data
