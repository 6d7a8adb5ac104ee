"""The BMC under test: how it is reached, what it declares, and the sessions that cases open with it."""

import atexit
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rmcp_client import (
    ADMINISTRATOR,
    BMC,
    IPMI,
    NAME_ONLY,
    Answer,
    NoAnswerError,
    RmcpClient,
    UdpTransport,
    message,
)

from .codes import APP, SEND_MESSAGE

CAPABILITIES = {
    "suite3": "cipher suite 3",
    "suite17": "cipher suite 17",
    "operator": "an operator's account",
    "viewer": "a user-level account",
    "limited": "an operator's account that may not reach the target (--limited)",
    "long": "an account with a password of 20 octets",
    "kg": "a BMC key is set",
    "nokg": "no BMC key is set",
    "bridging": "targets behind the BMC",
    "direct": "the BMC itself is under test, not a target",
    "dual": "dual bridging",
    "other": "a second target on the same channel",
    "far": "a target on another channel",
    "odd": "a target with an odd address",
    "power": "a machine that may be switched at will",
    "presses": "a simulated machine that counts presses of its button",
    "identify": "an identify light",
    "diag": "a diagnostic interrupt",
    "sensors": "at least one analog sensor",
    "watts": "DCMI power reading",
    "sel": "an event log that may be cleared",
    "sol": "a console",
    "loopback": "it is on this machine, so that clients with two addresses can be had",
    "idle": "sessions end after `idle` seconds",
    "port623": "also served on the standard port of `port623`: rmcpping and ipmiping can't be told another",
    "freeipmi": "on a port that FreeIPMI's tools can reach without bridging",
}
"""What a BMC may declare."""


@dataclass(frozen=True)
class Account:
    """A user of the BMC."""

    name: str
    password: str
    privilege: int = ADMINISTRATOR


@dataclass
class ToolResult:
    """What a command-line tool said."""

    code: int
    output: str
    seconds: float


WITH_SDR_CACHE = frozenset({"ipmi-sensors", "ipmi-sel", "ipmi-fru", "ipmi-config"})
"""FreeIPMI's tools that keep what they read of the sensors."""


def _scratch() -> str:
    folder = tempfile.TemporaryDirectory(prefix="conformance-")
    atexit.register(folder.cleanup)
    return folder.name


@dataclass
class Bmc:
    """One BMC, or one target behind it."""

    host: str
    port: int
    admin: Account
    operator: Account | None = None
    viewer: Account | None = None
    limited: Account | None = None
    long: Account | None = None
    suites: tuple[int, ...] = (17, 3)
    """Served, in the order of preference."""
    lists_suites: bool = True
    """Whether ipmitool gets the list of suites that it asks for; if not, it is told one, lest it wait 10 s each."""
    kg: bytes = b""
    target: int | None = None
    channel: int = 0
    other: tuple[int, int] | None = None
    """Another target: (channel, address)."""
    far: tuple[int, int] | None = None
    """A target on another channel than `channel`."""
    odd: tuple[int, int] | None = None
    """A target with an odd address: (channel, address)."""
    absent: tuple[int, int] = (0, 0x7E)
    """Where no target is."""
    port623: str = ""
    """An address at which it is also served on port 623."""
    idle: float = 60.0
    """Seconds after which a silent session ends."""
    capabilities: frozenset[str] = frozenset()
    presses: Callable[[], int] | None = None
    """How often the button of the simulated machine was pressed so far."""
    timeout: float = 2.0
    """Seconds to wait for one answer."""
    patience: float = 30.0
    """Seconds that the machine has to follow a power command."""
    open: list[RmcpClient] = field(default_factory=list)
    folder: str = field(default_factory=_scratch)
    """For what tools keep: FreeIPMI's know a BMC by host and port, and an earlier run's port may come again."""

    @property
    def best_suite(self) -> int:
        """The suite to use where it does not matter."""
        return self.suites[0]

    def client(self, source: str | None = None, timeout: float | None = None) -> RmcpClient:
        """A client without a session, on a socket of its own."""
        client = RmcpClient(UdpTransport(self.host, self.port, source), timeout=timeout or self.timeout)
        self.open.append(client)
        return client

    def login(
        self,
        account: Account | None = None,
        *,
        suite: int | None = None,
        role: int | None = None,
        client: RmcpClient | None = None,
        console_id: int = 0xA0A2A3A4,
    ) -> RmcpClient:
        """A client with a session, still at the level in which sessions begin."""
        who = account or self.admin
        asked = (who.privilege if role is None else role) | NAME_ONLY
        made = client or self.client()
        return made.login(
            who.name, who.password, suite=suite or self.best_suite, role=asked, kg=self.kg, console_id=console_id
        )

    def console(self, account: Account | None = None, *, level: int | None = None) -> "Console":
        """A session raised to the account's privilege (or `level`), that talks to the target."""
        who = account or self.admin
        client = self.login(who)
        wanted = who.privilege if level is None else level
        if wanted > 2:
            answer = client.set_privilege(wanted)
            assert answer.code == 0, f"Set Session Privilege Level: {answer.code:02x}h"
        return Console(self, client)

    def release(self) -> None:
        """Close what a case has left open."""
        for client in self.open:
            try:
                if client.keys is not None:
                    client.send(client.seal(IPMI, message(APP, 0x3C, client.keys.session_id.to_bytes(4, "little"))))
            except OSError:
                pass
            client.close()
        self.open.clear()

    def alive(self) -> bool:
        """Whether it still answers at all."""
        client = self.client(timeout=1.0)
        try:
            client.ask15(APP, 0x38, b"\x8e\x04")
        except Exception:  # noqa: BLE001 - whatever is wrong with the answer, it is none
            return False
        return True

    def run(self, *command: str, timeout: float = 60) -> ToolResult:
        """Run a program."""
        started = time.monotonic()
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode(errors="replace")
            return ToolResult(-1, output + "\n(no end)", time.monotonic() - started)
        output = done.stdout.decode(errors="replace")
        return ToolResult(done.returncode, output, time.monotonic() - started)

    def ipmitool(
        self,
        *words: str,
        account: Account | None = None,
        options: tuple[str, ...] = (),
        bridged: bool = True,
        password: str | None = None,
        timeout: float = 60,
    ) -> ToolResult:
        """Run ipmitool, bridged to the target if there is one."""
        who = account or self.admin
        command = ["ipmitool", "-I", "lanplus", "-H", self.host, "-p", str(self.port)]
        command += ["-U", who.name, "-P", who.password if password is None else password]
        if self.kg:
            command += ["-y", self.kg.hex()]
        if not self.lists_suites and "-C" not in options:
            command += ["-C", str(self.best_suite)]
        command += options
        if bridged and self.target is not None:
            command += ["-b", str(self.channel), "-t", hex(self.target)]
        return self.run(*command, *words, timeout=timeout)

    def freeipmi(self, tool: str, *words: str, account: Account | None = None, timeout: float = 60) -> ToolResult:
        """Run one of FreeIPMI's tools."""
        who = account or self.admin
        login = ["-h", f"{self.host}:{self.port}", "-u", who.name, "-p", who.password, "-D", "LAN_2_0"]
        if self.kg:
            login += ["-k", "0x" + self.kg.hex()]
        if tool in WITH_SDR_CACHE:
            login.append(f"--sdr-cache-directory={self.folder}")
        return self.run(tool, *login, *words, timeout=timeout)


class Console:
    """Requests to the target in one session, bridged or not."""

    def __init__(self, bmc: Bmc, client: RmcpClient) -> None:
        self.bmc = bmc
        self.client = client

    def ask(self, netfn: int, command: int, *data: int, lun: int = 0, timeout: float | None = None) -> Answer:
        """One request; where it is bridged, the answer of the target, or the refusal to bridge."""
        payload = bytes(data)
        target = self.bmc.target
        if target is None:
            if timeout is None:
                return self.client.request(netfn, command, payload, rs_lun=lun)
            before, self.client.timeout = self.client.timeout, timeout
            try:
                return self.client.request(netfn, command, payload, rs_lun=lun)
            finally:
                self.client.timeout = before
        return bridged(self.client, self.bmc.channel, target, netfn, command, payload, lun=lun)[-1]

    def code(self, netfn: int, command: int, *data: int, lun: int = 0) -> int:
        """The completion code."""
        return self.ask(netfn, command, *data, lun=lun).code

    def ok(self, netfn: int, command: int, *data: int, lun: int = 0) -> bytes:
        """The data of a request that must be done."""
        answer = self.ask(netfn, command, *data, lun=lun)
        assert answer.code == 0, f"{netfn:02x}h/{command:02x}h {bytes(data).hex()}: completion code {answer.code:02x}h"
        return answer.data

    def expect(self, code: int | set[int], netfn: int, command: int, *data: int, lun: int = 0) -> None:
        """A request that must be answered with this code, or one of these."""
        codes = {code} if isinstance(code, int) else code
        got = self.code(netfn, command, *data, lun=lun)
        names = " or ".join(f"{wanted:02x}h" for wanted in sorted(codes))
        assert got in codes, f"{netfn:02x}h/{command:02x}h {bytes(data).hex()}: {got:02x}h, expected {names}"


def bridge_message(
    channel: int,
    target: int,
    netfn: int,
    command: int,
    data: bytes = b"",
    *,
    sequence: int,
    rq_address: int = 0x81,
    lun: int = 0,
    rq_lun: int = 0,
    inner_sequence: int | None = None,
    track: int = 0x40,
    outer_lun: int = 0,
) -> bytes:
    """A Send Message request around a request."""
    inner = message(
        netfn,
        command,
        data,
        rs_address=target,
        rs_lun=lun,
        rq_address=rq_address,
        rq_lun=rq_lun,
        sequence=sequence if inner_sequence is None else inner_sequence,
    )
    return message(APP, SEND_MESSAGE, bytes((track | channel,)) + inner, sequence=sequence, rs_lun=outer_lun)


def bridged(
    client: RmcpClient, channel: int, target: int, netfn: int, command: int, data: bytes = b"", *, lun: int = 0
) -> list[Answer]:
    """A bridged request and its answers: A, and B if A did not refuse. Raises NoAnswerError."""
    sequence = client._next_rq()
    raw = bridge_message(channel, target, netfn, command, data, sequence=sequence, lun=lun)
    for _ in range(client.retries):
        client.send(client.seal(IPMI, raw))
        first = _matching(client, sequence, SEND_MESSAGE)
        if first is None:
            continue
        assert (first.netfn, first.rq_address, first.rs_address) == (APP | 1, 0x81, BMC), f"A: {first.raw.hex()}"
        if first.code:
            return [first]
        if first.data:
            # The embedded form: the whole inner response is the data of A.
            from rmcp_client import parse_answer

            return [first, parse_answer(first.data)]
        second = _matching(client, sequence, command)
        if second is None:
            continue
        assert (second.netfn, second.rs_address) == (netfn | 1, target), f"B: {second.raw.hex()}"
        return [first, second]
    raise NoAnswerError


def _matching(client: RmcpClient, sequence: int, command: int) -> Answer | None:
    """The next answer with this sequence and command; others are remnants of earlier requests."""
    deadline = time.monotonic() + client.timeout
    while (left := deadline - time.monotonic()) > 0:
        answer = client.receive_answer(left)
        if answer is None:
            return None
        if (answer.sequence, answer.command) == (sequence, command):
            return answer
    return None
