"""`pypmi scan`: boards and BMCs on a network, as a part of fleet.yaml."""

from pathlib import Path
from typing import Annotated

import typer
import yaml
from pypmi.config.fleet import Fleet

from pypmi_cli.commands.common import Json, access_of, exit_codes
from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.output import err, print_json, table
from pypmi_cli.scanning import Found, addresses_of, find_bmcs, find_boards, fleet_part, known_places
from pypmi_cli.session import run


def scan(
    context: typer.Context,
    targets: Annotated[
        list[str], typer.Argument(metavar="NETWORK...", help="192.0.2.0/24, 192.0.2.10-50, an address, a name.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Command port of the boards.")] = 24,
    ipmi_port: Annotated[int, typer.Option(min=1, max=65_535, help="UDP port of BMCs.")] = 623,
    ipmi_user: Annotated[str, typer.Option(help="Account on the BMCs to write into the part.")] = "admin",
    timeout: Annotated[float, typer.Option(min=0.1, max=10, help="Seconds for an answer.")] = 1.0,
    parallel: Annotated[int, typer.Option(min=1, max=1000, help="Connections at the same time.")] = 64,
    write: Annotated[
        Path | None, typer.Option("--write", "-w", help="Write the part to this new file [default: to stdout].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find relay boards (Universal I/O bridge) and BMCs on a network, and write the part of fleet.yaml for them.

    It asks boards for their name and firmware, and changes nothing. Boards that fleet.yaml has already are left alone:
    a board takes one connection, and a second one ends its agent's.
    """
    with exit_codes():
        try:
            loaded = access_of(context).loaded
        except ToolError as error:
            err().print(f"pypmi: fleet.yaml is not looked at: {error}", markup=False)
            loaded = None
        fleet = loaded.fleet if loaded is not None else None
        addresses = addresses_of(targets)
        found = run(_scan(addresses, fleet, port, ipmi_port, timeout, parallel))
        if as_json:
            print_json([item.as_dict() for item in found])
        elif not found:
            err().print(f"nothing new at {len(addresses)} addresses: no board on TCP {port}, no BMC on UDP {ipmi_port}")
        else:
            _show(found)
        if found and (write is not None or not as_json):
            _write(part_text(found, fleet, ipmi_user), write)


async def _scan(
    addresses: list[str], fleet: Fleet | None, port: int, ipmi_port: int, timeout: float, parallel: int
) -> list[Found]:
    known = await known_places(fleet)
    boards = await find_boards(addresses, port, timeout=timeout, parallel=parallel, known=known)
    bmcs = await find_bmcs(addresses, ipmi_port, timeout=timeout)
    return [*boards, *(bmc for bmc in bmcs if (bmc.host, bmc.port) not in known)]


def _show(found: list[Found]) -> None:
    rows = table("TYPE", "HOST", "PORT", "NAME", "FIRMWARE")
    for item in found:
        rows.add_row(item.kind.value, item.host, str(item.port), item.name or "-", item.firmware or "-")
    err().print(rows)


def part_text(found: list[Found], fleet: Fleet | None, user: str) -> str:
    """The part of fleet.yaml, with what is still to be done as comments."""
    entries = yaml.safe_dump(fleet_part(found, fleet, user), sort_keys=False, default_flow_style=False)
    hints = [
        "# Found by `pypmi scan`; put it under `nodes:` in fleet.yaml, and give the ids that you want.",
        "# Boards: pins and console as wired (docs/hardware.md).",
        "# BMCs: an account on them, and its password in the file that is named.",
        "# A pypmi gateway is found as a BMC too: leave that out.",
    ]
    return "\n".join([*hints, "nodes:", *(f"  {line}" for line in entries.splitlines())]) + "\n"


def _write(text: str, path: Path | None) -> None:
    if path is None:
        print(text, end="")
        return
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ToolError(f"{path} is there already; give another name", Exit.USAGE) from None
    except OSError as error:
        raise ToolError(f"cannot write {path}: {error.strerror}") from None
    err().print(f"written to {path}")
