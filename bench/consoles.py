"""Many consoles at full output through one relay: CPU of the relay, losses, echo latency.

Starts Mosquitto, `sol-relay`, a generator (machines that print a known pattern at the line's speed) and a viewer that
checks every octet, each in a process of its own. Prints one JSON object.

    python bench/consoles.py --consoles 250 --seconds 20 --kind pty
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path

from pypmi.bus import Bus, Message
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import ConsoleState, SolPosition, TopicKind, Topics

PERIOD = 65_536
PATTERN = (b"".join(b"%015d\n" % number for number in range(PERIOD // 16))) * 2
RATE = 11_520
TICK = 0.01
ECHO_EVERY = 0.06


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# -- the machines ---------------------------------------------------------------------------------------------


class Machine:
    """A console that prints `PATTERN` at the line's speed; number 0 echoes instead."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fd = -1
        self.sent = 0
        self.overrun = 0

    def attach(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        asyncio.get_running_loop().add_reader(fd, self._typed)

    def _typed(self) -> None:
        try:
            data = os.read(self.fd, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self.fd)
        elif self.number == 0:
            os.write(self.fd, data)

    def print_until(self, goal: int) -> None:
        while self.number and self.sent < goal and self.fd >= 0:
            start = self.sent % PERIOD
            try:
                self.sent += os.write(self.fd, PATTERN[start : start + min(goal - self.sent, PERIOD)])
            except BlockingIOError:
                self.overrun += 1
                return


async def generate(kind: str, count: int, seconds: float) -> None:
    """Prints the ports' addresses; starts when a line comes on standard input; prints what it has sent."""
    machines = [Machine(number) for number in range(count)]
    keep: list[object] = []
    addresses: list[str | int] = []
    for machine in machines:
        if kind == "pty":
            master, slave = os.openpty()
            tty.setraw(slave)
            machine.attach(master)
            addresses.append(os.ttyname(slave))
            keep.append(slave)
        else:

            async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, machine=machine) -> None:  # type: ignore[no-untyped-def]
                sock = writer.get_extra_info("socket")
                fd = os.dup(sock.fileno())
                writer.transport.pause_reading()
                keep.extend((reader, writer))
                socket.socket(fileno=os.dup(fd)).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                machine.attach(fd)

            port = free_port()
            keep.append(await asyncio.start_server(accept, "127.0.0.1", port))
            addresses.append(port)
    print(json.dumps(addresses), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        goal = int(elapsed * RATE)
        for machine in machines:
            machine.print_until(goal)
        await asyncio.sleep(TICK)
    print(json.dumps({"sent": [m.sent for m in machines], "overrun": sum(m.overrun for m in machines)}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


# -- the viewer -----------------------------------------------------------------------------------------------


class Checker:
    """Checks every octet against the pattern, and measures echoes of console 0."""

    def __init__(self, bus: Bus, topics: Topics) -> None:
        self.next: dict[str, int] = {}
        self.wrong = self.gaps = self.messages = self.octets = self.repeats = 0
        self.online: set[str] = set()
        self.echoes: list[float] = []
        self._bus = bus
        self._tx = topics.node("node-0", TopicKind.SOL_TX)
        self._typed_at = 0.0
        self._typed = 0
        bus.subscribe(topics.nodes(TopicKind.SOL_RX), self._on_rx)
        bus.subscribe(topics.nodes(TopicKind.SOL_STATE), self._on_state)

    def _on_state(self, message: Message) -> None:
        if ConsoleState.from_payload(message.payload).online:
            self.online.add(message.topic)

    def _on_rx(self, message: Message) -> None:
        position = SolPosition.from_properties(message.properties)
        if position is None:
            self.wrong += 1
            return
        self.messages += 1
        if "/node-0/" in message.topic:
            self.echoes.append(time.monotonic() - self._typed_at)
            return
        data, expected = message.payload, self.next.get(message.topic, 0)
        if position.offset != expected:
            self.gaps += position.offset > expected
            self.repeats += position.offset < expected
        start = position.offset % PERIOD
        if data != PATTERN[start : start + len(data)]:
            self.wrong += 1
        self.octets += len(data)
        self.next[message.topic] = position.offset + len(data)

    async def type_keys(self) -> None:
        while True:
            await asyncio.sleep(ECHO_EVERY)
            self._typed_at = time.monotonic()
            self._bus.publish_nowait(self._tx, b"k", properties=SolPosition("bench", self._typed).to_properties())
            self._typed += 1


def fleet_text(broker: int, kind: str, addresses: list[str | int]) -> str:
    lines = [f"mqtt: {{url: 'mqtt://127.0.0.1:{broker}'}}", "nodes:"]
    for number, address in enumerate(addresses):
        where = f"path: {address}" if kind == "pty" else f"host: 127.0.0.1, port: {address}"
        console = f"{{type: {'serial' if kind == 'pty' else kind}, {where}}}"
        lines.append(f"  - {{id: node-{number}, hardware: {{type: esp8266, host: 127.0.0.1}}, console: {console}}}")
    return "\n".join(lines) + "\n"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(kind: str, count: int, seconds: float) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="pypmi-bench-"))
    processes: list[subprocess.Popen[str]] = []

    def start(*command: str, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
        processes.append(process)
        return process  # type: ignore[no-any-return]

    try:
        port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\npersistence false\nuser root\nallow_anonymous true\nmax_queued_messages 0\n"
            "set_tcp_nodelay true\n"
        )
        broker = start(shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config), stderr=subprocess.DEVNULL)
        generator = start(
            sys.executable, __file__, "--generate", "--kind", kind, "--consoles", str(count), "--seconds", str(seconds),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert generator.stdout is not None
        assert generator.stdin is not None
        addresses = json.loads(await asyncio.to_thread(generator.stdout.readline))
        fleet = folder / "fleet.yaml"
        fleet.write_text(fleet_text(port, kind, addresses))
        log = (folder / "relay.log").open("w")
        relay = start(
            sys.executable, "-m", "sol_relay", "--config", str(fleet), "--state-dir", str(folder / "state"), stderr=log
        )
        bus = Bus(MqttSettings(url=f"mqtt://127.0.0.1:{port}"), "bench-viewer")
        checker = Checker(bus, Topics())
        running = asyncio.create_task(bus.run())
        while len(checker.online) < count:
            await asyncio.sleep(0.1)
            if relay.poll() is not None:
                raise RuntimeError((folder / "relay.log").read_text())
        typing = asyncio.create_task(checker.type_keys())
        await asyncio.sleep(0.5)
        checker.echoes.clear()
        before, started = cpu_seconds(relay.pid), time.monotonic()
        broker_before, own_before = cpu_seconds(broker.pid), time.process_time()
        generator.stdin.write("go\n")
        generator.stdin.flush()
        report = json.loads(await asyncio.to_thread(generator.stdout.readline))
        elapsed = time.monotonic() - started
        used, broker_used = cpu_seconds(relay.pid) - before, cpu_seconds(broker.pid) - broker_before
        own = time.process_time() - own_before
        typing.cancel()
        expected = sum(report["sent"])
        for _ in range(100):
            if checker.octets >= expected:
                break
            await asyncio.sleep(0.1)
        running.cancel()
        echoes = sorted(checker.echoes)
        return {
            "kind": kind,
            "consoles": count,
            "seconds": round(elapsed, 1),
            "octets_per_second": round(expected / elapsed),
            "sent": expected,
            "received": checker.octets,
            "wrong": checker.wrong,
            "gaps": checker.gaps,
            "repeats": checker.repeats,
            "generator_overruns": report["overrun"],
            "messages_per_second": round(checker.messages / elapsed),
            "relay_cores": round(used / elapsed, 3),
            "broker_cores": round(broker_used / elapsed, 3),
            "viewer_cores": round(own / elapsed, 3),
            "relay_memory_mb": round(memory(relay.pid) / 1e6, 1),
            "echo_ms_median": round(1000 * statistics.median(echoes), 2) if echoes else None,
            "echoes": len(echoes),
            "echo_ms_p99": round(1000 * echoes[int(len(echoes) * 0.99)], 2) if echoes else None,
            "echo_ms_max": round(1000 * echoes[-1], 2) if echoes else None,
        }
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consoles", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--kind", choices=("pty", "tcp", "esp8266"), default="pty")
    parser.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        asyncio.run(generate(options.kind, options.consoles, options.seconds))
    else:
        print(json.dumps(asyncio.run(measure(options.kind, options.consoles, options.seconds)), indent=2))


if __name__ == "__main__":
    main()
