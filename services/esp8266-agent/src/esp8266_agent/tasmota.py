"""The driver for relays that run Tasmota: presses are pulses that the device times itself (PulseTime).

Before each press the pulse time is asked for and, only when it differs, set (it is a setting in flash); the relay is
closed only after the device has confirmed it. Topics and payloads: Tasmota's documentation, "MQTT" and "Commands".
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Any, Final

from pypmi.bus import Bus, BusError, Message
from pypmi.config.hardware import TasmotaHardware
from pypmi.contract import SensorInfo, SensorKind
from pypmi.power.hardware import (
    Button,
    HardwareUnreachableError,
    HardwareUnsafeError,
    HardwareUnsupportedError,
)

from esp8266_agent.mqttboard import MqttBoard

STATE_INTERVAL: Final = 60.0
"""Seconds between two looks at signal strength, voltage and uptime."""
_TENTHS_MAX: Final = 111
_SECONDS_OFFSET: Final = 100
_RESULTS: Final = ("RESULT", "POWER", "PULSETIME", "SWITCH")
"""Where answers come: RESULT, or the command's own name with SetOption4."""
_PULSE_SLACK: Final = 1.0
"""Seconds for the device to say that a pulse is over."""

_SIGNAL: Final = SensorInfo(
    key="signal", name="WLAN signal", kind=SensorKind.SIGNAL, unit="dBm", minimum=-110, maximum=0
)
_UPTIME: Final = SensorInfo(key="uptime", name="Board uptime", kind=SensorKind.OTHER, unit="s", minimum=0)
_VOLTAGE: Final = SensorInfo(
    key="vcc", name="Board supply", kind=SensorKind.VOLTAGE, unit="V", minimum=0.0, maximum=5.0
)


def pulse_setting(seconds: float) -> int:
    """The PulseTime number for at least so many seconds: tenths up to 111 (11.1 s), then whole seconds plus 100."""
    tenths = max(math.ceil(seconds * 10 - 1e-6), 1)
    return tenths if tenths <= _TENTHS_MAX else math.ceil(seconds - 1e-6) + _SECONDS_OFFSET


class TasmotaBoard(MqttBoard):
    """Implements `ButtonHardware`.

    Args:
        settings: of the node's hardware.
        bus: the fleet's broker, which the device uses, too.
    """

    driver = "tasmota"

    def __init__(self, settings: TasmotaHardware, bus: Bus) -> None:
        self._settings = settings
        self._relays = {Button.POWER: settings.relay}
        if settings.reset_relay is not None:
            self._relays[Button.RESET] = settings.reset_relay
        self._stat, self._tele = self._topic("stat", ""), self._topic("tele", "")
        super().__init__(bus, self._topic("tele", "LWT"), b"Online", (self._stat + "+", self._tele + "+"))
        self._switch = f"Switch{settings.status_switch}"
        self._on_word = "ON" if settings.status_active == "high" else "OFF"
        self._has_voltage = False
        self._uptime: float | None = None
        self._firmware = ""
        self._state_at = -math.inf
        self._closed: dict[int, asyncio.Event] = {}
        """Set for each relay number when the device says that it is open."""
        self._pressing = False

    def _topic(self, prefix: str, end: str) -> str:
        full = self._settings.full_topic.rstrip("/")
        return f"{full.replace('%prefix%', prefix).replace('%topic%', self._settings.topic)}/{end}"

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """For log lines."""
        return f"tasmota {self._settings.topic}"

    @property
    def buttons(self) -> frozenset[Button]:
        """Those with a relay."""
        return frozenset(self._relays)

    @property
    def has_status(self) -> bool:
        """Whether a switch input senses the power LED."""
        return self._settings.status_switch is not None

    @property
    def sensors(self) -> tuple[SensorInfo, ...]:
        """The supply voltage shows only on firmware that measures it."""
        return (_SIGNAL, _UPTIME, _VOLTAGE) if self._has_voltage else (_SIGNAL, _UPTIME)

    # -- what it says ----------------------------------------------------------------------------------------------

    def _received(self, message: Message) -> None:
        for start in (self._stat, self._tele):
            if message.topic.startswith(start):
                suffix = message.topic.removeprefix(start)
                value = self._offer(suffix, message.payload)
                if value is not None and not message.retain:
                    self._heard(suffix, value)
                return

    def _heard(self, suffix: str, value: dict[str, Any]) -> None:
        if suffix in {"SENSOR", "STATUS8", "STATUS10"}:
            word = _inner(value, "StatusSNS").get(self._switch)
            if self.has_status and isinstance(word, str):
                self._set_status(word.upper() == self._on_word)
        elif suffix.startswith(_RESULTS):
            action = _inner(value, self._switch).get("Action") if self._switch in value else None
            if self.has_status and isinstance(action, str) and action.upper() in {"ON", "OFF"}:
                self._set_status(action.upper() == self._on_word)
            for number in self._relays.values():
                if _relay_word(value, number) == "OFF" and number in self._closed:
                    self._closed[number].set()
        elif suffix in {"STATE", "STATUS11"}:
            self._heard_state(_inner(value, "StatusSTS"))
        elif suffix in {"INFO1", "STATUS2"}:
            version = _inner(value, "Info1").get("Version") or _inner(value, "StatusFWR").get("Version")
            if isinstance(version, str):
                self._set_firmware(version)

    def _heard_state(self, state: dict[str, Any]) -> None:
        listener = self._listener
        if listener is None:
            return
        signal = _inner(state, "Wifi").get("Signal") if "Wifi" in state else None
        if isinstance(signal, int | float):
            listener.on_sensor("signal", signal)
        voltage = state.get("Vcc")
        if isinstance(voltage, int | float):
            if not self._has_voltage:
                self._has_voltage = True
                listener.on_firmware(self._firmware)
            listener.on_sensor("vcc", voltage)
        uptime = state.get("UptimeSec")
        if isinstance(uptime, int | float):
            listener.on_sensor("uptime", uptime)
            if self._uptime is not None and uptime < self._uptime:
                listener.on_restart("the board has restarted")
            self._uptime = uptime

    def _set_firmware(self, version: str) -> None:
        firmware = f"Tasmota {version}"[:128]
        if firmware != self._firmware and self._listener is not None:
            self._firmware = firmware
            self._listener.on_firmware(firmware)

    async def _poll(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._state_at > STATE_INTERVAL:
            await self._ask(self._topic("cmnd", "STATUS"), "11", _answer("STATUS11"))
            self._state_at = now
            if not self._firmware:
                with contextlib.suppress(HardwareUnreachableError):  # some builds do not tell
                    await self._ask(self._topic("cmnd", "STATUS"), "2", _answer("STATUS2", "STATUS"))
        if self.has_status and not self._pressing:
            await self._ask(self._topic("cmnd", "STATUS"), "10", _answer("STATUS10"))

    # -- for the power semantics -----------------------------------------------------------------------------------

    async def read_status(self) -> bool | None:
        """Ask for the switch input."""
        if not self.has_status:
            return None
        if self.unreachable:
            raise HardwareUnreachableError(self.unreachable)
        value = await self._ask(self._topic("cmnd", "STATUS"), "10", _answer("STATUS10"))
        word = _inner(value, "StatusSNS").get(self._switch)
        return word.upper() == self._on_word if isinstance(word, str) else None

    async def press(self, button: Button, seconds: float, release: asyncio.Event) -> None:
        """Hold a button. See `ButtonHardware`."""
        relay = self._relays.get(button)
        if relay is None:
            raise HardwareUnsupportedError(f"no relay is wired to the {button} button")
        if self.unreachable:
            raise HardwareUnreachableError(self.unreachable)
        try:
            await self._prepare(relay, pulse_setting(seconds))
        except HardwareUnreachableError as error:
            raise HardwareUnreachableError(str(error)) from None  # nothing has moved so far
        opened = self._closed[relay] = asyncio.Event()
        self._pressing = True
        try:
            await self._switch_relay(relay, "ON")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await release.wait()
            await self._let_go(relay, opened, early=release.is_set())
        finally:
            del self._closed[relay]
            self._pressing = False
            if not opened.is_set():  # the device opens it by itself; this is earlier
                with contextlib.suppress(BusError):
                    self._bus.publish_nowait(self._topic("cmnd", f"POWER{relay}"), b"OFF", qos=0)

    async def _prepare(self, relay: int, pulse: int) -> None:
        """Make sure that the relay is open, and that it will open by itself."""
        if await self._ask(self._topic("cmnd", f"POWER{relay}"), "", _relay_answer(relay)) == "ON":
            raise HardwareUnsafeError(f"relay {relay} is closed already: another program works it")
        command = self._topic("cmnd", f"PulseTime{relay}")
        if await self._ask(command, "", _pulse_answer(relay)) != pulse:
            found = await self._ask(command, str(pulse), _pulse_answer(relay))
            if found != pulse:
                raise HardwareUnsafeError(f"PulseTime{relay} is {found} and can't be set to {pulse}")

    async def _switch_relay(self, relay: int, word: str) -> None:
        topic = self._topic("cmnd", f"POWER{relay}")
        await self._ask(topic, word, _relay_answer(relay, word))

    async def _let_go(self, relay: int, opened: asyncio.Event, *, early: bool) -> None:
        if not early:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PULSE_SLACK):
                    await opened.wait()
                    return
        await self._switch_relay(relay, "OFF")
        opened.set()


def _inner(value: dict[str, Any], key: str) -> dict[str, Any]:
    """The object below `key`, or `value` itself where there is no such level."""
    inner = value.get(key, value)
    return inner if isinstance(inner, dict) else {}


def _answer(*suffixes: str) -> Callable[[str, dict[str, Any]], dict[str, Any] | None]:
    return lambda suffix, value: value if suffix in suffixes else None


def _relay_word(value: dict[str, Any], relay: int) -> str | None:
    # a device with one relay says POWER, unless SetOption26 is set
    word = value.get(f"POWER{relay}", value.get("POWER") if relay == 1 else None)
    return word.upper() if isinstance(word, str) else None


def _relay_answer(relay: int, wanted: str | None = None) -> Callable[[str, dict[str, Any]], str | None]:
    def match(suffix: str, value: dict[str, Any]) -> str | None:
        word = _relay_word(value, relay) if suffix.startswith(_RESULTS) else None
        return word if wanted is None or word == wanted else None

    return match


def _pulse_answer(relay: int) -> Callable[[str, dict[str, Any]], int | None]:
    def match(suffix: str, value: dict[str, Any]) -> int | None:
        if not suffix.startswith(_RESULTS):
            return None
        found = value.get(f"PulseTime{relay}")
        if found is None and isinstance(listed := value.get("PulseTime"), dict):
            numbers = listed.get("Set")
            found = numbers[relay - 1] if isinstance(numbers, list) and len(numbers) >= relay else None
        if isinstance(found, dict):
            found = found.get("Set")
        try:
            return None if found is None else int(str(found).split(" ", 1)[0])  # old releases: "10 (Active 0)"
        except ValueError:
            return None

    return match
