"""The probes against real sockets on loopback."""

import asyncio
import errno
import logging
import os
import socket
from pathlib import Path

import pytest
from pypmi import reach
from pypmi.config.hardware import ProbeSettings
from pypmi.reach import HostProbe, echo_request, is_echo_reply


async def serve() -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def settings(port: int | None, failures: int = 1, host: str = "127.0.0.1", timeout: float = 5.0) -> ProbeSettings:
    return ProbeSettings(host=host, tcp_port=port, failures=failures, timeout=timeout, interval=7.0)


async def test_open_port_is_on() -> None:
    server, port = await serve()
    async with server:
        probe = HostProbe(settings(port))
        assert probe.interval == 7.0
        assert await probe.read_status() is True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_refusal_comes_from_a_machine_that_is_on(host: str) -> None:
    assert await HostProbe(settings(free_port(), host=host)).read_status() is True


async def test_silence_is_off_after_several_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full drops further connections: as silent as a machine that is off."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        probe = HostProbe(settings(port, failures=3, timeout=0.2))
        assert [await probe.read_status() for _ in range(4)] == [None, None, False, False]
        for filler in fillers:
            filler.close()


async def test_goes_off_late_and_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([True, OSError(errno.EHOSTUNREACH, ""), False, True, False, False, False, True])

    async def answer(host: str, port: int) -> bool:
        value = next(answers)
        if isinstance(value, OSError):
            raise value
        return bool(value)

    monkeypatch.setattr(reach, "_connects", answer)
    probe = HostProbe(settings(22, failures=3))
    seen = [await probe.read_status() for _ in range(8)]
    assert seen == [True, True, True, True, True, True, False, True]


@pytest.mark.parametrize("trouble", [OSError(errno.ENETUNREACH, "Network is unreachable"), socket.gaierror(-2, "x")])
async def test_trouble_of_this_host_is_unknown_not_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: OSError
) -> None:
    async def fail(host: str, port: int) -> bool:
        raise trouble

    probe = HostProbe(settings(22))
    monkeypatch.setattr(reach, "_connects", fail)
    with caplog.at_level(logging.WARNING):
        assert [await probe.read_status() for _ in range(3)] == [None, None, None]
    assert len(caplog.records) == 1  # said once, not at each probe


def may_ping() -> bool:
    low, high = map(int, Path("/proc/sys/net/ipv4/ping_group_range").read_text().split())
    return any(low <= group <= high for group in {os.getegid(), *os.getgroups()})


async def test_ping_as_far_as_this_host_permits(caplog: pytest.LogCaptureFixture) -> None:
    permitted = may_ping()
    with caplog.at_level(logging.WARNING):
        assert await HostProbe(settings(None)).read_status() is (True if permitted else None)
    assert permitted or "net.ipv4.ping_group_range" in caplog.text


@pytest.mark.parametrize(
    ("family", "request_type", "reply_type"), [(socket.AF_INET, 8, 0), (socket.AF_INET6, 128, 129)]
)
def test_echo_packets(family: socket.AddressFamily, request_type: int, reply_type: int) -> None:
    request = echo_request(family, b"0123456789abcdef")
    assert request == bytes([request_type, 0, 0, 0, 0, 0, 0, 1]) + b"0123456789abcdef"
    reply = bytes([reply_type, 0, 0x12, 0x34, 0, 7, 0, 1]) + b"0123456789abcdef"
    assert is_echo_reply(family, reply, b"0123456789abcdef")
    assert not is_echo_reply(family, reply, b"0123456789abcdeX")
    assert not is_echo_reply(family, request, b"0123456789abcdef")
    assert not is_echo_reply(family, b"", b"")
