"""Bringing the machine into a state, for the cases that need one."""

import time

from .bmc import Bmc, Console
from .codes import BUSY, CHASSIS, CONTROL, OFF, ON, SOFT, STATE, STATUS


def status(console: Console) -> bytes:
    """Get Chassis Status."""
    data = console.ok(CHASSIS, STATUS)
    assert len(data) in (3, 4), f"a chassis status of {len(data)} octets"
    return data


def is_on(console: Console) -> bool:
    """Whether the machine is on."""
    return bool(status(console)[0] & 1)


def control(console: Console, action: int) -> int:
    """Chassis Control, again while the machine is busy with the last one; returns the completion code."""
    deadline = time.monotonic() + console.bmc.patience
    while True:
        code = console.code(CHASSIS, CONTROL, action)
        if code != BUSY or time.monotonic() > deadline:
            return code
        time.sleep(0.1)


def wait(console: Console, on: bool) -> None:
    """Wait until the machine is on, or off."""
    deadline = time.monotonic() + console.bmc.patience
    while is_on(console) is not on:
        assert time.monotonic() < deadline, f"not {'on' if on else 'off'} within {console.bmc.patience:.0f} s"
        time.sleep(0.05)


def make(bmc: Bmc, on: bool) -> Console:
    """An administrator's session, with the machine on or off."""
    console = bmc.console()
    if is_on(console) is not on:
        assert control(console, ON if on else SOFT) in {0, STATE}, "Chassis Control"
        try:
            wait(console, on)
        except AssertionError:
            assert control(console, ON if on else OFF) == 0, "Chassis Control"
            wait(console, on)
    rest(console)
    return console


def rest(console: Console) -> None:
    """Wait until the machine is not busy any more: asking for the state that it has is done at once then."""
    code = control(console, ON if is_on(console) else OFF)
    assert code == 0, f"Chassis Control to the present state: {code:02x}h"


def pressed(bmc: Bmc) -> int:
    """How often the button was pressed; 0 where that can't be told."""
    return bmc.presses() if bmc.presses else 0
