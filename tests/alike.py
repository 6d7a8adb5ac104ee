"""One simulated PC behind each kind of hardware, and the real agents on it: what test_hardware_alike.py runs on.

Everything between the PC and the bus is real or faithful on the wire: the simulated board by TCP, stand-ins for the
GPIO libraries, OpenIPMI's ipmi_sim as the BMC. All of them move the same `pypmi_simulator.PC`.
"""

import asyncio
import errno
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import bmc_agent.app
import bmc_agent.driver
import esp8266_agent.__main__
import fake_gpiod
import fake_rpi_gpio
import pytest
import rpi_gpio_agent.__main__
import yaml
from bmc_rigs import IpmiSim
from pypmi.agent.app import AgentApp
from pypmi.bus import Bus, Message
from pypmi.config.load import load_fleet
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import ServiceKind, new_id
from pypmi.service import Service
from pypmi_simulator import PC, Button, PcTimings, SimulatedBoard
from rpi_gpio_agent import driver as gpio_driver
from rpi_gpio_agent import gpiod_lines

NODE = "pc1"
POWER_LINE, RESET_LINE, STATUS_LINE = 17, 27, 23

TIMINGS = PcTimings(boot=0.3, halt=0.5, force_off=2.0)
POWER = {
    "on_press": 0.3,
    "off_press": 10,
    "cycle_off_press": 10,
    "cycle_wait": 0.5,
    "cycle_on_press": 0.3,
    "reset_press": 0.3,
    "soft_press": 0.3,
    "soft_patience": 8,
    "on_grace": 10,
    "off_grace": 10,
    "boot_settle": 0.3,
    "debounce": 0.1,
    "blink_dark": 0.2,
}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Mosquitto for the module; its URL."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    config = tmp_path_factory.mktemp("broker") / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n")
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield f"mqtt://127.0.0.1:{port}"
    process.terminate()
    process.wait()


async def until(condition: Callable[[], Any], seconds: float = 40.0, what: str = "") -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not condition():
        assert loop.time() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)


def now() -> float:
    return asyncio.get_running_loop().time()


class Rig:
    """A PC behind one kind of hardware."""

    kind: ServiceKind
    make: Any
    """The agent's own function that makes drivers."""

    def __init__(self, pc: PC) -> None:
        self.pc = pc

    def hardware(self) -> dict[str, Any]:
        """The node's `hardware` part in fleet.yaml."""
        raise NotImplementedError

    async def start(self) -> None:
        """Make the hardware work."""

    async def stop(self) -> None:
        """End it."""

    async def lose(self) -> None:
        """The hardware is gone."""
        raise NotImplementedError

    async def find(self) -> None:
        """It is back."""
        raise NotImplementedError

    def touch(self) -> None:
        """Tell whoever simulates time that something was done to the PC from outside."""

    async def press_by_hand(self, seconds: float) -> None:
        """Somebody presses the real button."""
        self.pc.press(Button.POWER, now(), by="hand")
        self.touch()
        await asyncio.sleep(seconds)
        self.pc.release(Button.POWER, now(), by="hand")
        self.touch()


class BoardRig(Rig):
    kind = ServiceKind.ESP8266_AGENT
    make = staticmethod(esp8266_agent.__main__.make_driver)

    async def start(self) -> None:
        self.board = SimulatedBoard(pc=self.pc, reset_pin=3, name=NODE)
        await self.board.start()

    async def stop(self) -> None:
        await self.board.stop()

    def hardware(self) -> dict[str, Any]:
        return {
            "type": "esp8266",
            "host": "127.0.0.1",
            "port": self.board.port,
            "identification": NODE,
            "reset_relay": {"pin": 3},
            "bridge_port": None,
            "poll_interval": 0.3,
            "connect_timeout": 1.0,
        }

    async def lose(self) -> None:
        self.board.cut_network()

    async def find(self) -> None:
        self.board.restore_network()

    def touch(self) -> None:
        self.board.touch()


class GpioRig(Rig):
    """Lines of a stand-in library, with the PC on them. A task of its own makes the PC's time pass."""

    kind = ServiceKind.RPI_GPIO_AGENT
    make = staticmethod(rpi_gpio_agent.__main__.make_driver)
    backend: str

    def __init__(self, pc: PC, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(pc)
        self.monkeypatch = monkeypatch
        self.folder = folder
        monkeypatch.setattr(gpio_driver, "RETRY_INTERVAL", 0.5)

    def hardware(self) -> dict[str, Any]:
        return {
            "type": "gpio",
            "backend": self.backend,
            "power_button": {"line": POWER_LINE},
            "reset_button": {"line": RESET_LINE, "active": "low"},
            "status": {"line": STATUS_LINE},
        }

    async def start(self) -> None:
        self.time = asyncio.create_task(self._let_time_pass())

    async def stop(self) -> None:
        self.time.cancel()
        await asyncio.gather(self.time, return_exceptions=True)

    async def _let_time_pass(self) -> None:
        while True:
            self.pc.advance(now())
            self.set_status(self.pc.power_led(now()))
            await asyncio.sleep(0.01)

    def on_level(self, button: Button, pressed: bool) -> None:
        (self.pc.press if pressed else self.pc.release)(button, now())

    def set_status(self, level: bool) -> None:
        raise NotImplementedError


class GpiodRig(GpioRig):
    backend = "gpiod"

    async def start(self) -> None:
        fake_gpiod.install(self.monkeypatch)
        device = self.folder / "gpiochip0"
        device.touch()
        self.monkeypatch.setattr(gpiod_lines, "DEVICES", self.folder)
        self.chip = fake_gpiod.Board(str(device))
        fake_gpiod.boards[self.chip.path] = self.chip
        self.chip.wires[POWER_LINE].wired_to = lambda level: self.on_level(Button.POWER, level)
        self.chip.wires[RESET_LINE].wired_to = lambda level: self.on_level(Button.RESET, not level)
        await super().start()

    def set_status(self, level: bool) -> None:
        self.chip.set_input(STATUS_LINE, level)

    async def lose(self) -> None:
        self.chip.broken = self.chip.denied = errno.ENODEV

    async def find(self) -> None:
        self.chip.broken = self.chip.denied = 0


class RpiGpioRig(GpioRig):
    backend = "rpi-gpio"

    async def start(self) -> None:
        fake_rpi_gpio.install(self.monkeypatch)
        fake_rpi_gpio.wired_to[POWER_LINE] = lambda level: self.on_level(Button.POWER, level)
        fake_rpi_gpio.wired_to[RESET_LINE] = lambda level: self.on_level(Button.RESET, not level)
        await super().start()

    def set_status(self, level: bool) -> None:
        fake_rpi_gpio.set_input(STATUS_LINE, level)

    async def lose(self) -> None:
        fake_rpi_gpio.broken = "No access to /dev/mem"

    async def find(self) -> None:
        fake_rpi_gpio.broken = ""


BMC_SCRIPT = """\
#!/bin/bash
# what ipmi_sim asks of the chassis goes to the test, which has the PC
exec 3<>/dev/tcp/127.0.0.1/{port} || exit 1
echo "$*" >&3
cat <&3
"""


class BmcRig(Rig):
    """ipmi_sim, whose chassis is the PC."""

    kind = ServiceKind.BMC_AGENT
    make = staticmethod(bmc_agent.app.make_driver)

    def __init__(self, pc: PC, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        super().__init__(pc)
        self.folder = folder
        monkeypatch.setenv("PYPMI_TEST_BMC_PASSWORD", "secret")
        monkeypatch.setattr(bmc_agent.driver, "RETRY_LAST", 2.0)

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._chassis, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.sim = IpmiSim(self.folder / "bmc", BMC_SCRIPT.format(port=port))
        self.time = asyncio.create_task(self._let_time_pass())
        await self.sim.start()

    async def stop(self) -> None:
        await self.sim.stop()
        self.server.close()
        self.time.cancel()
        await asyncio.gather(self.time, return_exceptions=True)

    async def _let_time_pass(self) -> None:
        while True:
            self.pc.advance(now())
            await asyncio.sleep(0.01)

    def hardware(self) -> dict[str, Any]:
        return {
            "type": "bmc",
            "host": "127.0.0.1",
            "port": self.sim.port,
            "user": "admin",
            "password": {"env": "PYPMI_TEST_BMC_PASSWORD"},
            "poll_interval": 1.0,
        }

    async def lose(self) -> None:
        await self.sim.stop()

    async def find(self) -> None:
        await self.sim.start()

    async def _chassis(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """`0x20 get power`, `0x20 set power 1`, `... set reset 1`, `... set shutdown 1`."""
        words = (await reader.readline()).decode().split()[1:]
        match words:
            case ["get", "power"]:
                writer.write(b"power:%d\n" % self.pc.powered)
            case ["set", "power", "1"]:
                self.pc.turn_on(now())
            case ["set", "power", "0"]:
                self.pc.unplug(now())  # the PC stays off when the mains are back
                self.pc.plug(now())
            case ["set", "reset", _]:
                self.pc.press(Button.RESET, now())
                await asyncio.sleep(2 * self.pc.timings.debounce)
                self.pc.release(Button.RESET, now())
            case ["set", "shutdown", _]:
                self.pc.shutdown(now())
        writer.close()


RIGS: dict[str, Callable[[PC, pytest.MonkeyPatch, Path], Rig]] = {
    "board": lambda pc, _monkeypatch, _folder: BoardRig(pc),
    "gpiod": GpiodRig,
    "rpi-gpio": RpiGpioRig,
    "bmc": BmcRig,
}


class Bench:
    """A person on the bus, who sends commands to the node and hears what is said of it."""

    def __init__(self, rig: Rig, mqtt: MqttSettings) -> None:
        self.rig = rig
        self.pc = rig.pc
        self.bus = Bus(mqtt, f"person-{new_id()}")
        self.kept: dict[str, bytes] = {}
        self.results: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.head = f"{mqtt.prefix}/nodes/{NODE}/"
        self.bus.subscribe(f"{self.head}#", self._hear)

    def _hear(self, message: Message) -> None:
        kind = message.topic.removeprefix(self.head)
        self.kept[kind] = message.payload
        if kind == "power/result":
            self.results.append(json.loads(message.payload))
        elif kind == "events":
            self.events.append(json.loads(message.payload))

    def retained(self, kind: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.kept.get(kind, b"{}"))
        return value

    @property
    def state(self) -> dict[str, Any]:
        return self.retained("state")

    @property
    def online(self) -> bool:
        return self.kept.get("availability") == b"online"

    def event_types(self) -> list[str]:
        return [event["type"] for event in self.events]

    async def send(self, action: str, **fields: Any) -> str:
        """Send a command; return its id."""
        command = {"id": new_id(), "action": action, "source": "test", **fields}
        await self.bus.publish(f"{self.head}power/set", json.dumps(command).encode())
        return str(command["id"])

    async def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        """Send a command and return its final result."""
        return await self.final(await self.send(action, **fields))

    async def final(self, command_id: str) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [r for r in self.results if r["id"] == command_id and r["status"] != "accepted"]

        await until(found, 60, f"a result of {command_id}: {self.results}")
        return found()[0]

    async def running(self) -> None:
        """Wait until the PC is on, its operating system runs, and the agent knows."""
        await until(lambda: self.pc.os == "running" and self.state["power"] == "on" and self.state["action"] is None)


@asynccontextmanager
async def bench(rig: Rig, mqtt_url: str, folder: Path, **more: Any) -> AsyncIterator[Bench]:
    """The rig's agent at work on a PC that is off, known to be off. `more` goes into the node's part of fleet.yaml."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(rig.stop)
        await rig.start()
        fleet = folder / "fleet.yaml"
        node = {"id": NODE, "name": "Alike", "hardware": rig.hardware(), "power": POWER, "area": "Lab", **more}
        # a prefix of each test's own, for the broker keeps what was said in the last one
        mqtt = {"url": mqtt_url, "prefix": f"t{new_id()}"}
        fleet.write_text(yaml.safe_dump({"mqtt": mqtt, "nodes": [node]}))
        loaded = load_fleet(fleet)
        service = Service(rig.kind, rig.kind.value, loaded, folder)
        app = AgentApp(service, rig.make)
        person = Bench(rig, loaded.fleet.mqtt)
        for work in (person.bus.run(), service.run_bus(), app.run()):
            task = asyncio.create_task(work)
            stack.push_async_callback(_end, task)
        await until(lambda: person.online and person.state.get("power") == "off", 60, f"online: {person.kept}")
        yield person


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
