"""Presses of a relay pin that is a plain output: press and release are two commands, with nothing but us between them.

Only by explicit configuration (`output_mode: plain`), since the button stays pressed when the link fails in the middle.
What can be done is done: the release is insisted on, over new connections too, and each new connection to the board
opens a contact that it finds closed (`session`).
"""

import asyncio
import contextlib
from typing import Final

from pypmi.config.hardware import BoardPin
from pypmi.power.hardware import HardwareError, HardwareUnreachableError

from esp8266_agent import pins
from esp8266_agent.client import LinkError
from esp8266_agent.pins import PinReport
from esp8266_agent.press import GetSession
from esp8266_agent.protocol import ReplyError
from esp8266_agent.relay import plain_press_value
from esp8266_agent.session import Session

RELEASE_WAIT: Final = 3.0
"""Seconds for which a press insists on its release before it reports."""
_RELEASE_RETRY: Final = 0.1


async def press_plain(
    session: Session,
    relay: BoardPin,
    report: PinReport,
    seconds: float,
    release: asyncio.Event,
    *,
    get_session: GetSession,
) -> None:
    """Hold the button. See `ButtonHardware.press`; `report` is of the pin at rest."""
    value = plain_press_value(relay, report)
    error: Exception | None = None
    released = False
    try:
        if await session.link.ask(pins.write_output(relay.pin, value)) is value:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await release.wait()
        else:
            error = ReplyError("the pin does not follow")
    except (LinkError, ReplyError) as lost:
        error = lost
    finally:
        released = await _let_go(relay, value, get_session)
    if not released:
        raise HardwareUnreachableError(
            "the board was lost during the press and the button may still be held; it is let go as soon as the board"
            " answers",
            acted=True,
        )
    if error is not None:
        raise HardwareUnreachableError(f"the button may have been pressed: {error}", acted=True)


async def _let_go(relay: BoardPin, pressed: bool, get_session: GetSession) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + RELEASE_WAIT
    while (left := until - loop.time()) > 0:
        try:
            session = await get_session(left)
            if await session.link.ask(pins.write_output(relay.pin, not pressed)) is not pressed:
                return True
        except (LinkError, ReplyError):
            await asyncio.sleep(_RELEASE_RETRY)
        except HardwareError:
            return False
    return False
