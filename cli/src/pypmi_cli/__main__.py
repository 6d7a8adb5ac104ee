"""The console script `pypmi`: the operator's tool."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pypmi_cli import demo as demo_module
from pypmi_cli.access import AccessOptions
from pypmi_cli.commands.boot import boot
from pypmi_cli.commands.common import Json
from pypmi_cli.commands.console import console
from pypmi_cli.commands.doctor import doctor
from pypmi_cli.commands.events import events
from pypmi_cli.commands.identify import identify
from pypmi_cli.commands.nodes import nodes
from pypmi_cli.commands.power import power
from pypmi_cli.commands.scan import scan
from pypmi_cli.commands.sensors import sensors
from pypmi_cli.commands.watch import watch
from pypmi_cli.exits import Exit
from pypmi_cli.export.app import app as export_app
from pypmi_cli.output import print_json

app = typer.Typer(
    name="pypmi",
    help="Look at and work a pypmi fleet: machines with a BMC made of relay boards, GPIO or Wake-on-LAN.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="PYPMI_CONFIG", help="The fleet.yaml [default: that of this folder]."),
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(envvar="PYPMI_MQTT_URL", metavar="URL", help="The broker, as mqtts://broker.lan:8883.")
    ] = None,
    user: Annotated[str | None, typer.Option(envvar="PYPMI_MQTT_USER", help="Account at the broker.")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(envvar="PYPMI_MQTT_PASSWORD_FILE", help="Its password; or give it in PYPMI_MQTT_PASSWORD."),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(envvar="PYPMI_MQTT_CA_FILE", help="Authority of the broker's certificate.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(envvar="PYPMI_MQTT_PREFIX", help="Prefix of the topics.")] = None,
    protocol: Annotated[
        str | None, typer.Option(metavar="5|3.1.1", help="MQTT version, where the broker has only 3.1.1.")
    ] = None,
) -> None:
    """Look at and work a pypmi fleet, from any machine that reaches its broker.

    These options stand before the command. Without any: fleet.yaml in this folder, ~/.config/pypmi/config.yaml, or a
    broker on this machine (where the demo has one).
    """
    context.obj = AccessOptions(mqtt, config, user, password_file, ca_file, prefix, protocol)


for command in (nodes, watch, power, console, boot, identify, sensors, events, doctor, scan):
    app.command()(command)
app.add_typer(export_app, name="export")


@app.command()
def demo(
    nodes: Annotated[int, typer.Option(min=1, max=1000, help="How many simulated PCs.")] = 4,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="UDP port of the gateway; nodes get the next ones.")
    ] = 6230,
    mqtt_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="TCP port of the broker [default: 1883 if free, else any].")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder for configuration, logs and state [default: a temporary one].")
    ] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write a JSON description here when all is ready.")] = None,
    embedded_broker: Annotated[
        bool, typer.Option(help="Use the built-in broker even where mosquitto is there.")
    ] = False,
) -> None:
    """Run a whole fleet on simulated boards, ready for ipmitool. No root, no Docker, no broker needed."""
    options = demo_module.DemoOptions(nodes, port, mqtt_port, state_dir, ready_file, embedded_broker)
    raise typer.Exit(demo_module.main(options))


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The fleet.yaml to check.")] = Path("fleet.yaml"),
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema for editors instead.")] = False,
    as_json: Json = False,
) -> None:
    """Check a fleet.yaml: every mistake with line, field, what is wrong and what to write instead."""
    from pypmi.config.document import ConfigError
    from pypmi.config.load import json_schema, load_fleet

    if schema:
        print(json_schema(), end="")
        return
    try:
        loaded = load_fleet(file)
    except ConfigError as error:
        problems = tuple(error.problems)
    else:
        problems = loaded.warnings
    wrong = any(not problem.warning for problem in problems)
    if as_json:
        print_json([asdict(problem) for problem in problems])
    else:
        for problem in problems:
            print(f"{file}: {'warning: ' if problem.warning else ''}{problem}")
    if wrong:
        raise typer.Exit(Exit.FAILED)
    if not as_json:
        print(f"{file}: {len(loaded.fleet.nodes)} nodes, {len(loaded.fleet.users)} users: no mistakes")


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="The fleet directory to make or to complete.")] = Path(),
    fleet: Annotated[str, typer.Option(help="Name of a new fleet.")] = "pypmi",
    host: Annotated[list[str] | None, typer.Option(help="Further name or address of the broker.")] = None,
    listen: Annotated[str, typer.Option(help="Where a new fleet's gateway listens.")] = "[::]:623",
    gateway: Annotated[list[str] | None, typer.Option(help="Name of a gateway, when there are several.")] = None,
) -> None:
    """Make a fleet directory: certificates, accounts with random passwords, the broker's access rules.

    Run it again after changes in fleet.yaml: it adds what is missing and never changes a secret that is there.
    """
    from pypmi_cli.setup.directory import ConfigError, InitError, InitOptions, prepare

    options = InitOptions(directory, fleet, tuple(host or ()), listen, tuple(gateway or ("ipmi-gateway",)))
    try:
        report = prepare(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{directory / 'fleet.yaml'}: {problem}", file=sys.stderr)
        raise typer.Exit(1) from None
    except InitError as error:
        print(f"pypmi init: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    for line in report.made:
        print(f"made  {line}")
    for line in report.kept:
        print(f"kept  {line}")
    for name, path in report.ipmi_users:
        print(f"the IPMI password of {name} is in {path}")


@app.command()
def up(
    directory: Annotated[Path, typer.Argument(help="The fleet directory, made by `pypmi init`.")] = Path(),
    broker: Annotated[bool, typer.Option(help="Start a Mosquitto with the fleet's accounts and access rules.")] = True,
) -> None:
    """Run the services of a fleet directory as processes on this machine, in the foreground."""
    from pypmi_cli import up as up_module

    raise typer.Exit(up_module.main(up_module.UpOptions(directory, broker)))


def main() -> None:
    """Run the tool."""
    app()


if __name__ == "__main__":
    main()
