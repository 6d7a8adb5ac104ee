"""Many boards, the control interface, and the program."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import pytest
from pypmi_simulator import Era, OsState
from pypmi_simulator.__main__ import main
from pypmi_simulator.control import ControlServer, call
from pypmi_simulator.fleet import Fleet, FleetOptions, mac_of


async def test_names_eras_and_ports(connect):
    async with Fleet(FleetOptions(boards=5, eras=(Era.NEWEST, Era.OLD), name_format="rack1-{}")) as fleet:
        assert [board.name for board in fleet.boards][:2] == ["rack1-1", "rack1-2"]
        assert fleet.boards[1].era is Era.OLD
        ports = {p for board in fleet.boards for p in (board.port, board.bridge_port)}
        assert len(ports) == 10
        assert fleet.find("rack1-3") is fleet.find(3) is fleet.find("3")
        with pytest.raises(KeyError):
            fleet.find("rack1-9")
        client = await connect(fleet.boards[4])
        assert await client.ask("id") == 'identification is "rack1-5"\n'


async def test_wake_on_lan(eventually):
    async with Fleet(FleetOptions(boards=2, wol_port=0)) as fleet:
        packet = b"\xff" * 6 + bytes.fromhex(mac_of(1).replace(":", "")) * 16
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(packet, ("127.0.0.1", fleet.wol_port))
        await eventually(lambda: fleet.boards[1].pc.powered)
        assert not fleet.boards[0].pc.powered


async def test_250_boards_answer_and_are_quiet_when_idle(connect):
    async with Fleet(FleetOptions(boards=250, udp=False)) as fleet:
        clients = [await connect(board) for board in fleet.boards]
        replies = await asyncio.gather(*(client.ask("ir 0 2") for client in clients))
        assert set(replies) == {"digital input: [0]\n"}
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.3)
        assert not [h for h in loop._scheduled if not h._cancelled and h._when < loop.time() + 3600]


async def test_control(eventually):
    async with Fleet(FleetOptions(boards=2)) as fleet, ControlServer(fleet) as control:

        async def ask(op: str, **fields):
            return await asyncio.to_thread(call, control.port, op, **fields)

        listing = await ask("list")
        assert [board["name"] for board in listing["boards"]] == ["node1", "node2"]
        assert listing["boards"][0]["power"] == "off"
        after = await ask("press", board="node1", seconds=0.05)
        assert after["power"] == "on"
        assert len(after["hand_presses"]) == 1
        assert (await ask("presses", board=1))["presses"] == []
        pc = fleet.boards[0].pc
        await eventually(lambda: pc.os is OsState.RUNNING)
        assert (await ask("hang", board=1))["os"] == "hung"
        assert (await ask("unplug", board=1))["power"] == "off"
        await ask("plug", board=1)
        await ask("wake", board=1)
        assert pc.powered
        await ask("pc", board=1, soft_off="ignore", psu_weak=True)
        assert pc.soft_off == "ignore"
        assert pc.psu_ok
        await ask("faults", board=2, lose_replies=3, reply_delay=0.5)
        assert fleet.boards[1].faults.lose_replies == 3
        assert (await ask("network", board=2, mode="refuse"))["network"] == "refuse"
        await ask("network", board=2, mode="up")
        await ask("reboot", board=2)
        await eventually(lambda: fleet.boards[1].boots == 2)
        await ask("mute", board=2)
        assert (await ask("state", board=2))["boots"] == 2
        for bad in ({"op": "state", "board": "nope"}, {"op": "nope"}, {"op": "network", "board": 1, "mode": "odd"}):
            answer = await control.handle(json.dumps(bad).encode())
            assert answer["ok"] is False
            assert answer["error"]
        assert (await control.handle(b"rubbish"))["ok"] is False
        with pytest.raises(RuntimeError, match="no board"):
            await ask("state", board="nope")


async def test_the_control_interface_is_for_loopback_only():
    with pytest.raises(ValueError, match="loopback"):
        ControlServer(Fleet(FleetOptions(boards=1)), host="0.0.0.0")


async def test_the_program(tmp_path: Path, eventually):
    ready = tmp_path / "ready.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pypmi_simulator", "--boards", "3", "--era", "newest,2019", "--ready-file", str(ready)),
        *("--control", "0"),
    )
    try:
        await eventually(ready.exists, timeout=60)
        content = json.loads(ready.read_text())
        assert [board["era"] for board in content["boards"]] == ["newest", "2019", "newest"]
        state = await asyncio.to_thread(call, content["control"]["port"], "state", board="node2")
        assert state["power"] == "off"
        with socket.create_connection((content["boards"][0]["host"], content["boards"][0]["port"]), 10) as sock:
            sock.sendall(b"id\r\n")
            assert sock.recv(100) == b'identification is "node1"\n'
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


@pytest.mark.parametrize("argv", [["--era", "2020"], ["--boards", "0"], ["--console", "vt"]])
def test_wrong_arguments(argv, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2
    assert argv[0].strip("-") in capsys.readouterr().err


def test_a_port_in_use_is_said():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert main(["--boards", "1", "--base-port", str(server.getsockname()[1])]) == 1
