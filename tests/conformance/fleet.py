"""A pypmi fleet for the suite to run against: real services and a real broker, simulated boards and machines.

    ipmitool ... -- gateways -- mosquitto -- agents -- 4 simulated boards, and a machine with sensors

Two gateways serve it: one with the accounts, addresses and ports that the suite has cases for, one with a BMC key.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from pypmi_cli.broker import local_broker
from pypmi_cli.processes import Program, service_command
from pypmi_simulator.control import call
from stack import free_tcp_port, free_udp_base, run, until

from .bmc import Account, Bmc

HOST = "127.0.0.1"
ADMIN = Account("admin", "changeme")
OPERATOR = Account("operator", "op-secret", 3)
VIEWER = Account("viewer", "view-secret", 2)
LIMITED = Account("limited", "lim-secret", 3)
LONG = Account("long", "twenty octets of pw!")
KG = b"a key of 20 octets.."
TARGET, OTHER, ODD, FAR, INSTRUMENTS = (0, 0x30), (0, 0x32), (0, 0x31), (7, 0x40), (0, 0x34)
NODES: Final = {"target": TARGET, "other": OTHER, "odd": ODD, "far": FAR, "instruments": INSTRUMENTS}
NMI_PIN = 12
_ACCOUNTS = "suite3 suite17 operator viewer limited long nokg loopback"
_PLAIN = "suite3 suite17 direct freeipmi"
_MACHINE = "power presses diag sel sol"
WAYS: Final = {
    "bridged": frozenset(f"{_ACCOUNTS} {_MACHINE} bridging dual other far odd".split()),
    "direct": frozenset(f"{_ACCOUNTS} {_MACHINE} direct freeipmi".split()),
    "gateway": frozenset(f"{_PLAIN} nokg sel".split()),
    "instruments": frozenset(f"{_PLAIN} nokg sel power identify sensors watts".split()),
    "kg": frozenset(f"{_PLAIN} kg loopback".split()),
}
"""What the fleet's BMCs have, by the way in which they are reached."""


def can_use_623() -> bool:
    """Whether this process may bind the standard port, on a loopback address that nobody else uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((_address623(), 623))
        except OSError:
            return False
        return True


def _address623() -> str:
    """One for each test process: the port can't be chosen."""
    pid = os.getpid()
    return f"127.6.{pid >> 8 & 0xFF}.{pid & 0xFF or 1}"


class Fleet:
    """Started by the constructor, ended by `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: list[subprocess.Popen[bytes]] = []
        self.port = free_udp_base(3 + len(NODES))
        self.kg_port = self.port + 1
        self.own_ports = {name: self.port + 2 + number for number, name in enumerate(NODES)}
        self.address623 = _address623() if can_use_623() else ""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        folder, mqtt = self.folder, free_tcp_port()
        self._mqtt, self._health = mqtt, [free_tcp_port(), free_tcp_port()]
        ready_file = folder / "simulator.json"
        simulator = service_command(
            "pypmi_simulator", "--boards", "4", "--no-udp", "--console", "sh", "--control", "0",
            "--nmi-pin", str(NMI_PIN), "--ready-file", str(ready_file),
        )  # fmt: skip
        self._run("simulator", simulator)
        broker, protocol = local_broker(mqtt, folder)
        self._run_program(broker)
        until(ready_file.exists, 30, "simulator ready")
        ready = json.loads(ready_file.read_text())
        self._control = ready["control"]["port"]
        boards = dict(zip(("target", "other", "odd", "far"), ready["boards"], strict=True))
        self._write("fleet.yaml", mqtt, protocol, boards)
        self._write("kg.yaml", mqtt, protocol, boards, kg=True)
        for module, name, config in (
            ("esp8266_agent", "esp8266-agent", "fleet"),
            ("sol_relay", "sol-relay", "fleet"),
            ("instruments", "rpi-gpio-agent", "fleet"),
            ("ipmi_gateway", "ipmi-gateway", "fleet"),
            ("ipmi_gateway", "ipmi-gateway-kg", "kg"),
        ):
            command = (
                (sys.executable, str(Path(__file__).with_name("instruments.py")))
                if module == "instruments"
                else service_command(module)
            )
            arguments = ("--name", name, "--config", f"{folder}/{config}.yaml", "--state-dir", f"{folder}/{name}")
            self._run(name, (*command, *arguments))
        until(self._ready, 60, "all nodes ready")

    def _ready(self) -> bool:
        return all(_healthy(port) for port in self._health) and all(
            _answers(self.bmc(way)) for way in ("direct", "instruments", "kg")
        )

    def _run(self, name: str, command: tuple[str, ...]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._programs.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            )

    def _run_program(self, program: Program) -> None:
        self._run(program.name, tuple(program.command))

    def _write(self, name: str, mqtt: int, protocol: str, boards: dict[str, Any], *, kg: bool = False) -> None:
        nodes = []
        for node, (channel, address) in NODES.items():
            entry: dict[str, Any] = {
                "id": node,
                "channel": channel,
                "address": address,
                "fru": {"manufacturer": "Acme", "product": "Anvil", "serial": f"SN-{node}", "asset_tag": node},
            }
            board = boards.get(node)
            if board is None:
                entry["hardware"] = {
                    "type": "gpio",
                    "power_button": {"line": 17},
                    "identify_led": {"line": 22},
                }
            else:
                entry["hardware"] = {
                    "type": "esp8266",
                    "host": HOST,
                    "port": board["port"],
                    "nmi_relay": {"pin": NMI_PIN},
                }
                entry["console"] = {"type": "esp8266", "port": board["bridge_port"]}
            if not kg:
                entry["listen"] = f"{HOST}:{self.own_ports[node]}"
            nodes.append(entry)
        users = []
        for account in (ADMIN, OPERATOR, VIEWER, LIMITED, LONG):
            secret = self.folder / f"password-{account.name}"
            secret.write_text(account.password)
            secret.chmod(0o600)
            level = {2: "user", 3: "operator", 4: "administrator"}[account.privilege]
            reach = ["other"] if account is LIMITED else ["*"]
            users.append({"name": account.name, "password": {"file": secret.name}, "privilege": level, "nodes": reach})
        gateway: dict[str, Any] = {"listen": [f"{HOST}:{self.kg_port if kg else self.port}"]}
        if kg:
            (self.folder / "kg").write_text("0x" + KG.hex())
            (self.folder / "kg").chmod(0o600)
            gateway["kg"] = {"file": "kg"}
        elif self.address623:
            gateway["listen"].append(f"{self.address623}:623")
        service = "ipmi-gateway-kg" if kg else "ipmi-gateway"
        fleet = {
            "version": 1,
            "fleet": "conformance-kg" if kg else "conformance",
            "mqtt": {"url": f"mqtt://{HOST}:{mqtt}", "protocol": protocol},
            "gateway": gateway,
            "users": users,
            "services": {service: {"health": f"{HOST}:{self._health[kg]}"}},
            "nodes": nodes,
        }
        (self.folder / name).write_text(yaml.safe_dump(fleet, sort_keys=False))

    def stop(self) -> None:
        """End all that was started."""
        for process in reversed(self._programs):
            process.send_signal(signal.SIGTERM)
        for process in self._programs:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def presses(self) -> int:
        """How often the button of the target's machine was pressed, once all that was asked for is done."""
        until(self._idle, 30, "an end of what the agent does")
        answer = call(self._control, "presses", board=1)
        return sum(1 for press in answer["presses"] if press["button"] == "power")

    def _idle(self) -> bool:
        state = run("mosquitto_sub", "-p", str(self._mqtt), "-t", "nodes/target/state", "-C", "1", "-W", "5").out
        return json.loads(state)["target"] is None and not call(self._control, "state", board=1)["relay_closed"]

    def bmc(self, way: str) -> Bmc:
        """The fleet as one of `WAYS` shows it."""
        words = WAYS[way] | ({"port623"} if self.address623 and way == "direct" else set())
        target = TARGET[1] if way == "bridged" else None
        port = {
            "bridged": self.port,
            "gateway": self.port,
            "kg": self.kg_port,
            "direct": self.own_ports["target"],
            "instruments": self.own_ports["instruments"],
        }[way]
        cache = self.folder / f"cache-{way}"
        cache.mkdir(exist_ok=True)
        return Bmc(
            HOST,
            port,
            ADMIN,
            operator=OPERATOR,
            viewer=VIEWER,
            limited=LIMITED,
            long=LONG,
            kg=KG if way == "kg" else b"",
            target=target,
            channel=TARGET[0],
            other=OTHER,
            far=FAR,
            odd=ODD,
            port623=self.address623,
            presses=self.presses if "presses" in words else None,
            capabilities=words,
            timeout=5.0,
            folder=str(cache),
        )


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _answers(bmc: Bmc) -> bool:
    """Whether the machine behind it tells its power state."""
    try:
        return bmc.console().code(0, 1) == 0
    except Exception:  # noqa: BLE001 - not yet
        return False
    finally:
        bmc.release()
