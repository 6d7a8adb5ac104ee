"""The module's UART and the bridge between it and TCP (reference section 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from .eras import DeviceFlag, Era
from .firmware import Firmware
from .serialline import BITS_PER_BYTE, HIGH_WATER, PacedLine

RING: Final = 1023 + 128
"""Bytes that the receive ring and the hardware FIFO hold."""
SEGMENT_LIMIT: Final = 128
"""Longest segment towards the UART."""
IN_FLIGHT: Final = 127
"""Most bytes towards TCP before an acknowledgement."""
FIFO_EVENT: Final = 64
"""Received bytes between two looks at what can be sent on."""
POLL: Final = 0.1
"""Seconds: the device's slow timer."""
BOOT_NOISE: Final = bytes(range(0x80, 0xC0)) + b"\x00\xf0\x1e rl\x00l\x9c\x9e|\x00\x0c\x8cl\x0c\x0c\r\n"
"""What the boot ROM's 74880 baud look like at 115200."""
_IAC: Final = 0xFF


class Client(Protocol):
    """What the bridge needs of the TCP client."""

    def send(self, data: bytes) -> None:
        """Sends bytes."""

    def unacknowledged(self) -> int:
        """How many of them the peer has not acknowledged yet."""
        ...


class UartBridge:
    """Moves bytes between the console line and the bridge port, with the firmware's limits.

    Args:
        firmware: for flags, era and the UART's settings.
        to_pc: gets the bytes that reach the PC.
        resume_pc: called when the PC may send again.
        on_command_byte: gets each received byte while `cmd-from-uart` is set.
        paced: False: no pacing to the baud rate in either direction.
    """

    def __init__(
        self,
        firmware: Firmware,
        *,
        to_pc: Callable[[bytes], None],
        resume_pc: Callable[[], None],
        pause_pc: Callable[[], None],
        on_command_byte: Callable[[int], bool],
        send_datagram: Callable[[bytes], bool],
        paced: bool = True,
    ) -> None:
        self._firmware = firmware
        self._paced = paced
        self._on_command_byte = on_command_byte
        self._send_datagram = send_datagram
        self._pause_pc = pause_pc
        self._ring = bytearray()
        self._poll: asyncio.TimerHandle | None = None
        self.client: Client | None = None
        self.to_datagrams = False
        """The output goes to the last sender of a datagram, until TCP data arrive."""
        self.stale_unacked = 0
        """Newest's mute bug: bytes of a connection that ended badly, counted as unacknowledged for ever."""
        self.lost_to_pc = 0
        self.lost_from_pc = 0
        self._out = PacedLine(to_pc, baud=None)
        self._in = PacedLine(self._received, baud=None, drained=resume_pc)
        self.configure()

    def configure(self) -> None:
        """Takes over the UART's settings; queues are flushed."""
        baud = self._firmware.uarts[0].baud if self._paced else None
        self._out.clear()
        self._ring.clear()
        self._out.baud = self._in.baud = baud

    def restart(self) -> None:
        """The chip has reset: what it knew of its connections is gone."""
        self.client = None
        self.to_datagrams = False
        self.stale_unacked = 0

    def close(self) -> None:
        """Stops; nothing is sent any more."""
        self._out.clear()
        self._in.clear()
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    # -- towards the PC -------------------------------------------------------------------------

    def from_tcp(self, data: bytes, segments: int) -> None:
        """A read from the bridge's client: `segments` TCP segments."""
        self.to_datagrams = False
        if len(data) > SEGMENT_LIMIT * segments:
            if self._firmware.era is Era.NEWEST:
                self.lost_to_pc += len(data)
                return
            keep = SEGMENT_LIMIT * segments
            self.lost_to_pc += len(data) - keep
            data = data[:keep]
        self._transmit(data)

    def from_datagram(self, data: bytes) -> None:
        """A datagram to the bridge port."""
        self.to_datagrams = True
        if len(data) > SEGMENT_LIMIT and self._firmware.era is Era.NEWEST:
            self.lost_to_pc += len(data)
            return
        self._transmit(data[:SEGMENT_LIMIT])

    def _transmit(self, data: bytes) -> None:
        if self._firmware.has(DeviceFlag.STRIP_TELNET):
            data = _strip_telnet(data)
        self.send(data)

    def send(self, data: bytes) -> None:
        """The module sends bytes to the PC; what does not fit the ring is lost."""
        room = RING - self._out.queued if self._paced else len(data)
        if len(data) > room:
            self.lost_to_pc += len(data) - max(room, 0)
            data = data[: max(room, 0)]
        self._out.write(data)

    # -- from the PC ----------------------------------------------------------------------------

    def from_pc(self, data: bytes) -> None:
        """The PC sends bytes."""
        self._in.write(data)
        if self._in.queued >= HIGH_WATER:
            self._pause_pc()

    def _received(self, data: bytes) -> None:
        if not self._paced and len(data) > RING - len(self._ring):
            # Without a baud rate there is no "too fast": hand on what fits, again and again.
            for start in range(0, len(data), IN_FLIGHT):
                self._ring += data[start : start + IN_FLIGHT]
                self.pump(force=True)
            return
        # The line hands over what came in a hundredth of a second; the device looks at every fill of its FIFO.
        for start in range(0, len(data), FIFO_EVENT):
            piece = data[start : start + FIFO_EVENT]
            room = max(RING - len(self._ring), 0)
            self.lost_from_pc += max(len(piece) - room, 0)
            self._ring += piece[:room]
            self.pump()

    def pump(self, *, force: bool = False) -> None:
        """Looks whether something can go on: at every receive event, and every 100 ms."""
        firmware = self._firmware
        if firmware.has(DeviceFlag.CMD_FROM_UART):
            self._as_commands()
            return
        if not self._ring or firmware.bridge_port == 0:
            return
        client = self.client
        if self.to_datagrams:
            if not self._send_datagram(bytes(self._ring[:IN_FLIGHT])):
                self._ring.clear()
            del self._ring[:IN_FLIGHT]
        elif client is None:
            if not self.stale_unacked:
                self._ring.clear()
        elif not self.stale_unacked and (force or client.unacknowledged() == 0):
            client.send(bytes(self._ring[:IN_FLIGHT]))
            del self._ring[:IN_FLIGHT]
        if self._ring and self._poll is None:
            self._poll = asyncio.get_running_loop().call_later(self._next_look(), self._poll_again)

    def _next_look(self) -> float:
        """Seconds to the next receive event while the line is busy, else to the slow timer."""
        if self._in.queued and self._in.baud:
            return FIFO_EVENT * BITS_PER_BYTE / self._in.baud
        return POLL

    def _poll_again(self) -> None:
        self._poll = None
        self.pump()

    def _as_commands(self) -> None:
        data = bytes(self._ring)
        self._ring.clear()
        for byte in data:
            if self._on_command_byte(byte):
                return  # the rest of the queue is thrown away with the line

    def client_ended(self, *, clean: bool, unacknowledged: int) -> None:
        """The bridge's TCP connection is gone; newest never forgets what was in flight when it broke (8.3)."""
        self.client = None
        if clean:
            self.stale_unacked = 0
        elif self._firmware.era is Era.NEWEST:
            self.stale_unacked += unacknowledged


def _strip_telnet(data: bytes) -> bytes:
    out = bytearray()
    skip = 0
    for byte in data:
        if skip:
            skip -= 1
        elif byte == _IAC:
            skip = 2
        else:
            out.append(byte)
    return bytes(out)
