"""Sees to it that the event log has every change of power that can be known of, and has it once.

Events are not retained: what happens while the gateway or the broker is away, nobody tells again. But the state is
retained, and says since when the power is what it is. So a change that only the state tells of is logged by us, after
a moment in which its event may still come.
"""

from pypmi.contract import Event, EventType, NodeState, PowerState

TELL_WITHIN = 3.0
"""Seconds that the event of a change may come later than its state."""
_SAME_CHANGE = 5.0
"""Seconds by which an event's time may differ from the state's `since`, being of one change."""
_CHANGES = {EventType.POWER_ON: PowerState.ON, EventType.POWER_OFF: PowerState.OFF}


class PowerLog:
    """What the log of one node says of its power.

    Args:
        logged: the power after the last change in the log; None when nothing is known.
    """

    def __init__(self, logged: PowerState | None) -> None:
        self.logged = logged
        self.deadline: float | None = None
        """When `overdue` has something to say (monotonic seconds)."""
        self._untold: NodeState | None = None
        self._filled_in: NodeState | None = None

    def told(self, event: Event) -> bool:
        """An event came; returns whether it belongs into the log: it does not when `overdue` had it before."""
        power = _CHANGES.get(event.type)
        if power is None:
            return True
        known, self._filled_in = self._filled_in, None
        self.logged = power
        self._forget()
        if known is None or known.power is not power or known.since is None:
            return True
        return abs((event.at - known.since).total_seconds()) > _SAME_CHANGE

    def seen(self, state: NodeState, now: float) -> None:
        """The state is known to be this, on or off."""
        if self.logged is None:
            self.logged = PowerState(state.power)
        if state.power == self.logged:
            self._forget()
        elif self._untold is None or self._untold.power != state.power:
            self._untold, self.deadline = state, now + TELL_WITHIN

    def overdue(self, now: float) -> NodeState | None:
        """The state by which a change is known whose event has not come in time; to be logged now, once."""
        if self._untold is None or self.deadline is None or now < self.deadline:
            return None
        self._filled_in, self.logged = self._untold, PowerState(self._untold.power)
        self._forget()
        return self._filled_in

    def _forget(self) -> None:
        self._untold = self.deadline = None
