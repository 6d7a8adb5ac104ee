"""Console logs on disk: time-stamped lines in rotating files, written by one task for all consoles.

A full or slow disk costs the log, never the console: what waits is bounded, writing happens off the event loop, and a
failure is reported once and tried again a minute later.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

_WAITING_LIMIT = 1_048_576
"""Octets that wait for the disk, for each console."""
_FLUSH_SECONDS = 1.0
_SLICES = 20
_RETRY_SECONDS = 60.0


class ConsoleLog:
    """The log of one console: `<path>`, rotated to `<path>.1` ... `<path>.<files>`.

    Each line begins with the time (UTC) at which it began to arrive. The bytes between are as they came.
    """

    def __init__(self, path: Path, *, size: int, files: int) -> None:
        self._path = path
        self._size = size
        self._files = files
        self._waiting: list[bytes] = []
        self._waiting_octets = 0
        self._skipped = 0
        self._line_start = True
        self._broken_until = 0.0
        self._broken = False

    def add(self, data: bytes, at: float) -> None:
        """Take octets that came at `at` (seconds since the epoch). Never blocks or raises."""
        if self._waiting_octets > _WAITING_LIMIT:
            self._skipped += len(data)
            return
        stamp = _stamp(at)
        if self._skipped:
            note = f"[{self._skipped} octets are not in this log: the disk did not keep up]\n"
            self._waiting.append(b"\n" + stamp + note.encode())
            self._skipped, self._line_start = 0, True
        text = data.replace(b"\n", b"\n" + stamp)
        if self._line_start:
            text = stamp + text
        self._line_start = data.endswith(b"\n")
        if self._line_start:
            text = text[: -len(stamp)]
        self._waiting.append(text)
        self._waiting_octets += len(text)

    def take(self) -> bytes:
        """What waits to be written; the caller writes it with `write`."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_octets = 0
        return data

    def write(self, data: bytes, now: float) -> None:
        """Append to the file and rotate it; blocks, so it runs in a worker thread. Never raises.

        `now` is monotonic, in seconds.
        """
        if now < self._broken_until:
            return
        try:
            if self._broken:
                data = b"\n%s[the log was interrupted: it could not be written]\n" % _stamp(time.time()) + data
            if self._append(data) >= self._size:
                self._rotate()
        except OSError as error:
            if not self._broken:
                logger.error("console log %s stops: %s; the console goes on", self._path, error.strerror or error)
            self._broken, self._broken_until = True, now + _RETRY_SECONDS
        else:
            if self._broken:
                logger.info("console log %s goes on", self._path)
            self._broken = False

    def _append(self, data: bytes) -> int:
        """Return the file's size."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        # only for the owner: consoles show what people type at them, passwords included
        try:
            file = os.open(self._path, flags, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            file = os.open(self._path, flags, 0o600)
        try:
            while data:
                data = data[os.write(file, data) :]
            return os.lseek(file, 0, os.SEEK_CUR)
        finally:
            os.close(file)

    def _rotate(self) -> None:
        for number in range(self._files - 1, 0, -1):
            with suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _stamp(at: float) -> bytes:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3].encode() + b"Z "


class LogWriter:
    """Writes all consoles' logs, once a second, from one worker thread at a time."""

    def __init__(self) -> None:
        self._logs: dict[ConsoleLog, None] = {}
        self._stopping = asyncio.Event()
        self._writing = asyncio.Lock()

    def add(self, log: ConsoleLog) -> None:
        """Write this log from now on."""
        self._logs[log] = None

    async def remove(self, log: ConsoleLog) -> None:
        """Write what it still has, then stop."""
        self._logs.pop(log, None)
        await self._write([log])

    async def run(self) -> None:
        """Work until `stop`; then write the rest. Not to be cancelled: a worker thread can't be."""
        part = 0
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _FLUSH_SECONDS / _SLICES)
            # a few at a time: the worker thread takes its processor time from the event loop
            part = (part + 1) % _SLICES
            await self._write(list(self._logs)[part::_SLICES])
        await self._write(list(self._logs))

    def stop(self) -> None:
        """Make `run` end."""
        self._stopping.set()

    async def _write(self, logs: Iterable[ConsoleLog]) -> None:
        async with self._writing:
            work = [(log, data) for log in logs if (data := log.take())]
            if work:
                await asyncio.to_thread(_write_all, work, time.monotonic())


def _write_all(work: list[tuple[ConsoleLog, bytes]], now: float) -> None:
    for log, data in work:
        log.write(data, now)
