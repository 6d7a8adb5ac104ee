"""Boards on the network: framing, take-over, busy, reset, cut networks, the PC's reaction to presses."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from pypmi_simulator import PC, BoardTimings, Era, Network, OsState, PcTimings, SimulatedBoard, SoftOff
from pypmi_simulator.framing import HAS_TRANSACTION, HEADER_SIZE, pack

ALL = tuple(Era)
SLOW = BoardTimings(command=0.2)


async def datagram(board: SimulatedBoard, data: bytes, *, replies: int = 1) -> list[bytes]:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((board.host, board.port))
        await loop.sock_sendall(sock, data)
        return [await asyncio.wait_for(loop.sock_recv(sock, 65536), 10) for _ in range(replies)]


@pytest.mark.parametrize("era", ALL)
async def test_a_press_turns_the_pc_on(connect, eventually, era):
    async with SimulatedBoard(era, name="pc1") as board:
        client = await connect(board)
        assert await client.ask("ir 0 2") == "digital input: [0]\n"
        assert await client.ask("it 0 0 on") == "trigger on 0/0: ok\n"
        assert board.relay_closed
        await eventually(lambda: board.pc.os is OsState.RUNNING)
        await eventually(lambda: len(board.pc.presses) == 1)
        assert not board.relay_closed
        assert 0.49 <= board.pc.presses[0].duration <= 0.501
        assert await client.ask("ir 0 2") == "digital input: [1]\n"


@pytest.mark.parametrize("era", ALL)
async def test_a_train_of_triggers_forces_off(connect, eventually, era):
    pc = PC(powered=True, soft_off=SoftOff.IGNORE, timings=PcTimings(force_off=1.0))
    async with SimulatedBoard(era, pc=pc) as board:
        client = await connect(board)
        async with asyncio.timeout(20):
            while pc.powered:
                assert await client.ask("it 0 0 on") == "trigger on 0/0: ok\n"
                await asyncio.sleep(0.2)
        assert await client.ask("it 0 0 off") == "trigger off 0/0: ok\n"
        await eventually(lambda: len(pc.presses) == 1)
        assert pc.presses[0].duration >= 1.0


async def test_a_reset_button_on_another_pin(connect, eventually):
    pc = PC(powered=True)
    async with SimulatedBoard(pc=pc, reset_pin=4, pulse_ms=100) as board:
        client = await connect(board)
        assert await client.ask("it 0 4 on") == "trigger on 0/4: ok\n"
        await eventually(lambda: pc.resets == 1)
        assert pc.powered


async def test_other_wiring(connect, eventually):
    async with SimulatedBoard(relay_pin=5, led_pin=4, active_low=False, led_active_low=True) as board:
        client = await connect(board)
        assert await client.ask("ir 0 4") == "digital input: [1]\n"
        await client.ask("it 0 5 on")
        await eventually(lambda: board.pc.powered)
        assert await client.ask("ir 0 4") == "digital input: [0]\n"


@pytest.mark.parametrize("era", ALL)
async def test_a_blank_board_can_be_provisioned_over_the_wire(connect, eventually, era):
    async with SimulatedBoard(era, provisioned=False) as board:
        client = await connect(board)
        if era is Era.OLD:
            commands = ["id pc1", "id pc1", "cs io.0.0.timer.direction -1 -1 2"]
        else:
            commands = ["cs io.0.0.flags -1 -1 256", "cs io.0.0.timer.direction -1 -1 1"]
        commands += ["cs io.0.0.timer.delay -1 -1 300", "cs io.0.0.llmode -1 -1 3", "cs io.0.0.mode -1 -1 4"]
        commands += ["im 0 2 dinput", "fu cmd-from-uart", "fu log-to-uart", "id pc1", "bp 23"]
        for command in commands:
            assert await client.ask(command)
        with pytest.raises(ConnectionRefusedError):
            await connect(board, bridge=True)
        assert await client.ask("r") == "> reset\n"
        client.close()
        await eventually(lambda: board.boots == 2)
        again = await connect(board)
        assert await again.ask("id") == 'identification is "pc1"\n'
        await connect(board, bridge=True)
        assert board.pc.presses == []
        await again.ask("it 0 0 on")
        await eventually(lambda: board.pc.powered)


# -- clients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ALL)
async def test_the_newest_client_wins(connect, era):
    async with SimulatedBoard(era) as board:
        first = await connect(board)
        assert await first.ask("ir 0 2")
        second = await connect(board)
        assert await second.ask("ir 0 2") == "digital input: [0]\n"
        await first.expect_reset()


@pytest.mark.parametrize("era", ALL)
async def test_quit_resets_the_connection(connect, era):
    async with SimulatedBoard(era) as board:
        client = await connect(board)
        assert await client.ask("q") == "> disconnect\n"
        await client.expect_reset()


async def test_a_third_connection_costs_the_idle_one(connect):
    async with SimulatedBoard(Era.NEWEST) as board:
        bridge = await connect(board, bridge=True)
        first = await connect(board)
        await first.ask("ir 0 2")
        second = await connect(board)
        await second.ask("ir 0 2")
        await bridge.expect_reset()
        await first.expect_reset()
    async with SimulatedBoard(Era.OLD) as board:  # four connections there
        bridge = await connect(board, bridge=True)
        first = await connect(board)
        second = await connect(board)
        await second.ask("ir 0 2")
        await first.expect_reset()
        assert await bridge.silent()


@pytest.mark.parametrize("era", ALL)
async def test_what_comes_while_busy_is_lost(connect, era):
    async with SimulatedBoard(era, timings=SLOW) as board:
        client = await connect(board)
        await client.send(b"ir 0 2\r\n")
        await asyncio.sleep(0.05)
        await client.send(b"it 0 0 on\r\n")
        assert await client.recv() == b"digital input: [0]\n"
        assert await client.silent(0.5)
        assert board.pc.presses == []
        assert await client.ask("ir 0 0") == f"timer (blink): [{int(era is Era.OLD)}]\n"


@pytest.mark.parametrize("era", ALL)
async def test_two_quick_segments_are_told_apart(connect, era):
    async with SimulatedBoard(era, timings=BoardTimings(command=0.05)) as board:
        client = await connect(board)
        client.sock.send(b"ir 0 2\r\n")
        client.sock.send(b"it 0 0 on\r\n")
        assert await client.recv() == b"digital input: [0]\n"
        assert await client.silent(0.3)
        assert not board.relay_closed
        assert board.pc.presses == []


@pytest.mark.parametrize("era", [Era.OLD, Era.MIDDLE])
async def test_rubbish_survives_a_disconnect(connect, era):
    async with SimulatedBoard(era) as board:
        first = await connect(board)
        await first.send(b"rub")
        await asyncio.sleep(0.05)
        first.close()
        second = await connect(board)
        assert await second.ask("") == "rub: command unknown\n"
        assert await second.ask("") == "> empty command\n"


async def test_no_line_end_is_needed_in_newest(connect):
    async with SimulatedBoard(Era.NEWEST) as board:
        client = await connect(board)
        await client.send(b"ir 0 2")
        assert await client.recv() == b"digital input: [0]\n"


async def test_the_reply_to_a_client_that_was_thrown_out_goes_to_the_new_one(connect):
    async with SimulatedBoard(Era.NEWEST, timings=SLOW) as board:
        first = await connect(board)
        await first.send(b"id\r\n")
        await asyncio.sleep(0.05)
        second = await connect(board)
        assert await second.recv() == b'identification is "<unset>"\n'


async def test_a_half_close_loses_the_reply(connect):
    async with SimulatedBoard(Era.NEWEST, timings=SLOW) as board:
        client = await connect(board)
        await client.send(b"ir 0 2\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert await client.recv() == b""


@pytest.mark.parametrize("era", ALL)
async def test_nothing_happens_when_the_client_vanishes(connect, eventually, era):
    async with SimulatedBoard(era) as board:
        client = await connect(board)
        await client.ask("it 0 0 on")
        client.abort()
        await eventually(lambda: len(board.pc.presses) == 1)
        assert board.pc.presses[0].duration >= 0.49


@pytest.mark.parametrize("era", ALL)
async def test_long_replies_come_whole(connect, era):
    async with SimulatedBoard(era) as board:
        client = await connect(board)
        await client.send(b"im 0\r\n")
        text = b""
        while text.count(b"\n") < (11 if era is Era.NEWEST else 17):
            text += await client.recv()
        assert text.endswith(b"info: \n")


# -- UDP ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ALL)
async def test_commands_by_udp(era, eventually):
    async with SimulatedBoard(era) as board:
        end = b"" if era is Era.NEWEST else b"\r\n"
        assert await datagram(board, b"ir 0 2" + end) == [b"digital input: [0]\n"]
        assert await datagram(board, b"it 0 0 on" + end) == [b"trigger on 0/0: ok\n"]
        await eventually(lambda: board.pc.powered)
        assert await datagram(board, b"r" + end) == [b"> reset\n"]
        await eventually(lambda: board.boots == 2)


@pytest.mark.parametrize("era", [Era.OLD, Era.MIDDLE])
async def test_udp_term_empty(era, eventually):
    async with SimulatedBoard(era) as board:
        await datagram(board, b"fs udp-term-empty\r\n")
        await datagram(board, b"r\r\n")
        await eventually(lambda: board.boots == 2)
        assert await datagram(board, b"ir 0 2\r\n", replies=2) == [b"digital input: [0]\n", b""]


async def test_packets_press_once(connect, eventually):
    async with SimulatedBoard(Era.NEWEST) as board:
        client = await connect(board)
        packet = pack(b"it 0 0 on", flags=HAS_TRANSACTION, transaction=77)
        await client.send(packet)
        assert (await client.recv())[HEADER_SIZE:] == b"trigger on 0/0: ok\n"
        await eventually(lambda: len(board.pc.presses) == 1)
        await client.send(packet)
        assert await client.silent(0.7)
        assert len(board.pc.presses) == 1


# -- reset -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ALL)
async def test_reset_waits_for_the_client_to_close(connect, eventually, era):
    async with SimulatedBoard(era, timings=BoardTimings(fin_wait=30)) as board:
        client = await connect(board)
        assert await client.ask("r") == "> reset\n"
        assert await client.recv() == b""  # FIN
        await asyncio.sleep(0.2)
        assert board.boots == 1
        client.close()
        await eventually(lambda: board.boots == 2)
        again = await connect(board)
        assert "user reset" in await again.ask("s")


async def test_reset_comes_in_the_end_anyway(connect, eventually):
    async with SimulatedBoard(timings=BoardTimings(fin_wait=0.3)) as board:
        client = await connect(board)
        await client.ask("r")
        await eventually(lambda: board.boots == 2)


@pytest.mark.parametrize("era", ALL)
async def test_a_restarted_board_has_forgotten_its_connections(connect, eventually, era):
    async with SimulatedBoard(era) as board:
        command, bridge = await connect(board), await connect(board, bridge=True)
        await command.ask("ir 0 2")
        board.reboot()
        with pytest.raises(ConnectionRefusedError):
            await connect(board)
        await eventually(lambda: board.boots == 2)
        assert await command.silent()
        await command.send(b"ir 0 2\r\n")
        await bridge.send(b"x")
        await command.expect_reset()
        await bridge.expect_reset()
        again = await connect(board)
        assert "hardware watchdog" in await again.ask("s")


async def test_a_reboot_lets_the_button_go(connect, eventually):
    async with SimulatedBoard(pc=PC(powered=True, soft_off=SoftOff.IGNORE), pulse_ms=60000) as board:
        client = await connect(board)
        await client.ask("it 0 0 on")
        await asyncio.sleep(0.1)
        board.reboot()
        await eventually(lambda: len(board.pc.presses) == 1)
        assert board.pc.presses[0].duration < 10


async def test_the_relay_may_click_at_boot(eventually):
    async with SimulatedBoard(timings=BoardTimings(boot_glitch=0.1)) as board:
        await eventually(lambda: len(board.pc.presses) == 1)
        assert board.pc.powered


# -- the network -------------------------------------------------------------------------------------


async def test_refused(connect):
    async with SimulatedBoard() as board:
        client = await connect(board)
        board.cut_network(Network.REFUSE)
        await client.expect_reset()
        with pytest.raises(ConnectionRefusedError):
            await connect(board)
        board.restore_network()
        again = await connect(board)
        assert await again.ask("ir 0 2")


async def test_reset_by_peer(connect):
    async with SimulatedBoard() as board:
        board.cut_network(Network.RESET)
        with pytest.raises(ConnectionResetError):
            await (await connect(board)).recv()
        board.restore_network()
        assert await (await connect(board)).ask("ir 0 2")


async def test_blackhole_is_silent_and_what_waited_acts_late(connect, eventually):
    async with SimulatedBoard() as board:
        client = await connect(board)
        await client.ask("ir 0 2")
        board.cut_network(Network.BLACKHOLE)
        await client.send(b"it 0 0 on\r\n")
        assert await client.silent(0.3)
        assert not board.relay_closed
        attempt = asyncio.create_task(connect(board))
        await asyncio.sleep(0.3)
        assert not attempt.done()
        board.restore_network()
        assert await client.recv() == b"trigger on 0/0: ok\n"
        await eventually(lambda: board.pc.powered)
        await attempt


async def test_what_waits_is_gone_when_the_client_aborts(connect):
    async with SimulatedBoard() as board:
        client = await connect(board)
        await client.ask("ir 0 2")
        board.cut_network(Network.BLACKHOLE)
        await client.send(b"it 0 0 on\r\n")
        await asyncio.sleep(0.1)
        client.abort()
        await asyncio.sleep(0.1)
        board.restore_network()
        await asyncio.sleep(0.2)
        assert not board.relay_closed
        assert board.pc.presses == []


async def test_a_lost_answer(connect, eventually):
    async with SimulatedBoard() as board:
        client = await connect(board)
        board.faults.lose_replies = 1
        await client.send(b"it 0 0 on\r\n")
        assert await client.silent(0.3)
        assert board.relay_closed
        assert await client.ask("ir 0 0") == "timer (blink): [1]\n"
        await eventually(lambda: len(board.pc.presses) == 1)


async def test_a_lost_command(connect):
    async with SimulatedBoard() as board:
        client = await connect(board)
        board.faults.lose_commands = 1
        await client.send(b"it 0 0 on\r\n")
        assert await client.silent(0.3)
        assert not board.relay_closed


async def test_a_reset_instead_of_the_answer(connect):
    async with SimulatedBoard() as board:
        client = await connect(board)
        board.faults.reset_replies = 1
        await client.send(b"it 0 0 on\r\n")
        await client.expect_reset()
        assert board.relay_closed


async def test_delayed_answers(connect):
    async with SimulatedBoard() as board:
        client = await connect(board)
        board.faults.reply_delay = 0.3
        start = time.monotonic()
        assert await client.ask("ir 0 2") == "digital input: [0]\n"
        assert time.monotonic() - start >= 0.29


async def test_a_hung_module_takes_connections_and_says_nothing(connect):
    async with SimulatedBoard() as board:
        board.faults.hung = True
        client = await connect(board)
        await client.send(b"it 0 0 on\r\n")
        assert await client.silent(0.3)
        assert not board.relay_closed


@pytest.mark.parametrize("era", ALL)
async def test_wlan_restart(connect, eventually, era):
    async with SimulatedBoard(era) as board:
        client = await connect(board)
        assert await client.ask("wm client") == "> disconnect\n"
        await client.expect_reset()
        await eventually(lambda: board.network is Network.UP)
        assert await (await connect(board)).ask("ir 0 2")
        assert board.boots == 1


async def test_no_task_and_no_timer_is_left():
    board = SimulatedBoard()
    async with board:
        pass
    assert len(asyncio.all_tasks()) == 1
    with socket.create_server((board.host, board.port)):
        pass
