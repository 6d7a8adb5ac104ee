"""What is on the PC's serial port: nothing, an echo, a small built-in shell, a program on a pty, or a flood of bytes.

A console is told when the machine gets power, runs and goes off, gets the bytes that arrive on the PC's serial
input, and hands out what the PC sends. How fast is the line's business (`serialline.PacedLine`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from typing import Final

SYSRQ_HELP: Final = b"sysrq: HELP : reboot(b) crash(c) show-memory-usage(m) sync(s) unmount(u)\r\n"
_READ: Final = 4096
_CTRL_C, _CTRL_D, _CTRL_U = 0x03, 0x04, 0x15
_ERASE: Final = (0x08, 0x7F)
_LINE_LIMIT: Final = 1024


class Console:
    """Base: a serial port with nothing behind it. `output` is set by whoever is on the other end of the line."""

    def __init__(self) -> None:
        self.output: Callable[[bytes], None] = lambda _data: None
        self.received = 0
        """Bytes that reached the PC."""
        self.breaks = 0
        """Breaks that reached the PC."""

    def feed(self, data: bytes) -> None:
        """Bytes arrive at the PC's serial input."""
        self.received += len(data)

    def send_break(self) -> None:
        """A break arrives."""
        self.breaks += 1

    def power(self, *, on: bool) -> None:
        """The machine gets power, or loses it."""

    def running(self) -> None:
        """The operating system is up."""

    def resume(self) -> None:
        """The line has room again (see `PacedLine.drained`)."""

    def pause(self) -> None:
        """The line is full for now."""

    def close(self) -> None:
        """Ends what runs."""


class EchoConsole(Console):
    """Sends back every byte, power or not: for tests and measurements of the path."""

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        super().feed(data)
        self.output(data)


class RecordingConsole(Console):
    """Keeps what arrives, in `data`; sends what `say` is given."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        super().feed(data)
        self.data += data

    def say(self, data: bytes) -> None:
        """The PC sends bytes."""
        self.output(data)


class ShellConsole(Console):
    """A small machine's console: firmware and kernel messages while it boots, a shell with a few commands then.

    After a break the next letter is a SysRq command, as on a Linux serial console.
    """

    def __init__(self, hostname: str = "sim", *, reboot: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.hostname = hostname
        self.sysrq: list[str] = []
        """SysRq letters that arrived after a break."""
        self._reboot = reboot
        self._up = False
        self._line = bytearray()
        self._break = False

    def power(self, *, on: bool) -> None:
        """Power on or off."""
        self._up = False
        self._line.clear()
        if on:
            self.output(
                b"\r\nSimulated BIOS v1.0\r\nMemory test: 8192 MB OK\r\nBooting from disk...\r\n"
                b"[    0.000000] Linux version 6.1.0-sim (console=ttyS0,115200n8)\r\n"
            )

    def running(self) -> None:
        """The operating system is up."""
        self._up = True
        self.output(f"[    1.234567] systemd[1]: Reached target multi-user.\r\n{self.hostname} ttyS0\r\n".encode())
        self._prompt()

    def send_break(self) -> None:
        """A break arrives."""
        super().send_break()
        self._break = self._up

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        super().feed(data)
        if not self._up:
            return
        for byte in data:
            self._key(byte)

    def _prompt(self) -> None:
        self.output(f"root@{self.hostname}:~# ".encode())

    def _key(self, byte: int) -> None:
        if self._break:
            self._break = False
            self._magic(chr(byte))
        elif byte in b"\r\n":
            line = self._line.decode("utf-8", "replace").strip()
            self._line.clear()
            self.output(b"\r\n")
            if line:
                self._run(line)
            if self._up:
                self._prompt()
        elif byte in _ERASE:
            if self._line:
                self._line.pop()
                self.output(b"\b \b")
        elif byte in (_CTRL_C, _CTRL_U):
            self._line.clear()
            self.output(b"^C\r\n" if byte == _CTRL_C else b"\r\x1b[K")
            self._prompt()
        elif byte != _CTRL_D and len(self._line) < _LINE_LIMIT:
            self._line.append(byte)
            self.output(bytes([byte]))

    def _magic(self, letter: str) -> None:
        self.sysrq.append(letter)
        if letter == "b" and self._reboot is not None:
            self.output(b"sysrq: Resetting\r\n")
            self._reboot()
        elif letter == "h":
            self.output(SYSRQ_HELP)
        else:
            self.output(f"sysrq: {letter}\r\n".encode())

    def _run(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        match command:
            case "echo":
                self.output(f"{rest}\r\n".encode())
            case "hostname":
                self.output(f"{self.hostname}\r\n".encode())
            case "seq":
                last = min(int(rest), 100_000) if rest.isdigit() else 0
                self.output("".join(f"{n}\r\n" for n in range(1, last + 1)).encode())
            case "uname":
                self.output(b"Linux\r\n")
            case "reboot" if self._reboot is not None:
                self._reboot()
            case "help":
                self.output(b"echo TEXT, hostname, seq N, uname, reboot\r\n")
            case _:
                self.output(f"{command}: command not found\r\n".encode())


class ProcessConsole(Console):
    """A real program on a pseudo terminal, `/bin/sh` or a getty, started when the machine runs.

    Args:
        command: the program and its arguments.
        always: start at once and keep running, whatever the machine does.
        rows, columns: size of the terminal.
    """

    def __init__(
        self,
        command: Sequence[str] = ("/bin/sh", "-i"),
        *,
        always: bool = False,
        rows: int = 24,
        columns: int = 80,
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._command = list(command)
        self._environment = environment
        self._size = rows, columns
        self._process: subprocess.Popen[bytes] | None = None
        self._master = -1
        self._reading = False
        self._pending = bytearray()
        if always:
            self.running()

    @property
    def alive(self) -> bool:
        """Tells whether the program runs."""
        return self._process is not None and self._process.poll() is None

    def running(self) -> None:
        """The operating system is up."""
        self._stop()
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))
        environment = os.environ | {"TERM": "vt220", "PS1": "$ "} | (self._environment or {})
        try:
            self._process = subprocess.Popen(  # noqa: S603  the operator names the program
                self._command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                env=environment,
                preexec_fn=_take_terminal,  # noqa: PLW1509  job control needs it; nothing else runs in the child
            )
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        self._master = master
        self.resume()

    def power(self, *, on: bool) -> None:  # noqa: ARG002  on or off, it starts anew
        """Power on or off."""
        self._stop()

    def feed(self, data: bytes) -> None:
        """Bytes arrive."""
        super().feed(data)
        if self._master < 0:
            return
        self._pending += data
        self._flush()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            written = os.write(self._master, self._pending)
        except BlockingIOError:
            written = 0
        except OSError:
            self._pending.clear()
            return
        del self._pending[:written]
        if self._pending:
            loop.add_writer(self._master, self._flush)
        else:
            loop.remove_writer(self._master)

    def resume(self) -> None:
        """The line has room again."""
        if self._master >= 0 and not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._master, self._readable)

    def pause(self) -> None:
        """The line is full."""
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._master)

    def _readable(self) -> None:
        try:
            data = os.read(self._master, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.output(data)
        else:
            self.pause()

    def _stop(self) -> None:
        self.pause()
        if self._master >= 0:
            asyncio.get_running_loop().remove_writer(self._master)
            os.close(self._master)
            self._master = -1
        self._pending.clear()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """Ends what runs."""
        self._stop()


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class FloodConsole(Console):
    """Sends as fast as the line takes it: a pattern whose bytes tell a reader where they belong.

    The stream is the numbered lines of `pattern`, without end, or `total` bytes of it.
    """

    def __init__(self, *, total: int | None = None, autostart: bool = False) -> None:
        super().__init__()
        self.sent = 0
        self._total = total
        self._paused = not autostart
        self._line = 0
        self._task: asyncio.Handle | None = None
        if autostart:
            self._schedule()

    @staticmethod
    def pattern(line: int) -> bytes:
        """Line `line` of the stream: 64 bytes."""
        return f"{line:010d} {'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOP'[:51]}\r\n".encode()

    def running(self) -> None:
        """The operating system is up."""
        self.resume()

    def power(self, *, on: bool) -> None:  # noqa: ARG002  on or off, it starts anew
        """Power on or off."""
        self.pause()

    def resume(self) -> None:
        """The line has room again."""
        self._paused = False
        self._schedule()

    def pause(self) -> None:
        """The line is full."""
        self._paused = True

    def _schedule(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().call_soon(self._more)

    def _more(self) -> None:
        self._task = None
        if self._paused or (self._total is not None and self.sent >= self._total):
            return
        block = b"".join(self.pattern(self._line + n) for n in range(32))
        self._line += 32
        if self._total is not None:
            block = block[: self._total - self.sent]
        self.sent += len(block)
        self.output(block)
        if not self._paused:
            self._schedule()

    def close(self) -> None:
        """Ends what runs."""
        self._paused = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
