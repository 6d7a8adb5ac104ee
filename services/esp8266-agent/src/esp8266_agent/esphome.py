"""The driver for boards that run ESPHome with its MQTT component: buttons that the board's own automation times.

A button takes `PRESS` and answers nothing, so that a press is confirmed by the status input only, and can't be ended
early. Its length stands in the board's YAML: `power_button` presses shortly, `force_off_button` holds.
"""

import asyncio
import contextlib
from typing import Final

from pypmi.bus import Bus, Message
from pypmi.config.hardware import EsphomeHardware
from pypmi.contract import SensorInfo
from pypmi.power.hardware import Button, HardwareUnreachableError, HardwareUnsupportedError

from esp8266_agent.mqttboard import MqttBoard

SHORT_PRESS: Final = 4.0
"""Seconds: shorter presses go to the short button (ATX: 4 s forces off)."""


class EsphomeBoard(MqttBoard):
    """Implements `ButtonHardware`.

    Args:
        settings: of the node's hardware.
        bus: the fleet's broker, which the board uses, too.
    """

    driver = "esphome-mqtt"
    sensors: tuple[SensorInfo, ...] = ()

    def __init__(self, settings: EsphomeHardware, bus: Bus) -> None:
        self._settings = settings
        prefix = settings.prefix
        sensor = settings.status_sensor
        self._sensor_topic = f"{prefix}/binary_sensor/{sensor}/state" if sensor is not None else None
        filters = (self._sensor_topic,) if self._sensor_topic is not None else ()
        super().__init__(bus, f"{prefix}/status", b"online", filters)
        self._last: bool | None = None

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """For log lines."""
        return f"esphome {self._settings.prefix}"

    @property
    def buttons(self) -> frozenset[Button]:
        """Those that are named."""
        return frozenset({Button.POWER} | ({Button.RESET} if self._settings.reset_button is not None else set()))

    @property
    def has_status(self) -> bool:
        """Whether a binary sensor senses the power LED."""
        return self._sensor_topic is not None

    # -- what it says ----------------------------------------------------------------------------------------------

    def _received(self, message: Message) -> None:
        if message.topic == self._sensor_topic:
            self._last = {b"ON": True, b"OFF": False}.get(message.payload)
        elif message.topic == self._status_topic and not self._present:
            self._last = None  # it says it again when it is back
        else:
            return
        if self._present:
            self._set_status(self._last)

    async def _poll(self) -> None:
        """The board can't be asked: it says by itself what changes, and the broker when it is gone."""
        if self.has_status and self._last is not None:
            self._set_status(self._last)

    # -- for the power semantics -----------------------------------------------------------------------------------

    async def read_status(self) -> bool | None:
        """What the board said last."""
        if self.unreachable:
            raise HardwareUnreachableError(self.unreachable)
        return self._last

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        """Press the button that fits; returns after `seconds`, or when `release` is set. See `ButtonHardware`."""
        object_id = self._object_id(button, seconds)
        if self.unreachable:
            raise HardwareUnreachableError(self.unreachable)
        await self._send(f"{self._settings.prefix}/button/{object_id}/command", "PRESS")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await release.wait()

    def _object_id(self, button: Button, seconds: float) -> str:
        settings = self._settings
        if button is Button.POWER and seconds < SHORT_PRESS:
            return settings.power_button
        if button is Button.POWER and settings.force_off_button is not None:
            return settings.force_off_button
        if button is Button.POWER:
            raise HardwareUnsupportedError(
                "a short press only: name the board's button that holds power as force_off_button in fleet.yaml"
            )
        if button is Button.RESET and settings.reset_button is not None:
            return settings.reset_button
        raise HardwareUnsupportedError(f"no {button} button is named in fleet.yaml")
