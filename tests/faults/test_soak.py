"""Sessions, consoles and connections that come and go: memory, threads and file descriptors stay what they are."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_lab import CONSOLE, NODES, SERVICES, Lab, make_lab
from rmcp_client import RmcpClient
from terminal import Terminal

pytestmark = pytest.mark.xdist_group("soak")

LIMITS = "session_timeout: 10, max_half_open: 64"
"""The gateway may keep sessions that fell silent, and logins just over, up to these. Small, so that they are reached in
the warm-up: after it, memory may not grow for any reason."""
WARM_UP = 0.5
"""Part of the time after which nothing may grow any more: caches and pools have filled."""
SLACK = 8 * 1024 * 1024
"""Octets: what an allocator keeps more or less of, and cycles of objects that wait for the garbage collector, which is
told to come seldom. The sessions of a minute, if they were kept, would take some 50 MiB."""


@dataclass(frozen=True)
class Size:
    """What a process takes."""

    octets: int
    descriptors: int
    threads: int


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A fleet of its own, whose gateway reaches its limits soon."""
    running = make_lab(tmp_path_factory.mktemp("soak"), os.getpid(), LIMITS)
    yield running
    running.stop()


def measure(lab: Lab, service: str) -> Size:
    pid = lab.pid(service)
    folder = Path(f"/proc/{pid}")
    pages, threads = (folder / "statm").read_text().split()[1], len(list((folder / "task").iterdir()))
    return Size(int(pages) * os.sysconf("SC_PAGE_SIZE"), len(list((folder / "fd").iterdir())), threads)


def a_round(lab: Lab, number: int) -> None:
    """Twenty sessions, one of them left without a goodbye, now and then a console and a broken connection."""
    for index in range(20):
        with RmcpClient.udp("127.0.0.1", lab.udp_port, timeout=3) as client:
            client.login("admin", "changeme", suite=17 if index % 2 else 3)
            for address in NODES.values():
                client.bridge(0, address, 0x00, 0x01)
            if index:
                client.close_session()
    if number % 5 == 0:
        terminal = Terminal(lab)
        terminal.echo()
        terminal.close()
    if number % 7 == 0:
        for link in ("gateway-broker", "agent-broker", "relay-broker"):
            lab.drop_connections(link)
        lab.wait_whole(60)


def soak(lab: Lab, seconds: float) -> None:
    began = time.monotonic()
    number = 0
    settled: dict[str, Size] = {}
    pids = {service: lab.pid(service) for service in SERVICES}
    while (passed := time.monotonic() - began) < seconds:
        a_round(lab, number)
        number += 1
        if not settled and passed > seconds * WARM_UP:
            settled = {service: measure(lab, service) for service in SERVICES}
    lab.wait_whole(60)
    lab.ipmitool("power", "status", target=NODES[CONSOLE])
    for service, before in settled.items():
        after = measure(lab, service)
        assert lab.pid(service) == pids[service], f"{service} has ended"
        assert after.octets - before.octets < SLACK, f"{service} grows: {before} {after} in {number} rounds"
        assert after.descriptors <= before.descriptors + 3, f"{service} keeps descriptors: {before} {after}"
        assert after.threads <= before.threads + 2, f"{service} keeps threads: {before} {after}"


@pytest.mark.timeout(480)
def test_two_minutes(lab: Lab) -> None:
    soak(lab, 120)


@pytest.mark.nightly
@pytest.mark.timeout(5400)
def test_an_hour(lab: Lab) -> None:
    soak(lab, 3600)
