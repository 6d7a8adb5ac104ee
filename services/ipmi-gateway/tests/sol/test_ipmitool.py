"""ipmitool's console, on a terminal, as people use it."""

import asyncio
import random
import shutil
import socket
from pathlib import Path

import pytest
from ipmi_gateway.sol.payload import Conflict, SolPolicy
from sol_bench import HOST, PRODUCE, REPORT, behind, digest, run, running, terminal

pytestmark = pytest.mark.skipif(shutil.which("ipmitool") is None, reason="needs ipmitool")

OPERATIONAL = b"[SOL Session operational.  Use ~? for help]"
KIB = 1024
# Where packets are repeated, "nokeepalive": ipmitool leaves when the answer to its Get Device ID comes twice.


def blob(size: int) -> bytes:
    """All octets but ipmitool's escape character and the recorder's commands."""
    wanted = bytes(set(range(256)) - set(b"~" + REPORT + PRODUCE))
    return bytes(random.Random(3).choices(wanted, k=size))


@pytest.mark.parametrize("where", ["bridged", "direct"])
async def test_type_break_and_leave(where: str) -> None:
    async with running() as bench:
        argv = (
            bench.ipmitool("-t", "3", "sol", "activate")
            if where == "bridged"
            else bench.ipmitool("sol", "activate", port=bench.node_port)
        )
        async with terminal(argv) as term:
            await term.expect(OPERATIONAL)
            await term.raw()
            await term.type(b"uname -a\r")
            await term.type(REPORT)
            await term.expect(digest(b"uname -a\r"))
            await term.type(b"\r~B")
            await term.expect(b"SysRq")
            assert bench.recorder.breaks == 1
            await term.type(b"\r~.")
            assert await term.wait() == 0
        assert bench.nodes[3].controller.sol.active == []


@pytest.mark.parametrize(("size", "loss"), [(1024 * KIB, 0.0), (24 * KIB, 0.05)])
async def test_paste_arrives_whole(size: int, loss: float) -> None:
    await paste(size, loss)


@pytest.mark.parametrize(("size", "loss"), [(1024 * KIB, 0.0), (256 * KIB, 0.05)])
async def test_output_arrives_whole(size: int, loss: float) -> None:
    await produce(size, loss)


@pytest.mark.nightly
@pytest.mark.timeout(900)
async def test_a_mebibyte_each_way_on_a_bad_network() -> None:
    await paste(1024 * KIB, 0.05)
    await produce(1024 * KIB, 0.05)


async def paste(size: int, loss: float) -> None:
    """Type `size` octets; the machine tells what it got."""
    data = blob(size)
    async with (
        behind(loss) as (bench, network),
        terminal(bench.ipmitool("-t", "3", "sol", "activate", "nokeepalive", port=network.port)) as term,
    ):
        await term.expect(OPERATIONAL)
        await term.raw()
        network.bad = True
        await term.type(data)
        await term.type(REPORT)
        await term.expect(digest(data), timeout=600)
        assert (network.lost > 0) == (loss > 0)


async def produce(size: int, loss: float) -> None:
    """Have the machine say `size` octets."""
    data = blob(size)
    async with (
        behind(loss, data + b"THE END") as (bench, network),
        terminal(bench.ipmitool("-t", "3", "sol", "activate", "nokeepalive", port=network.port)) as term,
    ):
        await term.expect(OPERATIONAL + b"\r\n")
        await term.raw()
        network.bad = True
        await term.type(PRODUCE)
        assert await term.expect(b"THE END", timeout=600) == data + b"THE END"
        assert (network.lost > 0) == (loss > 0)


async def test_scrollback_is_shown_first() -> None:
    async with running() as bench:
        bench.recorder.console.feed(b"x" * 10_000 + b"panic: out of coffee\r\n")
        async with terminal(bench.ipmitool("-t", "3", "sol", "activate")) as term:
            await term.expect(b"[pypmi: what the console said before]")
            before = await term.expect(b"panic: out of coffee")
            assert 4000 < len(before) < 4200
            await term.expect(b"[pypmi: live output]")


async def test_new_session_takes_over_and_tells_the_old_one() -> None:
    async with running() as bench, terminal(bench.ipmitool("-t", "1", "sol", "activate")) as first:
        await first.expect(OPERATIONAL)
        async with terminal(bench.ipmitool("-t", "1", "sol", "activate")) as second:
            await second.expect(OPERATIONAL)
            await first.expect(b"[pypmi: console taken over by admin from 127.0.0.1]")
            await second.raw()
            await second.type(b"mine")
            await second.expect(b"mine")
        assert b"mine" not in first.shown


async def test_deactivate_frees_the_console_of_a_killed_client() -> None:
    async with running(policy=SolPolicy(conflict=Conflict.REFUSE)) as bench:
        async with terminal(bench.ipmitool("-t", "1", "sol", "activate")) as first:
            await first.expect(OPERATIONAL)
        status, text = await run(bench.ipmitool("-t", "1", "sol", "activate"))
        assert status == 1
        assert "SOL payload already active on another session" in text
        assert (await run(bench.ipmitool("-t", "1", "sol", "deactivate")))[0] == 0
        status, text = await run(bench.ipmitool("-t", "1", "sol", "deactivate"))
        assert status == 1
        assert "already de-activated" in text
        async with terminal(bench.ipmitool("-t", "1", "sol", "activate")) as second:
            await second.expect(OPERATIONAL)


async def test_shared_console_is_seen_and_typed_into_by_all() -> None:
    async with running(policy=SolPolicy(conflict=Conflict.SHARE)) as bench:
        command = bench.ipmitool("-t", "1", "sol", "activate")
        async with terminal(command) as first, terminal(command) as second:
            for term in (first, second):
                await term.expect(OPERATIONAL)
                await term.raw()
            for typist in (first, second):
                await typist.type(b"hello")
                for term in (first, second):
                    await term.expect(b"hello")


async def test_read_only_user_looks_but_does_not_touch() -> None:
    async with running() as bench:
        words = ("-L", "USER", "-t", "1", "sol")
        status, text = await run(bench.ipmitool(*words, "info", user="viewer"))
        assert status == 0
        assert "Enabled                         : true" in text
        async with terminal(bench.ipmitool("-t", "1", "sol", "activate")) as holder:
            await holder.expect(OPERATIONAL)
            for word in ("activate", "deactivate"):
                status, text = await run(bench.ipmitool(*words, word, user="viewer"))
                assert status == 1
                assert "Insufficient privilege level" in text
            await holder.raw()
            await holder.type(b"still mine")
            await holder.expect(b"still mine")


async def test_sol_parameters_are_set_and_read_back() -> None:
    async with running() as bench:
        for parameter, value, line in (
            ("character-accumulate-level", "10", "Character Accumulate Level (ms) : 50"),
            ("character-send-threshold", "96", "Character Send Threshold        : 96"),
            ("retry-count", "3", "Retry Count                     : 3"),
            ("retry-interval", "20", "Retry Interval (ms)             : 200"),
            ("non-volatile-bit-rate", "57.6", "Non-Volatile Bit Rate (kbps)    : 57.6"),
            ("volatile-bit-rate", "19.2", "Volatile Bit Rate (kbps)        : 19.2"),
            ("privilege-level", "admin", "Privilege Level                 : ADMINISTRATOR"),
            ("enabled", "false", "Enabled                         : false"),
        ):
            status, text = await run(bench.ipmitool("-t", "1", "sol", "set", parameter, value))
            assert status == 0, text
            assert line in (await run(bench.ipmitool("-t", "1", "sol", "info")))[1]
        status, text = await run(bench.ipmitool("-t", "1", "sol", "activate"))
        assert "SOL payload disabled" in text
        assert "Enabled                         : true" in (await run(bench.ipmitool("-t", "3", "sol", "info")))[1]
        assert (await run(bench.ipmitool("-t", "1", "sol", "set", "force-encryption", "false")))[0] == 1


async def test_ironics_console_commands(tmp_path: Path) -> None:
    """As `ipmitool-socat` does it: deactivate (which may fail), then a socat that gives ipmitool a terminal."""
    password = tmp_path / "password"
    password.write_text("secret")
    async with running() as bench:
        ipmitool = [
            *("ipmitool", "-I", "lanplus", "-H", HOST, "-L", "ADMINISTRATOR", "-p", str(bench.port), "-U", "admin"),
            *("-b", "0", "-t", "1", "-R", "1", "-N", "5", "-f", str(password)),
        ]
        assert (await run([*ipmitool, "sol", "deactivate"]))[0] == 1
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        command = " ".join([*ipmitool, "sol", "activate"])
        socat = await asyncio.create_subprocess_exec(
            "socat", f"TCP4-LISTEN:{port},bind={HOST},reuseaddr,fork,max-children=1", f"EXEC:{command},pty,stderr"
        )
        try:
            reader, writer = await connect(port)
            async with asyncio.timeout(30):
                await reader.readuntil(OPERATIONAL)
                writer.write(b"from ironic\r")
                await reader.readuntil(b"from ironic")
                assert len(bench.nodes[1].controller.sol.active) == 1
                # a stale one is thrown out the same way
                assert (await run([*ipmitool, "sol", "deactivate"]))[0] == 0
                await reader.readuntil(b"[pypmi: console deactivated by admin")
            writer.close()
        finally:
            socat.terminate()
            await socat.wait()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as soon as somebody listens."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await asyncio.open_connection(HOST, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
