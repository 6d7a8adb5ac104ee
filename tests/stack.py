"""The demo as a test's fleet: real processes, real broker, simulated boards, driven by real tools."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PYPMI = (sys.executable, "-m", "pypmi_cli")


def free_udp_base(count: int) -> int:
    """The first of `count` UDP ports in a row that are free now, apart from those of parallel test runs."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    start = 32_800 - 12_000 + int(worker or 0) * 1500 + (os.getpid() % 20) * 70
    for base in range(start, 32_000, count + 1):
        sockets = []
        try:
            for offset in range(count):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sockets.append(sock)
                sock.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        else:
            return base
        finally:
            for sock in sockets:
                sock.close()
    raise RuntimeError("no free UDP ports")


def free_tcp_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def until(condition: Callable[[], Any], timeout: float = 20, what: str = "") -> Any:
    """Wait for a condition to hold; return what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.05)


@dataclass
class Outcome:
    """What a tool said."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def text(self) -> str:
        return self.out + self.err


def run(*command: str, timeout: float = 30, stdin: str | None = None) -> Outcome:
    """Run a program to its end."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, input=stdin, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


class Demo:
    """A running `pypmi demo`."""

    def __init__(self, folder: Path, *, nodes: int = 4, extra: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.port = free_udp_base(nodes + 1)
        self.mqtt_port = free_tcp_port()
        self.ready_file = folder / "ready.json"
        self.output = folder / "demo.out"
        command = [
            *PYPMI, "demo", "--nodes", str(nodes), "--port", str(self.port), "--mqtt-port", str(self.mqtt_port),
            "--state-dir", str(folder), "--ready-file", str(self.ready_file), *extra,
        ]  # fmt: skip
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            until(lambda: self.ready_file.exists() or self.process.poll() is not None, 90, "demo ready")
        except AssertionError:
            self.stop()
            raise
        if not self.ready_file.exists():
            raise RuntimeError(self.output.read_text())
        self.ready = json.loads(self.ready_file.read_text())
        self._forget_sensors()

    def _forget_sensors(self) -> None:
        """FreeIPMI knows a BMC by host and port, and an earlier demo's ports may come again."""
        if have("ipmi-sensors"):
            for port in {self.port, *(node["port"] for node in self.ready["nodes"] if node["port"])}:
                run("ipmi-sensors", "-h", f"127.0.0.1:{port}", "--flush-cache")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.process.returncode

    def ipmitool(
        self,
        *words: str,
        target: int | None = 1,
        user: str = "admin",
        password: str = "changeme",
        port: int | None = None,
        options: tuple[str, ...] = (),
        timeout: float = 60,
    ) -> Outcome:
        """Run ipmitool against the gateway, bridged to `target` unless that is None."""
        command = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(port or self.port), "-U", user]
        command += ["-P", password, *options]
        if target is not None:
            command += ["-t", str(target)]
        return run(*command, *words, timeout=timeout)

    def power(self, target: int = 1) -> str:
        """`on` or `off`, or the tool's complaint."""
        done = self.ipmitool("power", "status", target=target)
        return done.out.split()[-1] if done.code == 0 else done.text

    def wait_power(self, wanted: str, target: int = 1, timeout: float = 30) -> None:
        until(lambda: self.power(target) == wanted, timeout, f"target {target} {wanted}")

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until no machine is on its way to another state, so that none is busy."""
        nodes = len(self.ready["nodes"])

        def idle() -> bool:
            states = [json.loads(line.split(" ", 1)[1]) for line in self.mosquitto_sub("nodes/+/state", count=nodes)]
            return len(states) == nodes and all(state.get("target") is None for state in states)

        until(idle, timeout, "every machine to come to rest")

    def pids(self, module: str) -> list[int]:
        """Process ids of one of the demo's programs, by its module or program name."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent == self.process.pid and any(module in word.decode(errors="replace") for word in words[:3]):
                found.append(int(entry.name))
        return found

    def mosquitto_sub(self, topic: str, *, count: int = 1, timeout: int = 10) -> list[str]:
        """Messages as `topic payload` lines."""
        done = run(
            "mosquitto_sub", "-p", str(self.mqtt_port), "-v", "-t", topic, "-C", str(count), "-W", str(timeout)
        )  # fmt: skip
        return done.out.splitlines()

    def publish(self, topic: str, payload: str, *extra: str) -> None:
        done = run("mosquitto_pub", "-p", str(self.mqtt_port), "-t", topic, "-m", payload, *extra)
        assert done.code == 0, done.text


def have(*programs: str) -> bool:
    """Whether all these programs are installed."""
    return all(shutil.which(program) for program in programs)
