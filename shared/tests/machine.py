"""A PC that obeys the ATX rules behind a relay board that can fail, for tests of the power semantics."""

import asyncio
from dataclasses import dataclass, field

from pypmi.contract import SensorInfo
from pypmi.power.hardware import Button, HardwareListener, HardwareUnreachableError

FORCE_OFF = 4.0
"""Seconds of holding after which an ATX machine goes off."""


@dataclass
class Pc:
    """Short press: on when off, a wish to shut down when on. Held 4 s: off. Times in the loop's seconds."""

    on: bool = False
    os_obeys: float | None = 3.0
    """Seconds the operating system takes to halt; None: it ignores the button."""
    dead: bool = False
    """Does not follow the button at all."""
    presses: list[tuple[str, float, float]] = field(default_factory=list)
    """(button, pressed at, let go at)"""
    resets: int = 0
    nmis: int = 0
    held: dict[str, float] = field(default_factory=dict)
    _force: asyncio.TimerHandle | None = None
    _halt: asyncio.TimerHandle | None = None

    def push(self, button: Button) -> None:
        loop = asyncio.get_running_loop()
        assert button not in self.held, "pressed while pressed"
        self.held[button] = loop.time()
        if self.dead:
            return
        if button is Button.POWER:
            if self.on:
                if self.os_obeys is not None and self._halt is None:
                    self._halt = loop.call_later(self.os_obeys, self.switch, False)
            else:
                self.on = True
            self._force = loop.call_later(FORCE_OFF, self.switch, False)
        elif button is Button.RESET:
            self.resets += self.on
        elif button is Button.NMI:
            self.nmis += self.on

    def let_go(self, button: Button) -> None:
        since = self.held.pop(button)
        self.presses.append((button.value, since, asyncio.get_running_loop().time()))
        if button is Button.POWER and self._force is not None:
            self._force.cancel()

    def switch(self, on: bool) -> None:
        """What the mains, the operating system or a held button does."""
        if self._halt is not None:
            self._halt.cancel()
            self._halt = None
        self.on = on

    def close(self) -> None:
        for timer in (self._force, self._halt):
            if timer is not None:
                timer.cancel()


class Board:
    """A `ButtonHardware` in front of a `Pc`, with failures that tests arm."""

    driver = "test"

    def __init__(self, pc: Pc, buttons: set[Button] | None = None, has_status: bool = True) -> None:
        self.pc = pc
        self.buttons = frozenset(buttons if buttons is not None else {Button.POWER, Button.RESET, Button.NMI})
        self.has_status = has_status
        self.sensors: tuple[SensorInfo, ...] = ()
        self.reachable = True
        self.lose_before_press = False
        """The next press does not reach the board."""
        self.lose_after_press: float | None = None
        """The next press is cut off after this many seconds by the board's own timer, and its answer lost."""
        self.poll = 0.2
        self.starts = 0
        self.listener: HardwareListener | None = None

    async def run(self, listener: HardwareListener) -> None:
        self.starts += 1
        self.listener = listener
        try:
            while True:
                listener.on_reachable(self.reachable, "" if self.reachable else "no answer")
                if self.has_status and self.reachable:
                    listener.on_status(self.pc.on)
                await asyncio.sleep(self.poll)
        finally:
            self.listener = None

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        if not self.reachable or self.lose_before_press:
            self.lose_before_press = False
            raise HardwareUnreachableError("no answer", acted=False)
        self.pc.push(button)
        lost, self.lose_after_press = self.lose_after_press, None
        try:
            async with asyncio.timeout(seconds if lost is None else min(seconds, lost)):
                await release.wait()
        except TimeoutError:
            pass
        finally:
            self.pc.let_go(button)
        if lost is not None:
            raise HardwareUnreachableError("connection lost", acted=True)

    async def read_status(self) -> bool | None:
        if not self.reachable:
            raise HardwareUnreachableError("no answer")
        return self.pc.on if self.has_status else None
