"""`esp8266-agent --provision NODE`: set one board up by hand, without an agent running for it."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Final

from pypmi.config.document import ConfigError
from pypmi.config.hardware import Esp8266Hardware
from pypmi.config.load import load_fleet
from pypmi.contract import ServiceKind
from pypmi.logs import set_up_logging

from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.protocol import ReplyError
from esp8266_agent.session import Session, establish
from esp8266_agent.setup import RestartingError, SetupError

logger = logging.getLogger(__name__)

OPTION: Final = "--provision"
_PASSES: Final = 4
"""Restarts that setting a board up may take."""
_RESTART_WAIT: Final = 30.0
"""Seconds for a board to come back (reference 2.2)."""


async def provision_board(settings: Esp8266Hardware, node: str) -> Session:
    """Set a board up; returns when it is as it must be. Its connection is closed.

    Writes its flash and restarts it where something differs, and never drives its relay. Raises `SetupError` where that
    can't be done, `LinkError` and `ReplyError` as the link does.
    """
    for _ in range(_PASSES):
        link = await _open(settings)
        try:
            return await establish(link, settings, node, may_provision=True)
        except RestartingError:
            logger.info("%s: the board restarts", settings.host)
            await asyncio.sleep(1)
        finally:
            link.abort("done")
    raise SetupError(f"the board at {settings.host} is still not set up after {_PASSES} restarts")


async def _open(settings: Esp8266Hardware) -> CommandLink:
    loop = asyncio.get_running_loop()
    until = loop.time() + _RESTART_WAIT
    while True:
        try:
            return await CommandLink.open(
                settings.host,
                settings.port,
                connect_timeout=settings.connect_timeout,
                command_timeout=settings.command_timeout,
            )
        except LinkError:
            if loop.time() > until:
                raise
            await asyncio.sleep(1)


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(prog=ServiceKind.ESP8266_AGENT.value)
    parser.add_argument(OPTION, metavar="NODE", required=True, help="set this node's board up, then stop")
    default = Path(os.environ.get("PYPMI_CONFIG", "fleet.yaml"))
    parser.add_argument("--config", type=Path, default=default, help="fleet.yaml")
    options = parser.parse_args(argv)
    set_up_logging(ServiceKind.ESP8266_AGENT.value, "text", "info")
    try:
        fleet = load_fleet(options.config).fleet
    except ConfigError as error:
        return _fail("; ".join(str(problem) for problem in error.problems))
    node = next((node for node in fleet.nodes if node.id == options.provision), None)
    if node is None:
        return _fail(f"there is no node {options.provision!r} in {options.config}")
    if not isinstance(node.hardware, Esp8266Hardware):
        return _fail(f"{node.id} has hardware type {node.hardware.type}; only esp8266 boards are set up")
    try:
        session = asyncio.run(provision_board(node.hardware, node.id))
    except (LinkError, ReplyError, SetupError) as error:
        return _fail(str(error))
    print(f"{node.id}: the board at {node.hardware.host} is set up (firmware {session.era})")  # noqa: T201
    return 0


def _fail(reason: str) -> int:
    print(reason, file=sys.stderr)  # noqa: T201
    return 1
