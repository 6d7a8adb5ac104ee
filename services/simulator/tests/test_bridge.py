"""The console bridge: limits, take-over, the mute bug, commands from the console (reference section 8)."""

from __future__ import annotations

import asyncio
import socket

import pytest
from pypmi_simulator import PC, Era, SimulatedBoard
from pypmi_simulator.console import EchoConsole, FloodConsole, ProcessConsole, RecordingConsole, ShellConsole
from pypmi_simulator.uart import IN_FLIGHT

ALL = tuple(Era)


def board_with(console, era=Era.NEWEST, **options) -> SimulatedBoard:
    return SimulatedBoard(era, console=console, boot_noise=False, **options)


@pytest.mark.parametrize("era", ALL)
async def test_bytes_go_both_ways(connect, era):
    async with board_with(EchoConsole(), era) as board:
        client = await connect(board, bridge=True)
        data = bytes(range(100))
        await client.send(data)
        assert await client.recv_exactly(100) == data


@pytest.mark.parametrize(("era", "kept"), [(Era.NEWEST, 0), (Era.MIDDLE, 128), (Era.OLD, 128)])
async def test_a_segment_too_long(connect, eventually, era, kept):
    console = RecordingConsole()
    async with board_with(console, era) as board:
        client = await connect(board, bridge=True)
        await client.send(bytes(200))
        await asyncio.sleep(0.2)
        await client.send(b"end")
        await eventually(lambda: console.data.endswith(b"end"))
        assert len(console.data) == kept + 3


async def test_what_does_not_fit_the_ring_is_lost(connect):
    console = RecordingConsole()
    async with board_with(console, baud=9600) as board:
        client = await connect(board, bridge=True)
        for _ in range(40):
            await client.send(bytes(100))
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.3)
        assert 0 < len(console.data) < 2000


async def test_pacing_to_the_baud_rate(connect):
    async with board_with(RecordingConsole(), baud=9600) as board:
        client = await connect(board, bridge=True)
        start = board.now
        board.console.say(bytes(480))
        await client.recv_exactly(480)
        assert board.now - start >= 0.4


async def test_pieces_are_never_longer_than_what_may_be_in_flight(connect):
    async with board_with(RecordingConsole()) as board:
        client = await connect(board, bridge=True)
        board.console.say(b"x" * 2000)
        got = 0
        while got < 2000:
            piece = await client.recv()
            assert piece
            got += len(piece)
        assert got == 2000
        assert IN_FLIGHT == 127


@pytest.mark.parametrize("era", ALL)
async def test_without_a_client_bytes_are_thrown_away(connect, era):
    async with board_with(RecordingConsole(), era) as board:
        board.console.say(b"nobody hears this")
        await asyncio.sleep(0.1)
        client = await connect(board, bridge=True)
        assert await client.silent(0.3)
        board.console.say(b"but this")
        assert await client.recv_exactly(8) == b"but this"


@pytest.mark.parametrize("era", ALL)
async def test_the_newest_client_wins(connect, era):
    async with board_with(EchoConsole(), era) as board:
        first = await connect(board, bridge=True)
        await first.send(b"a")
        assert await first.recv() == b"a"
        second = await connect(board, bridge=True)
        await second.send(b"b")
        assert await second.recv() == b"b"
        await first.expect_reset()


async def test_mute_bug_and_its_cure(connect):
    async with board_with(EchoConsole()) as board:
        board.mute_bridge()
        for _ in range(2):
            client = await connect(board, bridge=True)
            await client.send(b"a")
            assert await client.silent(0.3)
            client.abort()
            await asyncio.sleep(0.05)
        client = await connect(board, bridge=True)
        client.sock.shutdown(socket.SHUT_WR)
        assert await client.recv() == b""
        client.close()
        client = await connect(board, bridge=True)
        board.console.output(b"back")
        assert (await client.recv()).endswith(b"back")


async def test_udp_takes_the_output_until_tcp_sends(connect):
    loop = asyncio.get_running_loop()
    async with board_with(EchoConsole()) as board:
        client = await connect(board, bridge=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((board.host, board.bridge_port))
            await loop.sock_sendall(sock, b"u")
            assert await asyncio.wait_for(loop.sock_recv(sock, 100), 10) == b"u"
            assert await client.silent()
        await client.send(b"t")
        assert await client.recv() == b"t"


async def test_strip_telnet(connect, eventually):
    console = RecordingConsole()
    async with board_with(console) as board:
        client = await connect(board)
        await client.ask("fs strip-telnet")
        bridge = await connect(board, bridge=True)
        await bridge.send(b"a\xff\xfb\x01b")
        await eventually(lambda: bytes(console.data) == b"ab")


@pytest.mark.parametrize("era", [Era.NEWEST, Era.MIDDLE])
async def test_cmd_from_uart_executes_the_console(connect, eventually, era):
    console = RecordingConsole()
    async with board_with(console, era) as board:
        client = await connect(board)
        await client.ask("fs cmd-from-uart")
        console.say(b"it 0 0 on\r")
        await eventually(lambda: b"trigger on 0/0: ok\n" in console.data)
        assert bytes(console.data).startswith(b"\r\n>> \0it 0 0 on\n")
        await eventually(lambda: board.pc.powered)
        if era is Era.MIDDLE:  # unasked, to the TCP client
            assert await client.recv() == b"trigger on 0/0: ok\n"
        assert "uart: 1\n" in (await client.ask("sc")).replace("uart: 1,", "uart: 1\n")


async def test_log_to_uart_reaches_the_console(connect, eventually):
    console = RecordingConsole()
    async with board_with(console) as board:
        client = await connect(board)
        await client.ask("fs log-to-uart")
        await client.ask("lw hello")
        await eventually(lambda: bytes(console.data) == b"hello\n")


async def test_boot_noise_at_reset(connect, eventually):
    console = RecordingConsole()
    async with SimulatedBoard(console=console) as board:
        await eventually(lambda: len(console.data) > 40)
        before = len(console.data)
        board.reboot()
        await eventually(lambda: len(console.data) > before + 40)


async def test_changing_the_baud_rate_flushes(connect):
    async with board_with(RecordingConsole(), baud=9600) as board:
        command = await connect(board)
        bridge = await connect(board, bridge=True)
        await bridge.send(b"x" * 100)
        await asyncio.sleep(0.02)
        await command.ask("ub 0 38400")
        await asyncio.sleep(0.3)
        assert len(board.console.data) < 100


# -- what is on the PC's side ------------------------------------------------------------------------


async def test_shell_console_boots_and_answers(connect):
    async with SimulatedBoard(name="pc1", boot_noise=False) as board:
        command, bridge = await connect(board), await connect(board, bridge=True)
        await command.ask("it 0 0 on")
        text = b""
        while not text.endswith(b"root@pc1:~# "):
            text += await bridge.recv()
        assert b"Linux version" in text
        await bridge.send(b"echo hello\r")
        while b"\r\nhello\r\n" not in text:
            text += await bridge.recv()


async def test_sysrq_after_a_break():
    resets = []
    console = ShellConsole(reboot=lambda: resets.append(1))
    out = bytearray()
    console.output = out.extend
    console.running()
    console.send_break()
    console.feed(b"h")
    assert b"sysrq: HELP" in out
    console.send_break()
    console.feed(b"b")
    assert console.sysrq == ["h", "b"]
    assert resets == [1]
    console.feed(b"b")
    assert resets == [1]


async def test_sysrq_reboots_the_pc(eventually):
    pc = PC(powered=True)
    async with SimulatedBoard(pc=pc) as board:
        board.console.send_break()
        board.console.feed(b"b")
        await eventually(lambda: pc.resets == 1)
        assert pc.presses == []


async def test_a_real_shell_on_a_pty(connect, eventually):
    pc = PC(powered=True)
    async with SimulatedBoard(pc=pc, console=ProcessConsole(), boot_noise=False) as board:
        bridge = await connect(board, bridge=True)
        await bridge.send(b"echo $((6*7))x\n")
        text = b""
        while b"42x" not in text:
            text += await bridge.recv()
        assert board.console.alive
        pc.unplug(board.now)
        assert not board.console.alive


async def test_flood_is_complete_and_in_order(connect):
    async with SimulatedBoard(pc=PC(powered=True), console=FloodConsole(total=4096), boot_noise=False) as board:
        bridge = await connect(board, bridge=True)
        first = await bridge.recv()
        assert first
        await asyncio.sleep(0.1)
    out = bytearray()
    flood = FloodConsole(total=1000, autostart=True)
    flood.output = out.extend
    await asyncio.sleep(0.05)
    assert len(out) == 1000
    assert out.startswith(FloodConsole.pattern(0) + FloodConsole.pattern(1))
    assert len(FloodConsole.pattern(7)) == 64


async def test_a_flood_is_held_at_the_line_rate():
    console = FloodConsole()
    async with SimulatedBoard(pc=PC(powered=True), console=console, boot_noise=False, baud=9600):
        await asyncio.sleep(0.5)
        assert console.sent < 10_000
