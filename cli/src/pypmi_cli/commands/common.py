"""What the commands share: arguments, the way to an exit code, completion of node names."""

import asyncio
import contextlib
import getpass
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any

import typer
from pypmi.contract.topics import is_node_id
from rich.text import Text

from pypmi_cli.access import Access, AccessOptions, resolve
from pypmi_cli.exits import Exit, ToolError, worst
from pypmi_cli.output import err, out, print_json
from pypmi_cli.session import run

_NAMED = 10
"""Nodes named in a question."""


def access_of(context: typer.Context) -> Access:
    """The broker that the options before the command mean."""
    options = context.obj
    return resolve(options if isinstance(options, AccessOptions) else AccessOptions())


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """Turns a `ToolError` into a line on stderr and its exit code, and Ctrl-C into 130."""
    try:
        yield
    except ToolError as error:
        err().print(f"pypmi: {error}", markup=False)
        raise typer.Exit(error.code) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(Exit.INTERRUPTED) from None


def execute(context: typer.Context, work: Callable[[Access], Coroutine[Any, Any, Exit]]) -> None:
    """Run a command and leave with its exit code."""
    with exit_codes():
        code = run(work(access_of(context)))
        if code is not Exit.OK:
            raise typer.Exit(code)


def confirm(what: str, chosen: list[str], *, note: str = "") -> None:
    """Ask before several nodes are changed. Raises `ToolError` for a no, and where nobody can be asked."""
    names = ", ".join(chosen[:_NAMED]) + (f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else "")
    count = f"{len(chosen)} node{'s' if len(chosen) != 1 else ''}"
    if not sys.stdin.isatty():
        raise ToolError(f"{what} for {count} ({names}): give --yes to do it without a question", Exit.USAGE)
    typer.echo(names, err=True)
    if not typer.confirm(f"{what} for {count}{note}?", err=True):
        raise ToolError("nothing was done", Exit.FAILED)


def print_done(nodes: Sequence[str], done: Sequence[tuple[Exit, str]], *, as_json: bool) -> Exit:
    """Say what became of each node; returns the exit code for all."""
    if as_json:
        print_json(
            [
                {"node": node, "ok": code is Exit.OK, "message": text}
                for node, (code, text) in zip(nodes, done, strict=True)
            ]
        )
    else:
        for node, (code, text) in zip(nodes, done, strict=True):
            out().print(Text(f"{node}: ").append(text, "" if code is Exit.OK else "red"))
    return worst(code for code, _ in done)


def user_name() -> str:
    """Who sits at this terminal, for the audit trail."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()[:128]
    return "unknown"


def complete_node(context: typer.Context, incomplete: str) -> list[str]:
    """Node names for the shell, from fleet.yaml where there is one: the broker is not asked at each press of Tab."""
    parent = context.find_root().params if context is not None else {}
    with contextlib.suppress(ToolError):
        access = resolve(AccessOptions(config=parent.get("config")))
        if access.loaded is not None:
            done, comma, word = incomplete.rpartition(",")
            names = [node.id for node in access.loaded.fleet.nodes if is_node_id(node.id)]
            return [f"{done}{comma}{name}" for name in names if name.startswith(word)]
    return []


Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's id.", autocompletion=complete_node)]
Nodes = Annotated[
    str,
    typer.Argument(
        metavar="NODE|PATTERN",
        help="A node, several with commas, a pattern as 'node*', a range as 'node[1-40]'.",
        autocompletion=complete_node,
    ),
]
AnyNodes = Annotated[
    str,
    typer.Argument(metavar="[NODE|PATTERN]", help="Which nodes; all of them by default.", autocompletion=complete_node),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before several nodes are changed.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for scripts instead of text for people.")]
