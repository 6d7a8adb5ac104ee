"""The firmware: a command in, a reply and its effects out. Sans-IO; time is an argument.

This module holds the state and the way of a command; what the commands do is in `commands_io`,
`commands_config` and `commands_info`.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from . import commands_config, commands_info, commands_io
from .eras import TRAITS, DeviceFlag, Era, LowMode, Mode, PinFlag
from .pins import TICK, PinBank, PinError, clamp_speed
from .sequencer import Sequencer
from .store import Store
from .text import Line

COMMAND_PORT: Final = 24
DEFAULT_BAUD: Final = 115200
_POWER_SAVE_TICK: Final = 0.1
_LOG_LIMIT: Final = 4096


class Action(enum.Enum):
    """What has to happen after the reply was sent."""

    NOTHING = enum.auto()
    DISCONNECT = enum.auto()
    RESET = enum.auto()
    WLAN_RESTART = enum.auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Reply and consequences of one command."""

    reply: bytes
    action: Action = Action.NOTHING
    flash_writes: int = 0
    """Sectors erased and written while it was executed."""


@dataclass(slots=True)
class UartSettings:
    """Parameters of one UART."""

    baud: int = DEFAULT_BAUD
    data_bits: int = 8
    stop_bits: int = 1
    parity: int = 0
    """0 none, 1 even, 2 odd."""


@dataclass(slots=True)
class Counters:
    """What `sc` counts."""

    udp: int = 0
    tcp: int = 0
    uart: int = 0
    duplicates: int = 0
    checksum_errors: int = 0
    dropped_busy: int = 0


Handler = Callable[["Firmware", Line, float], "str | Outcome"]


@dataclass(slots=True)
class Firmware:
    """One module's firmware.

    Args:
        era: which generation.
        store: flash contents; outlives the firmware's reboots.
        pins: the chip's pins.
    """

    era: Era
    store: Store
    pins: PinBank
    counters: Counters = field(default_factory=Counters)
    reset_cause: str = "power on"
    """`power on`, `user reset`, `hardware watchdog`, ...; without the word `reset` that newer eras add."""
    flags: int = 0
    udp_ends_empty: bool = False
    """An empty datagram follows each reply by UDP; as `udp-term-empty` was at boot (2019, 2021)."""
    booted_at: float = 0.0
    command_port: int = COMMAND_PORT
    """Port in force since boot (the stored one may have changed)."""
    bridge_port: int = 0
    """Port in force since boot; 0 is off."""
    uarts: list[UartSettings] = field(default_factory=lambda: [UartSettings(), UartSettings()])
    status_trigger: tuple[int, int] = (-1, -1)
    assoc_trigger: tuple[int, int] = (-1, -1)
    sequencer: Sequencer = field(default_factory=Sequencer)
    sequencer_next: int = 0
    """Where `sea -1` goes on."""
    sequencer_listed: int = 0
    """Where `sel` goes on."""
    log: str = ""
    uart_flushed: Callable[[], None] = lambda: None
    """Called when a command flushes the UART's queues."""
    uart_send: Callable[[bytes], None] = lambda _data: None
    """Called with what a command writes to the UART."""
    _commands: dict[str, Handler] = field(init=False)

    def __post_init__(self) -> None:
        self._commands = {}
        for module in (commands_io, commands_config, commands_info):
            for names, handler, eras in module.COMMANDS:
                if self.era in eras:
                    self._commands.update(dict.fromkeys(names, handler))

    # -- life -----------------------------------------------------------------------------------

    def boot(self, now: float, *, cause: str | None = None) -> None:
        """Starts from what is in the store; RAM is lost, pins are set as stored (reference 9.1)."""
        self.reset_cause = cause or self.reset_cause
        traits = TRAITS[self.era]
        stored = self.store.get_uint("flags")
        self.flags = traits.default_flags if stored is None else stored
        self.udp_ends_empty = traits.era is not Era.NEWEST and self.has(DeviceFlag.UDP_TERM_EMPTY)
        self.booted_at = now
        self.counters = Counters()
        self.command_port = self._port("cmd.port", COMMAND_PORT)
        self.bridge_port = self._port("bridge.port", 0)
        self.log = ""
        for index in (0, 1):
            self.uarts[index] = UartSettings(
                baud=self._stored(f"uart.baud.{index}", DEFAULT_BAUD),
                data_bits=self._stored(f"uart.data.{index}", 8),
                stop_bits=self._stored(f"uart.stop.{index}", 1),
                parity=self._stored(f"uart.parity.{index}", 0),
            )
        self.status_trigger = self._stored_pin("status")
        self.assoc_trigger = self._stored_pin("assoc")
        # Only the newest era runs its fast timer at 100 ms with this flag; the older ones always tick at 10 ms.
        slow = self.has(DeviceFlag.WLAN_POWER_SAVE) and traits.strict
        self.pins.tick = _POWER_SAVE_TICK if slow else TICK
        self.pins.origin = now
        self.pins.reset(now)
        for pin in self.pins.pins:
            self._boot_pin(pin.number, now)
        self.sequencer.stop()
        if self.has(DeviceFlag.AUTO_SEQUENCER):
            self.sequencer.start(0, 1, now)
        self.associated(now)

    def associated(self, now: float) -> None:
        """The WLAN link came up: triggers the pin that `gas` names."""
        io, number = self.assoc_trigger
        self._trigger_quietly(io, number, now)

    def _stored(self, name: str, default: int) -> int:
        value = self.store.get_uint(name)
        return default if value is None else value

    def _stored_pin(self, name: str) -> tuple[int, int]:
        io, pin = self.store.get_int(f"trigger.{name}.io"), self.store.get_int(f"trigger.{name}.pin")
        return (-1, -1) if io is None or pin is None else (io, pin)

    def _port(self, name: str, default: int) -> int:
        return self._stored(name, default) & 0xFFFF

    def _boot_pin(self, number: int, now: float) -> None:
        pin = self.pins.pins[number]
        mode, low = self._stored(f"io.0.{number}.mode", 0), self._stored(f"io.0.{number}.llmode", 0)
        pin.flags = PinFlag(self._stored(f"io.0.{number}.flags", 0) & 0x1FF)
        if not mode or not low:
            console = number == 1 or (number == 3 and TRAITS[self.era].uart_rx_default)
            mode, low = (Mode.UART, LowMode.UART) if console else (0, 0)
        try:
            pin.mode, pin.low = Mode(mode), LowMode(low)
        except ValueError:
            pin.mode, pin.low = Mode.DISABLED, LowMode.DISABLED
        if pin.mode is Mode.TIMER:
            speed = self.store.get_uint(f"io.0.{number}.timer.delay")
            direction = self.store.get_uint(f"io.0.{number}.timer.direction")
            if speed is None or direction is None:
                pin.mode, pin.low = Mode.DISABLED, LowMode.DISABLED
            else:
                pin.speed, pin.direction = clamp_speed(speed), direction & 3
        if pin.mode is Mode.I2C:
            pin.i2c = self._stored(f"io.0.{number}.i2c.pinmode", 1)
        with contextlib.suppress(PinError):  # nobody listens at boot; the pin stays as it is
            self.pins.initialise(pin, now)
            auto = bool(pin.flags & PinFlag.AUTOSTART)
            if pin.mode is Mode.DOUTPUT:
                self.pins.trigger(pin, "on" if auto else "off", now)
            elif pin.mode is Mode.TIMER:
                self.pins.trigger(pin, "start" if auto else "stop", now)

    # -- one command ----------------------------------------------------------------------------

    def has(self, flag: DeviceFlag) -> bool:
        """Tells whether a device flag is set (in RAM)."""
        return bool(self.flags & flag)

    def uptime(self, now: float) -> float:
        """Seconds since boot."""
        return now - self.booted_at

    def execute(self, line: Line, now: float) -> Outcome:
        """Executes one command at `now`; every pulse that was due before ends first."""
        self.advance(now)
        self._trigger_quietly(*self.status_trigger, now)
        name = line.word(0)
        if name is None:
            return Outcome(b"> empty command\n")
        handler = self._commands.get(name)
        if handler is None:
            return Outcome(f"{name}: command unknown\n".encode("latin-1"))
        writes = self.store.writes
        result = handler(self, line, now)
        if isinstance(result, str):
            return Outcome(result.encode("latin-1"), flash_writes=self.store.writes - writes)
        return Outcome(result.reply, result.action, self.store.writes - writes)

    def write_log(self, text: str) -> None:
        """Writes to the device's log: its buffer, and the UART with `log-to-uart`."""
        if self.has(DeviceFlag.LOG_TO_BUFFER):
            self.log = (self.log + text)[-_LOG_LIMIT:]
        if self.has(DeviceFlag.LOG_TO_UART):
            self.uart_send(text.encode("latin-1"))

    def _trigger_quietly(self, io: int, number: int, now: float) -> None:
        if io == 0 and 0 <= number < len(self.pins.pins):
            with contextlib.suppress(PinError):  # the firmware passes no place for the message
                self.pins.trigger(self.pins.pins[number], "on", now)

    def advance(self, now: float) -> None:
        """Does what is due by `now`: ends of pulses, steps of the sequencer."""
        while (step := self.sequencer.due) is not None and step <= now:
            self.pins.advance(step)
            write = self.sequencer.step(step)
            if write is not None and write.io == 0 and write.pin < len(self.pins.pins):
                with contextlib.suppress(PinError):  # entries are not checked
                    self.pins.write(self.pins.pins[write.pin], write.value, step)
        self.pins.advance(now)

    def deadline(self) -> float | None:
        """When `advance` has something to do next."""
        times = [t for t in (self.pins.deadline(), self.sequencer.due) if t is not None]
        return min(times, default=None)
