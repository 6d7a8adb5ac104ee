"""A fleet for end-to-end tests: broker, simulated boards and our services, each a process that can be stopped alone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pypmi_simulator.control import call
from stack import Outcome, free_tcp_port, free_udp_base, run

USER, PASSWORD = "admin", "changeme"
RESET_PIN, NMI_PIN = 4, 5


class Process:
    """One program that is started, stopped and started again with the same command."""

    def __init__(
        self, name: str, folder: Path, *command: str, environment: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.name = name
        self.command = command
        self.log = folder / f"{name}.log"
        self._environment = {**os.environ, **(environment or {})}
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: float = 60) -> None:
        """Start it; with a TCP port, return when somebody listens there."""
        if self.running:
            return
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self._environment,
                start_new_session=True,
            )  # fmt: skip
        if self._port and wait:
            self.wait_listening(wait)

    def wait_listening(self, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not listening(self._port):
            assert self.running, f"{self.name} ended:\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self.name} does not listen on {self._port}:\n{self.tail()}"
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, timeout: float = 30) -> None:
        """End it as a supervisor does; what does not end in time is killed with all its children."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def listening(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Lab:
    """`nodes` simulated PCs with relays for power, reset and NMI.

    `settings` are merged over the top of fleet.yaml; `node_settings(number)` over each node.
    """

    def __init__(self, folder: Path, nodes: int, **settings: Any) -> None:
        self.folder = folder
        self.count = nodes
        self.port = free_udp_base(nodes + 1)
        self.mqtt_port = free_tcp_port()
        self.control_port = free_tcp_port()
        self.boards_port = free_tcp_range(2 * nodes)
        self.fleet_file = folder / "fleet.yaml"
        (folder / "ipmi-admin").write_text(PASSWORD + "\n")
        (folder / "ipmi-admin").chmod(0o600)
        self.fleet: dict[str, Any] = {
            "version": 1,
            "fleet": "lab",
            "mqtt": {"url": f"mqtt://127.0.0.1:{self.mqtt_port}"},
            "gateway": {"listen": [f"127.0.0.1:{self.port}"]},
            "users": [{"name": USER, "password": {"file": "ipmi-admin"}}],
            "nodes": [self.node(number) for number in range(1, nodes + 1)],
            **settings,
        }
        self.write_fleet()
        broker = folder / "mosquitto.conf"
        broker.write_text(f"listener {self.mqtt_port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
        mosquitto = next(p for p in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto") if Path(p).exists())
        self.broker = Process("broker", folder, mosquitto, "-c", str(broker), port=self.mqtt_port)
        self.simulator = Process(
            "simulator", folder, sys.executable, "-m", "pypmi_simulator", "--boards", str(nodes),
            "--base-port", str(self.boards_port), "--no-udp", "--control", str(self.control_port),
            "--reset-pin", str(RESET_PIN), "--nmi-pin", str(NMI_PIN), port=self.control_port,
        )  # fmt: skip
        self.agent = self.service("esp8266_agent", "esp8266-agent")
        self.relay = self.service("sol_relay", "sol-relay")
        self.gateway = self.service("ipmi_gateway", "ipmi-gateway")
        self.processes = [self.broker, self.simulator, self.agent, self.relay, self.gateway]

    def service(self, module: str, name: str) -> Process:
        command = ("--config", str(self.fleet_file), "--name", name, "--state-dir", str(self.folder / "state" / name))
        return Process(name, self.folder, sys.executable, "-m", module, *command)

    def node(self, number: int) -> dict[str, Any]:
        """A node of fleet.yaml."""
        board = self.boards_port + 2 * (number - 1)
        return {
            "id": f"node{number}",
            "name": f"Lab PC {number}",
            "address": number,
            "listen": f"127.0.0.1:{self.port + number}",
            "hardware": {
                "type": "esp8266", "host": "127.0.0.1", "port": board, "poll_interval": 0.5,
                "reset_relay": {"pin": RESET_PIN}, "nmi_relay": {"pin": NMI_PIN},
            },
            "console": {"type": "esp8266", "port": board + 1},
            "mac": f"52:54:00:00:00:{number:02x}",
            "area": f"Rack {1 + number % 2}",
            "url": f"http://node{number}.lab/",
            "fru": {"manufacturer": "Acme", "product": "Box", "serial": f"LAB{number:04d}"},
        }  # fmt: skip

    def write_fleet(self) -> None:
        self.fleet_file.write_text(yaml.safe_dump(self.fleet, sort_keys=False))

    def start(self, *processes: Process) -> None:
        for process in processes or self.processes:
            process.start()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()

    # -- the boards ------------------------------------------------------------------------------------------------

    def board(self, number: int) -> dict[str, Any]:
        """All about one board and its PC."""
        return call(self.control_port, "state", board=f"node{number}")

    def boards(self) -> list[dict[str, Any]]:
        """All boards in short."""
        found: list[dict[str, Any]] = call(self.control_port, "list")["boards"]
        return found

    def control(self, number: int, op: str, **fields: Any) -> dict[str, Any]:
        return call(self.control_port, op, board=f"node{number}", **fields)

    def machine(self, number: int) -> str:
        """The truth about a machine's power."""
        power: str = self.board(number)["power"]
        return power

    def press(self, number: int, seconds: float = 0.2) -> None:
        """Somebody presses the real button."""
        self.control(number, "press", seconds=seconds)

    # -- tools -----------------------------------------------------------------------------------------------------

    def ipmitool(self, *words: str, target: int | None = 1, timeout: float = 60) -> Outcome:
        command = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.port), "-U", USER, "-P", PASSWORD]
        if target is not None:
            command += ["-t", str(target)]
        return run(*command, *words, timeout=timeout)

    def publish(self, topic: str, payload: str) -> None:
        """Publish a retained message."""
        done = run("mosquitto_pub", "-p", str(self.mqtt_port), "-r", "-t", topic, "-m", payload)
        assert done.code == 0, done.text

    def retained(self, topic: str, timeout: int = 2) -> dict[str, str]:
        """Retained messages by topic."""
        done = run(
            "mosquitto_sub", "-p", str(self.mqtt_port), "--retained-only", "-v", "-t", topic, "-W", str(timeout),
            "-F", "%t %p",
        )  # fmt: skip
        return dict(line.split(" ", 1) for line in done.out.splitlines() if " " in line)


def free_tcp_range(count: int) -> int:
    """The first of `count` free TCP ports in a row, below those that the system gives out by itself."""
    for base in range(21_000 + os.getpid() % 40 * 250, 32_000 - count, count):
        if not any(listening(base + offset) for offset in range(count)):
            return base
    raise RuntimeError("no free TCP ports")
