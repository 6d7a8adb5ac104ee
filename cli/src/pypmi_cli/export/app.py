"""The commands of `pypmi export`."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from pypmi.config.document import ConfigError
from pypmi.config.load import load_fleet

from pypmi_cli.access import FLEET_FILE, AccessOptions
from pypmi_cli.commands.common import exit_codes
from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.export import formats
from pypmi_cli.export.plan import Plan

app = typer.Typer(
    help="Write the other side's configuration from fleet.yaml: Ironic, MAAS, Home Assistant, ipmi_exporter, conman.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Host = Annotated[str | None, typer.Option(help="The gateway, as the other side calls it [default: gateway.listen].")]
User = Annotated[str | None, typer.Option(help="IPMI account [default: the weakest that will do].")]
Secrets = Annotated[bool, typer.Option("--secrets", help="Write passwords instead of a placeholder.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write, readable by you alone [default: stdout].")
]


def _write(
    context: typer.Context,
    make: Callable[[Plan], str],
    output: Path | None,
    *,
    host: str | None = None,
    user: str | None = None,
    secrets: bool = False,
) -> None:
    with exit_codes():
        options = context.obj
        named = options.config if isinstance(options, AccessOptions) else None
        file = named or Path(FLEET_FILE)
        try:
            plan = Plan(load_fleet(file), host, user, secrets)
        except ConfigError as error:
            raise ToolError("\n".join(f"{file}: {problem}" for problem in error.problems), Exit.NO_BROKER) from None
        text = make(plan)
        for note in plan.notes:
            print(f"pypmi export: {note}", file=sys.stderr)
        if output is None:
            sys.stdout.write(text)
        else:
            _save(output, text)


def _save(output: Path, text: str) -> None:
    """Replace the file as a whole; nobody else may read it, for there may be passwords in it."""
    part = output.with_name(f".{output.name}.new")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
        part.replace(output)
    except OSError as error:
        raise ToolError(f"cannot write {output}: {error.strerror}") from None


@app.command()
def ironic(
    context: typer.Context,
    host: Host = None,
    name: Annotated[
        str,
        typer.Option(help="Host name of each node, for the gateway's address; {id}, {address}, {host} are filled in."),
    ] = "{id}.bmc",
    user: User = None,
    secrets: Secrets = False,
    output: Output = None,
) -> None:
    """Nodes for `baremetal create` (OpenStack Ironic, Bifrost), bridged where they have an address."""
    try:
        name.format(id="", address="", host="")
    except (KeyError, ValueError, IndexError):
        raise typer.BadParameter("only {id}, {address} and {host} are filled in", param_hint="--name") from None
    _write(context, lambda plan: formats.ironic(plan, name), output, host=host, user=user, secrets=secrets)


@app.command()
def maas(
    context: typer.Context,
    host: Host = None,
    architecture: Annotated[str, typer.Option(help="Of the machines.")] = "amd64/generic",
    user: User = None,
    secrets: Secrets = False,
    output: Output = None,
) -> None:
    """Machines for MAAS, as a script that calls its command line. They need a `listen` on port 623."""
    _write(context, lambda plan: formats.maas(plan, architecture), output, host=host, user=user, secrets=secrets)


@app.command()
def homeassistant(context: typer.Context, output: Output = None) -> None:
    """A dashboard view with a card for each node. Home Assistant finds the devices themselves by MQTT."""
    _write(context, formats.home_assistant, output)


@app.command("ipmi-exporter")
def ipmi_exporter(
    context: typer.Context,
    host: Host = None,
    targets: Annotated[
        bool,
        typer.Option("--targets", help="Write the targets (for Prometheus' file_sd_configs) instead of the modules."),
    ] = False,
    user: User = None,
    secrets: Secrets = False,
    output: Output = None,
) -> None:
    """The modules of ipmi_exporter, or with --targets what Prometheus is to ask it for."""
    make = formats.ipmi_exporter_targets if targets else formats.ipmi_exporter
    _write(context, make, output, host=host, user=user, secrets=secrets)


@app.command()
def conman(
    context: typer.Context,
    host: Host = None,
    user: User = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password, for conmand to read [default: that of fleet.yaml].")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port of conmand.")] = 7890,
    output: Output = None,
) -> None:
    """conman.conf, with a console of each node that has one. It names the password's file, and holds no secret."""
    _write(context, lambda plan: formats.conman(plan, password_file, port), output, host=host, user=user)
