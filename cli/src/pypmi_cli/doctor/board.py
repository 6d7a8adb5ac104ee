"""A look at a relay board itself, where its agent can't work it. Only questions: nothing is written, nothing pressed.

The board takes one connection, and the newest wins: a board that its agent works is left alone.
"""

import asyncio

from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.protocol import Era, ReplyError
from esp8266_agent.session import detect_era
from esp8266_agent.setup import Inspection, SetupError, WrongBoardError
from pypmi.config.hardware import Esp8266Hardware

from pypmi_cli.doctor.findings import Link, Report

_TRIES = 4
"""The agent tries to connect all the time too, and may throw us out in the middle."""


async def examine_board(report: Report, node_id: str, settings: Esp8266Hardware) -> None:
    """Say why a board can't be worked."""
    where = f"{settings.host}:{settings.port}"
    for attempt in range(_TRIES):
        try:
            link = await CommandLink.open(
                settings.host, settings.port, connect_timeout=settings.connect_timeout,
                command_timeout=max(settings.command_timeout, 2.0),
            )  # fmt: skip
        except LinkError as error:
            report.fault(
                Link.BOARD, "board-unreachable", f"the board of {node_id} does not answer: {error}",
                f"has it power and WLAN, and is {where} its address (DHCP)? `pypmi scan` finds boards;"
                " the agent's machine must reach it too", node_id,
            )  # fmt: skip
            return
        try:
            await _ask(report, link, node_id, settings)
        except LinkError as error:
            if attempt < _TRIES - 1:
                await asyncio.sleep(0.3)
                continue
            report.fault(
                Link.BOARD, "board-silent", f"the board of {node_id} at {where} takes the connection, then: {error}",
                "does another program or a second agent use it (it takes one connection)? Else restart the board",
                node_id,
            )  # fmt: skip
        finally:
            link.abort("looked at")
        return


async def _ask(report: Report, link: CommandLink, node_id: str, settings: Esp8266Hardware) -> None:
    where = f"{settings.host}:{settings.port}"
    try:
        await link.resync()
    except ReplyError:
        report.fault(
            Link.BOARD, "not-a-bridge", f"what answers at {where} is no Universal I/O bridge",
            f"correct host and port of {node_id} in fleet.yaml (command port, mostly 24); or flash the firmware:"
            " docs/hardware.md", node_id,
        )  # fmt: skip
        return
    try:
        found = await detect_era(link)
        era = found if settings.firmware == "auto" else Era(settings.firmware)
        if era is not found:
            report.fault(
                Link.BOARD, "firmware", f"the board of {node_id} has firmware of {found}, fleet.yaml says {era}",
                "set `firmware: auto`", node_id,
            )  # fmt: skip
            return
        inspection = Inspection(link, era, settings)
        await inspection.run()
    except WrongBoardError as error:
        report.fault(Link.BOARD, "wrong-board", str(error), "correct host, or identification, in fleet.yaml", node_id)
        return
    except (SetupError, ReplyError) as error:
        report.fault(
            Link.BOARD, "board-answer", f"the board of {node_id} must not be worked: {error}",
            f"`esp8266-agent --provision {node_id}` sets it up; is its firmware one of docs/esp8266-protocol.md?",
            node_id,
        )  # fmt: skip
        return
    unsafe = [deviation.problem for deviation in inspection.deviations if deviation.unsafe]
    other = [deviation.problem for deviation in inspection.deviations if not deviation.unsafe]
    fix = f"`esp8266-agent --provision {node_id}` puts it right (it restarts the board), or `provision: true`"
    if unsafe:
        text = f"the board of {node_id} is not set up for safe presses: {'; '.join(unsafe)}"
        report.fault(Link.BOARD, "board-not-set-up", text, fix, node_id)
    else:
        report.note(
            Link.BOARD, "board-answers", f"the board of {node_id} at {where} answers and is set up ({era})",
            "if its agent still can't work it: can the agent's machine reach it? Its log says why", node_id,
        )  # fmt: skip
    if other:
        report.warn(Link.BOARD, "board-settings", f"the board of {node_id}: {'; '.join(other)}", fix, node_id)
