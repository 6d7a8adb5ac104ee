"""The small parts by themselves: settings, users, directory, timers, limits, random octets, audit lines, crypto."""

import hashlib
import hmac
import logging
import os

import pytest
from engine_harness import Harness
from hypothesis import given
from hypothesis import strategies as st
from ipmi_gateway import audit
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Privilege
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.directory import Directory
from ipmi_gateway.events import CloseReason, CommandDone, LoginFailed, SessionClosed, SessionOpened
from ipmi_gateway.sessions.entropy import Entropy
from ipmi_gateway.sessions.limits import LoginDelay, SourceLimiter, source_of
from ipmi_gateway.sessions.suites import SUITES, SessionCrypto, SuiteId
from ipmi_gateway.sessions.users import User, Users
from ipmi_gateway.settings import GatewaySettings, LoginDelaySettings, SourceLimitSettings
from ipmi_gateway.timers import Timers
from rmcp_client import SUITES as CLIENT_SUITES
from rmcp_client import Keys, RmcpClient


@pytest.mark.parametrize(
    "options",
    [
        {"suites": ()},
        {"suites": (0, 3)},
        {"suites": (3, 3)},
        {"kg": b"x" * 21},
        {"channel_privilege_limit": Privilege.OEM},
        {"channel_privilege_limit": Privilege.CALLBACK},
    ],
)
def test_settings_that_could_not_work(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=": "):
        GatewaySettings(**options)  # type: ignore[arg-type]


def test_secrets_are_not_shown() -> None:
    assert "verysecret" not in repr(GatewaySettings(kg=b"verysecret"))
    assert "verysecret" not in repr(User("admin", b"verysecret"))


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "x" * 17},
        {"name": "ä" * 9},
        {"name": "a\0"},
        {"password": b"x" * 21},
        {"privilege": Privilege.OEM},
        {"privilege": Privilege.HIGHEST},
        {"id": 0},
        {"id": 64},
    ],
)
def test_users_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=": "):
        User(**({"name": "admin", "password": b"secret"} | options))  # type: ignore[arg-type]


def test_nodes_of_users() -> None:
    everyone = User("a", b"")
    some = User("b", b"", nodes=("node1", "rack2-*"))
    nobody = User("c", b"", nodes=())
    assert [everyone.may_reach(node) for node in ("node1", "x", None)] == [True, True, True]
    reach = [some.may_reach(node) for node in ("node1", "node11", "xnode1", "rack2-7", "rack20", None)]
    assert reach == [True, False, False, True, False, True]
    assert [nobody.may_reach(node) for node in ("node1", None)] == [False, True]


def test_users_are_replaced_whole_or_not_at_all() -> None:
    users = Users([User("a", b"", id=2)])
    for wrong in ([User("b", b"", id=2), User("c", b"", id=2)], [User("b", b"", id=2), User("b", b"", id=3)]):
        with pytest.raises(ValueError, match="twice"):
            users.replace(wrong)
    assert [user.name for user in users] == ["a"]
    users.replace([User("ä", b"", id=7)])
    assert users.by_name("ä".encode()) is users.by_id(7)
    assert users.by_name(b"a") is None


def test_directory() -> None:
    directory = Directory()
    fleet = Fleet()
    bmc = Bmc.create(fleet, "node1")
    directory.add(3, 0x81, bmc)
    directory.add(0, 1, bmc)
    assert directory.find(3, 0x81) is bmc
    assert directory.find(3, 0x82) is None
    assert [place[:2] for place in directory] == [(0, 1), (3, 0x81)]
    for channel, address in ((12, 1), (-1, 1), (0, 0), (0, 0x20), (0, 256), (3, 0x81)):
        with pytest.raises(ValueError, match=r"channel|address"):
            directory.add(channel, address, bmc)
    assert directory.has_channel(3)
    directory.remove(3, 0x81)
    assert not directory.has_channel(3)
    assert len(directory) == 1
    with pytest.raises(KeyError):
        directory.remove(3, 0x81)


def test_three_thousand_nodes() -> None:
    directory = Directory()
    bmc = Bmc.create(Fleet(), "node1")
    for channel in range(12):
        for address in range(1, 256):
            if address != 0x20:
                directory.add(channel, address, bmc)
    assert len(directory) == 12 * 254


def test_timers() -> None:
    timers = Timers()
    rung: list[tuple[str, float]] = []
    timers.call_at(2.0, lambda now: rung.append(("second", now)))
    first = timers.call_at(1.0, lambda now: rung.append(("first", now)))
    gone = timers.call_at(0.5, lambda now: rung.append(("gone", now)))
    gone.cancel()
    assert timers.next() == 1.0
    timers.run(0.9)
    assert rung == []
    assert first.active
    timers.run(2.5)
    assert rung == [("first", 2.5), ("second", 2.5)]
    assert not first.active
    assert timers.next() is None

    def again(now: float) -> None:
        timers.call_at(now, again)

    timers.call_at(3.0, again)
    timers.run(3.0)  # comes back, though there is always one more
    assert timers.next() == 3.0


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8:0:0::/64"),
        ("fe80::1%eth0", "fe80:0:0:0::/64"),
        ("::1", "0:0:0:0::/64"),
    ],
)
def test_sources(host: str, source: str) -> None:
    assert source_of(host) == source


def test_source_limiter() -> None:
    limiter = SourceLimiter(SourceLimitSettings(rate=10, burst=3, maximum=2))
    assert [limiter.allow("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [limiter.allow("b", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [limiter.allow("a", 0.1), limiter.allow("a", 0.1)] == [True, False]
    limiter.allow("c", 0.1)
    assert len(limiter) == 2


def test_login_delay_table_is_bounded() -> None:
    delay = LoginDelay(LoginDelaySettings(maximum=5))
    for number in range(50):
        delay.failed(f"192.0.2.{number}", "admin", 0.0)
    assert len(delay) == 5


def test_login_delay_is_forgotten() -> None:
    settings = LoginDelaySettings(free=0, step=1.0, forget_after=100.0)
    delay = LoginDelay(settings)
    delay.failed("a", "admin", 0.0)
    assert delay.reserve("a", "admin", 0.5) == 1.0
    assert delay.reserve("a", "admin", 102.0) == 102.0
    assert delay.failed("a", "admin", 103.0) == 1


def test_entropy() -> None:
    calls = []

    def source(count: int) -> bytes:
        calls.append(count)
        return os.urandom(count)

    entropy = Entropy(source)
    blocks = {entropy.block() for _ in range(1000)}
    assert len(blocks) == 1000
    assert {len(block) for block in blocks} == {16}
    assert len(calls) < 10
    assert all(entropy.identifier() for _ in range(100))
    zeros = iter([bytes(16), b"\x01".ljust(4096, b"\0")])
    assert Entropy(lambda _: next(zeros)).identifier() == 1


@pytest.mark.parametrize("suite", [3, 17])
@given(payload=st.binary(max_size=300))
def test_crypto_against_the_plain_way(suite: int, payload: bytes) -> None:
    """Running contexts give the same as a new HMAC and a new cipher for each message."""
    sik = hashlib.sha256(b"some key").digest()[:20]
    ours = SessionCrypto(SUITES[SuiteId(suite)], sik, Entropy().block)
    client = RmcpClient(None)  # type: ignore[arg-type]
    client.keys = Keys(CLIENT_SUITES[suite], 0x11223344, 0x55667788, sik)
    for sequence in (1, 2, 3):
        packet = client.unseal(ours.seal(0, 0x55667788, sequence, payload))
        assert (packet.payload, packet.sequence, packet.encrypted, packet.authenticated) == (
            payload,
            sequence,
            True,
            True,
        )
        sealed = client.seal(0, payload)
        assert ours.unseal(sealed, int.from_bytes(sealed[14:16], "little")) == payload


def test_key_constants() -> None:
    keys = Keys(CLIENT_SUITES[3], 1, 2, b"k" * 20)
    assert keys.k1 == hmac.new(b"k" * 20, b"\x01" * 20, hashlib.sha1).digest()


def test_audit_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ipmi_gateway.audit")
    who = {"user": "admin", "peer": "192.0.2.1:5", "listener": "main", "node": "node1"}
    audit.write(SessionOpened(**who, session=0xABC, privilege=4, suite=17))
    audit.write(SessionClosed(**who, session=0xABC, reason=CloseReason.TIMEOUT, duration=61.2))
    audit.write(LoginFailed(**(who | {"user": 'x" event=forged\n'}), status=0x0F, failures=3))
    audit.write(CommandDone(**who, session=0xABC, netfn=0, command=2, data=b"\x01", code=0))
    audit.write(CommandDone(**(who | {"node": None}), session=0xABC, netfn=0, command=2, data=b"", code=0xD4))
    common = "peer=192.0.2.1:5 listener=main node=node1"
    assert [record.message for record in caplog.records] == [
        f"event=session-opened user=admin {common} session=00000abc privilege=administrator suite=17",
        f'event=session-closed user=admin {common} session=00000abc reason="inactivity timeout" seconds=61',
        f'event=login-failed user="x\\" event=forged\\n" {common} status=0fh failures=3',
        f"event=command user=admin {common} session=00000abc command=00h/02h data=01 code=00h",
        f"event=command user=admin {common.replace('node1', '-')} session=00000abc command=00h/02h data=- code=d4h",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING", "INFO", "WARNING"]
    assert caplog.records[3].audit["node"] == "node1"  # type: ignore[attr-defined]


def test_shut_down(harness: Harness, admin: RmcpClient) -> None:
    harness.engine.shut_down(harness.now)
    assert not harness.engine.manager.sessions
    last = harness.events[-1]
    assert isinstance(last, SessionClosed)
    assert last.reason is CloseReason.SHUTDOWN
