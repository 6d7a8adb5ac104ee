"""The demo: broker, gateway, agent, console relay and simulated boards on this machine, ready for ipmitool.

Everything is the real program, started as a child process; only the boards and the machines behind them are
simulated, at their wire.
"""

import asyncio
import contextlib
import json
import logging
import random
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pypmi.bus import Bus
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import Topics
from pypmi.view import FleetView

from pypmi_cli.broker import local_broker
from pypmi_cli.processes import Program, Supervisor, service_command

logger = logging.getLogger(__name__)

USER = "admin"
PASSWORD = "changeme"  # noqa: S105 - the demo's own, on loopback; refused elsewhere
HOST = "127.0.0.1"
READY_SECONDS = 60.0
NMI_PIN = 12
"""GPIO of the boards' second relay, which is on the NMI button."""
PORT_BLOCK = 50
"""TCP ports of simulated boards are taken in blocks of so many."""
MAX_BRIDGED = 254
"""Targets on one channel."""


class DemoError(Exception):
    """The demo can't start; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `pypmi demo` takes."""

    nodes: int = 4
    port: int = 6230
    mqtt_port: int | None = None
    """None: 1883 if it is free, else another."""
    state_dir: Path | None = None
    """None: a temporary folder that is removed at the end."""
    ready_file: Path | None = None
    embedded_broker: bool = False


@dataclass(frozen=True, slots=True)
class _Layout:
    """Ports and files of one demo."""

    folder: Path
    gateway_port: int
    mqtt_port: int
    board_port: int
    health_port: int
    protocol: str
    nodes: int

    def node_id(self, number: int) -> str:
        return f"node{number}"

    def place(self, number: int) -> tuple[int, int]:
        """(channel, address) of the node with this number from 1: addresses 1-255 without 32, then the next channel."""
        channel, index = divmod(number - 1, MAX_BRIDGED)
        address = index + 1
        return channel, address if address < 0x20 else address + 1

    def direct_port(self, number: int) -> int:
        return self.gateway_port + number


async def run_demo(options: DemoOptions) -> None:
    """Run until SIGINT or SIGTERM. Raises `DemoError`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    started = time.monotonic()
    with (
        _state_folder(options.state_dir) as folder,
        port_range(2 * options.nodes) as board_port,
        contextlib.suppress(asyncio.CancelledError),
    ):
        mqtt_port = options.mqtt_port or pick_port(1883, socket.SOCK_STREAM)
        broker, protocol = local_broker(mqtt_port, folder, embedded=options.embedded_broker)
        layout = _Layout(
            folder=folder,
            gateway_port=options.port,
            mqtt_port=mqtt_port,
            board_port=board_port,
            health_port=pick_port(0, socket.SOCK_STREAM),
            protocol=protocol,
            nodes=options.nodes,
        )
        check_ports(layout)
        write_fleet(layout)
        supervisor = Supervisor(make_programs(layout, broker))
        running = asyncio.create_task(supervisor.run())
        ready = asyncio.create_task(wait_ready(layout, supervisor))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await ready
                announce(layout, time.monotonic() - started)
                if options.ready_file is not None:
                    write_ready_file(options.ready_file, layout)
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ready, running, stopping):
                task.cancel()
            await asyncio.gather(ready, running, stopping, return_exceptions=True)
            if options.ready_file is not None:
                options.ready_file.unlink(missing_ok=True)
    print("demo stopped")


@contextlib.contextmanager
def _state_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="pypmi-demo-", ignore_cleanup_errors=True) as name:
            yield Path(name)


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
        return True


def pick_port(wanted: int, kind: socket.SocketKind) -> int:
    """`wanted` if it is free on the loopback address (0: any), else a free port."""
    if wanted and _is_free(wanted, kind):
        return wanted
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def port_range(count: int) -> Iterator[int]:
    """The first of `count` free TCP ports in a row, below those that the system gives out by itself.

    While the block runs no other demo takes them: two simulators on the same ports would get each other's agents. The
    range is chosen at random, and the first port of each block of it is held in UDP, where nothing of ours listens.
    """
    bases = list(range(20_000, 32_000 - count, PORT_BLOCK))
    random.shuffle(bases)
    for base in bases:
        with contextlib.ExitStack() as locks:
            try:
                for place in range(base, base + count, PORT_BLOCK):
                    locks.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((HOST, place))
            except OSError:
                continue
            if all(_is_free(base + offset, socket.SOCK_STREAM) for offset in range(count)):
                yield base
                return
    raise DemoError(f"no {count} free TCP ports in a row between 20000 and 32000; try fewer --nodes")


def check_ports(layout: _Layout) -> None:
    """Raise `DemoError` where a port the user chose, or those behind it, can't be had."""
    for number in range(layout.nodes + 1):
        port = layout.gateway_port + number
        if port > 65_535 or not _is_free(port, socket.SOCK_DGRAM):
            what = "the gateway" if number == 0 else f"node{number}'s own port"
            raise DemoError(f"UDP port {port} ({what}) is in use; is another demo running? choose another --port")
    if not _is_free(layout.mqtt_port, socket.SOCK_STREAM):
        raise DemoError(f"TCP port {layout.mqtt_port} (MQTT) is in use; choose another --mqtt-port, or leave it out")


def write_fleet(layout: _Layout) -> None:
    """Write fleet.yaml and the password file into the demo's folder."""
    password = layout.folder / "ipmi-admin"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    nodes: list[dict[str, Any]] = []
    for number in range(1, layout.nodes + 1):
        channel, address = layout.place(number)
        nodes.append(
            {
                "id": layout.node_id(number),
                "name": f"Demo PC {number}",
                "channel": channel,
                "address": address,
                "listen": f"{HOST}:{layout.direct_port(number)}",
                "hardware": {
                    "type": "esp8266",
                    "host": HOST,
                    "port": layout.board_port + 2 * (number - 1),
                    "nmi_relay": {"pin": NMI_PIN},
                },
                # the board's bridge is on its port 23 as on a real one; here the simulator listens for it elsewhere
                "console": {"type": "esp8266", "port": layout.board_port + 2 * (number - 1) + 1},
                "mac": f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}",
                "fru": {
                    "manufacturer": "pypmi demo",
                    "product": "Simulated PC",
                    "serial": f"DEMO{number:04d}",
                    "asset_tag": f"demo-{number}",
                },
            }
        )
    fleet = {
        "version": 1,
        "fleet": "demo",
        "mqtt": {"url": f"mqtt://{HOST}:{layout.mqtt_port}", "protocol": layout.protocol},
        "gateway": {"listen": [f"{HOST}:{layout.gateway_port}"]},
        "users": [{"name": USER, "password": {"file": "ipmi-admin"}}],
        "services": {"ipmi-gateway": {"health": f"{HOST}:{layout.health_port}"}},
        "nodes": nodes,
    }
    (layout.folder / "fleet.yaml").write_text(yaml.safe_dump(fleet, sort_keys=False))


def make_programs(layout: _Layout, broker: Program) -> tuple[Program, ...]:
    """The programs of the demo, in the order they are started."""

    def service(module: str, name: str) -> Program:
        command = service_command(
            module, "--config", str(layout.folder / "fleet.yaml"), "--state-dir", str(layout.folder / name)
        )
        return Program(name, command, log=layout.folder / f"{name}.log")

    simulator = service_command(
        "pypmi_simulator", "--boards", str(layout.nodes), "--base-port", str(layout.board_port), "--no-udp",
        "--nmi-pin", str(NMI_PIN),
    )  # fmt: skip
    return (
        broker,
        Program("simulator", simulator, log=layout.folder / "simulator.log"),
        service("esp8266_agent", "esp8266-agent"),
        service("sol_relay", "sol-relay"),
        service("ipmi_gateway", "ipmi-gateway"),
    )


async def wait_ready(layout: _Layout, supervisor: Supervisor) -> None:
    """Return when every node is available on the bus and the gateway serves. Raises `DemoError` with the reason."""
    bus = Bus(MqttSettings(url=f"mqtt://{HOST}:{layout.mqtt_port}", protocol=layout.protocol), "pypmi-demo")
    view = FleetView(bus, Topics())
    logging.getLogger("pypmi.bus").setLevel(logging.ERROR)  # the broker may still be starting
    connecting = asyncio.create_task(bus.run())
    try:
        async with asyncio.timeout(READY_SECONDS):
            await _until(lambda: all(_usable(view, layout.node_id(n)) for n in range(1, layout.nodes + 1)))
            while not await _serves(layout.health_port):
                await asyncio.sleep(0.05)
    except TimeoutError:
        ended = "; ".join(f"{name} ended with {what}" for name, what in supervisor.failures.items())
        logs = _tails(layout.folder)
        raise DemoError(f"not ready within {READY_SECONDS:.0f} s. {ended}\n{logs}") from None
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


def _usable(view: FleetView, node_id: str) -> bool:
    node = view.nodes.get(node_id)
    return node is not None and node.available and node.state is not None and node.console is not None


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


async def _serves(health_port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, health_port)
    except OSError:
        return False
    try:
        writer.write(f"GET /readyz HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        await writer.drain()
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


def _tails(folder: Path) -> str:
    """The ends of the logs, for an error message."""
    lines: list[str] = []
    for log in sorted(folder.glob("*.log")):
        tail = log.read_text(errors="replace").splitlines()[-5:]
        lines += [f"--- {log.name}", *tail]
    return "\n".join(lines)


def write_ready_file(path: Path, layout: _Layout) -> None:
    """Write what a program needs to know to use the demo; whole, by renaming it into place."""
    numbers = range(1, layout.nodes + 1)
    content = {
        "gateway": {"host": HOST, "port": layout.gateway_port},
        "user": USER,
        "password": PASSWORD,
        "mqtt": {"host": HOST, "port": layout.mqtt_port},
        "nodes": [
            {
                "id": layout.node_id(number),
                "channel": layout.place(number)[0],
                "address": layout.place(number)[1],
                "port": layout.direct_port(number),
            }
            for number in numbers
        ],
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(path)


def announce(layout: _Layout, seconds: float) -> None:
    """Say that the demo is ready, and what to try."""
    tool = f"ipmitool -I lanplus -H {HOST} -p {layout.gateway_port} -U {USER} -P {PASSWORD}"
    direct = f"ipmitool -I lanplus -H {HOST} -p {layout.direct_port(1)} -U {USER} -P {PASSWORD}"
    pypmi = f"{sys.argv[0]} --mqtt mqtt://{HOST}:{layout.mqtt_port}"
    broker = "mosquitto" if layout.protocol == "5" else "built-in broker, MQTT 3.1.1"
    print(
        f"""
pypmi demo is ready after {seconds:.1f} s: {layout.nodes} simulated PCs behind one gateway.

  gateway   {HOST}:{layout.gateway_port} (UDP), user {USER}, password {PASSWORD}
  broker    {HOST}:{layout.mqtt_port} ({broker})
  files     {layout.folder} (fleet.yaml, logs)

Try in another terminal:

  {tool} -t 1 power status
  {tool} -t 1 power on
  {tool} -t 1 sol activate        # leave with ~.
  {direct} power status           # node1's own port, no -t
  {pypmi} watch                   # the fleet, live
  mosquitto_sub -p {layout.mqtt_port} -v -t 'nodes/#'
  mosquitto_pub -p {layout.mqtt_port} -t nodes/node2/power/set -m on

Ctrl-C stops it all.
""",
        flush=True,
    )


def main(options: DemoOptions) -> int:
    """Run the demo; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        asyncio.run(run_demo(options))
    except DemoError as error:
        print(f"pypmi demo: {error}", file=sys.stderr)
        return 1
    return 0
