"""`pypmi scan` finds simulated boards of each generation and real BMC servers, and writes what fleet.yaml takes."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import yaml
from bmc_rigs import IpmiSim
from pypmi.config.load import parse_fleet
from stack import PYPMI, Demo, Outcome, free_tcp_port, run, until

HOSTS = ("127.0.0.11", "127.0.0.12", "127.0.0.14")


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[int]:
    """Boards on three addresses of one port; returns the port."""
    port = free_tcp_port()
    running = []
    for number, (host, era) in enumerate(zip(HOSTS, ("newest", "2021", "2019"), strict=True)):
        ready = tmp_path / f"{number}.json"
        command = [
            sys.executable, "-m", "pypmi_simulator", "--boards", "1", "--no-udp", "--host", host, "--era", era,
            "--base-port", str(port), "--name-format", f"Rack {number}", "--ready-file", str(ready),
        ]  # fmt: skip
        if era == "2021":
            command.append("--blank")
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        until(ready.exists, 30, "simulator ready")
    yield port
    for process in running:
        process.terminate()
        process.wait(20)


def scan(folder: Path, *words: str) -> Outcome:
    """Away from any fleet.yaml, unless words give one."""
    return subprocess_run(folder, [*PYPMI, *words])


def subprocess_run(folder: Path, command: list[str]) -> Outcome:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr, 0)


def test_boards_of_each_generation(boards: int, tmp_path: Path):
    done = scan(tmp_path, "scan", "127.0.0.8/29", "--port", str(boards), "--timeout", "2")
    assert done.code == 0, done.text
    assert [line.split()[1] for line in done.err.splitlines()[1:]] == list(HOSTS)
    part = yaml.safe_load(done.out)["nodes"]
    assert [(node["id"], node["address"], node["hardware"]["host"]) for node in part] == [
        ("rack-0", 1, HOSTS[0]), ("board-127-0-0-12", 2, HOSTS[1]), ("rack-2", 3, HOSTS[2]),
    ]  # fmt: skip
    assert [node["hardware"].get("identification") for node in part] == ["Rack 0", None, "Rack 2"]
    fleet, _ = parse_fleet(done.out)
    assert [node.hardware.type for node in fleet.nodes] == ["esp8266"] * 3


def test_boards_of_the_fleet_are_left_alone(boards: int, tmp_path: Path):
    (tmp_path / "fleet.yaml").write_text(
        yaml.safe_dump(
            {
                "nodes": [
                    {"id": "rack-2", "address": 1, "hardware": {"type": "esp8266", "host": HOSTS[0], "port": boards}}
                ]
            }
        )
    )
    done = scan(tmp_path, "scan", "127.0.0.11-14", "--port", str(boards), "--timeout", "2", "--json")
    assert [found["host"] for found in json.loads(done.out)] == list(HOSTS[1:])
    done = scan(tmp_path, "scan", "127.0.0.11-14", "--port", str(boards), "--timeout", "2", "--write", "part.yaml")
    assert done.code == 0, done.text
    part = yaml.safe_load((tmp_path / "part.yaml").read_text())["nodes"]
    assert [(node["id"], node["address"]) for node in part] == [("board-127-0-0-12", 2), ("rack-2-2", 3)]
    again = scan(tmp_path, "scan", "127.0.0.11", "--port", str(boards), "--write", "part.yaml")
    assert again.code == 0  # nothing new, and nothing written over
    again = scan(tmp_path, "scan", "127.0.0.12", "--port", str(boards), "--timeout", "2", "--write", "part.yaml")
    assert (again.code, "there already" in again.err) == (2, True)


@pytest.fixture
async def ipmi_sim(tmp_path: Path) -> AsyncIterator[IpmiSim]:
    program = IpmiSim(tmp_path / "ipmi_sim")
    await program.start()
    yield program
    await program.stop()


async def test_a_bmc(ipmi_sim: IpmiSim, tmp_path: Path):
    words = ["scan", "127.0.0.1", "--ipmi-port", str(ipmi_sim.port), "--port", str(free_tcp_port()), "--timeout", "0.5"]
    done = scan(tmp_path, *words, "--ipmi-user", "pypmi")
    assert done.code == 0, done.text
    (node,) = parse_fleet(done.out)[0].nodes
    assert node.hardware.type == "bmc"
    assert (node.hardware.port, node.hardware.user) == (ipmi_sim.port, "pypmi")
    assert str(node.hardware.password.file) == f"secrets/bmc/{node.id}"


def test_a_gateway_answers_too_and_a_broker_is_no_board(demo: Demo, tmp_path: Path):
    words = ["--port", str(demo.mqtt_port), "--ipmi-port", str(demo.port), "--timeout", "0.5", "--json"]
    done = scan(tmp_path, "scan", "127.0.0.1", *words)
    assert [found["type"] for found in json.loads(done.out)] == ["bmc"]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("10.0.0.0/8", "more than 65536"),
        ("192.0.2.9-3", "a range goes up"),
        ("no.such.host.invalid", "give a network"),
        ("192.0.2.0/33", "give a network"),
    ],
)
def test_what_makes_no_sense(target: str, text: str, tmp_path: Path):
    done = scan(tmp_path, "scan", target)
    assert done.code == 2
    assert text in done.err


def test_nothing_there(tmp_path: Path):
    ports = ("--port", str(free_tcp_port()), "--ipmi-port", "9", "--timeout", "0.2")
    done = run(*PYPMI, "scan", "127.0.0.1", *ports)
    assert (done.code, done.out) == (0, "")
    assert "nothing new at 1 addresses" in done.err
