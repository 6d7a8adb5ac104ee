"""Send Message: single and dual bridging, addresses, refusals, repeats."""

import pytest
from engine_harness import CHASSIS_CONTROL, COUNT, EngineTransport, Harness
from ipmi_gateway.events import CommandDone
from rmcp_client import BMC, CONSOLE, IPMI, OPERATOR, USER, RmcpClient, message

APP, CHASSIS, OEM = 0x06, 0x00, 0x2E
GET_DEVICE_ID = 0x01
SEND_MESSAGE = 0x34


def wrap(channel: int, raw: bytes, tracking: int = 0x40, **options: int) -> bytes:
    return message(APP, SEND_MESSAGE, bytes((tracking | channel,)) + raw, **options)


@pytest.mark.parametrize(("channel", "target"), [(0, 0x01), (0, 0x30), (0, 0xFF), (2, 0x05), (11, 0x01)])
@pytest.mark.parametrize("rq_address", [CONSOLE, BMC])
def test_single(harness: Harness, admin: RmcpClient, channel: int, target: int, rq_address: int) -> None:
    first, second = admin.bridge(channel, target, APP, GET_DEVICE_ID, rq_address=rq_address)
    assert len(first.raw) == 8
    assert (first.netfn, first.command, first.code, first.rq_address, first.rs_address) == (7, 0x34, 0, CONSOLE, BMC)
    assert (second.rq_address, second.rs_address, second.sequence) == (rq_address, target, first.sequence)
    assert (second.code, second.data[0]) == (0, target)
    request = harness.requests[-1]
    assert (request.bridged, request.channel, request.bmc.address) == (True, channel, target)


def test_octets_of_the_reference(harness: Harness, admin: RmcpClient) -> None:
    admin.send(admin.seal(IPMI, bytes.fromhex("2018c8 81183440 3000d0 81180166 f3")))
    first, second = admin.receive_answer(0), admin.receive_answer(0)
    assert first is not None
    assert second is not None
    assert first.raw == bytes.fromhex("811c63 20183400 94")
    assert second.raw == bytes.fromhex("81047b 30180100 010000 b6")


def test_luns_and_other_sequence_of_the_inner_message(admin: RmcpClient) -> None:
    inner = message(APP, GET_DEVICE_ID, rs_address=0x30, rq_address=0x20, rq_lun=2, rs_lun=0, sequence=33)
    first = admin.ask(wrap(0, inner, sequence=7))
    second = admin.receive_answer(0)
    assert first is not None
    assert second is not None
    assert (first.sequence, second.sequence, second.rq_lun) == (7, 33, 2)


@pytest.mark.parametrize(("channel", "target"), [(0, 0x02), (1, 0x01), (0, 0x00), (12, 0x01), (15, 0x01)])
def test_unknown_target(admin: RmcpClient, channel: int, target: int) -> None:
    (only,) = admin.bridge(channel, target, APP, GET_DEVICE_ID)
    assert (only.command, only.code, len(only.raw)) == (0x34, 0xD3, 8)
    assert admin.receive_raw(0) is None


def test_target_20h_is_the_gateway(harness: Harness, admin: RmcpClient) -> None:
    _, second = admin.bridge(0, BMC, APP, GET_DEVICE_ID)
    assert (second.rs_address, second.data[0]) == (BMC, BMC)


@pytest.mark.parametrize("transit", [(0, 0x30), (2, 0x05), (0, BMC)])
def test_dual(harness: Harness, admin: RmcpClient, transit: tuple[int, int]) -> None:
    first, second, third = admin.bridge(11, 0x01, APP, GET_DEVICE_ID, transit=transit)
    assert (first.command, first.code, first.rs_address, len(first.raw)) == (0x34, 0, BMC, 8)
    assert (second.command, second.code, second.rs_address, len(second.raw)) == (0x34, 0, transit[1], 8)
    assert (third.command, third.code, third.rs_address) == (GET_DEVICE_ID, 0, 0x01)
    assert harness.requests[-1].bmc.node_id == "last"


def test_dual_refusals(admin: RmcpClient) -> None:
    (only,) = admin.bridge(0, 0x30, APP, GET_DEVICE_ID, transit=(0, 0x77))
    assert only.code == 0xD3
    first, second = admin.bridge(0, 0x77, APP, GET_DEVICE_ID, transit=(0, 0x30))
    assert (first.code, second.code, second.rs_address) == (0, 0xD3, 0x30)


def test_three_levels_are_too_many(harness: Harness, admin: RmcpClient) -> None:
    raw = message(OEM, COUNT, rs_address=0x30)
    raw = wrap(0, raw, rs_address=0x01)
    raw = wrap(0, raw, rs_address=0x30)
    answer = admin.ask(wrap(0, raw))
    codes = []
    while answer is not None:
        codes.append(answer.code)
        answer = admin.receive_answer(0)
    assert codes == [0, 0, 0xCC]
    assert harness.counter == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", 0xC7),
        (b"\x40", 0xC7),
        (b"\x40" + message(OEM, COUNT, rs_address=0x30)[:6], 0xC7),
        (b"\x40" + message(OEM, COUNT, rs_address=0x30, bad_first=True), 0xCC),
        (b"\x40" + message(OEM, COUNT, rs_address=0x30, bad_second=True), 0xCC),
        (b"\x40" + message(OEM | 1, COUNT, rs_address=0x30), 0xCC),
        (b"\x00" + message(OEM, COUNT, rs_address=0x30), 0xCC),
        (b"\x80" + message(OEM, COUNT, rs_address=0x30), 0xCC),
        (b"\x50" + message(OEM, COUNT, rs_address=0x30), 0xCC),
    ],
)
def test_malformed(harness: Harness, admin: RmcpClient, data: bytes, code: int) -> None:
    answer = admin.ask(message(APP, SEND_MESSAGE, data, sequence=4))
    assert answer is not None
    assert (answer.code, answer.command, len(answer.raw)) == (code, 0x34, 8)
    assert admin.receive_raw(0) is None
    assert harness.counter == 0


def test_inner_truncated_at_every_octet(harness: Harness, admin: RmcpClient) -> None:
    inner = message(OEM, COUNT, b"some data", rs_address=0x30)
    for length in range(len(inner)):
        answer = admin.ask(message(APP, SEND_MESSAGE, b"\x40" + inner[:length], sequence=length))
        assert answer is not None
        assert answer.code in {0xC7, 0xCC}
    assert harness.counter == 0


def test_privilege_of_the_inner_command(harness: Harness, client: RmcpClient) -> None:
    client.login("viewer", "viewpass", role=USER)
    first, second = client.bridge(0, 0x30, CHASSIS, CHASSIS_CONTROL, b"\x01")
    assert (first.code, second.code) == (0, 0xD4)
    assert not harness.work
    _, second = client.bridge(0, 0x30, APP, GET_DEVICE_ID)
    assert second.code == 0


def test_nodes_of_a_user(harness: Harness, client: RmcpClient) -> None:
    client.login("oper", "operpass", role=OPERATOR)
    assert client.set_privilege(OPERATOR).code == 0
    assert [answer.code for answer in client.bridge(0, 0x01, CHASSIS, CHASSIS_CONTROL, b"\x01")] == [0, 0]
    assert [answer.code for answer in client.bridge(0, 0xFF, CHASSIS, CHASSIS_CONTROL, b"\x01")] == [0, 0]
    assert [answer.code for answer in client.bridge(0, 0x30, CHASSIS, CHASSIS_CONTROL, b"\x01")] == [0xD4]
    answers = client.bridge(0, 0x30, CHASSIS, CHASSIS_CONTROL, b"\x01", transit=(2, 0x05))
    assert [answer.code for answer in answers] == [0, 0xD4]
    assert [request.bmc.node_id for request in harness.requests] == ["node1", "rack2-a"]


def test_node_listener_reaches_its_own_node_only(harness: Harness) -> None:
    direct = RmcpClient(harness.transport(listener=harness.node1)).login("admin", "secret")
    assert direct.request(APP, GET_DEVICE_ID).code == 0
    assert harness.requests[-1].bmc.node_id == "node1"
    assert direct.bridge(0, 0x01, APP, GET_DEVICE_ID)[-1].data[0] == 0x01
    assert [answer.code for answer in direct.bridge(0, 0x30, APP, GET_DEVICE_ID)] == [0xD3]


def test_repeat_of_a_bridged_request(harness: Harness, admin: RmcpClient) -> None:
    raw = wrap(0, message(OEM, COUNT, rs_address=0x30, sequence=8), sequence=8)
    firsts = [admin.ask(raw), admin.receive_answer(0)]
    agains = [admin.ask(raw), admin.receive_answer(0)]
    assert firsts == agains
    assert None not in firsts
    assert harness.counter == 1
    other = wrap(0, message(OEM, COUNT, rs_address=0x01, sequence=8), sequence=8)
    admin.ask(other)
    assert harness.counter == 2


def test_bridged_work(harness: Harness, admin: RmcpClient) -> None:
    transport = admin.transport
    assert isinstance(transport, EngineTransport)
    transport.finish = False
    raw = wrap(0, message(CHASSIS, CHASSIS_CONTROL, b"\x01", rs_address=0x30, sequence=8), sequence=8)
    for _ in range(3):
        admin.send(admin.seal(IPMI, raw))
    assert admin.receive_raw(0.1) is None  # the first answer must come before the second: they come together
    assert harness.finish_work() == 1
    first, second = admin.receive_answer(0), admin.receive_answer(0)
    assert first is not None
    assert second is not None
    assert (first.command, second.command) == (0x34, CHASSIS_CONTROL)
    assert admin.receive_raw(0) is None
    event = harness.events[-1]
    assert isinstance(event, CommandDone)
    assert (event.node, event.code) == ("node2", 0)


def test_unknown_command_behind(admin: RmcpClient) -> None:
    first, second = admin.bridge(0, 0x30, 0x2C, 0x3E, b"\0")
    assert (first.code, second.code, second.netfn) == (0, 0xC1, 0x2D)


def test_not_outside_a_session(harness: Harness, client: RmcpClient) -> None:
    data = b"\x40" + message(OEM, COUNT, rs_address=0x30)
    assert client.ask20(APP, SEND_MESSAGE, data).code == 0xD4
    assert client.ask15(APP, SEND_MESSAGE, data).code == 0xD4
    assert harness.counter == 0
