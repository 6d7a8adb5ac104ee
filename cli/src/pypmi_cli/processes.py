"""Run the services of a fleet as child processes: start, watch, start again, stop. Used by `demo` and `up`."""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)

_FIRST_WAIT = 0.3
_LONGEST_WAIT = 5.0
_STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Program:
    """One child process."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    """Where its output goes; None: to ours."""


def service_command(module: str, *arguments: str) -> tuple[str, ...]:
    """How to start one of our services with the Python that runs this tool."""
    return (sys.executable, "-m", module, *arguments)


class Supervisor:
    """Keeps a set of programs running until cancelled; one that ends is started again, at growing intervals."""

    healthy_after = 10.0
    """Seconds that a program must have run for the intervals to begin anew."""

    def __init__(self, programs: tuple[Program, ...]) -> None:
        self._programs = programs
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.failures: dict[str, str] = {}
        """Programs that ended by themselves at their last run, with the exit status, for people."""

    def pid(self, name: str) -> int | None:
        """The process id of a program that runs."""
        process = self._processes.get(name)
        return process.pid if process is not None and process.returncode is None else None

    def reload(self) -> None:
        """Have all programs read their configuration anew (SIGHUP)."""
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGHUP)

    async def run(self) -> None:
        """Start all and watch over them until cancelled; then stop all, the last one first."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for program in self._programs:
                    tasks.create_task(self._keep(program), name=program.name)
        finally:
            await self._stop_all()

    async def _keep(self, program: Program) -> None:
        loop = asyncio.get_running_loop()
        wait = _FIRST_WAIT
        while True:
            started = loop.time()
            process = await self._start(program)
            status = await process.wait()
            if loop.time() - started > self.healthy_after:
                wait = _FIRST_WAIT
            what = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            self.failures[program.name] = what
            logger.warning("%s ended (%s); starting it again in %.1f s", program.name, what, wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _start(self, program: Program) -> asyncio.subprocess.Process:
        output = program.log.open("ab") if program.log is not None else None
        try:
            process = await asyncio.create_subprocess_exec(
                *program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **program.environment},
                # a session of its own: Ctrl-C reaches us alone, and we stop the others in order
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        finally:
            if output is not None:
                output.close()
        self._processes[program.name] = process
        return process

    async def _stop_all(self) -> None:
        for program in reversed(self._programs):
            process = self._processes.get(program.name)
            if process is None or process.returncode is not None:
                continue
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _die_with_parent() -> None:
    """Runs in the child before exec: when this tool is killed the services must not go on without it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
