"""Packets inside a session: what is accepted, what is dropped, repeats, privilege, time-outs."""

import struct
from collections.abc import Callable

import pytest
from engine_harness import CHASSIS_CONTROL, COUNT, CRASH, USERS, EngineTransport, Harness
from ipmi_gateway.events import CloseReason, CommandDone, SessionClosed
from ipmi_gateway.sessions.session import Session
from ipmi_gateway.sessions.users import User
from ipmi_gateway.settings import GatewaySettings, SessionSettings
from rmcp_client import ADMINISTRATOR, IPMI, OPERATOR, SOL, USER, RmcpClient, confidentiality_pad, message

OEM = 0x2E
CHASSIS = 0x00
APP = 0x06
GET_DEVICE_ID = message(APP, 0x01, sequence=9)


def session_of(harness: Harness, client: RmcpClient) -> Session:
    assert client.keys is not None
    return harness.engine.manager.sessions[client.keys.session_id]


# --- the sequence window ---


def test_exact_replay_is_dropped(harness: Harness, admin: RmcpClient) -> None:
    packet = admin.seal(IPMI, message(OEM, COUNT, sequence=1))
    assert admin.exchange(packet) is not None
    assert admin.silent(packet)
    assert harness.counter == 1


def test_sequence_zero_is_dropped(harness: Harness, admin: RmcpClient) -> None:
    assert admin.silent(admin.seal(IPMI, GET_DEVICE_ID, sequence=0))


@pytest.mark.parametrize("order", [(5, 4), (16, 1), (17, 1), (3, 1, 2), (16, 15, 14, 13, 1, 2, 3)])
def test_reordering_inside_the_window(harness: Harness, admin: RmcpClient, order: tuple[int, ...]) -> None:
    start = admin.out_sequence
    for count, offset in enumerate(order, start=1):
        packet = admin.seal(IPMI, message(OEM, COUNT, bytes((offset,)), sequence=offset), sequence=start + offset)
        if offset == 17 and count == 1:  # 17 ahead is out of the window: get there in two steps
            admin.exchange(admin.seal(IPMI, message(OEM, COUNT, b"x"), sequence=start + 10))
            harness.counter = 0
        assert admin.exchange(packet) is not None
        assert harness.counter == count
        assert admin.silent(packet)


@pytest.mark.parametrize(("back", "accepted"), [(15, True), (16, True), (17, False), (40, False)])
def test_far_behind(harness: Harness, admin: RmcpClient, back: int, accepted: bool) -> None:
    for _ in range(3):
        admin.out_sequence += 12
        admin.request(APP, 1)
    highest = admin.out_sequence
    late = admin.seal(IPMI, message(OEM, COUNT), sequence=highest - back)
    assert admin.silent(late) is not accepted


@pytest.mark.parametrize(("ahead", "accepted"), [(12, True), (16, True), (17, False), (1000, False), (1 << 31, False)])
def test_far_ahead(admin: RmcpClient, ahead: int, accepted: bool) -> None:
    packet = admin.seal(IPMI, GET_DEVICE_ID, sequence=admin.out_sequence + ahead)
    assert admin.silent(packet) is not accepted
    admin.out_sequence += ahead if accepted else 0
    assert admin.request(APP, 1).code == 0


def test_a_forged_packet_does_not_move_the_window(harness: Harness, admin: RmcpClient) -> None:
    forged = admin.seal(IPMI, GET_DEVICE_ID, sequence=admin.out_sequence + 16, check=bytes(12))
    assert admin.silent(forged)
    assert admin.request(APP, 1).code == 0


def test_sequence_numbers_wrap_around(harness: Harness, admin: RmcpClient) -> None:
    session = session_of(harness, admin)
    session._highest = session._out_sequence = 0xFFFFFFF8
    admin.out_sequence = 0xFFFFFFF8
    admin.seen.clear()
    for _ in range(7):
        assert admin.request(APP, 1).code == 0
    admin.out_sequence = 0  # the client too leaves out 0
    for _ in range(20):
        assert admin.request(APP, 1).code == 0
    assert 0 not in admin.seen


def test_our_sequence_numbers_are_consecutive(admin: RmcpClient) -> None:
    for _ in range(20):
        admin.request(APP, 1)
    assert admin.seen == list(range(admin.seen[0], admin.seen[0] + len(admin.seen)))


# --- protection ---


RAW = message(OEM, COUNT, sequence=3)
PAD = confidentiality_pad(len(RAW))

SPOILED: dict[str, Callable[[RmcpClient], bytes]] = {
    "unauthenticated": lambda admin: admin.seal(IPMI, RAW, authenticate=False),
    "unencrypted": lambda admin: admin.seal(IPMI, RAW, encrypt=False),
    "unprotected": lambda admin: admin.seal(IPMI, RAW, encrypt=False, authenticate=False),
    "encrypted flag missing": lambda admin: admin.seal(IPMI, RAW, flags=0x40),
    "authenticated flag missing": lambda admin: admin.seal(IPMI, RAW, flags=0x80),
    "wrong pad": lambda admin: admin.seal(IPMI, RAW, pad=bytes((PAD[0] ^ 1,)) + PAD[1:]),
    "zero pad": lambda admin: admin.seal(IPMI, RAW, pad=bytes(len(PAD) - 1) + PAD[-1:]),
    "pad length too small": lambda admin: admin.seal(IPMI, RAW, pad=PAD[:-1] + bytes((PAD[-1] - 1,))),
    "pad length too large": lambda admin: admin.seal(IPMI, RAW, pad=PAD[:-1] + b"\x10"),
    "pad length ff": lambda admin: admin.seal(IPMI, RAW, pad=PAD[:-1] + b"\xff"),
    "wrong check": lambda admin: admin.seal(IPMI, RAW, check=bytes(12 if admin.keys.suite.id == 3 else 16)),
    "short check": lambda admin: admin.seal(IPMI, RAW)[:-1],
    "no check": lambda admin: admin.seal(IPMI, RAW, check=b""),
    "more behind": lambda admin: admin.seal(IPMI, RAW) + b"\0",
    "integrity pad": lambda admin: admin.seal(IPMI, RAW, trailer=b"\0\0\x02\x07"),
    "integrity pad length": lambda admin: admin.seal(IPMI, RAW, trailer=b"\xff\xff\x03\x07"),
    "longer integrity pad": lambda admin: admin.seal(IPMI, RAW, trailer=b"\xff" * 6 + b"\x06\x07"),
    "next header": lambda admin: admin.seal(IPMI, RAW, trailer=b"\xff\xff\x02\x06"),
    "length too small": lambda admin: admin.seal(IPMI, RAW, length=16),
    "length too large": lambda admin: admin.seal(IPMI, RAW, length=48),
    "length 0": lambda admin: admin.seal(IPMI, RAW, length=0),
    "another session": lambda admin: admin.seal(IPMI, RAW, session_id=0x11223344),
    "first checksum": lambda admin: admin.seal(IPMI, message(OEM, COUNT, bad_first=True)),
    "second checksum": lambda admin: admin.seal(IPMI, message(OEM, COUNT, bad_second=True)),
    "short message": lambda admin: admin.seal(IPMI, RAW[:6]),
    "empty message": lambda admin: admin.seal(IPMI, b""),
    "a response": lambda admin: admin.seal(IPMI, message(OEM | 1, COUNT)),
    "another responder": lambda admin: admin.seal(IPMI, message(OEM, COUNT, rs_address=0x30)),
    "OEM payload": lambda admin: admin.seal(2, RAW),
    "open session inside": lambda admin: admin.seal(0x10, RAW),
    "unknown payload": lambda admin: admin.seal(0x3F, RAW),
}


@pytest.mark.parametrize("which", list(SPOILED))
def test_spoiled_packets_are_dropped(harness: Harness, admin: RmcpClient, which: str) -> None:
    assert admin.silent(SPOILED[which](admin))
    assert harness.counter == 0
    assert admin.exchange(admin.seal(IPMI, RAW)) is not None
    assert harness.counter == 1


def test_every_bit_is_protected(harness: Harness, admin: RmcpClient) -> None:
    packet = admin.seal(IPMI, message(OEM, COUNT))
    for position in range(4, len(packet)):
        spoiled = bytearray(packet)
        spoiled[position] ^= 0x04
        assert admin.silent(bytes(spoiled), 0.0)
    assert harness.counter == 0
    assert admin.exchange(packet) is not None


def test_truncation_at_every_octet(harness: Harness, admin: RmcpClient) -> None:
    packet = admin.seal(IPMI, message(OEM, COUNT))
    for length in range(len(packet)):
        assert admin.silent(packet[:length], 0.0)
    assert admin.exchange(packet) is not None


def test_nobody_takes_a_session_over(harness: Harness, admin: RmcpClient) -> None:
    for transport in (
        harness.transport(("192.0.2.1", 40001)),
        harness.transport(("203.0.113.5", 40000)),
        harness.transport(listener=harness.node1),
    ):
        transport.send(admin.seal(IPMI, message(OEM, COUNT)))
        assert transport.receive(0.1) is None
    assert harness.counter == 0
    assert admin.request(APP, 1).code == 0


def test_keys_differ_between_sessions(harness: Harness) -> None:
    one = RmcpClient(harness.transport()).login("admin", "secret")
    two = RmcpClient(harness.transport()).login("admin", "secret")
    assert one.keys is not None
    assert two.keys is not None
    packet = one.seal(IPMI, GET_DEVICE_ID, session_id=two.keys.session_id)
    assert one.silent(packet)


def test_ivs_never_repeat(harness: Harness, admin: RmcpClient) -> None:
    ivs = set()
    for number in range(600):  # beyond one bulk of random octets
        reply = admin.exchange(admin.seal(IPMI, message(APP, 1, sequence=number & 63)))
        assert reply is not None
        ivs.add(reply[16:32])
    assert len(ivs) == 600


# --- repeats ---


def test_repeat_gets_the_same_answer_and_is_done_once(harness: Harness, admin: RmcpClient) -> None:
    raw = message(OEM, COUNT, b"data", sequence=5)
    first, second = admin.ask(raw), admin.ask(raw)
    assert first == second
    assert harness.counter == 1
    assert len(set(admin.seen)) == len(admin.seen)  # sealed anew


def test_same_sequence_with_other_data_is_a_new_request(harness: Harness, admin: RmcpClient) -> None:
    for data in (b"a", b"b"):
        admin.ask(message(OEM, COUNT, data, sequence=5))
    assert harness.counter == 2


def test_repeats_are_forgotten(harness: Harness, admin: RmcpClient) -> None:
    raw = message(OEM, COUNT, sequence=5)
    admin.ask(raw)
    harness.advance(SessionSettings().remember_for + 0.1)
    admin.ask(raw)
    assert harness.counter == 2


def test_memory_for_repeats_is_small(harness: Harness, admin: RmcpClient) -> None:
    for number in range(200):
        admin.ask(message(OEM, COUNT, bytes((number,))))
    assert len(session_of(harness, admin).answers) == SessionSettings().remembered_answers
    harness.advance(15)
    assert not session_of(harness, admin).answers


def test_other_sessions_repeat_is_their_own(harness: Harness) -> None:
    raw = message(OEM, COUNT, sequence=5)
    for _ in range(2):
        RmcpClient(harness.transport()).login("admin", "secret").ask(raw)
    assert harness.counter == 2


def test_repeat_while_in_work_is_not_started_twice(harness: Harness, admin: RmcpClient) -> None:
    transport = admin.transport
    assert isinstance(transport, EngineTransport)
    transport.finish = False
    raw = message(CHASSIS, CHASSIS_CONTROL, b"\x01", sequence=6)
    for _ in range(4):
        admin.send(admin.seal(IPMI, raw))
    assert admin.receive_raw(1.0) is None
    assert len(harness.work) == 1
    harness.finish_work()
    answer = admin.receive_answer(0)
    assert answer is not None
    assert answer.code == 0
    assert admin.receive_raw(0) is None
    again = admin.ask(raw)
    assert again == answer
    assert not harness.work
    assert len(harness.requests) == 1


def test_too_many_requests_in_work(harness: Harness, admin: RmcpClient) -> None:
    transport = admin.transport
    assert isinstance(transport, EngineTransport)
    transport.finish = False
    limit = SessionSettings().requests_in_work
    for number in range(limit):
        admin.send(admin.seal(IPMI, message(CHASSIS, CHASSIS_CONTROL, b"\x01", sequence=number)))
    over = admin.ask(message(CHASSIS, CHASSIS_CONTROL, b"\x02", sequence=63))
    assert over is not None
    assert over.code == 0xC0
    assert harness.finish_work() == limit


def test_work_of_a_closed_session_is_not_answered(harness: Harness, admin: RmcpClient) -> None:
    transport = admin.transport
    assert isinstance(transport, EngineTransport)
    transport.finish = False
    admin.send(admin.seal(IPMI, message(CHASSIS, CHASSIS_CONTROL, b"\x01", sequence=6)))
    assert admin.close_session().code == 0
    harness.finish_work()
    assert admin.receive_raw(0) is None
    assert any(isinstance(event, CommandDone) for event in harness.events)


# --- privilege, codes ---


def test_starts_at_user(harness: Harness, client: RmcpClient) -> None:
    client.login("admin", "secret")
    assert client.request(CHASSIS, CHASSIS_CONTROL, b"\x01").code == 0xD4
    assert client.set_privilege(0).data == bytes((USER,))
    assert client.set_privilege(OPERATOR).data == bytes((OPERATOR,))
    assert client.request(CHASSIS, CHASSIS_CONTROL, b"\x01").code == 0
    assert client.set_privilege(USER).code == 0
    assert client.request(CHASSIS, CHASSIS_CONTROL, b"\x01").code == 0xD4


def test_ceilings(harness: Harness, client: RmcpClient) -> None:
    client.login("admin", "secret", role=OPERATOR)
    for level in (ADMINISTRATOR, 5):
        assert client.set_privilege(level).code == 0x81
    for level in (1, 6, 0x14, 0xFF):
        assert client.set_privilege(level).code == 0xCC
    assert client.set_privilege(0).data == bytes((USER,))
    assert client.set_privilege(OPERATOR).code == 0


def test_callback_user_gets_nowhere(client: RmcpClient) -> None:
    client.login("callback", "backpass", role=1)
    assert client.request(APP, 1).code == 0xD4
    assert client.set_privilege(USER).code == 0x81
    assert client.request(APP, 0x34, b"\x40" + message(APP, 1, rs_address=0x30)).code == 0xD4
    assert client.close_session().code == 0


def test_completion_codes(admin: RmcpClient) -> None:
    assert admin.request(APP, 0xFE).code == 0xC1
    assert admin.request(0x2C, 0x3E, b"\0").code == 0xC1
    assert admin.request(APP, 1, b"\0").code == 0xC7
    assert admin.request(CHASSIS, CHASSIS_CONTROL).code == 0xC7
    assert admin.request(CHASSIS, CHASSIS_CONTROL, b"\x0f").code == 0xCC


def test_a_crash_is_answered_and_logged_once(admin: RmcpClient, caplog: pytest.LogCaptureFixture) -> None:
    for data in (b"\0", b"\1", b"\2"):
        assert admin.request(OEM, CRASH, data).code == 0xFF
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_luns_are_kept(admin: RmcpClient) -> None:
    answer = admin.request(APP, 1, rs_lun=0, rq_lun=3)
    assert (answer.rs_lun, answer.rq_lun) == (0, 3)


def test_events(harness: Harness, admin: RmcpClient) -> None:
    admin.request(CHASSIS, CHASSIS_CONTROL, b"\x0f")
    admin.request(APP, 1)
    admin.close_session()
    _, command, closed = harness.events
    assert isinstance(command, CommandDone)
    assert (command.user, command.netfn, command.command, command.data, command.code, command.node) == (
        "admin", 0, 2, b"\x0f", 0xCC, None,
    )  # fmt: skip
    assert isinstance(closed, SessionClosed)
    assert closed.reason is CloseReason.CLIENT


# --- the end of sessions ---


def test_inactivity(harness: Harness, admin: RmcpClient) -> None:
    harness.advance(58)
    assert admin.request(APP, 1).code == 0
    harness.advance(58)
    assert admin.request(APP, 1).code == 0
    harness.advance(61.5)
    assert not harness.engine.manager.sessions
    assert admin.silent(admin.seal(IPMI, GET_DEVICE_ID))
    assert isinstance(harness.events[-1], SessionClosed)
    assert harness.events[-1].reason is CloseReason.TIMEOUT


def test_an_idle_engine_wants_no_timers(harness: Harness, admin: RmcpClient) -> None:
    admin.close_session()
    harness.advance(200)
    assert harness.engine.next_timer() is None


def test_close_session_frees_everything(harness: Harness, client: RmcpClient) -> None:
    manager = harness.engine.manager
    for _ in range(300):
        client.login("admin", "secret")
        assert client.close_session().code == 0
    assert not manager.sessions
    assert not manager._per_user
    harness.advance(40)
    assert manager.half_open == 0
    assert client.silent(client.seal(IPMI, GET_DEVICE_ID))


def test_users_changed(harness: Harness) -> None:
    admin = RmcpClient(harness.transport()).login("admin", "secret")
    viewer = RmcpClient(harness.transport()).login("viewer", "viewpass", role=USER)
    harness.users.replace([user for user in USERS if user.name != "viewer"])
    harness.engine.users_changed(harness.now)
    assert viewer.silent(viewer.seal(IPMI, GET_DEVICE_ID))
    assert admin.request(APP, 1).code == 0
    harness.users.replace([User("admin", b"another")])
    harness.engine.users_changed(harness.now)
    assert admin.silent(admin.seal(IPMI, GET_DEVICE_ID))
    RmcpClient(harness.transport()).login("admin", "another")


def test_a_thousand_sessions_of_one_client(harness: Harness) -> None:
    client = RmcpClient(harness.transport())
    for _ in range(1000):
        client.login("admin", "secret", suite=3)
    assert len(harness.engine.manager.sessions) == 1000
    harness.advance(2)
    assert client.request(APP, 1).code == 0


# --- SOL ---


class Console:
    """Takes the place of a SOL activation."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, float]] = []
        self.ended: list[CloseReason] = []

    def receive(self, data: bytes, now: float) -> None:
        self.received.append((data, now))

    def closed(self, reason: CloseReason) -> None:
        self.ended.append(reason)


def test_sol_hook(harness: Harness, admin: RmcpClient) -> None:
    session = session_of(harness, admin)
    assert admin.silent(admin.seal(SOL, b"nobody there"))
    console = session.sol = Console()
    admin.send(admin.seal(SOL, b"\x01\0\0\0hello"))
    assert console.received == [(b"\x01\0\0\0hello", harness.now)]
    assert admin.silent(admin.seal(SOL, b"\x02\0\0\0", encrypt=False))
    woken = []
    harness.engine.on_wake = lambda: woken.append(True)
    session.send_payload(SOL, b"\x00\x01\x05\x00")
    assert woken
    harness.collect()
    packet = admin.receive(0)
    assert packet is not None
    assert (packet.payload_type, packet.payload, packet.encrypted) == (SOL, b"\x00\x01\x05\x00", True)
    due = []
    session.call_at(harness.now + 0.5, due.append)
    cancelled = session.call_at(harness.now + 0.5, due.append)
    cancelled.cancel()
    harness.advance(1)
    assert len(due) == 1
    assert admin.close_session().code == 0
    assert console.ended == [CloseReason.CLIENT]
    session.send_payload(SOL, b"too late")
    harness.collect()
    assert admin.receive_raw(0) is None


def test_a_console_that_fails_does_not_stop_the_engine(harness: Harness, admin: RmcpClient) -> None:
    class Broken(Console):
        def receive(self, data: bytes, now: float) -> None:
            raise ZeroDivisionError

    session_of(harness, admin).sol = Broken()
    assert admin.silent(admin.seal(SOL, struct.pack("<I", 1)))
    assert admin.request(APP, 1).code == 0


def test_work_maximum() -> None:
    harness = Harness(GatewaySettings(work_maximum=1))
    clients = [RmcpClient(EngineTransport(harness, ("192.0.2.1", n), harness.main, finish=False)) for n in (1, 2)]
    for client in clients:
        client.login("admin", "secret").set_privilege(4)
    clients[0].send(clients[0].seal(IPMI, message(CHASSIS, CHASSIS_CONTROL, b"\x01")))
    busy = clients[1].ask(message(CHASSIS, CHASSIS_CONTROL, b"\x01"))
    assert busy is not None
    assert busy.code == 0xC0
    assert harness.finish_work() == 1


def test_a_lost_answer_to_close_session_is_sent_again(harness: Harness, client: RmcpClient) -> None:
    client.login("admin", "secret")
    assert client.keys is not None
    raw = message(APP, 0x3C, client.keys.session_id.to_bytes(4, "little"), sequence=9)
    for _ in range(2):
        client.send(client.seal(IPMI, raw))
        answer = client.receive_answer()
        assert answer is not None
        assert (answer.sequence, answer.command, answer.code) == (9, 0x3C, 0)
    assert not harness.engine.manager.sessions
    assert client.silent(client.seal(IPMI, GET_DEVICE_ID))
    packet = client.seal(IPMI, raw)
    assert RmcpClient(harness.transport(("192.0.2.66", 6))).silent(packet)
    assert not client.silent(packet)
    assert client.silent(packet)
    harness.advance(60)
    assert client.silent(client.seal(IPMI, raw))
