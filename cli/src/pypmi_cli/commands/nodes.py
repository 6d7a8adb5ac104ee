"""`pypmi nodes`: every node at a glance."""

from collections.abc import Iterable
from typing import Any

import typer
from pypmi.contract import utc_now
from pypmi.view import NodeView
from rich.table import Table
from rich.text import Text

from pypmi_cli.access import Access
from pypmi_cli.commands.common import AnyNodes, Json, execute
from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.output import age, out, power_text, print_json, table
from pypmi_cli.selection import choose, known_nodes
from pypmi_cli.session import Session, connect


def nodes(context: typer.Context, pattern: AnyNodes = "*", as_json: Json = False) -> None:
    """Show nodes: power, whether they can be worked, their agent, the last command, the IPMI address."""
    execute(context, lambda access: _nodes(access, pattern, as_json=as_json))


async def _nodes(access: Access, pattern: str, *, as_json: bool) -> Exit:
    async with connect(access) as session:
        known = known_nodes(session)
        if not known and pattern == "*":
            if as_json:
                print_json([])
                return Exit.OK
            raise ToolError(
                f"no nodes on the broker {access.mqtt.url} (settings: {access.source}); `pypmi doctor` finds out why",
                Exit.NO_SUCH_NODE,
            )
        chosen = choose(pattern, known)
        if as_json:
            print_json([describe(session, node_id) for node_id in chosen])
        else:
            out().print(nodes_table(session, chosen))
            _print_summary(session, chosen)
    return Exit.OK


def _print_summary(session: Session, chosen: list[str]) -> None:
    for node_id in chosen:
        view = session.view.node(node_id)
        fault = view.state.fault if view.state is not None else None
        if fault is not None:
            out().print(Text(f"{node_id}: {fault.message} ({age(fault.since)} ago)", "yellow"))


def why_unavailable(view: NodeView) -> str:
    """Why a node can't be worked now, for people; empty when it can."""
    info = view.info
    if info is None:
        return "no agent has announced it"
    if not view.agent_available:
        return f"agent {info.agent} is away"
    return "" if view.node_available else f"{info.agent} can't reach the hardware"


def available_text(view: NodeView) -> Text:
    """One word for the table."""
    if view.available:
        return Text("yes", "green")
    if view.info is None:
        return Text("never seen", "red")
    return Text("agent away" if not view.agent_available else "unreachable", "red")


def last_command(view: NodeView) -> str:
    """What the node did last, or does now."""
    state = view.state
    if state is None:
        return "-"
    if state.action is not None:
        return f"{state.action} ..."
    if state.last_action is None:
        return "-"
    by_command = state.cause == "command" and state.since is not None
    return f"{state.last_action} {age(state.since)} ago" if by_command else state.last_action


def places(session: Session) -> dict[str, tuple[int, int]]:
    """Channel and address of the nodes that fleet.yaml gives one, for `ipmitool -b ... -t ...`."""
    loaded = session.access.loaded
    if loaded is None:
        return {}
    return {node.id: (node.channel, node.address) for node in loaded.fleet.nodes if node.address is not None}


def place_text(place: tuple[int, int] | None) -> str:
    """As one types it for ipmitool."""
    if place is None:
        return "-"
    channel, address = place
    return f"-t {address}" if channel == 0 else f"-b {channel} -t {address}"


def nodes_table(session: Session, chosen: Iterable[str]) -> Table:
    """The table that `nodes` and `watch` show."""
    where = places(session)
    columns = ["NODE", "POWER", "SINCE", "AVAILABLE", "AGENT", "LAST COMMAND"]
    made = table(*columns, *(["ADDRESS"] if where else []))
    now = utc_now()
    for node_id in chosen:
        view = session.view.node(node_id)
        state, info = view.state, view.info
        power = power_text(state.power if state else None, state.target if state else None)
        if not view.available:
            power = Text(f"({power.plain})", "dim")
        row: list[str | Text] = [
            Text(node_id, "bold red") if state is not None and state.fault is not None else node_id,
            power,
            age(state.since, now) if state else "-",
            available_text(view),
            info.agent if info else "-",
            last_command(view),
        ]
        if where:
            row.append(place_text(where.get(node_id)))
        made.add_row(*row)
    return made


def describe(session: Session, node_id: str) -> dict[str, Any]:
    """A node for scripts."""
    view = session.view.node(node_id)
    state, info = view.state, view.info
    place = places(session).get(node_id)
    return {
        "id": node_id,
        "name": info.name if info else None,
        "power": state.power.value if state else "unknown",
        "target": state.target if state else None,
        "action": state.action if state else None,
        "since": state.since if state else None,
        "cause": state.cause if state else None,
        "last_action": state.last_action if state else None,
        "fault": state.fault.model_dump(mode="json") if state and state.fault else None,
        "available": view.available,
        "unavailable_because": why_unavailable(view) or None,
        "agent": info.agent if info else None,
        "driver": info.driver if info else None,
        "firmware": info.firmware if info else None,
        "capabilities": sorted(info.capabilities) if info else [],
        "console": view.console.online if view.console else None,
        "channel": place[0] if place else None,
        "address": place[1] if place else None,
    }
