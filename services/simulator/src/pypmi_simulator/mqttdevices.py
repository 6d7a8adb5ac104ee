"""Tasmota and ESPHome devices on a real broker, each with a connection and a PC of its own."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Self

from pypmi.bus import Bus, BusDisconnectedError, Message
from pypmi.config.mqtt import MqttSettings

from .esphome import EspButton, Esphome, EspPublication
from .pc import PC, Button
from .tasmota import Publication, Tasmota
from .timers import Timers

DEFAULT_FULL_TOPIC: Final = "%prefix%/%topic%"


class MqttDevice(ABC):
    """A device on the bus: keeps its own time, and publishes what its logic says.

    Args:
        pc: the machine it is wired to.
        settings: the broker.
        client_id: must differ from that of every other client.
        will: last will, and the topic's payload while the device is away.
    """

    def __init__(self, pc: PC, settings: MqttSettings, client_id: str, will: tuple[str, bytes]) -> None:
        self.pc = pc
        self.lose_commands = 0
        """So many next commands never arrive."""
        self.lose_replies = 0
        """So many next commands are executed, and nothing is published about them."""
        self._settings = settings
        self._client_id = client_id
        self._will = will
        self._bus: Bus | None = None
        self._task: asyncio.Task[None] | None = None
        self._timers: Timers | None = None
        self._wake: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._timers = Timers()
        await self.connect()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.disconnect()
        if self._timers is not None:
            self._timers.close()
            self._timers = None

    @property
    def now(self) -> float:
        """The event loop's clock, seconds."""
        return asyncio.get_running_loop().time()

    # -- connection -----------------------------------------------------------------------------

    async def connect(self) -> None:
        """Joins the broker; returns when the device is there."""
        bus = Bus(self._settings, self._client_id, will=self._will)
        bus.on_connected(self._greet)
        for topic in self._topics():
            bus.subscribe(topic, self._received, qos=0)
        self._bus = bus
        self._task = asyncio.create_task(bus.run(), name=self._client_id)
        await bus.wait_connected()

    async def disconnect(self) -> None:
        """Leaves the broker as a device does that loses its power or its network: the will speaks."""
        task, self._task = self._task, None
        bus, self._bus = self._bus, None
        if bus is not None:
            with contextlib.suppress(BusDisconnectedError):
                await bus.publish(self._will[0], self._will[1], retain=True)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def restart(self, *, away: float = 0.0) -> None:
        """The device loses its power for a while: outputs open, it comes back with what its flash has."""
        await self.disconnect()
        self._power_cycle(self.now)
        self.touch()
        await asyncio.sleep(away)
        await self.connect()

    async def _greet(self) -> None:
        self._publish(self._greeting(self.now))
        self.touch()

    # -- messages -------------------------------------------------------------------------------

    def _received(self, message: Message) -> None:
        if self.lose_commands > 0:
            self.lose_commands -= 1
            return
        out = self._command(message.topic, message.payload.decode("utf-8", "replace"), self.now)
        if self.lose_replies > 0:
            self.lose_replies -= 1
        else:
            self._publish(out)
        self.touch()

    def _publish(self, messages: list[tuple[str, str, bool]]) -> None:
        if self._bus is None:
            return
        with contextlib.suppress(BusDisconnectedError):
            for topic, payload, retain in messages:
                self._bus.publish_nowait(topic, payload.encode(), qos=0, retain=retain)

    def touch(self) -> None:
        """Lets everything happen that is due; to be called after the PC was changed from outside."""
        if self._timers is None:
            return
        now = self.now
        self._publish(self._advance(now))
        if self._wake is not None:
            self._timers.cancel(self._wake)
            self._wake = None
        times = [t for t in (self._deadline(), self.pc.deadline()) if t is not None]
        if times:
            self._wake = self._timers.at(min(times), self.touch)

    # -- the device's logic ---------------------------------------------------------------------

    @abstractmethod
    def _topics(self) -> list[str]:
        """Topic filters of the device's commands."""

    @abstractmethod
    def _greeting(self, now: float) -> list[tuple[str, str, bool]]: ...

    @abstractmethod
    def _command(self, topic: str, payload: str, now: float) -> list[tuple[str, str, bool]]: ...

    @abstractmethod
    def _advance(self, now: float) -> list[tuple[str, str, bool]]: ...

    @abstractmethod
    def _deadline(self) -> float | None: ...

    @abstractmethod
    def _power_cycle(self, now: float) -> None: ...


class TasmotaDevice(MqttDevice):
    """A Tasmota relay on the broker; `logic` has its relays and settings.

    Args:
        topic: Tasmota's `Topic`.
        full_topic: Tasmota's `FullTopic`.
        reset_relay: relay 2 presses the reset button.
        switch: number of the switch input on the power LED, or None.
        switch_report: see `Tasmota`.
    """

    def __init__(
        self,
        settings: MqttSettings,
        topic: str,
        *,
        pc: PC | None = None,
        full_topic: str = DEFAULT_FULL_TOPIC,
        reset_relay: bool = False,
        switch: int | None = 1,
        switch_report: str = "sensor",
    ) -> None:
        pc = pc if pc is not None else PC()
        self.topic = topic
        self._full_topic = full_topic.rstrip("/")
        self.logic = Tasmota(
            pc,
            buttons=(Button.POWER, Button.RESET) if reset_relay else (Button.POWER,),
            switch=switch,
            switch_report=switch_report,
        )
        super().__init__(pc, settings, f"DVES_{topic}", (self._at("tele", "LWT"), b"Offline"))

    def _at(self, prefix: str, suffix: str) -> str:
        return self._full_topic.replace("%prefix%", prefix).replace("%topic%", self.topic) + f"/{suffix}"

    def _named(self, messages: list[Publication]) -> list[tuple[str, str, bool]]:
        return [(self._at(m.prefix, m.suffix), m.payload, m.retain) for m in messages]

    def _topics(self) -> list[str]:
        return [self._at("cmnd", "+")]

    def _greeting(self, now: float) -> list[tuple[str, str, bool]]:
        return self._named(self.logic.greeting(now))

    def _command(self, topic: str, payload: str, now: float) -> list[tuple[str, str, bool]]:
        return self._named(self.logic.command(topic.rsplit("/", 1)[-1], payload, now))

    def _advance(self, now: float) -> list[tuple[str, str, bool]]:
        return self._named(self.logic.advance(now))

    def _deadline(self) -> float | None:
        return self.logic.deadline()

    def _power_cycle(self, now: float) -> None:
        self.logic.power_cycle(now)


class EsphomeDevice(MqttDevice):
    """An ESPHome board on the broker; `logic` has its buttons.

    Args:
        prefix: the device's `topic_prefix`.
        buttons: its buttons.
        sensor: object id of the binary sensor on the power LED, or None.
    """

    def __init__(
        self,
        settings: MqttSettings,
        prefix: str,
        *,
        pc: PC | None = None,
        buttons: tuple[EspButton, ...] = (EspButton("power_button"),),
        sensor: str | None = "power_led",
    ) -> None:
        pc = pc if pc is not None else PC()
        self.prefix = prefix
        self.logic = Esphome(pc, buttons=buttons, sensor=sensor)
        super().__init__(pc, settings, f"esphome-{prefix.replace('/', '-')}", (f"{prefix}/status", b"offline"))

    def _named(self, messages: list[EspPublication]) -> list[tuple[str, str, bool]]:
        return [(f"{self.prefix}/{m.suffix}", m.payload, True) for m in messages]

    def _topics(self) -> list[str]:
        return [f"{self.prefix}/{suffix}" for suffix in self.logic.command_suffixes()]

    def _greeting(self, now: float) -> list[tuple[str, str, bool]]:
        return self._named(self.logic.greeting(now))

    def _command(self, topic: str, payload: str, now: float) -> list[tuple[str, str, bool]]:
        return self._named(self.logic.command(topic.removeprefix(f"{self.prefix}/"), payload, now))

    def _advance(self, now: float) -> list[tuple[str, str, bool]]:
        return self._named(self.logic.advance(now))

    def _deadline(self) -> float | None:
        return self.logic.deadline()

    def _power_cycle(self, now: float) -> None:
        self.logic.power_cycle(now)
