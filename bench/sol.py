"""Many consoles at full output through relay, broker and gateway to IPMI clients: CPU, losses, echo latency.

As `consoles.py`, with `ipmi-gateway` behind the broker and one RMCP+ session with SOL for each console in a process of
its own, which checks every octet. Prints one JSON object.

    python bench/sol.py --consoles 250 --seconds 20
"""

import argparse
import asyncio
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "services/ipmi-gateway/tests")]

from consoles import ECHO_EVERY, PATTERN, PERIOD, Checker, cpu_seconds, free_port, generate, memory  # noqa: E402
from ipmi_gateway.sessions.suites import SUITES, SessionCrypto, SuiteId  # noqa: E402
from pypmi.bus import Bus  # noqa: E402
from pypmi.config.mqtt import MqttSettings  # noqa: E402
from pypmi.contract import Topics  # noqa: E402
from rmcp_client import RmcpClient, UdpTransport  # noqa: E402

ACTIVATE = b"\x01\x01\xc0\x00\x00\x00"
PAYLOAD_SOL = 1
PER_CHANNEL = 250
FIRST_ID = 0x1000
"""Console session id of the first one, which echoes."""


# -- the clients -------------------------------------------------------------------------------------------------------


class Viewer:
    """One session with SOL: acknowledges and checks what comes."""

    def __init__(self, client: RmcpClient) -> None:
        assert client.keys is not None
        self.session_id = client.keys.session_id
        self.crypto = SessionCrypto(SUITES[SuiteId.SHA256], client.keys.sik, lambda: os.urandom(16))
        self.sequence = client.out_sequence
        self.last = self.octets = self.wrong = self.repeats = 0
        self.input = 0

    def seal(self, payload: bytes) -> bytes:
        self.sequence += 1
        return self.crypto.seal(PAYLOAD_SOL, self.session_id, self.sequence, payload)

    def take(self, payload: bytes) -> tuple[bytes, bytes | None]:
        """Characters that are new, and the answer."""
        sequence = payload[0]
        if not sequence:
            return b"", None
        characters = payload[4:]
        answer = self.seal(bytes((0, sequence, len(characters), 0)))
        if sequence == self.last:
            self.repeats += 1
            return b"", answer
        self.last = sequence
        return characters, answer

    def check(self, characters: bytes) -> None:
        start = self.octets % PERIOD
        if characters != PATTERN[start : start + len(characters)]:
            self.wrong += 1
        self.octets += len(characters)


class Viewers:
    """All sessions, on one socket."""

    def __init__(self, port: int) -> None:
        self.transport = UdpTransport("127.0.0.1", port)
        self.socket = self.transport.socket
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.viewers: dict[int, Viewer] = {}
        self.echoes: list[float] = []
        self.typed_at = 0.0

    def activate(self, count: int) -> None:
        clients = []
        for number in range(count):
            client = RmcpClient(self.transport, timeout=5)
            client.login("admin", "secret", suite=17, console_id=FIRST_ID + number)
            clients.append((number, client))
        for _, client in clients:
            assert client.set_privilege(4).code == 0
        for number, client in clients:
            answers = client.bridge(number // PER_CHANNEL, address(number), 6, 0x48, ACTIVATE)
            assert answers[-1].code == 0, answers
            self.viewers[FIRST_ID + number] = Viewer(client)
        self.socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self.socket, self.readable)

    def readable(self) -> None:
        try:
            while True:
                self.take(self.socket.recv(2048))
        except BlockingIOError:
            return

    def take(self, datagram: bytes) -> None:
        _, _, console_id, _, length = struct.unpack_from("<BBIIH", datagram, 4)
        viewer = self.viewers[console_id]
        payload = viewer.crypto.unseal(datagram, length)
        if payload is None or len(payload) < 4:
            return
        characters, answer = viewer.take(payload)
        if answer is not None:
            self.socket.sendto(answer, self.transport.server)
        if console_id == FIRST_ID:
            if characters:
                self.echoes.append(time.monotonic() - self.typed_at)
        elif characters:
            viewer.check(characters)

    async def type_keys(self) -> None:
        echo = self.viewers[FIRST_ID]
        while True:
            await asyncio.sleep(ECHO_EVERY)
            self.typed_at = time.monotonic()
            echo.input = echo.input % 15 + 1
            self.socket.sendto(echo.seal(bytes((echo.input, 0, 0, 0)) + b"k"), self.transport.server)

    def report(self) -> dict[str, object]:
        echoes, viewers = sorted(self.echoes), self.viewers.values()
        return {
            "received": sum(viewer.octets for viewer in viewers),
            "wrong": sum(viewer.wrong for viewer in viewers),
            "repeats": sum(viewer.repeats for viewer in viewers),
            "echoes": len(echoes),
            "echo_ms_median": round(1000 * statistics.median(echoes), 2) if echoes else None,
            "echo_ms_p99": round(1000 * echoes[int(len(echoes) * 0.99)], 2) if echoes else None,
            "echo_ms_max": round(1000 * echoes[-1], 2) if echoes else None,
        }


async def view(port: int, count: int) -> None:
    """Log in, activate, say so; then check until all of what standard input announces is there, and say what was."""
    all_viewers = Viewers(port)
    all_viewers.activate(count)
    print(json.dumps("ready"), flush=True)
    typing = asyncio.create_task(all_viewers.type_keys())
    expected = json.loads(await asyncio.to_thread(sys.stdin.readline))
    typing.cancel()
    for _ in range(1200):
        if sum(viewer.octets for viewer in all_viewers.viewers.values()) >= expected:
            break
        await asyncio.sleep(0.05)
    print(json.dumps(all_viewers.report()), flush=True)


def address(number: int) -> int:
    """Odd and even slave addresses without 20h and 81h."""
    place = number % PER_CHANNEL + 1
    return place + (place >= 0x20) + (place >= 0x80)


# -- all together ------------------------------------------------------------------------------------------------------


async def measure(count: int, seconds: float) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="pypmi-bench-"))
    processes: list[subprocess.Popen[str]] = []

    def start(*command: str, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
        processes.append(process)
        return process  # type: ignore[no-any-return]

    def part(flag: str, *words: str) -> subprocess.Popen[str]:
        return start(sys.executable, __file__, flag, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    async def line(process: subprocess.Popen[str]) -> object:
        assert process.stdout is not None
        return json.loads(await asyncio.to_thread(process.stdout.readline))

    def tell(process: subprocess.Popen[str], text: str) -> None:
        assert process.stdin is not None
        process.stdin.write(text + "\n")
        process.stdin.flush()

    try:
        port, udp = free_port(), free_port()
        config = folder / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\npersistence false\nuser root\nallow_anonymous true\nmax_queued_messages 0\n"
            "set_tcp_nodelay true\n"
        )
        broker = start(shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config), stderr=subprocess.DEVNULL)
        generator = part("--generate", "--consoles", str(count), "--seconds", str(seconds))
        ttys = await line(generator)
        assert isinstance(ttys, list)
        fleet = folder / "fleet.yaml"
        fleet.write_text(fleet_yaml(port, udp, ttys))
        (folder / "password").write_text("secret")
        (folder / "password").chmod(0o600)
        services = {}
        for name, module in (("relay", "sol_relay"), ("gateway", "ipmi_gateway")):
            services[name] = start(
                sys.executable, "-m", module, "--config", str(fleet), "--state-dir", str(folder / name),
                stderr=(folder / f"{name}.log").open("w"),
            )  # fmt: skip
        await online(port, count)
        for name, service in services.items():
            if service.poll() is not None:
                raise RuntimeError((folder / f"{name}.log").read_text())
        viewers = part("--view", str(udp), "--consoles", str(count))
        await line(viewers)
        await asyncio.sleep(1)
        pids = {"broker": broker.pid, "viewers": viewers.pid, "generator": generator.pid}
        pids |= {name: service.pid for name, service in services.items()}
        before, started = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
        tell(generator, "go")
        sent = await line(generator)
        assert isinstance(sent, dict)
        produced = time.monotonic() - started
        expected = sum(sent["sent"])
        tell(viewers, json.dumps(expected))
        seen = await line(viewers)
        assert isinstance(seen, dict)
        elapsed = time.monotonic() - started
        used = {f"{name}_cores": round((cpu_seconds(pid) - before[name]) / elapsed, 3) for name, pid in pids.items()}
        return {
            "consoles": count,
            "seconds": round(elapsed, 1),
            "behind_at_the_end_seconds": round(elapsed - produced, 1),
            "octets_per_second": round(expected / elapsed),
            "generator_overruns": sent["overrun"],
            "sent": expected,
            **seen,
            **used,
            "gateway_memory_mb": round(memory(pids["gateway"]) / 1e6, 1),
        }
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


async def online(port: int, count: int) -> None:
    """Wait until the relay serves all consoles, and a little for the gateway."""
    bus = Bus(MqttSettings(url=f"mqtt://127.0.0.1:{port}"), "bench-viewer")
    checker = Checker(bus, Topics())
    running = asyncio.create_task(bus.run())
    while len(checker.online) < count:  # noqa: ASYNC110 - a benchmark's start
        await asyncio.sleep(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(3)


def fleet_yaml(port: int, udp: int, ttys: list[str]) -> str:
    lines = [
        f"mqtt: {{url: 'mqtt://127.0.0.1:{port}'}}",
        f"gateway: {{listen: ['127.0.0.1:{udp}']}}",
        "users: [{name: admin, password: {file: password}}]",
        "nodes:",
    ]
    lines += [
        f"  - {{id: node-{number}, channel: {number // PER_CHANNEL}, address: {address(number)}, "
        f"hardware: {{type: esp8266, host: 127.0.0.1}}, console: {{type: serial, path: {path}}}}}"
        for number, path in enumerate(ttys)
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consoles", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--generate", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--view", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.generate:
        asyncio.run(generate("pty", options.consoles, options.seconds))
    elif options.view:
        asyncio.run(view(options.view, options.consoles))
    else:
        print(json.dumps(asyncio.run(measure(options.consoles, options.seconds)), indent=2))


if __name__ == "__main__":
    main()
