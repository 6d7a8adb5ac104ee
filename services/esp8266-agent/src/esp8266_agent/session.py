"""A connection to a board that is known to be the right one, and to be set up for safe presses."""

import asyncio
import logging
import random
from dataclasses import dataclass, replace
from typing import Final

from pypmi.config.hardware import BoardPin, Esp8266Hardware

from esp8266_agent import packets, pins, protocol
from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.protocol import Era, Firmware
from esp8266_agent.relay import is_held, relays
from esp8266_agent.setup import Inspection, SetupError, refusal

logger = logging.getLogger(__name__)

_RESTART_TOLERANCE: Final = 2.0
"""Seconds by which two computations of the board's start may differ."""
_CLOCK_DRIFT: Final = 200e-6
"""By which the board's crystal and our clock may differ: some seconds a day."""


@dataclass(frozen=True, slots=True)
class Session:
    """What is known of the board behind `link`."""

    link: CommandLink
    era: Era
    firmware: Firmware
    booted_at: float
    """Loop time of the board's last start: not before it, and some 0.1 s and a round trip after it at the most."""
    seen_at: float
    """Loop time at which that was found out."""
    advice: tuple[str, ...] = ()
    """What is not as fleet.yaml says, and does no harm to presses."""

    def restarted_since(self, earlier: "Session") -> bool:
        """Whether the board has started anew after `earlier` was made."""
        drift = _CLOCK_DRIFT * (self.seen_at - earlier.seen_at)
        return self.booted_at > earlier.booted_at + _RESTART_TOLERANCE + drift

    def with_uptime(self, uptime: float) -> "Session":
        """The same with a newer reading of the board's uptime, so that its clock's drift does not add up."""
        now = asyncio.get_running_loop().time()
        return replace(self, booted_at=now - uptime, seen_at=now)


async def detect_era(link: CommandLink) -> Era:
    """Find the firmware's generation out, with questions that change nothing (reference 2.3). Raises as `ask`."""
    if await link.ask(protocol.HAS_UART_STATISTICS):
        return Era.NEWEST
    return Era.MIDDLE if await link.ask(protocol.HAS_FLASH_STATISTICS) else Era.OLD


async def establish(link: CommandLink, settings: Esp8266Hardware, node: str, *, may_provision: bool) -> Session:
    """Make sure of the board behind a fresh connection.

    Raises `SetupError` when it must not be pressed, `RestartingError` when it was set up just now and restarts,
    `LinkError` and `ReplyError` as the link does.
    """
    await link.resync()
    era = await detect_era(link) if settings.firmware == "auto" else Era(settings.firmware)
    inspection = Inspection(link, era, settings)
    await inspection.run()
    deviations = inspection.deviations
    if deviations and may_provision:
        await inspection.put_right()
        deviations = []
    unsafe = [deviation.problem for deviation in deviations if deviation.unsafe]
    if unsafe:
        raise refusal(settings.host, node, unsafe)
    for relay in relays(settings):
        await _let_go_if_stuck(link, relay, inspection)
    firmware = await link.ask(protocol.STATISTICS)
    uptime = await link.ask(protocol.UPTIME)
    now = asyncio.get_running_loop().time()
    return Session(link, era, firmware, now - uptime, now, tuple(deviation.problem for deviation in deviations))


async def _let_go_if_stuck(link: CommandLink, relay: BoardPin, inspection: Inspection) -> None:
    """Open a contact that is closed with nothing to open it: a press that was cut short, or a foreign write.

    A pulse under way opens by itself and is left alone.
    """
    report = inspection.reports[relay.pin]
    if not is_held(relay, report) or (report.timer is not None and report.timer.running != "none"):
        return
    logger.warning("%s: relay pin %d is closed and stays so: opening it", inspection.settings.host, relay.pin)
    if report.timer is not None:
        await link.ask(pins.trigger(relay.pin, "off"))
        return
    released = not report.state
    if await link.ask(pins.write_output(relay.pin, released)) is not released:
        raise SetupError(f"relay pin {relay.pin} of the board at {inspection.settings.host} can't be opened")


async def probe_packets(link: CommandLink, rng: random.Random) -> bool:
    """Whether newest firmware knows packet mode (from August 2022 on). If not, the link is over after this."""
    try:
        await link.ask_once(protocol.IDENTIFICATION, packets.new_transaction(rng))
    except LinkError:
        return False
    return True
