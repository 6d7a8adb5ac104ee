"""Serial over LAN: activation, and the packets of the console (sections 15.9, 15.11, 24 and 26).

The console must echo what is typed: a shell, say, or a wire from output to input.
"""

import os
import struct
import time
from itertools import pairwise

from rmcp_client import IPMI, SOL, USER, RmcpClient

from .bmc import Account, Bmc, bridge_message
from .case import Group, case
from .codes import (
    ACTIVATE_PAYLOAD,
    ACTIVATION_STATUS,
    APP,
    BAD_LENGTH,
    BAD_VALUE,
    DEACTIVATE_PAYLOAD,
    GET_DEVICE_ID,
    INSTANCE_INFO,
    PAYLOAD_SUPPORT,
    PAYLOAD_VERSION,
    PRIVILEGE,
    TRANSPORT,
    USER_PAYLOAD_ACCESS,
)
from .power import make

ACTIVE_ELSEWHERE, DISABLED, LIMIT, NO_ENCRYPTION, ENCRYPTION_REQUIRED = 0x80, 0x81, 0x82, 0x83, 0x84
ALREADY_OFF = 0x80
PROTECTED = 0xC0
GET_SOL = 0x22
NACK, DEACTIVATED = 0x40, 0x10
SOL_TYPE = 0x01


def activation(*, payload: int = SOL_TYPE, instance: int = 1, flags: int = PROTECTED) -> tuple[int, ...]:
    return (payload, instance, flags, 0, 0, 0)


class Terminal:
    """One active console."""

    def __init__(self, bmc: Bmc, account: Account | None = None, *, activate: bool = True) -> None:
        self.bmc = bmc
        self.console = bmc.console(account)
        self.client = self.console.client
        self.sequence = 0
        self.got: list[tuple[int, bytes]] = []
        """Sequence numbers and characters of the packets with data that came, in their order."""
        self.acks: list[tuple[int, int, int]] = []
        """Acknowledged sequence number, accepted count and status of every packet."""
        if activate:
            self.free()
            self.answer = self.activate()

    def free(self) -> None:
        """Throw out whoever has the console."""
        self.console.code(APP, DEACTIVATE_PAYLOAD, SOL_TYPE, 1, 0, 0, 0, 0)

    def activate(self) -> bytes:
        data = self.console.ok(APP, ACTIVATE_PAYLOAD, *activation())
        self.sequence = 0
        return data

    def deactivate(self) -> int:
        return self.console.code(APP, DEACTIVATE_PAYLOAD, SOL_TYPE, 1, 0, 0, 0, 0)

    def send(self, sequence: int, acknowledged: int, count: int, operation: int, data: bytes = b"") -> None:
        self.client.send(self.client.seal(SOL, bytes((sequence, acknowledged, count, operation)) + data))

    def pump(self, seconds: float, *, acknowledge: bool = True, until: bytes | None = None) -> bytes:
        """Take what comes for a while, or until it has some characters in it; returns all characters so far."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if until is not None and until in self.text:
                break
            if self.client.sol:
                payload = self.client.sol.pop(0)
            else:
                packet = self.client.receive(left)
                if packet is None or packet.payload_type != SOL:
                    continue
                payload = packet.payload
            assert len(payload) >= 4, f"a SOL packet of {len(payload)} octets"
            sequence, acknowledged, count, status = payload[:4]
            self.acks.append((acknowledged, count, status))
            if sequence:
                if not self.got or (sequence, payload[4:]) != self.got[-1]:
                    self.got.append((sequence, payload[4:]))
                if acknowledge:
                    self.send(0, sequence, len(payload) - 4, 0)
        return self.text

    @property
    def text(self) -> bytes:
        return b"".join(data for _, data in self.got)

    def type(self, data: bytes, *, wait: float = 2.0) -> int:
        """Type characters in one packet, sent again until it is acknowledged; returns how many were taken."""
        self.sequence = self.sequence % 15 + 1
        for _ in range(4):
            before = len(self.acks)
            self.send(self.sequence, 0, 0, 0, data)
            deadline = time.monotonic() + wait
            while time.monotonic() < deadline:
                self.pump(0.03)
                for acknowledged, count, status in self.acks[before:]:
                    if acknowledged == self.sequence and not status & NACK:
                        return count
        raise AssertionError("typed characters are not acknowledged")


def powered(bmc: Bmc) -> None:
    """A console needs a machine that runs."""
    if "power" in bmc.capabilities:
        make(bmc, on=True)


def marker() -> bytes:
    return b"mark" + os.urandom(4).hex().encode()


def echoes(terminal: Terminal, seconds: float = 8) -> None:
    """What is typed comes back."""
    word = marker()
    for place in range(0, len(word), 4):
        terminal.type(word[place : place + 4])
    text = terminal.pump(seconds, until=word)
    assert word in text, f"typed {word!r}, came back {text[-80:]!r}"
    terminal.type(b"\x15")


# --- activation ---


@case(Group.SOL, needs="sol")
def activate(bmc: Bmc) -> None:
    """Activate Payload: 12 octets: flags, sizes both ways, the UDP port that the client dials, FFFFh."""
    terminal = Terminal(bmc)
    assert len(terminal.answer) == 12, f"{len(terminal.answer)} octets"
    inbound, outbound, port, vlan = struct.unpack_from("<HHHH", terminal.answer, 4)
    assert terminal.answer[:4] == bytes(4) or terminal.answer[0] & ~1 == 0, terminal.answer.hex()
    assert 16 <= inbound <= 1024, f"inbound size {inbound}"
    assert 16 <= outbound <= 1024, f"outbound size {outbound}"
    assert port == bmc.port, f"port {port}, dialled {bmc.port}"
    assert vlan == 0xFFFF, f"VLAN {vlan:04x}h"
    assert terminal.deactivate() == 0


@case(Group.SOL, needs="sol", each={"instance 2": (1, 2), "instance 0": (1, 0), "type 3": (3, 1), "OEM 20h": (0x20, 1),
                                    "type IPMI": (0, 1)})  # fmt: skip
def activate_other(bmc: Bmc, item: tuple[int, int]) -> None:
    """Activate Payload of another instance or payload type is refused."""
    console = bmc.console()
    code = console.code(APP, ACTIVATE_PAYLOAD, *activation(payload=item[0], instance=item[1]))
    assert code in {*BAD_VALUE, DISABLED, LIMIT}, f"completion code {code:02x}h"


@case(Group.SOL, needs="sol", each={"short": (1, 1, 0xC0, 0, 0), "long": (1, 1, 0xC0, 0, 0, 0, 0), "empty": ()})
def activate_length(bmc: Bmc, data: tuple[int, ...]) -> None:
    """Activate Payload of a wrong length is answered C7h (or CCh)."""
    bmc.console().expect(BAD_LENGTH, APP, ACTIVATE_PAYLOAD, *data)


@case(Group.SOL, needs="sol")
def activate_without_encryption(bmc: Bmc) -> None:
    """Activate Payload without encryption is refused with 84h where encryption is forced."""
    console = bmc.console()
    forced = console.ok(TRANSPORT, GET_SOL, 0x0E, 2, 0, 0)[1] & 0x80
    console.code(APP, DEACTIVATE_PAYLOAD, SOL_TYPE, 1, 0, 0, 0, 0)
    code = console.code(APP, ACTIVATE_PAYLOAD, *activation(flags=0))
    assert code == (ENCRYPTION_REQUIRED if forced else 0), f"completion code {code:02x}h"
    if not code:
        console.code(APP, DEACTIVATE_PAYLOAD, SOL_TYPE, 1, 0, 0, 0, 0)


@case(Group.SOL, needs="sol")
def deactivate_twice(bmc: Bmc) -> None:
    """Deactivate Payload that is not active is answered 80h."""
    terminal = Terminal(bmc)
    assert terminal.deactivate() == 0
    code = terminal.deactivate()
    assert code == ALREADY_OFF, f"completion code {code:02x}h"


@case(Group.SOL, needs="sol", each={"instance 2": (1, 2), "type 3": (3, 1)})
def deactivate_other(bmc: Bmc, item: tuple[int, int]) -> None:
    """Deactivate Payload of what can't be active is refused."""
    code = bmc.console().code(APP, DEACTIVATE_PAYLOAD, *item, 0, 0, 0, 0)
    assert code in {ALREADY_OFF, 0x81, *BAD_VALUE}, f"completion code {code:02x}h"


@case(Group.SOL, needs="sol")
def activate_as_user(bmc: Bmc) -> None:
    """A session at USER neither opens a console nor throws one out."""
    terminal = Terminal(bmc)
    reader = bmc.console(level=USER)
    for command in (ACTIVATE_PAYLOAD, DEACTIVATE_PAYLOAD):
        code = reader.code(APP, command, *activation())
        assert code in {PRIVILEGE, ACTIVE_ELSEWHERE, DISABLED}, f"command {command:02x}h: {code:02x}h"
    assert terminal.console.ok(APP, ACTIVATION_STATUS, SOL_TYPE)[1] & 1, "the console was thrown out"
    assert terminal.deactivate() == 0
    code = reader.code(APP, ACTIVATE_PAYLOAD, *activation())
    assert code in {PRIVILEGE, DISABLED}, f"at USER: {code:02x}h"


@case(Group.SOL, needs="sol viewer")
def viewer_has_no_console(bmc: Bmc) -> None:
    """A user-level account neither opens a console nor throws one out."""
    terminal = Terminal(bmc)
    reader = bmc.console(bmc.viewer)
    for command in (ACTIVATE_PAYLOAD, DEACTIVATE_PAYLOAD):
        code = reader.code(APP, command, *activation())
        assert code in {PRIVILEGE, ACTIVE_ELSEWHERE, DISABLED}, f"command {command:02x}h: {code:02x}h"
    assert terminal.console.ok(APP, ACTIVATION_STATUS, SOL_TYPE)[1] & 1, "the console was thrown out"
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def active_elsewhere(bmc: Bmc) -> None:
    """A second session gets 80h, or the console, and then the first is told that it has lost it."""
    first = Terminal(bmc)
    second = Terminal(bmc, activate=False)
    code = second.console.code(APP, ACTIVATE_PAYLOAD, *activation())
    assert code in {0, ACTIVE_ELSEWHERE}, f"completion code {code:02x}h"
    if code == 0:
        first.send(1, 0, 0, 0, b"x")
        first.pump(0.6)
        assert any(status & DEACTIVATED for _, _, status in first.acks), "the first session is not told"
        assert second.deactivate() == 0
    else:
        assert first.deactivate() == 0


@case(Group.SOL, needs="sol")
def status_and_instance(bmc: Bmc) -> None:
    """Get Payload Activation Status and Get Payload Instance Info say who has the console."""
    terminal = Terminal(bmc)
    data = terminal.console.ok(APP, ACTIVATION_STATUS, SOL_TYPE)
    assert data[0] & 0x0F >= 1, f"capacity {data[0]}"
    assert data[1] & 1, "not said to be active"
    info = terminal.console.ok(APP, INSTANCE_INFO, SOL_TYPE, 1)
    assert len(info) == 12, f"{len(info)} octets"
    assert any(info[:4]), "no session"
    terminal.deactivate()
    assert not terminal.console.ok(APP, ACTIVATION_STATUS, SOL_TYPE)[1] & 1, "still said to be active"
    assert not any(terminal.console.ok(APP, INSTANCE_INFO, SOL_TYPE, 1)[:4]), "still somebody's"


@case(Group.SOL, needs="sol", each={"Eh": 0x0E})
def payload_support(bmc: Bmc, channel: int) -> None:
    """Get Channel Payload Support for channel Eh: IPMI, SOL and the session set-up types."""
    data = bmc.console().ok(APP, PAYLOAD_SUPPORT, channel)
    assert len(data) == 8, f"{len(data)} octets"
    assert data[0] & 3 == 3, "IPMI or SOL is missing"


@case(Group.SOL, needs="sol", each={"SOL": 1, "IPMI": 0})
def payload_version(bmc: Bmc, payload: int) -> None:
    """Get Channel Payload Version: 1.0."""
    assert bmc.console().ok(APP, PAYLOAD_VERSION, 0x0E, payload)[0] == 0x10


@case(Group.SOL, needs="sol")
def user_payload_access(bmc: Bmc) -> None:
    """Get User Payload Access: SOL is enabled for the administrator."""
    console = bmc.console()
    user = console.client.request(APP, 0x3D, b"\0").data[3]
    data = console.ok(APP, USER_PAYLOAD_ACCESS, 0x0E, user & 0x3F)
    assert len(data) == 4, f"{len(data)} octets"
    assert data[0] & 2, "SOL is not enabled"


@case(Group.SOL, needs="sol", each={str(number): number for number in range(9)})
def parameter(bmc: Bmc, number: int) -> None:
    """Get SOL Configuration Parameters 0 to 8."""
    data = bmc.console().ok(TRANSPORT, GET_SOL, 0x0E, number, 0, 0)
    assert data[0] == 0x11, f"revision {data[0]:02x}h"
    sizes = {3: 2, 4: 2, 8: 2}
    assert len(data) - 1 == sizes.get(number, 1), f"{len(data) - 1} octets"
    if number == 8:
        assert struct.unpack("<H", data[1:])[0] == bmc.port, data.hex()


@case(Group.SOL, needs="sol")
def parameter_unknown(bmc: Bmc) -> None:
    """A SOL parameter that does not exist is answered 80h."""
    bmc.console().expect(0x80, TRANSPORT, GET_SOL, 0x0E, 90, 0, 0)


# --- the console ---


@case(Group.SOL, needs="sol")
def echo(bmc: Bmc) -> None:
    """What is typed reaches the console, and what it says comes back."""
    powered(bmc)
    terminal = Terminal(bmc)
    echoes(terminal)
    assert terminal.deactivate() == 0


@case(Group.SOL, needs="sol")
def sequence_numbers(bmc: Bmc) -> None:
    """Packet sequence numbers go from 1 to 15 and around, in both directions."""
    powered(bmc)
    terminal = Terminal(bmc)
    for _ in range(20):
        assert terminal.type(b"a") == 1
    terminal.type(b"\x15")
    terminal.pump(0.5)
    numbers = [sequence for sequence, _ in terminal.got]
    assert numbers, "nothing came back"
    assert all(1 <= number <= 15 for number in numbers), f"{numbers}"
    for before, after in pairwise(numbers):
        assert after == before % 15 + 1, f"{after} after {before}"
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def duplicate_input(bmc: Bmc) -> None:
    """A packet sent again is acknowledged again, and its characters are passed on once."""
    powered(bmc)
    terminal = Terminal(bmc)
    terminal.pump(0.4)
    word = marker()
    for _ in range(3):
        terminal.send(1, 0, 0, 0, word)
        terminal.pump(0.15)
    acknowledged = [entry for entry in terminal.acks if entry[0] == 1]
    assert len(acknowledged) >= 3, f"{len(acknowledged)} acknowledges for three packets"
    terminal.sequence = 1
    terminal.type(b"!")
    text = terminal.pump(3, until=word + b"!")
    assert text.count(word) == 1, f"passed on {text.count(word)} times: {text[-100:]!r}"
    terminal.type(b"\x15")
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def unacknowledged_output(bmc: Bmc) -> None:
    """A packet that is not acknowledged is sent again, with the same sequence number and characters."""
    powered(bmc)
    terminal = Terminal(bmc)
    terminal.pump(0.4)
    terminal.send(1, 0, 0, 0, b"z")
    copies: dict[bytes, int] = {}
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline and max(copies.values(), default=0) < 2:
        packet = terminal.client.receive(0.3)
        if packet is not None and packet.payload_type == SOL and packet.payload[0]:
            key = packet.payload[:1] + packet.payload[4:]
            copies[key] = copies.get(key, 0) + 1
    assert max(copies.values(), default=0) >= 2, f"{copies}"
    terminal.sequence = 1
    terminal.pump(0.5)
    terminal.type(b"\x15")
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def partial_acknowledge(bmc: Bmc) -> None:
    """After an acknowledge of a part, the rest comes in a new packet."""
    powered(bmc)
    terminal = Terminal(bmc)
    terminal.pump(0.4)
    word = marker() + marker()
    terminal.send(1, 0, 0, 0, word)
    seen, partly = b"", False
    deadline = time.monotonic() + 4
    last = 0
    while time.monotonic() < deadline and word not in seen:
        packet = terminal.client.receive(0.5)
        if packet is None or packet.payload_type != SOL or not packet.payload[0]:
            continue
        sequence, data = packet.payload[0], packet.payload[4:]
        if sequence == last:
            terminal.send(0, sequence, len(data), 0)
            continue
        last = sequence
        count = min(len(data), 1)
        partly = partly or count < len(data)
        seen += data[:count]
        terminal.send(0, sequence, count, NACK if count < len(data) else 0)
    assert word in seen, f"{word!r} typed, {seen[-80:]!r} put together"
    terminal.sequence = 1
    terminal.pump(0.3)
    terminal.type(b"\x15")
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def nack_does_not_wedge(bmc: Bmc) -> None:
    """A NACK stops the output, but not the next activation's."""
    powered(bmc)
    terminal = Terminal(bmc)
    terminal.send(1, 0, 0, 0, b"q")
    packet = terminal.client.receive(1)
    terminal.send(0, packet.payload[0] if packet else 0, 0, NACK)
    terminal.pump(0.3, acknowledge=False)
    terminal.deactivate()
    again = Terminal(bmc)
    echoes(again)
    again.deactivate()


@case(Group.SOL, needs="sol")
def fresh_after_each_activation(bmc: Bmc) -> None:
    """Each activation begins with sequence number 1 both ways."""
    powered(bmc)
    terminal = Terminal(bmc)
    terminal.type(b"a")
    terminal.type(b"b\x15")
    terminal.deactivate()
    terminal.got.clear()
    terminal.activate()
    assert terminal.type(b"c\x15") == 2
    terminal.pump(0.5)
    assert terminal.got, "nothing came back"
    assert terminal.got[0][0] == 1, f"the first packet has number {terminal.got[0][0]}"
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def after_a_killed_client(bmc: Bmc) -> None:
    """A client that has gone without a word can be thrown out by `sol deactivate`, and the console works again."""
    powered(bmc)
    gone = Terminal(bmc)
    gone.type(b"x")
    console = bmc.console()
    code = console.code(APP, DEACTIVATE_PAYLOAD, SOL_TYPE, 1, 0, 0, 0, 0)
    assert code == 0, f"completion code {code:02x}h"
    again = Terminal(bmc)
    again.type(b"\x15")
    echoes(again)
    again.deactivate()


@case(Group.SOL, needs="sol")
def close_session_frees_the_console(bmc: Bmc) -> None:
    """Close Session of the session that has the console frees it."""
    terminal = Terminal(bmc)
    assert terminal.client.close_session().code == 0
    assert not bmc.console().ok(APP, ACTIVATION_STATUS, SOL_TYPE)[1] & 1, "still active"


@case(Group.SOL, needs="sol")
def another_session_is_ignored(bmc: Bmc) -> None:
    """SOL packets in a session that does not have the console are ignored."""
    powered(bmc)
    terminal, other = Terminal(bmc), Terminal(bmc, activate=False)
    word = marker()
    other.send(1, 0, 0, 0, word)
    text = terminal.pump(0.6)
    assert word not in text, "it was passed on"
    assert other.client.request(APP, GET_DEVICE_ID).code == 0
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def commands_beside_the_console(bmc: Bmc) -> None:
    """Commands go on working in the session while the console is active, as ipmitool's keep-alive asks."""
    powered(bmc)
    terminal = Terminal(bmc)
    for _ in range(5):
        terminal.type(b"a")
        assert terminal.console.ask(APP, GET_DEVICE_ID).code == 0
    terminal.type(b"\x15")
    terminal.deactivate()


@case(Group.SOL, needs="sol", each={"0": 0, "1": 1, "3": 3})
def short_packets(bmc: Bmc, size: int) -> None:
    """SOL packets that are shorter than their header do no harm."""
    terminal = Terminal(bmc)
    client = terminal.client
    client.send(client.seal(SOL, bytes((1, 0, 0, 0))[:size]))
    terminal.pump(0.1)
    assert client.request(APP, GET_DEVICE_ID).code == 0
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def long_packet(bmc: Bmc) -> None:
    """A packet as long as Activate Payload allows is taken, at least in part."""
    powered(bmc)
    terminal = Terminal(bmc)
    terminal.pump(0.3)
    inbound = struct.unpack_from("<H", terminal.answer, 4)[0]
    taken = terminal.type(b"#" + b"y" * (inbound - 5))
    assert taken > 0, "nothing was taken"
    terminal.type(b"\x15")
    terminal.deactivate()


@case(Group.SOL, needs="sol bridging")
def console_of_the_target(bmc: Bmc) -> None:
    """Activate Payload is bridged: the status is the target's, and not the gateway's own or another target's."""
    terminal = Terminal(bmc)
    client: RmcpClient = terminal.client
    own = client.request(APP, ACTIVATION_STATUS, bytes((SOL_TYPE,)))
    assert own.code or not own.data[1] & 1, "the gateway's own console is said to be active"
    if bmc.other is not None:
        raw = bridge_message(*bmc.other, APP, ACTIVATION_STATUS, bytes((SOL_TYPE,)), sequence=50)
        client.send(client.seal(IPMI, raw))
        answers = [client.receive_answer(), client.receive_answer()]
        assert answers[1] is not None, "no answer"
        assert not answers[1].data[1] & 1, "the other target's console is said to be active"
    terminal.deactivate()


@case(Group.SOL, needs="sol")
def ipmitool_sol_info(bmc: Bmc) -> None:
    """ipmitool sol info shows the parameters."""
    said = bmc.ipmitool("sol", "info")
    assert said.code == 0, said.output
    assert "Enabled                         : true" in said.output, said.output
    assert f"Payload Port                    : {bmc.port}" in said.output, said.output


@case(Group.SOL, needs="sol")
def ipmitool_sol_deactivate(bmc: Bmc) -> None:
    """ipmitool sol deactivate throws a session out; a second time it says that there is none."""
    Terminal(bmc)
    said = bmc.ipmitool("sol", "deactivate")
    assert said.code == 0, said.output
    said = bmc.ipmitool("sol", "deactivate")
    assert "already de-activated" in said.output, said.output
