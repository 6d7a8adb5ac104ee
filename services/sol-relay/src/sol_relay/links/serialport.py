"""A serial port of this host: pyserial sets it up, the event loop drives its file descriptor."""

import asyncio
import errno
import os
import stat
import termios
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from serial.serialposix import Serial
from serial.serialutil import PARITY_EVEN, PARITY_NONE, PARITY_ODD

from sol_relay.links.base import LinkError
from sol_relay.links.target import PortTarget

_READ = 65_536
_PTY_MAJORS = range(136, 144)
"""Device numbers of pseudo-terminals (Linux Documentation/admin-guide/devices.txt): virtual machines, tests."""
_PARITY = {"none": PARITY_NONE, "even": PARITY_EVEN, "odd": PARITY_ODD}


def open_serial(target: PortTarget) -> "SerialLink":
    """Open and set the port. A stable path (/dev/serial/by-id/...) leads to the adapter wherever it comes back."""
    try:
        if not stat.S_ISCHR(Path(target.path).stat().st_mode):
            raise LinkError(f"{target.path} is not a serial port")
        # not opened by the constructor: DTR and RTS must be known before
        port = Serial(
            baudrate=target.baud,
            bytesize=target.bits,
            parity=_PARITY[target.parity],
            stopbits=target.stop,
            timeout=0,
            write_timeout=0,
            xonxoff=target.flow == "xon-xoff",
            rtscts=target.flow == "rts-cts",
            exclusive=True,
        )
        port.port = target.path
        port.open()
    except (
        OSError,
        ValueError,
        termios.error,
    ) as error:  # SerialException is an OSError; ValueError: a speed it can't have
        raise LinkError(_explain(target.path, error)) from None
    return SerialLink(target, port)


def _explain(path: str, error: Exception) -> str:
    # termios.error is no OSError, and has the number as its first argument
    number = error.args[0] if isinstance(error, termios.error) else getattr(error, "errno", None)
    if number == errno.ENOENT:
        return f"{path} is not there (unplugged?)"
    if number == errno.EACCES:
        return f"no permission for {path}; add the relay's user to its group (dialout)"
    if number in {errno.EAGAIN, errno.EBUSY}:
        return f"{path} is used by another program"
    return f"{path}: {os.strerror(number) if number else error}"


class SerialLink:
    """An open local port."""

    polled = True
    can_break = True

    def __init__(self, target: PortTarget, port: Serial) -> None:
        self._path = target.path
        self._port = port
        self._fd: int = port.fileno()
        self._loop = asyncio.get_running_loop()
        # without flow control the far side can't be held back: unread octets would overrun in the kernel, unseen
        self.can_wait = target.flow != "none" or os.major(os.fstat(self._fd).st_rdev) in _PTY_MAJORS

    def read(self, *, announced: bool) -> bytes:
        """See `Link`."""
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise LinkError(f"{self._path} was lost: {error.strerror}") from None
        if not data and announced:
            raise LinkError(f"{self._path} hung up")
        return data

    def arm(self, on_readable: Callable[[], None]) -> None:
        """See `Link`."""
        self._loop.add_reader(self._fd, on_readable)

    def disarm(self) -> None:
        """See `Link`."""
        self._loop.remove_reader(self._fd)

    def write(self, data: bytes) -> int:
        """See `Link`."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LinkError(f"{self._path} was lost: {error.strerror}") from None

    def on_writable(self, callback: Callable[[], None]) -> None:
        """See `Link`."""

        def ready() -> None:
            self._loop.remove_writer(self._fd)
            callback()

        self._loop.add_writer(self._fd, ready)

    def set_break(self, on: bool) -> None:
        """See `Link`."""
        try:
            self._port.break_condition = on
        except OSError as error:
            raise LinkError(f"break on {self._path}: {error.strerror or error}") from None

    async def close(self) -> None:
        """See `Link`."""
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        with suppress(OSError, termios.error):
            # what the line's flow control holds back would make close() wait for it
            self._port.reset_output_buffer()
        with suppress(OSError, termios.error):
            self._port.close()
