"""The watchdog timer of section 27: counts down on the time that it is told, and says what is to be done."""

from dataclasses import dataclass
from enum import IntEnum

TICKS_PER_SECOND = 10
"""Countdown values are in units of 100 ms."""


class WatchdogAction(IntEnum):
    """Time-out actions (table 27-2)."""

    NONE = 0
    HARD_RESET = 1
    POWER_DOWN = 2
    POWER_CYCLE = 3


class Interrupt(IntEnum):
    """Pre-time-out interrupts (table 27-2)."""

    NONE = 0
    SMI = 1
    NMI = 2
    MESSAGING = 3


@dataclass(frozen=True, slots=True)
class Setting:
    """What Set Watchdog Timer said."""

    use: int = 0
    """Timer use, 1-5 (table 27-2)."""
    log: bool = True
    action: WatchdogAction = WatchdogAction.NONE
    interrupt: Interrupt = Interrupt.NONE
    pre_timeout: int = 0
    """Seconds before the time-out."""
    countdown: int = 0
    """Units of 100 ms."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something that has become due: the pre-time-out interrupt, or the time-out itself."""

    setting: Setting
    pre_timeout: bool


class Watchdog:
    """One watchdog timer. All times are monotonic seconds."""

    def __init__(self) -> None:
        self.setting: Setting | None = None
        """None until the first Set Watchdog Timer."""
        self.expired = 0
        """Timer use expiration flags: bit n for timer use n."""
        self.last_action: WatchdogAction | None = None
        """Of the last time-out, until the timer is set or started again."""
        self._ends: float | None = None
        self._warned = False

    @property
    def running(self) -> bool:
        """Whether it counts down."""
        return self._ends is not None

    @property
    def deadline(self) -> float | None:
        """When `advance` has something to do next; None when the timer stands."""
        if self._ends is None or self.setting is None:
            return None
        if self.setting.interrupt and not self._warned:
            return self._ends - self.setting.pre_timeout
        return self._ends

    def set(self, setting: Setting, *, keep_running: bool, clear_flags: int, now: float) -> None:
        """Take a setting; the timer stops unless it was running and `keep_running` is asked for (section 27.6)."""
        running = self.running and keep_running
        self.setting = setting
        self.expired &= ~clear_flags & 0x3E
        self.last_action = None
        self.stop()
        if running:
            self.start(now)

    def start(self, now: float) -> bool:
        """Count down from the initial value (Reset Watchdog Timer). False when it was never set."""
        if self.setting is None:
            return False
        self._ends = now + self.setting.countdown / TICKS_PER_SECOND
        self._warned = False
        self.last_action = None
        return True

    def stop(self) -> None:
        """Stand still: the machine was powered off or reset."""
        self._ends = None
        self._warned = False

    def present(self, now: float) -> int:
        """The present countdown value in units of 100 ms."""
        if self.setting is None:
            return 0
        if self._ends is None:
            return 0 if self.last_action is not None else self.setting.countdown
        return min(max(round((self._ends - now) * TICKS_PER_SECOND), 0), 0xFFFF)

    def advance(self, now: float) -> list[Due]:
        """Let time pass; returns what has become due since the last call."""
        due: list[Due] = []
        setting = self.setting
        if self._ends is None or setting is None:
            return due
        if setting.interrupt and not self._warned and now >= self._ends - setting.pre_timeout:
            self._warned = True
            due.append(Due(setting, pre_timeout=True))
        if now >= self._ends:
            self.expired |= 1 << setting.use
            self.stop()
            self.last_action = setting.action
            due.append(Due(setting, pre_timeout=False))
        return due
