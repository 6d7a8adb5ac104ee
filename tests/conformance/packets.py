"""Packets in a session: replay, windows, protection, garbage (sections 6.12, 13.6, 13.28, 13.29)."""

import os
import random
import struct
import time
from collections.abc import Callable

from rmcp_client import (
    ADMINISTRATOR,
    AUTHENTICATED,
    ENCRYPTED,
    IPMI,
    OPEN_REQUEST,
    RAKP1,
    RAKP3,
    SOL,
    SUITES,
    RmcpClient,
    confidentiality_pad,
    message,
)

from .bmc import Bmc
from .case import Group, case
from .codes import APP, DEVICE_GUID, GET_DEVICE_ID, STORAGE
from .quiet import answered, dead, ignored

RESERVE_SDR, RESERVE_SEL = 0x22, 0x42


def asking(sequence: int = 1) -> bytes:
    """A message whose answer can't be taken for another's."""
    return message(APP, DEVICE_GUID, sequence=sequence)


def used(bmc: Bmc, suite: int | None = None, packets: int = 1) -> RmcpClient:
    """A session in which so many packets have been exchanged."""
    client = bmc.login(suite=suite)
    for _ in range(packets):
        assert client.request(APP, GET_DEVICE_ID).code == 0
    return client


# --- sequence numbers ---


@case(Group.SESSIONS, each={"3": 3, "17": 17})
def replay(bmc: Bmc, suite: int) -> None:
    """An exact replay is dropped, at once and later."""
    if suite not in bmc.suites:
        return
    client = used(bmc, suite)
    packet = client.seal(IPMI, asking())
    answered(client, packet, 1, DEVICE_GUID)
    ignored(client, packet)
    for _ in range(5):
        client.request(APP, GET_DEVICE_ID)
    ignored(client, packet, packet)


@case(Group.SESSIONS)
def sequence_zero(bmc: Bmc) -> None:
    """A packet with session sequence number 0 is dropped in a session."""
    client = bmc.login()
    ignored(client, client.seal(IPMI, asking(), sequence=0))
    client.request(APP, GET_DEVICE_ID)
    ignored(client, client.seal(IPMI, asking(), sequence=0))


@case(Group.SESSIONS, each={"1": 1, "2": 2, "5": 5, "13": 13})
def first_sequence(bmc: Bmc, sequence: int) -> None:
    """A session begins with any number in the window: the first packets may have got lost."""
    client = bmc.login()
    client.out_sequence = sequence - 1
    answered(client, client.seal(IPMI, asking()), 1, DEVICE_GUID)


@case(Group.SESSIONS, each={str(gap): gap for gap in (1, 2, 7, 12)})
def lost_packets(bmc: Bmc, gap: int) -> None:
    """A session survives that so many packets in a row get lost."""
    client = used(bmc)
    client.out_sequence += gap
    answered(client, client.seal(IPMI, asking()), 1, DEVICE_GUID)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS, each={"100": 100, "5000": 5000, "2^31": 1 << 31, "backwards": 0xFFFFFF00})
def far_ahead(bmc: Bmc, step: int) -> None:
    """A packet far ahead of the window is dropped, and moves nothing."""
    client = used(bmc, packets=3)
    ahead = client.seal(IPMI, asking(), sequence=(client.out_sequence + step) & 0xFFFFFFFF)
    ignored(client, ahead)
    for _ in range(3):
        assert client.request(APP, GET_DEVICE_ID).code == 0


ORDERS = {
    "two swapped": (2, 1),
    "three": (3, 1, 2),
    "backwards": (8, 7, 6, 5, 4, 3, 2, 1),
    "halves": (5, 6, 7, 8, 1, 2, 3, 4),
}


@case(Group.SESSIONS, each=ORDERS)
def reordering(bmc: Bmc, order: tuple[int, ...]) -> None:
    """Packets that come in another order inside the window are accepted, each once."""
    client = used(bmc)
    base = client.out_sequence
    packets = {step: client.seal(IPMI, asking(step), sequence=base + step) for step in order}
    for step in order:
        answered(client, packets[step], step, DEVICE_GUID)
    client.out_sequence = base + max(order)
    ignored(client, *packets.values())


@case(Group.SESSIONS, each={"1": 1, "8": 8, "15": 15})
def behind(bmc: Bmc, back: int) -> None:
    """A packet that is up to 15 behind the newest one is accepted, once."""
    client = used(bmc)
    late = client.seal(IPMI, asking())
    # the window moves on, with a packet lost now and then
    for _ in range(back):
        client.request(APP, GET_DEVICE_ID)
    answered(client, late, 1, DEVICE_GUID)
    ignored(client, late)


@case(Group.SESSIONS, each={"17": 17, "20": 20, "40": 40, "200": 200})
def far_behind(bmc: Bmc, back: int) -> None:
    """A packet that is further behind than the window is wide is dropped, though it never came."""
    client = used(bmc)
    late = client.seal(IPMI, asking())
    for _ in range(back):
        client.request(APP, GET_DEVICE_ID)
    ignored(client, late)


@case(Group.SESSIONS)
def forged_packets_move_nothing(bmc: Bmc) -> None:
    """A packet with a wrong check value does not move the window."""
    client = used(bmc)
    forged = [client.seal(IPMI, asking(), sequence=client.out_sequence + step, check=bytes(16)) for step in (10, 15)]
    ignored(client, *forged)
    right = client.seal(IPMI, asking(9))
    answered(client, right, 9, DEVICE_GUID)


@case(Group.SESSIONS)
def answers_are_numbered(bmc: Bmc) -> None:
    """The BMC's own packets have consecutive sequence numbers from 1, and are encrypted and authenticated."""
    client = used(bmc, packets=6)
    assert client.seen == list(range(1, 7)), f"{client.seen}"
    client.send(client.seal(IPMI, asking()))
    packet = client.receive()
    assert packet is not None and packet.encrypted and packet.authenticated


@case(Group.SESSIONS)
def headers_come_back(bmc: Bmc) -> None:
    """Answers have the request's addresses and LUNs exchanged, its sequence number and its command."""
    client = bmc.login()
    for sequence in (0, 1, 33, 63):
        for rq_lun in range(4):
            client.send(client.seal(IPMI, message(APP, GET_DEVICE_ID, sequence=sequence, rq_lun=rq_lun)))
            answer = client.receive_answer()
            assert answer is not None, "no answer"
            got = (answer.rq_address, answer.netfn, answer.rq_lun, answer.rs_address, answer.sequence, answer.rs_lun)
            assert got == (0x81, APP | 1, rq_lun, 0x20, sequence, 0), answer.raw.hex()


# --- whose session it is ---


@case(Group.SESSIONS, needs="loopback")
def other_address(bmc: Bmc) -> None:
    """A right packet from another address is not answered there, and takes nothing over."""
    client = used(bmc)
    thief = bmc.client("127.0.0.2")
    thief.send(client.seal(IPMI, asking()))
    assert thief.receive_raw(0.3) is None, "the thief got an answer"
    client.drain(0.05)
    for _ in range(3):
        assert client.request(APP, GET_DEVICE_ID).code == 0
    assert thief.receive_raw(0.05) is None, "the thief got an answer"


@case(Group.SESSIONS)
def other_port(bmc: Bmc) -> None:
    """A replay from another port is not answered."""
    client = used(bmc)
    packet = client.seal(IPMI, asking())
    answered(client, packet, 1, DEVICE_GUID)
    thief = bmc.client()
    assert thief.silent(packet), "answered"
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def sessions_have_their_own_keys(bmc: Bmc) -> None:
    """A packet made with the keys of another session is dropped."""
    first, second = used(bmc), used(bmc)
    assert first.keys is not None and second.keys is not None
    assert first.keys.k1 != second.keys.k1
    ignored(second, first.seal(IPMI, asking(), session_id=second.keys.session_id, sequence=2))


# --- protection ---


Spoil = Callable[[RmcpClient], bytes]


def _flipped(octet: int) -> Spoil:
    def spoil(client: RmcpClient) -> bytes:
        packet = bytearray(client.seal(IPMI, asking()))
        packet[octet] ^= 0x01
        return bytes(packet)

    return spoil


def _check(size: int | None) -> Spoil:
    def spoil(client: RmcpClient) -> bytes:
        packet = client.seal(IPMI, asking())
        assert client.keys is not None
        length = client.keys.suite.check_length
        return packet[:-length] + (b"" if size is None else packet[-length:][:size])

    return spoil


def _padding(pad: bytes) -> Spoil:
    return lambda client: client.seal(IPMI, asking(), pad=pad)


RIGHT_PAD = confidentiality_pad(len(asking()))
"""01 02 .. 08 08."""
SPOILED: dict[str, Spoil] = {
    "no check value": _check(None),
    "check value cut by one": _check(-1),
    "check value of zeros": lambda client: client.seal(IPMI, asking(), check=bytes(16)),
    "check value of 12 zeros": lambda client: client.seal(IPMI, asking(), check=bytes(12)),
    "empty check value": lambda client: client.seal(IPMI, asking(), check=b""),
    "bit in the check value": _flipped(-1),
    "bit in the ciphertext": _flipped(40),
    "bit in the initialization vector": _flipped(17),
    "bit in the session id": _flipped(6),
    "bit in the sequence number": _flipped(11),
    "bit in the length": _flipped(14),
    "pad with a wrong octet": _padding(b"\x01\x02\x03\x09" + RIGHT_PAD[4:]),
    "pad of zeros": _padding(bytes(len(RIGHT_PAD) - 1) + RIGHT_PAD[-1:]),
    "pad from zero": _padding(bytes(range(len(RIGHT_PAD) - 1)) + RIGHT_PAD[-1:]),
    "pad length one less": _padding(RIGHT_PAD[:-1] + bytes((RIGHT_PAD[-1] - 1,))),
    "pad length one more": _padding(RIGHT_PAD[:-1] + bytes((RIGHT_PAD[-1] + 1,))),
    "pad length 0": _padding(RIGHT_PAD[:-1] + b"\0"),
    "pad length 16": _padding(RIGHT_PAD[:-1] + bytes(range(1, 17)) + b"\x10"),
    "pad length 255": _padding(RIGHT_PAD[:-1] + b"\xff"),
    "a whole block of pad more": _padding(bytes(range(1, len(RIGHT_PAD) + 16)) + bytes((len(RIGHT_PAD) + 15,))),
    "integrity pad of zeros": lambda client: client.seal(IPMI, asking(), trailer=bytes(2) + b"\x02\x07"),
    "integrity pad length wrong": lambda client: client.seal(IPMI, asking(), trailer=b"\xff\xff\x01\x07"),
    "integrity pad length 255": lambda client: client.seal(IPMI, asking(), trailer=b"\xff\xff\xff\x07"),
    "next header": lambda client: client.seal(IPMI, asking(), trailer=b"\xff\xff\x02\x06"),
    "no trailer": lambda client: client.seal(IPMI, asking(), trailer=b""),
    "not encrypted": lambda client: client.seal(IPMI, asking(), encrypt=False),
    "not authenticated": lambda client: client.seal(IPMI, asking(), authenticate=False),
    "neither": lambda client: client.seal(IPMI, asking(), encrypt=False, authenticate=False),
    "plain, said to be encrypted": lambda client: client.seal(IPMI, asking(), encrypt=False, flags=0xC0),
    "encrypted, said to be plain": lambda client: client.seal(IPMI, asking(), flags=AUTHENTICATED),
    "flags of neither": lambda client: client.seal(IPMI, asking(), flags=0),
    "encrypted only": lambda client: client.seal(IPMI, asking(), authenticate=False, flags=ENCRYPTED),
    "authenticated bit without a trailer": lambda client: client.seal(IPMI, asking(), authenticate=False, flags=0xC0),
    "other session id": lambda client: client.seal(IPMI, asking(), session_id=0x12345678),
    "session id 0": lambda client: client.seal(IPMI, asking(), session_id=0),
    "length one less": lambda client: client.seal(IPMI, asking(), length=31),
    "length 16 less": lambda client: client.seal(IPMI, asking(), length=16),
    "length 16 more": lambda client: client.seal(IPMI, asking(), length=48),
    "length 0": lambda client: client.seal(IPMI, asking(), length=0),
    "length 65535": lambda client: client.seal(IPMI, asking(), length=0xFFFF),
    "octets behind it": lambda client: client.seal(IPMI, asking()) + b"\0\0\0\0",
    "one octet behind it": lambda client: client.seal(IPMI, asking()) + b"\0",
    "first checksum": lambda client: client.seal(IPMI, message(APP, DEVICE_GUID, sequence=1, bad_first=True)),
    "second checksum": lambda client: client.seal(IPMI, message(APP, DEVICE_GUID, sequence=1, bad_second=True)),
    "a response": lambda client: client.seal(IPMI, message(APP | 1, DEVICE_GUID, b"\0", sequence=1)),
    "message cut": lambda client: client.seal(IPMI, asking()[:-1]),
    "empty message": lambda client: client.seal(IPMI, b""),
    "message of six octets": lambda client: client.seal(IPMI, asking()[:6]),
    "other RMCP version": lambda client: b"\x07" + client.seal(IPMI, asking())[1:],
    "other RMCP class": lambda client: b"\x06\0\xff\x08" + client.seal(IPMI, asking())[4:],
    "1.5 form": lambda client: client.lan15(
        asking(), session_id=client.keys.session_id if client.keys else 0, sequence=5
    ),
    "other format": lambda client: client.seal(IPMI, asking())[:4] + b"\x05" + client.seal(IPMI, asking())[5:],
    "OEM payload": lambda client: client.seal(0x02, asking()),
    "reserved payload": lambda client: client.seal(0x3F, asking()),
    "Open Session in the session": lambda client: client.seal(OPEN_REQUEST, client.open_request((3, 4, 1))),
    "RAKP 1 in the session": lambda client: client.seal(RAKP1, bytes(28)),
    "RAKP 3 in the session": lambda client: client.seal(RAKP3, bytes(40)),
    "SOL that is not active": lambda client: client.seal(SOL, b"\x01\0\0\0x"),
}


@case(Group.SESSIONS, each=SPOILED)
def spoiled(bmc: Bmc, spoil: Spoil) -> None:
    """A packet that is wrong in any way is dropped without a word, and the session goes on."""
    client = used(bmc)
    ignored(client, spoil(client))


@case(Group.SESSIONS, each={"3": 3, "17": 17})
def unprotected_in_suite(bmc: Bmc, suite: int) -> None:
    """In each suite, packets without protection are dropped in the session."""
    if suite not in bmc.suites:
        return
    client = used(bmc, suite)
    ignored(
        client,
        client.seal(IPMI, asking(), encrypt=False),
        client.seal(IPMI, asking(), authenticate=False),
        client.seal(IPMI, asking(), encrypt=False, authenticate=False),
        client.seal(IPMI, asking(), check=bytes(SUITES[suite].check_length)),
    )


@case(Group.SESSIONS)
def ciphertext_of_odd_sizes(bmc: Bmc) -> None:
    """Encrypted payloads that are no whole number of blocks, or only a vector, are dropped."""
    client = used(bmc)
    packets = [client.seal(IPMI, os.urandom(size), encrypt=False, flags=0xC0) for size in (0, 1, 15, 16, 17, 31, 33)]
    ignored(client, *packets)


@case(Group.SESSIONS)
def truncated_at_every_octet(bmc: Bmc) -> None:
    """A packet in a session that is cut off at any octet is dropped, and the session goes on."""
    client = used(bmc)
    whole = client.seal(IPMI, asking())
    ignored(client, *(whole[:size] for size in range(1, len(whole))))


@case(Group.SESSIONS)
def every_octet_counts(bmc: Bmc) -> None:
    """A packet with any one octet changed is dropped."""
    client = used(bmc)
    whole = client.seal(IPMI, asking(), sequence=client.out_sequence + 1)
    client.out_sequence += 1
    for octet in (0, *range(3, len(whole))):
        changed = bytearray(whole)
        changed[octet] ^= 0x10
        client.send(bytes(changed))
    ignored(client)
    answered(client, whole, 1, DEVICE_GUID)


# --- requests that are sent again ---


@case(Group.SESSIONS)
def repeat_is_answered_and_not_done_again(bmc: Bmc) -> None:
    """A request sent again (same rqSeq, new session sequence number) gets the same answer, and is not done twice."""
    client = bmc.login()
    raw = message(STORAGE, RESERVE_SDR, sequence=9)
    first = client.ask(raw)
    assert first is not None and first.code == 0, "Reserve SDR Repository"
    for _ in range(3):
        again = client.ask(raw)
        assert again is not None, "a repeat is not answered"
        assert again.raw == first.raw, "another answer: it was done again"


@case(Group.SESSIONS)
def same_sequence_with_other_data_is_new(bmc: Bmc) -> None:
    """The same rqSeq with another command or other data is a new request."""
    client = bmc.login()
    first = client.ask(message(APP, GET_DEVICE_ID, sequence=9))
    second = client.ask(message(APP, DEVICE_GUID, sequence=9))
    third = client.ask(message(APP, GET_DEVICE_ID, b"\0", sequence=9))
    assert first is not None and second is not None and third is not None, "no answer"
    assert first.code == second.code == 0
    assert len(second.data) == 16, "the first one's answer"
    assert third.code != 0xCF and third.raw != first.raw, "taken for a repeat"


@case(Group.SESSIONS)
def next_sequence_is_new(bmc: Bmc) -> None:
    """The same command with another rqSeq is done again."""
    client = bmc.login()
    reservations = set()
    for sequence in range(1, 6):
        answer = client.ask(message(STORAGE, RESERVE_SDR, sequence=sequence))
        assert answer is not None and answer.code == 0
        reservations.add(answer.data)
    assert len(reservations) == 5, "it was not done again"


@case(Group.SESSIONS)
def repeats_are_of_one_session(bmc: Bmc) -> None:
    """The same request in another session is that session's own."""
    raw = message(STORAGE, RESERVE_SDR, sequence=9)
    first, second = bmc.login().ask(raw), bmc.login().ask(raw)
    assert first is not None and second is not None, "no answer"
    assert first.data != second.data, "the other session's answer"


# --- the end of a session ---


@case(Group.SESSIONS)
def closed_session_is_silent(bmc: Bmc) -> None:
    """After Close Session nothing in the session is answered."""
    client = used(bmc)
    assert client.close_session().code == 0
    dead(client)


@case(Group.SESSIONS, needs="idle", slow=True)
def idle_session_ends(bmc: Bmc) -> None:
    """A session ends after its idle time, ± 3 s; one that is used stays, and wrong packets do not count as use."""
    idle, kept, attacked = used(bmc), used(bmc), used(bmc)
    started = time.monotonic()
    while time.monotonic() < started + bmc.idle - 4:
        time.sleep(min(5.0, max(started + bmc.idle - 4 - time.monotonic(), 0)))
        assert kept.request(APP, GET_DEVICE_ID).code == 0
        attacked.send(attacked.seal(IPMI, asking(), check=bytes(16)))
    last = used(bmc)
    assert last.request(APP, GET_DEVICE_ID).code == 0
    _still_there(bmc, kept, idle)
    while time.monotonic() < started + bmc.idle + 3.2:
        time.sleep(0.1)
    dead(idle)
    dead(attacked)
    assert kept.request(APP, GET_DEVICE_ID).code == 0, "a session in use has ended"


def _still_there(bmc: Bmc, asker: RmcpClient, session: RmcpClient) -> None:
    """The session exists, as another one sees it: asking in it would keep it alive."""
    assert session.keys is not None
    asker.set_privilege(ADMINISTRATOR)
    answer = asker.request(APP, 0x3D, b"\xff" + struct.pack("<I", session.keys.session_id))
    assert answer.code == 0 and answer.data[0] != 0, "the idle session has ended too early"


# --- garbage ---


@case(Group.SESSIONS)
def datagrams_of_all_sizes(bmc: Bmc) -> None:
    """Datagrams from 1 octet to 60 kB do no harm."""
    client = used(bmc)
    heads = (b"", b"\x06\0\xff\x06", b"\x06\0\xff\x07", b"\x06\0\xff\x07\x06\xc0", b"\x06\0\xff\x07\0\0\0\0\0\0\0\0\0")
    rest = bmc.client()
    for head in heads:
        for size in (1, 2, 3, 5, 17, 100, 1000, 1500, 4096, 9000, 20_000, 60_000):
            rest.send(head + os.urandom(size))
    assert not [reply for reply in rest.drain(0.1) if len(reply) > 200], "a large answer to garbage"
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def ten_thousand_mutations(bmc: Bmc) -> None:
    """10,000 packets with octets changed, cut off or put in do no harm: sessions and logins go on."""
    dice = random.Random(20)
    client = used(bmc)
    attacker = bmc.client()
    raw = message(APP, 0x38, b"\x8e\x04", sequence=1)
    seeds = [
        attacker.lan15(raw),
        attacker.rmcpplus(IPMI, raw),
        attacker.rmcpplus(OPEN_REQUEST, attacker.open_request(SUITES[bmc.best_suite].algorithms)),
        attacker.rmcpplus(RAKP1, attacker.rakp1_payload(5, bytes(16), 0x14, b"admin")),
        attacker.rmcpplus(RAKP3, attacker.rakp3_payload(5, bytes(20))),
        b"\x06\0\xff\x06\0\0\x11\xbe\x80\1\0\0",
        client.seal(IPMI, message(APP, 0x34, b"\x40" + message(APP, 1, rs_address=1), sequence=3), sequence=12),
    ]
    for number in range(10_000):
        packet = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            kind, place = dice.randrange(4), dice.randrange(len(packet) or 1)
            if kind == 0 and packet:
                packet[place] = dice.randrange(256)
            elif kind == 1 and packet:
                packet[place] ^= 1 << dice.randrange(8)
            elif kind == 2:
                del packet[place:]
            else:
                packet[place:place] = dice.randbytes(dice.randint(1, 20))
        attacker.send(bytes(packet))
        if number % 100 == 99:
            attacker.drain(0.001)
    assert client.request(APP, GET_DEVICE_ID).code == 0
    assert bmc.login().request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def mutations_with_right_protection(bmc: Bmc) -> None:
    """Nonsense from an authenticated client, well encrypted, does no harm."""
    dice = random.Random(21)
    client = used(bmc)
    for number in range(600):
        payload = dice.randbytes(dice.choice((0, 1, 6, 7, 8, 20, 60)))
        client.send(client.seal(dice.choice((IPMI, SOL)), payload))
        if number % 20 == 19:
            client.drain(0.001)
    client.drain(0.1)
    assert client.request(APP, GET_DEVICE_ID).code == 0


@case(Group.SESSIONS)
def any_command_is_answered(bmc: Bmc) -> None:
    """Every command number of every network function is answered: most with C1h."""
    client = bmc.login()  # as USER, so that nothing is changed
    client.timeout = 1.0
    for netfn in range(0, 0x40, 2):
        for command in (*range(0, 0x100, 17), 0x39, 0x3A):
            if (netfn, command) in {(APP, 0x3C), (APP, 0x34)}:
                continue
            client.request(netfn, command)
