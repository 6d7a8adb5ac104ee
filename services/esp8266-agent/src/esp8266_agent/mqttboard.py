"""What drivers of boards that speak MQTT themselves have in common: topics, reachability, and questions with answers.

Commands go out with an expiry and are never retained: a broker must not keep a press for a board that is away.
"""

import asyncio
import contextlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pypmi.bus import Bus, BusDisconnectedError, BusError, Message
from pypmi.power.hardware import HardwareListener, HardwareUnreachableError

logger = logging.getLogger(__name__)

T = TypeVar("T")

COMMAND_EXPIRY: Final = 2
"""Seconds after which a broker drops a command that it could not deliver (MQTT 5)."""
ANSWER_TIMEOUT: Final = 1.0
"""Seconds for an answer."""
MISSES: Final = 3
"""Answers in a row that may fail to come before a board is offline."""
GREETING: Final = 2.0
"""Seconds for the retained messages to come after the start."""
_MAX_PAYLOAD: Final = 16_384


class MqttBoard(ABC):
    """A board behind topics of its own on the fleet's broker.

    Args:
        bus: kept up by the service.
        status_topic: the board's birth and last will.
        online: the birth's payload; anything else on that topic means that the board is away.
        filters: further topics to listen to.
    """

    def __init__(self, bus: Bus, status_topic: str, online: bytes, filters: tuple[str, ...]) -> None:
        self._bus = bus
        self._status_topic = status_topic
        self._online = online
        self._filters = (status_topic, *filters)
        self._listener: HardwareListener | None = None
        self._present: bool | None = None
        """By the board's birth and last will; None: nothing heard of it."""
        self._misses = 0
        self._reported: tuple[bool, str] | None = None
        self._status: bool | None = None
        self._waiting: list[tuple[Callable[[str, dict[str, Any]], Any], asyncio.Future[Any]]] = []

    # -- keeping in touch ------------------------------------------------------------------------------------------

    async def run(self, listener: HardwareListener) -> None:
        """Listen, poll, report; until cancelled. Moves nothing."""
        self._listener = listener
        self._present, self._reported = None, None
        for topic in self._filters:
            self._bus.subscribe(topic, self._on_message, qos=0)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GREETING):
                    await self._bus.wait_connected()
                    await self._greeted()
            while True:
                await self._look()
                self._assess()
                await asyncio.sleep(self.poll_interval)
        finally:
            for topic in self._filters:
                self._bus.unsubscribe(topic, self._on_message)
            self._listener = None

    async def _greeted(self) -> None:
        while self._present is None:  # noqa: ASYNC110 - a matter of milliseconds, once
            await asyncio.sleep(0.02)

    async def _look(self) -> None:
        if self._present is False or not self._bus.connected:
            return
        try:
            await self._poll()
        except HardwareUnreachableError:
            self._misses += 1
        else:
            self._misses = 0

    @property
    def unreachable(self) -> str | None:
        """Why the board can't be reached; None when it can."""
        if not self._bus.connected:
            return "no connection to the broker"
        if self._present is None:
            return f"nothing was ever heard of the board on {self._status_topic}"
        if not self._present:
            return "the broker has lost the board"
        if self._misses >= MISSES:
            return "the board does not answer"
        return None

    def _assess(self) -> None:
        reason = self.unreachable
        now = (reason is None, reason or "")
        if self._listener is None:
            return
        if now != self._reported:
            if self._reported is not None or reason is not None:
                logger.log(logging.INFO if reason is None else logging.WARNING, "%s: %s", self.name, reason or "online")
            self._reported = now
            self._listener.on_reachable(*now)
        if reason is not None:
            self._set_status(None)

    def _set_status(self, on: bool | None) -> None:
        self._status = on
        if self._listener is not None:
            self._listener.on_status(on)

    # -- messages --------------------------------------------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        if message.topic == self._status_topic:
            self._present = message.payload == self._online
            self._misses = 0
            self._assess()
        if len(message.payload) <= _MAX_PAYLOAD:
            self._received(message)

    def _offer(self, suffix: str, payload: bytes) -> dict[str, Any] | None:
        """Give a JSON message to those who wait for one like it; returns it, or None if it is no JSON object."""
        try:
            value = json.loads(payload)
        except (ValueError, RecursionError):  # nested as deep as no board does it
            return None
        if not isinstance(value, dict):
            return None
        for match, waiter in list(self._waiting):
            found = match(suffix, value)
            if found is not None and not waiter.done():
                waiter.set_result(found)
        return value

    async def _send(self, topic: str, payload: str) -> None:
        """Publish a command. Raises `HardwareUnreachableError`, with `acted` where the board may have got it."""
        if not self._bus.connected:
            raise HardwareUnreachableError("no connection to the broker")
        try:
            receipt = await self._bus.publish(topic, payload.encode(), qos=1, expiry=COMMAND_EXPIRY)
        except BusDisconnectedError as error:  # on the way: the broker may have it
            raise HardwareUnreachableError(str(error), acted=True) from None
        except BusError as error:
            raise HardwareUnreachableError(str(error)) from None
        if receipt.no_subscribers:
            raise HardwareUnreachableError(f"no board listens on {topic}")

    async def _ask(
        self,
        topic: str,
        payload: str,
        match: Callable[[str, dict[str, Any]], T | None],
        timeout: float = ANSWER_TIMEOUT,
    ) -> T:
        """Publish and wait for the first message that `match` takes (the end of its topic, and its JSON object).

        Raises `HardwareUnreachableError`; `acted` when the board may have got it.
        """
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        entry = (match, waiter)
        self._waiting.append(entry)
        try:
            await self._send(topic, payload)
            async with asyncio.timeout(timeout):
                return await waiter
        except TimeoutError:
            raise HardwareUnreachableError(f"no answer to {topic} within {timeout:g} s", acted=True) from None
        finally:
            self._waiting.remove(entry)

    # -- the kind of board -----------------------------------------------------------------------------------------

    poll_interval: float = 2.0
    """Seconds between two polls."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For log lines."""

    @abstractmethod
    async def _poll(self) -> None:
        """Look at the board. Raises `HardwareUnreachableError`."""

    @abstractmethod
    def _received(self, message: Message) -> None:
        """A message on one of the filters."""
