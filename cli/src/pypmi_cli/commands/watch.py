"""`pypmi watch`: the fleet, live."""

import asyncio
import sys
from collections import Counter

import typer
from pypmi.contract import utc_now
from pypmi.view import Change, NodeView
from rich.console import Group
from rich.live import Live
from rich.text import Text

from pypmi_cli.access import Access
from pypmi_cli.commands.common import AnyNodes, Json, execute
from pypmi_cli.commands.nodes import describe, last_command, nodes_table
from pypmi_cli.exits import Exit
from pypmi_cli.output import clock, out, print_json_line
from pypmi_cli.selection import choose, known_nodes
from pypmi_cli.session import Session, connect

_REFRESH = 2.0
"""Pictures a second: fast enough for eyes, slow enough for a terminal over a phone."""


def watch(context: typer.Context, pattern: AnyNodes = "*", as_json: Json = False) -> None:
    """Show nodes live, those with trouble first, until Ctrl-C.

    Into a file or pipe, and with --json, it writes a line for each change.
    """
    execute(context, lambda access: _watch(access, pattern, as_json=as_json))


async def _watch(access: Access, pattern: str, *, as_json: bool) -> Exit:
    async with connect(access) as session:
        if pattern != "*":
            choose(pattern, known_nodes(session))
        if as_json or not sys.stdout.isatty():
            await _lines(session, pattern, as_json=as_json)
        else:
            await _screen(session, pattern)
    return Exit.OK


def _chosen(session: Session, pattern: str) -> list[str]:
    known = known_nodes(session)
    return known if pattern == "*" else choose(pattern, known)


async def _screen(session: Session, pattern: str) -> None:
    with Live(console=out(), screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(picture(session, _chosen(session, pattern), out().height), refresh=True)
            await asyncio.sleep(1 / _REFRESH)


def picture(session: Session, chosen: list[str], height: int) -> Group:
    """What stands on the screen: a line of numbers, then as many nodes as there is room for, the worst first."""
    view = session.view
    counts = Counter(state.power.value for name in chosen if (state := view.node(name).state) is not None)
    away = sum(not view.node(name).available for name in chosen)
    faults = sum(trouble(view.node(name)) == 0 for name in chosen)
    busy = sum(state.action is not None for name in chosen if (state := view.node(name).state) is not None)
    head = Text(f"pypmi  {clock(utc_now())}  {len(chosen)} nodes: ", "bold")
    head.append(f"{counts['on']} on", "green").append(f", {counts['off']} off, {counts['unknown']} unknown")
    head.append(f", {busy} at work").append(f", {away} not available", "red" if away else "")
    head.append(f", {faults} faults", "red" if faults else "")
    if not session.bus.connected:
        head = Text(f"{session.bus.last_error or 'connecting'}; what follows is old", "bold red")
    ordered = sorted(chosen, key=lambda name: trouble(view.node(name)))  # stable: names stay in order within a kind
    room = max(height - 4, 1)
    parts: list[object] = [head, nodes_table(session, ordered[:room])]
    if len(ordered) > room:
        parts.append(Text(f"and {len(ordered) - room} more", "dim"))
    return Group(*parts)  # type: ignore[arg-type]


def trouble(view: NodeView) -> int:
    """For sorting: 0 a fault, 1 not available, 2 at work, 3 well."""
    state = view.state
    if state is not None and state.fault is not None:
        return 0
    if not view.available:
        return 1
    return 2 if state is not None and state.action is not None else 3


async def _lines(session: Session, pattern: str, *, as_json: bool) -> None:
    changed: asyncio.Queue[str] = asyncio.Queue()
    waiting: set[str] = set()

    def on_change(view: NodeView, change: Change) -> None:
        if change is not Change.SENSOR and view.id not in waiting:
            waiting.add(view.id)
            changed.put_nowait(view.id)

    session.view.listen(on_change)
    said: dict[str, object] = {}
    for name in _chosen(session, pattern):
        on_change(session.view.node(name), Change.STATE)
    while True:
        name = await changed.get()
        waiting.discard(name)
        if pattern != "*" and name not in _chosen(session, pattern):
            continue
        line = describe(session, name)
        if said.get(name) == line:
            continue
        said[name] = line
        if as_json:
            print_json_line(line)
        else:
            view = session.view.node(name)
            why = f"  {line['unavailable_because']}" if line["unavailable_because"] else ""
            print(f"{clock(utc_now())}  {name}  {line['power']}  {last_command(view)}{why}", flush=True)
