"""A gateway with consoles on loopback, a bad network before it, and programs under terminals, for SOL tests."""

import asyncio
import fcntl
import hashlib
import os
import pty
import random
import signal
import socket
import struct
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Privilege
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.gateway import Gateway
from ipmi_gateway.server import open_socket
from ipmi_gateway.sessions.users import User
from ipmi_gateway.sol.console import LocalConsole
from ipmi_gateway.sol.payload import SolPolicy

HOST = "127.0.0.1"
REPORT, PRODUCE = b"\x05", b"\x06"


class Machine:
    """What stands behind a node; pyghmi's manner."""

    def get_power_state(self) -> str:
        return "on"


class Recorder:
    """A machine's serial side: keeps what is typed, tells its length and digest on ^E, says `output` on ^F."""

    def __init__(self, output: bytes = b"") -> None:
        self.typed = bytearray()
        self.breaks = 0
        self.output = output
        self.console = LocalConsole(self._take, self._break)

    def _take(self, data: bytes) -> None:
        self.typed += data
        if self.typed.endswith(REPORT):
            self.console.feed(digest(bytes(self.typed[:-1])) + b"\r\n")
            self.typed.clear()
        elif self.typed.endswith(PRODUCE):
            self.typed.clear()
            for start in range(0, len(self.output), 1000):
                self.console.feed(self.output[start : start + 1000])

    def _break(self) -> None:
        self.breaks += 1
        self.console.feed(b"SysRq\r\n")


def digest(data: bytes) -> bytes:
    """Length and checksum, as `Recorder` reports them."""
    return b"<%d %s>" % (len(data), hashlib.sha256(data).hexdigest().encode())


@asynccontextmanager
async def behind(loss: float, output: bytes = b"") -> "AsyncIterator[tuple[Bench, BadNetwork]]":
    """A gateway that is reached through a network that can be made bad."""
    with BadNetwork(loss, loss) as network:
        async with running(public_port=network.port, output=output) as bench:
            network.target = (HOST, bench.port)
            yield bench, network


def free_port() -> int:
    """A UDP port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class Bench:
    """A running gateway: node 1 echoes, node 3 records; node 3 has a port of its own too."""

    gateway: Gateway
    port: int
    node_port: int
    echo: LocalConsole
    recorder: Recorder
    nodes: dict[int, Bmc] = field(default_factory=dict)

    def ipmitool(self, *words: str, user: str = "admin", port: int | None = None) -> list[str]:
        """An ipmitool command line."""
        return [
            "ipmitool", "-I", "lanplus", "-H", HOST, "-p", str(port or self.port), "-U", user, "-P", "secret", *words,
        ]  # fmt: skip


@asynccontextmanager
async def running(
    *, public_port: int | None = None, policy: SolPolicy | None = None, output: bytes = b""
) -> AsyncIterator[Bench]:
    """A gateway on free ports."""
    users = [
        User("admin", b"secret", id=2),
        User("oper", b"secret", Privilege.OPERATOR, id=3),
        User("viewer", b"secret", Privilege.USER, id=4),
    ]
    gateway = Gateway(users, fleet=Fleet(sol=policy or SolPolicy()))
    loop = asyncio.get_running_loop()
    echo = LocalConsole(lambda data: loop.call_soon(echo.feed, bytes(data)) and None, lambda: echo.feed(b"SysRq\r\n"))
    recorder = Recorder(output)
    nodes = {
        1: gateway.add_target(1, Machine(), node_id="echo", console=echo),
        3: gateway.add_target(3, Machine(), node_id="recorder", console=recorder.console),
    }
    port = gateway.listen(HOST, 0, public_port=public_port)
    node_port = free_port()
    gateway.listen_for(nodes[3], HOST, node_port, public_port=public_port)
    task = asyncio.create_task(gateway.run())
    try:
        yield Bench(gateway, port, node_port, echo, recorder, nodes)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class BadNetwork:
    """A UDP proxy that loses and repeats a share of the packets, each way."""

    def __init__(self, loss: float, repeat: float, seed: int = 1, host: str = HOST, port: int = 0) -> None:
        self.target = (HOST, 0)
        """Where the gateway is."""
        self.rates = (loss, repeat)
        self.bad = False
        """Whether it is bad already."""
        self.lost = 0
        self._rng = random.Random(seed)
        self._front = open_socket(host, port)
        self.port: int = self._front.getsockname()[1]
        self._backs: dict[tuple[str, int], socket.socket] = {}

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._front, self._from_client)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for sock in (self._front, *self._backs.values()):
            loop.remove_reader(sock)
            sock.close()

    def _copies(self) -> int:
        loss, repeat = self.rates
        if not self.bad:
            return 1
        if self._rng.random() < loss:
            self.lost += 1
            return 0
        return 2 if self._rng.random() < repeat else 1

    def _pump(self, source: socket.socket, forward: Callable[[bytes, tuple[str, int]], None]) -> None:
        try:
            while True:
                datagram, peer = source.recvfrom(4096)
                for _ in range(self._copies()):
                    forward(datagram, peer)
        except OSError:
            return

    def _from_client(self) -> None:
        self._pump(self._front, lambda datagram, peer: self._back(peer).sendto(datagram, self.target) and None)

    def _back(self, peer: tuple[str, int]) -> socket.socket:
        back = self._backs.get(peer)
        if back is None:
            back = self._backs[peer] = open_socket(HOST, 0)
            asyncio.get_running_loop().add_reader(
                back, lambda: self._pump(back, lambda datagram, _: self._front.sendto(datagram, peer) and None)
            )
        return back


class Terminal:
    """A program under a terminal of its own."""

    def __init__(self, argv: list[str], **env: str) -> None:
        self.shown = bytearray()
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, os.environ | {"TERM": "vt100"} | env)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.set_blocking(self._master, False)
        self._more = asyncio.Event()
        self._open = True
        asyncio.get_running_loop().add_reader(self._master, self._read)
        self._exit: int | None = None

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.shown += data
        if not data:
            self._close()
        self._more.set()

    def _close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._master)

    async def expect(self, text: bytes, timeout: float = 30.0) -> bytes:
        """Wait until `text` was shown; returns everything up to and with it, and forgets that."""
        async with asyncio.timeout(timeout):
            while text not in self.shown:
                assert self._open, f"it ended; shown: {bytes(self.shown[:300])!r} ... {bytes(self.shown[-300:])!r}"
                self._more.clear()
                await self._more.wait()
        end = self.shown.index(text) + len(text)
        before = bytes(self.shown[:end])
        del self.shown[:end]
        return before

    async def raw(self) -> None:
        """Wait until the program has put the terminal into raw mode."""
        async with asyncio.timeout(30):
            while termios.tcgetattr(self._master)[3] & termios.ICANON:
                await asyncio.sleep(0.02)

    async def type(self, data: bytes) -> None:
        """Type, as fast as the program reads."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._master, view[:1024]) :]
            except BlockingIOError:
                await asyncio.sleep(0.002)

    async def wait(self, timeout: float = 30.0) -> int:
        """Wait for the program's end; returns its exit status."""
        async with asyncio.timeout(timeout):
            while self._exit is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)  # noqa: ASYNC222 - WNOHANG
                if pid:
                    self._exit = os.waitstatus_to_exitcode(status)
                else:
                    await asyncio.sleep(0.02)
        return self._exit

    async def close(self) -> None:
        """Kill it if it still runs."""
        if self._exit is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                await self.wait()
            except (ProcessLookupError, ChildProcessError):
                pass
        self._close()
        os.close(self._master)


@asynccontextmanager
async def terminal(argv: list[str], **env: str) -> AsyncIterator[Terminal]:
    """A program under a terminal; killed at the end if it still runs."""
    term = Terminal(argv, **env)
    try:
        yield term
    finally:
        await term.close()


async def run(argv: list[str], timeout: float = 30.0) -> tuple[int, str]:
    """Run a program; returns exit status and output."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(timeout):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace")
