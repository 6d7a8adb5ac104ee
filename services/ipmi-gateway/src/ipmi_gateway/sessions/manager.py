"""All sessions, open and half open: the handshake, limits, time-outs, and how sessions end."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, Protocol

from ipmi_gateway.codes import Privilege
from ipmi_gateway.events import CloseReason, Event, LoginFailed, SessionClosed, SessionOpened
from ipmi_gateway.packets.rmcpplus import PayloadType, Status
from ipmi_gateway.sessions import rakp
from ipmi_gateway.sessions.entropy import Entropy
from ipmi_gateway.sessions.handshakes import HandshakeTable
from ipmi_gateway.sessions.limits import LoginDelay, SourceLimiter, source_of
from ipmi_gateway.sessions.session import Peer, Session, SessionHost
from ipmi_gateway.sessions.suites import KEY_CONSTANT_LENGTH, SessionCrypto, Suite
from ipmi_gateway.sessions.users import User, Users
from ipmi_gateway.settings import GatewaySettings, SourceLimitSettings
from ipmi_gateway.timers import TimerCallback

if TYPE_CHECKING:
    from ipmi_gateway.directory import Listener

_HANDLES: Final = 255
_LAST_WORDS: Final = 256
"""Sessions closed just now whose last answer is kept."""
_FAILURE_REPORTS: Final = SourceLimitSettings(rate=1.0, burst=20.0, maximum=1024)
"""How many failed logins of one source are reported: a guesser must not fill the disk."""


class HandshakeHost(SessionHost, Protocol):
    """What the manager needs of the engine, besides what sessions do."""

    def transmit_sessionless(self, payload_type: int, payload: bytes, peer: Peer, listener: "Listener") -> None:
        """Send a payload outside any session."""


def peer_text(peer: Peer) -> str:
    """A client's address and port, as people write it."""
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


class _HalfOpen:
    """A handshake under way; kept for a while after its end, since the last answer may get lost."""

    __slots__ = (
        "console_id",
        "first",
        "first_answer",
        "handshake",
        "last",
        "last_answer",
        "level",
        "listener",
        "peer",
        "started",
        "suite",
        "tries",
        "user",
    )

    def __init__(
        self, peer: Peer, listener: "Listener", *, console_id: int, level: Privilege, suite: Suite, now: float
    ) -> None:
        self.console_id = console_id
        self.level = level
        self.suite = suite
        self.peer = peer
        self.listener = listener
        self.started = now
        self.tries = 0
        self.first = b""  # the RAKP 1 that was answered, without its tag
        self.first_answer: bytes | None = None  # None while it is held back
        self.last = b""  # the same of RAKP 3: set when the handshake is over
        self.last_answer = b""
        self.handshake: rakp.Handshake | None = None
        self.user: User | None = None


@dataclass(frozen=True, slots=True)
class LastWords:
    """The end of a session that has closed itself."""

    session: Session
    key: bytes
    """The Close Session message."""
    messages: tuple[bytes, ...]
    """Its answer."""
    until: float


def _retag(answer: bytes, tag: int) -> bytes:
    return bytes((tag,)) + answer[1:]


class SessionManager:
    """Opens, finds and closes sessions."""

    def __init__(
        self,
        settings: GatewaySettings,
        users: Users,
        host: "HandshakeHost",
        on_event: Callable[[Event], None],
        entropy: Entropy,
    ) -> None:
        self.settings = settings
        self.users = users
        self.sessions: dict[int, Session] = {}
        """By our session id."""
        self._limits = settings.sessions
        self._kg = settings.effective_kg
        self._host = host
        self._on_event = on_event
        self._entropy = entropy
        self._half_open: HandshakeTable[_HalfOpen] = HandshakeTable(settings.sessions.half_open_maximum)
        self._per_user: dict[int, int] = {}
        self._delay = LoginDelay(settings.login_delay)
        self._reports = SourceLimiter(_FAILURE_REPORTS)
        self._last_handle = 0
        self._last_words: OrderedDict[int, LastWords] = OrderedDict()

    # --- the handshake -----------------------------------------------------------------------------------------

    def open_session(self, payload: bytes, peer: Peer, listener: "Listener", now: float) -> bytes | None:
        """Answer an Open Session Request (section 13.17, 13.18)."""
        request = rakp.unpack_open_request(payload)
        if request is None:
            return None

        def refuse(status: Status) -> bytes:
            return rakp.pack_error(request.tag, status, request.console_id)

        if request.algorithms is None or request.console_id == 0:
            return refuse(Status.ILLEGAL_PARAMETER)
        highest = self.settings.channel_privilege_limit
        if request.level > highest:
            return refuse(Status.INVALID_ROLE)
        suite = rakp.choose_suite(request.algorithms, self.settings.suites)
        if isinstance(suite, Status):
            return refuse(suite)
        if len(self.sessions) >= self._limits.maximum:
            return refuse(Status.INSUFFICIENT_RESOURCES)
        level = Privilege(request.level) if request.level else highest
        session_id = self._entropy.identifier()
        while session_id in self._half_open or session_id in self.sessions:
            session_id = self._entropy.identifier()
        half = _HalfOpen(peer, listener, console_id=request.console_id, level=level, suite=suite, now=now)
        self._half_open.add(session_id, source_of(peer[0]), half)
        return rakp.pack_open_response(request, session_id, level, suite)

    def rakp1(self, payload: bytes, peer: Peer, listener: "Listener", now: float) -> bytes | None:
        """Answer RAKP message 1; None also when the answer is held back because of failed logins."""
        message = rakp.unpack_rakp1(payload)
        if message is None:
            return None
        half = self._find_half_open(message.session_id, peer, listener)
        if half is None or (half.last and half.first != payload[1:]):
            return rakp.pack_error(message.tag, Status.INVALID_SESSION_ID, 0)
        if half.first == payload[1:]:
            return None if half.first_answer is None else _retag(half.first_answer, message.tag)
        half.tries += 1
        if half.tries > self._limits.handshake_tries:
            return None
        half.first = payload[1:]
        half.first_answer = None
        half.handshake = None
        user = self._authorize(message, half)
        if isinstance(user, Status):
            half.first_answer = rakp.pack_error(message.tag, user, half.console_id)
            if user in {Status.UNAUTHORIZED_NAME, Status.UNAUTHORIZED_ROLE}:
                self._report_failure(message.name or b"", half, user, 0, now)
            return half.first_answer
        turn = self._delay.reserve(source_of(peer[0]), user.name, now)
        if turn is None or self._per_user.get(user.id, 0) >= self._limits.maximum_per_user:
            half.first_answer = rakp.pack_error(message.tag, Status.INSUFFICIENT_RESOURCES, half.console_id)
            return half.first_answer
        half.user = user
        if turn <= now:
            return self._answer_rakp1(half, message)
        self._host.call_at(turn, self._held_back(half, message))
        return None

    def rakp3(self, payload: bytes, peer: Peer, listener: "Listener", now: float) -> bytes | None:
        """Answer RAKP message 3, and open the session when it is right."""
        message = rakp.unpack_rakp3(payload)
        if message is None:
            return None
        half = self._find_half_open(message.session_id, peer, listener)
        if half is None:
            return rakp.pack_error(message.tag, Status.INVALID_SESSION_ID, 0)
        if half.last:
            if half.last == payload[1:]:
                return _retag(half.last_answer, message.tag)
            return rakp.pack_error(message.tag, Status.INVALID_SESSION_ID, 0)
        if message.status != Status.OK:
            if half.handshake is not None and message.status == Status.INVALID_INTEGRITY_CHECK:
                # This client says that our proof is wrong, and so its password is; most just go away.
                self._report_failure(half.handshake.name, half, Status.INVALID_INTEGRITY_CHECK, 0, now)
            self._half_open.remove(message.session_id)
            return None
        if half.handshake is None or half.user is None:
            return rakp.pack_error(message.tag, Status.INACTIVE_SESSION_ID, half.console_id)
        half.last = payload[1:]
        half.last_answer = self._answer_rakp3(message, half, half.handshake, half.user, now)
        half.handshake = half.user = None
        return half.last_answer

    def _find_half_open(self, session_id: int, peer: Peer, listener: "Listener") -> _HalfOpen | None:
        half = self._half_open.get(session_id)
        return half if half is not None and half.peer == peer and half.listener is listener else None

    def _authorize(self, message: rakp.Rakp1, half: _HalfOpen) -> User | Status:
        """The user who may go on, or why not."""
        if message.name is None:
            return Status.INVALID_NAME_LENGTH
        if not Privilege.CALLBACK <= message.level <= Privilege.OEM:
            return Status.INVALID_ROLE
        # One name is one account here, so a look-up by name and privilege finds the same one as by name only.
        user = self.users.by_name(message.name)
        if user is None or not user.may_reach(half.listener.bmc.node_id):
            return Status.UNAUTHORIZED_NAME
        if message.level > min(user.privilege, half.level):
            return Status.UNAUTHORIZED_ROLE
        return user

    def _answer_rakp1(self, half: _HalfOpen, message: rakp.Rakp1) -> bytes | None:
        if half.user is None or message.name is None:
            return None
        half.handshake = rakp.Handshake(
            suite=half.suite,
            console_id=half.console_id,
            session_id=message.session_id,
            console_random=message.console_random,
            random=self._entropy.block(),
            guid=half.listener.bmc.guid,
            role=message.role,
            name=message.name,
        )
        half.first_answer = rakp.pack_rakp2(message.tag, half.handshake, half.user.password)
        return half.first_answer

    def _held_back(self, half: _HalfOpen, message: rakp.Rakp1) -> TimerCallback:
        asked = half.first

        def answer(_now: float) -> None:
            if self._half_open.get(message.session_id) is half and half.first is asked:
                payload = self._answer_rakp1(half, message)
                if payload is not None:
                    self._host.transmit_sessionless(PayloadType.RAKP_2, payload, half.peer, half.listener)

        return answer

    def _answer_rakp3(
        self, message: rakp.Rakp3, half: _HalfOpen, handshake: rakp.Handshake, user: User, now: float
    ) -> bytes:
        source = source_of(half.peer[0])
        if not compare_digest(message.proof, handshake.rakp3_check(user.password)):
            failures = self._delay.failed(source, user.name, now)
            self._report_failure(handshake.name, half, Status.INVALID_INTEGRITY_CHECK, failures, now)
            return rakp.pack_error(message.tag, Status.INVALID_INTEGRITY_CHECK, half.console_id)
        self._delay.succeeded(source, user.name)
        count = self._per_user.get(user.id, 0)
        if len(self.sessions) >= self._limits.maximum or count >= self._limits.maximum_per_user:
            return rakp.pack_error(message.tag, Status.INSUFFICIENT_RESOURCES, half.console_id)
        key = handshake.integrity_key(user.password if self._kg is None else self._kg)
        self._last_handle = self._last_handle % _HANDLES + 1
        suite, random16 = half.suite, self._entropy.block
        session = Session(
            self._host,
            session_id=handshake.session_id,
            console_id=half.console_id,
            handle=self._last_handle,
            user=user,
            ceiling=Privilege(handshake.role & 0x0F),
            peer=half.peer,
            listener=half.listener,
            suite=suite.id,
            crypto=SessionCrypto(suite, key, random16),
            crypto_of_others=(
                None
                if suite.digest_length == KEY_CONSTANT_LENGTH
                else lambda: SessionCrypto(suite, key, random16, suite.digest_length)
            ),
            now=now,
        )
        self.sessions[session.id] = session
        self._per_user[user.id] = count + 1
        self._on_event(
            SessionOpened(
                user=user.name,
                peer=peer_text(session.peer),
                listener=session.listener.name,
                node=session.listener.bmc.node_id,
                session=session.id,
                privilege=session.ceiling,
                suite=session.suite,
            )
        )
        return rakp.pack_rakp4(message.tag, handshake, key)

    def _report_failure(self, name: bytes, half: _HalfOpen, status: Status, failures: int, now: float) -> None:
        if self._reports.allow(source_of(half.peer[0]), now):
            self._on_event(
                LoginFailed(
                    user=name.decode(errors="replace"),
                    peer=peer_text(half.peer),
                    listener=half.listener.name,
                    node=half.listener.bmc.node_id,
                    status=status,
                    failures=failures,
                )
            )

    # --- open sessions -----------------------------------------------------------------------------------------

    def remember_last_words(self, session: Session, key: bytes, messages: tuple[bytes, ...], now: float) -> None:
        """Keep the answer to the Close Session by which a session has ended itself: it may get lost."""
        while len(self._last_words) >= _LAST_WORDS:
            self._last_words.popitem(last=False)
        self._last_words[session.id] = LastWords(session, key, messages, now + self._limits.remember_for)

    def last_words(self, session_id: int, now: float) -> "LastWords | None":
        """What `remember_last_words` kept, for as long as answers are remembered."""
        words = self._last_words.get(session_id)
        return words if words is not None and now < words.until else None

    def close(self, session: Session, reason: CloseReason, now: float) -> None:
        """End a session; a second time does nothing."""
        if self.sessions.pop(session.id, None) is None:
            return
        session.closed = True
        session.answers.clear()
        session.waiting.clear()
        left = self._per_user[session.user.id] - 1
        if left:
            self._per_user[session.user.id] = left
        else:
            del self._per_user[session.user.id]
        sol, session.sol = session.sol, None
        if sol is not None:
            sol.closed(reason)
        self._on_event(
            SessionClosed(
                user=session.user.name,
                peer=peer_text(session.peer),
                listener=session.listener.name,
                node=session.listener.bmc.node_id,
                session=session.id,
                reason=reason,
                duration=now - session.opened_at,
            )
        )

    def close_all(self, reason: CloseReason, now: float) -> None:
        """End all sessions and handshakes."""
        self._half_open.clear()
        for session in list(self.sessions.values()):
            self.close(session, reason, now)

    def users_changed(self, now: float) -> None:
        """End the sessions and handshakes of users that are gone, or not the same any more."""
        for session_id, half in list(self._half_open.items()):
            if half.user is not None and self.users.by_name(half.user.name.encode()) != half.user:
                self._half_open.remove(session_id)
        for session in list(self.sessions.values()):
            if self.users.by_name(session.user.name.encode()) != session.user:
                self.close(session, CloseReason.USER_CHANGED, now)

    def sweep(self, now: float) -> None:
        """End what has been silent for too long. To be called about once a second."""
        self._sweep_half_open(now - self._limits.half_open_timeout)
        forget = now - self._limits.remember_for
        timeout = now - self._limits.inactivity_timeout
        late: list[Session] = []
        for session in self.sessions.values():
            if session.last_active <= timeout:
                late.append(session)
            elif session.last_active < forget and session.answers:
                session.answers.clear()
        for session in late:
            self.close(session, CloseReason.TIMEOUT, now)

    def _sweep_half_open(self, before: float) -> None:
        while self._half_open:
            session_id, half = next(self._half_open.items())
            if half.started > before:
                return
            self._half_open.remove(session_id)

    @property
    def half_open(self) -> int:
        """Handshakes that are remembered."""
        return len(self._half_open)

    def by_index(self, index: int) -> Session | None:
        """The n-th open session, from 1."""
        for position, session in enumerate(self.sessions.values(), start=1):
            if position == index:
                return session
        return None

    def by_handle(self, handle: int) -> Session | None:
        """The newest open session with this handle."""
        matching = (session for session in reversed(self.sessions.values()) if session.handle == handle)
        return next(matching, None)

    def __iter__(self) -> Iterator[Session]:
        return iter(self.sessions.values())
