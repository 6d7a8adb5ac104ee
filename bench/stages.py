"""Where the microseconds of one request go: the gateway's engine in this process, without sockets, step by step.

python bench/stages.py
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from timeit import repeat
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "services/ipmi-gateway/tests")]

from ipmi_gateway.bmc import Bmc  # noqa: E402
from ipmi_gateway.bridging import SEND_MESSAGE  # noqa: E402
from ipmi_gateway.directory import Listener  # noqa: E402
from ipmi_gateway.gateway import Gateway  # noqa: E402
from ipmi_gateway.packets import ipmb  # noqa: E402
from ipmi_gateway.sessions.suites import SUITES, SessionCrypto, SuiteId  # noqa: E402
from ipmi_gateway.sessions.users import User  # noqa: E402
from ipmi_gateway.targets.local import LocalTarget  # noqa: E402
from pypmi.contract import NodeInfo, NodeState  # noqa: E402
from rmcp_client import RmcpClient, message  # noqa: E402

PEER = ("192.0.2.1", 40_000)
TARGET = 0x30
REQUESTS = 2000


class Machine(LocalTarget):
    """One that is on; its state is an object that stays, as the cache of retained state holds it."""

    def __init__(self) -> None:
        super().__init__("machine")
        self._state = super().state

    node_id = "machine"

    @property
    def state(self) -> NodeState:
        return self._state

    @property
    def info(self) -> NodeInfo:
        return self._info


class Loop:
    """The client's way to the engine and back."""

    def __init__(self) -> None:
        self.gateway = Gateway([User("admin", b"secret")])
        self.bmc: Bmc = self.gateway.add_target(TARGET, Machine())
        self.listener = Listener("bench", self.gateway.bmc)
        self.inbox: list[bytes] = []
        self.now = 1.0

    def send(self, datagram: bytes) -> None:
        self.gateway.engine.receive(datagram, PEER, self.listener, self.now)
        self.inbox += [datagram for datagram, _, _ in self.gateway.engine.take_output()]

    def receive(self, timeout: float) -> bytes | None:
        del timeout
        return self.inbox.pop(0) if self.inbox else None

    def close(self) -> None:
        pass


def least(run: Callable[[], object], number: int) -> float:
    """Microseconds of one, at best."""
    return min(repeat(run, number=number, repeat=9)) / number * 1e6


def requests(client: RmcpClient, netfn: int, command: int, *, bridged: bool) -> list[bytes]:
    """Sealed requests, as a client that polls sends them."""
    keys = client.keys
    assert keys is not None
    crypto = SessionCrypto(SUITES[SuiteId(keys.suite.id)], keys.sik, lambda: os.urandom(16))
    sealed = []
    for number in range(REQUESTS):
        sequence = number % 64
        payload = message(netfn, command, sequence=sequence)
        if bridged:
            inner = message(netfn, command, rs_address=TARGET, sequence=sequence)
            payload = message(6, SEND_MESSAGE, b"\x40" + inner, sequence=sequence)
        client.out_sequence += 1
        sealed.append(crypto.seal(0, keys.session_id, client.out_sequence, payload))
    return sealed


def whole(loop: Loop, suite: int, *, bridged: bool) -> float:
    """Microseconds from a datagram to its answers."""
    engine, best = loop.gateway.engine, float("inf")
    client = RmcpClient(loop).login("admin", "secret", suite=suite)
    for _ in range(7):
        sealed = iter(requests(client, 0, 1, bridged=bridged))

        def one(sealed: Any = sealed) -> None:
            engine.receive(next(sealed), PEER, loop.listener, loop.now)
            engine.take_output()

        best = min(best, min(repeat(one, number=REQUESTS, repeat=1)) / REQUESTS * 1e6)
    return best


def measure() -> dict[str, float]:
    """Microseconds by name."""
    loop = Loop()
    found: dict[str, float] = {}
    for suite in (3, 17):
        found[f"status, bridged, suite {suite}: all without sockets"] = whole(loop, suite, bridged=True)
        found[f"status, direct, suite {suite}: all without sockets"] = whole(loop, suite, bridged=False)
        crypto = SessionCrypto(SUITES[SuiteId(suite)], os.urandom(20), lambda: bytes(16))
        asked = crypto.seal(0, 1, 1, bytes(22))
        length = int.from_bytes(asked[14:16], "little")
        found[f"open one packet, suite {suite}"] = least(lambda c=crypto, a=asked, n=length: c.unseal(a, n), 5000)  # type: ignore[misc]
        found[f"seal one packet, suite {suite}"] = least(lambda c=crypto: c.seal(0, 1, 1, bytes(12)), 5000)  # type: ignore[misc]
        found[f"keys of one session, suite {suite}"] = least(
            lambda s=suite: SessionCrypto(SUITES[SuiteId(s)], bytes(20), lambda: bytes(16)),
            2000,  # type: ignore[misc]
        )
        found[f"login and logout, suite {suite}: all without sockets"] = login(loop, suite)
    raw = message(6, SEND_MESSAGE, b"\x40" + message(0, 1, rs_address=TARGET, sequence=5), sequence=5)
    found["take a message apart, seen before"] = least(lambda: ipmb.unpack(raw), 20_000)
    found["take a message apart, new"] = least(lambda: ipmb.unpack.__wrapped__(raw), 20_000)
    return found


def login(loop: Loop, suite: int) -> float:
    """The gateway's part of a login and logout: what the client needs is taken off."""
    engine = loop.gateway.engine
    own = 0.0

    class Timed(Loop):
        def __init__(self) -> None:
            self.inbox: list[bytes] = []

        def send(self, datagram: bytes) -> None:
            nonlocal own
            began = perf_counter()
            engine.receive(datagram, PEER, loop.listener, loop.now)
            output = engine.take_output()
            own += perf_counter() - began
            self.inbox += [datagram for datagram, _, _ in output]

    client, best = RmcpClient(Timed()), float("inf")
    for _ in range(5):
        own = 0.0
        for _ in range(100):
            client.login("admin", "secret", suite=suite)
            client.request(6, 0x3C, client.keys.session_id.to_bytes(4, "little"))  # type: ignore[union-attr]
        best = min(best, own / 100 * 1e6)
    return best


if __name__ == "__main__":
    print(json.dumps({name: round(value, 2) for name, value in measure().items()}, indent=1))
