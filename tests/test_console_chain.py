"""A real shell on a serial port, through relay, broker and gateway, to ipmitool on a terminal."""

import hashlib
import itertools
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import free_tcp_port, free_udp_base, have, run, until

pytestmark = [
    pytest.mark.skipif(not have("ipmitool", "mosquitto", "socat", "bash"), reason="needs ipmitool, mosquitto, socat"),
    pytest.mark.timeout(300),
]
KIB = 1024
NUMBERS = itertools.count(1)


class Chain:
    """Broker, relay and gateway, and a shell on a pty that serves as serial port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mqtt_port = free_tcp_port()
        self.port = free_udp_base(1)
        (folder / "password").write_text("secret")
        (folder / "password").chmod(0o600)
        (folder / "mosquitto.conf").write_text(
            f"listener {self.mqtt_port} 127.0.0.1\npersistence false\nuser root\nallow_anonymous true\n"
        )
        (folder / "fleet.yaml").write_text(f"""
mqtt: {{url: "mqtt://127.0.0.1:{self.mqtt_port}"}}
gateway: {{listen: ["127.0.0.1:{self.port}"]}}
users: [{{name: admin, password: {{file: password}}}}]
nodes:
  - {{id: box, address: 1, hardware: {{type: esp8266, host: 127.0.0.1}}, console: {{type: serial, path: {folder}/tty}}}}
""")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.start("shell")
        until((folder / "tty").exists, what="the shell's pty")
        for name in ("broker", "relay", "gateway"):
            self.start(name)
        until(lambda: self.ipmitool("mc", "info").code == 0, 60, "the gateway")
        until(lambda: '"online":true' in self.state(), 60, "the console")

    def start(self, name: str) -> None:
        """Start one of the programs (again)."""
        service = ("--config", str(self.folder / "fleet.yaml"), "--state-dir", str(self.folder / name))
        shell = 'EXEC:"env PS1=$\\  bash --norc --noediting -i",pty,setsid,ctty,stderr,sane'
        command = {
            "shell": ("socat", f"PTY,link={self.folder}/tty,raw,echo=0", shell),
            "broker": (shutil.which("mosquitto") or "mosquitto", "-c", str(self.folder / "mosquitto.conf")),
            "relay": (sys.executable, "-m", "sol_relay", *service),
            "gateway": (sys.executable, "-m", "ipmi_gateway", *service),
        }[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def state(self) -> str:
        """What the relay says about the console."""
        words = ("-p", str(self.mqtt_port), "-t", "nodes/box/sol/state", "-C", "1", "-W", "2")
        return run("mosquitto_sub", *words).out.replace(" ", "")

    def command(self, *words: str) -> list[str]:
        tool = ["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", str(self.port), "-U", "admin", "-P", "secret"]
        return [*tool, *words]

    def ipmitool(self, *words: str):
        return run(*self.command(*words))


class Console:
    """ipmitool's console on a terminal of its own."""

    def __init__(self, chain: Chain) -> None:
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp("ipmitool", chain.command("-t", "1", "sol", "activate"))
        self.expect(rb"\[SOL Session operational.*\]")
        until(lambda: not termios.tcgetattr(self.fd)[3] & termios.ICANON, what="raw mode")
        os.set_blocking(self.fd, False)

    def expect(self, pattern: bytes, timeout: float = 30) -> re.Match[bytes]:
        """Wait for something to be shown; what was shown up to its end is forgotten."""
        deadline = time.monotonic() + timeout
        while (match := re.search(pattern, self.shown, re.DOTALL)) is None:
            assert time.monotonic() < deadline, f"{pattern!r} not in {self.shown[-600:]!r}"
            self.read(0.2)
        self.shown = self.shown[match.end() :]
        return match

    def until(self, text: bytes, timeout: float = 120) -> bytes:
        """Wait until `text` was shown; returns what was shown before it."""
        deadline = time.monotonic() + timeout
        while (end := self.shown.find(text)) < 0:
            assert time.monotonic() < deadline, f"{text!r} not in {self.shown[-600:]!r}"
            self.read(0.2)
        before, self.shown = self.shown[:end], self.shown[end + len(text) :]
        return before

    def read(self, timeout: float) -> None:
        if select.select([self.fd], [], [], timeout)[0]:
            self.shown += os.read(self.fd, 65536)

    def type(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self.fd, data[:1024]) :]
            except BlockingIOError:
                self.read(0.01)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    running = Chain(tmp_path_factory.mktemp("chain"))
    yield running
    running.stop()


@pytest.fixture
def console(chain: Chain) -> Iterator[Console]:
    opened = Console(chain)
    # a number of its own, and the prompt after it: the scrollback shows what earlier tests were answered
    number = next(NUMBERS)
    opened.type(b"\x15stty sane rows 24 cols 80; export TERM=vt100; echo ready-$((%d+1000))\r" % number)
    opened.expect(rb"ready-%d.*?\$" % (number + 1000))
    yield opened
    opened.close()


def blob(size: int) -> bytes:
    return bytes(random.Random(9).choices(bytes(set(range(256)) - set(b"~")), k=size))


def test_shell(console: Console):
    console.type(b"echo $((6*7)); tty\r")
    console.expect(rb"\r\n42\r\n/dev/pts/\d+\r\n")


@pytest.mark.skipif(not have("vi"), reason="needs vi")
def test_full_screen_editor(console: Console, tmp_path: Path):
    file = tmp_path / "note"
    console.type(b"vi %s\r" % str(file).encode())
    console.expect(rb"~.*~")
    console.type(b"ihello from vi\x1b")
    time.sleep(1.5)  # a lone escape is told from an escape sequence by time
    console.type(b":wq\r")
    console.expect(rb"written.*\$$")  # on leaving, vi throws away what is typed already
    until(lambda: file.exists() and file.read_text() == "hello from vi\n", what="the saved file")


@pytest.mark.skipif(not have("htop"), reason="needs htop")
def test_full_screen_monitor(console: Console):
    console.type(b"htop\r")
    console.expect(rb"Load average.*F10.*Quit")
    console.type(b"q")
    console.expect(rb"\x1b\[\?1l.*\$$")  # the keypad's mode is put back, then comes the prompt
    console.type(b"echo and-$((4))-back\r")
    console.expect(b"and-4-back")


def test_paste_goes_through_whole(console: Console):
    data = blob(256 * KIB)
    console.type(b"stty raw -echo; echo go; head -c %d | sha256sum; stty sane\r" % len(data))
    console.until(b"\ngo")
    time.sleep(0.5)
    console.type(data)
    console.expect(hashlib.sha256(data).hexdigest().encode(), 120)


def test_output_comes_through_whole(console: Console, tmp_path: Path):
    data = blob(1024 * KIB)
    (tmp_path / "blob").write_bytes(data)
    console.type(b"stty raw -echo; echo BEGIN; cat %s/blob; echo THE''-END; stty sane\r" % str(tmp_path).encode())
    console.until(b"\nBEGIN\n")
    assert console.until(b"THE-END") == data


def test_output_bytes_are_right_even_when_the_broker_restarts(chain: Chain, console: Console, tmp_path: Path):
    data = blob(128 * KIB)
    (tmp_path / "blob").write_bytes(data)
    (tmp_path / "slowly").write_text(
        f"for i in $(seq 0 31); do dd if={tmp_path}/blob bs=4096 skip=$i count=1 2>/dev/null; sleep 0.2; done\n"
    )
    console.type(b"stty raw -echo; echo BEGIN; . %s/slowly; echo THE''-END; stty sane\r" % str(tmp_path).encode())
    console.until(b"\nBEGIN\n")
    time.sleep(1)
    chain.kill("broker")
    time.sleep(1)
    chain.start("broker")
    said = console.until(b"THE-END")
    notices = re.findall(rb"\r\n\[pypmi: [^\]\r\n]*\]\r\n", said)
    assert notices, "nothing was said about the broker"
    assert re.sub(rb"\r\n\[pypmi: [^\]\r\n]*\]\r\n", b"", said) == data


def test_paste_survives_a_restart_of_the_broker(chain: Chain, console: Console):
    data = blob(96 * KIB)
    console.type(b"stty raw -echo; echo go; head -c %d | sha256sum; stty sane\r" % len(data))
    console.until(b"\ngo")
    time.sleep(0.5)
    console.type(data[: 48 * KIB])
    chain.kill("broker")
    time.sleep(1)
    chain.start("broker")
    console.type(data[48 * KIB :])
    console.until(hashlib.sha256(data).hexdigest().encode(), 60)


def test_scrollback_after_a_restart_of_the_gateway(chain: Chain, console: Console):
    console.type(b"echo before-the-$((1))-restart\r")
    console.expect(b"before-the-1-restart")
    chain.kill("gateway")
    chain.start("gateway")
    until(lambda: chain.ipmitool("mc", "info").code == 0, 60, "the gateway")
    again = Console(chain)
    again.until(b"[pypmi: what the console said before]")
    assert b"before-the-1-restart" in again.until(b"[pypmi: live output]")
    again.type(b"echo and-$((2))-on\r")
    again.expect(b"and-2-on")
    again.close()


def test_ctrl_c_reaches_the_shell(console: Console):
    console.type(b"sleep 1000\r")
    console.expect(b"sleep 1000")
    time.sleep(0.5)
    console.type(b"\x03")
    console.type(b"echo still-$((3))-here\r")
    console.expect(b"still-3-here")
