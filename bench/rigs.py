"""What is measured, and what it is compared with, as real processes on loopback: broker, gateway, agents, peers."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOAD = HERE / "build" / "load"
USER, PASSWORD = "admin", "secret"
SERVER_CORE, OTHER_CORE = 0, 1
"""What is measured has a core to itself, as far as the machine has two; all the rest share the other."""
PER_CHANNEL = 254
"""Targets on one channel: addresses 1 to 255 without 20h."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float = 60, pause: float = 0.02) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(pause)
    return value


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads: what utime + stime of /proc are rounded from."""
    # what clock_getcpuclockid(3) makes of a process id; Python has no call for it
    return time.clock_gettime(~pid << 3 | 2)


def memory(pid: int) -> int:
    """Resident octets that are the process's own (program files and libraries shared with others count too)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


@dataclass
class Program:
    """A process that is stopped at the end."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    health: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")

    def ready(self) -> bool:
        self.check()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


class Rig:
    """A folder and the processes that work in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[Program] = []
        self.broker_port = 0

    def start(self, name: str, *command: str, core: int = OTHER_CORE, **more: int) -> Program:
        log = self.folder / f"{name}.log"

        def settle() -> None:
            cores = os.sched_getaffinity(0)
            if core in cores and len(cores) > 1:
                os.sched_setaffinity(0, {core})

        with log.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                preexec_fn=settle,  # noqa: PLW1509 - no threads here
            )
        program = Program(process, log, **more)
        self.programs.append(program)
        return program

    def stop(self, *programs: Program) -> None:
        for program in reversed(programs or tuple(self.programs)):
            if program.process.poll() is None:
                program.process.terminate()
                try:
                    program.process.wait(20)
                except subprocess.TimeoutExpired:
                    program.process.kill()
                    program.process.wait()
            if program in self.programs:
                self.programs.remove(program)

    # -- ours ----------------------------------------------------------------------------------------------------

    def broker(self) -> Program:
        self.broker_port = free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.broker_port} 127.0.0.1\npersistence false\nallow_anonymous true\nuser root\n"
            "set_tcp_nodelay true\nmax_queued_messages 0\n"
        )
        program = self.start("mosquitto", shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config))

        def listens() -> bool:
            program.check()
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", self.broker_port)) == 0

        until(listens)
        return program

    def write_fleet(
        self,
        nodes: int,
        *,
        agents: int = 1,
        consoles: int = 0,
        homeassistant: bool = False,
        workers: int = 1,
        sensors: bool = False,
    ) -> Path:
        """fleet.yaml; nodes beyond the 12 * 254 that bridging can reach have no address."""
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o600)
        gateway_port, health = free_port(socket.SOCK_DGRAM), free_port()
        names = [f"bench-agent-{number}" for number in range(agents)]
        self.health_ports = {"ipmi-gateway": health, **{name: free_port() for name in names}}
        lines = [
            f"mqtt: {{url: 'mqtt://127.0.0.1:{self.broker_port}'}}",
            f"gateway: {{listen: ['127.0.0.1:{gateway_port}'], workers: {workers}, max_sessions_per_user: 20000}}",
            f"users: [{{name: {USER}, password: {{file: password}}}}]",
            f"homeassistant: {{enabled: {'true' if homeassistant else 'false'}}}",
            "services:",
        ]
        for name, port in self.health_ports.items():
            lines.append(f"  {name}: {{health: '127.0.0.1:{port}', log_level: warning}}")
        lines.append("nodes:")
        for number in range(nodes):
            place = self.place(number)
            where = f", channel: {place[0]}, address: {place[1]}" if place else ""
            console = ", console: {type: esp8266}" if number < consoles else ""
            lines.append(
                f"  - {{id: node-{number}, name: Machine {number}, agent: {names[number % agents]}{where},"
                f" hardware: {{type: esp8266, host: board-{number}}}{console}}}"
            )
        path = self.folder / "fleet.yaml"
        path.write_text("\n".join(lines) + "\n")
        self.gateway_port = gateway_port
        self.agent_names = names
        self.sensors = sensors
        return path

    @staticmethod
    def place(number: int) -> tuple[int, int] | None:
        """(channel, address) of a node, or None beyond what bridging can reach."""
        channel, index = divmod(number, PER_CHANNEL)
        return None if channel > 11 else (channel, index + 1 if index < 0x1F else index + 2)

    def bridge(self, nodes: int) -> str:
        """For `load --bridge`."""
        places = [self.place(number) for number in range(nodes)]
        return ",".join(f"{place[0]}:{place[1]}" for place in places if place is not None)

    def agents(self) -> list[Program]:
        """The simulated fleet: real agent runtimes with machines simulated in the process. Ready when all is said."""
        programs = []
        for name in self.agent_names:
            sensors = ["--sensors"] if self.sensors else []
            programs.append(
                self.start(
                    name, sys.executable, str(HERE / "fleet.py"), *sensors, "--config", str(self.folder / "fleet.yaml"),
                    "--name", name, "--state-dir", str(self.folder / name), health=self.health_ports[name],
                )
            )  # fmt: skip
        for program in programs:
            until(program.ready, 180)
        return programs

    def gateway(self, *, wait: bool = True) -> Program:
        program = self.start(
            "ipmi-gateway", sys.executable, "-m", "ipmi_gateway", "--config", str(self.folder / "fleet.yaml"),
            "--state-dir", str(self.folder / "gateway"), core=SERVER_CORE, port=self.gateway_port,
            health=self.health_ports["ipmi-gateway"],
        )  # fmt: skip
        if wait:
            until(program.ready, 120)
        return program

    # -- the others ----------------------------------------------------------------------------------------------

    def ipmi_sim(self) -> Program | None:
        """OpenIPMI's simulator; None where it is not installed."""
        command = shutil.which("ipmi_sim")
        if command is None:
            return None
        port = free_port(socket.SOCK_DGRAM)
        state = self.folder / "ipmi_sim"
        state.mkdir(exist_ok=True)
        (self.folder / "lan.conf").write_text(
            f'name "bench"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n'
            "    allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n"
            f'  user 2 true "{USER}" "{PASSWORD}" admin 10 none md2 md5 straight\n'
        )
        bmc = "mc_setbmc 0x20\n"
        # a second controller, so that there is something to bridge to
        for address in (0x20, 0x30):
            bmc += f"mc_add {address:#x} 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable {address:#x}\n"
        (self.folder / "sim.emu").write_text(bmc)
        program = self.start(
            "ipmi_sim", command, "-c", str(self.folder / "lan.conf"), "-f", str(self.folder / "sim.emu"),
            "-s", str(state), "-n", core=SERVER_CORE, port=port,
        )  # fmt: skip
        self._await_pong(program)
        return program

    def fakebmc(self) -> Program:
        """pyghmi's server."""
        port = free_port(socket.SOCK_DGRAM)
        program = self.start(
            "fakebmc", sys.executable, str(HERE / "fakebmc.py"), str(port), core=SERVER_CORE, port=port
        )
        self._await_pong(program)
        return program

    @staticmethod
    def _await_pong(program: Program) -> None:
        capabilities = bytes.fromhex("0600ff07000000000000000000092018c88104388e04b1")

        def answers() -> bool:
            program.check()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.2)
                try:
                    sock.connect(("127.0.0.1", program.port))
                    sock.send(capabilities)
                    return bool(sock.recv(512))
                except OSError:
                    return False

        until(answers)


@contextmanager
def rig() -> Iterator[Rig]:
    """A rig in a temporary folder; all its processes are stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pypmi-bench-"))
    made = Rig(folder)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def build_load() -> None:
    """Compile the load generator when it is not there, or older than its source."""
    source = HERE / "load.c"
    if LOAD.exists() and LOAD.stat().st_mtime >= source.stat().st_mtime:
        return
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/openssl/sha.h").exists():
        raise SystemExit(
            "make bench takes a C compiler and OpenSSL's headers: apt-get install gcc libc6-dev libssl-dev"
        )
    LOAD.parent.mkdir(exist_ok=True)
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", str(LOAD), str(source), "-lcrypto"], check=True)


def load_command(server: Program, test: str, *, suite: int, clients: int, **options: object) -> list[str]:
    """The command line of one run; `options` are the generator's, with `_` for `-`."""
    command = [
        str(LOAD), "--port", str(server.port), "--test", test, "--suite", str(suite), "--clients", str(clients),
        "--user", USER, "--password", PASSWORD,
    ]  # fmt: skip
    for pid in options.pop("pids", (server.pid,)):  # type: ignore[attr-defined]
        command += ["--pid", str(pid)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    cores = os.sched_getaffinity(0)
    return ["taskset", "-c", str(OTHER_CORE), *command] if OTHER_CORE in cores and len(cores) > 1 else command


def load(server: Program, test: str, *, suite: int, clients: int, **options: object) -> dict[str, Any]:
    """Run the load generator to its end; its report. Raises `RuntimeError` when an answer was wrong."""
    command = load_command(server, test, suite=suite, clients=clients, **options)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"load --test {test} --clients {clients}: {done.stderr}{done.stdout}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report
