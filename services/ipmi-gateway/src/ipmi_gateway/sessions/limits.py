"""What keeps strangers from using the gateway up: a rate per source, and a delay after failed logins.

Both tables are bounded, and keep what was used last.
"""

from collections import OrderedDict

from ipmi_gateway.settings import LoginDelaySettings, SourceLimitSettings


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or the /64 network of an IPv6 address."""
    if ":" not in host:
        return host
    if "." in host:  # an IPv4 address seen by an IPv6 socket (::ffff:192.0.2.1)
        return host.rpartition(":")[2]
    groups = host.partition("%")[0].split("::", 1)
    head = groups[0].split(":") if groups[0] else []
    if len(groups) == 2:
        tail = groups[1].split(":") if groups[1] else []
        head += ["0"] * (8 - len(head) - len(tail)) + tail
    return ":".join(head[:4]) + "::/64"


class SourceLimiter:
    """A token bucket for each source."""

    def __init__(self, settings: SourceLimitSettings) -> None:
        self._rate = settings.rate
        self._burst = settings.burst
        self._maximum = settings.maximum
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, source: str, now: float) -> bool:
        """Take one token; False when there is none."""
        tokens, since = self._buckets.get(source, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1
        self._buckets[source] = (tokens - 1 if allowed else tokens, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > self._maximum:
            self._buckets.popitem(last=False)
        return allowed

    def __len__(self) -> int:
        return len(self._buckets)


class _Failures:
    __slots__ = ("count", "last", "next_login")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.next_login = 0.0


class LoginDelay:
    """Failed logins per source and user, and how long the next one has to wait for that.

    Only users that exist are counted: others cannot log in anyhow, and would push the real ones out of the table.
    """

    def __init__(self, settings: LoginDelaySettings) -> None:
        self._settings = settings
        self._table: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def reserve(self, source: str, user: str, now: float) -> float | None:
        """When a login that begins now may go on: logins take turns. None: too many wait, refuse it."""
        entry = self._table.get((source, user))
        if entry is None:
            return now
        if now - entry.last > self._settings.forget_after:
            del self._table[source, user]
            return now
        delay = self._delay(entry.count)
        if delay == 0:
            return now
        turn = max(now, entry.next_login)
        if turn - now > self._settings.longest:
            return None
        entry.next_login = turn + delay
        return turn

    def failed(self, source: str, user: str, now: float) -> int:
        """Count a wrong password; returns how many there were."""
        entry = self._table.setdefault((source, user), _Failures())
        self._table.move_to_end((source, user))
        if len(self._table) > self._settings.maximum:
            self._table.popitem(last=False)
        if now - entry.last > self._settings.forget_after:
            entry.count = 0
        entry.count += 1
        entry.last = now
        entry.next_login = max(entry.next_login, now + self._delay(entry.count))
        return entry.count

    def succeeded(self, source: str, user: str) -> None:
        """Forget the failures."""
        self._table.pop((source, user), None)

    def _delay(self, count: int) -> float:
        return min(max(count - self._settings.free, 0) * self._settings.step, self._settings.longest)

    def __len__(self) -> int:
        return len(self._table)
