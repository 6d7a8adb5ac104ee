"""What people and scripts see: tables and colours for the ones, JSON for the others."""

import json
import sys
from datetime import datetime
from typing import Any

from pypmi.contract import PowerState, utc_now
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {"on": "green", "off": "dim", "unknown": "yellow"}


def out() -> Console:
    """The terminal, or a file: then without colours, and as wide as the content needs."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, width=200)


def err() -> Console:
    """Notes and progress: beside the output, so that it can be piped."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=2, default=_plain))


def print_json_line(value: Any) -> None:
    """One JSON document on one line, for streams; flushed, because somebody waits for it."""
    print(json.dumps(value, default=_plain), flush=True)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, frozenset | set):
        return sorted(str(item) for item in value)
    return str(value)


def table(*columns: str) -> Table:
    """A table without frames, that pipes and narrow terminals take well."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="ellipsis", no_wrap=True)
    return made


def power_text(power: PowerState | str | None, target: str | None = None) -> Text:
    """Sensed power, and where it is heading."""
    word = str(power) if power is not None else "unknown"
    text = Text(word, _STYLES.get(word, ""))
    if target is not None and target != word:
        text.append(f" -> {target}", "yellow")
    return text


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, short: `12 s`, `5 min`, `3 h`, `8 d`."""
    if moment is None:
        return "-"
    seconds = ((now or utc_now()) - moment).total_seconds()
    return span(seconds)


def span(seconds: float) -> str:
    """A span of time, short."""
    if seconds < 0:
        return "0 s"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def clock(moment: datetime) -> str:
    """Local time of day, with the date when it is another day."""
    local = moment.astimezone()
    same_day = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")
