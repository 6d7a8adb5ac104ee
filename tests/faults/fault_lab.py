"""A small fleet of real processes with a proxy in every line between two of them, and a view of the truth.

    ipmitool --udp-- gateway --tcp-- mosquitto --tcp-- agent --tcp-- board (simulated)
                                     mosquitto --tcp-- relay --tcp-- board's console

Node `power` is for pressing buttons, node `console` for looking at a console; both are boards with a PC behind them.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from proxy import Proxy, TcpProxy, UdpProxy, Weather
from pypmi.bus import Bus, Message
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import ContractError, PowerResult, parse_power_command
from pypmi_cli.broker import local_broker
from pypmi_cli.processes import Program, Supervisor, service_command
from pypmi_simulator.control import call
from stack import Outcome, free_tcp_port, free_udp_base, run, until

POWER, CONSOLE = "power", "console"
NODES = {POWER: 1, CONSOLE: 2}
"""Ids and bridging addresses."""
LINKS = ("client-gateway", "gateway-broker", "agent-broker", "relay-broker", "agent-board", "relay-board")
PROCESSES = ("broker", "esp8266-agent", "sol-relay", "ipmi-gateway")
SERVICES = PROCESSES[1:]
RESETS_APART = 16.0
"""Seconds."""
LIFE = 1.5 + 2.0
"""Seconds that a command from the gateway may be old when it is begun: accept_timeout and the tolerance for clocks."""

_FLEET = """\
version: 1
fleet: faults
mqtt: {{url: "mqtt://127.0.0.1:{broker}"}}
gateway: {{listen: ["127.0.0.1:{gateway}"], sol: {{public_port: {client}}}{limits}}}
users: [{{name: admin, password: {{file: password}}}}]
nodes:
  - {{id: power, name: "{name}", address: 1, hardware: {{type: esp8266, host: 127.0.0.1, port: {board1}}}}}
  - id: console
    address: 2
    hardware: {{type: esp8266, host: 127.0.0.1, port: {board2}}}
    console: {{type: esp8266, host: 127.0.0.1, port: {bridge2}}}
"""


class _Supervisor(Supervisor):
    """Starts a program again as if it had run for long: here each ends many times a minute, in life it does not."""

    healthy_after = 0.0


class Lab:
    """Started by the constructor, ended by `stop`. Methods are for the test's thread; proxies live in one of their own.

    Args:
        folder: for configuration, state and logs.
        seed: of all the proxies' chances.
        limits: more settings of the gateway, as text of a YAML flow mapping.
    """

    def __init__(self, folder: Path, seed: int = 1, limits: str = "") -> None:
        self.folder = folder
        self._limits = f", {limits}" if limits else ""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="lab", daemon=True)
        self._thread.start()
        self._rng = random.Random(seed)
        self.presses_asked: list[tuple[float, str]] = []
        """Each power command that was sent: when (monotonic), and which."""
        self.issued: list[float] = []
        """When the gateway sent commands to the power node (monotonic): later than asked, where ipmitool is slow."""
        self.retained: dict[str, bytes] = {}
        """What the broker holds, as an observer of ours sees it; empty while that one has no connection."""
        self.results: dict[str, list[PowerResult]] = {}
        """By command id, what was said on power/result."""
        self.name = "first"
        self._reset_at = float("-inf")
        self._ended: dict[str, datetime] = {}
        """By service, when it was last told to end, or killed: what it said before is old."""
        self._start()

    # -- set-up ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        folder = self.folder
        broker_port, self.udp_port = free_tcp_port(), free_udp_base(1)
        self.broker_port = broker_port
        simulator_ready = folder / "simulator.json"
        simulator = service_command(
            "pypmi_simulator", "--boards", "2", "--no-udp", "--console", "sh", "--powered",
            "--control", "0", "--ready-file", str(simulator_ready),
        )  # fmt: skip
        broker, _ = local_broker(broker_port, folder)
        self._run(self._supervise(Program("simulator", simulator, log=folder / "simulator.log")))
        until(simulator_ready.exists, 30, "simulator ready")
        ready = json.loads(simulator_ready.read_text())
        self._control = ready["control"]["port"]
        boards = ready["boards"]
        self.proxies: dict[str, list[Proxy]] = {
            "client-gateway": [UdpProxy(self.udp_port, self._rng)],
            "gateway-broker": [TcpProxy(broker_port, self._rng)],
            "agent-broker": [TcpProxy(broker_port, self._rng)],
            "relay-broker": [TcpProxy(broker_port, self._rng)],
            "agent-board": [TcpProxy(board["port"], self._rng) for board in boards],
            "relay-board": [TcpProxy(boards[1]["bridge_port"], self._rng)],
        }
        for proxy in self._all_proxies():
            self._run(proxy.open())
        (folder / "password").write_text("changeme")
        (folder / "password").chmod(0o600)
        self.write_fleet()
        lines = {"esp8266-agent": "agent", "sol-relay": "relay", "ipmi-gateway": "gateway"}
        modules = {"esp8266-agent": "esp8266_agent", "sol-relay": "sol_relay", "ipmi-gateway": "ipmi_gateway"}
        programs = [broker]
        for service in SERVICES:
            (folder / service).mkdir(exist_ok=True)
            command = service_command(
                modules[service], "--config", str(folder / "fleet.yaml"), "--state-dir", str(folder / service)
            )
            port = self.proxies[f"{lines[service]}-broker"][0].port
            programs.append(
                Program(
                    service,
                    command,
                    {"PYPMI_MQTT_URL": f"mqtt://127.0.0.1:{port}", "PYTHONHASHSEED": "0"},
                    folder / f"{service}.log",
                )
            )
        self._run(self._supervise(*programs))
        self._bus_task = asyncio.run_coroutine_threadsafe(self._observe(), self.loop)
        self.wait_whole(60)

    def _all_proxies(self) -> list[Proxy]:
        return [proxy for proxies in self.proxies.values() for proxy in proxies]

    def _run(self, work: Coroutine[Any, Any, Any], timeout: float = 30) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    async def _supervise(self, *programs: Program) -> None:
        if not hasattr(self, "_supervisors"):
            self._supervisors: list[tuple[Supervisor, asyncio.Task[None]]] = []
        supervisor = _Supervisor(programs)
        self._supervisors.append((supervisor, asyncio.create_task(supervisor.run())))

    def write_fleet(self) -> None:
        """Write fleet.yaml; the power node's name is `self.name`."""
        boards = [proxy.port for proxy in self.proxies["agent-board"]]
        text = _FLEET.format(
            broker=self.broker_port, gateway=self.udp_port,
            client=self.proxies["client-gateway"][0].port, board1=boards[0], board2=boards[1],
            bridge2=self.proxies["relay-board"][0].port, name=self.name, limits=self._limits,
        )  # fmt: skip
        part = self.folder / "fleet.part"
        part.write_text(text)
        part.replace(self.folder / "fleet.yaml")

    def stop(self) -> None:
        """End all that was started."""

        async def end() -> None:
            for _, task in reversed(self._supervisors):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            for proxy in self._all_proxies():
                await proxy.close()

        self._bus_task.cancel()
        self._run(end(), 60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)

    # -- faults ----------------------------------------------------------------------------------------------------

    def weather(self, link: str, weather: Weather) -> None:
        """Spoil a line from now on."""
        for proxy in self.proxies[link]:
            self._run(proxy.set(weather))

    def space_resets(self) -> None:
        """Wait until another reset of the boards' connections is none too many.

        Three within 30 s without a restart mean to the agent that another program takes its boards, which it says and
        waits for: a fault of its own, tested with the agent.
        """
        wait = self._reset_at + RESETS_APART - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._reset_at = time.monotonic()

    def drop_connections(self, link: str) -> None:
        """Reset what is connected by a line now."""
        for proxy in self.proxies[link]:
            self.loop.call_soon_threadsafe(proxy.reset)

    def pid(self, process: str) -> int | None:
        """Its process id, while it runs."""
        for supervisor, _ in self._supervisors:
            if (pid := supervisor.pid(process)) is not None:
                return pid
        return None

    def signal(self, process: str, number: signal.Signals) -> None:
        """Send a signal to a process; it runs."""
        pid = until(lambda: self.pid(process), 20, f"{process} runs")
        if number in {signal.SIGKILL, signal.SIGTERM}:
            self._ended[process] = datetime.now(UTC)
        os.kill(pid, number)

    def simulator(self, op: str, node: str, **fields: Any) -> dict[str, Any]:
        """Do something to a board, or look at it."""
        return call(self._control, op, board=NODES[node], **fields)

    # -- what is asked of the fleet ----------------------------------------------------------------------------------

    def ipmitool_command(self, *words: str, target: int = 1) -> list[str]:
        """How ipmitool is called, through the client's proxy."""
        port = self.proxies["client-gateway"][0].port
        return [
            "ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(port), "-U", "admin", "-P", "changeme",
            "-t", str(target), *words,
        ]  # fmt: skip

    def ipmitool(self, *words: str, target: int = 1) -> Outcome:
        """Run ipmitool."""
        return run(*self.ipmitool_command(*words, target=target), timeout=90)

    def power_command(self, action: str) -> Outcome:
        """Ask for a power action."""
        self.presses_asked.append((time.monotonic(), action))
        return self.ipmitool("power", action)

    # -- the truth ---------------------------------------------------------------------------------------------------

    async def _observe(self) -> None:
        bus = Bus(MqttSettings(url=f"mqtt://127.0.0.1:{self.broker_port}"), "faults-observer")
        bus.subscribe("#", self._on_message)
        bus.on_disconnected(lambda _: self.retained.clear())
        await bus.run()

    def _on_message(self, message: Message) -> None:
        if message.topic.endswith("/power/result"):
            with contextlib.suppress(ContractError):
                result = PowerResult.from_payload(message.payload)
                self.results.setdefault(result.id, []).append(result)
        elif message.topic == f"nodes/{POWER}/power/set":
            with contextlib.suppress(ContractError):
                command = parse_power_command(message.payload)
                if command.issued_at is not None:
                    age = (datetime.now(UTC) - command.issued_at).total_seconds()
                    self.issued.append(time.monotonic() - age)
        else:
            self.retained[message.topic] = message.payload

    def said(self, topic: str) -> Any:
        """A retained JSON payload; {} when there is none."""
        payload = self.retained.get(topic)
        return json.loads(payload) if payload else {}

    def is_on(self, node: str) -> bool:
        """What the machine is in truth."""
        return self.simulator("state", node)["power"] == "on"

    def ailments(self, *, idle: bool = True) -> str:
        """What is not whole; empty when all is. `idle`: a node that is still carrying out a command is not."""
        for service in SERVICES:
            if self.retained.get(f"services/{service}/availability") != b"online":
                return f"{service} is not online"
            ended = self._ended.get(service)
            started = self.said(f"services/{service}/info").get("started")
            if ended is not None and (started is None or datetime.fromisoformat(started) < ended):
                return f"{service} has not come back: its last will is still waiting"
        for node in NODES:
            if self.retained.get(f"nodes/{node}/availability") != b"online":
                return f"{node} is not online"
            state = self.said(f"nodes/{node}/state")
            truth = "on" if self.is_on(node) else "off"
            if state.get("power") != truth:
                return f"state of {node} says {state.get('power')}, it is {truth}"
            if idle and (state.get("action") is not None or state.get("target") is not None):
                return f"{node} is busy: {state}"
            if self.said(f"nodes/{node}/info").get("name") != (self.name if node == POWER else node):
                return f"info of {node} is old"
        if self.said(f"nodes/{CONSOLE}/sol/state").get("online") is not True:
            return "the console is not online"
        return ""

    def answers(self) -> str:
        """What is wrong with the answer to a login and a power status; empty when nothing is."""
        for node, address in NODES.items():
            done = self.ipmitool("-N", "1", "-R", "2", "power", "status", target=address)
            truth = "on" if self.is_on(node) else "off"
            if f"Chassis Power is {truth}" not in done.out:
                return f"ipmitool says of {node}: {done.text.strip()!r}, it is {truth}"
        # All the way to the board's agent and back: what is retained looks well while the agent is not there.
        # It asks for what is, so nothing is pressed, and of the node that nobody else switches.
        done = self.ipmitool("-N", "1", "-R", "2", "power", "on", target=NODES[CONSOLE])
        return f"a power command is answered with {done.text.strip()!r}" if done.code else ""

    def wait_whole(self, timeout: float, *, idle: bool = True) -> float:
        """Wait until retained state and answers are right; returns the seconds it took.

        `idle`: a command that was under way must have ended too. One whose press was broken off ends when the machine
        has had its time to follow (`off_grace`, 10 s): that is patience, not damage.
        """
        started = time.monotonic()
        why = ""

        def whole() -> bool:
            nonlocal why
            why = self.ailments(idle=idle) or self.answers()
            return not why

        try:
            until(whole, timeout)
        except AssertionError:
            raise AssertionError(f"not whole within {timeout} s: {why}") from None
        return time.monotonic() - started

    def presses(self) -> list[dict[str, Any]]:
        """The relay's presses on the power node's buttons since the start: start (monotonic), duration, button."""
        found: list[dict[str, Any]] = self.simulator("presses", POWER)["presses"]
        return found

    def transitions(self, node: str) -> list[str]:
        """`on` and `off`, as the machine went through them."""
        events = self.simulator("state", node)["events"]
        return [event["what"] for event in events if event["what"] in {"on", "off"}]

    def journal(self) -> list[tuple[str, str, str]]:
        """(id, action, status) of the agent's journal, of a copy: the agent holds the file."""
        copy = self.folder / "copy.sqlite3"
        source = self.folder / "esp8266-agent" / "journal.sqlite3"
        for tail in ("-wal", ""):
            with contextlib.suppress(FileNotFoundError):
                copy.with_name(copy.name + tail).write_bytes(source.with_name(source.name + tail).read_bytes())
        with contextlib.closing(sqlite3.connect(copy)) as database:
            rows = database.execute("SELECT id, action, status FROM commands WHERE node = ? ORDER BY seq", (POWER,))
            return [(str(row[0]), str(row[1]), str(row[2])) for row in rows]

    def event_log(self, node: str) -> list[str]:
        """`on` and `off`, as the system event log tells them."""
        lines = self.ipmitool("sel", "elist", target=NODES[node]).out.splitlines()
        return [
            "on" if "S0/G0" in line else "off" for line in lines if "System ACPI Power State" in line
        ]  # fmt: skip


def make_lab(folder: Path, seed: int, limits: str = "") -> Lab:
    """A lab, or the ends of its logs in an error."""
    try:
        return Lab(folder, seed, limits)
    except AssertionError as error:
        tails = [f"--- {log.name}\n{log.read_text()[-800:]}" for log in sorted(folder.glob("*.log"))]
        raise AssertionError(f"{error}\n" + "\n".join(tails)) from None
