"""Other IPMI servers to run the suite against: OpenIPMI's ipmi_sim, and the server that comes with pyghmi."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from .bmc import Account, Bmc

HOST = "127.0.0.1"
ADMIN = Account("admin", "changeme")
OPERATOR, VIEWER = Account("operator", "op-secret", 3), Account("viewer", "view-secret", 2)
PATIENCE = 0.6
"""Seconds to wait for one answer: nothing here is far away."""
FRU = "01 00 00 00 01 00 00 fe 01 05 19 c4 41 63 6d 65 c5 41 6e 76 69 6c c0 c0 c3 53 4e 31 c0 c0 c1"
_LAN = """\
name "conformance"
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
  chassis_control "{folder}/chassis.sh 0x20"
  sol "tcp:127.0.0.1:{console}" 115200
  user 2 true "admin" "changeme" admin 10 none md2 md5 straight
  user 3 true "operator" "op-secret" operator 10 none md2 md5 straight
  user 4 true "viewer" "view-secret" user 10 none md2 md5 straight
set_working_mc 0x30
  chassis_control "{folder}/chassis.sh 0x30"
"""
_CHASSIS = """\
#!/bin/sh
# ipmi_sim calls this with: MC get|set WHAT VALUE
cd "{folder}" || exit 1
case "$2 $3" in
  "get power") echo "power:$(cat "power$1")" ;;
  "get boot") echo "boot:$(cat "boot$1")" ;;
  "set power") echo "$4" > "power$1" ;;
  "set boot") echo "$4" > "boot$1" ;;
  "set shutdown") echo 0 > "power$1" ;;
  "set reset") echo 1 > "power$1" ;;
esac
"""
# A full sensor record (IPMI 2.0 table 43-1) of a temperature: 1 °C a step, upper thresholds 72, 80, 88.
_SENSOR_RECORD = (
    "0x00 0x00 0x51 0x01 0x37 0x20 0x00 0x01 0x03 0x01 0x7f 0x48 0x01 0x01 0xc0 0x0f 0xc0 0x7f 0x38 0x38 0x80 0x01 "
    "0x00 0x00 0x01 0x00 0x00 0x00 0x00 0x00 0x07 0x28 0x40 0x10 0xff 0x00 0x58 0x50 0x48 0x04 0x08 0x10 0x02 0x02 "
    "0x00 0x00 0x00 0xcc 0x41 0x6d 0x62 0x69 0x65 0x6e 0x74 0x20 0x54 0x65 0x6d 0x70"
)
_CONTROLLER = """\
mc_add {address:#x} 0 no-device-sdrs 0xbf 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable {address:#x} 1000 0x0a
sensor_add {address:#x} 0 1 0x01 0x01
sensor_set_value {address:#x} 0 1 0x30 0
sensor_set_threshold {address:#x} 0 1 settable 111000 0x58 0x50 0x48 0x10 0x08 0x04
sensor_set_event_support {address:#x} 0 1 enable scanning per-state \
000111111000000 000111111000000 000111111000000 000111111000000
main_sdr_add {address:#x} {record}
mc_add_fru_data {address:#x} 0 {size} file 0 "{folder}/fru.bin"
mc_enable {address:#x}
"""


class Rival(ABC):
    """A server that can be started anew when a case has broken it."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        self.restarts = -1
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """What to run."""

    @abstractmethod
    def bmc(self, *, bridged: bool) -> Bmc:
        """What it claims to have."""

    def start(self) -> Self:
        """Start it, or start it anew."""
        self.stop()
        self.restarts += 1
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self.bmc(bridged=False).alive():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start")
        return self

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class IpmiSim(Rival):
    """OpenIPMI's simulator: 20h with a chassis, a sensor and a console, and two more controllers behind it."""

    name = "ipmi_sim"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        console = _echoing_console()
        (folder / "lan.conf").write_text(_LAN.format(port=self.port, console=console, folder=folder))
        script = folder / "chassis.sh"
        script.write_text(_CHASSIS.format(folder=folder))
        script.chmod(0o755)
        image = bytearray.fromhex(FRU).ljust(47, b"\0")
        image.append(-sum(image[8:]) & 0xFF)
        (folder / "fru.bin").write_bytes(image)
        parts = [
            _CONTROLLER.format(address=address, record=_SENSOR_RECORD, folder=folder, size=len(image))
            for address in (0x20, 0x30, 0x32)
        ]
        (folder / "sim.emu").write_text("mc_setbmc 0x20\n" + "".join(parts))

    def command(self) -> list[str]:
        for address in (0x20, 0x30, 0x32):
            (self.folder / f"power{address:#x}").write_text("0\n")
            (self.folder / f"boot{address:#x}").write_text("default\n")
        state = self.folder / "state"
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir()
        program = shutil.which("ipmi_sim")
        if program is None:
            raise RuntimeError("no ipmi_sim: apt-get install openipmi")
        folder = str(self.folder)
        return [program, "-c", f"{folder}/lan.conf", "-f", f"{folder}/sim.emu", "-s", str(state), "-n"]

    def bmc(self, *, bridged: bool) -> Bmc:
        words = "suite3 suite17 operator viewer nokg power sel sensors sol diag loopback identify"
        words += " bridging dual other" if bridged else " direct freeipmi"
        return Bmc(
            HOST,
            self.port,
            ADMIN,
            operator=OPERATOR,
            viewer=VIEWER,
            suites=(3, 17),
            lists_suites=False,
            target=0x30 if bridged else None,
            other=(0, 0x32),
            capabilities=frozenset(words.split()),
            timeout=PATIENCE,
            patience=5.0,
        )


class FakeBmc(Rival):
    """pyghmi's server."""

    name = "pyghmi's fakebmc"

    def command(self) -> list[str]:
        program = Path(__file__).with_name("pyghmi_server.py")
        return [sys.executable, str(program), str(self.port), ADMIN.name, ADMIN.password]

    def bmc(self, *, bridged: bool) -> Bmc:
        words = "suite3 nokg power diag sol loopback direct freeipmi"
        return Bmc(
            HOST,
            self.port,
            ADMIN,
            suites=(3,),
            lists_suites=False,
            capabilities=frozenset() if bridged else frozenset(words.split()),
            timeout=PATIENCE,
            patience=5.0,
        )


def _free_port() -> int:
    """A UDP port that the system does not give to anybody else soon."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _echoing_console() -> int:
    """A TCP server that echoes what it is sent, for as long as this program runs; returns its port."""
    listening = socket.create_server((HOST, 0))

    def echo(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    port: int = listening.getsockname()[1]
    return port
