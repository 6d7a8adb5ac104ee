"""The mark of a machine that has no identify light: it is seen in the chassis status only."""

import math

from pypmi.contract import IdentifyState


class Mark:
    """Whether the machine is marked. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._until: float | None = None

    def set(self, seconds: float | None, now: float) -> None:
        """Mark the machine for so long; None: until told otherwise; 0: not any more."""
        self._until = math.inf if seconds is None else now + seconds if seconds else None

    def state(self, now: float) -> IdentifyState:
        """Whether it is marked."""
        if self._until is None:
            return IdentifyState.OFF
        if now >= self._until:
            self._until = None
            return IdentifyState.OFF
        return IdentifyState.ON if self._until == math.inf else IdentifyState.TIMED
