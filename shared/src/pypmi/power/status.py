"""What a status input's raw readings mean: debounced power, blinking, grace while something is under way, and causes.

Sans-IO: time is an argument, in seconds of any monotonic clock; `next_timer` says when `tick` is due.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from pypmi.config.power import PowerSettings
from pypmi.contract import PowerState

UNKNOWN_AFTER = 1.0
"""Seconds without a readable status until power is unknown."""
_REAL_PHASE = 0.1
"""Seconds a light phase must last to belong to a blinking light; shorter ones are a contact that bounces."""
_BLINK_MEMORY = 6.0
"""Two falls within this many seconds are a blinking light: sleeping machines blink at 0.25 to 2 Hz."""
_BLINK_HOLD = 3.0
"""A light that has been blinking is off when it has been dark for this long."""
_GLITCH_MEMORY = 15.0
"""Seconds after a board's restart in which a change is put down to its outputs' glitch."""


class Cause(StrEnum):
    """What changed the power (the contract's words for `state.cause` and events)."""

    COMMAND = "command"
    EXTERNAL = "external"
    """Somebody pressed the real button, the operating system halted, the mains went away."""
    HARDWARE = "hardware"
    """The relay board restarted; its outputs may have glitched."""
    UNKNOWN = "unknown"
    """It happened while nobody was looking."""


@dataclass(frozen=True, slots=True)
class StatusChange:
    """The power is now known to be `power`."""

    power: PowerState
    before: PowerState
    """What was last known of it (never unknown, unless nothing was)."""
    cause: Cause

    @property
    def real(self) -> bool:
        """Whether the machine changed, and not only what is known of it."""
        return self.power is not PowerState.UNKNOWN and self.power is not self.before


class StatusTracker:
    """Turns raw readings into power.

    Args:
        settings: durations (`debounce`, `blink_dark`, `boot_settle`).
        steady: the readings are somebody's word and not a light's level (a BMC): they count at once.
        last_known: the power before the agent's restart, so that what happened meanwhile is told from what did not.
    """

    def __init__(
        self, settings: PowerSettings, *, steady: bool = False, last_known: PowerState = PowerState.UNKNOWN
    ) -> None:
        self._settings = settings
        self._steady = steady
        self.power = PowerState.UNKNOWN
        self.last_known = last_known
        self._raw: bool | None = None
        self._raw_since = -inf
        self._falls: deque[float] = deque(maxlen=2)
        self._expected: frozenset[PowerState] = frozenset()
        self._expected_until = -inf
        self._settle_until = -inf
        self._glitch_until = -inf

    # -- what is seen ----------------------------------------------------------------------------------------------

    def reading(self, on: bool | None, now: float) -> StatusChange | None:
        """Take a reading of the status input; None when it can't be read."""
        if on is not self._raw:
            if on is False and self._raw is True and now - self._raw_since >= _REAL_PHASE:
                self._falls.append(now)
            self._raw, self._raw_since = on, now
        return self.tick(now)

    def lost(self, now: float) -> StatusChange | None:
        """The hardware does not answer any more: power is unknown at once."""
        self._raw, self._raw_since = None, -inf
        return self.tick(now)

    def restarted(self, now: float) -> None:
        """The relay board has restarted: a change that follows is its glitch and not a person's press."""
        self._glitch_until = now + _GLITCH_MEMORY

    def tick(self, now: float) -> StatusChange | None:
        """Take notice of the time; due at `next_timer`."""
        due = self.next_timer()
        if due is None or now < due:
            return None
        before, known = self.power, self.last_known
        self.power = self._candidate
        change = StatusChange(self.power, known, self._cause(before, now))
        if self.power is PowerState.ON and change.cause is Cause.COMMAND:
            self.settle(now)
        if self.power is not PowerState.UNKNOWN:
            self.last_known = self.power
        return change

    def next_timer(self) -> float | None:
        """When the last reading will count, if it stays; None when it is what `power` says already."""
        if self.settled:
            return None
        return self._raw_since + self._hold()

    @property
    def settled(self) -> bool:
        """Whether the last reading agrees with `power`."""
        return self._candidate is self.power

    @property
    def _candidate(self) -> PowerState:
        if self._raw is None:
            return PowerState.UNKNOWN
        return PowerState.ON if self._raw else PowerState.OFF

    def _hold(self) -> float:
        if self._raw is None:
            return UNKNOWN_AFTER
        if self._steady:
            return 0.0
        if self._raw:
            return self._settings.debounce
        hold = max(self._settings.debounce, self._settings.blink_dark)
        if self.power is PowerState.ON and self._raw_since < self._settle_until:
            hold = max(hold, self._settings.boot_settle)
        if len(self._falls) == 2 and self._falls[1] - self._falls[0] < _BLINK_MEMORY:
            hold = max(hold, _BLINK_HOLD)
        return hold

    def _cause(self, before: PowerState, now: float) -> Cause:
        if self.power in self._expected and now < self._expected_until:
            if self._expected_until != inf:  # credit for what came late is given once
                self._expected = frozenset()
            return Cause.COMMAND
        if now < self._glitch_until:
            return Cause.HARDWARE
        if PowerState.UNKNOWN in {before, self.power}:
            return Cause.UNKNOWN
        return Cause.EXTERNAL

    # -- what is under way -----------------------------------------------------------------------------------------

    def expect(self, powers: Iterable[PowerState], until: float = inf) -> None:
        """A command is under way that leads to `powers`: such a change before `until` is the command's doing.

        With a finite `until` it counts for one change only.
        """
        self._expected, self._expected_until = frozenset(powers), until
        self._falls.clear()  # commands that follow each other are no blinking light

    def settle(self, now: float) -> None:
        """The machine starts now: a dip that begins within `boot_settle` does not count if it is shorter than that."""
        self._settle_until = now + self._settings.boot_settle

    def halt(self) -> None:
        """The machine is being switched off: an off is an off again."""
        self._settle_until = -inf
