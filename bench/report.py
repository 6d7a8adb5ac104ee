"""Results as text: the goals' ratios for the terminal, docs/performance.md with tables and plots (SVG)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

Results = dict[str, Any]
MARK = "<!-- made by `make bench`: from here to the end of the mark -->"
MARK_END = "<!-- end of what `make bench` made -->"
_COLORS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700")


@dataclass(frozen=True)
class Goal:
    """One line of the table: what, how much is allowed, how to get it from the results."""

    number: int
    what: str
    limit: float
    unit: str
    value: Callable[[Results], float]


def _us(results: Results, name: str) -> float:
    return float(results["requests"][name]["us"])


def _consoles(results: Results, kind: str) -> dict[str, Any]:
    """The largest number of consoles that was tried."""
    runs = {int(name.split()[1]): run for name, run in results["consoles"].items() if name.startswith(kind)}
    found: dict[str, Any] = runs[max(runs)]
    return found


def _largest(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = results["nodes"][max((name for name in results["nodes"] if name.isdigit()), key=int)]
    return found


def _requests_goal(number: int, what: str, limit: float, ours: str, theirs: str) -> Goal:
    return Goal(number, what, limit, "x", lambda results: _us(results, ours) / _us(results, theirs))


GOALS = (
    *(
        goal
        for count in (16, 63)
        for goal in (
            _requests_goal(
                1, f"status, {count} sessions, bridged, to ipmi_sim direct", 1.0,
                f"pypmi status bridged {count}", f"ipmi_sim status {count}",
            ),
            _requests_goal(
                1, f"status, {count} sessions, bridged, to pyghmi", 0.2,
                f"pypmi status bridged {count}", f"pyghmi status {count}",
            ),
            _requests_goal(
                1, f"status, {count} sessions, suite 17 to suite 3", 1.1,
                f"pypmi status bridged {count} suite 17", f"pypmi status bridged {count}",
            ),
        )
    ),
    _requests_goal(2, "login, 16 clients, to ipmi_sim", 1.3, "pypmi login 16", "ipmi_sim login 16"),
    _requests_goal(2, "login, 16 clients, to pyghmi", 0.3, "pypmi login 16", "pyghmi login 16"),
    _requests_goal(2, "mixed, 16 clients, to ipmi_sim", 1.0, "pypmi mixed 16", "ipmi_sim mixed 16"),
    Goal(3, "memory of one of the sessions held", 6.0, "kB", lambda r: r["sessions"]["octets_per_session"] / 1000),
    Goal(3, "growth for each login and logout", 0.01, "kB", lambda r: r["sessions"]["octets_per_login"] / 1000),
    Goal(4, "power command, median, to a bare QoS 1 round trip", 3.0, "x", lambda r: r["power"]["ratio"]),
    Goal(4, "power command, p99 with 100 in flight", 20.0, "ms", lambda r: r["power"]["p99_ms_100"]),
    Goal(5, "relay's cores, 250 consoles at 115200 baud", 1.0, "", lambda r: _consoles(r, "chain")["relay_cores"]),
    Goal(5, "gateway's cores, the same", 1.0, "", lambda r: _consoles(r, "chain")["gateway_cores"]),
    Goal(5, "echo under that load, p99, relay alone", 50.0, "ms", lambda r: _consoles(r, "relay")["echo_ms_p99"]),
    Goal(5, "echo under that load, p99, relay and gateway", 50.0, "ms", lambda r: _consoles(r, "chain")["echo_ms_p99"]),
    Goal(6, "ready with 10,000 retained nodes", 3.0, "s", lambda r: _largest(r)["ready_seconds"]),
    Goal(6, "all of their states known", 3.0, "s", lambda r: _largest(r)["known_seconds"]),
    Goal(6, "memory then", 250.0, "MB", lambda r: _largest(r)["memory"] / 1e6),
)  # fmt: skip


def rows(results: Results) -> list[tuple[str, str, str, str]]:
    """(number, what, goal, measured) for each goal that was measured."""
    lines = []
    for goal in GOALS:
        try:
            value = goal.value(results)
        except (KeyError, ValueError, TypeError):
            continue
        mark = "" if value <= goal.limit else " (not reached)"
        unit = f" {goal.unit}".rstrip()
        lines.append((str(goal.number), goal.what, f"≤ {goal.limit:g}{unit}", f"{value:.3g}{unit}{mark}"))
    return lines


def goals(results: Results) -> str:
    """For the terminal."""
    lines = rows(results)
    width = max((len(line[1]) for line in lines), default=0)
    return "\n".join(f"{number}  {what:{width}}  {limit:>9}  {value}" for number, what, limit, value in lines)


def write(results: Results, docs: Path) -> None:
    """Put tables and plots into docs/performance.md (between its marks) and docs/img."""
    page = docs / "performance.md"
    before, _, rest = page.read_text().partition(MARK)
    _, _, after = rest.partition(MARK_END)
    made = "\n\n".join(_sections(results, docs / "img"))
    page.write_text(f"{before}{MARK}\n\n{made}\n\n{MARK_END}{after}")


def _sections(results: Results, images: Path) -> list[str]:
    about = results["machine"]
    loads = ", ".join(f"{name} {part['load']}" for name, part in results.items() if name != "machine")
    where = (
        f"Measured {about['date']} on a virtual machine with {about['cores']} cores ({about['processor']}), "
        f"{about['memory_gb']} GB, {about['system']}, Python {about['python']}. Server on one core, load generator "
        f"on the other. Load average when each part began: {loads}."
    )
    found = [where, _table(("", "what", "goal", "measured"), rows(results))]
    if "requests" in results:
        found += _requests(results["requests"], images)
    if "sessions" in results:
        found += _sessions(results["sessions"], images)
    if "nodes" in results:
        found += _nodes(results["nodes"], images)
    if "consoles" in results:
        found += _console_table(results["consoles"], images)
    if "profile" in results:
        steps = [(name, f"{value:.2f}") for name, value in results["profile"].items() if name != "load"]
        found += ["### Where the microseconds go", _table(("step", "µs"), steps)]
    return found


def _requests(runs: dict[str, Any], images: Path) -> list[str]:
    lines = [
        (name, f"{run['us']:.1f}", f"{run['us_median']:.1f}", f"{run['per_second']:.0f}", f"{run['load_us']:.1f}")
        for name, run in runs.items()
        if name != "load"
    ]
    bars = [
        (name, runs[name]["us"])
        for name in (
            "pypmi status bridged 16", "ipmi_sim status 16", "pyghmi status 16", "pypmi login 16", "ipmi_sim login 16",
            "pyghmi login 16", "pypmi mixed 16", "ipmi_sim mixed 16", "pyghmi mixed 16",
        )
        if name in runs
    ]  # fmt: skip
    (images / "performance-requests.svg").write_text(_bars("Server CPU per operation, µs (suite 3)", bars))
    return [
        "### Requests",
        "![Server CPU per operation](img/performance-requests.svg)",
        "Suite 3 where no other is named. CPU of the load generator in the last column: it is not what is measured.",
        _table(("case and clients", "µs, least", "µs, median", "per second", "generator µs"), lines),
    ]


def _sessions(run: dict[str, Any], images: Path) -> list[str]:
    points = [(count, octets / 1e6) for count, octets in run["held"]]
    picture = _lines("Gateway memory, MB, by open sessions", {"gateway": points})
    (images / "performance-sessions.svg").write_text(picture)
    text = (
        f"{run['octets_per_session']:.0f} octets for each session that is held. {run['logins']:,} logins and logouts "
        f"leave {run['octets_per_login']:.1f} octets each; pyghmi keeps {run['pyghmi_octets_per_login']:.0f}."
    )
    return ["### Sessions", "![Memory by sessions](img/performance-sessions.svg)", text]


def _nodes(runs: dict[str, Any], images: Path) -> list[str]:
    counts = sorted(int(name) for name in runs if name.isdigit())
    of = [runs[str(count)] for count in counts]
    times = {
        "ready, s": [(count, run["ready_seconds"]) for count, run in zip(counts, of, strict=True)],
        "all states known, s": [(count, run["known_seconds"]) for count, run in zip(counts, of, strict=True)],
        "memory, 100 MB": [(count, run["memory"] / 1e8) for count, run in zip(counts, of, strict=True)],
    }
    (images / "performance-nodes.svg").write_text(_lines("Gateway start, by nodes", times))
    lines = [
        (
            f"{count:,}", f"{run['empty_seconds']:.1f}", f"{run['ready_seconds']:.1f}", f"{run['known_seconds']:.1f}",
            f"{run['cpu_seconds']:.1f}", f"{run['memory'] / 1e6:.0f}", f"{run['idle_cores']:.3f}",
            f"{run['status_us_1000_sessions']:.0f}", f"{run['broker_memory'] / 1e6:.0f}",
            f"{sum(run['agent_memory']) / 1e6:.0f}",
        )
        for count, run in zip(counts, of, strict=True)
    ]  # fmt: skip
    head = ("nodes", "imports s", "ready s", "known s", "CPU s", "MB", "idle cores", "status µs, 1,000 sessions",
            "broker MB", "4 agents MB")  # fmt: skip
    return ["### Nodes", "![Start by nodes](img/performance-nodes.svg)", _table(head, lines)]


def _console_table(runs: dict[str, Any], images: Path) -> list[str]:
    series: dict[str, list[tuple[float, float]]] = {"relay": [], "gateway": [], "broker": []}
    lines = []
    for name, run in runs.items():
        if name == "load":
            continue
        kind = name.split()[0]
        if kind == "chain":
            for part, points in series.items():
                points.append((run["consoles"], run[f"{part}_cores"]))
        lines.append(
            (
                name, f"{run['octets_per_second'] / 1e6:.2f}", f"{run['relay_cores']:.2f}",
                f"{run['gateway_cores']:.2f}" if kind == "chain" else "", f"{run['broker_cores']:.2f}",
                f"{run['echo_ms_median']:.1f}", f"{run['echo_ms_p99']:.1f}", str(run["wrong"]),
            )
        )  # fmt: skip
    (images / "performance-consoles.svg").write_text(_lines("Cores, by consoles at 115200 baud", series))
    head = (
        "consoles",
        "MB/s",
        "relay cores",
        "gateway cores",
        "broker cores",
        "echo ms, median",
        "p99",
        "wrong octets",
    )
    return ["### Consoles", "![Cores by consoles](img/performance-consoles.svg)", _table(head, lines)]


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|".join("---" for _ in head)
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"| {' | '.join(head)} |\n|{rule}|\n{body}"


# -- plots -------------------------------------------------------------------------------------------------------------


def _svg(title: str, height: int, parts: list[str]) -> str:
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 720 {height}' width='720' height='{height}'",
        " font-family='system-ui, sans-serif' font-size='13'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='720' height='{height}' fill='white'/>",
        f"<text x='16' y='26' font-size='15' font-weight='600'>{escape(title)}</text>",
        *parts,
        "</svg>",
        "",
    ]
    return "\n".join(lines)


def _bars(title: str, bars: Sequence[tuple[str, float]]) -> str:
    most, parts = max(value for _, value in bars), []
    for number, (name, value) in enumerate(bars):
        y, width = 44 + 24 * number, 380 * value / most
        color = _COLORS[0] if name.startswith("pypmi") else "#8c959f"
        parts.append(f"<text x='200' y='{y + 13}' text-anchor='end'>{escape(name)}</text>")
        parts.append(f"<rect x='208' y='{y}' width='{width:.1f}' height='17' fill='{color}'/>")
        parts.append(f"<text x='{214 + width:.1f}' y='{y + 13}'>{value:.0f}</text>")
    return _svg(title, 56 + 24 * len(bars), parts)


def _lines(title: str, series: dict[str, list[tuple[float, float]]]) -> str:
    points = [point for line in series.values() for point in line]
    right, top = max(x for x, _ in points) or 1, max(y for _, y in points) or 1
    parts = ["<path d='M70 50 V290 H640' fill='none' stroke='#8c959f'/>"]
    for part in (0.5, 1):
        parts.append(f"<text x='64' y='{294 - 230 * part:.0f}' text-anchor='end'>{top * part:.3g}</text>")
        parts.append(f"<text x='{70 + 550 * part:.0f}' y='308' text-anchor='middle'>{right * part:,.0f}</text>")
    for number, (name, line) in enumerate(series.items()):
        color = _COLORS[number % len(_COLORS)]
        spots = [(70 + 550 * x / right, 290 - 230 * y / top) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2'/>")
        parts += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='{color}'/>" for x, y in spots]
        parts.append(f"<text x='{90 + 190 * number}' y='332' fill='{color}'>{escape(name)}</text>")
    return _svg(title, 346, parts)
