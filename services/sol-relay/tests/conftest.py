"""A real broker, a relay in this process, and viewers that use the same client as the front ends."""

import asyncio
import os
import shutil
import socket
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pypmi.bus import Bus, Message, Requests
from pypmi.config.load import LoadedFleet, load_fleet
from pypmi.config.mqtt import MqttSettings
from pypmi.console import ConsoleClient, ConsoleData, ConsoleEvent, ConsoleGap, ConsoleHub, ConsoleNotice
from pypmi.contract import ServiceKind, Topics
from pypmi.service import Service
from sol_relay.relay import Relay


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Mosquitto:
    """A broker that can be stopped and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    async def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\npersistence false\nuser root\nallow_anonymous true\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.process = await asyncio.create_subprocess_exec(
            program, "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )

        def answers() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        await until(answers)

    async def stop(self) -> None:
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            self.process = None


@pytest.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


class Pty:
    """A serial port simulated at its wire: the relay opens `path`, the test is the machine at the other end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master = self.slave = -1
        self.plug()

    def plug(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self.slave))
        os.close(self.slave)

    def unplug(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self.master)
        self.master = -1

    async def say(self, data: bytes) -> None:
        """What the machine prints."""
        loop = asyncio.get_running_loop()
        while data:
            try:
                data = data[os.write(self.master, data[:4096]) :]
            except BlockingIOError:
                room = asyncio.Event()
                loop.add_writer(self.master, room.set)
                try:
                    await room.wait()
                finally:
                    loop.remove_writer(self.master)

    def heard(self) -> bytes:
        """What was typed at the machine since the last call."""
        data = bytearray()
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self.master, 65_536):
                data += piece
        return bytes(data)

    def close(self) -> None:
        if self.master >= 0:
            self.unplug()


@pytest.fixture
def pty(tmp_path: Path) -> AsyncIterator[Pty]:
    port = Pty(tmp_path / "ttyTest")
    yield port
    port.close()


class Machine:
    """The far side of a raw TCP console."""

    def __init__(self) -> None:
        self.port = 0
        self.heard = bytearray()
        self.connections = 0
        self._writer: asyncio.StreamWriter | None = None

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.heard += data
        writer.close()

    async def say(self, data: bytes) -> None:
        await until(lambda: self._writer is not None)
        assert self._writer is not None
        self._writer.write(data)
        await self._writer.drain()

    async def drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Seen:
    """Everything a viewer was told."""

    def __init__(self) -> None:
        self.events: list[ConsoleEvent] = []

    def put(self, event: ConsoleEvent) -> None:
        self.events.append(event)

    @property
    def live(self) -> bytes:
        return b"".join(item.data for item in self.events if isinstance(item, ConsoleData) and not item.scrollback)

    @property
    def scrollback(self) -> bytes:
        return b"".join(item.data for item in self.events if isinstance(item, ConsoleData) and item.scrollback)

    @property
    def data(self) -> bytes:
        return b"".join(item.data for item in self.events if isinstance(item, ConsoleData))

    @property
    def gaps(self) -> list[int | None]:
        return [item.lost for item in self.events if isinstance(item, ConsoleGap)]

    @property
    def notices(self) -> list[str]:
        return [str(item.kind) for item in self.events if isinstance(item, ConsoleNotice)]


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result


class Setup:
    """A broker, a fleet, relays and viewers."""

    def __init__(self, mosquitto: Mosquitto, folder: Path, stack: AsyncExitStack) -> None:
        self.mosquitto = mosquitto
        self.folder = folder
        self.protocol = "5"
        self._stack = stack

    def load(self, consoles: dict[str, str], name: str = "sol-relay") -> LoadedFleet:
        """A fleet.yaml with these consoles."""
        lines = [f"mqtt: {{url: '{self.mosquitto.url}', protocol: '{self.protocol}', reconnect_max: 1}}", "nodes:"]
        for node_id, console in consoles.items():
            hardware = "{type: esp8266, host: 127.0.0.1}"
            lines.append(f"  - {{id: {node_id}, hardware: {hardware}, console: {{{console}, relay: {name}}}}}")
        path = self.folder / "fleet.yaml"
        path.write_text("\n".join(lines) + "\n")
        return load_fleet(path)

    @asynccontextmanager
    async def relay(self, **consoles: str) -> AsyncIterator[Relay]:
        """A relay that runs; `n1="type: serial, path: ..."`. Returns when the consoles had time to open."""
        service = Service(ServiceKind.SOL_RELAY, "sol-relay", self.load(consoles), self.folder / "state")
        relay = Relay(service)
        service.announce(relay.nodes())
        async with running(service.run_bus()):
            async with running(relay.run()):
                await service.bus.wait_connected()
                yield relay
            service.say_goodbye()

    until = staticmethod(until)

    @staticmethod
    async def attached(hub: ConsoleHub, node: str, *, scrollback: int = 4096) -> tuple[ConsoleClient, Seen]:
        """A viewer that is live."""
        seen = Seen()
        client = hub.attach(node, "test", seen.put, scrollback=scrollback)
        await until(lambda: "live" in seen.notices)
        return client, seen

    async def hub(self, name: str = "gateway", protocol: str | None = None) -> ConsoleHub:
        """A front end's consoles."""
        bus = await self.bus(name, protocol)
        hub = ConsoleHub(bus, Requests(bus, Topics(), name), Topics())
        await self._stack.enter_async_context(running(hub.run()))
        await asyncio.sleep(0)
        return hub

    async def bus(self, name: str, protocol: str | None = None) -> Bus:
        """Somebody's connection."""
        settings = MqttSettings(url=self.mosquitto.url, protocol=protocol or self.protocol, reconnect_max=1)
        bus = Bus(settings, name)
        await self._stack.enter_async_context(running(bus.run()))
        await bus.wait_connected()
        return bus

    async def listen(self, topic: str) -> list[Message]:
        """Collect what comes on a topic."""
        got: list[Message] = []
        bus = await self.bus(f"listener{len(topic)}")
        bus.subscribe(topic, got.append)
        await asyncio.sleep(0.1)
        return got

    @asynccontextmanager
    async def machine(self) -> AsyncIterator["Machine"]:
        """A machine whose console is a raw TCP port."""
        machine = Machine()
        server = await asyncio.start_server(machine.accept, "127.0.0.1", 0)
        machine.port = server.sockets[0].getsockname()[1]
        try:
            yield machine
        finally:
            await machine.drop()
            server.close()


@pytest.fixture
async def setup(mosquitto: Mosquitto, tmp_path: Path) -> AsyncIterator[Setup]:
    async with AsyncExitStack() as stack:
        yield Setup(mosquitto, tmp_path, stack)


@pytest.fixture(name="free_port")
def free_port_fixture() -> Callable[[], int]:
    return free_port
