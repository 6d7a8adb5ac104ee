"""Who is where: which controller an IPMB address means, and which one a listening socket belongs to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipmi_gateway.codes import BMC_ADDRESS

if TYPE_CHECKING:
    from ipmi_gateway.bmc import Bmc

MAX_CHANNEL = 11
"""Channels above are reserved or mean something else (section 6.3, table 6-1)."""


@dataclass(slots=True, eq=False)
class Listener:
    """One address and port that clients talk to: the gateway's main one, or one of a node of its own."""

    name: str
    """For the log."""
    bmc: "Bmc"
    """The controller that address 20h means on it; its GUID is what RAKP 2 says."""
    bridging: bool = True
    """Whether Send Message reaches the directory's nodes. Without it only the listener's own controller is reached."""
    public_port: int = 623
    """The port that clients use to get here (Docker may map it): Activate Payload says it. 0: the one it listens on."""


class Directory:
    """Controllers by channel (0 to 11) and slave address (1 to 255 without 20h)."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, int], Bmc] = {}

    def add(self, channel: int, address: int, bmc: "Bmc") -> None:
        """Put a controller at an address. Raises ValueError where none can be, or one is already."""
        if not 0 <= channel <= MAX_CHANNEL:
            raise ValueError(f"channel {channel}: 0 to {MAX_CHANNEL}")
        if not 1 <= address <= 0xFF or address == BMC_ADDRESS:
            raise ValueError(f"address {address:#04x}: 0x01 to 0xff, without 0x20, the gateway's own")
        if (channel, address) in self._places:
            raise ValueError(f"address {address:#04x} on channel {channel} is taken")
        self._places[channel, address] = bmc

    def remove(self, channel: int, address: int) -> None:
        """Take a controller away; KeyError when there is none."""
        del self._places[channel, address]

    def find(self, channel: int, address: int) -> "Bmc | None":
        """The controller at an address, or None."""
        return self._places.get((channel, address))

    def has_channel(self, channel: int) -> bool:
        """Whether anything is on that channel."""
        return any(place[0] == channel for place in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> "Iterator[tuple[int, int, Bmc]]":
        """All of them as (channel, address, controller), sorted by place."""
        for (channel, address), bmc in sorted(self._places.items(), key=lambda item: item[0]):
            yield channel, address, bmc
