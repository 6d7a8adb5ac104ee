"""What the relay asks of a way to a serial port."""

from collections.abc import Callable
from typing import Protocol


class LinkError(Exception):
    """The port can't be opened, or was lost. The text says why, for people: it stands in the console and its state."""


class LinkBreakError(LinkError):
    """This kind of port can't carry a break."""


class Link(Protocol):
    """An open port, driven from the event loop. Every method may raise `LinkError` when the port is gone."""

    @property
    def can_wait(self) -> bool:
        """The far side holds its output back, without loss, while nothing is read."""

    @property
    def polled(self) -> bool:
        """A busy port may be read at intervals. False: each piece must be read when it comes."""

    @property
    def can_break(self) -> bool:
        """`send_break` works."""

    def read(self, *, announced: bool) -> bytes:
        """What has come in, up to 64 KiB; empty when there is nothing now.

        `announced`: called because the port was said to be readable.
        """

    def arm(self, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever there is something to read, until `disarm`."""

    def disarm(self) -> None:
        """Stop calling."""

    def write(self, data: bytes) -> int:
        """Give octets to the port without waiting; return how many it took."""

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call once when `write` may take more."""

    def set_break(self, on: bool) -> None:
        """Begin or end a break. Raises `LinkBreakError` where there is none."""

    async def close(self) -> None:
        """Let go of the port, properly. Never raises."""
