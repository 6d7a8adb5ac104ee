"""`pypmi events`: what happens to nodes, as it happens; and the last of what happened before."""

import asyncio
from typing import Annotated, Any

import typer
from pypmi.bus import Bus
from pypmi.contract import Event, EventType
from pypmi.view import NodeView
from rich.text import Text

from pypmi_cli.access import Access
from pypmi_cli.commands.common import AnyNodes, Json, execute
from pypmi_cli.exits import Exit
from pypmi_cli.output import clock, err, out, print_json, print_json_line, table
from pypmi_cli.selection import choose, is_pattern, known_nodes
from pypmi_cli.session import Session, connect

_STYLES = {
    EventType.POWER_FAULT: "red", EventType.NODE_LOST: "red", EventType.CONSOLE_LOST: "yellow",
    EventType.REFUSED: "yellow", EventType.POWER_ON: "green", EventType.NODE_BACK: "green",
}  # fmt: skip


def events(
    context: typer.Context,
    pattern: AnyNodes = "*",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show events as they happen, until Ctrl-C; JSON: one a line.")
    ] = False,
    count: Annotated[int | None, typer.Option(min=1, help="With --follow: end after so many.")] = None,
    as_json: Json = False,
) -> None:
    """Show what happened last to each node, or with --follow what happens now.

    The broker keeps no events. All of a node's are in its event log: `ipmitool ... sel elist`.
    """
    if follow:
        execute(context, lambda access: _follow(access, pattern, count, as_json=as_json))
    else:
        execute(context, lambda access: _last(access, pattern, as_json=as_json))


async def _last(access: Access, pattern: str, *, as_json: bool) -> Exit:
    async with connect(access) as session:
        rows = [
            row for node_id in choose(pattern, known_nodes(session)) for row in last_known(session.view.node(node_id))
        ]
    rows.sort(key=lambda row: row["at"])
    if as_json:
        print_json(rows)
        return Exit.OK
    shown = table("TIME", "NODE", "EVENT", "CAUSE", "MESSAGE")
    for row in rows:
        shown.add_row(clock(row["at"]), row["node"], row["type"], row["cause"], row["message"])
    out().print(shown)
    return Exit.OK


def last_known(view: NodeView) -> list[dict[str, Any]]:
    """What the retained topics tell of the past: the last change of power, a standing fault, a boot intent."""
    found: list[dict[str, Any]] = []

    def add(kind: EventType, at: Any, cause: str, message: str) -> None:
        if at is not None:
            found.append({"node": view.id, "type": kind.value, "cause": cause, "message": message, "at": at})

    state, intent = view.state, view.boot
    if state is not None and state.power.value != "unknown":
        kind = EventType.POWER_ON if state.power.value == "on" else EventType.POWER_OFF
        add(kind, state.since, state.cause or "unknown", f"power is {state.power}")
    if state is not None and state.fault is not None:
        add(EventType.POWER_FAULT, state.fault.since, "hardware", f"{state.fault.code}: {state.fault.message}")
    if intent is not None and intent.source is not None:
        by = f" by {intent.user}" if intent.user else ""
        add(EventType.BOOT_SET, intent.at, "command", f"boot device is {intent.device}{by}")
    return found


async def _follow(access: Access, pattern: str, count: int | None, *, as_json: bool) -> Exit:
    async with connect(access, events=True) as session:
        known = known_nodes(session)
        if pattern != "*" or known:
            choose(pattern, known)  # a mistyped name must not wait for ever
        queue: asyncio.Queue[tuple[str, Event]] = asyncio.Queue(10_000)
        seen: dict[str, None] = {}
        session.view.listen_events(lambda node_id, event: _put(queue, node_id, event))
        _say_losses(session.bus)
        left = count
        while left is None or left > 0:
            node_id, event = await queue.get()
            if event.id in seen or not _wanted(session, pattern, node_id):
                continue
            seen[event.id] = None
            if len(seen) > 1000:
                del seen[next(iter(seen))]
            _print(node_id, event, as_json=as_json)
            left = None if left is None else left - 1
    return Exit.OK


def _put(queue: asyncio.Queue[tuple[str, Event]], node_id: str, event: Event) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait((node_id, event))


def _wanted(session: Session, pattern: str, node_id: str) -> bool:
    if pattern == "*":
        return True
    if not is_pattern(pattern):
        return node_id == pattern
    return node_id in choose(pattern, known_nodes(session))


def _say_losses(bus: Bus) -> None:
    """What happens while the broker is away is not seen: say so, instead of looking quiet."""

    async def back() -> None:
        err().print("-- connected to the broker")

    bus.on_disconnected(lambda reason: err().print(f"-- {reason}; trying again", markup=False))
    bus.on_connected(back)


def _print(node_id: str, event: Event, *, as_json: bool) -> None:
    if as_json:
        print_json_line({"node": node_id, **event.model_dump(mode="json")})
        return
    by = " ".join(filter(None, (event.user, f"({event.source})" if event.source else "")))
    text = Text(f"{clock(event.at)}  {node_id}  ").append(event.type.value, _STYLES.get(event.type, "bold"))
    text.append(f"  {event.cause}{f', {by}' if by else ''}")
    out().print(text.append(f"  {event.message}" if event.message else ""), soft_wrap=True)
