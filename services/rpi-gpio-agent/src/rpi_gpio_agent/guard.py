"""The release guard: lets a button go when the event loop does not, because it hangs."""

import logging
import threading
from typing import Self

from rpi_gpio_agent.lines import LineError, OutputLine

log = logging.getLogger(__name__)

MARGIN = 1.0
"""Seconds that a press may last longer than wanted before the guard ends it."""


class ReleaseGuard:
    """A timer thread for the length of one press, and no longer. Use as a context manager around it.

    Only a second thread can help against an event loop that is stuck; against a process that is stopped or killed
    there are the next start and the kernel (see `gpiod_lines`).
    """

    def __init__(self, line: OutputLine, seconds: float, what: str) -> None:
        self._line = line
        self._what = what
        self._timer = threading.Timer(seconds + MARGIN, self._fire)
        self._timer.name = f"release-guard {what}"
        self._timer.daemon = True
        self.fired = False

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()

    def _fire(self) -> None:
        self.fired = True
        try:
            self._line.write(False)
        except LineError as error:
            log.critical("%s: the press lasted too long and can't be ended: %s", self._what, error)
        else:
            log.error("%s: the press lasted too long and was ended; is this machine overloaded?", self._what)
