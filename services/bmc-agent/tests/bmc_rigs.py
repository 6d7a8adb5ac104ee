"""Real BMC servers on loopback: OpenIPMI's ipmi_sim, pyghmi's, and a datagram relay that can lose answers."""

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

from bmc_agent.driver import BmcDriver
from bmc_agent.process import worker_context
from pypmi.config.hardware import BmcHardware
from pypmi.contract import Event

USER, PASSWORD = "admin", "secret"

LAN_CONF = """\
name "pypmi-test"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{script} 0x20"
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
"""

CHASSIS_SCRIPT = """\
#!/bin/sh
# ipmi_sim calls this with: MC get|set WHAT VALUE...
cd "{folder}" || exit 1
shift
case "$1 $2" in
  "get power") echo "power:$(cat power)" ;;
  "set power") echo "$3" > power; echo "power $3" >> actions ;;
  "set "*) shift; echo "$@" >> actions ;;
esac
"""

# A full sensor record (IPMI 2.0 table 43-1) of a temperature: 1 °C a step, upper thresholds 72, 80, 88.
TEMPERATURE_RECORD = (
    "0x00 0x00 0x51 0x01 0x37 0x20 0x00 0x01 0x03 0x01 0x7f 0x48 0x01 0x01 0xc0 0x0f 0xc0 0x7f 0x38 0x38 0x80 0x01 "
    "0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x07 0x28 0x40 0x10 0xff 0x00 0x58 0x50 0x48 0x04 0x08 0x10 0x02 0x02 "
    "0x00 0x00 0x00 0xcc 0x41 0x6d 0x62 0x69 0x65 0x6e 0x74 0x20 0x54 0x65 0x6d 0x70"
)
EMULATION = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
sensor_add 0x20 0 1 0x01 0x01
sensor_set_value 0x20 0 1 0x30 0
sensor_set_threshold 0x20 0 1 settable 111000 0x58 0x50 0x48 0x10 0x08 0x04
sensor_set_event_support 0x20 0 1 enable scanning per-state \
000111111000000 000111111000000 000111111000000 000111111000000
main_sdr_add 0x20 {record}
mc_add_fru_data 0x20 0 {fru_size} file 0 "{fru}"
mc_enable 0x20
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def fru_image() -> bytes:
    """FRU information with a product area (Platform Management FRU Information Storage Definition, section 12)."""
    fields = b"".join(
        bytes([0xC0 | len(text)]) + text for text in (b"Acme", b"Anvil 9000", b"AN-9000", b"2", b"SN123456", b"A-42")
    )
    body = b"\x01\x00\x19" + fields + b"\xc0\xc1"  # language 25 English; no FRU file id; end
    length = (len(body) + 1 + 7) // 8
    area = bytes([1, length]) + body[2:]
    area = area.ljust(length * 8 - 1, b"\0")
    area += bytes([-sum(area) % 256])
    header = bytes([1, 0, 0, 0, 1, 0, 0])
    return header + bytes([-sum(header) % 256]) + area


class Program:
    """A server process that is killed at the end."""

    def __init__(self) -> None:
        self.port = free_port()
        self.process: asyncio.subprocess.Process | None = None

    async def launch(self, *command: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await until(lambda: answers(self.port), 30)

    async def stop(self) -> None:
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()


class IpmiSim(Program):
    """OpenIPMI's simulator with one temperature sensor, an event log, FRU 0 and a chassis that keeps a record."""

    def __init__(self, folder: Path, chassis: str | None = None) -> None:
        """`chassis` is a program for ipmi_sim's `chassis_control`, instead of the one that keeps a record."""
        super().__init__()
        self.folder = folder
        (folder / "state").mkdir(parents=True)
        script, fru = folder / "chassis.sh", folder / "fru.bin"
        script.write_text(chassis or CHASSIS_SCRIPT.format(folder=folder))
        script.chmod(0o755)
        fru.write_bytes(fru_image())
        (folder / "power").write_text("0\n")
        (folder / "actions").touch()
        (folder / "lan.conf").write_text(LAN_CONF.format(port=self.port, script=script))
        emulation = EMULATION.format(record=TEMPERATURE_RECORD, fru=fru, fru_size=len(fru_image()))
        (folder / "sim.emu").write_text(emulation)

    async def start(self) -> None:
        program = shutil.which("ipmi_sim") or "/usr/bin/ipmi_sim"
        folder = self.folder
        await self.launch(program, "-c", f"{folder}/lan.conf", "-f", f"{folder}/sim.emu", "-s", f"{folder}/state", "-n")

    @property
    def actions(self) -> list[str]:
        """What the chassis was told, in order."""
        return (self.folder / "actions").read_text().splitlines()

    async def ipmitool(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *("ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(self.port)),
            *("-U", USER, "-P", PASSWORD, *command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output
        return output.decode()


class FakeBmc(Program):
    """pyghmi's server."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.log = folder / "fakebmc.log"
        self.log.touch()

    async def start(self) -> None:
        await self.launch(sys.executable, str(Path(__file__).with_name("fake_bmc.py")), str(self.port), str(self.log))

    @property
    def actions(self) -> list[str]:
        return self.log.read_text().splitlines()


def answers(port: int) -> bool:
    """Whether something answers an ask for authentication capabilities, the first packet of every IPMI client."""
    request = bytes.fromhex("0600ff0700000000000000000009 2018c88100388e04b5".replace(" ", ""))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(request)
            return bool(sock.recv(100))
        except OSError:
            return False


class LossyRelay(asyncio.DatagramProtocol):
    """Passes datagrams between clients and a BMC; `lose_answers` drops what the BMC says."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._upstreams: dict[object, asyncio.DatagramTransport] = {}
        self.port = 0
        self.lose_answers = False
        self.lost = 0
        self.passed_while_losing = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.lose_answers:
            self.passed_while_losing += 1
        upstream = self._upstreams.get(addr)
        if upstream is None:
            asyncio.get_running_loop().create_task(self._connect(data, addr))
        else:
            upstream.sendto(data)

    async def _connect(self, first: bytes, client: tuple[str, int]) -> None:
        relay = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
                if relay.lose_answers:
                    relay.lost += 1
                elif relay._transport is not None:
                    relay._transport.sendto(data, client)

        loop = asyncio.get_running_loop()
        upstream, _ = await loop.create_datagram_endpoint(Back, remote_addr=("127.0.0.1", self._target))
        self._upstreams[client] = upstream
        upstream.sendto(first)

    def close(self) -> None:
        for transport in (self._transport, *self._upstreams.values()):
            if transport is not None:
                transport.close()


class Seen:
    """A `HardwareListener` that keeps what it is told."""

    def __init__(self) -> None:
        self.reachable: list[tuple[bool, str]] = []
        self.status: list[bool | None] = []
        self.sensors: dict[str, float] = {}
        self.firmware: list[str] = []
        self.events: list[Event] = []

    def on_reachable(self, reachable: bool, reason: str = "") -> None:
        self.reachable.append((reachable, reason))

    def on_status(self, on: bool | None) -> None:
        self.status.append(on)

    def on_sensor(self, key: str, value: float) -> None:
        self.sensors[key] = value

    def on_firmware(self, version: str) -> None:
        self.firmware.append(version)

    def on_restart(self, reason: str) -> None:
        raise AssertionError(reason)

    def on_event(self, event: Event) -> None:
        self.events.append(event)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def make_driver(port: int, user: str = USER, password: str = PASSWORD, **changes: object) -> BmcDriver:
    """A driver that looks more often than the configuration allows."""
    os.environ["PYPMI_TEST_BMC_PASSWORD"] = password
    settings = {
        "type": "bmc",
        "host": "127.0.0.1",
        "port": port,
        "user": user,
        "password": {"env": "PYPMI_TEST_BMC_PASSWORD"},
        **changes,
    }
    often = {"poll_interval": 0.2, "sensor_interval": 0.5, "sel_interval": 0.5} if not changes else {}
    hardware = BmcHardware.model_validate(settings).model_copy(update=often)
    return BmcDriver(hardware, "pc1", "epoch1", worker_context())


@asynccontextmanager
async def running(driver: BmcDriver) -> AsyncIterator[Seen]:
    """The driver at work, from the moment that it has said whether the BMC answers."""
    seen = Seen()
    task = asyncio.create_task(driver.run(seen))
    try:
        await until(lambda: bool(seen.reachable) or task.done())
        if task.done():
            task.result()
        yield seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
