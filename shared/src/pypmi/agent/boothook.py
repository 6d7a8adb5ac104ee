"""Runs the operator's own command when what a node boots has changed: `boot.hook` in fleet.yaml."""

import asyncio
import contextlib
import logging
import os
import signal
from dataclasses import dataclass

from pypmi.contract import BootDevice

logger = logging.getLogger(__name__)

_SECONDS = 60.0
"""A hook that takes longer is killed with all it has started."""
_MAX_WAITING = 10_000
_SAID = 500
"""Octets of what a failed hook said last that go to the log."""


@dataclass(frozen=True, slots=True)
class BootChange:
    """What a node boots now."""

    node: str
    mac: str
    """Lower case with colons; empty when fleet.yaml names none."""
    device: BootDevice = BootDevice.NONE
    persistent: bool = False
    efi: bool = False

    def fill(self, word: str) -> str:
        """One word of the command with the placeholders filled in."""
        return word.replace("{id}", self.node).replace("{mac}", self.mac).replace("{device}", self.device.value)

    def environment(self) -> dict[str, str]:
        """The same, and the rest, as variables."""
        return {
            "PYPMI_NODE": self.node,
            "PYPMI_MAC": self.mac,
            "PYPMI_DEVICE": self.device.value,
            "PYPMI_PERSISTENT": str(int(self.persistent)),
            "PYPMI_EFI": str(int(self.efi)),
        }


class BootHook:
    """Runs the hook for one change after the other, in their order.

    Args:
        command: program and arguments, run without a shell; None: there is no hook.
    """

    def __init__(self, command: tuple[str, ...] | None) -> None:
        self.command = command
        self._told: dict[str, BootChange] = {}
        self._waiting: asyncio.Queue[BootChange] = asyncio.Queue(_MAX_WAITING)

    def tell(self, change: BootChange) -> None:
        """Have the hook run, if this is new. That a node boots as ever is not, at first."""
        before = self._told.get(change.node) or BootChange(change.node, change.mac)
        self._told[change.node] = change
        if self.command is None or change == before:
            return
        try:
            self._waiting.put_nowait(change)
        except asyncio.QueueFull:
            logger.error("%s: the boot hook is far behind; it is not told of %s", change.node, change.device)

    def forget(self, node: str) -> None:
        """The node has left."""
        self._told.pop(node, None)

    async def run(self) -> None:
        """Run hooks until cancelled. One that fails is logged, and the next is run."""
        while True:
            change = await self._waiting.get()
            if self.command is None:
                continue
            command = [change.fill(word) for word in self.command]
            try:
                await _run_command(command, change)
            except (OSError, ValueError) as error:
                logger.error("%s: the boot hook %s can't be run: %s", change.node, command[0], error)


async def _run_command(command: list[str], change: BootChange) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **change.environment()},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said = await _last_words(process)
            await process.wait()
    except TimeoutError:
        logger.error("%s: the boot hook took longer than %g s; killed", change.node, _SECONDS)
    else:
        if process.returncode:
            logger.error("%s: the boot hook ended with status %d: %s", change.node, process.returncode, said)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it has left running
        await process.wait()


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """The end of what it says; the rest is not kept."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    said = b""
    while data := await process.stdout.read(4096):
        said = (said + data)[-_SAID:]
    return said.decode(errors="replace").strip()
