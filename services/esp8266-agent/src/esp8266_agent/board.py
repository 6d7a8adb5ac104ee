"""The driver for one relay board: keeps its connection, polls its status input, presses its relays."""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
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

from esp8266_agent import protocol
from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.press import LapsedError, Train
from esp8266_agent.protocol import Era, PinReport, RefusedError, ReplyError
from esp8266_agent.session import Session, establish, new_transaction, probe_packets
from esp8266_agent.setup import RestartingError, SetupError, is_held, plain_press_value, plain_relay_fault, relay_fault

logger = logging.getLogger(__name__)

SENSORS: Final = (
    SensorInfo(key="signal", name="WLAN signal", kind=SensorKind.SIGNAL, unit="dBm", minimum=-110, maximum=0),
    SensorInfo(key="uptime", name="Board uptime", kind=SensorKind.OTHER, unit="s", minimum=0),
)
SENSOR_INTERVAL: Final = 60.0
"""Seconds between two readings of signal strength and uptime."""

_START_SPREAD: Final = 0.5
"""Seconds over which the boards of an agent make their first connections."""
_FIRST_RETRY, _LAST_RETRY = 0.1, 10.0
_SETUP_RETRY: Final = 30.0
"""Seconds until a board that must not be pressed is looked at again."""
_RESTART_WAIT: Final = 2.0
"""Seconds that a board that was told to restart is left alone."""
_MAX_PROVISIONS: Final = 4
"""Times a board is set up by one process. One that still is not right then has another problem; its flash wears."""
_OFFLINE_AFTER: Final = 6.0
"""Seconds of silence after which a board is offline, however few attempts fit into them."""
_OFFLINE_NOT_BEFORE: Final = 3.0
"""Seconds of silence before which it is not, however many did: a board restarts in that time."""
_STEADY_AFTER: Final = 10.0
"""Seconds a connection must have lasted for the next loss to be a new one."""
_TAKEOVERS: Final = 3
"""Connections reset within `_TAKEOVER_WINDOW` seconds, without a restart, that mean another program wants the board."""
_TAKEOVER_WINDOW: Final = 60.0
_RESTART_TOLERANCE: Final = 2.0
"""Seconds by which two computations of the board's start may differ."""
_READY_WAIT: Final = 1.5
"""Seconds that a press waits for a connection that is just being made."""
_RETRY_WAIT: Final = 3.0
"""Seconds after a lost reply within which the same transaction may be sent again."""
_LET_GO_WAIT: Final = 1.5
"""Seconds that a stopping agent leaves to a press to let go."""
_PLAIN_RELEASE_WAIT: Final = 3.0
"""Seconds that a press of a plain output insists on its release before it reports; the next connection goes on."""


class Board:
    """Implements `ButtonHardware` for a board with the Universal I/O bridge firmware.

    Args:
        settings: of the node's hardware.
        node: the node's id, for messages.
        rng: jitter and transaction ids; an argument so that tests are repeatable.
        may_provision: set the board up even if its settings do not say so.
    """

    driver = "esp8266"
    sensors = SENSORS

    def __init__(
        self, settings: Esp8266Hardware, node: str, *, rng: random.Random | None = None, may_provision: bool = False
    ) -> None:
        self._settings = settings
        self._node = node
        self._rng = rng or random.Random()  # noqa: S311 - jitter, and ids that need not be secret
        self._may_provision = may_provision or settings.provision
        self._relays = {
            button: relay
            for button, relay in (
                (Button.POWER, settings.relay),
                (Button.RESET, settings.reset_relay),
                (Button.NMI, settings.nmi_relay),
            )
            if relay is not None
        }
        status = settings.status
        self._poll = (
            protocol.read_pin(status.pin, protocol.INPUT_MODE)
            if status is not None
            else protocol.read_pin(
                settings.relay.pin,
                protocol.OUTPUT_MODE if settings.output_mode == "plain" else protocol.TIMER_MODE,
            )
        )
        self._on_value = status is None or status.active == "high"
        self._listener: HardwareListener | None = None
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._kick = asyncio.Event()
        self._refused: str | None = None
        """Why the board must not be pressed."""
        self._last_error = "not connected yet"
        self._last_status: bool | None = None
        self._pressing = 0
        self._idle = asyncio.Event()
        self._reachable: bool | None = None
        self._failures = 0
        self._silent_since: float | None = None
        self._retry = _FIRST_RETRY
        self._offline_timer: asyncio.TimerHandle | None = None
        self._resets: deque[float] = deque(maxlen=_TAKEOVERS)
        self._booted_at: float | None = None
        self._packets: bool | None = None
        """Whether the board knows packet mode; None: not tried yet."""
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
        self._silent_since = asyncio.get_running_loop().time()
        await asyncio.sleep(self._rng.random() * _START_SPREAD)
        try:
            while True:
                pause = await self._serve_once(listener)
                self._kick.clear()
                try:
                    async with asyncio.timeout(pause):
                        await self._kick.wait()  # somebody wants to press now
                except TimeoutError:
                    pass
        finally:
            self._listener = None
            if self._offline_timer is not None:
                self._offline_timer.cancel()

    async def _serve_once(self, listener: HardwareListener) -> float:
        """One connection from beginning to end; returns the seconds until the next one."""
        loop = asyncio.get_running_loop()
        link: CommandLink | None = None
        up_since: float | None = None
        try:
            link = await CommandLink.open(
                self._settings.host,
                self._settings.port,
                connect_timeout=self._settings.connect_timeout,
                command_timeout=self._settings.command_timeout,
            )
            session = await self._establish(link)
            up_since = loop.time()
            self._begin(session, listener)
            await self._keep_polling(session, listener)
        except RestartingError:
            self._provisions += 1
            return _RESTART_WAIT
        except SetupError as error:
            self._refuse(str(error))
            return _SETUP_RETRY * self._jitter()
        except asyncio.CancelledError:
            await self._finish_presses()
            raise
        except (LinkError, ReplyError) as error:
            if up_since is not None and loop.time() - up_since > _STEADY_AFTER:
                self._retry = _FIRST_RETRY
            return self._failed(error, established=up_since is not None)
        finally:
            self._session = None
            self._ready.clear()
            if link is not None:
                link.abort("the agent has ended the connection")
        raise AssertionError("polling ends with an error only")

    async def _finish_presses(self) -> None:
        """Leave the connection to presses that are being ended at the same time, to let go with it."""
        if self._pressing and self._session is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LET_GO_WAIT):
                    await self._idle.wait()

    def _jitter(self) -> float:
        return 0.5 + self._rng.random() / 2

    async def _establish(self, link: CommandLink) -> Session:
        provision = self._may_provision and self._provisions < _MAX_PROVISIONS
        session = await establish(link, self._settings, self._node, may_provision=provision)
        if session.era is Era.NEWEST and self._packets is None and self._settings.output_mode == "timer":
            self._packets = await probe_packets(link, self._rng)
            if not self._packets:
                logger.info("%s: no packet mode; a press whose reply is lost is not tried again", self._settings.host)
        return session

    def _begin(self, session: Session, listener: HardwareListener) -> None:
        restarted = self._booted_at is not None and session.booted_at > self._booted_at + _RESTART_TOLERANCE
        self._booted_at = session.booted_at
        self._refused = None
        if restarted:
            self._resets.clear()
            cause = session.firmware.reset_cause or "cause not known"
            logger.warning("%s: the board has restarted (%s)", self._settings.host, cause)
            listener.on_restart(f"the board has restarted ({cause})")
        self._session = session
        self._ready.set()
        listener.on_firmware(f"Universal I/O bridge {session.era}, {session.firmware.date}".rstrip(", ")[:128])
        listener.on_sensor("uptime", round(asyncio.get_running_loop().time() - session.booted_at))

    async def _keep_polling(self, session: Session, listener: HardwareListener) -> None:
        loop = asyncio.get_running_loop()
        link, interval = session.link, self._settings.poll_interval
        sensors_at = loop.time() + self._rng.random() * interval
        while True:
            if not self._pressing:
                await self._read(link)
                if loop.time() >= sensors_at:
                    sensors_at = loop.time() + SENSOR_INTERVAL
                    await self._read_sensors(link, listener)
            await _pause(link, interval)

    async def _read(self, link: CommandLink, timeout: float | None = None) -> bool | None:
        value = await link.ask(self._poll, timeout=timeout)
        self._last_status = (value is self._on_value) if self._settings.status is not None else None
        self._answered()
        if self._listener is not None:
            self._listener.on_status(self._last_status)
        return self._last_status

    async def _read_sensors(self, link: CommandLink, listener: HardwareListener) -> None:
        signal = await link.ask(protocol.SIGNAL)
        if signal is not None:
            listener.on_sensor("signal", signal)
        uptime = await link.ask(protocol.UPTIME)
        listener.on_sensor("uptime", round(uptime))

    # -- availability ----------------------------------------------------------------------------------------------

    def _answered(self) -> None:
        if self._failures or self._reachable is not True:
            self._failures = 0
            self._retry = min(self._retry, _LAST_RETRY / 10)
            if self._offline_timer is not None:
                self._offline_timer.cancel()
                self._offline_timer = None
            if not self._contested:
                self._report(True)
        self._silent_since = asyncio.get_running_loop().time()

    @property
    def _contested(self) -> bool:
        """Whether another program keeps taking the board's only connection over (reference 1.2)."""
        now = asyncio.get_running_loop().time()
        recent = [at for at in self._resets if now - at < _TAKEOVER_WINDOW]
        return len(recent) >= _TAKEOVERS

    def _failed(self, error: Exception, *, established: bool) -> float:
        loop = asyncio.get_running_loop()
        self._last_error = str(error)
        self._failures += 1
        if established and isinstance(error, LinkError) and error.reset:
            self._resets.append(loop.time())
        silent = loop.time() - (self._silent_since if self._silent_since is not None else loop.time())
        if self._contested:
            self._last_error = (
                "another program keeps taking the board's connection over (it has room for one): find and stop it"
            )
            self._report(False, self._last_error)
        elif self._reachable is None or (self._failures >= self._settings.retries and silent >= _OFFLINE_NOT_BEFORE):
            self._report(False, self._last_error)
        elif self._offline_timer is None:
            self._offline_timer = loop.call_later(max(_OFFLINE_AFTER - silent, 0), self._went_silent)
        pause = self._retry * self._jitter()
        self._retry = min(self._retry * 2, _LAST_RETRY)
        return pause

    def _went_silent(self) -> None:
        self._offline_timer = None
        self._report(False, self._last_error)

    def _refuse(self, reason: str) -> None:
        self._refused = self._last_error = reason
        self._report(False, reason)

    def _report(self, reachable: bool, reason: str = "") -> None:
        if self._reachable is not reachable:
            self._reachable = reachable
            level = logging.INFO if reachable else logging.WARNING
            logger.log(level, "%s: %s", self._settings.host, reason or "the board answers")
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
            session = await self._prepare(relay)
            if self._settings.output_mode == "plain":
                await self._press_plain(session, relay, seconds, release)
            else:
                await self._press_timed(session, relay, seconds, release)
        finally:
            self._pressing -= 1
            if not self._pressing:
                self._idle.set()

    async def _get_session(self, wait: float = _READY_WAIT) -> Session:
        if self._session is None or self._session.link.error is not None:
            if self._refused is not None:
                raise HardwareUnsafeError(self._refused)
            self._kick.set()
            try:
                async with asyncio.timeout(wait):
                    while self._session is None or self._session.link.error is not None:
                        await _next_event(self._ready)
            except TimeoutError:
                if self._refused is not None:
                    raise HardwareUnsafeError(self._refused) from None
                raise HardwareUnreachableError(f"the board does not answer: {self._last_error}") from None
        return self._session

    async def _prepare(self, relay: BoardPin) -> Session:
        """A session whose board is set up as it must be at this moment, with the relay at rest."""
        session = await self._get_session()
        try:
            await self._check(session, relay)
        except (LinkError, ReplyError):  # an old connection that was dead already; nothing has moved
            session = await self._get_session()
            try:
                await self._check(session, relay)
            except (LinkError, ReplyError) as error:
                raise HardwareUnreachableError(f"the board does not answer: {error}") from None
        return session

    async def _check(self, session: Session, relay: BoardPin) -> PinReport:
        plain = self._settings.output_mode == "plain"
        for _ in range(2):
            report = await session.link.ask(protocol.show_pin(relay.pin))
            fault = plain_relay_fault(relay, report) if plain else relay_fault(session.era, relay, report)
            if fault is not None:
                session.link.abort("the board's set-up has changed")
                raise HardwareUnsafeError(f"the board's set-up has changed: {fault}")
            if not is_held(relay, report):
                return report
            await asyncio.sleep(relay.pulse_ms / 1000 + 0.1)
        raise HardwareUnsafeError(f"relay pin {relay.pin} is closed already: another program works it")

    # -- presses that the board times ------------------------------------------------------------------------------

    async def _press_timed(self, session: Session, relay: BoardPin, seconds: float, release: asyncio.Event) -> None:
        train = Train(relay, seconds, release)
        link = await self._first_trigger(session, relay, train)
        try:
            await train.hold(link, self._watcher(link))
        except LapsedError as error:
            await train.wait_open()
            short = seconds < _SHORT_PRESS and not error.again
            text = f"the button came up after {train.held:.1f} s instead of {seconds:g} s: {error}"
            if not short:
                raise HardwareUnreachableError(text, acted=True) from None
            logger.warning("%s: %s; as a short press it counts all the same", self._settings.host, text)

    def _watcher(self, link: CommandLink) -> Callable[[float], Awaitable[None]]:
        async def watch(seconds: float) -> None:
            if self._settings.status is not None and seconds > 2 * link.round_trip:
                await self._read(link, seconds)

        return watch

    async def _first_trigger(self, session: Session, relay: BoardPin, train: Train) -> CommandLink:
        """Begin the press, once; returns the link to go on with."""
        loop = asyncio.get_running_loop()
        request = protocol.trigger(relay.pin, "on")
        transaction = new_transaction(self._rng)
        link = session.link
        began = loop.time()
        try:
            if self._packets:
                await link.ask_once(request, transaction)
            else:
                await link.ask(request)
        except RefusedError as error:
            raise HardwareUnsafeError(f"the board did not press: {error}") from None
        except LinkError as error:
            if not error.sent:
                raise HardwareUnreachableError(f"the board does not answer: {error}") from None
            lost = str(error)
        except ReplyError as error:
            lost = str(error)
        except asyncio.CancelledError:
            train.triggered(began)
            raise
        else:
            train.triggered(link.sent_at)
            return link
        train.triggered(began)
        text = f"the board may have pressed the button, its answer was lost ({lost})"
        if not self._packets:
            await train.wait_open()
            raise HardwareUnreachableError(text, acted=True)
        again = await self._repeat(session, request, transaction, began + _RETRY_WAIT)
        if again is None:
            await train.wait_open()
            raise HardwareUnreachableError(text, acted=True)
        train.begun = 0.0
        train.triggered(again.sent_at)
        return again

    async def _repeat(
        self, session: Session, request: protocol.Request[None], transaction: int, until: float
    ) -> CommandLink | None:
        """Send a trigger again whose reply was lost, under the same transaction id: the board acts on one of them only.

        None when it is not known to act now: it did the first time, or is away, or has restarted and forgotten the id.
        """
        loop = asyncio.get_running_loop()
        try:
            again = await self._get_session(until - loop.time())
            if abs(again.booted_at - session.booted_at) > _RESTART_TOLERANCE or loop.time() > until:
                return None
            await again.link.ask_once(request, transaction)
        except (HardwareUnreachableError, HardwareUnsafeError, LinkError, ReplyError):
            return None
        logger.info("%s: the first trigger was lost on the way, the second arrived", self._settings.host)
        return again.link

    # -- presses of a plain output ---------------------------------------------------------------------------------

    async def _press_plain(self, session: Session, relay: BoardPin, seconds: float, release: asyncio.Event) -> None:
        report = await self._plain_report(session, relay)
        value = plain_press_value(relay, report)
        error: Exception | None = None
        try:
            if await session.link.ask(protocol.write_output(relay.pin, value)) is value:
                try:
                    async with asyncio.timeout(seconds):
                        await release.wait()
                except TimeoutError:
                    pass
            else:
                error = ReplyError("the pin does not follow")
        except (LinkError, ReplyError) as lost:
            error = lost
        finally:
            released = await self._insist_on_release(relay, value)
        if not released:
            raise HardwareUnreachableError(
                "the board was lost during the press and the button may still be held; it is let go as soon as the"
                " board answers",
                acted=True,
            )
        if error is not None:
            raise HardwareUnreachableError(f"the button may have been pressed: {error}", acted=True)

    async def _plain_report(self, session: Session, relay: BoardPin) -> PinReport:
        try:
            return await self._check(session, relay)
        except (LinkError, ReplyError) as error:
            raise HardwareUnreachableError(f"the board does not answer: {error}") from None

    async def _insist_on_release(self, relay: BoardPin, value: bool) -> bool:
        """Open the contact; with a new connection where the old one is lost. Each new connection does it, too."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _PLAIN_RELEASE_WAIT
        while (left := until - loop.time()) > 0:
            try:
                session = await self._get_session(left)
                if await session.link.ask(protocol.write_output(relay.pin, not value)) is not value:
                    return True
            except (LinkError, ReplyError):
                await asyncio.sleep(_FIRST_RETRY)
            except (HardwareUnreachableError, HardwareUnsafeError):
                return False
        return False


_SHORT_PRESS: Final = 4.0
"""Seconds: a shorter press is a short press to a machine, however short it gets (ATX: 4 s forces off)."""


async def _pause(link: CommandLink, seconds: float) -> None:
    """Wait, but not longer than the link lasts. Raises its `LinkError`."""
    loop = asyncio.get_running_loop()
    if link.error is None:
        woken = loop.create_future()
        timer = loop.call_later(seconds, _wake, woken)
        link.on_lost = lambda: _wake(woken)
        try:
            await woken
        finally:
            timer.cancel()
            link.on_lost = None
    if link.error is not None:
        raise link.error


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


async def _next_event(event: asyncio.Event) -> None:
    """Wait for an event, and give way once where it is set already."""
    await asyncio.sleep(0.01 if event.is_set() else 0)
    await event.wait()
