"""The GPIO driver: buttons and a status input on the lines of a Raspberry Pi."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from pypmi.config.hardware import GpioHardware, GpioLine
from pypmi.contract import SensorInfo
from pypmi.power.hardware import (
    Button,
    HardwareListener,
    HardwareUnreachableError,
    HardwareUnsafeError,
    HardwareUnsupportedError,
)

from rpi_gpio_agent.guard import ReleaseGuard
from rpi_gpio_agent.lines import Line, LineBackend, LineError, OutputLine, open_backend

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.5
"""Seconds between two readings of the status input when no edge is told: a net under lost edges."""
RETRY_INTERVAL = 5.0
"""Seconds before lines that could not be had are asked for again."""

OpenBackend = Callable[[GpioHardware, str], LineBackend]


class GpioDriver:
    """Implements `ButtonHardware` on GPIO lines.

    `name` is the node's id, for logs and as the lines' consumer. Lines are requested when `run` starts, every output
    inactive, and given back when it ends.
    """

    driver = "gpio"
    sensors: tuple[SensorInfo, ...] = ()

    def __init__(self, settings: GpioHardware, name: str, *, backend: OpenBackend = open_backend) -> None:
        self._settings = settings
        self._name = name
        self._open_backend = backend
        self._wired = wired_buttons(settings)
        self._outputs: dict[Button, OutputLine] = {}
        self._status: Line | None = None
        self._why_not = "the lines are not requested yet"
        self._lost = asyncio.Event()
        self._held: set[Button] = set()

    @property
    def buttons(self) -> frozenset[Button]:
        """Those that are wired."""
        return frozenset(self._wired)

    @property
    def has_status(self) -> bool:
        """Whether there is a status input."""
        return self._settings.status is not None

    async def run(self, listener: HardwareListener) -> None:
        """Hold the lines and report the status input, until cancelled. Lines that are not to be had are retried."""
        while True:
            try:
                await self._serve(listener)
            except LineError as error:
                self._why_not = str(error)
                log.warning("%s: %s; trying again in %g s", self._name, error, RETRY_INTERVAL)
                listener.on_reachable(False, str(error))
                if self.has_status:
                    listener.on_status(None)
            await asyncio.sleep(RETRY_INTERVAL)

    async def _serve(self, listener: HardwareListener) -> None:
        edge = asyncio.Event()
        with ExitStack() as stack:
            backend = self._open_backend(self._settings, f"pypmi-{self._name}")
            outputs: dict[Button, OutputLine] = {}
            for button, line in self._wired.items():
                outputs[button] = backend.output(line)
                stack.callback(outputs[button].close)
            status: Line | None = None
            if self._settings.status is not None:
                status = backend.input(self._settings.status, edge.set)
                stack.callback(status.close)
            lost = asyncio.Event()
            stack.callback(self._forget, lost)
            self._outputs, self._status, self._lost = outputs, status, lost
            listener.on_reachable(True)
            listener.on_firmware(backend.version)
            while True:
                edge.clear()
                if status is not None:
                    listener.on_status(status.read())
                try:
                    async with asyncio.timeout(POLL_INTERVAL if status is not None else None):
                        await edge.wait()
                except TimeoutError:
                    continue

    def _forget(self, lost: asyncio.Event) -> None:
        self._outputs, self._status = {}, None
        self._why_not = "the lines have been given back"
        lost.set()

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        """Hold `button` for `seconds` or until `release` is set; see `ButtonHardware.press`.

        Let go on every way out of here: in `finally`, by `close` when `run` ends, and by the release guard.
        """
        if button not in self._wired:
            raise HardwareUnsupportedError(f"no {button} line is wired")
        output = self._outputs.get(button)
        if output is None:
            raise HardwareUnreachableError(self._why_not)
        if button in self._held or (button is not Button.IDENTIFY and self._held - {Button.IDENTIFY}):
            raise HardwareUnsafeError("another press is under way")
        lost = self._lost
        self._held.add(button)
        try:
            await self._hold(button, output, seconds, (release, lost))
        finally:
            self._held.discard(button)
        if lost.is_set():
            raise HardwareUnreachableError(f"the lines were lost during the press: {self._why_not}", acted=True)

    async def _hold(self, button: Button, output: OutputLine, seconds: float, ends: Iterable[asyncio.Event]) -> None:
        with ExitStack() as stack:
            if button is not Button.IDENTIFY:  # a light may shine for a day, and harms nobody
                stack.enter_context(ReleaseGuard(output, seconds, f"{self._name} {button}"))
            let_go = False
            try:
                output.write(True)
                await _first_of(ends, seconds)
            except LineError as error:
                raise HardwareUnreachableError(str(error), acted=True) from None
            finally:
                let_go = self._let_go(button, output)
            if not let_go:
                raise HardwareUnreachableError(f"the {button} button can't be let go", acted=True)

    def _let_go(self, button: Button, output: OutputLine) -> bool:
        try:
            output.write(False)
        except LineError as error:
            log.critical("%s: the %s button can't be let go: %s", self._name, button, error)
            return False
        return True

    async def read_status(self) -> bool | None:
        """Read the status input now. Raises `HardwareUnreachableError`; None without one."""
        if not self.has_status:
            return None
        if self._status is None:
            raise HardwareUnreachableError(self._why_not)
        try:
            return self._status.read()
        except LineError as error:
            raise HardwareUnreachableError(str(error)) from None


def wired_buttons(settings: GpioHardware) -> dict[Button, GpioLine]:
    """The output lines that a node's settings name."""
    lines = {
        Button.POWER: settings.power_button,
        Button.RESET: settings.reset_button,
        Button.NMI: settings.nmi_button,
        Button.IDENTIFY: settings.identify_led,
    }
    return {button: line for button, line in lines.items() if line is not None}


def release_outputs(settings: GpioHardware, name: str, *, backend: OpenBackend = open_backend) -> None:
    """Drive every output of a node inactive and give it back: what is left to do after the agent was killed.

    Raises `LineError`, after having tried each line.
    """
    opened = backend(settings, f"pypmi-{name}")
    failed: LineError | None = None
    for line in wired_buttons(settings).values():
        try:
            opened.output(line).close()
        except LineError as error:
            failed = error
    if failed is not None:
        raise failed


async def _first_of(events: Iterable[asyncio.Event], seconds: float) -> None:
    """Wait until one of `events` is set or `seconds` are over. What was started is stopped, also when cancelled."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
