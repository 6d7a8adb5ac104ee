"""Opening a session: Open Session and RAKP 1 to 4 (sections 13.17 to 13.24, 13.31, 13.32)."""

import hashlib
import os
import struct
import time
from itertools import pairwise

from rmcp_client import (
    ADMINISTRATOR,
    HIGHEST,
    NAME_ONLY,
    OPEN_REQUEST,
    OPEN_RESPONSE,
    OPERATOR,
    RAKP1,
    RAKP2,
    RAKP3,
    RAKP4,
    SUITES,
    USER,
    RefusedError,
    RmcpClient,
)

from .bmc import Account, Bmc
from .case import Group, case
from .codes import APP, GET_DEVICE_ID
from .quiet import unanswered

CONSOLE_ID = 0xA0A2A3A4
NO_RESOURCES, INVALID_ID = 0x01, 0x02
BAD_AUTHENTICATION, BAD_INTEGRITY, BAD_CONFIDENTIALITY, NO_SUITE = 0x04, 0x05, 0x10, 0x11
INACTIVE_ID, BAD_ROLE, NO_ROLE, NAME_LENGTH, NO_NAME, BAD_CHECK = 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x0F
ROLE_STATUS = {BAD_ROLE, NO_ROLE}


def names(statuses: set[int]) -> str:
    return " or ".join(f"{status:02x}h" for status in sorted(statuses))


def exchange(client: RmcpClient, sent: int, expected: int, payload: bytes, timeout: float = 2.0) -> bytes | None:
    """The payload that answers one outside a session, or None."""
    reply = client.exchange(client.rmcpplus(sent, payload), timeout)
    return None if reply is None else client.parse_sessionless(reply, expected)


def check_error(reply: bytes | None, tag: int, statuses: set[int], console_id: int = CONSOLE_ID) -> None:
    """The error form: tag, status, two reserved octets, console session id, and no more."""
    assert reply is not None, f"no answer, expected status {names(statuses)}"
    assert reply[1] in statuses, f"status {reply[1]:02x}h, expected {names(statuses)}"
    assert len(reply) == 8, f"an error of {len(reply)} octets"
    assert reply[0] == tag, "another message tag"
    assert struct.unpack_from("<I", reply, 4)[0] == console_id, f"console session id in {reply.hex()}"


def open_session(bmc: Bmc, client: RmcpClient, *, level: int = HIGHEST, suite: int | None = None) -> int:
    return client.open(SUITES[suite or bmc.best_suite].algorithms, level=level)


def proof_size(bmc: Bmc) -> int:
    return hashlib.new(SUITES[bmc.best_suite].hash).digest_size


# --- Open Session ---


@case(Group.SESSIONS, each={"highest": 0, "user": 2, "operator": 3, "administrator": 4})
def open_level(bmc: Bmc, level: int) -> None:
    """Open Session Response names a definite maximum privilege: what was asked, or the highest there is."""
    client = bmc.client()
    session_id = open_session(bmc, client, level=level)
    assert session_id != 0
    wanted = level or ADMINISTRATOR
    assert client.granted == wanted, f"level {client.granted}, expected {wanted}"


@case(Group.SESSIONS, each={"oem": 5, "6": 6, "15": 15})
def open_level_refused(bmc: Bmc, level: int) -> None:
    """Open Session with a level that nobody gets is refused with 09h."""
    client = bmc.client()
    request = client.open_request(SUITES[bmc.best_suite].algorithms, level=level)
    check_error(exchange(client, OPEN_REQUEST, OPEN_RESPONSE, request), request[0], ROLE_STATUS)


NOT_SERVED: dict[str, tuple[tuple[int, int, int], set[int]]] = {
    "suite 0": ((0, 0, 0), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 1": ((1, 0, 0), {NO_SUITE, BAD_INTEGRITY}),
    "suite 2": ((1, 1, 0), {NO_SUITE, BAD_CONFIDENTIALITY}),
    "suite 4, xRC4-128": ((1, 1, 2), {NO_SUITE, BAD_CONFIDENTIALITY}),
    "suite 5, xRC4-40": ((1, 1, 3), {NO_SUITE, BAD_CONFIDENTIALITY}),
    "suite 6": ((2, 0, 0), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 7": ((2, 2, 0), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 8, MD5": ((2, 2, 1), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 9": ((2, 2, 2), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 11": ((2, 3, 0), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 12": ((2, 3, 1), {NO_SUITE, BAD_AUTHENTICATION}),
    "suite 15": ((3, 0, 0), {NO_SUITE, BAD_INTEGRITY}),
    "suite 16": ((3, 4, 0), {NO_SUITE, BAD_CONFIDENTIALITY}),
    "suite 18": ((3, 4, 2), {NO_SUITE, BAD_CONFIDENTIALITY}),
    "unknown authentication": ((0x3F, 4, 1), {BAD_AUTHENTICATION}),
    "unknown integrity": ((3, 0x3F, 1), {BAD_INTEGRITY}),
    "unknown confidentiality": ((3, 4, 0x3F), {BAD_CONFIDENTIALITY}),
    "mixed: SHA1 with SHA256": ((1, 4, 1), {NO_SUITE}),
    "mixed: SHA256 with SHA1": ((3, 1, 1), {NO_SUITE}),
    "OEM authentication": ((0x30, 4, 1), {BAD_AUTHENTICATION}),
}


@case(Group.SESSIONS, needs="suite17", each=NOT_SERVED)
def open_suite_refused(bmc: Bmc, item: tuple[tuple[int, int, int], set[int]]) -> None:
    """Open Session with algorithms that are no suite served: 04h, 05h, 10h or 11h, in the 8-octet form."""
    client = bmc.client()
    request = client.open_request(item[0])
    check_error(exchange(client, OPEN_REQUEST, OPEN_RESPONSE, request), request[0], item[1])


@case(Group.SESSIONS)
def open_cut_short(bmc: Bmc) -> None:
    """An Open Session Request that is cut off anywhere opens nothing."""
    client = bmc.client()
    whole = client.open_request(SUITES[bmc.best_suite].algorithms)
    for size in range(len(whole)):
        client.send(client.rmcpplus(OPEN_REQUEST, whole[:size]))
    for reply in client.drain(0.15):
        assert len(reply) == 24 and reply[17] != 0, f"answered with {reply.hex()}"
    assert bmc.login().request(APP, GET_DEVICE_ID).code == 0


def _blocks(kinds: tuple[int, int, int], lengths: tuple[int, int, int]) -> bytes:
    return b"".join(
        struct.pack("<BxxBBxxx", kind, length, algorithm)
        for kind, length, algorithm in zip(kinds, lengths, (3, 4, 1), strict=True)
    )


@case(
    Group.SESSIONS,
    needs="suite17",
    each={
        "order": _blocks((1, 0, 2), (8, 8, 8)),
        "unknown kind": _blocks((0, 1, 7), (8, 8, 8)),
        "length": _blocks((0, 1, 2), (8, 9, 8)),
        "one twice": _blocks((0, 0, 2), (8, 8, 8)),
    },
)
def open_malformed(bmc: Bmc, blocks: bytes) -> None:
    """Open Session with malformed algorithm payloads is refused, or not answered."""
    client = bmc.client()
    reply = exchange(client, OPEN_REQUEST, OPEN_RESPONSE, struct.pack("<BBxxI", 7, 0, CONSOLE_ID) + blocks, 0.3)
    assert reply is None or reply[1] != 0, "a session was opened"
    if reply is not None:
        assert len(reply) == 8, f"an error of {len(reply)} octets"


@case(Group.SESSIONS, each={hex(tag): tag for tag in (0, 1, 0x80, 0xFF)})
def open_tag(bmc: Bmc, tag: int) -> None:
    """Message tags come back."""
    client = bmc.client()
    request = bytes((tag,)) + client.open_request(SUITES[bmc.best_suite].algorithms)[1:]
    reply = exchange(client, OPEN_REQUEST, OPEN_RESPONSE, request)
    assert reply is not None and reply[:2] == bytes((tag, 0)), f"{reply!r}"


@case(Group.SESSIONS)
def session_ids_unpredictable(bmc: Bmc) -> None:
    """Session ids are random 32-bit numbers."""
    client = bmc.client()
    ids = [open_session(bmc, client) for _ in range(24)]
    assert len(set(ids)) == len(ids), "an id came twice"
    steps = {(after - before) & 0xFFFFFFFF for before, after in pairwise(ids)}
    assert len(steps) > 20, "they are counted up"
    for shift in (0, 8, 16, 24):
        seen = {number >> shift & 0xFF for number in ids}
        assert len(seen) >= 12, f"octet {shift // 8} has only {len(seen)} values in 24 ids"


@case(Group.SESSIONS)
def randoms_differ(bmc: Bmc) -> None:
    """The BMC's random numbers are new in each handshake."""
    seen = set()
    for _ in range(5):
        client = bmc.client()
        reply = exchange(client, RAKP1, RAKP2, rakp1(bmc, client, open_session(bmc, client)))
        assert reply is not None and reply[1] == 0
        seen.add(reply[8:24])
    assert len(seen) == 5


# --- logins that work ---


@case(Group.SESSIONS, each={"3": 3, "17": 17})
def login(bmc: Bmc, suite: int) -> None:
    """A login with each suite that is served works, all check values right."""
    if suite not in bmc.suites:
        client = bmc.client()
        request = client.open_request(SUITES[suite].algorithms)
        reply = exchange(client, OPEN_REQUEST, OPEN_RESPONSE, request)
        assert reply is not None and reply[1], "a suite that is not listed is served"
        return
    client = bmc.login(suite=suite)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, each={"name only": NAME_ONLY, "name and privilege": 0})
def login_lookup(bmc: Bmc, lookup: int) -> None:
    """User look-up by name only, and by name and privilege."""
    client = bmc.client()
    admin = bmc.admin
    client.login(admin.name, admin.password, suite=bmc.best_suite, role=admin.privilege | lookup, kg=bmc.kg)
    assert client.set_privilege(ADMINISTRATOR).code == 0


@case(Group.SESSIONS, each={"user": USER, "operator": OPERATOR, "administrator": ADMINISTRATOR})
def login_role(bmc: Bmc, role: int) -> None:
    """A login with each role that the user may have."""
    assert bmc.login(role=role).request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, each={"A0A2A3A4": 0xA0A2A3A4, "1": 1, "FFFFFFFF": 0xFFFFFFFF})
def login_console_id(bmc: Bmc, console_id: int) -> None:
    """The console's session id is the console's affair."""
    assert bmc.login(console_id=console_id).request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, needs="long")
def login_twenty_octets(bmc: Bmc) -> None:
    """A password of 20 octets works, and its first 16 or 19 octets do not."""
    assert bmc.long is not None
    assert bmc.login(bmc.long).request(APP, GET_DEVICE_ID).code == 0
    for size in (16, 19):
        refused(bmc, Account(bmc.long.name, bmc.long.password[:size], bmc.long.privilege))


@case(Group.SESSIONS)
def login_repeated_messages(bmc: Bmc) -> None:
    """RAKP 1 and RAKP 3 that are sent again, as after a lost answer, get the same answers, and the session works."""
    client = bmc.client()
    admin = bmc.admin
    client.login(admin.name, admin.password, suite=bmc.best_suite, kg=bmc.kg, repeat=True)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def login_repeated_open(bmc: Bmc) -> None:
    """An Open Session Request that is sent again is answered again; the later session can be used."""
    client = bmc.client()
    datagram = client.rmcpplus(OPEN_REQUEST, client.open_request(SUITES[bmc.best_suite].algorithms))
    assert client.exchange(datagram) is not None
    assert client.exchange(datagram) is not None
    bmc.login(client=client)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def many_sessions_on_one_port(bmc: Bmc) -> None:
    """Twelve sessions from one port, all with the same console session id, work side by side."""
    shared = bmc.client()
    sessions = []
    for _ in range(12):
        client = RmcpClient(shared.transport, timeout=bmc.timeout)
        sessions.append(bmc.login(client=client))
    assert len({client.keys.session_id for client in sessions if client.keys}) == 12
    for _ in range(2):
        for client in sessions:
            assert client.request(APP, GET_DEVICE_ID).code == 0
    for client in sessions:
        assert client.close_session().code == 0


@case(Group.SESSIONS)
def handshakes_interleaved(bmc: Bmc) -> None:
    """Two handshakes at the same time from one port do not get mixed up."""
    shared = bmc.client()
    first, second = RmcpClient(shared.transport), RmcpClient(shared.transport)
    one, two = open_session(bmc, first), open_session(bmc, second)
    reply = exchange(first, RAKP1, RAKP2, rakp1(bmc, first, one))
    assert reply is not None and reply[1] == 0
    reply = exchange(second, RAKP1, RAKP2, rakp1(bmc, second, two))
    assert reply is not None and reply[1] == 0
    bmc.login(client=second)
    bmc.login(client=first)
    assert second.request(APP, GET_DEVICE_ID).code == 0
    assert first.request(APP, GET_DEVICE_ID).code == 0


# --- RAKP 1 refused ---


def rakp1(
    bmc: Bmc,
    client: RmcpClient,
    session_id: int,
    *,
    name: bytes | None = None,
    role: int = ADMINISTRATOR | NAME_ONLY,
    length: int | None = None,
) -> bytes:
    return client.rakp1_payload(
        session_id, os.urandom(16), role, bmc.admin.name.encode() if name is None else name, length
    )


NAMES = {
    "unknown": b"nobody",
    "null user": b"",
    "not UTF-8": b"\xff\xfe\x80",
    "NUL behind it": b"%b\0",
    "a part": None,
    "longer": b"%bx",
    "spaces": b" %b",
}


@case(Group.SESSIONS, each=NAMES)
def unknown_user(bmc: Bmc, pattern: bytes | None) -> None:
    """RAKP 1 of an unknown user, or of the null user, is refused with 0Dh."""
    admin = bmc.admin.name.encode()
    name = admin[:-1] if pattern is None else pattern % admin if b"%b" in pattern else pattern
    for lookup in (NAME_ONLY, 0):
        client = bmc.client()
        request = rakp1(bmc, client, open_session(bmc, client), name=name, role=ADMINISTRATOR | lookup)
        check_error(exchange(client, RAKP1, RAKP2, request), request[0], {NO_NAME})


@case(Group.SESSIONS)
def user_names_have_case(bmc: Bmc) -> None:
    """User names are told apart by case."""
    client = bmc.client()
    request = rakp1(bmc, client, open_session(bmc, client), name=bmc.admin.name.swapcase().encode())
    check_error(exchange(client, RAKP1, RAKP2, request), request[0], {NO_NAME})


@case(
    Group.SESSIONS,
    each={
        "17 octets": (b"a" * 17, None),
        "255": (b"admin", 255),
        "more than there is": (b"admin", 9),
        "less": (b"admin", 2),
    },
)
def name_length(bmc: Bmc, item: tuple[bytes, int | None]) -> None:
    """RAKP 1 with a name length that is too long, or not the name's, is refused with 0Ch."""
    client = bmc.client()
    request = rakp1(bmc, client, open_session(bmc, client), name=item[0], length=item[1])
    check_error(exchange(client, RAKP1, RAKP2, request), request[0], {NAME_LENGTH})


@case(Group.SESSIONS, each={"0": 0, "oem": 5, "6": 6, "15": 15})
def role_that_is_none(bmc: Bmc, role: int) -> None:
    """RAKP 1 with a role that nobody has is refused with 09h or 0Ah."""
    client = bmc.client()
    request = rakp1(bmc, client, open_session(bmc, client), role=role | NAME_ONLY)
    check_error(exchange(client, RAKP1, RAKP2, request), request[0], ROLE_STATUS)


@case(Group.SESSIONS, needs="operator", each={"name only": NAME_ONLY, "name and privilege": 0})
def role_above_operators_limit(bmc: Bmc, lookup: int) -> None:
    """RAKP 1 that asks for more than the user's limit is refused with 09h or 0Ah."""
    assert bmc.operator is not None
    client = bmc.client()
    request = rakp1(
        bmc, client, open_session(bmc, client), name=bmc.operator.name.encode(), role=ADMINISTRATOR | lookup
    )
    check_error(exchange(client, RAKP1, RAKP2, request), request[0], ROLE_STATUS)


@case(Group.SESSIONS, needs="viewer", each={"operator": OPERATOR, "administrator": ADMINISTRATOR})
def role_above_users_limit(bmc: Bmc, role: int) -> None:
    """A user-level account can't log in as operator or administrator."""
    assert bmc.viewer is not None
    client = bmc.client()
    request = rakp1(bmc, client, open_session(bmc, client), name=bmc.viewer.name.encode(), role=role | NAME_ONLY)
    check_error(exchange(client, RAKP1, RAKP2, request), request[0], ROLE_STATUS)


@case(Group.SESSIONS)
def role_above_what_was_opened(bmc: Bmc) -> None:
    """RAKP 1 that asks for more than Open Session did is refused with 09h or 0Ah."""
    client = bmc.client()
    request = rakp1(bmc, client, open_session(bmc, client, level=USER))
    check_error(exchange(client, RAKP1, RAKP2, request), request[0], ROLE_STATUS)


@case(Group.SESSIONS)
def rakp1_unknown_session(bmc: Bmc) -> None:
    """RAKP 1 for a session id that is none is refused with 02h."""
    client = bmc.client()
    request = rakp1(bmc, client, 0xDEADBEEF)
    reply = exchange(client, RAKP1, RAKP2, request)
    assert reply is not None, "no answer"
    assert (reply[0], reply[1], len(reply)) == (request[0], INVALID_ID, 8), reply.hex()


@case(Group.SESSIONS)
def rakp1_cut_short(bmc: Bmc) -> None:
    """RAKP 1 that is cut off anywhere gets no RAKP 2, and the handshake can go on."""
    client = bmc.client()
    whole = rakp1(bmc, client, open_session(bmc, client))
    for size in range(len(whole)):
        client.send(client.rmcpplus(RAKP1, whole[:size]))
    for reply in client.drain(0.15):
        assert len(reply) == 24 and reply[17], f"answered with {reply.hex()}"
    assert bmc.login().request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, needs="loopback")
def handshake_from_another_address(bmc: Bmc) -> None:
    """A handshake can't be gone on with from another address."""
    client, thief = bmc.client(), bmc.client("127.0.0.2", timeout=0.3)
    session_id = open_session(bmc, client)
    reply = exchange(thief, RAKP1, RAKP2, rakp1(bmc, thief, session_id), 0.3)
    assert reply is None or reply[1], "RAKP 2 went to somebody else"


# --- RAKP 3 refused ---


def refused(bmc: Bmc, account: Account) -> None:
    """A login that must fail at RAKP 3 with 0Fh."""
    try:
        half = start(bmc, account)
    except RefusedError as error:
        raise AssertionError(f"refused before RAKP 3: {error}") from None
    client, session_id, proof = half
    request = client.rakp3_payload(session_id, proof)
    check_error(exchange(client, RAKP3, RAKP4, request), request[0], {BAD_CHECK})


def start(bmc: Bmc, account: Account, client: RmcpClient | None = None) -> tuple[RmcpClient, int, bytes]:
    """A handshake up to RAKP 2, and the proof that this account's password makes for RAKP 3."""
    made = client or bmc.client()
    suite = SUITES[bmc.best_suite]
    session_id = made.open(suite.algorithms)
    role = account.privilege | NAME_ONLY
    name = account.name.encode()
    request = made.rakp1_payload(session_id, os.urandom(16), role, name)
    reply = exchange(made, RAKP1, RAKP2, request)
    assert reply is not None, "no RAKP 2"
    if reply[1]:
        raise RefusedError("rakp2", reply[1])
    proof = suite.hmac(
        account.password.encode().ljust(20, b"\0"),
        reply[8:24] + struct.pack("<I", CONSOLE_ID) + bytes((role, len(name))) + name,
    )
    return made, session_id, proof


PASSWORDS = {"other": "wrong", "empty": "", "a part": None, "longer": "{}x", "other case": "swap"}


@case(Group.SESSIONS, each=PASSWORDS)
def wrong_password(bmc: Bmc, pattern: str | None) -> None:
    """A wrong password is refused by the server at RAKP 3 with 0Fh."""
    right = bmc.admin.password
    wrong = right[:-1] if pattern is None else right.swapcase() if pattern == "swap" else pattern.format(right)
    refused(bmc, Account(bmc.admin.name, wrong))


@case(Group.SESSIONS, each={"3": 3, "17": 17})
def wrong_password_in_suite(bmc: Bmc, suite: int) -> None:
    """A wrong password is refused in each suite with 0Fh."""
    if suite in bmc.suites:
        status = bmc.client().bad_login(bmc.admin.name, suite=suite)
        assert status == BAD_CHECK, f"status {status:02x}h"


@case(Group.SESSIONS, each={"empty": 0, "1": 1, "too short": -1, "too long": 1000})
def proof_length(bmc: Bmc, which: int) -> None:
    """RAKP 3 with a check value of a wrong length opens nothing."""
    client, session_id, proof = start(bmc, bmc.admin)
    bad = proof[:-1] if which == -1 else proof + b"\0" * 12 if which == 1000 else proof[:which]
    reply = exchange(client, RAKP3, RAKP4, client.rakp3_payload(session_id, bad), 0.5)
    assert reply is None or reply[1], "a session was opened"


@case(Group.SESSIONS)
def one_guess_only(bmc: Bmc) -> None:
    """After a wrong RAKP 3 the handshake is over: the right one is refused too."""
    client, session_id, proof = start(bmc, bmc.admin)
    reply = exchange(client, RAKP3, RAKP4, client.rakp3_payload(session_id, os.urandom(len(proof))))
    assert reply is not None and reply[1] == BAD_CHECK
    reply = exchange(client, RAKP3, RAKP4, client.rakp3_payload(session_id, proof), 0.5)
    assert reply is None or reply[1], "a session was opened at the second try"


@case(Group.SESSIONS)
def rakp3_with_an_error(bmc: Bmc) -> None:
    """RAKP 3 with an error status ends the half-open session and is not answered."""
    client, session_id, proof = start(bmc, bmc.admin)
    reply = exchange(client, RAKP3, RAKP4, client.rakp3_payload(session_id, b"", status=BAD_CHECK), 0.3)
    assert reply is None or reply[1], "it was accepted"
    reply = exchange(client, RAKP3, RAKP4, client.rakp3_payload(session_id, proof), 0.5)
    assert reply is None or reply[1], "the handshake went on"


@case(Group.SESSIONS)
def rakp3_before_rakp1(bmc: Bmc) -> None:
    """RAKP 3 before RAKP 1 is refused, or not answered, and the BMC lives on."""
    client = bmc.client()
    session_id = open_session(bmc, client)
    reply = exchange(client, RAKP3, RAKP4, client.rakp3_payload(session_id, bytes(proof_size(bmc))), 0.5)
    assert reply is None or reply[1], "it was accepted"
    assert bmc.login().request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def rakp3_unknown_session(bmc: Bmc) -> None:
    """RAKP 3 for a session id that is none is refused with 02h."""
    client = bmc.client()
    request = client.rakp3_payload(0xDEADBEEF, bytes(proof_size(bmc)))
    reply = exchange(client, RAKP3, RAKP4, request)
    assert reply is not None, "no answer"
    assert (reply[0], reply[1], len(reply)) == (request[0], INVALID_ID, 8), reply.hex()


@case(Group.SESSIONS)
def rakp3_cut_short(bmc: Bmc) -> None:
    """RAKP 3 that is cut off anywhere opens nothing."""
    client, session_id, proof = start(bmc, bmc.admin)
    whole = client.rakp3_payload(session_id, proof)
    client.send(client.rmcpplus(RAKP3, whole[:7]))
    for size in range(len(whole) - 1, 7, -1):
        client.send(client.rmcpplus(RAKP3, whole[:size]))
    for reply in client.drain(0.15):
        assert len(reply) == 24 and reply[17], f"answered with {reply.hex()}"


@case(Group.SESSIONS, needs="loopback")
def rakp3_from_another_address(bmc: Bmc) -> None:
    """RAKP 3 with the right proof from another address opens nothing there."""
    _client, session_id, proof = start(bmc, bmc.admin)
    thief = bmc.client("127.0.0.2", timeout=0.3)
    reply = exchange(thief, RAKP3, RAKP4, thief.rakp3_payload(session_id, proof), 0.3)
    assert reply is None or reply[1], "a session was opened for somebody else"


@case(Group.SESSIONS)
def lying_lengths(bmc: Bmc) -> None:
    """Handshake messages whose payload length is not theirs are dropped."""
    client = bmc.client()
    payload = client.open_request(SUITES[bmc.best_suite].algorithms)
    unanswered(
        client,
        *(
            client.rmcpplus(kind, body, length=length)
            for kind, body in ((OPEN_REQUEST, payload), (RAKP1, rakp1(bmc, client, 5)), (RAKP3, bytes(40)))
            for length in (0, len(body) - 1, len(body) + 1, 0xFFFF)
        ),
    )


# --- Kg ---


@case(Group.SESSIONS, needs="kg")
def kg_right(bmc: Bmc) -> None:
    """With a BMC key, a session made with it works."""
    assert bmc.login().request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, needs="kg", each={"none": b"", "other": b"not the key", "shorter": None})
def kg_wrong(bmc: Bmc, kg: bytes | None) -> None:
    """With a BMC key, nobody without it gets a working session."""
    admin = bmc.admin
    client = bmc.client(timeout=0.5)
    try:
        client.login(admin.name, admin.password, suite=bmc.best_suite, kg=bmc.kg[:-1] if kg is None else kg)
    except RefusedError:
        return
    raise AssertionError("the session was opened")


@case(Group.SESSIONS, needs="nokg")
def kg_where_there_is_none(bmc: Bmc) -> None:
    """Without a BMC key, a client that uses one gets no working session."""
    admin = bmc.admin
    try:
        bmc.client(timeout=0.5).login(admin.name, admin.password, suite=bmc.best_suite, kg=b"some key")
    except RefusedError:
        return
    raise AssertionError("the session was opened")


# --- many at a time ---

QUICK = 2.0
"""Seconds that a login may take in the worst of times, with some room for a busy machine."""


def login_time(bmc: Bmc, source: str | None = None) -> float:
    """How long a login with one command takes; messages are sent again after a second, as clients do."""
    started = time.monotonic()
    client = RmcpClient(bmc.client(source).transport, timeout=1.0, retries=6)
    bmc.login(client=client)
    assert client.request(APP, GET_DEVICE_ID).code == 0
    return time.monotonic() - started


@case(Group.SESSIONS)
def five_thousand_half_open(bmc: Bmc) -> None:
    """With 5,000 sessions left half open a login takes no more than two seconds."""
    flood = bmc.client()
    payload = flood.open_request(SUITES[bmc.best_suite].algorithms)
    for number in range(5000):
        flood.send(flood.rmcpplus(OPEN_REQUEST, bytes((number & 0xFF,)) + payload[1:]))
        if number % 50 == 49:
            flood.receive_raw(0.05)
    seconds = login_time(bmc)
    assert seconds < QUICK, f"{seconds:.1f} s"
    flood.close()


@case(Group.SESSIONS)
def two_thousand_left_after_rakp2(bmc: Bmc) -> None:
    """With 2,000 handshakes left after RAKP 2 a login takes no more than two seconds."""
    left = bmc.client(timeout=0.5)
    for _ in range(2000):
        try:
            session_id = open_session(bmc, left)
        except RefusedError as error:
            if error.status != NO_RESOURCES:
                raise
            break
        reply = exchange(left, RAKP1, RAKP2, rakp1(bmc, left, session_id))
        assert reply is not None, "no RAKP 2"
    seconds = login_time(bmc)
    assert seconds < QUICK, f"{seconds:.1f} s"


@case(Group.SESSIONS)
def five_hundred_bad_logins(bmc: Bmc) -> None:
    """After 500 wrong passwords for the administrator the right one gets in within two seconds."""
    guesser = bmc.client()
    for _ in range(500):
        status = guesser.bad_login(bmc.admin.name, suite=bmc.best_suite)
        assert status in (BAD_CHECK, NO_RESOURCES), f"status {status:02x}h"
    seconds = login_time(bmc)
    assert seconds < QUICK, f"{seconds:.1f} s"


@case(Group.SESSIONS, needs="loopback")
def others_cannot_lock_out(bmc: Bmc) -> None:
    """Wrong passwords from another address do not slow the administrator down."""
    guesser = bmc.client("127.0.0.3")
    for _ in range(60):
        guesser.bad_login(bmc.admin.name, suite=bmc.best_suite)
    seconds = login_time(bmc, "127.0.0.4")
    assert seconds < QUICK, f"{seconds:.1f} s"
