"""Session commands: privilege, Close Session, Get Session Info, users and channels (sections 22.13 to 22.30)."""

import struct

from rmcp_client import ADMINISTRATOR, NAME_ONLY, OPERATOR, USER, Answer, RmcpClient

from .bmc import Bmc
from .case import Group, case
from .codes import (
    APP,
    BAD_LENGTH,
    BAD_VALUE,
    CHANNEL_ACCESS,
    CHANNEL_INFO,
    CHASSIS,
    CLOSE_SESSION,
    COLD_RESET,
    CONTROL,
    GET_DEVICE_ID,
    INVALID_FIELD,
    NOT_PRESENT,
    ON,
    PRIVILEGE,
    SEND_MESSAGE,
    SESSION_INFO,
    SET_BOOT,
    SET_CHANNEL_ACCESS,
    SET_PRIVILEGE,
    SET_USER_ACCESS,
    SET_USER_NAME,
    SET_USER_PASSWORD,
    STATUS,
    STORAGE,
    USER_ACCESS,
    USER_NAME,
)
from .quiet import dead

INVALID_SESSION = 0x87
INVALID_HANDLE = 0x88
ABOVE_LIMIT = {0x80, 0x81}
"""Not available for this user; above the limit of channel or user."""


def code_of(answer: Answer) -> str:
    return f"completion code {answer.code:02x}h"


def level_of(client: RmcpClient) -> int:
    answer = client.set_privilege(0)
    assert answer.code == 0, code_of(answer)
    return answer.data[0]


# --- Set Session Privilege Level ---


@case(Group.SESSIONS)
def starts_at_user(bmc: Bmc) -> None:
    """A session starts at USER, whatever was asked in RAKP 1."""
    client = bmc.login(role=ADMINISTRATOR)
    assert level_of(client) == USER, "Set Session Privilege Level 0 says another level"
    before = bmc.presses() if bmc.presses else 0
    answer = client.request(CHASSIS, CONTROL, bytes((ON,)))
    assert answer.code == PRIVILEGE, f"Chassis Control at USER: {code_of(answer)}"
    answer = client.request(CHASSIS, SET_BOOT, b"\x05\0\0\0\0\0")
    assert answer.code == PRIVILEGE, f"Set System Boot Options at USER: {code_of(answer)}"
    if bmc.presses:
        assert bmc.presses() == before, "the button was pressed"


@case(Group.SESSIONS, each={"user": USER, "operator": OPERATOR, "administrator": ADMINISTRATOR})
def set_privilege(bmc: Bmc, level: int) -> None:
    """Set Session Privilege Level: to each level that the session may have, and its answer says it."""
    client = bmc.login()
    answer = client.set_privilege(level)
    assert (answer.code, answer.data) == (0, bytes((level,))), answer.raw.hex()
    assert level_of(client) == level


@case(Group.SESSIONS)
def privilege_down_and_up(bmc: Bmc) -> None:
    """A session can go down and up again."""
    client = bmc.login()
    for level in (ADMINISTRATOR, USER, OPERATOR, ADMINISTRATOR):
        assert client.set_privilege(level).code == 0
        answer = client.request(APP, SET_USER_ACCESS, b"")
        expected = BAD_LENGTH if level == ADMINISTRATOR else {PRIVILEGE}
        assert answer.code in expected, f"at level {level}: {code_of(answer)}"


@case(Group.SESSIONS, each={"user": USER, "operator": OPERATOR})
def role_is_the_ceiling(bmc: Bmc, role: int) -> None:
    """The level asked in RAKP 1 is the session's ceiling."""
    client = bmc.login(role=role)
    assert client.set_privilege(role).code == 0
    for level in range(role + 1, ADMINISTRATOR + 1):
        answer = client.set_privilege(level)
        assert answer.code in ABOVE_LIMIT, f"level {level}: {code_of(answer)}"
    assert level_of(client) == role


@case(Group.SESSIONS, each={"1": 1, "6": 6, "15": 15})
def set_privilege_reserved(bmc: Bmc, level: int) -> None:
    """Set Session Privilege Level to a level that is none is refused, and changes nothing."""
    client = bmc.login()
    client.set_privilege(OPERATOR)
    answer = client.set_privilege(level)
    assert answer.code in BAD_VALUE | ABOVE_LIMIT, code_of(answer)
    assert level_of(client) == OPERATOR


@case(Group.SESSIONS)
def set_privilege_oem(bmc: Bmc) -> None:
    """Set Session Privilege Level to OEM is above every limit."""
    answer = bmc.login().set_privilege(5)
    assert answer.code in ABOVE_LIMIT | BAD_VALUE, code_of(answer)


@case(Group.SESSIONS, each={"empty": b"", "long": b"\x04\x00"})
def set_privilege_length(bmc: Bmc, data: bytes) -> None:
    """Set Session Privilege Level of a wrong length is answered C7h (or CCh)."""
    answer = bmc.login().request(APP, SET_PRIVILEGE, data)
    assert answer.code in BAD_LENGTH, code_of(answer)


@case(Group.SESSIONS, needs="operator")
def operator_stays_operator(bmc: Bmc) -> None:
    """An operator's account does not become administrator."""
    assert bmc.operator is not None
    client = bmc.login(bmc.operator)
    answer = client.set_privilege(ADMINISTRATOR)
    assert answer.code in ABOVE_LIMIT, code_of(answer)
    assert client.set_privilege(OPERATOR).code == 0
    assert client.request(APP, COLD_RESET).code == PRIVILEGE
    assert client.request(APP, SET_USER_PASSWORD, b"\x02\x02" + bytes(16)).code == PRIVILEGE


@case(Group.SESSIONS, needs="viewer")
def viewer_only_looks(bmc: Bmc) -> None:
    """A user-level account reads, and changes nothing: D4h."""
    assert bmc.viewer is not None
    client = bmc.login(bmc.viewer)
    for level in (OPERATOR, ADMINISTRATOR):
        answer = client.set_privilege(level)
        assert answer.code in ABOVE_LIMIT, code_of(answer)
    assert client.request(APP, GET_DEVICE_ID).code == 0
    assert client.request(CHASSIS, STATUS).code in (0, 0xD3)
    for netfn, command, data in CHANGES:
        answer = client.request(netfn, command, data)
        assert answer.code == PRIVILEGE, f"{netfn:02x}h/{command:02x}h: {code_of(answer)}"


CHANGES = (
    (CHASSIS, CONTROL, b"\x01"),
    (CHASSIS, 0x04, b"\x05"),
    (CHASSIS, 0x06, b"\x01"),
    (CHASSIS, SET_BOOT, b"\x05\x80\x04\0\0\0"),
    (APP, COLD_RESET, b""),
    (APP, 0x03, b""),
    (APP, 0x22, b""),
    (APP, 0x24, b"\x04\0\0\0\x64\0"),
    (STORAGE, 0x44, bytes(16)),
    (STORAGE, 0x46, bytes(4)),
    (STORAGE, 0x47, b"\0\0CLR\xaa"),
    (STORAGE, 0x49, bytes(4)),
    (STORAGE, 0x12, b"\0\0\0\0"),
    (0x04, 0x02, b"\x04\x01\x01\x01\0\0\0"),
    (APP, SET_USER_NAME, b"\x05" + bytes(16)),
)


# --- Close Session ---


@case(Group.SESSIONS)
def close_own(bmc: Bmc) -> None:
    """Close Session of one's own session is answered, and ends it; USER is enough."""
    client = bmc.login()
    assert client.close_session().code == 0
    dead(client)


@case(Group.SESSIONS)
def close_unknown(bmc: Bmc) -> None:
    """Close Session of an unknown id is answered 87h."""
    client = bmc.console().client
    answer = client.request(APP, CLOSE_SESSION, b"\x78\x56\x34\x12")
    assert answer.code == INVALID_SESSION, code_of(answer)


@case(Group.SESSIONS)
def close_unknown_as_user(bmc: Bmc) -> None:
    """Close Session of an unknown id is answered 87h (or D4h) to a session at USER too."""
    answer = bmc.login().request(APP, CLOSE_SESSION, b"\x78\x56\x34\x12")
    assert answer.code in {INVALID_SESSION, PRIVILEGE}, code_of(answer)


@case(Group.SESSIONS)
def close_null(bmc: Bmc) -> None:
    """Close Session of id 0 without a handle is refused, and closes nothing."""
    client = bmc.console().client
    answer = client.request(APP, CLOSE_SESSION, bytes(4))
    assert answer.code in {INVALID_SESSION, INVALID_HANDLE, INVALID_FIELD}, code_of(answer)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, each={"empty": b"", "three octets": bytes(3), "six octets": b"\x01" + bytes(5)})
def close_length(bmc: Bmc, data: bytes) -> None:
    """Close Session of a wrong length is answered C7h (or CCh), and closes nothing."""
    client = bmc.login()
    answer = client.request(APP, CLOSE_SESSION, data)
    assert answer.code in BAD_LENGTH, code_of(answer)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def close_other_as_administrator(bmc: Bmc) -> None:
    """An administrator closes another's session by its id."""
    other, admin = bmc.login(), bmc.console().client
    assert other.keys is not None
    assert other.request(APP, GET_DEVICE_ID).code == 0
    answer = admin.request(APP, CLOSE_SESSION, struct.pack("<I", other.keys.session_id))
    assert answer.code == 0, code_of(answer)
    dead(other)
    answer = admin.request(APP, CLOSE_SESSION, struct.pack("<I", other.keys.session_id))
    assert answer.code == INVALID_SESSION, f"a second time: {code_of(answer)}"


@case(Group.SESSIONS, each={"user": USER, "operator": OPERATOR})
def close_other_refused(bmc: Bmc, level: int) -> None:
    """Closing another's session takes an administrator: D4h below."""
    other, client = bmc.login(), bmc.console(level=level).client
    assert other.keys is not None
    answer = client.request(APP, CLOSE_SESSION, struct.pack("<I", other.keys.session_id))
    assert answer.code == PRIVILEGE, code_of(answer)
    assert other.request(APP, GET_DEVICE_ID).code == 0, "it was closed"


@case(Group.SESSIONS, needs="operator")
def close_other_as_operator(bmc: Bmc) -> None:
    """An operator's account can't close the administrator's session."""
    assert bmc.operator is not None
    other, client = bmc.login(), bmc.console(bmc.operator).client
    assert other.keys is not None
    answer = client.request(APP, CLOSE_SESSION, struct.pack("<I", other.keys.session_id))
    assert answer.code == PRIVILEGE, code_of(answer)
    assert other.request(APP, GET_DEVICE_ID).code == 0, "it was closed"


@case(Group.SESSIONS)
def close_by_handle(bmc: Bmc) -> None:
    """Close Session with id 0 and a handle closes the session with that handle."""
    other, admin = bmc.login(), bmc.console().client
    handle = other.request(APP, SESSION_INFO, b"\0").data[0]
    answer = admin.request(APP, CLOSE_SESSION, bytes(4) + bytes((handle,)))
    assert answer.code == 0, code_of(answer)
    dead(other)


@case(Group.SESSIONS)
def close_frees_everything(bmc: Bmc) -> None:
    """Two hundred logins and Close Sessions one after the other: the number of sessions stays what it was."""
    watcher = bmc.console().client
    before = watcher.request(APP, SESSION_INFO, b"\0").data[2]
    for _ in range(200):
        client = bmc.login()
        assert client.close_session().code == 0
        client.close()
    bmc.open = [watcher]
    after = watcher.request(APP, SESSION_INFO, b"\0").data[2]
    assert after <= before + 1, f"{before} sessions before, {after} after"


# --- Get Session Info ---


def check_info(data: bytes, bmc: Bmc, level: int) -> None:
    assert len(data) in (6, 18), f"{len(data)} octets"
    handle, possible, active, user, privilege, protocol = data[:6]
    assert handle != 0, "handle 0"
    assert possible & 0x3F and active & 0x3F, f"{possible} possible, {active} active"
    assert user & 0x3F, "user id 0"
    assert privilege & 0x0F == level, f"privilege {privilege}"
    assert protocol >> 4 == 1, f"protocol {protocol >> 4}: not RMCP+"
    assert len(data) == 18, "nothing about the LAN session"
    if bmc.host == "127.0.0.1":
        assert data[6:10] == bytes((127, 0, 0, 1)), f"address {data[6:10].hex()}"


@case(Group.SESSIONS)
def info_active(bmc: Bmc) -> None:
    """Get Session Info of the asking session: handle, counts, user, level, RMCP+, client's address and port."""
    client = bmc.login()
    for level in (USER, OPERATOR):
        client.set_privilege(level)
        answer = client.request(APP, SESSION_INFO, b"\0")
        assert answer.code == 0, code_of(answer)
        check_info(answer.data, bmc, level)
    transport = client.transport
    port = transport.socket.getsockname()[1]  # type: ignore[attr-defined]
    assert struct.unpack("<H", answer.data[16:18])[0] == port, "the client's port"


@case(Group.SESSIONS)
def info_by_id(bmc: Bmc) -> None:
    """Get Session Info by session id."""
    other, client = bmc.login(), bmc.console().client
    assert other.keys is not None
    answer = client.request(APP, SESSION_INFO, b"\xff" + struct.pack("<I", other.keys.session_id))
    assert answer.code == 0, code_of(answer)
    check_info(answer.data, bmc, USER)


@case(Group.SESSIONS)
def info_by_handle(bmc: Bmc) -> None:
    """Get Session Info by handle."""
    other, client = bmc.login(), bmc.console().client
    own = other.request(APP, SESSION_INFO, b"\0").data
    answer = client.request(APP, SESSION_INFO, b"\xfe" + own[:1])
    assert answer.code == 0, code_of(answer)
    assert answer.data[0] == own[0] and answer.data[6:] == own[6:], answer.data.hex()


@case(Group.SESSIONS)
def info_by_index(bmc: Bmc) -> None:
    """Get Session Info by index lists every session; past the last one there are only the counts."""
    others = [bmc.login() for _ in range(3)]
    client = bmc.console().client
    wanted = {other.request(APP, SESSION_INFO, b"\0").data[0] for other in others}
    handles = []
    for index in range(1, 64):
        answer = client.request(APP, SESSION_INFO, bytes((index,)))
        if answer.code == NOT_PRESENT or (answer.code == 0 and len(answer.data) == 3):
            break
        assert answer.code == 0, code_of(answer)
        handles.append(answer.data[0])
    assert wanted <= set(handles), f"{wanted} open, {handles} listed"


@case(Group.SESSIONS, each={"id": b"\xff\x78\x56\x34\x12", "handle": b"\xfe\x00"})
def info_unknown(bmc: Bmc, data: bytes) -> None:
    """Get Session Info of a session that is none: CBh or CCh, or the counts alone."""
    answer = bmc.console().client.request(APP, SESSION_INFO, data)
    if answer.code == 0:
        assert answer.data[0] == 0 and len(answer.data) == 3, answer.data.hex()
    else:
        assert answer.code in {NOT_PRESENT, INVALID_FIELD, INVALID_SESSION}, code_of(answer)


@case(Group.SESSIONS, each={"empty": b"", "id cut": b"\xff\x78\x56", "no handle": b"\xfe", "index long": b"\x00\x00"})
def info_length(bmc: Bmc, data: bytes) -> None:
    """Get Session Info of a wrong length is answered C7h (or CCh)."""
    answer = bmc.console().client.request(APP, SESSION_INFO, data)
    assert answer.code in BAD_LENGTH, code_of(answer)


# --- users and channels ---


def user_list(client: RmcpClient) -> dict[bytes, tuple[int, bytes]]:
    """Names of the users, with their ids and access octets."""
    users = {}
    slots = client.request(APP, USER_ACCESS, b"\x0e\x01").data[0] & 0x3F
    for user_id in range(1, slots + 1):
        name = client.request(APP, USER_NAME, bytes((user_id,)))
        access = client.request(APP, USER_ACCESS, bytes((0x0E, user_id)))
        assert access.code == 0, f"user {user_id}: {code_of(access)}"
        assert len(access.data) == 4
        if name.code == 0:
            assert len(name.data) == 16, f"a name of {len(name.data)} octets"
            users[name.data.rstrip(b"\0")] = (user_id, access.data)
    return users


@case(Group.CONTROLLER)
def user_names_and_access(bmc: Bmc) -> None:
    """Get User Name and Get User Access list the accounts with their limits."""
    users = user_list(bmc.console().client)
    accounts = [account for account in (bmc.admin, bmc.operator, bmc.viewer) if account is not None]
    for account in accounts:
        assert account.name.encode() in users, f"{account.name} is not listed"
        access = users[account.name.encode()][1]
        assert access[3] & 0x0F == account.privilege, f"{account.name}: limit {access[3] & 15}"
        assert access[3] & 0x10, f"{account.name}: IPMI messaging is said to be off"
        assert access[1] & 0xC0 != 0x80, f"{account.name}: said to be disabled"
        assert access[1] & 0x3F >= len(accounts), "number of enabled users"


@case(Group.CONTROLLER, each={"0": 0, "63": 63})
def user_that_is_none(bmc: Bmc, user_id: int) -> None:
    """Get User Access of an id that can't be is refused."""
    answer = bmc.console().client.request(APP, USER_ACCESS, bytes((0x0E, user_id)))
    assert answer.code in BAD_VALUE | {NOT_PRESENT}, code_of(answer)


@case(Group.SESSIONS)
def user_password_test(bmc: Bmc) -> None:
    """Set User Password's test operation: right 00h, wrong 80h (and nothing is changed)."""
    client = bmc.console().client
    user_id = user_list(client)[bmc.admin.name.encode()][0]
    for password, expected in ((bmc.admin.password, {0}), ("wrong", {0x80})):
        answer = client.request(APP, SET_USER_PASSWORD, bytes((user_id, 3)) + password.encode().ljust(16, b"\0"))
        assert answer.code in expected, f"{password}: {code_of(answer)}"
    assert bmc.login().request(APP, GET_DEVICE_ID).code == 0


@case(Group.CONTROLLER)
def channel_info(bmc: Bmc) -> None:
    """Get Channel Info of the present channel: a LAN channel with many sessions."""
    answer = bmc.console().client.request(APP, CHANNEL_INFO, b"\x0e")
    assert answer.code == 0, code_of(answer)
    number, medium, protocol, session = answer.data[:4]
    assert len(answer.data) == 9, f"{len(answer.data)} octets"
    assert number & 0x0F != 0x0E and (medium & 0x7F, protocol & 0x1F) == (4, 1), answer.data.hex()
    assert session >> 6 == 2, "not said to be multi-session"
    assert session & 0x3F, "no active session"
    assert answer.data[4:7] == (7154).to_bytes(3, "little"), "vendor"


@case(Group.CONTROLLER)
def channel_info_of_ipmb(bmc: Bmc) -> None:
    """Get Channel Info of channel 0: the primary IPMB."""
    answer = bmc.console().client.request(APP, CHANNEL_INFO, b"\x00")
    assert answer.code == 0, code_of(answer)
    assert answer.data[1] & 0x7F == 1, f"medium {answer.data[1]:02x}h"


@case(Group.CONTROLLER, each={"11": 11, "13": 13})
def channel_info_of_none(bmc: Bmc, channel: int) -> None:
    """Get Channel Info of a channel that is none is refused."""
    answer = bmc.console().client.request(APP, CHANNEL_INFO, bytes((channel,)))
    assert answer.code in BAD_VALUE, code_of(answer)


@case(Group.CONTROLLER, each={"non-volatile": 0x40, "volatile": 0x80})
def channel_access(bmc: Bmc, which: int) -> None:
    """Get Channel Access: always available, authentication on, a limit."""
    answer = bmc.console().client.request(APP, CHANNEL_ACCESS, bytes((0x0E, which)))
    assert answer.code == 0, code_of(answer)
    access, limit = answer.data
    assert access & 0x07 == 2, f"access mode {access & 7}"
    assert not access & 0x18, "per-message or user-level authentication is off"
    assert 2 <= limit & 0x0F <= 4, f"limit {limit}"


@case(Group.CONTROLLER, each={"00b": 0x00, "11b": 0xC0})
def channel_access_reserved(bmc: Bmc, which: int) -> None:
    """Get Channel Access of neither the volatile nor the stored settings is refused."""
    answer = bmc.console().client.request(APP, CHANNEL_ACCESS, bytes((0x0E, which)))
    assert answer.code in BAD_VALUE, code_of(answer)


SETTINGS = {
    "Set Channel Access": (SET_CHANNEL_ACCESS, b"\x0e\x82\x44"),
    "Set User Access": (SET_USER_ACCESS, b"\x9e\x09\x04"),
    "Set User Name": (SET_USER_NAME, b"\x09" + b"intruder".ljust(16, b"\0")),
    "Set User Password": (SET_USER_PASSWORD, b"\x09\x02" + b"x".ljust(16, b"\0")),
}


@case(Group.CONTROLLER, each=SETTINGS)
def setting_is_answered(bmc: Bmc, item: tuple[int, bytes]) -> None:
    """Setting commands are done or refused with a code that says so, never left without an answer."""
    answer = bmc.console().client.request(APP, item[0], item[1])
    assert answer.code in {0, 0xC1, 0xCC, 0xD4, 0xD5, 0xD6}, code_of(answer)


@case(Group.SESSIONS, needs="operator")
def level_of_the_account_after_login(bmc: Bmc) -> None:
    """An operator who asks for operator in RAKP 1 gets it, by each look-up."""
    operator = bmc.operator
    assert operator is not None
    for lookup in (NAME_ONLY, 0):
        client = bmc.client()
        client.login(
            operator.name, operator.password, suite=bmc.best_suite, role=OPERATOR | lookup, level=OPERATOR, kg=bmc.kg
        )
        assert client.set_privilege(OPERATOR).code == 0


@case(Group.SESSIONS, needs="bridging")
def privilege_of_send_message(bmc: Bmc) -> None:
    """Send Message works at USER; what it carries is checked for itself."""
    from .bmc import bridged

    assert bmc.target is not None
    client = bmc.login()
    assert bridged(client, bmc.channel, bmc.target, APP, GET_DEVICE_ID)[-1].code == 0
    assert bridged(client, bmc.channel, bmc.target, CHASSIS, CONTROL, b"\x01")[-1].code == PRIVILEGE
    answer = client.request(APP, SEND_MESSAGE, b"")
    assert answer.code in BAD_LENGTH, code_of(answer)
