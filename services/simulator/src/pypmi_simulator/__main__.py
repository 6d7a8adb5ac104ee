"""`pypmi-simulator`: a fleet of simulated boards in the foreground."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .control import ControlServer, summary
from .eras import Era
from .faults import BoardTimings
from .fleet import CONSOLES, Fleet, FleetOptions
from .pc import PcTimings

log = logging.getLogger("pypmi-simulator")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pypmi-simulator", description=__doc__)
    parser.add_argument("--boards", type=int, default=4, metavar="N", help="how many boards (default 4)")
    parser.add_argument(
        "--base-port",
        type=int,
        default=0,
        metavar="PORT",
        help="board n listens on PORT + 2n, its console bridge on the next one; default: free ports",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--era", default="newest", help="firmware: newest, 2021, 2019, or several with commas, given out in turn"
    )
    parser.add_argument("--name-format", default="node{}", metavar="FORMAT", help="names (default node{})")
    parser.add_argument("--blank", action="store_true", help="boards as from the factory, not provisioned")
    parser.add_argument("--console", choices=sorted(CONSOLES), default="shell", help="what is on the serial ports")
    parser.add_argument("--unpaced", action="store_true", help="serial bytes go as fast as they can")
    parser.add_argument("--no-udp", action="store_true", help="TCP only: fewer file descriptors")
    parser.add_argument("--realistic", action="store_true", help="slow boards and slow machines, as real ones are")
    parser.add_argument("--powered", action="store_true", help="machines are on at the start")
    parser.add_argument("--reset-pin", type=int, default=None, metavar="GPIO", help="wire the reset button to a pin")
    parser.add_argument("--nmi-pin", type=int, default=None, metavar="GPIO", help="wire the NMI button to a pin")
    parser.add_argument("--wol-port", type=int, default=None, metavar="PORT", help="UDP port for Wake-on-LAN packets")
    parser.add_argument("--control", type=int, default=None, metavar="PORT", help="control interface (0: free port)")
    parser.add_argument("--ready-file", type=Path, default=None, metavar="FILE", help="written, whole, when ready")
    return parser


def options_from(arguments: argparse.Namespace) -> FleetOptions:
    """Fleet options from parsed arguments.

    Raises:
        ValueError: unknown era, or a number that makes no sense.
    """
    if arguments.boards < 1:
        raise ValueError("--boards must be at least 1")
    return FleetOptions(
        boards=arguments.boards,
        base_port=arguments.base_port,
        host=arguments.host,
        eras=tuple(Era.parse(word) for word in arguments.era.split(",")),
        name_format=arguments.name_format,
        provisioned=not arguments.blank,
        udp=not arguments.no_udp,
        console=arguments.console,
        paced_uart=not arguments.unpaced,
        powered=arguments.powered,
        reset_pin=arguments.reset_pin,
        nmi_pin=arguments.nmi_pin,
        board_timings=BoardTimings.realistic() if arguments.realistic else BoardTimings(),
        pc_timings=PcTimings.realistic() if arguments.realistic else PcTimings(),
        wol_port=arguments.wol_port,
    )


def _write_ready(path: Path, fleet: Fleet, control: ControlServer | None) -> None:
    ready = {
        "boards": [summary(board) for board in fleet.boards],
        "control": None if control is None else {"host": control.host, "port": control.port},
        "wol": None if fleet.wol_port is None else {"host": fleet.options.host, "port": fleet.wol_port},
    }
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(ready, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


async def serve(options: FleetOptions, *, control_port: int | None, ready_file: Path | None) -> None:
    """Runs a fleet until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with Fleet(options) as fleet:
        control = None if control_port is None else ControlServer(fleet, port=control_port)
        if control is not None:
            await control.__aenter__()
        try:
            if ready_file is not None:
                _write_ready(ready_file, fleet, control)
            first = fleet.boards[0]
            log.info("%d boards ready; %s at %s:%d", len(fleet.boards), first.name, first.host, first.port)
            await stop.wait()
        finally:
            if control is not None:
                await control.__aexit__(None, None, None)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        options = options_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    try:
        asyncio.run(serve(options, control_port=arguments.control, ready_file=arguments.ready_file))
    except OSError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
