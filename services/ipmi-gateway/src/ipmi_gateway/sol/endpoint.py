"""Our end of one activated SOL payload: packets, acknowledges and retries (sections 15.9 to 15.11), without I/O.

Both directions are stop-and-wait: one packet is under way, and the next one goes when it is acknowledged. Towards
the client, characters are sent at once when nothing is under way, and gathered into full packets while something
is. Bytes and time are arguments; what is to be sent goes to a callback.

Some things are beyond the specification, so that nothing gets lost, or comes twice:

- When the retries are used up, the packet is not dropped but repeated at growing intervals, for as long as the
  session lives. What does not fit into the buffer meanwhile is dropped, oldest first, and the drop is said in the
  stream.
- When the acknowledge of an input packet gets lost, ipmitool sends the characters again in a *new* packet, after a
  second. So an acknowledge is repeated while the client stays silent; but twice only, as ipmitool takes the fourth
  packet that does not acknowledge what it has sent for a success. And a full packet with the very same characters as
  the one before, a second later, is taken for that: only a paste has full packets, and a paste does not pause.
- What the console can't take is kept here, and when that gets much, acknowledges are held back, which slows clients
  down. Packets are not NACKed (ipmitool throws NACKed characters away), and accepted in part only when the bounded
  store is full: ipmitool counts a packet as sent, whole, when output comes before its acknowledge.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ipmi_gateway.sol.packet import (
    HEADER_LENGTH,
    MAX_CHARACTERS,
    MAX_PAYLOAD,
    MAX_SEQUENCE,
    Operation,
    Status,
    following,
)

LONGEST_RETRY_INTERVAL: Final = 5.0
"""Seconds: the interval doubles up to here when the retries are used up."""
REPEAT_ACKNOWLEDGE: Final = (0.3, 0.65)
"""Seconds after an acknowledge at which it is sent again if the client stays silent; ipmitool repeats after 1.0."""
FULL_PACKET: Final = MAX_PAYLOAD - HEADER_LENGTH
"""Characters in one packet of a long paste from ipmitool."""
RESENT_AFTER: Final = 0.9
"""Seconds, at the least, for each time that ipmitool has sent the same characters as a new packet."""
HOLD_ACKNOWLEDGE: Final = 0.4
"""Seconds that an acknowledge waits for a console that can't take characters."""
POLL_CONSOLE: Final = 0.05
"""Seconds between tries to pass characters to a console that could not take them."""
INPUT_BEFORE_HOLDING: Final = 4096
"""Octets of input that may wait here before acknowledges are held back."""
INPUT_LIMIT: Final = 65_536
"""Octets of input that may wait here at all. Held acknowledges let some 600 octets a second get in."""
_ACTIONS: Final = int(Operation.BREAK | Operation.FLUSH_INBOUND | Operation.FLUSH_OUTBOUND)
_SLOW_PATH: Final = 3
"""Packets in a row that were repeated before their answer came: the path is slower than the retry interval."""
_STALE_PACKETS: Final = 3
"""A packet so far behind the last one is a straggler of the network, unless ..."""
_STALE_TIME: Final = 1.0
"""... the last one came so many seconds ago (then the client has gone on without us)."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When packets go to the client. Times are seconds."""

    accumulate: float = 0.005
    """How long characters wait for more when there are fewer than `threshold`."""
    threshold: int = 1
    """So many characters are sent at once."""
    retry_interval: float = 0.05
    """Until an unacknowledged packet is repeated; longer on slow paths (twice the round trip)."""
    retries: int = 7
    """After so many the interval grows."""


class Input(Protocol):
    """Takes what the client types."""

    def write(self, data: bytes) -> int:
        """Pass characters on; returns how many were taken, from the first."""

    def send_break(self) -> None:
        """Hold the line in the break state for a moment."""


class Endpoint:
    """One activation of the SOL payload. A new one begins afresh: sequence numbers, buffers, everything.

    `send` gets each finished payload. `buffer_size` is how many octets wait for the client at the most.
    After every call, `next_timer` says when (monotonic seconds) `handle_timer` has to be called next, if at all.
    """

    __slots__ = (
        "_ack_repeats",
        "_buffer",
        "_buffer_size",
        "_first_at",
        "_flags",
        "_held_until",
        "_hold_at",
        "_in_accepted",
        "_in_at",
        "_in_characters",
        "_in_doubt",
        "_in_length",
        "_in_sequence",
        "_inbox",
        "_input",
        "_lost",
        "_out_sequence",
        "_packet",
        "_paused",
        "_poll_at",
        "_repeat_at",
        "_rest",
        "_retries",
        "_retry_at",
        "_retry_interval",
        "_round_trip",
        "_send",
        "_sent_at",
        "dropped",
        "next_timer",
        "timing",
    )

    def __init__(
        self,
        send: Callable[[bytes], None],
        console: Input,
        *,
        timing: Timing,
        buffer_size: int,
    ) -> None:
        self._send = send
        self._input = console
        self.timing = timing
        self._buffer_size = buffer_size
        self.next_timer: float | None = None
        self.dropped = 0
        """Octets of output dropped so far."""
        # Towards the client.
        self._buffer = bytearray()
        self._lost = 0  # dropped and not yet said in the stream
        self._first_at = 0.0  # since when the buffer has something in it
        self._packet = b""  # under way, header included; empty when nothing is
        self._rest = b""  # characters of a packet that the client did not accept, to go out first
        self._out_sequence = 0
        self._sent_at = 0.0
        self._round_trip = 0.0
        self._in_doubt = 0
        self._retries = 0
        self._retry_interval = timing.retry_interval
        self._retry_at: float | None = None
        self._hold_at: float | None = None  # until then `_rest` waits: the client had no room
        self._paused = False
        self._flags = 0  # status bits of the next packet
        # From the client.
        self._in_sequence = 0
        self._in_characters = b""  # of the last packet, if it was full
        self._in_length = 0
        self._in_accepted = 0
        self._in_at = 0.0
        self._inbox = bytearray()  # characters that the console did not take yet
        self._held_until: float | None = None  # until then the acknowledge of the last packet waits
        self._poll_at: float | None = None
        self._ack_repeats = len(REPEAT_ACKNOWLEDGE)
        self._repeat_at: float | None = None

    @property
    def waiting(self) -> int:
        """Octets that the client has not acknowledged yet."""
        return len(self._buffer) + len(self._rest) + max(0, len(self._packet) - HEADER_LENGTH)

    @property
    def untyped(self) -> int:
        """Octets from the client that the console has not taken yet."""
        return len(self._inbox)

    def output(self, data: bytes, now: float) -> None:
        """Characters from the machine: send them, now or as soon as the client is ready."""
        buffer = self._buffer
        if not buffer:
            self._first_at = now
        buffer += data
        excess = len(buffer) - self._buffer_size
        if excess > 0:
            del buffer[:excess]
            self._lost += excess
            self.dropped += excess
        if not self._packet:
            self._pump(now)
            self._set_timer()

    def receive(self, payload: bytes, now: float) -> None:
        """A payload came from the client. Malformed ones are ignored."""
        if len(payload) < HEADER_LENGTH:
            return
        sequence = payload[0] & MAX_SEQUENCE
        acknowledged = payload[1] & MAX_SEQUENCE
        operation = payload[3]
        self._paused = bool(operation & Operation.PAUSE)
        if acknowledged and acknowledged == self._out_sequence:
            self._acknowledged(payload[2], bool(operation & Operation.NACK), now)
        if sequence:
            self._characters(sequence, payload[HEADER_LENGTH:], operation, now)
        elif operation & _ACTIONS:
            self._operate(operation)
        if not self._packet:
            self._pump(now)
        self._set_timer()

    def handle_timer(self, now: float) -> None:
        """Do what is due; to be called at `next_timer`, or later."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry(now)
        if self._poll_at is not None and now >= self._poll_at:
            self._poll(now)
        if self._repeat_at is not None and now >= self._repeat_at:
            self._repeat_acknowledge()
        if not self._packet:
            self._pump(now)
        self._set_timer()

    def console_ready(self, now: float) -> None:
        """The console can take characters again."""
        if self._inbox:
            self._poll(now)
            self._set_timer()

    def finish(self, notice: bytes) -> None:
        """SOL is taken away from this client: say so, in words and by the status bit. Nothing is repeated."""
        self._out_sequence = following(self._out_sequence)
        self._send(bytes((self._out_sequence, 0, 0, 0)) + notice[:MAX_CHARACTERS])
        self._send(bytes((0, 0, 0, Status.DEACTIVATED)))
        self.next_timer = None

    # Towards the client

    def _pump(self, now: float) -> None:
        """Send the next packet, unless there is nothing to send or a reason to wait. Nothing is under way."""
        if self._paused or (self._hold_at is not None and now < self._hold_at):
            return
        buffer = self._buffer
        rest = self._rest
        if self._lost:
            rest += b"\r\n[pypmi: %d octets of output dropped]\r\n" % self._lost
            self._lost = 0
            self._flags |= Status.OVERRUN
        if not rest:
            waiting = len(buffer)
            if not waiting:
                return
            timing = self.timing
            if waiting < timing.threshold and now < self._first_at + timing.accumulate:
                return
        room = MAX_PAYLOAD - HEADER_LENGTH - len(rest)
        if room >= 0:
            characters = rest + buffer[:room]
            del buffer[:room]
            self._rest = b""
        else:
            characters, self._rest = rest[:room], rest[room:]
        self._first_at = now
        self._hold_at = None
        self._out_sequence = sequence = self._out_sequence % MAX_SEQUENCE + 1
        self._packet = packet = bytes((sequence, 0, 0, self._flags)) + characters
        self._flags = 0
        self._sent_at = now
        self._retries = 0
        self._retry_interval = interval = max(self.timing.retry_interval, 2 * self._round_trip)
        self._retry_at = now + interval
        self._send(packet)

    def _acknowledged(self, count: int, nack: bool, now: float) -> None:
        """The client answered the last packet: it accepted `count` characters of it."""
        packet = self._packet
        if not packet:
            # An answer to the same packet again: this time it has room (or says once more that it has none).
            if self._hold_at is not None and not nack:
                self._hold_at = now
            return
        # An answer to a repeated packet says nothing about the path, unless that is what happens all the time.
        self._in_doubt = self._in_doubt + 1 if self._retries else 0
        if not self._retries or self._in_doubt >= _SLOW_PATH:
            self._round_trip += (now - self._sent_at - self._round_trip) / 4
        self._packet = b""
        self._retry_at = None
        characters = len(packet) - HEADER_LENGTH
        if count < characters:
            self._rest = packet[HEADER_LENGTH + count :] + self._rest
            if nack or not count:
                self._hold_at = now + max(self.timing.retry_interval, 2 * self._round_trip)

    def _retry(self, now: float) -> None:
        if self._retries >= self.timing.retries:
            self._retry_interval = min(self._retry_interval * 2, LONGEST_RETRY_INTERVAL)
        self._retries += 1
        self._retry_at = now + self._retry_interval
        self._send(self._packet)

    # From the client

    def _operate(self, operation: int) -> None:
        if operation & Operation.FLUSH_OUTBOUND:
            self._buffer.clear()
            self._rest = self._packet = b""
            self._retry_at = self._hold_at = None
            self._lost = 0
        if operation & Operation.FLUSH_INBOUND:
            self._inbox.clear()
        if operation & Operation.BREAK:
            self._input.send_break()

    def _characters(self, sequence: int, characters: bytes, operation: int, now: float) -> None:
        """A packet with a sequence number: pass its characters on, once, and acknowledge it."""
        last = self._in_sequence
        if sequence == last:
            self._same_again(characters, now)
            return
        if last and (last - sequence) % MAX_SEQUENCE <= _STALE_PACKETS and now - self._in_at < _STALE_TIME:
            return
        if operation & _ACTIONS:
            self._operate(operation)
        self._in_sequence = sequence
        characters = characters[:MAX_CHARACTERS]
        if (
            characters == self._in_characters
            and self._in_accepted == FULL_PACKET
            and now - self._in_at >= (sequence - last) % MAX_SEQUENCE * RESENT_AFTER
        ):
            self._acknowledge(now)
            return
        self._in_characters = characters if len(characters) == FULL_PACKET else b""
        self._in_length = len(characters)
        self._in_accepted = 0
        self._in_at = now
        self._held_until = self._repeat_at = None
        self._pass_on(characters, now)

    def _same_again(self, characters: bytes, now: float) -> None:
        """The client repeats its last packet, maybe with more characters behind those that we have."""
        if self._held_until is not None:
            return  # its acknowledge is still to come
        more = characters[self._in_length : MAX_CHARACTERS]
        self._in_at = now
        if more and self._in_accepted == self._in_length:
            self._in_length += len(more)
            self._pass_on(more, now)
        else:
            self._acknowledge(now)

    def _pass_on(self, characters: bytes, now: float) -> None:
        """Hand characters to the console, or keep them for it, and acknowledge as many as found room."""
        inbox = self._inbox
        if not inbox:
            taken = self._input.write(characters) if characters else 0
            self._in_accepted += taken
            characters = characters[taken:]
            if not characters:
                self._acknowledge(now)
                return
        characters = characters[: INPUT_LIMIT - len(inbox)]
        inbox += characters
        self._in_accepted += len(characters)
        if self._poll_at is None:
            self._poll_at = now + POLL_CONSOLE
        if len(inbox) > INPUT_BEFORE_HOLDING:
            self._held_until = now + HOLD_ACKNOWLEDGE
        else:
            self._acknowledge(now)

    def _poll(self, now: float) -> None:
        """Try again to hand over what the console did not take."""
        inbox = self._inbox
        if inbox:
            del inbox[: self._input.write(bytes(inbox))]
        self._poll_at = now + POLL_CONSOLE if inbox else None
        if self._held_until is not None and (len(inbox) <= INPUT_BEFORE_HOLDING or now >= self._held_until):
            self._held_until = None
            self._acknowledge(now)

    def _acknowledge(self, now: float) -> None:
        self._send(bytes((0, self._in_sequence, self._in_accepted, 0)))
        self._in_at = now
        if 0 < self._in_length < FULL_PACKET:
            self._ack_repeats = 0
            self._repeat_at = now + REPEAT_ACKNOWLEDGE[0]

    def _repeat_acknowledge(self) -> None:
        self._send(bytes((0, self._in_sequence, self._in_accepted, 0)))
        self._ack_repeats += 1
        if self._ack_repeats < len(REPEAT_ACKNOWLEDGE):
            self._repeat_at = self._in_at + REPEAT_ACKNOWLEDGE[self._ack_repeats]
        else:
            self._repeat_at = None

    def _set_timer(self) -> None:
        """Work out `next_timer`."""
        due = self._retry_at
        repeat_at = self._repeat_at
        if repeat_at is not None and (due is None or repeat_at < due):
            due = repeat_at
        poll_at = self._poll_at
        if poll_at is not None and (due is None or poll_at < due):
            due = poll_at
        if not self._packet and not self._paused and (self._buffer or self._rest or self._lost):
            pump_at = self._hold_at
            if pump_at is None:
                pump_at = self._first_at + self.timing.accumulate
            if due is None or pump_at < due:
                due = pump_at
        self.next_timer = due
