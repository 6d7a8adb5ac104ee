"""The command port: one command at a time, from whichever of TCP and UDP, and what follows a reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .eras import TRAITS, Era
from .faults import BoardTimings, Faults
from .firmware import Action, Firmware, Outcome
from .framing import Framer, Request
from .ports import Address, Connection, split_segments
from .timers import Timers

OLD_UDP_CHUNK = 1472
"""Bytes of a reply in one datagram, 2019 and 2021."""


@dataclass(frozen=True, slots=True)
class DeviceHooks:
    """What the command port asks of the board around it."""

    advance: Callable[[], None]
    """Pins may have changed."""
    reboot: Callable[[str], None]
    wlan_restart: Callable[[], None]
    send_datagram: Callable[[bytes, Address], None]
    uart_send: Callable[[bytes], None]


class CommandPort:
    """The command socket of a board.

    Args:
        firmware: executes.
        timers: the board's timers.
        timings, faults: as given to the board.
        hooks: the board.
    """

    def __init__(
        self, firmware: Firmware, timers: Timers, timings: BoardTimings, faults: Faults, hooks: DeviceHooks
    ) -> None:
        self._firmware = firmware
        self._timers = timers
        self._timings = timings
        self._faults = faults
        self._hooks = hooks
        self.client: Connection | None = None
        self._peer: Address | None = None
        """Where the next reply goes: a datagram's sender, or None for TCP."""
        self._framer = Framer(TRAITS[firmware.era])
        self._busy = False
        self._reset_pending = False
        self._generation = 0
        """Counts restarts: what was under way before one is forgotten."""

    def restart(self) -> None:
        """The chip has reset: everything in RAM is gone."""
        self._generation += 1
        self.client = None
        self._peer = None
        self._framer = Framer(TRAITS[self._firmware.era])
        self._busy = False
        self._reset_pending = False

    def client_ended(self) -> None:
        """The TCP client is gone; a reset that waited for that happens now."""
        self.client = None
        if self._reset_pending:
            self._hooks.reboot("user reset")

    # -- in -------------------------------------------------------------------------------------

    def received(self, data: bytes, segments: int) -> None:
        """A read of so many TCP segments."""
        for part in split_segments(data, segments):
            if self._deaf():
                continue
            self._peer = None
            request = self._framer.segment(part, self._timers.now)
            if request is not None:
                self._firmware.counters.tcp += 1
                self._begin(request)

    def datagram(self, data: bytes, address: Address) -> None:
        """A UDP datagram."""
        if self._deaf():
            return
        self._peer = address
        request = self._framer.datagram(data, self._timers.now)
        if request is not None:
            self._firmware.counters.udp += 1
            self._begin(request)

    def console_byte(self, byte: int) -> bool:
        """A byte from the console with `cmd-from-uart`; returns True when it ended a line, which is then executed."""
        request = self._framer.console(byte)
        if request is None:
            return False
        self._firmware.counters.uart += 1
        self._hooks.uart_send(b"\r\n>> \0" + request.line.text)
        outcome = self._firmware.execute(request.line, self._timers.now)
        self._hooks.uart_send(outcome.reply)
        if self._firmware.era is not Era.NEWEST:  # unasked, to whoever is the client
            self._reply(outcome.reply)
        if outcome.action is Action.RESET:
            self._hooks.reboot("user reset")
        self._hooks.advance()
        return True

    def _deaf(self) -> bool:
        """Tells whether what arrives now is lost: the module is busy, hung, or the network dropped it."""
        if self._busy or self._faults.hung:
            self._firmware.counters.dropped_busy += 1
            return True
        if self._faults.lose_commands > 0:
            self._faults.lose_commands -= 1
            return True
        return False

    # -- execution ------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        self._busy = True
        generation = self._generation
        self._timers.after(self._timings.command, lambda: self._execute(request, generation))

    def _execute(self, request: Request, generation: int) -> None:
        if generation != self._generation:
            return
        self._firmware.counters.duplicates = self._framer.duplicates
        self._firmware.counters.checksum_errors = self._framer.checksum_errors
        outcome = self._firmware.execute(request.line, self._timers.now)
        self._hooks.advance()
        wait = outcome.flash_writes * self._timings.flash_write
        if wait > 0:
            self._timers.after(wait, lambda: self._finish(request, outcome, generation))
        else:
            self._finish(request, outcome, generation)

    def _finish(self, request: Request, outcome: Outcome, generation: int) -> None:
        if generation != self._generation:
            return
        self._busy = False
        reply = self._framer.reply(request, outcome.reply)
        if self._faults.lose_replies > 0:
            self._faults.lose_replies -= 1
        elif self._faults.reset_replies > 0:
            self._faults.reset_replies -= 1
            self._drop_client()
        else:
            self._reply(reply)
        match outcome.action:
            case Action.DISCONNECT:
                self._after_reply(self._drop_client)
            case Action.RESET:
                self._after_reply(self._begin_reset)
            case Action.WLAN_RESTART:
                self._after_reply(self._begin_wlan_restart)
            case Action.NOTHING:
                pass

    # -- out ------------------------------------------------------------------------------------

    def _reply(self, reply: bytes) -> None:
        peer = self._peer
        self._after_reply(lambda: self._send(reply, peer))

    def _after_reply(self, action: Callable[[], None]) -> None:
        """Does something when a reply that is sent now has arrived."""
        if self._faults.reply_delay > 0:
            self._timers.after(self._faults.reply_delay, action)
        else:
            action()

    def _send(self, reply: bytes, peer: Address | None) -> None:
        if peer is None:
            if self.client is not None:
                self.client.send(reply)
            return
        size = len(reply) if self._firmware.era is Era.NEWEST else OLD_UDP_CHUNK
        for start in range(0, len(reply), max(size, 1)):
            self._hooks.send_datagram(reply[start : start + size], peer)
        if self._firmware.udp_ends_empty:
            self._hooks.send_datagram(b"", peer)

    def _drop_client(self) -> None:
        """RST to the client that the command came from, if that was TCP."""
        if self._peer is None and self.client is not None:
            self.client.abort()
            self.client_ended()

    def _begin_reset(self) -> None:
        if self._peer is not None or self.client is None:
            self._hooks.reboot("user reset")
            return
        self._reset_pending = True
        self.client.finish()
        generation = self._generation
        self._timers.after(self._timings.fin_wait, lambda: self._end_reset(generation))

    def _end_reset(self, generation: int) -> None:
        if generation == self._generation and self._reset_pending:
            self._hooks.reboot("user reset")

    def _begin_wlan_restart(self) -> None:
        self._drop_client()
        self._hooks.wlan_restart()
