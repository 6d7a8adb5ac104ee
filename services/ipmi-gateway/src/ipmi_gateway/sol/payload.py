"""The SOL payload of one controller: who has its console, who may take it, and each activation's plumbing."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pypmi.console import ConsoleData, ConsoleEvent, ConsoleGap, ConsoleNotice, ConsoleOfflineError, NoticeKind

from ipmi_gateway.events import CloseReason
from ipmi_gateway.packets.rmcpplus import PayloadType
from ipmi_gateway.sessions.session import Session
from ipmi_gateway.sol.console import Console, ConsoleLink
from ipmi_gateway.sol.endpoint import Endpoint
from ipmi_gateway.sol.packet import HEADER_LENGTH, MAX_SEQUENCE, Status
from ipmi_gateway.sol.parameters import SolParameters
from ipmi_gateway.timers import Timer

log = logging.getLogger(__name__)

OFFLINE_PATIENCE: Final = 10.0
"""Seconds that input waits for a console that is away; what is typed later is dropped, with a word to the client."""
DRAIN_PATIENCE: Final = 30.0
"""Seconds that input which was acknowledged may take to find room after the session has let go."""
_TIMER_GRID: Final = 0.01
"""Seconds: timers that are not urgent are rounded up to this, so that those of many consoles run together."""


class Conflict(StrEnum):
    """What happens when a second session activates a console that one has."""

    REFUSE = "refuse"
    TAKEOVER = "takeover"
    """By an equal or higher privilege, or the same user."""
    SHARE = "share"
    """All see the output, and type."""


@dataclass(frozen=True, slots=True)
class SolPolicy:
    """How consoles are served."""

    enabled: bool = True
    conflict: Conflict = Conflict.TAKEOVER
    allow_unencrypted: bool = False
    """Let clients ask for a payload without encryption (it travels as all of its session's packets do)."""
    scrollback: int = 4096
    """Octets of what the machine said before that a new session is shown."""
    buffer: int = 2_097_152
    """Octets that wait for a slow client before the oldest are dropped."""
    maximum_shared: int = 15
    """Sessions on one console, where it is shared."""


class Refusal(StrEnum):
    """Why a console can't be had, or be taken from somebody."""

    DISABLED = "disabled"
    ACTIVE_ELSEWHERE = "active on another session"
    LIMIT = "limit reached"
    UNENCRYPTED = "encryption is required"
    PRIVILEGE = "insufficient privilege"
    NOT_ACTIVE = "not active"


class SolRefusedError(Exception):
    """A console can't be had, or be taken from somebody."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.value)
        self.reason = reason


def _text(words: str) -> bytes:
    """What we say in the stream ourselves."""
    return f"\r\n[pypmi: {words}]\r\n".encode()


class SolPayload:
    """Instance 1 of the SOL payload of a controller. `console` is None where there is no console."""

    def __init__(
        self,
        label: str,
        parameters: SolParameters,
        policy: SolPolicy,
        clock: Callable[[], float],
        console: Console | None = None,
    ) -> None:
        self.label = label
        self.parameters = parameters
        self.policy = policy
        self.clock = clock
        self.console = console
        self.active: list[Activation] = []
        """Oldest first; more than one only where the console is shared."""

    @property
    def available(self) -> bool:
        """SOL can be activated."""
        return self.console is not None and self.policy.enabled and self.parameters.enabled

    def activate(self, session: Session, *, encrypted: bool, now: float) -> None:
        """Give the console to a session. Raises `SolRefusedError`."""
        if self.console is None or not self.available:
            raise SolRefusedError(Refusal.DISABLED)
        if session.privilege < self.parameters.privilege:
            raise SolRefusedError(Refusal.PRIVILEGE)
        if not encrypted and self.parameters.force_encryption:
            raise SolRefusedError(Refusal.UNENCRYPTED)
        present = session.sol
        if isinstance(present, Activation):
            if present.payload is not self:
                raise SolRefusedError(Refusal.LIMIT)  # a session carries one console at a time
            present.end()
        self._make_room(session)
        activation = Activation(self, self.console, session)
        self.active.append(activation)
        session.sol = activation
        # After the answer to the command, which clients want to see first.
        session.call_at(now, activation.start)
        log.info("console of %s: activated by %s", self.label, activation.who)

    def _make_room(self, session: Session) -> None:
        """See to it that one more session can have the console."""
        others = self.active
        if not others:
            return
        if self.policy.conflict is Conflict.REFUSE:
            raise SolRefusedError(Refusal.ACTIVE_ELSEWHERE)
        if self.policy.conflict is Conflict.SHARE:
            if len(others) >= self.policy.maximum_shared:
                raise SolRefusedError(Refusal.LIMIT)
            return
        if not all(_may_replace(session, other.session) for other in others):
            raise SolRefusedError(Refusal.ACTIVE_ELSEWHERE)
        for other in tuple(others):
            other.take_away(f"console taken over by {_who(session)}")

    def deactivate(self, session: Session) -> None:
        """End the session's own activation, or, when it has none, those of all others. Raises `SolRefusedError`."""
        for activation in self.active:
            if activation.session is session:
                log.info("console of %s: deactivated by %s", self.label, activation.who)
                activation.end()
                return
        if session.privilege < self.parameters.privilege:
            raise SolRefusedError(Refusal.PRIVILEGE)
        if not self.active:
            raise SolRefusedError(Refusal.NOT_ACTIVE)
        if not all(_may_replace(session, other.session) for other in self.active):
            raise SolRefusedError(Refusal.PRIVILEGE)
        for activation in tuple(self.active):
            activation.take_away(f"console deactivated by {_who(session)}")

    def holder(self, session: Session | None) -> Session | None:
        """Who has the console: the session that asks, if it does, else the first one that does."""
        sessions = [activation.session for activation in self.active]
        if session is not None and session in sessions:
            return session
        return sessions[0] if sessions else None

    def retime(self) -> None:
        """The timing parameters have changed."""
        for activation in self.active:
            activation.endpoint.timing = self.parameters.timing

    def close(self, why: str) -> None:
        """The controller goes away."""
        self.console = None
        for activation in tuple(self.active):
            activation.take_away(why)


def _who(session: Session) -> str:
    return f"{session.user.name} from {session.peer[0]}"


def _may_replace(session: Session, other: Session) -> bool:
    return session.privilege >= other.privilege or session.user.name == other.user.name


class Activation:
    """One session's hold of a console: the session's `SolPort`, and the console's viewer."""

    def __init__(self, payload: SolPayload, console: Console, session: Session) -> None:
        self.payload = payload
        self.session = session
        self.who = _who(session)
        self.endpoint = Endpoint(self._send, self, timing=payload.parameters.timing, buffer_size=payload.policy.buffer)
        self._console = console
        self._link: ConsoleLink | None = None
        self._timer: Timer | None = None
        self._over = False
        self._scrollback_shown = False
        self._offline_since: float | None = None
        self._input_lost = False

    def start(self, _now: float) -> None:
        """Begin to look at the console."""
        if not self._over:
            self._link = self._console.attach(
                f"ipmi-{self.who}", self._on_event, scrollback=self.payload.policy.scrollback, on_room=self._on_room
            )

    # --- the session's side

    def receive(self, data: bytes, now: float) -> None:
        """See `SolPort`."""
        self.endpoint.receive(data, now)
        self._arm(now)

    def closed(self, reason: CloseReason) -> None:
        """See `SolPort`."""
        log.info("console of %s: the session of %s is %s", self.payload.label, self.who, reason.value)
        self._finish()

    def end(self) -> None:
        """The session itself has deactivated the payload."""
        self.session.sol = None
        self._finish()

    def take_away(self, why: str) -> None:
        """Somebody else has ended it: tell the session, now and whenever it sends something."""
        log.info("console of %s: taken from %s: %s", self.payload.label, self.who, why)
        self.endpoint.finish(_text(why))
        self._finish()
        self.session.sol = TakenAway(self.session)

    def _finish(self) -> None:
        self._over = True
        self.payload.active.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.endpoint.untyped:
            # Acknowledged, so it has to get there, if only there is room within some time.
            self.session.call_at(self.payload.clock() + DRAIN_PATIENCE, self._detach)
            self.endpoint.console_ready(self.payload.clock())
        if not self.endpoint.untyped:
            self._detach()

    def _detach(self, _now: float = 0.0) -> None:
        if self._link is not None:
            self._link.detach()
            self._link = None

    def _send(self, payload: bytes) -> None:
        if not self._over:
            self.session.send_payload(PayloadType.SOL, payload)

    def _arm(self, now: float) -> None:
        """Have a timer run at the endpoint's next one or before: timers that come too early cost less than new ones."""
        due = self.endpoint.next_timer
        if due is None:
            return
        timer = self._timer
        if timer is not None:
            if timer.when <= due:
                return
            timer.cancel()
        if due > now + 2 * _TIMER_GRID:
            due = math.ceil(due / _TIMER_GRID) * _TIMER_GRID
        self._timer = self.session.call_at(due, self._on_timer)

    def _on_timer(self, now: float) -> None:
        self._timer = None
        if self._over:
            return
        due = self.endpoint.next_timer
        if due is not None and now >= due:
            self.endpoint.handle_timer(now)
        self._arm(now)

    # --- the console's side

    def _on_event(self, event: ConsoleEvent) -> None:
        if self._over:
            return
        if isinstance(event, ConsoleData):
            data = event.data
            if event.scrollback and not self._scrollback_shown:
                self._scrollback_shown = True
                data = _text("what the console said before") + data
        elif isinstance(event, ConsoleGap):
            data = _text(str(event))
        else:
            data = self._note(event)
        if data:
            now = self.payload.clock()
            self.endpoint.output(data, now)
            self._arm(now)

    def _note(self, notice: ConsoleNotice) -> bytes:
        if notice.kind is NoticeKind.LIVE:
            return _text("live output") if self._scrollback_shown else b""
        if notice.kind is NoticeKind.ONLINE:
            self._offline_since = None
            self._input_lost = False
        return _text(notice.text)

    def _on_room(self) -> None:
        now = self.payload.clock()
        self.endpoint.console_ready(now)
        if not self._over:
            self._arm(now)
        elif not self.endpoint.untyped:
            self._detach()

    # --- what the client types (see `endpoint.Input`)

    def write(self, data: bytes) -> int:
        """Pass characters on to the console."""
        if self._link is None:
            return 0
        try:
            taken = self._link.write(data)
        except ConsoleOfflineError as error:
            now = self.payload.clock()
            if self._offline_since is None:
                self._offline_since = now
            if now < self._offline_since + OFFLINE_PATIENCE:
                return 0
            if not self._input_lost:
                self._input_lost = True
                self.endpoint.output(_text(f"what is typed is lost: {error}"), now)
            return len(data)
        self._offline_since = None
        self._input_lost = False
        return taken

    def send_break(self) -> None:
        """Have the console send a break."""
        if self._link is not None:
            self._link.send_break()


class TakenAway:
    """What is left in a session that lost its console: answers everything with "SOL deactivated"."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def receive(self, data: bytes, now: float) -> None:  # noqa: ARG002 - as `SolPort` has it
        """See `SolPort`. Nothing is accepted."""
        if len(data) >= HEADER_LENGTH and data[0] & MAX_SEQUENCE:
            self._session.send_payload(
                PayloadType.SOL, bytes((0, data[0] & MAX_SEQUENCE, 0, Status.NACK | Status.DEACTIVATED))
            )

    def closed(self, reason: CloseReason) -> None:
        """See `SolPort`."""
