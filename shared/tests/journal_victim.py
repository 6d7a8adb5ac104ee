"""An agent in a process of its own that kills itself with SIGKILL at a named step; run by test_journal.py.

Arguments: broker URL, folder, step. Its machine is a file: each press adds a line, and it is on when there is one.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pypmi.agent import AgentNode, AgentRuntime, Journal
from pypmi.agent.store import Entry, JournalStore
from pypmi.bus import Bus
from pypmi.config.mqtt import MqttSettings
from pypmi.config.power import PowerSettings
from pypmi.contract import PowerResult, SensorInfo, Topics, new_id
from pypmi.power.hardware import Button, HardwareListener


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Victim(JournalStore):
    def __init__(self, path: Path, step: str) -> None:
        super().__init__(path)
        self._step = step
        self._committed = ""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._committed = ""
        with super().transaction():
            yield
        if self._committed and self._step == f"after {self._committed}":
            die()

    def record(self, entry: Entry) -> Entry | None:
        return self._do("record", super().record, entry)

    def finish(self, result: PowerResult) -> None:
        self._do("finish", super().finish, result)

    def _do(self, name: str, call: Any, argument: Any) -> Any:
        if self._step == f"before {name}":
            die()
        answer = call(argument)
        if self._step == f"in {name}":
            die()
        self._committed = name
        return answer


class FileMachine:
    driver = "file"
    buttons = frozenset({Button.POWER})
    has_status = True
    sensors: tuple[SensorInfo, ...] = ()

    def __init__(self, path: Path, step: str) -> None:
        self._path = path
        self._step = step

    async def run(self, listener: HardwareListener) -> None:
        while True:
            listener.on_reachable(True)
            listener.on_status(await self.read_status())
            await asyncio.sleep(0.05)

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        with self._path.open("ab", buffering=0) as file:
            file.write(b"press\n")
            os.fsync(file.fileno())
        if self._step == "pressing":
            die()
        await asyncio.sleep(seconds)

    async def read_status(self) -> bool | None:
        return self._path.exists()


async def main(url: str, folder: Path, step: str) -> None:
    bus = Bus(MqttSettings(url=url), "victim")
    journal = Journal(folder / "journal.sqlite3", Victim(folder / "journal.sqlite3", step))
    runtime = AgentRuntime(bus, Topics(), "agent", new_id(), folder, journal=journal)
    settings = PowerSettings(on_press=0.1, debounce=0.05, blink_dark=0.05)
    await runtime.put(AgentNode("n1", FileMachine(folder / "presses", step), settings))
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        await bus.wait_connected()
        group.create_task(runtime.run())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
