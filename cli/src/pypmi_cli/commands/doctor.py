"""`pypmi doctor`: what is wrong between here and the node, link by link."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pypmi.config.hardware import Esp8266Hardware
from pypmi.contract import ServiceInfo
from rich.text import Text

from pypmi_cli.access import Access
from pypmi_cli.commands.common import AnyNodes, Json, Yes, access_of, confirm, exit_codes
from pypmi_cli.doctor.board import examine_board
from pypmi_cli.doctor.broker import examine_broker
from pypmi_cli.doctor.files import examine_files
from pypmi_cli.doctor.findings import Finding, Level, Link, Report
from pypmi_cli.doctor.fleet import examine_fleet
from pypmi_cli.doctor.gateway import examine_gateway
from pypmi_cli.doctor.login import GatewayOptions
from pypmi_cli.doctor.press import examine_press, why_not
from pypmi_cli.doctor.probe import Overheard
from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.output import out, print_json
from pypmi_cli.selection import choose, is_pattern, known_nodes
from pypmi_cli.session import Session, connect, run

_MARKS = {
    Level.OK: ("ok", "green"),
    Level.NOTE: ("--", "dim"),
    Level.WARNING: ("!!", "yellow"),
    Level.FAULT: ("XX", "red"),
}


def doctor(
    context: typer.Context,
    pattern: AnyNodes = "*",
    gateway: Annotated[
        str | None, typer.Option(metavar="HOST[:PORT]", help="The gateway [default: as fleet.yaml says].")
    ] = None,
    ipmi_user: Annotated[
        str | None, typer.Option(help="IPMI account to try [default: those of fleet.yaml whose password is here].")
    ] = None,
    ipmi_password_file: Annotated[Path | None, typer.Option(help="Its password.")] = None,
    press: Annotated[
        bool, typer.Option("--press", help="Press the power button of the one node named, if it is off, and see.")
    ] = False,
    yes: Yes = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what is well, too.")] = False,
    as_json: Json = False,
) -> None:
    """Find what is wrong between here and a node, and say what to do about it.

    Looks and asks; presses no button without --press and a yes, and writes nothing to any board. Each agent is sent one
    command that it must refuse, which leaves an event `refused`. Exit code 1 when something is broken.
    """
    if press and is_pattern(pattern):
        raise typer.BadParameter("name the one node whose button is to be pressed", param_hint="--press")
    options = GatewayOptions(gateway, ipmi_user, ipmi_password_file)
    with exit_codes():
        report = Report()
        try:
            access = access_of(context)
        except ToolError as error:
            if error.code is Exit.USAGE:
                raise
            report.fault(
                Link.CONFIGURATION, "configuration", str(error), "`pypmi check` names line and field of each mistake"
            )
        else:
            run(examine(report, access, pattern, options, _Press(press, yes)))
        if as_json:
            print_json([finding.as_dict() for finding in report.findings])
        else:
            show(report, verbose=verbose)
        if any(report.faults):
            raise typer.Exit(Exit.FAILED)


@dataclass(frozen=True, slots=True)
class _Press:
    wanted: bool
    yes: bool


async def examine(report: Report, access: Access, pattern: str, options: GatewayOptions, press: _Press) -> None:
    """Look at all links. What can't be looked at because of an earlier fault is left out."""
    services: list[ServiceInfo] = []
    chosen = _configured(access, pattern)
    healthy: list[str] | None = None
    if examine_files(report, access) and await examine_broker(report, access):
        heard = Overheard()
        try:
            async with connect(access, prepare=heard.listen) as session:
                chosen = _chosen(session, pattern)
                if press.wanted:
                    await _press(report, session, pattern, yes=press.yes)
                await examine_fleet(report, session, heard, chosen)
                services = [
                    view.info for view in session.view.services.values() if view.available and view.info is not None
                ]
                healthy = [node_id for node_id in chosen if session.view.node(node_id).available]
        except ToolError as error:
            if error.code is not Exit.NO_BROKER:
                raise
            report.fault(Link.ACCESS, "subscriptions", str(error), "let the account read nodes/# and services/#")
        else:
            await _boards(report, access, [node_id for node_id in chosen if node_id not in healthy])
    # a node that can't be worked can't be reached through the gateway either: that is said already
    nodes = chosen if healthy is None else healthy
    await examine_gateway(report, options, access.loaded, services, nodes, known_good=healthy is not None)


async def _press(report: Report, session: Session, node_id: str, *, yes: bool) -> None:
    reason = why_not(session, node_id)
    if reason is not None:
        report.note(Link.STATUS, "not-pressed", f"the button of {node_id} was not pressed: {reason}", node=node_id)
        return
    if not yes:
        confirm("press the power button", [node_id], note=" (it will start)")
    await examine_press(report, session, node_id)


def _configured(access: Access, pattern: str) -> list[str]:
    names = [node.id for node in access.loaded.fleet.nodes] if access.loaded is not None else []
    try:
        return choose(pattern, names)
    except ToolError:
        return []


def _chosen(session: Session, pattern: str) -> list[str]:
    known = known_nodes(session)
    try:
        return choose(pattern, known) if known or pattern != "*" else []
    except ToolError:
        if is_pattern(pattern):
            raise
        return [pattern]  # the node is not known: that is what is to be found out


async def _boards(report: Report, access: Access, sick: list[str]) -> None:
    if access.loaded is None:
        return
    for node in access.loaded.fleet.nodes:
        if node.id in sick and isinstance(node.hardware, Esp8266Hardware):
            await examine_board(report, node.id, node.hardware)


def show(report: Report, *, verbose: bool) -> None:
    """For people: what is wrong, each with its fix; with `verbose` all."""
    console = out()
    shown = [finding for finding in report.findings if verbose or finding.level is not Level.OK]
    for finding in shown:
        _show_one(finding)
    counts = {level: sum(finding.level is level for finding in report.findings) for level in Level}
    if counts[Level.FAULT]:
        text = Text(f"{counts[Level.FAULT]} broken", "bold red")
    else:
        text = Text("nothing is broken", "green")
    text.append(f"; {counts[Level.WARNING]} warnings, {counts[Level.OK]} links are well", "")
    console.print(text.append("" if verbose else " (-v shows them)", "dim"))


def _show_one(finding: Finding) -> None:
    mark, style = _MARKS[finding.level]
    console = out()
    console.print(Text(f"{mark} ", style).append(f"{finding.link}: ", "bold").append(finding.text, ""), soft_wrap=True)
    if finding.fix:
        console.print(Text("   -> ", style).append(finding.fix), soft_wrap=True)
