"""What is answered before any session: ping, capabilities, cipher suites (sections 13.2, 22.13 to 22.15)."""

import struct

from rmcp_client import IPMI, RMCP_ASF, Answer, RmcpClient, message

from .bmc import Bmc
from .case import Group, case
from .codes import (
    ACTIVATE_SESSION,
    APP,
    AUTH_CAPABILITIES,
    BAD_LENGTH,
    BAD_VALUE,
    CHASSIS,
    CIPHER_SUITES,
    CONTROL,
    GET_DEVICE_ID,
    INVALID_COMMAND,
    ON,
    PRIVILEGE,
    SESSION_CHALLENGE,
    STATUS,
    SYSTEM_GUID,
)
from .quiet import asf, unanswered

IANA_ASF = 4542
FORMS = {"1.5": RmcpClient.ask15, "2.0": RmcpClient.ask20}
STANDARD, OEM_RECORD = 0xC0, 0xC1


def check_pong(pong: bytes | None, tag: int) -> None:
    assert pong is not None, "no pong"
    assert len(pong) == 28, f"a pong of {len(pong)} octets"
    iana, kind, echoed, _, length = struct.unpack_from(">IBBBB", pong, 4)
    assert pong[:4] == RMCP_ASF, f"header {pong[:4].hex()}"
    assert (iana, kind, echoed, length) == (IANA_ASF, 0x40, tag, 16), pong.hex()
    oem_iana, _oem, entities = struct.unpack_from(">IIB", pong, 12)
    assert oem_iana == IANA_ASF, pong.hex()
    assert entities & 0x80, "the pong does not say IPMI"
    assert entities & 0x0F == 1, "the pong does not say ASF 1.0"


@case(Group.DISCOVERY, each={hex(tag): tag for tag in (0x00, 0x01, 0x7F, 0xFE)})
def ping(bmc: Bmc, tag: int) -> None:
    """An ASF ping is answered with a pong that has its tag."""
    check_pong(bmc.client().ping(tag), tag)


@case(Group.DISCOVERY)
def ping_with_a_sequence_number(bmc: Bmc) -> None:
    """A ping that asks for an RMCP acknowledge gets its pong too."""
    client = bmc.client()
    client.send(bytes((6, 0, 5, 6)) + struct.pack(">IBBBB", IANA_ASF, 0x80, 9, 0, 0))
    packets = client.drain(0.2)
    check_pong(next((packet for packet in packets if len(packet) > 4), None), 9)
    assert all(packet == bytes((6, 0, 5, 0x86)) for packet in packets if len(packet) <= 4), "a bad acknowledge"


@case(Group.DISCOVERY)
def ping_cut_short(bmc: Bmc) -> None:
    """A ping that is cut off anywhere is not answered."""
    whole = asf(0x80)
    unanswered(bmc.client(), *(whole[:size] for size in range(1, len(whole))))


WRONG_PINGS = {
    "other IANA": asf(0x80, iana=4543),
    "pong": asf(0x40),
    "other type": asf(0x81),
    "length says more": asf(0x80, length=16),
}


@case(Group.DISCOVERY, each=WRONG_PINGS)
def ping_wrong(bmc: Bmc, datagram: bytes) -> None:
    """What is no ping is not answered."""
    unanswered(bmc.client(), datagram)


@case(Group.DISCOVERY, each={"5": 5, "7": 7, "0": 0, "255": 255})
def rmcp_version(bmc: Bmc, version: int) -> None:
    """Another RMCP version than 06h is not answered."""
    client = bmc.client()
    good = client.lan15(message(APP, AUTH_CAPABILITIES, b"\x8e\x04", sequence=1))
    unanswered(client, bytes((version,)) + good[1:], bytes((version,)) + asf(0x80)[1:])


@case(Group.DISCOVERY, each={"00": 0x00, "08": 0x08, "1f": 0x1F, "ack": 0x87})
def rmcp_class(bmc: Bmc, kind: int) -> None:
    """Another RMCP class than ASF and IPMI, or an acknowledge, is not answered."""
    client = bmc.client()
    good = client.lan15(message(APP, AUTH_CAPABILITIES, b"\x8e\x04", sequence=1))
    unanswered(client, good[:3] + bytes((kind,)) + good[4:])


# --- Get Channel Authentication Capabilities ---


def check_capabilities(bmc: Bmc, answer: Answer, *, extended: bool) -> None:
    assert answer.code == 0, f"completion code {answer.code:02x}h"
    data = answer.data
    assert len(data) == 8, f"{len(data)} octets"
    channel, types, status, protocols, *oem = data
    assert channel & 0xF0 == 0 and channel != 0x0E, f"channel {channel:02x}h"
    assert types & 0x3F == 0, f"IPMI 1.5 authentication types {types & 0x3F:02x}h offered"
    assert bool(types & 0x80) is extended, "the extended bit"
    assert status & 0x03 == 0, "a null user or an anonymous login is offered"
    assert status & 0x04, "no login with names is offered"
    assert not status & 0x18, "per-message or user-level authentication is said to be off"
    assert bool(status & 0x20) is bool(bmc.kg), "the Kg bit"
    if extended:
        assert protocols & 0x02, "no IPMI 2.0"
        assert not protocols & 0x01, "IPMI 1.5 sessions are offered"
    else:
        assert protocols == 0, f"protocols {protocols:02x}h in an answer that is not extended"
    assert not any(oem), "OEM data"


@case(Group.DISCOVERY, each=FORMS)
def capabilities(bmc: Bmc, ask: object) -> None:
    """Get Channel Authentication Capabilities: IPMI 2.0 only, named users only, Kg bit as it is."""
    assert callable(ask)
    check_capabilities(bmc, ask(bmc.client(), APP, AUTH_CAPABILITIES, b"\x8e\x04"), extended=True)


@case(Group.DISCOVERY, each=FORMS)
def capabilities_not_extended(bmc: Bmc, ask: object) -> None:
    """Get Channel Authentication Capabilities without the extended bit: no extended data."""
    assert callable(ask)
    check_capabilities(bmc, ask(bmc.client(), APP, AUTH_CAPABILITIES, b"\x0e\x04"), extended=False)


@case(Group.DISCOVERY, each={str(level): level for level in (1, 2, 3, 4)})
def capabilities_for_level(bmc: Bmc, level: int) -> None:
    """Get Channel Authentication Capabilities is answered for each privilege level."""
    check_capabilities(bmc, bmc.client().ask15(APP, AUTH_CAPABILITIES, bytes((0x8E, level))), extended=True)


@case(Group.DISCOVERY)
def capabilities_by_number(bmc: Bmc) -> None:
    """The channel's own number gets the same answer as Eh."""
    client = bmc.client()
    present = client.ask15(APP, AUTH_CAPABILITIES, b"\x8e\x04").data
    answer = client.ask15(APP, AUTH_CAPABILITIES, bytes((0x80 | present[0], 4)))
    assert (answer.code, answer.data) == (0, present), answer.raw.hex()


@case(Group.DISCOVERY, each={"0": 0, "6": 6, "15": 15})
def capabilities_for_no_level(bmc: Bmc, level: int) -> None:
    """Get Channel Authentication Capabilities for a reserved privilege level is refused."""
    answer = bmc.client().ask15(APP, AUTH_CAPABILITIES, bytes((0x8E, level)))
    assert answer.code in BAD_VALUE, f"completion code {answer.code:02x}h"


@case(Group.DISCOVERY, each={"5": 5, "11": 11, "13": 13})
def capabilities_of_no_channel(bmc: Bmc, channel: int) -> None:
    """Get Channel Authentication Capabilities of a channel that is none is refused."""
    answer = bmc.client().ask15(APP, AUTH_CAPABILITIES, bytes((0x80 | channel, 4)))
    assert answer.code in BAD_VALUE, f"completion code {answer.code:02x}h"


@case(Group.DISCOVERY, each={"empty": b"", "short": b"\x8e", "long": b"\x8e\x04\x00"})
def capabilities_length(bmc: Bmc, data: bytes) -> None:
    """Get Channel Authentication Capabilities of a wrong length is answered C7h (or CCh)."""
    answer = bmc.client().ask15(APP, AUTH_CAPABILITIES, data)
    assert answer.code in BAD_LENGTH, f"completion code {answer.code:02x}h"


# --- Get Channel Cipher Suites ---


def suite_list(client: RmcpClient, ask: object, payload_type: int = 0, channel: int = 0x0E) -> bytes:
    """All pages of the list by suite, as ipmitool reads them."""
    assert callable(ask)
    records = b""
    for index in range(64):
        answer = ask(client, APP, CIPHER_SUITES, bytes((channel, payload_type, 0x80 | index)))
        assert answer.code == 0, f"page {index}: completion code {answer.code:02x}h"
        records += answer.data[1:]
        assert len(answer.data) <= 17, f"a page of {len(answer.data)} octets"
        if len(answer.data) < 17:
            return records
    raise AssertionError("the list has no end")


def parse_suites(records: bytes) -> dict[int, tuple[int, ...]]:
    """Suites by id, with their algorithm octets."""
    suites: dict[int, tuple[int, ...]] = {}
    rest = list(records)
    while rest:
        start = rest.pop(0)
        assert start in (STANDARD, OEM_RECORD), f"start of record {start:02x}h"
        number = rest.pop(0)
        if start == OEM_RECORD:
            del rest[:3]
        algorithms = []
        while rest and rest[0] & 0xC0 != 0xC0:
            algorithms.append(rest.pop(0))
        suites[number] = tuple(algorithms)
    return suites


STANDARD_SUITES = {3: (0x01, 0x41, 0x81), 17: (0x03, 0x44, 0x81)}


@case(Group.DISCOVERY, each=FORMS)
def cipher_suites(bmc: Bmc, ask: object) -> None:
    """Get Channel Cipher Suites lists exactly what is served, before a session, in both packet forms."""
    suites = parse_suites(suite_list(bmc.client(), ask))
    assert tuple(suites) == bmc.suites, f"{tuple(suites)} listed, {bmc.suites} declared"
    for number, algorithms in suites.items():
        assert algorithms == STANDARD_SUITES[number], f"suite {number}: {algorithms}"


@case(Group.DISCOVERY, each={"IPMI": 0, "SOL": 1})
def cipher_suites_of_payload(bmc: Bmc, payload_type: int) -> None:
    """Get Channel Cipher Suites answers for the payload types IPMI and SOL."""
    suites = parse_suites(suite_list(bmc.client(), RmcpClient.ask20, payload_type))
    assert set(suites) == set(bmc.suites), f"{tuple(suites)} listed"


@case(Group.DISCOVERY, each={"1": 1, "2": 2, "15": 15, "63": 63})
def cipher_suites_past_the_end(bmc: Bmc, index: int) -> None:
    """An index past the end of the list gets the channel number only."""
    answer = bmc.client().ask20(APP, CIPHER_SUITES, bytes((0x0E, 0, 0x80 | index)))
    assert (answer.code, len(answer.data)) == (0, 1), answer.raw.hex()


@case(Group.DISCOVERY)
def cipher_suites_by_algorithm(bmc: Bmc) -> None:
    """The list by algorithm has each algorithm that is in use, with its tag."""
    answer = bmc.client().ask20(APP, CIPHER_SUITES, b"\x0e\x00\x00")
    assert answer.code == 0, f"completion code {answer.code:02x}h"
    wanted = {octet for suite in bmc.suites for octet in STANDARD_SUITES[suite]}
    assert set(answer.data[1:]) == wanted, f"{answer.data[1:].hex()}"


@case(Group.DISCOVERY)
def cipher_suites_by_number(bmc: Bmc) -> None:
    """The channel's own number gets the same list as Eh."""
    client = bmc.client()
    number = client.ask15(APP, AUTH_CAPABILITIES, b"\x8e\x04").data[0]
    assert suite_list(client, RmcpClient.ask20, channel=number) == suite_list(client, RmcpClient.ask20)


@case(Group.DISCOVERY)
def cipher_suites_of_no_channel(bmc: Bmc) -> None:
    """Get Channel Cipher Suites of a channel that is none is refused."""
    answer = bmc.client().ask20(APP, CIPHER_SUITES, b"\x0b\x00\x80")
    assert answer.code in BAD_VALUE, f"completion code {answer.code:02x}h"


@case(Group.DISCOVERY, each={"empty": b"", "short": b"\x0e\x00", "long": b"\x0e\x00\x80\x00"})
def cipher_suites_length(bmc: Bmc, data: bytes) -> None:
    """Get Channel Cipher Suites of a wrong length is answered C7h (or CCh)."""
    answer = bmc.client().ask20(APP, CIPHER_SUITES, data)
    assert answer.code in BAD_LENGTH, f"completion code {answer.code:02x}h"


# --- other commands ---


@case(Group.DISCOVERY, each=FORMS)
def guid(bmc: Bmc, ask: object) -> None:
    """Get System GUID works before a session, and is RAKP 2's."""
    assert callable(ask)
    answer = ask(bmc.client(), APP, SYSTEM_GUID)
    assert (answer.code, len(answer.data)) == (0, 16), answer.raw.hex()
    assert any(answer.data), "the GUID is all zeros"
    assert bmc.login().guid == answer.data, "RAKP 2 says another one"


REFUSED = {
    "Get Device ID": (APP, GET_DEVICE_ID, b""),
    "Get Chassis Status": (CHASSIS, STATUS, b""),
    "Chassis Control": (CHASSIS, CONTROL, bytes((ON,))),
    "Send Message": (APP, 0x34, b"\x40" + message(CHASSIS, STATUS, rs_address=1)),
}


@case(Group.DISCOVERY, each=REFUSED)
def nothing_else_before_a_session(bmc: Bmc, request: tuple[int, int, bytes]) -> None:
    """Commands that need a session are refused, or not answered, outside of one."""
    before = bmc.presses() if bmc.presses else 0
    for form in ("lan15", "rmcpplus"):
        client = bmc.client(timeout=0.4)
        raw = message(request[0], request[1], request[2], sequence=7)
        reply = client.exchange(client.lan15(raw) if form == "lan15" else client.rmcpplus(IPMI, raw))
        if reply is not None:
            code = reply[20] if form == "lan15" else reply[22]
            assert code in (PRIVILEGE, INVALID_COMMAND, 0xD5), f"completion code {code:02x}h"
    if bmc.presses:
        assert bmc.presses() == before, "the button was pressed"


@case(Group.DISCOVERY, each={"none": 0, "MD2": 1, "MD5": 2, "password": 4})
def no_ipmi15_sessions(bmc: Bmc, kind: int) -> None:
    """Get Session Challenge of IPMI 1.5 is refused."""
    name = bmc.admin.name.encode().ljust(16, b"\0")
    client = bmc.client(timeout=0.4)
    reply = client.exchange(client.lan15(message(APP, SESSION_CHALLENGE, bytes((kind,)) + name, sequence=3)))
    assert reply is None or reply[20] != 0, "a challenge was given"


@case(Group.DISCOVERY)
def no_ipmi15_activation(bmc: Bmc) -> None:
    """Activate Session of IPMI 1.5 is refused."""
    client = bmc.client(timeout=0.4)
    reply = client.exchange(client.lan15(message(APP, ACTIVATE_SESSION, b"\0\4" + bytes(20), sequence=3)))
    assert reply is None or reply[20] != 0, "a session was activated"


def _odd_packets(client: RmcpClient) -> dict[str, bytes]:
    good = message(APP, AUTH_CAPABILITIES, b"\x8e\x04", sequence=1)

    def spoiled(**options: int | bool) -> bytes:
        return message(APP, AUTH_CAPABILITIES, b"\x8e\x04", sequence=1, **options)  # type: ignore[arg-type]

    return {
        "1.5 with an authentication type": client.lan15(good, auth_type=2),
        "1.5 with a session id": client.lan15(good, session_id=0x1234),
        "1.5 with a session id and a sequence": client.lan15(good, session_id=0x1234, sequence=1),
        "first checksum": client.lan15(spoiled(bad_first=True)),
        "second checksum": client.lan15(spoiled(bad_second=True)),
        "first checksum, 2.0": client.rmcpplus(IPMI, spoiled(bad_first=True)),
        "second checksum, 2.0": client.rmcpplus(IPMI, spoiled(bad_second=True)),
        "a response": client.lan15(message(APP | 1, AUTH_CAPABILITIES, b"\0\x8e\x04", sequence=1)),
        "length too small": client.rmcpplus(IPMI, good, length=len(good) - 1),
        "length too large": client.rmcpplus(IPMI, good, length=len(good) + 1),
        "length 65535": client.rmcpplus(IPMI, good, length=65535),
        "length 0": client.rmcpplus(IPMI, good, length=0),
        "unknown session": client.rmcpplus(IPMI, good, session_id=0xDEADBEEF, sequence=1),
        "encrypted bit without a session": client.rmcpplus(IPMI | 0x80, good),
        "OEM payload": client.rmcpplus(0x02, good),
        "reserved payload": client.rmcpplus(0x3F, good),
        "Open Session Response": client.rmcpplus(0x11, bytes(36)),
        "RAKP 2": client.rmcpplus(0x13, bytes(60)),
        "RAKP 4": client.rmcpplus(0x15, bytes(20)),
        "SOL outside a session": client.rmcpplus(0x01, b"\x01\x00\x00\x00x"),
    }


@case(Group.DISCOVERY, each={name: name for name in _odd_packets(RmcpClient(None))})  # type: ignore[arg-type]
def odd_packet(bmc: Bmc, name: str) -> None:
    """A packet that is wrong or makes no sense outside a session is dropped without a word."""
    client = bmc.client()
    unanswered(client, _odd_packets(client)[name])


@case(Group.DISCOVERY)
def request_cut_short(bmc: Bmc) -> None:
    """A request outside a session that is cut off anywhere is not answered, in both packet forms."""
    client = bmc.client()
    raw = message(APP, AUTH_CAPABILITIES, b"\x8e\x04", sequence=1)
    for whole in (client.lan15(raw), client.rmcpplus(IPMI, raw)):
        unanswered(client, *(whole[:size] for size in range(1, len(whole))))


@case(Group.DISCOVERY)
def no_amplification(bmc: Bmc) -> None:
    """An answer outside a session is never much larger than its request."""
    client = bmc.client(timeout=0.5)
    requests = [
        asf(0x80),
        *(client.lan15(message(APP, command, data, sequence=1)) for command, data in (
            (AUTH_CAPABILITIES, b"\x8e\x04"), (SYSTEM_GUID, b""), (CIPHER_SUITES, b"\x0e\x00\x80"),
        )),
        client.lan15(message(0x2C, 0x01, b"\xdc\x01", sequence=1)),
        client.rmcpplus(0x10, client.open_request((1, 1, 1))),
        client.rmcpplus(0x12, client.rakp1_payload(1, bytes(16), 4, b"x")),
        client.rmcpplus(0x14, client.rakp3_payload(1, bytes(20))),
    ]  # fmt: skip
    for request in requests:
        client.send(request)
        size = sum(len(packet) for packet in client.drain(0.1))
        assert size <= 2.5 * len(request), f"{size} octets for {len(request)}: {request.hex()}"


@case(Group.TOOLS, needs="port623")
def rmcpping(bmc: Bmc) -> None:
    """FreeIPMI's rmcpping gets its pongs."""
    said = bmc.run("rmcpping", "-c", "2", "-i", "1", "-t", "3", bmc.port623)
    assert said.code == 0, said.output
    assert "pong received from" in said.output, said.output


@case(Group.TOOLS, needs="port623", each={"1.5": "1.5", "2.0": "2.0"})
def ipmiping(bmc: Bmc, version: str) -> None:
    """FreeIPMI's ipmiping gets its answers."""
    said = bmc.run("ipmiping", "-v", "-r", version, "-c", "2", "-i", "1", "-t", "3", bmc.port623)
    assert said.code == 0, said.output
    assert "response received from" in said.output, said.output
