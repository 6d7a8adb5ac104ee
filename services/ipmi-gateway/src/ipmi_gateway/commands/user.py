"""Commands about users (sections 22.26 to 22.30). Users are read here; they are set in the configuration only."""

from hmac import compare_digest
from typing import Final

from ipmi_gateway.codes import CURRENT_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.sessions.manager import SessionManager
from ipmi_gateway.sessions.users import MAX_NAME_LENGTH, MAX_USER_ID, User
from ipmi_gateway.settings import MAX_KEY_LENGTH

SET_USER_ACCESS: Final = 0x43
GET_USER_ACCESS: Final = 0x44
SET_USER_NAME: Final = 0x45
GET_USER_NAME: Final = 0x46
SET_USER_PASSWORD: Final = 0x47

_NO_ACCESS: Final = 0x0F
_MESSAGING_ENABLED: Final = 0x10
_LINK_AUTHENTICATION: Final = 0x20
_USER_ENABLED: Final = 0x40
_USER_DISABLED: Final = 0x80
_TEST_PASSWORD: Final = 0x03
_LONG_PASSWORD: Final = 0x80
_SHORT_PASSWORD_LENGTH: Final = 16
_PASSWORD_WRONG: Final = 0x80
_PASSWORD_WRONG_SIZE: Final = 0x81
_LEAST_SLOTS: Final = 10
"""The number of user slots that is said at least, as real BMCs have about so many."""


def user_commands(manager: SessionManager) -> Registry:
    """The rows about users."""
    commands = Registry()
    settings = manager.settings
    users = manager.users
    app = NetFn.APP

    @commands.add(app, GET_USER_ACCESS, Privilege.OPERATOR, 2)
    def get_user_access(request: Request) -> bytes:
        """Section 22.27."""
        if request.data[0] & 0x0F not in {CURRENT_CHANNEL, settings.channel}:
            raise CompletionError(Code.INVALID_FIELD)
        user_id = request.data[1] & MAX_USER_ID
        if user_id == 0:
            raise CompletionError(Code.INVALID_FIELD)
        slots = max(_LEAST_SLOTS, *(user.id for user in users)) if len(users) else _LEAST_SLOTS
        if user_id > slots:
            raise CompletionError(Code.INVALID_FIELD)
        user = users.by_id(user_id)
        enabled = _USER_DISABLED if user is None else _USER_ENABLED
        access = _NO_ACCESS if user is None else _LINK_AUTHENTICATION | _MESSAGING_ENABLED | user.privilege
        return bytes((slots, enabled | len(users), len(users), access))

    @commands.add(app, GET_USER_NAME, Privilege.OPERATOR, 1)
    def get_user_name(request: Request) -> bytes:
        """Section 22.29: 16 octets, padded with 00h; CCh for a slot without a user."""
        user = users.by_id(request.data[0] & MAX_USER_ID)
        if user is None:
            raise CompletionError(Code.INVALID_FIELD)
        return user.name.encode().ljust(MAX_NAME_LENGTH, b"\0")

    @commands.add(app, SET_USER_ACCESS, Privilege.ADMINISTRATOR, (3, 4))
    @commands.add(app, SET_USER_NAME, Privilege.ADMINISTRATOR, 1 + MAX_NAME_LENGTH)
    def refuse(_request: Request) -> bytes:
        """Sections 22.26 and 22.28: not by IPMI."""
        raise CompletionError(Code.SUBFUNCTION_DISABLED)

    @commands.add(app, SET_USER_PASSWORD, Privilege.ADMINISTRATOR, (2, 2 + MAX_KEY_LENGTH))
    def set_user_password(request: Request) -> bytes:
        """Section 22.30: an administrator may test a password; everything else is refused."""
        if request.data[1] & 0x03 != _TEST_PASSWORD:
            raise CompletionError(Code.SUBFUNCTION_DISABLED)
        long = bool(request.data[0] & _LONG_PASSWORD)
        password = request.data[2:]
        if len(password) != (MAX_KEY_LENGTH if long else _SHORT_PASSWORD_LENGTH):
            raise CompletionError(Code.DATA_LENGTH_INVALID)
        user = users.by_id(request.data[0] & MAX_USER_ID)
        if user is None:
            raise CompletionError(Code.INVALID_FIELD)
        _test(user, password, long=long)
        return b""

    return commands


def _test(user: User, password: bytes, *, long: bool) -> None:
    """Raise `CompletionError` unless this is the user's password, stored with this size."""
    if long != (len(user.password) > _SHORT_PASSWORD_LENGTH):
        raise CompletionError(_PASSWORD_WRONG_SIZE)
    if not compare_digest(password, user.password.ljust(len(password), b"\0")):
        raise CompletionError(_PASSWORD_WRONG)
