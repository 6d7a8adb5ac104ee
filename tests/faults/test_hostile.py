"""Clients that mean harm, against real processes: meanwhile a login and a power command work, and nothing grows."""

import asyncio
import os
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_lab import CONSOLE, NODES, POWER, SERVICES, Lab
from pypmi.bus import Bus, BusError
from pypmi.config.mqtt import MqttSettings
from rmcp_client import ADMINISTRATOR, IPMI, OPEN_REQUEST, RAKP3, SOL, RmcpClient, message
from stack import until
from terminal import Terminal

pytestmark = pytest.mark.xdist_group("hostile")

IN_TIME = 2.0
"""Seconds for a login and a command of somebody who may."""
TRIES = 5
"""On a busy machine one of them must be in time; all must work."""
GROWTH = 64 * 1024 * 1024
"""Octets by which a process may be larger after an attack: what its limits allow to be kept."""


def memory(pid: int | None) -> int:
    """Resident octets of a process."""
    assert pid is not None
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def log_size(lab: Lab) -> int:
    return sum((lab.folder / f"{service}.log").stat().st_size for service in SERVICES)


@contextmanager
def watched(lab: Lab) -> Iterator[None]:
    """No process ends, grows much, or fills the disk with log lines; none says that it made a mistake."""
    pids = {service: lab.pid(service) for service in SERVICES}
    sizes = {service: memory(pid) for service, pid in pids.items()}
    logged = log_size(lab)
    yield
    lab.wait_whole(60)
    for service, pid in pids.items():
        assert lab.pid(service) == pid, f"{service} has ended"
        assert memory(pid) - sizes[service] < GROWTH, f"{service} has grown by {memory(pid) - sizes[service]} octets"
        text = (lab.folder / f"{service}.log").read_text(errors="replace")
        assert "Traceback" not in text, text[text.index("Traceback") :][:2000]
        assert "changeme" not in text
    assert log_size(lab) - logged < 1_000_000, "the log grows with the attack"


@contextmanager
def meanwhile(attack: Callable[[threading.Event], None]) -> Iterator[None]:
    """Attack in a thread of its own until the block ends."""
    over = threading.Event()
    failed: list[Exception] = []

    def work() -> None:
        try:
            while not over.is_set():
                attack(over)
        except Exception as error:  # noqa: BLE001 - raised where the test ends
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    try:
        yield
    finally:
        over.set()
        thread.join(60)
    assert not failed, failed


def still_served(lab: Lab) -> None:
    """A login, a status and a power command, from another source than the attacker's."""
    word = "on" if lab.is_on(POWER) else "off"
    times = []
    for _ in range(TRIES):
        done = lab.ipmitool("power", word)
        assert done.code == 0, done.text
        times.append(done.seconds)
        if done.seconds < IN_TIME:
            return
    raise AssertionError(f"it took {times} s each time")


def client(lab: Lab) -> RmcpClient:
    return RmcpClient.udp("127.0.0.1", lab.udp_port, source="127.0.0.66", timeout=0.5)


def half_open(lab: Lab) -> Callable[[threading.Event], None]:
    """5,000 logins that stop half way, some after RAKP 2."""

    def attack(over: threading.Event) -> None:
        with client(lab) as mallory:
            for number in range(5000):
                mallory.send(mallory.rmcpplus(OPEN_REQUEST, mallory.open_request((3, 4, 1))))
                if number % 50 == 0:
                    mallory.drain(0)
                if over.is_set():
                    return

    return attack


def bad_logins(lab: Lab) -> Callable[[threading.Event], None]:
    """Wrong passwords of the administrator, one after the other."""

    def attack(over: threading.Event) -> None:
        with client(lab) as mallory:
            for _ in range(500):
                mallory.bad_login("admin")
                if over.is_set():
                    return

    return attack


def guesses(lab: Lab) -> Callable[[threading.Event], None]:
    """Session ids and proofs out of thin air, packets of a session again and spoiled, and noise of all sizes."""
    rng = random.Random(6)

    def attack(over: threading.Event) -> None:
        with client(lab) as mallory:
            mallory.login("admin", "changeme")
            captured = mallory.seal(IPMI, message(0x00, 0x01))
            mallory.send(captured)
            for _ in range(2000):
                if over.is_set():
                    return
                mallory.send(captured)
                spoiled = bytearray(captured)
                spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
                mallory.send(bytes(spoiled))
                guessed = struct.pack("<I", rng.randrange(1 << 32))
                mallory.send(captured[:6] + guessed + captured[10:])
                mallory.send(mallory.rmcpplus(RAKP3, b"\0\0\0\0" + guessed + rng.randbytes(32)))
                mallory.send(b"\x06\x00\xff\x07" + rng.randbytes(rng.choice((0, 1, 7, 12, 60, 1000, 1025, 9000))))
                mallory.drain(0)

    return attack


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", [half_open, bad_logins, guesses])
def test_strangers_on_the_network(lab: Lab, kind: Callable[[Lab], Callable[[threading.Event], None]]) -> None:
    presses = len(lab.presses())
    with watched(lab), meanwhile(kind(lab)):
        for _ in range(3):
            still_served(lab)
    assert len(lab.presses()) == presses


WRONG = (
    b"",
    b"\xff\xfe\x00",
    b"{",
    b"[" * 20_000,
    b'{"power": 1e999, "at": "yesterday"}',
    b'{"id": "x", "action": "on", "ttl_ms": -1}',
    b'{"id": "' + b"x" * 70 + b'", "action": "on"}',
    b'{"id": "x", "action": "explode"}',
    b"null",
    b"true",
    b"x" * 1_000_000,
    b'{"name": "' + b"y" * 900_000 + b'"}',
)
"""Payloads of somebody who has an account and does not keep to the contract."""
PLACES = (
    "nodes/power/power/set",
    "nodes/power/boot/set",
    "nodes/power/identify/set",
    "nodes/console/sol/set",
    "nodes/power/power/result",
    "nodes/power/events",
    "nodes/console/sol/rx/extra",
    "services/ipmi-gateway/reply",
    "services/esp8266-agent/reply",
    "services/nobody/info",
    "nodes/power/state/extra",
    "nodes/UPPER/state",
    "nodes/-/power/set",
    "nodes//state",
    "nodes/a b/state",
    "nodes/" + "z" * 500 + "/state",
)
"""Where it goes: commands, what others say, and ids that are none. Retained state of real nodes is the agents' own."""


async def _flood(url: str, over: threading.Event, *, retain: bool) -> None:
    bus = Bus(MqttSettings(url=url), "mallory")
    task = asyncio.create_task(bus.run())
    await bus.wait_connected()
    try:
        number = 0
        while not over.is_set():
            for place in PLACES:
                for payload in WRONG:
                    try:
                        await bus.publish(place, payload, retain=retain and place.endswith("/set"))
                    except BusError:
                        await asyncio.sleep(0.1)
                        await bus.wait_connected()
            for _ in range(1000):  # nodes and services that nobody knows
                number += 1
                bus.publish_nowait(f"nodes/unknown-{number}/state", b'{"power": "on"}', qos=0)
                bus.publish_nowait(f"services/unknown-{number}/info", b"{}", qos=0)
            await asyncio.sleep(0)
    finally:
        for place in PLACES:
            if retain and place.endswith("/set"):
                await bus.publish(place, b"", retain=True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("retain", [False, True], ids=["live", "retained"])
def test_somebody_with_an_account_on_the_broker(lab: Lab, retain: bool) -> None:
    presses = len(lab.presses())
    url = f"mqtt://127.0.0.1:{lab.broker_port}"
    with watched(lab), meanwhile(lambda over: asyncio.run(_flood(url, over, retain=retain))):
        for _ in range(3):
            still_served(lab)
            time.sleep(1)
    assert len(lab.presses()) == presses, "a wrong or retained command has pressed a button"


@pytest.mark.timeout(180)
def test_console_whose_reader_says_nothing(lab: Lab) -> None:
    """Megabytes for somebody who has an account, opened the console and acknowledges none of it."""
    activate = b"\x01\x01\xc0\x00\x00\x00"  # payload type SOL, instance 1, encrypted and authenticated
    with watched(lab), client(lab) as mallory:
        mallory.login("admin", "changeme")
        mallory.set_privilege(ADMINISTRATOR)
        assert mallory.bridge(0, NODES[CONSOLE], 0x06, 0x48, activate)[-1].code == 0
        mallory.send(mallory.seal(SOL, b"\x01\x00\x00\x00" + b"\rhead -c 5000000 /dev/zero | tr '\\0' x\r"))
        until(lambda: mallory.drain(0.2), 20, "the console's output")
        for _ in range(3):
            still_served(lab)
        terminal = Terminal(lab)  # takes the console over, from in the midst of it
        terminal.echo()
        terminal.close()
