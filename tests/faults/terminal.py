"""ipmitool's console on a terminal of its own, with a real shell behind the simulated serial port."""

import itertools
import os
import pty
import select
import signal
import termios
import time

from fault_lab import CONSOLE, NODES, Lab
from stack import until


class Terminal:
    """A console session. The shell must be in its prompt."""

    _numbers = itertools.count(100)

    def __init__(self, lab: Lab) -> None:
        self._shown = b""
        self._gone = False
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            words = lab.ipmitool_command("sol", "activate", target=NODES[CONSOLE])
            os.execvp(words[0], words)
        self._wait(b"[SOL Session operational", 30)
        until(lambda: not termios.tcgetattr(self._fd)[3] & termios.ICANON, what="raw mode")

    def _read(self, timeout: float) -> None:
        if self._gone:
            time.sleep(timeout)
        elif select.select([self._fd], [], [], timeout)[0]:
            try:
                self._shown += os.read(self._fd, 65536)
            except OSError:  # ipmitool has ended
                self._gone = True

    def _wait(self, text: bytes, timeout: float) -> bytes:
        """What was shown up to and with `text`."""
        deadline = time.monotonic() + timeout
        while text not in self._shown:
            assert time.monotonic() < deadline, f"{text!r} not in {self._shown[-500:]!r}"
            self._read(0.1)
        before, _, self._shown = self._shown.partition(text)
        return before + text

    def type(self, data: bytes) -> None:
        """Type; nothing when ipmitool has ended."""
        try:
            os.write(self._fd, data)
        except OSError:
            self._gone = True

    def echo(self) -> None:
        """The shell answers."""
        number = next(self._numbers)
        deadline = time.monotonic() + 30
        while b"is-%d." % (number + 1) not in self._shown:
            assert time.monotonic() < deadline, f"no answer from the shell: {self._shown[-500:]!r}"
            self.type(b"\x03\recho is-$((%d+1)).\r" % number)
            until_then = time.monotonic() + 2
            while time.monotonic() < until_then and b"is-%d." % (number + 1) not in self._shown:
                self._read(0.1)

    def start_counting(self) -> None:
        """Have the shell print numbers until a key is pressed."""
        self.echo()
        self._shown = b""
        self.type(b"i=0; while :; do i=$((i+1)); echo n=$i.; sleep 0.04; done\r")
        self._wait(b"n=3.", 20)

    def stop_counting(self) -> bytes:
        """What was shown of the numbers."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            self._read(0.1)
        seen = self._shown
        self.type(b"\x03")
        return seen

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)
