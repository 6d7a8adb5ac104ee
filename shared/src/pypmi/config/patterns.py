"""Name patterns: one entry for many nodes that are alike.

`id: node[01-40]` stands for forty nodes. In every text of that entry `{n}` is the number as written in the id (`07`)
and `{n+100}` or `{n-1}` is calculated (`107`, `6`). A text that is nothing but a placeholder becomes a number, so
that `address: "{n}"` works.
"""

import re
from typing import Any

_RANGE = re.compile(r"^(?P<head>[^\[\]]*)\[(?P<first>[0-9]{1,5})-(?P<last>[0-9]{1,5})\](?P<tail>[^\[\]]*)$")
_PLACEHOLDER = re.compile(r"\{n(?:(?P<sign>[+-])(?P<offset>[0-9]{1,9}))?\}")
MAX_EXPANDED = 20_000


class PatternError(ValueError):
    """A pattern can't be unfolded; the text says why and what to write."""


def expand(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Unfold one entry of `nodes`. An entry without a pattern comes back alone. Raises `PatternError`."""
    node_id = entry.get("id")
    if not isinstance(node_id, str) or "[" not in node_id:
        return [entry]
    match = _RANGE.match(node_id)
    if match is None:
        raise PatternError(f"{node_id!r} is no pattern; write one range as in node[1-40]")
    first, last = int(match["first"]), int(match["last"])
    if last < first or last - first >= MAX_EXPANDED:
        raise PatternError(f"the range {first}-{last} must go up, and have at most {MAX_EXPANDED} numbers")
    width = len(match["first"]) if match["first"].startswith("0") else 0
    return [
        {**_fill(entry, number, f"{number:0{width}}"), "id": f"{match['head']}{number:0{width}}{match['tail']}"}
        for number in range(first, last + 1)
    ]


def _fill(value: Any, number: int, written: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, number, written) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, number, written) for item in value]
    if not isinstance(value, str) or "{n" not in value:
        return value

    def replace(match: re.Match[str]) -> str:
        if match["sign"] is None:
            return written
        offset = int(match["offset"])
        return str(number + offset if match["sign"] == "+" else number - offset)

    text = _PLACEHOLDER.sub(replace, value)
    return int(text) if _PLACEHOLDER.fullmatch(value) else text
