"""Commands about sessions, channels, cipher suites and users."""

import struct

import pytest
from engine_harness import Harness
from ipmi_gateway.events import CloseReason, SessionClosed
from ipmi_gateway.settings import GatewaySettings
from rmcp_client import OPERATOR, USER, RmcpClient

APP = 0x06


# --- outside a session ---


@pytest.mark.parametrize("form", ["ask15", "ask20"])
def test_authentication_capabilities(client: RmcpClient, form: str) -> None:
    ask = getattr(client, form)
    assert ask(APP, 0x38, b"\x8e\x04").data == bytes((1, 0x80, 0x04, 0x02, 0, 0, 0, 0))
    assert ask(APP, 0x38, b"\x81\x02").data[0] == 1
    assert ask(APP, 0x38, b"\x0e\x04").data == bytes((1, 0, 0x04, 0, 0, 0, 0, 0))
    for data in (b"\x8e\x00", b"\x8e\x06", b"\x82\x04"):
        assert ask(APP, 0x38, data).code == 0xCC
    for data in (b"", b"\x8e", b"\x8e\x04\x00"):
        assert ask(APP, 0x38, data).code == 0xC7


def test_kg_status_bit() -> None:
    client = RmcpClient(Harness(GatewaySettings(kg=b"\x01")).transport())
    assert client.ask15(APP, 0x38, b"\x8e\x04").data[2] == 0x24


@pytest.mark.parametrize("form", ["ask15", "ask20"])
@pytest.mark.parametrize("payload_type", [0, 1])
def test_cipher_suites(client: RmcpClient, form: str, payload_type: int) -> None:
    ask = getattr(client, form)
    records = bytes.fromhex("c011034481 c003014181")
    assert ask(APP, 0x54, bytes((0x0E, payload_type, 0x80))).data == b"\x01" + records
    for index in (1, 5, 0x3F):
        assert ask(APP, 0x54, bytes((0x0E, payload_type, 0x80 | index))).data == b"\x01"
    assert ask(APP, 0x54, bytes((0x0E, payload_type, 0x00))).data == bytes.fromhex("01 03 01 44 41 81")


def test_cipher_suites_in_the_configured_order() -> None:
    client = RmcpClient(Harness(GatewaySettings(suites=(3,))).transport())
    assert client.ask20(APP, 0x54, b"\x0e\x00\x80").data == bytes.fromhex("01 c003014181")


def test_cipher_suites_of_what_is_not_there(client: RmcpClient) -> None:
    assert client.ask20(APP, 0x54, b"\x0e\x02\x80").code == 0xCC
    assert client.ask20(APP, 0x54, b"\x05\x00\x80").code == 0xCC
    assert client.ask20(APP, 0x54, b"\x0e\x00").code == 0xC7


@pytest.mark.parametrize("form", ["ask15", "ask20"])
def test_no_ipmi15_sessions(client: RmcpClient, form: str) -> None:
    ask = getattr(client, form)
    assert ask(APP, 0x39, b"\x02" + b"admin".ljust(16, b"\0")).code == 0xCC
    assert ask(APP, 0x3A, bytes(22)).code == 0x85


def test_ipmi15_sessions_packets_are_dropped(client: RmcpClient) -> None:
    for auth_type, sequence, session_id in ((2, 0, 0), (0, 1, 0), (0, 0, 1), (4, 1, 1)):
        packet = client.lan15(bytes(8), auth_type=auth_type, sequence=sequence, session_id=session_id)
        assert client.silent(packet)


@pytest.mark.parametrize("form", ["ask15", "ask20"])
def test_nothing_else_outside_a_session(harness: Harness, client: RmcpClient, form: str) -> None:
    ask = getattr(client, form)
    for netfn, command, data in ((APP, 1, b""), (0, 1, b""), (0, 2, b"\x01"), (APP, 0x3B, b"\x04"), (APP, 0x3D, b"\0")):
        assert ask(netfn, command, data).code == 0xD4
    assert ask(APP, 0xFE).code == 0xC1
    assert not harness.work
    assert not harness.requests


def test_ping(client: RmcpClient) -> None:
    pong = client.ping(tag=0x42)
    assert pong is not None
    assert (pong[:4], pong[8], pong[9], pong[20]) == (b"\x06\x00\xff\x06", 0x40, 0x42, 0x81)


def test_ping_that_wants_an_acknowledge(client: RmcpClient) -> None:
    assert client.ping(sequence=7) == b"\x06\x00\x07\x86"
    pong = client.receive_raw(0)
    assert pong is not None
    assert pong[8] == 0x40


def test_acknowledges_are_taken_without_a_word(client: RmcpClient) -> None:
    for octets in (b"\x06\x00\x07\x86", b"\x06\x00\x07\x87", b"\x06\x00\xff\x08abcd"):
        assert client.silent(octets)


# --- Get Session Info ---


def test_session_info(harness: Harness, admin: RmcpClient) -> None:
    other = RmcpClient(harness.transport(("2001:db8::7", 5000, 0, 0))).login("viewer", "viewpass", role=USER)
    assert admin.keys is not None
    assert other.keys is not None
    own = admin.request(APP, 0x3D, b"\0").data
    assert own == bytes((1, 63, 2, 2, 4, 0x11, 192, 0, 2, 1)) + bytes(6) + struct.pack("<H", 40000)
    second = bytes((2, 63, 2, 4, 2, 0x11, 0, 0, 0, 0)) + bytes(6) + struct.pack("<H", 5000)
    assert admin.request(APP, 0x3D, b"\x01").data == own
    assert admin.request(APP, 0x3D, b"\x02").data == second
    assert admin.request(APP, 0x3D, b"\x03").data == bytes((0, 63, 2))
    assert admin.request(APP, 0x3D, b"\xfe\x02").data == second
    assert admin.request(APP, 0x3D, b"\xfe\x09").code == 0xCB
    assert admin.request(APP, 0x3D, b"\xff" + struct.pack("<I", other.keys.session_id)).data == second
    assert admin.request(APP, 0x3D, b"\xff" + struct.pack("<I", 77)).code == 0xCB
    for data in (b"", b"\0\0", b"\xfe", b"\xff\0\0\0", b"\xff" + bytes(5)):
        assert admin.request(APP, 0x3D, data).code == 0xC7


def test_mapped_ipv4_addresses_are_said(harness: Harness) -> None:
    client = RmcpClient(harness.transport(("::ffff:198.51.100.9", 6000, 0, 0))).login("admin", "secret")
    assert client.request(APP, 0x3D, b"\0").data[6:10] == bytes((198, 51, 100, 9))


# --- Close Session ---


def test_close_session(harness: Harness, admin: RmcpClient) -> None:
    viewer = RmcpClient(harness.transport(("192.0.2.9", 1))).login("viewer", "viewpass", role=USER)
    assert admin.keys is not None
    assert viewer.keys is not None
    admin_id, viewer_id = (struct.pack("<I", client.keys.session_id) for client in (admin, viewer))
    assert viewer.request(APP, 0x3C, admin_id).code == 0xD4
    for client in (admin, viewer):
        assert client.request(APP, 0x3C, b"\xff\xff\xff\x7f").code == 0x87
    assert admin.request(APP, 0x3C, bytes(4)).code == 0x87
    assert admin.request(APP, 0x3C, bytes(4) + b"\x70").code == 0x88
    assert admin.request(APP, 0x3C, bytes(3)).code == 0xC7
    assert admin.request(APP, 0x3C, admin_id + b"\0").code == 0xC7
    assert admin.request(APP, 0x3C, viewer_id).code == 0
    assert viewer.silent(viewer.seal(0, b"\x20\x18\xc8\x81\x00\x01\x7e"))
    assert admin.request(APP, 0x3C, admin_id).code == 0
    reasons = [event.reason for event in harness.events if isinstance(event, SessionClosed)]
    assert reasons == [CloseReason.ADMINISTRATOR, CloseReason.CLIENT]


def test_close_session_by_handle(harness: Harness, admin: RmcpClient) -> None:
    viewer = RmcpClient(harness.transport(("192.0.2.9", 1))).login("viewer", "viewpass", role=USER)
    assert admin.request(APP, 0x3C, bytes(4) + b"\x02").code == 0
    assert len(harness.engine.manager.sessions) == 1
    assert viewer.silent(viewer.seal(0, b"\x20\x18\xc8\x81\x00\x01\x7e"))
    assert admin.request(APP, 0x3C, bytes(4) + b"\x01").code == 0
    assert not harness.engine.manager.sessions


# --- channels ---


def test_channel_info(admin: RmcpClient) -> None:
    lan = bytes.fromhex("01 04 01 81 f21b00 0000")
    assert admin.request(APP, 0x42, b"\x0e").data == lan
    assert admin.request(APP, 0x42, b"\x01").data == lan
    assert admin.request(APP, 0x42, b"\x00").data == bytes.fromhex("00 01 01 00 f21b00 0000")
    assert admin.request(APP, 0x42, b"\x0b").data[0] == 11
    assert admin.request(APP, 0x42, b"\x05").code == 0xCC


def test_channel_access(admin: RmcpClient) -> None:
    for kind in (0x40, 0x80):
        assert admin.request(APP, 0x41, bytes((0x0E, kind))).data == b"\x22\x04"
    assert admin.request(APP, 0x41, b"\x0e\x00").code == 0xCC
    assert admin.request(APP, 0x41, b"\x05\x40").code == 0xCC


# --- users ---


def test_user_names_and_access(admin: RmcpClient) -> None:
    assert admin.request(APP, 0x46, b"\x02").data == b"admin".ljust(16, b"\0")
    assert admin.request(APP, 0x46, b"\x01").code == 0xCC
    assert admin.request(APP, 0x44, b"\x0e\x02").data == bytes((10, 0x40 | 5, 5, 0x34))
    assert admin.request(APP, 0x44, b"\x01\x03").data == bytes((10, 0x40 | 5, 5, 0x33))
    assert admin.request(APP, 0x44, b"\x01\x01").data == bytes((10, 0x80 | 5, 5, 0x0F))
    for data in (b"\x01\x00", b"\x01\x0b", b"\x05\x02"):
        assert admin.request(APP, 0x44, data).code == 0xCC


def test_settings_are_refused(admin: RmcpClient) -> None:
    refusals = [
        (0x40, b"\x01\x42\x44"),
        (0x43, b"\x91\x02\x04"),
        (0x45, b"\x02" + bytes(16)),
        (0x47, b"\x02\x02" + bytes(16)),
        (0x47, b"\x02\x01"),
        (0x56, b"\x01\x01\x01" + bytes(20)),
        (0x56, b"\x01\x00\x01"),
    ]
    assert [admin.request(APP, command, data).code for command, data in refusals] == [0xD6] * len(refusals)


def test_settings_need_an_administrator(client: RmcpClient) -> None:
    client.login("oper", "operpass", role=OPERATOR)
    client.set_privilege(OPERATOR)
    assert client.request(APP, 0x45, b"\x02" + bytes(16)).code == 0xD4
    assert client.request(APP, 0x47, b"\x02\x03" + b"secret".ljust(16, b"\0")).code == 0xD4


def test_password_test(admin: RmcpClient) -> None:
    def test(user: int, password: bytes, size: int) -> int:
        flag = 0x80 if size == 20 else 0
        return admin.request(APP, 0x47, bytes((flag | user, 3)) + password.ljust(size, b"\0")).code

    assert test(2, b"secret", 16) == 0
    assert test(2, b"secreu", 16) == 0x80
    assert test(2, b"secret", 20) == 0x81
    assert test(6, b"01234567890123456789", 20) == 0
    assert test(9, b"x", 16) == 0xCC
    assert test(2, b"secret", 10) == 0xC7
