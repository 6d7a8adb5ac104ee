"""Whatever bytes come: nothing is raised, nothing is done, nothing leaks, and sessions live on."""

import os
import random

import pytest
from engine_harness import COUNT, Harness
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rmcp_client import (
    ADMINISTRATOR,
    IPMI,
    OPEN_REQUEST,
    RAKP1,
    RAKP3,
    SOL,
    SUITES,
    RmcpClient,
    message,
)

RELAXED = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=300)
PEER = ("192.0.2.66", 666)


def no_errors(caplog: pytest.LogCaptureFixture) -> bool:
    return not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}]


@pytest.fixture(scope="module")
def shared() -> Harness:
    return Harness()


@RELAXED
@given(st.one_of(st.binary(max_size=100), st.binary(max_size=80).map(lambda tail: b"\x06\x00\xff\x07" + tail)))
def test_noise(shared: Harness, caplog: pytest.LogCaptureFixture, datagram: bytes) -> None:
    shared.deliver(datagram, PEER, shared.main)
    assert no_errors(caplog)


@RELAXED
@given(
    payload_type=st.sampled_from([IPMI, SOL, 2, OPEN_REQUEST, RAKP1, RAKP3, 0x11, 0x13, 0x15, 0x20, 0xC0, 0xFF]),
    payload=st.binary(max_size=80),
    session_id=st.sampled_from([0, 1, 0xFFFFFFFF]),
    sequence=st.sampled_from([0, 1, 0xFFFFFFFF]),
    lie=st.integers(-3, 3),
)
def test_payloads_outside_sessions(
    shared: Harness,
    caplog: pytest.LogCaptureFixture,
    payload_type: int,
    payload: bytes,
    session_id: int,
    sequence: int,
    lie: int,
) -> None:
    client = RmcpClient(shared.transport(PEER))
    length = max(len(payload) + lie, 0)
    shared.deliver(
        client.rmcpplus(payload_type, payload, session_id=session_id, sequence=sequence, length=length),
        PEER,
        shared.main,
    )
    assert no_errors(caplog)
    assert not shared.engine.manager.sessions


@RELAXED
@given(payload_type=st.integers(0, 63), payload=st.binary(max_size=120))
def test_payloads_in_a_session(caplog: pytest.LogCaptureFixture, payload_type: int, payload: bytes) -> None:
    """From somebody who has the keys."""
    harness = Harness()
    client = RmcpClient(harness.transport()).login("admin", "secret", suite=3)
    client.set_privilege(4)
    client.exchange(client.seal(payload_type, payload), 0)
    assert no_errors(caplog)
    assert client.request(6, 1).code == 0


@RELAXED
@given(
    netfn=st.integers(0, 63),
    command=st.one_of(
        st.sampled_from([0x34, 0x38, 0x3B, 0x3D, 0x41, 0x42, 0x44, 0x46, 0x47, 0x54]), st.integers(0, 255)
    ),
    data=st.binary(max_size=40),
    lun=st.integers(0, 3),
)
def test_any_request(caplog: pytest.LogCaptureFixture, netfn: int, command: int, data: bytes, lun: int) -> None:
    """Every request that is one is answered, and the answer is a right one."""
    if (netfn, command) in {(6, 0x3C), (0x2E, 0x71), (0x2E, 0x70)}:
        return
    harness = Harness()
    client = RmcpClient(harness.transport()).login("admin", "secret", suite=17)
    client.set_privilege(4)
    answer = client.ask(message(netfn, command, data, rs_lun=lun))
    assert (answer is None) is bool(netfn & 1)
    assert no_errors(caplog)
    harness.finish_work()


@RELAXED
@given(data=st.binary(max_size=40), channel=st.integers(0, 255), target=st.integers(0, 255))
def test_any_bridged_request(caplog: pytest.LogCaptureFixture, data: bytes, channel: int, target: int) -> None:
    harness = Harness()
    client = RmcpClient(harness.transport()).login("admin", "secret", suite=3)
    inner = bytes((target,)) + data
    answer = client.ask(message(6, 0x34, bytes((channel,)) + inner))
    assert answer is not None
    assert answer.command == 0x34
    assert no_errors(caplog)


def test_ten_thousand_mutations(harness: Harness, admin: RmcpClient, caplog: pytest.LogCaptureFixture) -> None:
    """Of right packets of every kind; a spoiled one in the session is never carried out."""
    seed = random.Random(7)
    session_id = admin.open(SUITES[17].algorithms)
    samples = [
        admin.lan15(message(6, 0x38, b"\x8e\x04")),
        admin.rmcpplus(IPMI, message(6, 0x54, b"\x0e\x00\x80")),
        admin.rmcpplus(OPEN_REQUEST, admin.open_request((3, 4, 1))),
        admin.rmcpplus(RAKP1, admin.rakp1_payload(session_id, os.urandom(16), ADMINISTRATOR, b"admin")),
        admin.rmcpplus(RAKP3, admin.rakp3_payload(session_id, os.urandom(32))),
        bytes.fromhex("0600ff06000011be802a0000"),
    ]
    for number in range(10_000):
        sealed = number % 2 == 0
        sample = (
            admin.seal(IPMI, message(0x2E, COUNT), sequence=admin.out_sequence + 5) if sealed else seed.choice(samples)
        )
        packet = bytearray(sample)
        for _ in range(seed.randint(1, 4)):
            position = seed.randrange(4 if sealed else 0, len(packet))
            packet[position] ^= 1 << seed.randrange(8)
        if bytes(packet) != sample:
            harness.deliver(bytes(packet), ("192.0.2.1", 40000), harness.main)
    assert harness.counter == 0
    assert no_errors(caplog)
    admin.drain(0)
    assert admin.request(6, 1).code == 0


@pytest.mark.parametrize("size", [1, 3, 4, 15, 16, 1024, 1025, 2048, 60_000])
@pytest.mark.parametrize("head", ["", "0600ff07", "0600ff0706c0", "0600ff06", "0600ff0700"])
def test_sizes(harness: Harness, admin: RmcpClient, caplog: pytest.LogCaptureFixture, head: str, size: int) -> None:
    harness.deliver(bytes.fromhex(head).ljust(size, b"\xff"), ("192.0.2.1", 40000), harness.main)
    assert no_errors(caplog)
    assert not harness.inboxes[("192.0.2.1", 40000), harness.main]
    assert admin.request(6, 1).code == 0


def test_events_that_fail_do_not_stop_anything(caplog: pytest.LogCaptureFixture) -> None:
    harness = Harness()

    def fail(event: object) -> None:
        raise ZeroDivisionError

    harness.engine._on_event = fail
    client = RmcpClient(harness.transport()).login("admin", "secret")
    assert client.request(6, 1).code == 0
    assert not no_errors(caplog)
