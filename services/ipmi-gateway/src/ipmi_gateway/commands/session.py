"""Commands about sessions (sections 22.13 to 22.20), and the table of all that the engine itself brings along."""

import struct
from ipaddress import IPv4Address, ip_address
from typing import Final

from ipmi_gateway.codes import CURRENT_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.channel import channel_commands
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.commands.user import user_commands
from ipmi_gateway.directory import Directory
from ipmi_gateway.events import CloseReason
from ipmi_gateway.sessions.manager import SessionManager
from ipmi_gateway.sessions.session import Session

GET_AUTHENTICATION_CAPABILITIES: Final = 0x38
GET_SESSION_CHALLENGE: Final = 0x39
ACTIVATE_SESSION: Final = 0x3A
SET_SESSION_PRIVILEGE: Final = 0x3B
CLOSE_SESSION: Final = 0x3C
GET_SESSION_INFO: Final = 0x3D

_EXTENDED_DATA: Final = 0x80
_RMCPPLUS_SUPPORTED: Final = 0x02
_KG_IS_SET: Final = 0x20
_NAMED_USERS: Final = 0x04
_LEVEL_ABOVE_LIMIT: Final = 0x81
_INVALID_SESSION_ID: Final = 0x87
_INVALID_SESSION_HANDLE: Final = 0x88
_ACTIVATE_INVALID_ID: Final = 0x85
_THIS_SESSION: Final = 0x00
_BY_HANDLE: Final = 0xFE
_BY_ID: Final = 0xFF
_PROTOCOL_RMCPPLUS: Final = 0x10
_COUNT_MASK: Final = 0x3F
"""The specification has six bits for numbers of sessions; more are said as 63."""


def session_commands(manager: SessionManager, directory: Directory) -> Registry:
    """The rows for sessions, channels and users."""
    handlers = _Handlers(manager)
    commands = Registry()
    app = NetFn.APP
    commands.add(app, GET_AUTHENTICATION_CAPABILITIES, Privilege.HIGHEST, 2)(handlers.get_authentication_capabilities)
    commands.add(app, GET_SESSION_CHALLENGE, Privilege.HIGHEST, 17)(handlers.get_session_challenge)
    commands.add(app, ACTIVATE_SESSION, Privilege.HIGHEST, 22)(handlers.activate_session)
    commands.add(app, SET_SESSION_PRIVILEGE, Privilege.CALLBACK, 1)(handlers.set_session_privilege)
    commands.add(app, CLOSE_SESSION, Privilege.CALLBACK, (4, 5))(handlers.close_session)
    commands.add(app, GET_SESSION_INFO, Privilege.USER, (1, 5))(handlers.get_session_info)
    return commands.include([channel_commands(manager, directory), user_commands(manager)])


class _Handlers:
    """The handlers about sessions."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self._settings = manager.settings

    def get_authentication_capabilities(self, request: Request) -> bytes:
        """Section 22.13. No IPMI 1.5 authentication type is offered."""
        channel, level = request.data[0] & 0x0F, request.data[1] & 0x0F
        if channel not in {CURRENT_CHANNEL, self._settings.channel}:
            raise CompletionError(Code.INVALID_FIELD)
        if not Privilege.CALLBACK <= level <= Privilege.OEM:
            raise CompletionError(Code.INVALID_FIELD)
        extended = request.data[0] & _EXTENDED_DATA
        status = _NAMED_USERS | (_KG_IS_SET if self._settings.effective_kg is not None else 0)
        return bytes((self._settings.channel, extended, status, _RMCPPLUS_SUPPORTED if extended else 0, 0, 0, 0, 0))

    def get_session_challenge(self, _request: Request) -> bytes:
        """Section 22.16. IPMI 1.5 sessions are not served: no authentication type is valid."""
        raise CompletionError(Code.INVALID_FIELD)

    def activate_session(self, _request: Request) -> bytes:
        """Section 22.17. There was no challenge, so there is no temporary session id that is valid."""
        raise CompletionError(_ACTIVATE_INVALID_ID)

    def set_session_privilege(self, request: Request) -> bytes:
        """Section 22.18."""
        session = _session(request)
        level = request.data[0]
        if level == Privilege.HIGHEST:  # here: no change
            return bytes((session.privilege,))
        if not Privilege.USER <= level <= Privilege.OEM:
            raise CompletionError(Code.INVALID_FIELD)
        if level > session.ceiling:  # of the channel, of the user, and of what RAKP 1 asked for
            raise CompletionError(_LEVEL_ABOVE_LIMIT)
        session.privilege = Privilege(level)
        return bytes((level,))

    def close_session(self, request: Request) -> bytes:
        """Section 22.19: by id, or by handle behind an id of zero. Another's session needs an administrator."""
        own = _session(request)
        session_id = int.from_bytes(request.data[:4], "little")
        if session_id:
            _expect_length(request.data, 4)
            session = self._manager.sessions.get(session_id)
        elif len(request.data) == 5:
            session = self._manager.by_handle(request.data[4])
        else:
            raise CompletionError(_INVALID_SESSION_ID)
        if session is None:
            raise CompletionError(_INVALID_SESSION_ID if session_id else _INVALID_SESSION_HANDLE)
        if session is not own and own.privilege < Privilege.ADMINISTRATOR:
            raise CompletionError(Code.INSUFFICIENT_PRIVILEGE)
        reason = CloseReason.CLIENT if session is own else CloseReason.ADMINISTRATOR
        self._manager.close(session, reason, request.now)
        return b""

    def get_session_info(self, request: Request) -> bytes:
        """Section 22.20: this session, the n-th, by handle, or by id."""
        sessions = self._manager.sessions
        session = self._find(request)
        counts = bytes((min(self._settings.sessions.maximum, _COUNT_MASK), min(len(sessions), _COUNT_MASK)))
        if session is None:
            return b"\0" + counts
        return bytes((session.handle,)) + counts + _describe(session, self._settings.channel)

    def _find(self, request: Request) -> Session | None:
        """The session that Get Session Info asks for; None when there are not so many."""
        index, rest = request.data[0], request.data[1:]
        if index in {_BY_HANDLE, _BY_ID}:
            _expect_length(rest, 1 if index == _BY_HANDLE else 4)
            number = int.from_bytes(rest, "little")
            manager = self._manager
            session = manager.by_handle(number) if index == _BY_HANDLE else manager.sessions.get(number)
            if session is None:
                raise CompletionError(Code.NOT_PRESENT)
            return session
        _expect_length(rest, 0)
        return _session(request) if index == _THIS_SESSION else self._manager.by_index(index)


def _session(request: Request) -> Session:
    """The request's session; commands that need a privilege always have one."""
    if request.session is None:
        raise CompletionError(Code.NOT_IN_PRESENT_STATE)
    return request.session


def _expect_length(data: bytes, length: int) -> None:
    if len(data) != length:
        raise CompletionError(Code.DATA_LENGTH_INVALID)


def _describe(session: Session, channel: int) -> bytes:
    """User, level, channel and client of a session. An IPv6 address does not fit, and is said as 0.0.0.0."""
    host = ip_address(session.peer[0].partition("%")[0])
    if not isinstance(host, IPv4Address):
        host = host.ipv4_mapped or IPv4Address(0)
    head = bytes((session.user.id, session.privilege, _PROTOCOL_RMCPPLUS | channel))
    return head + host.packed + bytes(6) + struct.pack("<H", session.peer[1])
