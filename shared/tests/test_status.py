"""The status tracker: debounce, blinking, unknown, grace and causes, in made-up time."""

from hypothesis import given
from hypothesis import strategies as st
from pypmi.config.power import PowerSettings
from pypmi.contract import PowerState
from pypmi.power.status import Cause, StatusChange, StatusTracker

ON, OFF, UNKNOWN = PowerState.ON, PowerState.OFF, PowerState.UNKNOWN


class Story:
    """Feeds readings at given times and lets the tracker's timer run between them."""

    def __init__(self, **more: object) -> None:
        self.tracker = StatusTracker(PowerSettings(), **more)  # type: ignore[arg-type]
        self.changes: list[tuple[float, StatusChange]] = []
        self.now = 0.0

    def until(self, now: float) -> None:
        due = self.tracker.next_timer()
        while due is not None and due <= now:
            self._took(due, self.tracker.tick(due))
            due = self.tracker.next_timer()
        self.now = now

    def at(self, now: float, on: bool | None) -> None:
        self.until(now)
        self._took(now, self.tracker.reading(on, now))

    def _took(self, now: float, change: StatusChange | None) -> None:
        if change is not None:
            self.changes.append((round(now, 3), change))

    @property
    def powers(self) -> list[tuple[float, PowerState]]:
        return [(now, change.power) for now, change in self.changes]


def test_a_reading_counts_when_it_has_lasted():
    story = Story()
    story.at(0, False)
    story.at(5, True)
    story.at(5.1, False)  # too short
    story.at(6, True)
    story.until(10)
    assert story.powers == [(0.75, OFF), (6.3, ON)]


def test_an_external_change_is_seen_within_a_second():
    story = Story()
    story.at(0, True)
    story.at(100, False)
    story.until(101)
    assert story.powers == [(0.3, ON), (100.75, OFF)]
    assert story.changes[-1][1].cause is Cause.EXTERNAL


def test_a_contact_that_bounces_is_no_blinking_light():
    story = Story()
    story.at(0, True)
    for step in range(10):
        story.at(10 + step * 0.01, step % 2 == 1)
    story.at(10.1, False)
    story.until(11)
    assert story.powers[-1] == (10.85, OFF)


def test_a_blinking_light_counts_as_on():
    for half in (0.25, 0.5, 0.7):
        story = Story()
        story.at(0, True)
        now = 10.0
        for _ in range(20):
            story.at(now, False)
            story.at(now + half, True)
            now += 2 * half
        assert story.powers == [(0.3, ON)], half


def test_a_light_that_blinks_slowly_misleads_once_at_most():
    story = Story()
    story.at(0, True)
    for second in range(10, 60, 2):
        story.at(second, False)
        story.at(second + 1, True)
    assert len([power for _, power in story.powers if power is OFF]) == 1
    story.at(60, False)
    story.until(64)
    assert story.powers[-1] == (63, OFF)


def test_unreadable_becomes_unknown_after_a_second():
    story = Story()
    story.at(0, True)
    story.at(10, None)
    story.at(10.5, True)
    story.at(20, None)
    story.until(30)
    assert story.powers == [(0.3, ON), (21, UNKNOWN)]
    story.at(40, True)
    story.until(41)
    last = story.changes[-1][1]
    assert (last.power, last.before, last.real) == (ON, ON, False)


def test_a_lost_board_is_unknown_at_once():
    story = Story()
    story.at(0, True)
    story.until(1)
    change = story.tracker.lost(1)
    assert change is not None
    assert change.power is UNKNOWN
    assert not change.real


def test_what_happened_while_nobody_looked_has_an_unknown_cause():
    story = Story(last_known=OFF)
    story.at(0, True)
    story.until(1)
    change = story.changes[-1][1]
    assert (change.real, change.before, change.cause) == (True, OFF, Cause.UNKNOWN)


def test_causes():
    story = Story()
    story.at(0, False)
    story.until(1)
    story.tracker.expect({ON})
    story.at(2, True)
    story.until(3)
    assert story.changes[-1][1].cause is Cause.COMMAND
    story.tracker.expect({OFF}, until=100)
    story.at(50, False)
    story.until(51)
    assert story.changes[-1][1].cause is Cause.COMMAND  # late, but the command's doing
    story.at(52, True)
    story.at(60, False)
    story.until(70)
    assert story.changes[-1][1].cause is Cause.EXTERNAL  # the credit was given already
    story.tracker.restarted(70)
    story.at(71, True)
    story.until(72)
    assert story.changes[-1][1].cause is Cause.HARDWARE


def test_dips_after_a_start_do_not_count_and_a_commanded_off_does():
    story = Story()
    story.at(0, True)
    story.until(1)
    story.tracker.settle(1)
    story.at(2, False)
    story.at(4.9, True)
    story.at(10, False)
    story.until(11)
    assert story.powers == [(0.3, ON), (10.75, OFF)]
    story.tracker.expect({ON})
    story.at(20, True)
    story.at(22, False)  # within boot_settle of a commanded start
    story.until(26)
    assert story.powers[2:] == [(20.3, ON), (25, OFF)]
    story.at(30, True)
    story.until(31)
    story.tracker.settle(31)
    story.tracker.halt()
    story.tracker.expect({OFF})
    story.at(32, False)
    story.until(33)
    assert story.powers[-1] == (32.75, OFF)


def test_a_steady_source_counts_at_once():
    story = Story(steady=True)
    story.at(0, True)
    story.at(1, False)
    assert story.powers == [(0, ON), (1, OFF)]


@given(st.lists(st.tuples(st.floats(0.01, 5), st.sampled_from([True, False, None])), max_size=60))
def test_a_reading_that_stays_is_always_what_power_says_in_the_end(readings):
    story = Story()
    now = 0.0
    for pause, on in readings:
        now += pause
        story.at(now, on)
        assert story.tracker.next_timer() is None or not story.tracker.settled
    story.at(now + 1, False)
    story.until(now + 10)
    assert story.tracker.power is OFF
    assert story.tracker.next_timer() is None
