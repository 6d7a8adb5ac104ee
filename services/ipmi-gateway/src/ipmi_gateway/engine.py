"""The gateway without its sockets: datagrams and time in, datagrams and events out.

    engine.receive(datagram, peer, listener, now)
    for datagram, peer, listener in engine.take_output(): ...
    for work in engine.take_work(): await it, then engine.finish(work, result, now)
    engine.handle_timer(now), when engine.next_timer() says so

`now` is any monotonic clock in seconds, the same one throughout. Not thread safe.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from ipmi_gateway.bridging import SEND_MESSAGE, Refused, resolve
from ipmi_gateway.codes import BMC_ADDRESS, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import Command, CompletionError, Registry, Request, call
from ipmi_gateway.commands.session import session_commands
from ipmi_gateway.directory import Directory, Listener
from ipmi_gateway.events import CloseReason, CommandDone, Event
from ipmi_gateway.packets import asf, ipmb, lan15, rmcp, rmcpplus
from ipmi_gateway.packets.rmcpplus import PayloadType
from ipmi_gateway.sessions.entropy import Entropy
from ipmi_gateway.sessions.limits import SourceLimiter, source_of
from ipmi_gateway.sessions.manager import SessionManager, peer_text
from ipmi_gateway.sessions.session import Peer, Session
from ipmi_gateway.sessions.users import Users
from ipmi_gateway.settings import GatewaySettings
from ipmi_gateway.timers import Timer, TimerCallback, Timers

log = logging.getLogger(__name__)

Output = tuple[bytes, Peer, Listener]
"""A datagram, to whom, and from which listener's socket."""

MAX_DATAGRAM: Final = 1024
"""Longer ones are dropped unread; the longest real ones (SOL, write FRU) have some 350 octets."""
_SWEEP_INTERVAL: Final = 1.0
_RMCP_VERSION: Final = bytes((rmcp.VERSION,))
_RMCPPLUS_MARK: Final = bytes((rmcp.MessageClass.IPMI, rmcpplus.AUTH_FORMAT))
_NO_SESSION: Final = bytes(4)
_PROTECTED: Final = rmcpplus.ENCRYPTED | rmcpplus.AUTHENTICATED
# Members of enums as plain numbers: looking one up costs 0.1 µs, and these are needed for each packet.
_OK: Final = int(Code.OK)
_APP: Final = int(NetFn.APP)
_IPMI_PAYLOAD: Final = int(PayloadType.IPMI)
_SOL_PAYLOAD: Final = int(PayloadType.SOL)
_PAYLOAD_OFFSET: Final = rmcpplus.PAYLOAD_OFFSET
_HEADER_AT: Final = rmcp.HEADER_LENGTH
_unpack_header: Final = rmcpplus.HEADER.unpack_from


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A request whose handler has to wait for something."""

    awaitable: Awaitable[bytes]
    """To be awaited once; its result, or the exception it raised, goes to `Engine.finish`."""
    session: Session
    key: bytes
    """The datagram's message, by which a repeat of it is known."""
    answers: tuple[bytes, ...]
    message: ipmb.Message
    command: Command
    node: str | None


def _ignore(_event: Event) -> None:
    pass


def _no_wake() -> None:
    pass


class Engine:
    """The protocol core. `commands` are those besides session and user management, which the engine brings along."""

    def __init__(
        self,
        directory: Directory,
        users: Users,
        commands: Registry,
        settings: GatewaySettings | None = None,
        *,
        on_event: Callable[[Event], None] = _ignore,
        entropy: Entropy | None = None,
    ) -> None:
        self.settings = settings or GatewaySettings()
        self.directory = directory
        self.users = users
        self.on_wake: Callable[[], None] = _no_wake
        """Called when there is output, or another timer, that no call of the owner's brought about."""
        self._on_event = on_event
        self.manager = SessionManager(self.settings, users, self, self._emit, entropy or Entropy())
        self._sessions = self.manager.sessions
        self._commands = Registry().include([commands, session_commands(self.manager, directory)])
        self._limiter = SourceLimiter(self.settings.source_limit)
        self._timers = Timers()
        self._sweep_timer: Timer | None = None
        self._output: list[Output] = []
        self._work: list[Work] = []
        self._in_work = 0
        self._reported: set[tuple[int, int, type[BaseException]]] = set()
        self.packets_received = 0
        self.packets_valid = 0
        """Of those received, the ones that were RMCP."""
        self.packets_sent = 0

    # --- what the owner calls ----------------------------------------------------------------------------------

    def receive(self, datagram: bytes, peer: Peer, listener: Listener, now: float) -> None:
        """Take a datagram. Never raises, whatever it holds."""
        try:
            self.packets_received += 1
            if len(datagram) > MAX_DATAGRAM or datagram[:1] != _RMCP_VERSION:
                return
            self.packets_valid += 1
            rmcpplus_packet = datagram[3:5] == _RMCPPLUS_MARK and len(datagram) >= _PAYLOAD_OFFSET
            if rmcpplus_packet and datagram[6:10] != _NO_SESSION:
                self._receive_in_session(datagram, peer, listener, now)
            elif self._limiter.allow(source_of(peer[0]), now):
                if rmcpplus_packet:
                    self._receive_sessionless(datagram, peer, listener, now)
                else:
                    self._receive_other(datagram, peer, listener, now)
        except Exception:
            log.exception("a datagram from %s could not be handled", peer_text(peer))

    def take_output(self) -> list[Output]:
        """The datagrams to send, in this order; each is given out once."""
        output, self._output = self._output, []
        self.packets_sent += len(output)
        return output

    def take_work(self) -> list[Work]:
        """What has to be awaited; each is given out once, and must come back by `finish`."""
        work, self._work = self._work, []
        return work

    def finish(self, work: Work, result: bytes | Exception, now: float) -> None:
        """Say what came of a piece of work."""
        self._in_work -= 1
        session = work.session
        code, data = self._outcome(work.message, result)
        self._report(session, work.message, work.command, work.node, code)
        if work.key not in session.waiting:
            return  # the session is closed
        session.waiting.discard(work.key)
        self._answer(session, work.key, (*work.answers, ipmb.pack_response(work.message, code, data)), now)

    def next_timer(self) -> float | None:
        """When `handle_timer` has to be called next; None: not until something was received."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self._timers.run(now)

    def users_changed(self, now: float) -> None:
        """After `users.replace`: end the sessions of those who are gone or not the same any more."""
        self.manager.users_changed(now)

    def shut_down(self, now: float) -> None:
        """End all sessions."""
        self.manager.close_all(CloseReason.SHUTDOWN, now)

    # --- what sessions and the manager call --------------------------------------------------------------------

    def transmit(self, session: Session, datagram: bytes) -> None:
        """Send a datagram to a session's client."""
        self._output.append((datagram, session.peer, session.listener))
        self.on_wake()

    def transmit_sessionless(self, payload_type: int, payload: bytes, peer: Peer, listener: Listener) -> None:
        """Send a payload outside any session."""
        self._output.append((rmcpplus.pack_sessionless(payload_type, payload), peer, listener))
        self.on_wake()

    def call_at(self, when: float, callback: TimerCallback) -> Timer:
        """Set a timer."""
        timer = self._timers.call_at(when, callback)
        self.on_wake()
        return timer

    # --- outside sessions --------------------------------------------------------------------------------------

    def _receive_other(self, datagram: bytes, peer: Peer, listener: Listener, now: float) -> None:
        """ASF, IPMI 1.5, and RMCP acknowledges (which nobody waits for: IPMI messages ask for none)."""
        if len(datagram) < rmcp.HEADER_LENGTH:
            return
        message_class = datagram[3]
        if message_class == rmcp.MessageClass.ASF:
            pong = asf.answer_ping(datagram)
            if pong is not None:
                if datagram[2] != rmcp.NO_ACK:
                    self._output.append((rmcp.acknowledge(datagram), peer, listener))
                self._output.append((pong, peer, listener))
        elif message_class == rmcp.MessageClass.IPMI:
            raw = lan15.unpack(datagram)
            answer = None if raw is None else self._answer_sessionless(raw, listener, now)
            if answer is not None:
                self._output.append((lan15.pack(answer), peer, listener))

    def _receive_sessionless(self, datagram: bytes, peer: Peer, listener: Listener, now: float) -> None:
        _, payload_type, _, _, length = rmcpplus.HEADER.unpack_from(datagram, rmcp.HEADER_LENGTH)
        payload = datagram[rmcpplus.PAYLOAD_OFFSET :]
        if len(payload) != length:
            return
        answer: bytes | None = None
        if payload_type == PayloadType.IPMI:
            answer_type = PayloadType.IPMI
            answer = self._answer_sessionless(payload, listener, now)
        elif payload_type == PayloadType.OPEN_SESSION_REQUEST:
            answer_type = PayloadType.OPEN_SESSION_RESPONSE
            answer = self.manager.open_session(payload, peer, listener, now)
            self._keep_sweeping(now)
        elif payload_type == PayloadType.RAKP_1:
            answer_type = PayloadType.RAKP_2
            answer = self.manager.rakp1(payload, peer, listener, now)
        elif payload_type == PayloadType.RAKP_3:
            answer_type = PayloadType.RAKP_4
            answer = self.manager.rakp3(payload, peer, listener, now)
        if answer is not None:
            self._output.append((rmcpplus.pack_sessionless(answer_type, answer), peer, listener))

    def _answer_sessionless(self, raw: bytes, listener: Listener, now: float) -> bytes | None:
        """The answer to a message outside any session: only commands that need no privilege are served."""
        message = ipmb.unpack(raw)
        if message is None or message.netfn & 1 or message.rs_address != BMC_ADDRESS:
            return None
        request = Request(message.netfn, message.command, message.data, listener.bmc, None, now, lun=message.rs_lun)
        command = self._commands.find(message.netfn, message.command)
        result = self._dispatch(command, request, Privilege.HIGHEST)
        if not isinstance(result, (bytes, Exception)):
            _discard(result)
            result = CompletionError(Code.INSUFFICIENT_PRIVILEGE)
        code, data = self._outcome(message, result)
        return ipmb.pack_response(message, code, data)

    # --- in sessions -------------------------------------------------------------------------------------------

    def _receive_in_session(self, datagram: bytes, peer: Peer, listener: Listener, now: float) -> None:
        _, payload_type, session_id, sequence, length = _unpack_header(datagram, _HEADER_AT)
        session = self._sessions.get(session_id)
        if session is None:
            self._receive_after_end(datagram, peer, now)
            return
        if payload_type & _PROTECTED != _PROTECTED:
            return
        if session.peer != peer or session.listener is not listener:
            return
        payload = session.unseal(datagram, sequence, length)
        if payload is None:
            return
        session.last_active = now
        payload_type ^= _PROTECTED
        if payload_type == _IPMI_PAYLOAD:
            self._handle(session, payload, now)
        elif payload_type == _SOL_PAYLOAD and session.sol is not None:
            session.sol.receive(payload, now)

    def _receive_after_end(self, datagram: bytes, peer: Peer, now: float) -> None:
        """A session that has closed itself answers its Close Session again, and nothing else."""
        _, payload_type, session_id, sequence, length = _unpack_header(datagram, _HEADER_AT)
        words = self.manager.last_words(session_id, now)
        if words is None or words.session.peer != peer or payload_type != _PROTECTED | _IPMI_PAYLOAD:
            return
        if words.session.unseal(datagram, sequence, length) == words.key:
            self._send(words.session, words.messages)

    def _handle(self, session: Session, raw: bytes, now: float) -> None:
        """Do what a message asks, once, however often it is sent."""
        known = session.answers.get(raw)
        if known is not None and now < known[0]:
            self._send(session, known[1])
            return
        if raw in session.waiting:
            return
        message = ipmb.unpack(raw)
        if message is None or message.netfn & 1 or message.rs_address != BMC_ADDRESS:
            return
        answers: tuple[bytes, ...] = ()
        asked = raw  # the octets of `message`; `raw` stays what came
        bmc = session.listener.bmc
        channel = 0
        bridged = message.command == SEND_MESSAGE and message.netfn == _APP
        if bridged:
            route = resolve(raw, session.listener, self.directory, session.user, session.privilege)
            if isinstance(route, Refused):
                self._answer(session, raw, route.answers, now)
                return
            answers, asked, message, bmc, channel = route
        request = Request(
            message.netfn, message.command, message.data, bmc, session, now, message.rs_lun, bridged, channel
        )
        command = self._commands.find(message.netfn, message.command)
        result = self._dispatch(command, request, session.privilege)
        if isinstance(result, bytes):  # nearly always; the rest of this is for what has to wait, and for refusals
            if command is not None and command.changes:
                self._report(session, message, command, bmc.node_id, _OK)
            self._answer(session, raw, (*answers, ipmb.respond(asked, _OK, result)), now)
            return
        if not isinstance(result, Exception) and command is not None:
            if (
                len(session.waiting) < self.settings.sessions.requests_in_work
                and self._in_work < self.settings.work_maximum
            ):
                session.waiting.add(raw)
                self._in_work += 1
                self._work.append(Work(result, session, raw, answers, message, command, bmc.node_id))
                return
            _discard(result)
            result = CompletionError(Code.NODE_BUSY)
        code, data = self._outcome(message, result)
        if command is not None and command.changes:
            self._report(session, message, command, bmc.node_id, code)
        self._answer(session, raw, (*answers, ipmb.pack_response(message, code, data)), now)

    def _answer(self, session: Session, key: bytes, messages: tuple[bytes, ...], now: float) -> None:
        """Send the answer to a request, and remember it for when the request comes again."""
        limits = self.settings.sessions
        answers = session.answers
        if session.closed:
            self.manager.remember_last_words(session, key, messages, now)
        else:
            answers.pop(key, None)
            if len(answers) >= limits.remembered_answers:
                del answers[next(iter(answers))]
            answers[key] = (now + limits.remember_for, messages)
        self._send(session, messages)

    def _send(self, session: Session, messages: tuple[bytes, ...]) -> None:
        output, seal, peer, listener = self._output, session.seal, session.peer, session.listener
        for message in messages:
            output.append((seal(_IPMI_PAYLOAD, message), peer, listener))

    # --- commands ----------------------------------------------------------------------------------------------

    @staticmethod
    def _dispatch(
        command: Command | None, request: Request, privilege: Privilege
    ) -> bytes | Awaitable[bytes] | Exception:
        """What the handler returned or raised."""
        try:
            return call(command, request, privilege)
        except CompletionError as refusal:
            return refusal
        except Exception as error:  # noqa: BLE001 - a handler's fault is answered and logged, see _outcome
            return error

    def _outcome(self, message: ipmb.Message, result: object) -> tuple[int, bytes]:
        """Completion code and data for what a handler returned or raised."""
        if isinstance(result, bytes):
            return Code.OK, result
        if isinstance(result, CompletionError):
            return result.code, result.data
        if isinstance(result, BaseException):
            kind = (message.netfn, message.command, type(result))
            if kind not in self._reported:  # once, lest a client fill the log
                self._reported.add(kind)
                log.error("command %02xh/%02xh failed", message.netfn, message.command, exc_info=result)
        return Code.UNSPECIFIED, b""

    def _report(self, session: Session, message: ipmb.Message, command: Command, node: str | None, code: int) -> None:
        if command.changes:
            self._emit(
                CommandDone(
                    user=session.user.name,
                    peer=peer_text(session.peer),
                    listener=session.listener.name,
                    node=node,
                    session=session.id,
                    netfn=message.netfn,
                    command=message.command,
                    data=message.data,
                    code=code,
                )
            )

    def _emit(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:
            log.exception("an event could not be reported: %r", event)

    # --- time --------------------------------------------------------------------------------------------------

    def _keep_sweeping(self, now: float) -> None:
        if self._sweep_timer is None:
            self._sweep_timer = self._timers.call_at(now + _SWEEP_INTERVAL, self._sweep)

    def _sweep(self, now: float) -> None:
        self.manager.sweep(now)
        self._sweep_timer = None
        if self.manager.sessions or self.manager.half_open:
            self._keep_sweeping(now)


def _discard(awaitable: object) -> None:
    """Drop what nobody will await, so that it does nothing and no warning is given."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()
