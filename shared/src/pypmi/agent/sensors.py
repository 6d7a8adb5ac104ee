"""A node's sensor readings on their way to the bus: only changes, not too often, and a word when a limit is crossed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite

from pypmi.agent.publisher import Publisher
from pypmi.contract import EventType, SensorInfo

MIN_INTERVAL = 1.0
"""Seconds between two messages of one sensor."""
_HYSTERESIS = 0.01
"""Part of a threshold by which a reading must come back before the alarm is over."""


@dataclass(slots=True)
class _Sensor:
    info: SensorInfo
    text: str = ""
    waiting: str | None = None
    quiet: asyncio.TimerHandle | None = None
    asserted: set[str] = field(default_factory=set)


class SensorDesk:
    """Takes readings of one node.

    Args:
        publisher: of the node.
        sensors: what there is, asked at each reading of an unknown key, for it may grow.
    """

    def __init__(self, publisher: Publisher, sensors: Callable[[], tuple[SensorInfo, ...]]) -> None:
        self._publisher = publisher
        self._infos = sensors
        self._sensors: dict[str, _Sensor] = {}
        self._loop = asyncio.get_running_loop()

    def reading(self, key: str, value: float) -> None:
        """Take a reading. What is not finite, or no sensor of this node, is dropped."""
        sensor = self._sensors.get(key) or self._find(key)
        if sensor is None or not isfinite(value):
            return
        text = f"{value:.6g}"
        if sensor.quiet is not None:
            sensor.waiting = text
        elif text != sensor.text:
            self._publish(sensor, text)
        self._check(sensor, value)

    def close(self) -> None:
        """Stop the timers."""
        for sensor in self._sensors.values():
            if sensor.quiet is not None:
                sensor.quiet.cancel()

    def _find(self, key: str) -> _Sensor | None:
        for info in self._infos():
            if info.key == key:
                sensor = self._sensors[key] = _Sensor(info)
                return sensor
        return None

    def _publish(self, sensor: _Sensor, text: str) -> None:
        sensor.text = text
        self._publisher.sensor(sensor.info.key, text)
        sensor.quiet = self._loop.call_later(MIN_INTERVAL, self._quiet_over, sensor)

    def _quiet_over(self, sensor: _Sensor) -> None:
        sensor.quiet = None
        text, sensor.waiting = sensor.waiting, None
        if text is not None and text != sensor.text:
            self._publish(sensor, text)

    def _check(self, sensor: _Sensor, value: float) -> None:
        for name, limit in sensor.info.thresholds.model_dump().items():
            if limit is None:
                continue
            beyond = limit - value if name.startswith("lower") else value - limit
            if name not in sensor.asserted and beyond >= 0:
                sensor.asserted.add(name)
                self._say(sensor, name, limit, value, asserted=True)
            elif name in sensor.asserted and beyond < -abs(limit) * _HYSTERESIS:
                sensor.asserted.discard(name)
                self._say(sensor, name, limit, value, asserted=False)

    def _say(self, sensor: _Sensor, name: str, limit: float, value: float, *, asserted: bool) -> None:
        info = sensor.info
        what = "is beyond" if asserted else "is back within"
        self._publisher.event(
            EventType.SENSOR,
            "hardware",
            f"{info.name} {what} its limit {name}: {value:g} {info.unit}".strip(),
            data={"key": info.key, "value": value, "threshold": name, "limit": limit, "asserted": asserted},
        )
