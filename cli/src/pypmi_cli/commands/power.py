"""`pypmi power`: switch one node, or many at a time, and say what became of each."""

import asyncio
import sys
from collections import Counter
from enum import StrEnum
from typing import Annotated

import typer
from pypmi.contract import Capability, PowerAction
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pypmi_cli.access import Access
from pypmi_cli.commands.common import Json, Nodes, Yes, confirm, execute
from pypmi_cli.commands.nodes import why_unavailable
from pypmi_cli.exits import Exit, worst
from pypmi_cli.output import err, out, power_text, print_json
from pypmi_cli.selection import choose, is_pattern, known_nodes
from pypmi_cli.sending import Outcome, Verdict, send_power
from pypmi_cli.session import Session, connect

_SHOWN = 10
"""Nodes up to which each is named in the report; of more, those that failed."""


class Verb(StrEnum):
    """What `pypmi power` takes."""

    ON = "on"
    OFF = "off"
    CYCLE = "cycle"
    RESET = "reset"
    SOFT = "soft"
    DIAG = "diag"
    STATUS = "status"


def power(
    context: typer.Context,
    node: Nodes,
    action: Annotated[
        Verb,
        typer.Argument(
            help="on: press the button; off: hold it; soft: ask the operating system; diag: NMI; status: ask."
        ),
    ],
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is done and the status input has confirmed.")
    ] = False,
    yes: Yes = False,
    parallel: Annotated[int, typer.Option(min=1, max=1000, help="How many nodes at the same time.")] = 32,
    interval: Annotated[
        float, typer.Option(min=0, max=60, help="Seconds between two nodes, to spare fuses and power supplies.")
    ] = 0.0,
    timeout: Annotated[
        float, typer.Option(min=1, max=3600, help="With --wait: seconds to wait for each node.")
    ] = 180.0,
    as_json: Json = False,
) -> None:
    """Switch nodes, or show whether they are on.

    Without --wait it returns when the agents have taken the commands and written them down.
    """
    if action is Verb.STATUS:
        execute(context, lambda access: _status(access, node, as_json=as_json))
        return
    plan = _Plan(PowerAction(action.value), wait, yes, parallel, interval, timeout, as_json)
    execute(context, lambda access: _switch(access, node, plan))


class _Plan:
    def __init__(
        self, action: PowerAction, wait: bool, yes: bool, parallel: int, interval: float, timeout: float, as_json: bool
    ) -> None:
        self.action = action
        self.wait = wait
        self.yes = yes
        self.parallel = parallel
        self.interval = interval
        self.timeout = timeout
        self.as_json = as_json


async def _status(access: Access, pattern: str, *, as_json: bool) -> Exit:
    async with connect(access) as session:
        chosen = choose(pattern, known_nodes(session))
        known = 0
        rows = []
        for node_id in chosen:
            view = session.view.node(node_id)
            why = why_unavailable(view)
            word = view.state.power.value if view.state is not None and not why else "unknown"
            known += word != "unknown"
            rows.append({"node": node_id, "power": word, "unavailable_because": why or None})
            if not as_json:
                line = Text(f"{node_id}: ").append_text(power_text(word))
                out().print(line.append(f" ({why})" if why else ""))
        if as_json:
            print_json(rows)
    return Exit.OK if known == len(chosen) else Exit.UNAVAILABLE


async def _switch(access: Access, pattern: str, plan: _Plan) -> Exit:
    async with connect(access) as session:
        chosen = choose(pattern, known_nodes(session))
        if (len(chosen) > 1 or is_pattern(pattern)) and not plan.yes:
            _ask(plan.action, chosen, session)
        outcomes = await _switch_all(session, chosen, plan)
    if plan.as_json:
        print_json([outcome.as_dict() for outcome in outcomes])
    else:
        _report(outcomes, plan)
    return _exit(outcomes)


def _ask(action: PowerAction, chosen: list[str], session: Session) -> None:
    lacking = [name for name in chosen if not _can(session, name, action)]
    confirm(f"power {action}", chosen, note=f" ({len(lacking)} of them can't)" if lacking else "")


def _can(session: Session, node_id: str, action: PowerAction) -> bool:
    info = session.view.node(node_id).info
    return info is not None and Capability(action.value) in info.capabilities


async def _switch_all(session: Session, chosen: list[str], plan: _Plan) -> list[Outcome]:
    limit = asyncio.Semaphore(plan.parallel)
    show = len(chosen) > 1 and not plan.as_json and sys.stderr.isatty()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[bad]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err(), disable=not show, transient=True) as progress:
        bar = progress.add_task(f"power {plan.action}", total=len(chosen), bad="")
        failed = 0

        async def one(node_id: str, delay: float) -> Outcome:
            nonlocal failed
            await asyncio.sleep(delay)
            async with limit:
                outcome = await send_power(session, node_id, plan.action, wait=plan.wait, timeout=plan.timeout)
            failed += not outcome.verdict.good
            progress.update(bar, advance=1, bad=f"{failed} failed" if failed else "")
            return outcome

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one(node_id, index * plan.interval)) for index, node_id in enumerate(chosen)]
        return [task.result() for task in running]


def _report(outcomes: list[Outcome], plan: _Plan) -> None:
    many = len(outcomes) > _SHOWN
    for outcome in outcomes:
        if outcome.verdict.good and many and outcome.note is None:
            continue
        style = "" if outcome.verdict.good else "red"
        out().print(Text(f"{outcome.node}: ").append(outcome.text(), style))
    if len(outcomes) > 1:
        counts = Counter("done" if plan.wait else "accepted" for outcome in outcomes if outcome.verdict.good)
        counts += Counter(outcome.verdict.value for outcome in outcomes if not outcome.verdict.good)
        summary = ", ".join(f"{count} {word}" for word, count in counts.items())
        out().print(f"power {plan.action}, {len(outcomes)} nodes: {summary}")


_CODES = {Verdict.UNAVAILABLE: Exit.UNAVAILABLE, Verdict.UNKNOWN: Exit.UNKNOWN}


def _exit(outcomes: list[Outcome]) -> Exit:
    return worst(Exit.OK if outcome.verdict.good else _CODES.get(outcome.verdict, Exit.FAILED) for outcome in outcomes)
