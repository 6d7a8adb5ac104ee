"""The driver for one relay board: keeps its connection, polls its status input, presses its relays."""

import asyncio
import contextlib
import logging
import random
from typing import Final

from pypmi.config.hardware import BoardPin, Esp8266Hardware
from pypmi.contract import SensorInfo, SensorKind
from pypmi.power.hardware import (
    Button,
    HardwareListener,
    HardwareUnreachableError,
    HardwareUnsafeError,
    HardwareUnsupportedError,
)

from esp8266_agent import pins, protocol
from esp8266_agent.availability import Availability
from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.pins import PinReport
from esp8266_agent.plain import press_plain
from esp8266_agent.press import TimedPress
from esp8266_agent.protocol import Era, ReplyError
from esp8266_agent.relay import is_held, plain_relay_fault, relay_fault
from esp8266_agent.session import Session, establish, probe_packets
from esp8266_agent.setup import RestartingError, SetupError

logger = logging.getLogger(__name__)

SENSORS: Final = (
    SensorInfo(key="signal", name="WLAN signal", kind=SensorKind.SIGNAL, unit="dBm", minimum=-110, maximum=0),
    SensorInfo(key="uptime", name="Board uptime", kind=SensorKind.OTHER, unit="s", minimum=0),
)
SENSOR_INTERVAL: Final = 60.0
"""Seconds between two readings of signal strength and uptime."""

_START_SPREAD: Final = 0.5
"""Seconds over which the boards of an agent make their first connections."""
_SETUP_RETRY: Final = 30.0
"""Seconds until a board that must not be pressed is looked at again."""
_RESTART_WAIT: Final = 2.0
"""Seconds that a board that was told to restart is left alone."""
_MAX_PROVISIONS: Final = 4
"""Times a board is set up by one process. One that still is not right then has another problem; its flash wears."""
_READY_WAIT: Final = 1.5
"""Seconds that a press waits for a connection that is just being made."""
_LET_GO_WAIT: Final = 1.5
"""Seconds that a stopping agent leaves to a press to let go."""


class _ConnectAgainError(Exception):
    """Nothing is wrong, but this connection is used up."""


class Board:
    """Implements `ButtonHardware` for a board with the Universal I/O bridge firmware.

    Args:
        settings: of the node's hardware.
        node: the node's id, for messages.
        rng: jitter and transaction ids; an argument so that tests are repeatable.
    """

    driver = "esp8266"
    sensors = SENSORS

    def __init__(self, settings: Esp8266Hardware, node: str, *, rng: random.Random | None = None) -> None:
        self._settings = settings
        self._node = node
        self._rng = rng or random.Random()  # noqa: S311 - jitter, and ids that need not be secret
        wired = {
            Button.POWER: settings.relay,
            Button.RESET: settings.reset_relay,
            Button.NMI: settings.nmi_relay,
        }
        self._relays = {button: relay for button, relay in wired.items() if relay is not None}
        self._plain = settings.output_mode == "plain"
        if settings.status is not None:
            self._poll = pins.read_pin(settings.status.pin, pins.INPUT_MODE)
        else:  # then a read of the relay tells whether the board is there
            self._poll = pins.read_pin(settings.relay.pin, pins.OUTPUT_MODE if self._plain else pins.TIMER_MODE)
        self._on_value = settings.status is None or settings.status.active == "high"
        self._availability = Availability(settings.host, settings.retries, self._report, self._rng)
        self._listener: HardwareListener | None = None
        self._session: Session | None = None
        self._earlier: Session | None = None
        self._ready = asyncio.Event()
        self._kick = asyncio.Event()
        self._refused: str | None = None
        """Why the board must not be pressed."""
        self._last_status: bool | None = None
        self._line = asyncio.Lock()
        """Held for one command of the polling, or for a whole press: nothing may delay its triggers."""
        self._pressing = 0
        self._idle = asyncio.Event()
        self._probed: Session | None = None
        """The session in which packet mode was tried."""
        self._packets = False
        self._provisions = 0

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def buttons(self) -> frozenset[Button]:
        """Those with a relay."""
        return frozenset(self._relays)

    @property
    def has_status(self) -> bool:
        """Whether the power LED is wired."""
        return self._settings.status is not None

    # -- keeping in touch ------------------------------------------------------------------------------------------

    async def run(self, listener: HardwareListener) -> None:
        """Keep the connection up, poll, report; until cancelled."""
        self._listener = listener
        try:
            await asyncio.sleep(self._rng.random() * _START_SPREAD)
            while True:
                pause = await self._serve_once(listener)
                self._kick.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._kick.wait()  # somebody wants to press now
        finally:
            self._listener = None
            self._availability.close()

    async def _serve_once(self, listener: HardwareListener) -> float:
        """One connection from beginning to end; returns the seconds until the next one."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        link: CommandLink | None = None
        up_since: float | None = None
        try:
            link = await CommandLink.open(
                settings.host,
                settings.port,
                connect_timeout=settings.connect_timeout,
                command_timeout=settings.command_timeout,
            )
            session = await self._establish(link)
            up_since = loop.time()
            self._begin(session, listener)
            return await self._keep_polling(session, listener)
        except _ConnectAgainError:
            return 0.0
        except RestartingError:
            self._provisions += 1
            return _RESTART_WAIT
        except SetupError as error:
            self._refused = str(error)
            self._availability.refused(str(error))
            return self._availability.jittered(_SETUP_RETRY)
        except asyncio.CancelledError:
            await self._finish_presses()
            raise
        except (LinkError, ReplyError) as error:
            lasted = None if up_since is None else loop.time() - up_since
            return self._availability.failed(error, lasted=lasted)
        finally:
            self._session = None
            self._ready.clear()
            if link is not None:
                link.abort("the agent has ended the connection")

    async def _establish(self, link: CommandLink) -> Session:
        provision = self._settings.provision and self._provisions < _MAX_PROVISIONS
        session = await establish(link, self._settings, self._node, may_provision=provision)
        if self._plain or session.era is not Era.NEWEST:
            return session
        if self._probed is None or session.restarted_since(self._probed):  # it may have other firmware now
            self._probed = session
            self._packets = await probe_packets(link, self._rng)
            if not self._packets:
                logger.info("%s: no packet mode; a press whose reply is lost is not tried again", self._settings.host)
                raise _ConnectAgainError
        return session

    def _begin(self, session: Session, listener: HardwareListener) -> None:
        if self._earlier is not None and session.restarted_since(self._earlier):
            self._availability.restarted()
            reason = f"the board has restarted ({session.firmware.reset_cause or 'cause not known'})"
            logger.warning("%s: %s", self._settings.host, reason)
            listener.on_restart(reason)
        if self._earlier is None or session.advice != self._earlier.advice:
            for advice in session.advice:
                logger.warning("%s: %s; `provision: true` puts it right", self._settings.host, advice)
        self._earlier = self._session = session
        self._refused = None
        self._ready.set()
        listener.on_firmware(f"Universal I/O bridge {session.era}, {session.firmware.date}".rstrip(", ")[:128])
        listener.on_sensor("uptime", round(asyncio.get_running_loop().time() - session.booted_at))

    async def _keep_polling(self, session: Session, listener: HardwareListener) -> float:
        """Poll until the link is over; raises its error, and never returns."""
        loop = asyncio.get_running_loop()
        link, interval = session.link, self._settings.poll_interval
        sensors_at = loop.time() + self._rng.random() * interval
        while True:
            if not self._pressing:
                async with self._line:
                    await self._read(link)
            if not self._pressing and loop.time() >= sensors_at:
                sensors_at = loop.time() + SENSOR_INTERVAL
                await self._read_sensors(session, listener)
            await link.wait_lost(interval)

    async def _read(self, link: CommandLink, timeout: float | None = None) -> bool | None:
        value = await link.ask(self._poll, timeout=timeout)
        self._last_status = (value is self._on_value) if self._settings.status is not None else None
        self._availability.answered()
        if self._listener is not None:
            self._listener.on_status(self._last_status)
        return self._last_status

    async def _read_sensors(self, session: Session, listener: HardwareListener) -> None:
        async with self._line:
            signal = await session.link.ask(protocol.SIGNAL)
        if signal is not None:
            listener.on_sensor("signal", signal)
        if self._pressing:
            return
        async with self._line:
            uptime = await session.link.ask(protocol.UPTIME)
        self._earlier = session.with_uptime(uptime)
        listener.on_sensor("uptime", round(uptime))

    async def _finish_presses(self) -> None:
        """Leave the connection to presses that are being ended at the same time, to let go with it."""
        if self._pressing and self._session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO_WAIT):
                    await self._idle.wait()

    def _report(self, reachable: bool, reason: str) -> None:
        if self._listener is not None:
            self._listener.on_reachable(reachable, reason)
            if not reachable:
                self._last_status = None
                self._listener.on_status(None)

    # -- for the power semantics -----------------------------------------------------------------------------------

    async def read_status(self) -> bool | None:
        """Read the status input; during a press, what was read last."""
        if self._settings.status is None:
            return None
        if self._pressing:
            return self._last_status
        session = await self._get_session()
        try:
            async with self._line:
                return await self._read(session.link)
        except (LinkError, ReplyError) as error:
            raise HardwareUnreachableError(f"the board does not answer: {error}") from None

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        """Hold a button. See `ButtonHardware`."""
        relay = self._relays.get(button)
        if relay is None:
            raise HardwareUnsupportedError(f"no relay is wired to the {button} button")
        self._pressing += 1
        self._idle.clear()
        try:
            async with self._line:
                await self._press(relay, seconds, release)
        finally:
            self._pressing -= 1
            if not self._pressing:
                self._idle.set()

    async def _press(self, relay: BoardPin, seconds: float, release: asyncio.Event) -> None:
        session, report = await self._at_rest(relay)
        if self._plain:
            await press_plain(session, relay, report, seconds, release, get_session=self._get_session)
        else:
            timed = TimedPress(relay, self._get_session, self._watch, self._rng, packets=self._packets)
            await timed.hold(session, seconds, release)

    async def _watch(self, link: CommandLink, seconds: float) -> None:
        if self._settings.status is not None:
            await self._read(link, seconds)

    async def _get_session(self, wait: float = _READY_WAIT) -> Session:
        """A session whose link works; makes the driver connect at once where it pauses."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while self._refused is None:
                    session = self._session
                    if session is not None and session.link.error is None:
                        return session
                    self._kick.set()
                    # `run` clears it as soon as it has noticed that the link is over
                    await (self._ready.wait() if session is None else asyncio.sleep(0.01))
        if self._refused is not None:
            raise HardwareUnsafeError(self._refused)
        raise HardwareUnreachableError(f"the board does not answer: {self._availability.reason}")

    async def _at_rest(self, relay: BoardPin) -> tuple[Session, PinReport]:
        """A session whose board is set up as it must be at this moment, with the relay open."""
        session = await self._get_session()
        try:
            return session, await self._check(session, relay)
        except (LinkError, ReplyError):  # a connection that was dead already; nothing has moved
            session = await self._get_session()
        try:
            return session, await self._check(session, relay)
        except (LinkError, ReplyError) as error:
            raise HardwareUnreachableError(f"the board does not answer: {error}") from None

    async def _check(self, session: Session, relay: BoardPin) -> PinReport:
        for pause in (relay.pulse_ms / 1000 + 0.1, 0.0):
            report = await session.link.ask(pins.show_pin(relay.pin))
            fault = plain_relay_fault(relay, report) if self._plain else relay_fault(session.era, relay, report)
            if fault is not None:
                session.link.abort("the board's set-up has changed")
                raise HardwareUnsafeError(f"the board's set-up has changed: {fault}")
            if not is_held(relay, report):
                return report
            await asyncio.sleep(pause)  # a pulse that is just ending
        raise HardwareUnsafeError(f"relay pin {relay.pin} is closed already: another program works it")
