"""Results as Markdown tables."""

from collections.abc import Callable, Mapping, Sequence

from .case import Group, Result, Verdict

Columns = Mapping[str, Sequence[Result]]
"""The results of each BMC, by its name."""
NOTHING = "–"


def summary(columns: Columns) -> str:
    """Passed of those that applied, by group, for each BMC."""
    rows = [
        _row(
            f"{group} ({_size(columns, group)})", _only(columns, lambda result, group=group: result.case.group is group)
        )
        for group in Group
    ]
    size = max(len(results) for results in columns.values())
    return "\n".join([*_head("group", columns), *filter(None, rows), _row(f"all ({size})", columns)])


def by_rule(columns: Columns) -> str:
    """For each group a table with each rule, and how many of its cases each BMC passes."""
    tables = []
    for group in Group:
        rules = {
            rule_name(result): result.case.rule
            for results in columns.values()
            for result in results
            if result.case.group is group
        }
        rows = [
            _row(f"`{name}` {rule}", _only(columns, lambda result, name=name: rule_name(result) == name))
            for name, rule in rules.items()
        ]
        title = str(group)
        tables.append(
            "\n".join([f"### {title[0].upper()}{title[1:]}", "", *_head("rule", columns), *filter(None, rows)])
        )
    return "\n\n".join(tables)


def rule_name(result: Result) -> str:
    """A case's name without its variant."""
    return result.case.name.partition("[")[0]


def _head(first: str, columns: Columns) -> list[str]:
    return [f"| {first} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]


def _row(name: str, columns: Columns) -> str:
    """A line of a table; empty where no case applied to anybody."""
    cells = [_cell(results) for results in columns.values()]
    return "" if set(cells) == {NOTHING} else f"| {name.replace('|', '/')} | " + " | ".join(cells) + " |"


def _only(columns: Columns, wanted: Callable[[Result], bool]) -> Columns:
    return {name: [result for result in results if wanted(result)] for name, results in columns.items()}


def _size(columns: Columns, group: Group) -> int:
    return max(sum(result.case.group is group for result in results) for results in columns.values())


def _cell(results: Sequence[Result]) -> str:
    applied = [result for result in results if result.verdict is not Verdict.NOT_APPLICABLE]
    if not applied:
        return NOTHING
    passed = sum(result.verdict is Verdict.PASSED for result in applied)
    return f"{passed} of {len(applied)}"
