"""Results as a table."""

from collections.abc import Mapping, Sequence

from .case import Group, Result, Verdict


def summary(columns: Mapping[str, Sequence[Result]]) -> str:
    """A Markdown table: passed of those that applied, by group, for each BMC."""
    lines = ["| group | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for group in Group:
        cells = [_cell([result for result in results if result.case.group is group]) for results in columns.values()]
        if any(cell != "–" for cell in cells):
            size = max(sum(result.case.group is group for result in results) for results in columns.values())
            lines.append(f"| {group} ({size}) | " + " | ".join(cells) + " |")
    size = max(len(results) for results in columns.values())
    lines.append(f"| all ({size}) | " + " | ".join(_cell(results) for results in columns.values()) + " |")
    return "\n".join(lines)


def _cell(results: Sequence[Result]) -> str:
    applied = [result for result in results if result.verdict is not Verdict.NOT_APPLICABLE]
    if not applied:
        return "–"
    passed = sum(result.verdict is Verdict.PASSED for result in applied)
    return f"{passed} of {len(applied)}"
