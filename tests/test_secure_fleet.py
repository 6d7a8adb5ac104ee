"""A fleet made by `pypmi init`, run by `pypmi up`: real Mosquitto, real tools, and what must be refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from stack import PYPMI, Outcome, free_tcp_port, free_udp_base, run, until

FLEET = """\
version: 1
fleet: lab
mqtt:
  url: mqtts://localhost:{mqtt}
  ca_file: tls/ca.crt
  username: "{{service}}"
  password: {{file: "secrets/mqtt/{{service}}"}}
gateway: {{listen: ["127.0.0.1:{udp}"]}}
users:
  - {{name: admin, password: {{file: secrets/ipmi/admin}}}}
services:
  ipmi-gateway: {{health: "127.0.0.1:{health}"}}
nodes:
  - id: one
    address: 1
    hardware: {{type: esp8266, host: 127.0.0.1, port: {board}}}
  - id: two
    address: 2
    agent: other-agent
    hardware: {{type: esp8266, host: 127.0.0.1, port: {board_two}}}
"""


class SecureFleet:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mqtt = free_tcp_port()
        self.udp = free_udp_base(1)
        self.health = free_tcp_port()
        boards = folder / "boards.json"
        self.simulator = subprocess.Popen(
            [sys.executable, "-m", "pypmi_simulator", "--boards", "2", "--no-udp", "--ready-file", str(boards)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(boards.exists, 30, "simulator ready")
        ports = [board["port"] for board in json.loads(boards.read_text())["boards"]]
        (folder / "fleet.yaml").write_text(
            FLEET.format(mqtt=self.mqtt, udp=self.udp, health=self.health, board=ports[0], board_two=ports[1])
        )
        done = run(*PYPMI, "init", str(folder), "--host", "broker.test")
        assert done.code == 0, done.text
        self.password = (folder / "secrets/ipmi/admin").read_text().strip()
        self.up = subprocess.Popen(
            [*PYPMI, "up", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def stop(self) -> None:
        for process in (self.up, self.simulator):
            process.send_signal(signal.SIGTERM)
        for process in (self.up, self.simulator):
            process.wait(30)

    def ipmitool(self, *words: str, target: int = 1) -> Outcome:
        return run(
            "ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.udp), "-U", "admin", "-P", self.password,
            "-t", str(target), *words,
        )  # fmt: skip

    def mosquitto(self, program: str, account: str | None, *words: str) -> Outcome:
        command = [
            program,
            "-h",
            "localhost",
            "-p",
            str(self.mqtt),
            "--cafile",
            str(self.folder / "tls/ca.crt"),
            "-V",
            "5",
        ]
        if account is not None:
            secret = (self.folder / f"secrets/mqtt/{account}").read_text().strip()
            command += ["-u", account, "-P", secret]
        return run(*command, *words)

    def power(self, target: int) -> str:
        done = self.ipmitool("power", "status", target=target)
        return done.out.split()[-1] if done.code == 0 else done.text


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureFleet]:
    secure = SecureFleet(tmp_path_factory.mktemp("fleet"))
    try:
        until(lambda: secure.power(1) in {"on", "off"} and secure.power(2) in {"on", "off"}, 60, "fleet up")
        yield secure
    finally:
        secure.stop()


def test_power_works_over_tls_with_accounts(fleet: SecureFleet):
    assert fleet.ipmitool("power", "on").code == 0
    until(lambda: fleet.power(1) == "on", 30)


def test_without_an_account_nothing_is_seen_or_done(fleet: SecureFleet):
    done = fleet.mosquitto("mosquitto_sub", None, "-t", "#", "-C", "1", "-W", "5")
    assert done.code != 0
    assert done.out == ""
    assert "not authori" in done.text.lower()
    assert fleet.mosquitto("mosquitto_pub", None, "-t", "nodes/one/power/set", "-m", "off").code != 0


def test_plain_tcp_is_refused(fleet: SecureFleet):
    done = run("mosquitto_sub", "-h", "localhost", "-p", str(fleet.mqtt), "-t", "#", "-C", "1", "-W", "5")
    assert done.code != 0
    assert done.out == ""


def test_an_agent_cannot_speak_for_anothers_node(fleet: SecureFleet):
    watch = subprocess.Popen(
        [
            "mosquitto_sub", "-h", "localhost", "-p", str(fleet.mqtt), "--cafile", str(fleet.folder / "tls/ca.crt"),
            "-u", "operator", "-P", (fleet.folder / "secrets/mqtt/operator").read_text().strip(),
            "-v", "-t", "nodes/+/events", "-t", "nodes/+/power/result", "-W", "6",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    until(lambda: fleet.mosquitto("mosquitto_pub", "esp8266-agent", "-t", "nodes/one/events", "-m", "mine").code == 0)
    fleet.mosquitto("mosquitto_pub", "esp8266-agent", "-q", "1", "-t", "nodes/two/events", "-m", "forged")
    # nor may it send commands, not even to its own
    fleet.mosquitto("mosquitto_pub", "esp8266-agent", "-q", "1", "-t", "nodes/one/power/set", "-m", "cycle")
    out, _ = watch.communicate(timeout=30)
    assert "forged" not in out
    assert "cycle" not in out


def test_consoles_are_a_class_of_their_own(fleet: SecureFleet):
    rules = (fleet.folder / "mosquitto/acl").read_text()
    home_assistant = rules.split("user homeassistant")[1]
    assert "/sol/" not in home_assistant
    assert "nodes/+/power/set" in home_assistant


def test_secrets_have_tight_modes_and_are_in_no_log(fleet: SecureFleet):
    files = [path for path in (fleet.folder / "secrets").rglob("*") if path.is_file()]
    assert len(files) >= 6
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path
    texts = [path.read_text(errors="replace") for path in (fleet.folder / "log").iterdir()]
    assert any(texts)
    for path in files:
        if path.suffix != ".key":
            secret = path.read_text().strip()
            assert not any(secret in text for text in texts), path


def test_init_again_changes_no_secret_and_follows_the_fleet(tmp_path):
    assert run(*PYPMI, "init", str(tmp_path)).code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    passwords = (tmp_path / "mosquitto/passwords").read_text()
    config = yaml.safe_load((tmp_path / "fleet.yaml").read_text())
    config["nodes"].append({"id": "new", "agent": "second-agent", "hardware": {"type": "esp8266", "host": "h"}})
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(config))
    assert run(*PYPMI, "init", str(tmp_path)).code == 0
    after = {path.name: path.read_bytes() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert set(after) - set(before) == {"second-agent"}
    assert set(passwords.splitlines()) <= set((tmp_path / "mosquitto/passwords").read_text().splitlines())
    assert "readwrite nodes/new/state" in (tmp_path / "mosquitto/acl").read_text().split("user second-agent")[1]


@pytest.mark.parametrize("victim", ["mosquitto", "esp8266_agent", "ipmi_gateway"])
def test_kill_any_process_and_the_fleet_is_whole_again(fleet: SecureFleet, victim):
    state = fleet.power(1)
    pid = next(
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _is_child(entry, fleet.up.pid, victim)
    )
    os.kill(pid, signal.SIGKILL)
    until(lambda: fleet.power(1) == state and fleet.power(2) in {"on", "off"}, 30, f"whole again without {victim}")


def _is_child(entry: Path, parent: int, name: str) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().split(b"\0")
        its_parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return False
    return its_parent == parent and any(name.encode() in word for word in words[:3])
