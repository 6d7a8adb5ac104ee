"""The console of FreeIPMI, conman and pyghmi."""

import asyncio
import os
import random
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sol_bench import PRODUCE, REPORT, BadNetwork, Bench, behind, digest, run, running, terminal

KIB = 1024
ADDRESS = f"127.62.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"
"""An address of this process's own: others, too, may test at port 623."""
RMCP_PORT = 623


def can_bind() -> bool:
    """FreeIPMI's console tools know no other port than 623."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((ADDRESS, RMCP_PORT))
    except OSError:
        return False
    return True


def blob(size: int) -> bytes:
    """All octets but ipmiconsole's and conman's escape characters and the recorder's commands."""
    wanted = bytes(set(range(256)) - set(b"&" + REPORT + PRODUCE))
    return bytes(random.Random(4).choices(wanted, k=size))


@asynccontextmanager
async def on_port_623() -> AsyncIterator[Bench]:
    """A gateway with the recorder on an address of its own, at the standard port."""
    async with running() as bench:
        bench.gateway.listen_for(bench.nodes[3], ADDRESS, RMCP_PORT)
        yield bench


needs_port = pytest.mark.skipif(not can_bind(), reason="needs leave to use UDP port 623")


@needs_port
@pytest.mark.skipif(shutil.which("ipmiconsole") is None, reason="needs freeipmi-tools")
class TestIpmiconsole:
    COMMAND = ("ipmiconsole", "-h", ADDRESS, "-u", "admin", "-p", "secret", "-I", "17")

    async def test_type_break_and_leave(self) -> None:
        async with on_port_623() as bench, terminal(list(self.COMMAND)) as term:
            await term.expect(b"[SOL established]")
            await term.type(b"uname -a\r" + REPORT)
            await term.expect(digest(b"uname -a\r"))
            await term.type(b"&B")
            await term.expect(b"SysRq")
            assert bench.recorder.breaks == 1
            await term.type(b"&.")
            assert await term.wait() == 0
            assert bench.nodes[3].controller.sol.active == []

    async def test_a_mebibyte_typed(self) -> None:
        data = blob(1024 * KIB)
        async with on_port_623() as bench, terminal(list(self.COMMAND)) as term:
            await term.expect(b"[SOL established]")
            await term.raw()
            for start in range(0, len(data), 4 * KIB):  # more at once than 8 KiB, and it gives up
                await term.type(data[start : start + 4 * KIB])
                while len(bench.recorder.typed) < min(start + 4 * KIB, len(data)) - KIB:
                    await asyncio.sleep(0.001)
            await term.type(REPORT)
            await term.expect(digest(data), timeout=90)

    async def test_a_mebibyte_said(self) -> None:
        data = blob(1024 * KIB)
        async with on_port_623() as bench, terminal(list(self.COMMAND)) as term:
            await term.expect(b"[SOL established]\r\n")
            await term.raw()
            async with asyncio.timeout(90):
                for start in range(0, len(data), 4 * KIB):  # more unread output than 16 KiB, and it gives up
                    bench.recorder.console.feed(data[start : start + 4 * KIB])
                    while len(term.shown) < min(start + 4 * KIB, len(data)) - 4 * KIB:
                        await asyncio.sleep(0.001)
            bench.recorder.console.feed(b"THE END")
            assert await term.expect(b"THE END", timeout=90) == data + b"THE END"

    async def test_both_ways_on_a_bad_network(self) -> None:
        data = blob(64 * KIB)
        with BadNetwork(0.05, 0.05, host=ADDRESS, port=RMCP_PORT) as network:
            async with running(public_port=RMCP_PORT) as bench:
                network.target = ("127.0.0.1", bench.node_port)
                async with terminal(list(self.COMMAND)) as term:
                    await term.expect(b"[SOL established]\r\n")
                    await term.raw()
                    network.bad = True
                    for start in range(0, len(data), 4 * KIB):
                        await term.type(data[start : start + 4 * KIB])
                        while len(bench.recorder.typed) < min(start + 4 * KIB, len(data)):
                            await asyncio.sleep(0.005)
                    await term.type(REPORT)
                    await term.expect(digest(data) + b"\r\n", timeout=90)
                    bench.recorder.console.feed(data[: 12 * KIB] + b"THE END")
                    assert await term.expect(b"THE END", timeout=90) == data[: 12 * KIB] + b"THE END"
                    assert network.lost

    async def test_it_is_told_when_the_console_is_taken(self) -> None:
        async with on_port_623() as bench, terminal(list(self.COMMAND)) as term:
            await term.expect(b"[SOL established]")
            assert (await run(bench.ipmitool("-t", "3", "sol", "deactivate")))[0] == 0
            await term.expect(b"SOL session stolen")
            await term.wait()

    async def test_it_steals_and_deactivates(self) -> None:
        async with on_port_623() as bench, terminal(list(self.COMMAND)) as first:
            await first.expect(b"[SOL established]")
            async with terminal(list(self.COMMAND)) as second:
                await second.expect(b"[SOL established]")
                await first.expect(b"SOL session stolen")
                assert (await run([*self.COMMAND, "--deactivate"]))[0] == 0
                await second.expect(b"SOL session stolen")
            assert bench.nodes[3].controller.sol.active == []


@needs_port
@pytest.mark.skipif(shutil.which("conmand") is None, reason="needs conman with its ipmi driver")
async def test_conman(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "conman.conf"
    config.write_text(
        f'server port={port}\nserver loopback=on\nserver pidfile="{tmp_path}/pid"\nserver logdir="{tmp_path}"\n'
        f'console name="node" dev="ipmi:{ADDRESS}" ipmiopts="U:admin,P:secret,C:17" log="node.log"\n'
    )
    async with on_port_623() as bench:
        daemon = await asyncio.create_subprocess_exec("conmand", "-F", "-c", str(config))
        try:
            async with asyncio.timeout(30):
                while not bench.nodes[3].controller.sol.active:
                    await asyncio.sleep(0.05)
            async with terminal(["conman", "-d", f"127.0.0.1:{port}", "node"]) as term:
                await term.expect(b"<ConMan> Connection to console [node] opened.")
                await term.raw()
                await term.type(b"who\r" + REPORT)
                await term.expect(digest(b"who\r"))
                await term.type(b"&B")
                await term.expect(b"SysRq")
                await term.type(b"&.")
                await term.expect(b"closed.")
        finally:
            daemon.terminate()
            await daemon.wait()
    assert b"SysRq" in (tmp_path / "node.log").read_bytes()


PYGHMI = """
import sys
from pyghmi.ipmi import console, command
port = int(sys.argv[1])
seen = bytearray()
def output(data):
    if isinstance(data, dict):
        print(data, flush=True)
        raise SystemExit(3)
    seen.extend(data)
session = console.Console(bmc="127.0.0.1", userid="admin", password="secret", port=port, iohandler=output)
def until(text):
    while text not in seen:
        session.wait_for_rsp(1)
data = bytes(range(256)).replace(b"\\x05", b"").replace(b"\\x06", b"") * 40
session.send_data(data)
session.send_data(b"\\x05")
until(sys.argv[2].encode())
session.send_break()
until(b"SysRq")
seen.clear()
session.send_data(b"\\x06")
until(b"THE END")
assert bytes(seen) == data * 5 + b"THE END", len(seen)
session.close()
print("well")
"""


@pytest.mark.parametrize("loss", [0.0, 0.05])
async def test_pyghmi(loss: float) -> None:
    data = bytes(range(256)).replace(REPORT, b"").replace(PRODUCE, b"") * 40
    async with behind(loss, data * 5 + b"THE END") as (bench, network):
        network.target = ("127.0.0.1", bench.node_port)
        network.bad = True
        argv = [sys.executable, "-c", PYGHMI, str(network.port), digest(data).decode()]
        status, text = await run(argv, timeout=90)
        assert status == 0, text
        assert "well" in text
        assert bool(network.lost) == bool(loss)
        assert bench.nodes[3].controller.sol.active == []
