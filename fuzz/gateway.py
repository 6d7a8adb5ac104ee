"""A whole gateway without sockets, for octets from the network: two machines behind it, a console, and a client.

Every fault is an exception: what the engine would log as an error, answers that are too large, and work for strangers.
"""

import logging
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ipmi_gateway.codes import Privilege
from ipmi_gateway.commands.registry import CompletionError
from ipmi_gateway.directory import Listener
from ipmi_gateway.gateway import Gateway
from ipmi_gateway.sessions.session import Peer
from ipmi_gateway.sessions.users import User
from ipmi_gateway.sol.console import ConsoleLink, OnEvent
from ipmi_gateway.targets.base import Origin, TargetUnsupportedError
from pypmi.console import ConsoleData
from pypmi.contract import (
    BootDevice,
    BootIntent,
    Capability,
    FruFields,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerState,
    SensorInfo,
    SensorKind,
    Thresholds,
    utc_now,
)

sys.path.append(str(Path(__file__).parent.parent / "services/ipmi-gateway/tests"))
from rmcp_client import RmcpClient

PEER: Peer = ("192.0.2.1", 40000)
ADDRESSES = (0x30, 0x32)
PASSWORD = "fuzzing-password"
MAX_GAIN = 84
"""Octets by which all answers to a datagram from outside a session may be longer than it: RAKP 2 is the largest."""


class FaultError(AssertionError):
    """The gateway did what it must not."""


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if PASSWORD in text:
            raise FaultError(f"the log has a password: {text}")
        if record.levelno >= logging.ERROR:
            raise FaultError(text) from (record.exc_info[1] if record.exc_info else None)


def complain() -> None:
    """Make errors in the log exceptions, and keep the rest from being shown."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Complaints) for handler in root.handlers):
        logging.raiseExceptions = True
        root.handlers[:] = [_Complaints(logging.INFO)]


class Machine:
    """A target that does at once what it is asked."""

    def __init__(self, node_id: str, *capable: Capability) -> None:
        self.node_id = node_id
        self.available = True
        self.state: NodeState | None = NodeState(power=PowerState.ON, at=utc_now(), epoch="e")
        self.boot: BootIntent | None = BootIntent(epoch="e")
        self.info: NodeInfo | None = NodeInfo(
            name=node_id,
            agent="a",
            driver="memory",
            capabilities=frozenset(capable),
            sensors=(
                SensorInfo(
                    key="inlet",
                    name="Inlet",
                    kind=SensorKind.TEMPERATURE,
                    unit="°C",
                    minimum=-20,
                    maximum=100,
                    thresholds=Thresholds(upper_critical=70, lower_critical=-10),
                ),
            ),
            fru=FruFields(manufacturer="ACME", serial="1", asset_tag="x"),
            epoch="e",
        )

    def sensor(self, key: str) -> float | None:
        """A reading."""
        return 21.5 if key == "inlet" else None

    async def power(self, action: PowerAction, origin: Origin) -> None:  # noqa: ARG002 - the protocol's names
        """Follow at once."""
        if action is PowerAction.DIAG:
            raise TargetUnsupportedError("no such button")
        on = action not in {PowerAction.OFF, PowerAction.SOFT}
        self.state = NodeState(power=PowerState.ON if on else PowerState.OFF, at=utc_now(), epoch="e")

    async def set_boot(self, device: BootDevice, *, persistent: bool, efi: bool, origin: Origin) -> None:  # noqa: ARG002
        """Keep it."""
        self.boot = BootIntent(device=device, persistent=persistent, efi=efi, epoch="e")

    async def identify(self, seconds: int | None, origin: Origin) -> None:
        """No light."""


class Echo:
    """A console that says what is typed, and can be full."""

    def __init__(self) -> None:
        self._on_event: OnEvent | None = None

    def attach(self, viewer: str, on_event: OnEvent, *, scrollback: int, on_room: Callable[[], None]) -> ConsoleLink:  # noqa: ARG002
        """One viewer."""
        self._on_event = on_event
        return self

    def write(self, data: bytes) -> int:
        """Take up to 100 octets, and say them."""
        taken = data[:100]
        if self._on_event is not None and taken:
            self._on_event(ConsoleData(taken))
        return len(taken)

    def send_break(self) -> None:
        """Nothing to break."""

    def detach(self) -> None:
        """Nobody looks."""
        self._on_event = None


class Rig:
    """The gateway, and time."""

    def __init__(self) -> None:
        complain()
        users = (
            User("admin", PASSWORD.encode()),
            User("viewer", b"fuzzing-viewer", Privilege.USER, ("one",), 3),
        )
        self.gateway = Gateway(users)
        self.engine = self.gateway.engine
        for address, capable in zip(ADDRESSES, (tuple(Capability), ()), strict=True):
            name = "one" if capable else "two"
            self.gateway.add_target(address, Machine(name, *capable), console=Echo())
        self.listener = Listener("fuzz", self.gateway.bmc, public_port=623)
        self.now = 1000.0
        self._inbox: list[bytes] = []

    def deliver(self, datagram: bytes) -> list[bytes]:
        """Give the engine a datagram; returns the answers. What it has to wait for is done at once."""
        self.engine.receive(datagram, PEER, self.listener, self.now)
        answers = []
        while True:
            for work in self.engine.take_work():
                self.engine.finish(work, _run(work.awaitable), self.now)
            output = self.engine.take_output()
            if not output:
                return answers
            answers += [data for data, _, _ in output]

    def stranger(self, datagram: bytes) -> list[bytes]:
        """The same, from somebody who has no session: nothing may be done, and not much answered."""
        before = len(self.engine.manager.sessions)
        self.engine.receive(datagram, PEER, self.listener, self.now)
        if self.engine.take_work():
            raise FaultError("work for a stranger")
        answers = [data for data, _, _ in self.engine.take_output()]
        if sum(map(len, answers)) > len(datagram) + MAX_GAIN:
            raise FaultError(f"{sum(map(len, answers))} octets of answer to {len(datagram)}")
        if len(self.engine.manager.sessions) != before:
            raise FaultError("a session for a stranger")
        return answers

    def advance(self, seconds: float) -> list[bytes]:
        """Let time pass; returns what is sent meanwhile."""
        self.now += seconds
        self.engine.handle_timer(self.now)
        return [data for data, _, _ in self.engine.take_output()]

    # a client's transport

    def send(self, datagram: bytes) -> None:
        """See `rmcp_client.Transport`."""
        self._inbox += self.deliver(datagram)

    def receive(self, timeout: float) -> bytes | None:  # noqa: ARG002
        """See `rmcp_client.Transport`."""
        return self._inbox.pop(0) if self._inbox else None

    def close(self) -> None:
        """See `rmcp_client.Transport`."""

    def client(self, user: str = "admin", password: str = PASSWORD, suite: int = 17) -> RmcpClient:
        """A client with a session."""
        return RmcpClient(self).login(user, password, suite=suite, role=0x14 if user == "admin" else 0x12)


def _run(awaitable: object) -> bytes | Exception:
    try:
        awaitable.send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        result: bytes = stop.value
        return result
    except CompletionError as error:
        return error
    awaitable.close()  # type: ignore[attr-defined] # it waits for time to pass
    return CompletionError(0xC3)


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Fuzzer's input as a sequence of (what to do, octets): each begins with a kind and a length."""
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at], data[at + 1]
        yield kind, data[at + 2 : at + 2 + length]
        at += 2 + length


def unsigned(octets: bytes) -> int:
    """A little-endian number, of as many octets as there are."""
    return int.from_bytes(octets, "little")


def lan15(message: bytes) -> bytes:
    """A 1.5 packet outside any session."""
    return b"\x06\x00\xff\x07" + struct.pack("<BIIB", 0, 0, 0, len(message) & 0xFF) + message
