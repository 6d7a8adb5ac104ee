"""One open session: opening and sealing its packets, its privilege, and what it remembers for repeated requests."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from ipmi_gateway.codes import Privilege
from ipmi_gateway.events import CloseReason
from ipmi_gateway.sessions.suites import SessionCrypto, SuiteId
from ipmi_gateway.sessions.users import User
from ipmi_gateway.timers import Timer, TimerCallback

if TYPE_CHECKING:
    from ipmi_gateway.directory import Listener

Peer = tuple[str, int] | tuple[str, int, int, int]
"""A client's socket address, as `recvfrom` gives it for IPv4 or IPv6."""

WINDOW_BEHIND: Final = 16
"""Sequence numbers up to so far behind the highest one seen are accepted, each once (section 6.12.13)."""
WINDOW_AHEAD: Final = 16
_SEQUENCE_MASK: Final = 0xFFFFFFFF
_WINDOW_MASK: Final = (1 << (WINDOW_BEHIND + 1)) - 1


class SolPort(Protocol):
    """What takes a session's SOL payloads, while `Session.sol` is set: the console's side of one activation.

    It sends with `session.send_payload`, and sets its timers with `session.call_at`. The session holds at most one.
    """

    def receive(self, data: bytes, now: float) -> None:
        """A SOL payload came (its integrity checked, decrypted): header and characters. Must not raise."""

    def closed(self, reason: CloseReason) -> None:
        """The session is over; nothing can be sent any more. `Session.sol` has been reset. Must not raise."""


class SessionHost(Protocol):
    """What a session needs of the engine that it lives in."""

    def transmit(self, session: "Session", datagram: bytes) -> None:
        """Send a finished datagram to the session's client."""

    def call_at(self, when: float, callback: TimerCallback) -> Timer:
        """Call `callback(now)` at `when` (monotonic seconds)."""


class Session:
    """An authenticated client. Made by the session manager when RAKP 3 was right."""

    __slots__ = (
        "_crypto_of_others",
        "_highest",
        "_host",
        "_out_sequence",
        "_seen",
        "answers",
        "ceiling",
        "closed",
        "console_id",
        "crypto",
        "handle",
        "id",
        "last_active",
        "listener",
        "opened_at",
        "peer",
        "privilege",
        "sol",
        "suite",
        "user",
        "waiting",
    )

    def __init__(
        self,
        host: SessionHost,
        *,
        session_id: int,
        console_id: int,
        handle: int,
        user: User,
        ceiling: Privilege,
        peer: Peer,
        listener: "Listener",
        suite: SuiteId,
        crypto: SessionCrypto,
        crypto_of_others: Callable[[], SessionCrypto] | None = None,
        now: float,
    ) -> None:
        self._host = host
        self.id = session_id
        """Ours: what the client puts into its packets."""
        self.console_id = console_id
        """The client's: what we put into ours."""
        self.handle = handle
        """1 to 255; with many sessions not unique."""
        self.user = user
        self.ceiling = ceiling
        """The least of what RAKP 1 asked, the user's limit and the channel's."""
        self.privilege = min(Privilege.USER, ceiling)
        """The present operating level."""
        self.peer = peer
        self.listener = listener
        self.suite = suite
        self.crypto = crypto
        self._crypto_of_others = crypto_of_others
        """Keys as some clients make them; taken if the first packet that is right was made with them."""
        self.opened_at = now
        self.last_active = now
        self.closed = False
        self.sol: SolPort | None = None
        self.answers: dict[bytes, tuple[float, tuple[bytes, ...]]] = {}
        """By request message: until when it is remembered, and the messages that answered it."""
        self.waiting: set[bytes] = set()
        """Request messages whose answer is still in work."""
        self._highest = 0
        self._seen = 1  # bit n: `_highest` - n came already; sequence 0 never comes
        self._out_sequence = 0

    def send_payload(self, payload_type: int, payload: bytes) -> None:
        """Encrypt, authenticate and send a payload. Does nothing when the session is over."""
        if not self.closed:
            self._host.transmit(self, self.seal(payload_type, payload))

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        """Set a timer: `callback(now)` at `when` (monotonic seconds, like `Request.now`). It outlives the session."""
        return self._host.call_at(when, callback)

    def seal(self, payload_type: int, payload: bytes) -> bytes:
        """The next datagram of this session, with a new sequence number."""
        sequence = self._out_sequence = (self._out_sequence + 1) & _SEQUENCE_MASK or 1
        return self.crypto.seal(payload_type, self.console_id, sequence, payload)

    def unseal(self, datagram: bytes, sequence: int, length: int) -> bytes | None:
        """The payload of a datagram, or None when it is forged, a replay, out of the window or malformed.

        `sequence` and `length` (of the payload) are what its header says.
        """
        ahead = (sequence - self._highest) & _SEQUENCE_MASK
        if ahead > WINDOW_AHEAD:
            behind = (self._highest - sequence) & _SEQUENCE_MASK
            if behind > WINDOW_BEHIND or self._seen >> behind & 1 or sequence == 0:
                return None
            payload = self._open(datagram, length)
            if payload is not None:
                self._seen |= 1 << behind
            return payload
        if ahead == 0 or sequence == 0:
            return None
        payload = self._open(datagram, length)
        if payload is not None:
            self._seen = (self._seen << ahead | 1) & _WINDOW_MASK
            self._highest = sequence
        return payload

    def _open(self, datagram: bytes, length: int) -> bytes | None:
        payload = self.crypto.unseal(datagram, length)
        if self._crypto_of_others is not None:
            if payload is None:
                other = self._crypto_of_others()
                payload = other.unseal(datagram, length)
                if payload is None:
                    return None
                self.crypto = other
            self._crypto_of_others = None
        return payload
