"""`pypmi sensors`: what nodes measure."""

from typing import Any

import typer
from pypmi.contract import SensorInfo, Thresholds
from pypmi.view import NodeView
from rich.text import Text

from pypmi_cli.access import Access
from pypmi_cli.commands.common import AnyNodes, Json, execute
from pypmi_cli.exits import Exit
from pypmi_cli.output import err, out, print_json, table
from pypmi_cli.selection import choose, known_nodes
from pypmi_cli.session import connect

_STYLES = {"ok": "green", "-": "dim"}


def sensors(context: typer.Context, pattern: AnyNodes = "*", as_json: Json = False) -> None:
    """Show sensor readings, with their limits."""
    execute(context, lambda access: _sensors(access, pattern, as_json=as_json))


async def _sensors(access: Access, pattern: str, *, as_json: bool) -> Exit:
    async with connect(access) as session:
        rows = [
            row for node_id in choose(pattern, known_nodes(session)) for row in readings(session.view.node(node_id))
        ]
    if as_json:
        print_json(rows)
        return Exit.OK
    if not rows:
        err().print("none of these nodes has a sensor")
        return Exit.OK
    shown = table("NODE", "SENSOR", "NAME", "VALUE", "UNIT", "STATUS")
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:g}"
        status = Text(row["status"], _STYLES.get(row["status"], "red"))
        shown.add_row(row["node"], row["sensor"], row["name"], value, row["unit"], status)
    out().print(shown)
    return Exit.OK


def readings(view: NodeView) -> list[dict[str, Any]]:
    """A node's sensors for scripts. `value` is None where none was heard, or the node is not available."""
    info = view.info
    found = []
    for sensor in info.sensors if info else ():
        value = view.sensors.get(sensor.key) if view.available else None
        found.append(
            {
                "node": view.id, "sensor": sensor.key, "name": sensor.name, "kind": sensor.kind.value, "value": value,
                "unit": sensor.unit, "status": status_of(sensor, value),
            }
        )  # fmt: skip
    return found


def status_of(sensor: SensorInfo, value: float | None) -> str:
    """The worst limit that is crossed, as `ipmitool sdr` abbreviates it: `ok`, `nc`, `cr`, `nr`; `-`: no reading."""
    if value is None:
        return "-"
    limits: Thresholds = sensor.thresholds
    for word, low, high in (
        ("nr", limits.lower_non_recoverable, limits.upper_non_recoverable),
        ("cr", limits.lower_critical, limits.upper_critical),
        ("nc", limits.lower_non_critical, limits.upper_non_critical),
    ):
        if (low is not None and value <= low) or (high is not None and value >= high):
            return word
    return "ok"
