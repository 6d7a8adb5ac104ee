"""SOL commands and activations in a whole engine, packet by packet, with a clock of our own."""

import struct
from collections.abc import Iterator

import pytest
from engine_harness import Harness
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.commands import payload
from ipmi_gateway.commands.registry import Registry
from ipmi_gateway.events import CommandDone
from ipmi_gateway.sol.console import LocalConsole, pyghmi_console
from ipmi_gateway.sol.packet import Operation, Status
from ipmi_gateway.sol.payload import OFFLINE_PATIENCE, Activation, Conflict, SolPolicy
from rmcp_client import SOL, Answer, RmcpClient

APP, TRANSPORT = 0x06, 0x0C
ADMINISTRATOR, OPERATOR = 4, 3
SOL_1 = b"\x01\x01\xc0\x00\x00\x00"
"""Payload type, instance, and ipmitool's and pyghmi's wish for encryption and authentication."""
OK, DISABLED = 0x00, 0x81


class SolHarness(Harness):
    """Nodes with consoles: node1 at 01h, node2 at 30h; what is typed is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.typed: dict[str, bytearray] = {}
        self.consoles: dict[str, LocalConsole] = {}
        self.breaks = 0
        for address in (0x01, 0x30):
            bmc = self.bmc(address)
            name = bmc.node_id or ""
            self.typed[name] = bytearray()
            self.consoles[name] = LocalConsole(self.typed[name].extend, self._break)
            bmc.controller.sol.console = self.consoles[name]
            bmc.controller.sol.clock = lambda: self.now
        self.gateway.controller.sol.clock = lambda: self.now

    def commands(self) -> Registry:
        return super().commands().include([payload.registry])

    def _break(self) -> None:
        self.breaks += 1

    def bmc(self, address: int) -> Bmc:
        found = self.directory.find(0, address)
        assert found is not None
        return found

    def policy(self, **changes: object) -> None:
        for address in (0x01, 0x30):
            self.bmc(address).controller.sol.policy = SolPolicy(**changes)  # type: ignore[arg-type]


class SolClient(RmcpClient):
    """A client on a port of its own, logged in, that speaks SOL."""

    def node(self, command: int, data: bytes = b"", netfn: int = APP, address: int = 0x01) -> Answer:
        """A bridged request's answer."""
        return self.bridge(0, address, netfn, command, data)[-1]

    def activate(self, address: int = 0x01, data: bytes = SOL_1) -> Answer:
        return self.node(0x48, data, address=address)

    def send_sol(self, sequence: int, acknowledged: int, count: int, operation: int, data: bytes = b"") -> None:
        self.send(self.seal(SOL, bytes((sequence, acknowledged, count, operation)) + data))

    def sol_packets(self, timeout: float = 0.0) -> list[bytes]:
        """All SOL payloads that are there, or come within simulated seconds."""
        self.transport.harness.collect()  # type: ignore[attr-defined]
        packets, self.sol = self.sol, []
        while (packet := self.receive(timeout)) is not None:
            assert packet.payload_type == SOL
            assert packet.encrypted
            assert packet.authenticated
            packets.append(packet.payload)
        return packets

    def drain_output(self) -> bytes:
        """Acknowledge output until there is no more; returns it."""
        stream = b""
        while packets := self.sol_packets():
            for packet in packets:
                if packet[0]:
                    stream += packet[4:]
                    self.send_sol(0, packet[0], len(packet) - 4, 0)
        return stream


@pytest.fixture
def harness() -> SolHarness:
    return SolHarness()


@pytest.fixture
def clients(harness: SolHarness) -> Iterator["Clients"]:
    return Clients(harness)  # type: ignore[return-value]


class Clients:
    """Makes clients of one engine."""

    def __init__(self, harness: SolHarness) -> None:
        self.harness = harness
        self.count = 0

    def login(self, user: str = "admin", password: str = "secret", level: int = ADMINISTRATOR) -> SolClient:
        self.count += 1
        client = SolClient(self.harness.transport(("192.0.2.1", 50000 + self.count)))
        client.login(user, password, role=level | 0x10)
        if level > 2:
            assert client.set_privilege(level).code == OK
        return client


@pytest.fixture
def client(clients: Clients) -> SolClient:
    return clients.login()


# --- activation


def test_activation_answers_sizes_and_the_port_that_clients_dial(harness: SolHarness, client: SolClient) -> None:
    harness.main.public_port = 51623
    answer = client.activate()
    assert answer.code == OK
    assert answer.data == struct.pack("<IHHHH", 0, 255, 255, 51623, 0xFFFF)


def test_console_of_the_activated_node_flows_in_the_session(harness: SolHarness, client: SolClient) -> None:
    client.activate(0x30)
    client.sol_packets(0.01)
    harness.consoles["node1"].feed(b"not this")
    harness.consoles["node2"].feed(b"login: ")
    harness.collect()
    (packet,) = client.sol_packets()
    assert packet == b"\x01\x00\x00\x00login: "
    client.send_sol(1, 1, 7, 0, b"root\r")
    assert client.sol_packets()[0] == b"\x00\x01\x05\x00"
    assert harness.typed == {"node1": b"", "node2": b"root\r"}


def test_sessions_each_have_a_node(harness: SolHarness, clients: Clients) -> None:
    one, two = clients.login(), clients.login()
    assert one.activate(0x01).code == two.activate(0x30).code == OK
    one.sol_packets(0.01)
    two.sol_packets(0.01)
    one.send_sol(1, 0, 0, 0, b"one")
    two.send_sol(1, 0, 0, 0, b"two")
    assert harness.typed == {"node1": b"one", "node2": b"two"}


def test_second_node_in_one_session_is_refused(client: SolClient) -> None:
    client.activate(0x01)
    assert client.activate(0x30).code == 0x82


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x01\x02\xc0\x00\x00\x00", 0xCC),
        (b"\x01\x00\xc0\x00\x00\x00", 0xCC),
        (b"\x00\x01\xc0\x00\x00\x00", 0xCC),
        (b"\x20\x01\xc0\x00\x00\x00", 0xCC),
        (b"\x01\x01\x40\x00\x00\x00", 0x84),
        (b"\x01\x01\x00\x00\x00\x00", 0x84),
        (b"\x01\x01\xc0\x00\x00", 0xC7),
        (b"", 0xC7),
    ],
)
def test_wrong_activation_is_refused(client: SolClient, data: bytes, code: int) -> None:
    assert client.activate(data=data).code == code


def test_node_without_console_is_disabled(client: SolClient) -> None:
    assert client.activate(0xFF).code == DISABLED
    assert client.request(APP, 0x48, SOL_1).code == DISABLED  # the gateway itself


def test_read_only_user_neither_opens_nor_throws_out(clients: Clients) -> None:
    holder, viewer = clients.login(), clients.login("viewer", "viewpass", 2)
    assert viewer.activate().code == 0xD4
    assert holder.activate().code == OK
    assert viewer.node(0x49, SOL_1).code == 0xD4
    assert viewer.node(0x4A, b"\x01").data == b"\x01\x01\x00"
    assert holder.keys is not None
    assert viewer.node(0x4B, b"\x01\x01").data == struct.pack("<I8x", holder.keys.session_id)


def test_activation_is_audited(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    event = [event for event in harness.events if isinstance(event, CommandDone)][-1]
    assert (event.node, event.user, event.command, event.code) == ("node1", "admin", 0x48, OK)


def test_every_activation_begins_afresh(harness: SolHarness, client: SolClient) -> None:
    harness.policy(scrollback=0)
    for _ in range(3):
        assert client.activate().code == OK
        client.sol_packets(0.01)
        harness.consoles["node1"].feed(b"x")
        assert client.sol_packets()[-1][:1] == b"\x01"
        client.send_sol(7, 0, 0, 0, b"y")
        assert b"\x00\x07\x01\x00" in client.sol_packets()
    assert harness.typed["node1"] == b"yyy"


def test_nacked_output_does_not_wedge_the_next_activation(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    client.sol_packets(0.01)
    harness.consoles["node1"].feed(b"x")
    harness.collect()
    client.send_sol(0, 1, 0, Operation.NACK)
    client.sol_packets()
    client.node(0x49, SOL_1)
    client.activate()
    assert b"x" in client.drain_output()


# --- conflicts


def test_takeover_tells_the_old_session(harness: SolHarness, clients: Clients) -> None:
    old, new = clients.login(), clients.login()
    old.activate()
    old.sol_packets(0.01)
    assert new.activate().code == OK
    notice, told = old.sol_packets()[-2:]
    assert b"taken over by admin from 192.0.2.1" in notice
    assert told == bytes((0, 0, 0, Status.DEACTIVATED))
    old.send_sol(3, 0, 0, 0, b"rm -rf /\r")
    assert old.sol_packets() == [bytes((0, 3, 0, Status.NACK | Status.DEACTIVATED))]
    assert harness.typed["node1"] == b""
    new.send_sol(1, 0, 0, 0, b"ls\r")
    assert harness.typed["node1"] == b"ls\r"


def test_lower_privilege_does_not_take_over(clients: Clients) -> None:
    holder, other = clients.login(), clients.login("oper", "operpass", OPERATOR)
    holder.activate()
    assert other.activate().code == 0x80
    assert other.node(0x49, SOL_1).code == 0xD4
    holder.node(0x49, SOL_1)
    assert other.activate().code == OK


def test_same_user_takes_over_with_a_lower_privilege(clients: Clients) -> None:
    clients.login().activate()
    assert clients.login(level=OPERATOR).activate().code == OK


def test_refuse_policy(harness: SolHarness, clients: Clients) -> None:
    harness.policy(conflict=Conflict.REFUSE)
    holder, other = clients.login(), clients.login()
    holder.activate()
    assert other.activate().code == 0x80
    assert other.node(0x49, SOL_1).code == OK
    assert holder.sol_packets()[-1] == bytes((0, 0, 0, Status.DEACTIVATED))
    assert other.activate().code == OK


def test_share_policy(harness: SolHarness, clients: Clients) -> None:
    harness.policy(conflict=Conflict.SHARE, maximum_shared=2)
    one, two, three = clients.login(), clients.login("oper", "operpass", OPERATOR), clients.login()
    assert one.activate().code == two.activate().code == OK
    assert three.activate().code == 0x82
    for client in (one, two):
        client.sol_packets(0.01)
    harness.consoles["node1"].feed(b"for all")
    harness.collect()
    for client in (one, two):
        assert client.sol_packets() == [b"\x01\x00\x00\x00for all"]
        client.send_sol(1, 0, 0, 0, b"!")
        assert client.keys is not None
        assert client.node(0x4B, b"\x01\x01").data[:4] == struct.pack("<I", client.keys.session_id)
    assert harness.typed["node1"] == b"!!"
    assert two.node(0x49, SOL_1).code == OK
    assert one.node(0x4A, b"\x01").data == b"\x01\x01\x00"


def test_deactivation(clients: Clients) -> None:
    client = clients.login()
    assert client.node(0x49, SOL_1).code == 0x80
    client.activate()
    assert client.node(0x49, b"\x01\x02\x00\x00\x00\x00").code == 0xCC
    assert client.node(0x49, SOL_1).code == OK
    assert client.node(0x49, SOL_1).code == 0x80
    assert client.node(0x4A, b"\x01").data == b"\x01\x00\x00"
    assert client.node(0x4B, b"\x01\x01").data == bytes(12)


def test_closed_session_frees_the_console(harness: SolHarness, clients: Clients) -> None:
    harness.policy(conflict=Conflict.REFUSE)
    clients_sol = harness.bmc(1).controller.sol
    first = clients.login()
    first.activate()
    first.close_session()
    assert clients_sol.active == []
    clients.login().activate()
    assert len(clients_sol.active) == 1
    harness.advance(65)  # nobody acknowledges, nobody asks: the session dies
    assert clients_sol.active == []
    assert clients.login().activate().code == OK


def test_node_that_is_no_longer_served_lets_go(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    harness.bmc(1).controller.sol.close("this node is no longer served")
    harness.collect()
    assert client.sol_packets()[-1] == bytes((0, 0, 0, Status.DEACTIVATED))
    assert client.activate().code == DISABLED


# --- what is in the stream


def test_scrollback_is_marked(harness: SolHarness, client: SolClient) -> None:
    harness.policy(scrollback=10)
    harness.consoles["node1"].feed(b"long ago; just now")
    client.activate()
    client.node(0x4A, b"\x01")
    harness.advance(0.01)
    said = b"\r\n[pypmi: what the console said before]\r\n; just now\r\n[pypmi: live output]\r\n"
    assert client.drain_output() == said


def test_without_anything_said_before_nothing_is_added(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    harness.advance(0.01)
    assert client.drain_output() == b""


def test_slow_client_stalls_nobody_and_sees_what_it_missed(harness: SolHarness, clients: Clients) -> None:
    harness.policy(conflict=Conflict.SHARE, buffer=4096)
    slow, quick = clients.login(), clients.login()
    slow.activate()
    quick.activate()
    harness.advance(0.01)
    expected = bytearray()
    seen = bytearray()
    for number in range(1000):
        line = b"line %d\r\n" % number
        expected += line
        harness.consoles["node1"].feed(line)
        harness.collect()
        seen += quick.drain_output()
    assert seen == expected
    late = slow.drain_output()
    assert b"octets of output dropped]" in late
    assert late.endswith(expected[-4000:])
    assert len(late) < 4096 + 300


def test_break_reaches_the_machine(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    client.sol_packets(0.01)
    client.send_sol(1, 0, 0, Operation.BREAK)
    client.send_sol(1, 0, 0, Operation.BREAK)
    assert harness.breaks == 1
    assert client.sol_packets() == [b"\x00\x01\x00\x00"] * 2


def test_console_that_is_away_is_waited_for_then_said(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    client.sol_packets(0.01)
    console = harness.consoles["node1"]
    console.set_online(False)
    assert b"[pypmi: the console is away]" in client.drain_output()
    client.send_sol(1, 0, 0, 0, b"waits")
    harness.advance(0.1)
    console.set_online(True)
    console.room()
    harness.advance(0.1)
    assert harness.typed["node1"] == b"waits"
    console.set_online(False)
    client.drain_output()
    client.send_sol(2, 0, 0, 0, b"lost")
    assert b"\x00\x02\x04\x00" in client.sol_packets()
    harness.advance(OFFLINE_PATIENCE + 0.2)
    assert b"what is typed is lost: the console is away" in client.drain_output()
    assert harness.typed["node1"] == b"waits"


def test_input_that_was_acknowledged_gets_there_after_the_session_has_gone(
    harness: SolHarness, client: SolClient
) -> None:
    typed = bytearray()
    room = [0]

    def take(data: bytes) -> int:
        taken = min(room[0], len(data))
        typed.extend(data[:taken])
        return taken

    console = LocalConsole(take)
    harness.bmc(1).controller.sol.console = console
    client.activate()
    client.sol_packets(0.01)
    client.send_sol(1, 0, 0, 0, b"poweroff\r")
    assert client.sol_packets() == [b"\x00\x01\x09\x00"]
    client.close_session()
    assert harness.bmc(1).controller.sol.active == []
    room[0] = 4
    console.room()
    room[0] = 100
    console.room()
    assert typed == b"poweroff\r"
    assert console.viewers == 0


def test_object_written_for_pyghmi() -> None:
    class Machine:
        def __init__(self) -> None:
            self.heard: list[bytes] = []
            self.sol = None

        def iohandler(self, data: bytes) -> None:
            self.heard.append(data)
            assert self.sol is not None
            self.sol.send_data(b"echo " + data)

    machine = Machine()
    console = pyghmi_console(machine)
    assert console is not None
    events: list[object] = []
    link = console.attach("me", events.append, scrollback=0, on_room=lambda: None)
    assert link.write(b"hi") == 2
    assert machine.heard == [b"hi"]
    assert "echo hi" in str(events[-1])
    assert pyghmi_console(object()) is None


# --- the other payload commands


def test_payload_support_and_versions(client: SolClient) -> None:
    for channel in (0x01, 0x0E):
        assert client.request(APP, 0x4E, bytes((channel,))).data == b"\x03\x00\x3f\x00\x00\x00\x00\x00"
        for kind in (0x00, 0x01, 0x10, 0x15):
            assert client.request(APP, 0x4F, bytes((channel, kind))).data == b"\x10"
        for kind in (0x02, 0x16, 0x20):
            assert client.request(APP, 0x4F, bytes((channel, kind))).code == 0x80
    assert client.request(APP, 0x4E, b"\x07").code == 0xCC
    assert client.request(APP, 0x50, b"\x0e\x20\x00\x00\x00\x00\x00").code == 0x80


def test_status_of_unknown_payloads_is_refused(client: SolClient) -> None:
    assert client.node(0x4A, b"\x02").code == 0xCC
    assert client.node(0x4B, b"\x01\x02").code == 0xCC


def test_encryption_stays(client: SolClient) -> None:
    assert client.node(0x55, b"\x01\x01\x00").code == 0x83
    client.activate()
    assert client.node(0x55, b"\x01\x01\x00").code == 0x81
    assert client.node(0x55, b"\x01\x01\x01").code == OK
    assert client.node(0x55, b"\x01\x01\x02").code == 0x80


def test_user_payload_access(clients: Clients) -> None:
    client, oper = clients.login(), clients.login("oper", "operpass", OPERATOR)
    assert client.node(0x4D, b"\x0e\x03").data == b"\x02\x00\x00\x00"
    assert client.node(0x4C, b"\x0e\x43\x02\x00\x00\x00").code == OK
    assert client.node(0x4D, b"\x0e\x03").data == b"\x00\x00\x00\x00"
    assert oper.activate().code == DISABLED
    assert oper.node(0x4C, b"\x0e\x03\x02\x00\x00\x00").code == 0xD4
    assert client.node(0x4C, b"\x01\x03\x02\x00\x00\x00").code == OK
    assert oper.activate().code == OK
    assert client.node(0x4C, b"\x0e\x83\x02\x00\x00\x00").code == 0xCC
    assert client.node(0x4C, b"\x0e\x03\x04\x00\x00\x00").code == 0xCC
    assert client.node(0x4D, b"\x0e\x00").code == 0xCC


# --- SOL configuration parameters


def get(client: SolClient, number: int, address: int = 1) -> Answer:
    return client.node(0x22, bytes((0x0E, number, 0, 0)), TRANSPORT, address)


def put(client: SolClient, number: int, *value: int) -> int:
    return client.node(0x21, bytes((0x0E, number, *value)), TRANSPORT).code


DEFAULTS = {0: b"\0", 1: b"\1", 2: b"\xc3", 3: b"\1\1", 4: b"\7\5", 5: b"\x0a", 6: b"\x0a", 7: b"\1", 8: b"\x6f\x02"}


def test_defaults_of_the_parameters(client: SolClient) -> None:
    for number, value in DEFAULTS.items():
        assert get(client, number).data == b"\x11" + value
    assert get(client, 9).code == 0x80
    assert client.node(0x22, b"\x8e\x03\x00\x00", TRANSPORT).data == b"\x11"
    assert client.node(0x22, b"\x05\x03\x00\x00", TRANSPORT).code == 0xCC
    assert client.node(0x22, b"\x0e\x03\x00", TRANSPORT).code == 0xC7


@pytest.mark.parametrize(
    ("number", "value"),
    [(1, b"\0"), (2, b"\xc2"), (2, b"\xc4"), (3, b"\x0c\x60"), (4, b"\x00\x32"), (5, b"\x06"), (6, b"\x09")],
)
def test_parameters_are_kept_for_each_node(client: SolClient, number: int, value: bytes) -> None:
    assert put(client, number, *value) == OK
    assert get(client, number).data == b"\x11" + value
    assert get(client, number, 0x30).data == b"\x11" + DEFAULTS[number]


@pytest.mark.parametrize(
    ("number", "value", "code"),
    [
        (1, b"\x02", 0xCC),
        (2, b"\x43", 0xCC),
        (2, b"\xc1", 0xCC),
        (2, b"\xc5", 0xCC),
        (3, b"\x00\x01", 0xCC),
        (3, b"\x01\x00", 0xCC),
        (3, b"\x01", 0xC7),
        (4, b"\x08\x01", 0xCC),
        (5, b"\x05", 0xCC),
        (6, b"\x0b", 0xCC),
        (7, b"\x01", 0x82),
        (8, b"\x6f\x02", 0x82),
        (9, b"\x00", 0x80),
        (0, b"\x03", 0xCC),
    ],
)
def test_wrong_values_are_refused(client: SolClient, number: int, value: bytes, code: int) -> None:
    assert put(client, number, *value) == code


def test_set_in_progress_is_a_lock_that_wears_off(harness: SolHarness, client: SolClient) -> None:
    assert put(client, 0, 1) == OK
    assert get(client, 0).data == b"\x11\x01"
    assert put(client, 0, 1) == 0x81
    assert put(client, 0, 2) == OK
    assert put(client, 0, 0) == OK
    assert get(client, 0).data == b"\x11\x00"
    put(client, 0, 1)
    harness.advance(30)
    client.node(0x4A, b"\x01")
    harness.advance(31)
    assert put(client, 0, 1) == OK


def test_only_administrators_set(clients: Clients) -> None:
    assert put(clients.login("oper", "operpass", OPERATOR), 1, 0) == 0xD4
    viewer = clients.login("viewer", "viewpass", 2)
    assert get(viewer, 1).code == OK
    assert put(viewer, 1, 0) == 0xD4


def test_disabled_console_is_refused_and_raised_privilege_counts(clients: Clients) -> None:
    client, oper = clients.login(), clients.login("oper", "operpass", OPERATOR)
    put(client, 2, 0xC4)
    assert oper.activate().code == 0xD4
    put(client, 1, 0)
    assert client.activate().code == DISABLED


def test_retry_parameters_work_at_once(harness: SolHarness, client: SolClient) -> None:
    client.activate()
    client.sol_packets(0.01)
    put(client, 4, 2, 50)
    harness.consoles["node1"].feed(b"x")
    harness.collect()
    start = harness.now
    assert len(client.sol_packets()) == 1
    packet = client.receive(5)
    assert packet is not None
    assert 0.5 <= harness.now - start <= 0.52


def test_parameters_outlive_the_process(harness: SolHarness, client: SolClient) -> None:
    put(client, 3, 9, 90)
    put(client, 6, 7)
    again = Bmc.create(harness.fleet, "node1").controller.sol
    assert again.parameters.timing.threshold == 90
    assert not any(isinstance(active, Activation) for active in again.active)
    assert again.parameters.timing.accumulate == pytest.approx(0.045)
