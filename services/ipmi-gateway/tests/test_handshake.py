"""Opening a session: every rule of Open Session and RAKP 1 to 4, and the status codes of refusals."""

import os
import struct

import pytest
from engine_harness import USERS, Harness
from ipmi_gateway.codes import Privilege
from ipmi_gateway.events import LoginFailed, SessionOpened
from ipmi_gateway.sessions.users import User
from ipmi_gateway.settings import GatewaySettings, LoginDelaySettings, SessionSettings
from rmcp_client import (
    ADMINISTRATOR,
    IPMI,
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
    message,
)


def refused(client: RmcpClient, *args: object, **options: object) -> tuple[str, int]:
    with pytest.raises(RefusedError) as refusal:
        client.login(*args, **options)  # type: ignore[arg-type]
    return refusal.value.step, refusal.value.status


@pytest.mark.parametrize("suite", [3, 17])
@pytest.mark.parametrize("role", [ADMINISTRATOR, ADMINISTRATOR | NAME_ONLY, OPERATOR, USER | NAME_ONLY])
def test_login(harness: Harness, client: RmcpClient, suite: int, role: int) -> None:
    client.login("admin", "secret", suite=suite, role=role)
    assert client.request(6, 1).code == 0
    (event,) = harness.events
    assert isinstance(event, SessionOpened)
    assert (event.user, event.peer, event.suite, event.privilege) == ("admin", "192.0.2.1:40000", suite, role & 15)


def test_twenty_octet_password(client: RmcpClient) -> None:
    client.login("long", "01234567890123456789")
    assert refused(RmcpClient(client.transport), "long", "0123456789012345") == ("rakp2 check", 0)


@pytest.mark.parametrize("suite", [3, 17])
def test_kg(suite: int) -> None:
    client = RmcpClient(Harness(GatewaySettings(kg=b"\x01key")).transport())
    client.login("admin", "secret", suite=suite, kg=b"\x01key")
    assert client.request(6, 1).code == 0
    assert refused(RmcpClient(client.transport), "admin", "secret", suite=suite) == ("rakp4 check", 0)


def test_kg_that_begins_with_zero_counts_as_none() -> None:
    client = RmcpClient(Harness(GatewaySettings(kg=b"\0key")).transport())
    assert client.ask15(6, 0x38, b"\x8e\x04").data[2] & 0x20 == 0
    client.login("admin", "secret")


def test_wrong_password_is_refused_at_rakp3(harness: Harness, client: RmcpClient) -> None:
    assert client.bad_login("admin") == 0x0F
    (event,) = harness.events
    assert isinstance(event, LoginFailed)
    assert (event.user, event.status, event.failures) == ("admin", 0x0F, 1)


@pytest.mark.parametrize("name", [b"nobody", b"", b"Admin", b"\xff\xfe", b"admin\0"])
def test_unknown_and_null_users(client: RmcpClient, name: bytes) -> None:
    assert refused(client, name, "secret") == ("rakp2", 0x0D)


@pytest.mark.parametrize("lookup", [0, NAME_ONLY])
def test_role_above_the_users_limit(client: RmcpClient, lookup: int) -> None:
    assert refused(client, "oper", "operpass", role=ADMINISTRATOR | lookup) == ("rakp2", 0x0A)
    client.login("oper", "operpass", role=OPERATOR | lookup)


def test_role_above_what_was_opened(client: RmcpClient) -> None:
    assert refused(client, "admin", "secret", level=USER, role=ADMINISTRATOR) == ("rakp2", 0x0A)


@pytest.mark.parametrize("role", [0, 6, 15])
def test_roles_that_are_none(client: RmcpClient, role: int) -> None:
    assert refused(client, "admin", "secret", role=role) == ("rakp2", 0x09)


def test_channel_limit() -> None:
    client = RmcpClient(Harness(GatewaySettings(channel_privilege_limit=Privilege.OPERATOR)).transport())
    client.login("admin", "secret", role=OPERATOR)
    assert client.granted == OPERATOR
    assert refused(RmcpClient(client.transport), "admin", "secret") == ("rakp2", 0x0A)


def test_highest_privilege_comes_out_definite(client: RmcpClient) -> None:
    client.open(SUITES[3].algorithms, level=0)
    assert client.granted == ADMINISTRATOR
    client.open(SUITES[3].algorithms, level=USER)
    assert client.granted == USER


@pytest.mark.parametrize(
    ("algorithms", "status"),
    [
        ((0, 0, 0), 0x11),  # suite 0
        ((1, 0, 0), 0x11),  # suites 1, 2, 6 to 8, 12, 15, 16: of the specification, but not served
        ((1, 1, 0), 0x11),
        ((2, 2, 1), 0x11),
        ((2, 3, 1), 0x11),
        ((3, 4, 0), 0x11),
        ((2, 1, 1), 0x04),
        ((0x3F, 1, 1), 0x04),
        ((1, 0x3F, 1), 0x05),
        ((1, 0, 1), 0x05),
        ((1, 1, 0x3F), 0x10),
        ((3, 1, 1), 0x11),  # served one by one, but no suite
        ((1, 4, 1), 0x11),
    ],
)
def test_suites_that_are_not_served(client: RmcpClient, algorithms: tuple[int, int, int], status: int) -> None:
    with pytest.raises(RefusedError) as refusal:
        client.open(algorithms)
    assert refusal.value.status == status


def test_only_the_configured_suites() -> None:
    client = RmcpClient(Harness(GatewaySettings(suites=(17,))).transport())
    assert refused(client, "admin", "secret", suite=3) == ("open", 0x11)
    client.login("admin", "secret", suite=17)


@pytest.mark.parametrize("level", [5, 6, 15])
def test_open_session_with_a_privilege_that_nobody_gets(client: RmcpClient, level: int) -> None:
    with pytest.raises(RefusedError) as refusal:
        client.open(SUITES[3].algorithms, level=level)
    assert refusal.value.status == 0x09


def test_open_session_with_malformed_algorithms(client: RmcpClient) -> None:
    request = client.open_request((1, 1, 1), block_length=7)
    reply = client.exchange(client.rmcpplus(OPEN_REQUEST, request))
    assert reply is not None
    assert client.parse_sessionless(reply, OPEN_RESPONSE) == bytes((request[0], 0x12, 0, 0)) + request[4:8]


@pytest.mark.parametrize("length", range(32))
def test_short_open_session_requests_are_dropped(client: RmcpClient, length: int) -> None:
    assert client.silent(client.rmcpplus(OPEN_REQUEST, client.open_request((1, 1, 1))[:length]))


def test_console_id_zero(client: RmcpClient) -> None:
    with pytest.raises(RefusedError):
        client.open(SUITES[3].algorithms, console_id=0)


def test_unknown_session_ids(client: RmcpClient) -> None:
    for kind, answer, payload in (
        (RAKP1, RAKP2, client.rakp1_payload(0x12345678, bytes(16), ADMINISTRATOR, b"admin")),
        (RAKP3, RAKP4, client.rakp3_payload(0x12345678, bytes(20))),
    ):
        reply = client.exchange(client.rmcpplus(kind, payload))
        assert reply is not None
        assert client.parse_sessionless(reply, answer) == bytes((payload[0], 0x02, 0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(("name", "length"), [(b"admin", 4), (b"admin", 6), (b"a" * 17, 17), (b"", 5)])
def test_name_lengths(client: RmcpClient, name: bytes, length: int) -> None:
    session_id = client.open(SUITES[3].algorithms)
    payload = client.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, name, length)
    reply = client.exchange(client.rmcpplus(RAKP1, payload))
    assert reply is not None
    assert client.parse_sessionless(reply, RAKP2)[1] == 0x0C


def test_repeated_messages_get_the_same_answers(client: RmcpClient) -> None:
    client.login("admin", "secret", repeat=True)
    assert client.request(6, 1).code == 0


def test_two_different_rakp1(harness: Harness, client: RmcpClient) -> None:
    """As pyghmi does after a lost answer: another random number, another tag."""
    session_id = client.open(SUITES[17].algorithms)
    replies = set()
    for _ in range(8):
        payload = client.rakp1_payload(session_id, os.urandom(16), ADMINISTRATOR, b"admin")
        replies.add(client.exchange(client.rmcpplus(RAKP1, payload), 0.01))
    assert len(replies) == SessionSettings().handshake_tries + 1  # the fifth and later ones: silence
    assert None in replies


def test_rakp3_before_rakp1(client: RmcpClient) -> None:
    session_id = client.open(SUITES[3].algorithms)
    reply = client.exchange(client.rmcpplus(RAKP3, client.rakp3_payload(session_id, bytes(20))))
    assert reply is not None
    assert client.parse_sessionless(reply, RAKP4)[1] == 0x08


def test_rakp3_with_an_error_ends_the_handshake(harness: Harness, client: RmcpClient) -> None:
    session_id = client.open(SUITES[3].algorithms)
    assert harness.engine.manager.half_open == 1
    assert client.silent(client.rmcpplus(RAKP3, client.rakp3_payload(session_id, b"", status=0x0F)))
    assert harness.engine.manager.half_open == 0
    assert not harness.events


def test_a_client_that_finds_the_password_wrong_and_says_so_is_reported(harness: Harness, client: RmcpClient) -> None:
    for status, failures in ((0x0F, 1), (0x01, 0)):
        harness.events.clear()
        session_id = client.open(SUITES[3].algorithms)
        client.exchange(client.rmcpplus(RAKP1, client.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")))
        assert client.silent(client.rmcpplus(RAKP3, client.rakp3_payload(session_id, b"", status=status)))
        assert harness.engine.manager.half_open == 0
        assert len([event for event in harness.events if isinstance(event, LoginFailed)]) == failures


@pytest.mark.parametrize("proof", [b"", bytes(12), bytes(19), bytes(21), bytes(32)])
def test_proofs_of_a_wrong_length(client: RmcpClient, proof: bytes) -> None:
    session_id = client.open(SUITES[3].algorithms)
    client.exchange(client.rmcpplus(RAKP1, client.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")))
    reply = client.exchange(client.rmcpplus(RAKP3, client.rakp3_payload(session_id, proof)))
    assert reply is not None
    assert client.parse_sessionless(reply, RAKP4)[1] == 0x0F


def test_only_one_guess_per_handshake(client: RmcpClient) -> None:
    session_id = client.open(SUITES[3].algorithms)
    client.exchange(client.rmcpplus(RAKP1, client.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")))
    statuses = []
    for guess in range(3):
        reply = client.exchange(client.rmcpplus(RAKP3, client.rakp3_payload(session_id, bytes((guess,)) * 20)))
        assert reply is not None
        statuses.append(client.parse_sessionless(reply, RAKP4)[1])
    assert statuses == [0x0F, 0x02, 0x02]


def test_handshake_from_another_address(harness: Harness, client: RmcpClient) -> None:
    session_id = client.open(SUITES[3].algorithms)
    for stranger in (
        RmcpClient(harness.transport(("192.0.2.1", 40001))),
        RmcpClient(harness.transport(("192.0.2.9", 40000))),
        RmcpClient(harness.transport(listener=harness.node1)),
    ):
        payload = stranger.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")
        reply = stranger.exchange(stranger.rmcpplus(RAKP1, payload))
        assert reply is not None
        assert stranger.parse_sessionless(reply, RAKP2)[1] == 0x02


def test_session_ids_are_unpredictable_and_ours(harness: Harness, client: RmcpClient) -> None:
    ids = {client.open(SUITES[3].algorithms) for _ in range(200)}
    assert len(ids) == 200
    assert {session_id >> 24 for session_id in ids} > set(range(0, 256, 128)) or len({i >> 24 for i in ids}) > 50
    assert harness.engine.manager.half_open == 200


def test_many_clients_with_the_same_console_id(harness: Harness) -> None:
    clients = [RmcpClient(harness.transport(("192.0.2.1", 40000 + n // 2))) for n in range(10)]
    for client in clients:
        client.login("admin", "secret", console_id=0xA0A2A3A4)
    assert len(harness.engine.manager.sessions) == 10
    assert {client.request(6, 1).code for client in clients} == {0}


def test_guid_is_the_listeners(harness: Harness, client: RmcpClient) -> None:
    client.login("admin", "secret")
    assert client.guid == harness.gateway.guid
    direct = RmcpClient(harness.transport(listener=harness.node1)).login("admin", "secret")
    assert direct.guid == harness.node1.bmc.guid != client.guid


def test_node_listener_refuses_users_without_that_node() -> None:
    users = (*USERS, User("other", b"otherpas", Privilege.OPERATOR, ("node2",), 7))
    harness = Harness(users=users)
    direct = RmcpClient(harness.transport(listener=harness.node1))
    assert refused(direct, "other", "otherpas", role=OPERATOR) == ("rakp2", 0x0D)
    direct.login("oper", "operpass", role=OPERATOR)


# --- floods ---


def test_half_open_flood(harness: Harness) -> None:
    flood = RmcpClient(harness.transport(("198.51.100.7", 1)))
    for _ in range(5000):
        flood.send(flood.rmcpplus(OPEN_REQUEST, flood.open_request((3, 4, 1))))
    assert harness.engine.manager.half_open == SessionSettings().half_open_maximum
    RmcpClient(harness.transport()).login("admin", "secret")
    RmcpClient(harness.transport(("198.51.100.7", 2))).login("admin", "secret")


def test_a_flood_pushes_out_its_own_and_no_slow_login(harness: Harness) -> None:
    """However many a source opens while a login is under way elsewhere, that one is still known at its RAKP 1."""
    slow = RmcpClient(harness.transport())
    session_id = slow.open(SUITES[17].algorithms)
    flood = RmcpClient(harness.transport(("198.51.100.7", 1)))
    for _ in range(3 * SessionSettings().half_open_maximum):
        flood.send(flood.rmcpplus(OPEN_REQUEST, flood.open_request((3, 4, 1))))
    others = [RmcpClient(harness.transport(("192.0.2.1", 50_000 + number))) for number in range(100)]
    for other in others:
        other.open(SUITES[17].algorithms)
    payload = slow.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")
    answer = slow.exchange(slow.rmcpplus(RAKP1, payload))
    assert answer is not None
    assert slow.parse_sessionless(answer, RAKP2)[1] == 0
    assert harness.engine.manager.half_open == SessionSettings().half_open_maximum
    harness.advance(SessionSettings().half_open_timeout + 2)
    assert harness.engine.manager.half_open == 0


def test_left_after_rakp2(harness: Harness) -> None:
    client = RmcpClient(harness.transport())
    for _ in range(2000):
        session_id = client.open(SUITES[17].algorithms)
        client.send(client.rmcpplus(RAKP1, client.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")))
        client.receive_raw()
    RmcpClient(harness.transport()).login("admin", "secret")
    harness.advance(SessionSettings().half_open_timeout + 2)
    assert harness.engine.manager.half_open == 0


def test_five_hundred_bad_logins(harness: Harness) -> None:
    """A legitimate login still works within two seconds, from the same address too; from others at once."""
    client = RmcpClient(harness.transport())
    for _ in range(500):
        assert client.bad_login("admin") == 0x0F
    before = harness.now
    RmcpClient(harness.transport(("192.0.2.200", 1))).login("admin", "secret")
    assert harness.now == before
    RmcpClient(harness.transport(("192.0.2.1", 1))).login("viewer", "viewpass", role=USER)
    assert harness.now == before
    RmcpClient(harness.transport(("192.0.2.1", 2))).login("admin", "secret")
    assert harness.now - before <= 2.0


def test_delay_grows_and_is_forgotten_after_success() -> None:
    settings = GatewaySettings(login_delay=LoginDelaySettings(free=2, step=1.0, longest=10.0))
    harness = Harness(settings)
    client = RmcpClient(harness.transport(), timeout=100.0, retries=1)
    waits = []
    for _ in range(6):
        before = harness.now
        assert client.bad_login("admin") == 0x0F
        waits.append(harness.now - before)
    assert waits == [0, 0, 0, pytest.approx(1), pytest.approx(2), pytest.approx(3)]
    client.login("admin", "secret")
    before = harness.now
    assert client.bad_login("admin") == 0x0F
    assert harness.now == before


def test_logins_that_would_wait_too_long_are_refused() -> None:
    settings = GatewaySettings(login_delay=LoginDelaySettings(free=0, step=2.0, longest=3.0))
    harness = Harness(settings)
    client = RmcpClient(harness.transport(), timeout=100.0, retries=1)
    assert client.bad_login("admin") == 0x0F
    assert client.bad_login("admin") == 0x0F
    waiting = [RmcpClient(harness.transport(("192.0.2.1", port)), timeout=0.0, retries=1) for port in range(1, 5)]
    replies = []
    for other in waiting:
        session_id = other.open(SUITES[3].algorithms)
        other.send(other.rmcpplus(RAKP1, other.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")))
        reply = other.receive_raw(0)
        replies.append(None if reply is None else reply[17])
    assert replies == [None, 0x01, 0x01, 0x01]
    harness.advance(5)
    assert waiting[0].receive_raw(0) is not None


def test_reports_of_failures_are_limited(harness: Harness) -> None:
    client = RmcpClient(harness.transport())
    for _ in range(100):
        assert refused(client, "nobody", "x") == ("rakp2", 0x0D)
    assert 1 <= len(harness.events) <= 30


def test_session_limits() -> None:
    harness = Harness(GatewaySettings(sessions=SessionSettings(maximum=3, maximum_per_user=2)))

    def new() -> RmcpClient:
        return RmcpClient(harness.transport())

    first = new().login("admin", "secret")
    new().login("admin", "secret")
    assert refused(new(), "admin", "secret") == ("rakp2", 0x01)
    new().login("long", "01234567890123456789")
    assert refused(new(), "long", "01234567890123456789") == ("open", 0x01)
    assert first.close_session().code == 0
    new().login("admin", "secret")


def test_unauthenticated_answers_are_small(client: RmcpClient) -> None:
    requests = [
        client.lan15(message(6, 0x38, b"\x8e\x04")),
        client.rmcpplus(IPMI, message(6, 0x54, b"\x0e\x00\x80")),
        client.rmcpplus(IPMI, message(6, 0x01)),
        client.lan15(message(6, 0x37)),
        client.rmcpplus(OPEN_REQUEST, client.open_request((3, 4, 1))),
    ]
    for request in requests:
        reply = client.exchange(request)
        assert reply is not None
        assert len(reply) <= len(request) + 16


def test_rate_of_one_source_is_limited() -> None:
    harness = Harness()
    client = RmcpClient(harness.transport())
    packet = client.lan15(message(6, 0x38, b"\x8e\x04"))
    for _ in range(50_000):
        harness.engine.receive(packet, client.transport.peer, harness.main, harness.now)  # type: ignore[attr-defined]
    assert len(harness.engine.take_output()) == 40_000
    RmcpClient(harness.transport(("192.0.2.77", 1))).login("admin", "secret")
    harness.advance(1)
    client.login("admin", "secret")


@pytest.mark.parametrize("payload_type", [RAKP1, RAKP3])
def test_truncated_rakp(client: RmcpClient, payload_type: int) -> None:
    session_id = client.open(SUITES[3].algorithms)
    whole = (
        client.rakp1_payload(session_id, bytes(16), ADMINISTRATOR, b"admin")
        if payload_type == RAKP1
        else client.rakp3_payload(session_id, bytes(20))
    )
    for length in range(len(whole)):
        reply = client.exchange(client.rmcpplus(payload_type, whole[:length]), 0.01)
        assert reply is None or reply[17] != 0
    client.login("admin", "secret")


def test_lying_length_field(client: RmcpClient) -> None:
    request = client.open_request((1, 1, 1))
    for length in (0, 31, 33, 65535):
        assert client.silent(client.rmcpplus(OPEN_REQUEST, request, length=length))


def test_struct_of_error_form(client: RmcpClient) -> None:
    request = client.open_request((0, 0, 0), console_id=0x01020304)
    reply = client.exchange(client.rmcpplus(OPEN_REQUEST, request))
    assert reply is not None
    assert client.parse_sessionless(reply, OPEN_RESPONSE) == struct.pack("<BBBBI", request[0], 0x11, 0, 0, 0x01020304)
