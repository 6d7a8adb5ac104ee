"""The three published generations of the "Universal I/O bridge" firmware, and where they differ.

Everything that is a matter of tables (names of flags and modes, limits, texts) is here; what is a
matter of behaviour asks `Era` in place. References: docs of the firmware's protocol, sections 0, 4.2, 5, 10.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class Era(enum.StrEnum):
    """Firmware generation."""

    OLD = "2019"
    """7741acd, 2019-07-30: `O` in the reference."""
    MIDDLE = "2021"
    """9b22cb8, 2021-07-04: `M`, the last one for flash chips of 1 MiB."""
    NEWEST = "newest"
    """6dbfdbf, 2024-05-08: `N`."""

    @classmethod
    def parse(cls, text: str | Era) -> Era:
        """Accepts the value, the member's name and the reference's letter (`O`, `M`, `N`).

        Raises:
            ValueError: nothing known by that name.
        """
        known = {"o": cls.OLD, "m": cls.MIDDLE, "n": cls.NEWEST, "2024": cls.NEWEST}
        word = str(text).strip().lower()
        for era in cls:
            if word in {era.value, era.name.lower()}:
                return era
        if word in known:
            return known[word]
        raise ValueError(f"no firmware era {text!r}; known: {', '.join(e.value for e in cls)}")


class Mode(enum.IntEnum):
    """Configured mode of a pin, as stored under `io.<io>.<pin>.mode`."""

    DISABLED = 0
    DINPUT = 1
    COUNTER = 2
    DOUTPUT = 3
    TIMER = 4
    AINPUT = 5
    PWM = 6
    I2C = 7
    UART = 8
    LCD = 9
    TRIGGER = 10
    LEDPIXEL = 11
    CFA634 = 12
    PWM2 = 13
    RENC = 14
    SPI = 15
    PCINT = 16

    @property
    def word(self) -> str:
        """The word that `im` takes."""
        return self.name.lower()


MODE_TITLE: Final[dict[Mode, str]] = {
    Mode.DISABLED: "disabled",
    Mode.DINPUT: "digital input",
    Mode.COUNTER: "counter",
    Mode.DOUTPUT: "digital output",
    Mode.TIMER: "timer (blink)",
    Mode.AINPUT: "analog input (adc)",
    Mode.PWM: "primary pwm output",
    Mode.I2C: "i2c",
    Mode.UART: "uart",
    Mode.LCD: "lcd",
    Mode.TRIGGER: "trigger",
    Mode.LEDPIXEL: "ledpixel control",
    Mode.CFA634: "crystalfontz cfa634",
    Mode.PWM2: "secondary pwm output",
    Mode.RENC: "rotary encoder input",
    Mode.SPI: "spi",
    Mode.PCINT: "pin change interrupt",
}


class LowMode(enum.IntEnum):
    """What the hardware pin is set to, as stored under `io.<io>.<pin>.llmode`."""

    DISABLED = 0
    INPUT = 1
    COUNTER = 2
    OUTPUT = 3
    ANALOG = 4
    PWM = 5
    I2C = 6
    UART = 7


LOW_MODE_TITLE: Final[dict[LowMode, str]] = {
    LowMode.DISABLED: "disabled",
    LowMode.INPUT: "digital input",
    LowMode.COUNTER: "counter",
    LowMode.OUTPUT: "digital output",
    LowMode.ANALOG: "analog input",
    LowMode.PWM: "pwm output",
    LowMode.I2C: "i2c",
    LowMode.UART: "uart",
}


class PinFlag(enum.IntFlag):
    """Flags of a pin, as stored under `io.<io>.<pin>.flags`."""

    NONE = 0
    AUTOSTART = 1
    REPEAT = 2
    PULLUP = 4
    RESET_ON_READ = 8
    EXTENDED = 16
    GRB = 32
    LINEAR = 64
    FILL8 = 128
    INVERT = 256


PIN_FLAG_WORD: Final[dict[PinFlag, str]] = {
    PinFlag.AUTOSTART: "autostart",
    PinFlag.REPEAT: "repeat",
    PinFlag.PULLUP: "pullup",
    PinFlag.RESET_ON_READ: "reset-on-read",
    PinFlag.EXTENDED: "extended",
    PinFlag.GRB: "grb",
    PinFlag.LINEAR: "linear",
    PinFlag.FILL8: "fill8",
    PinFlag.INVERT: "invert",
}


class DeviceFlag(enum.IntFlag):
    """Device flags with a meaning for the simulation; the bits are the same in all eras."""

    STRIP_TELNET = 1 << 0
    LOG_TO_UART = 1 << 1
    WLAN_POWER_SAVE = 1 << 5
    LOG_TO_BUFFER = 1 << 8
    AUTO_SEQUENCER = 1 << 9
    UDP_TERM_EMPTY = 1 << 15
    CMD_FROM_UART = 1 << 17


@dataclass(frozen=True, slots=True)
class Expander:
    """One entry of the firmware's list of I/O devices ("io")."""

    name: str
    address: int
    pins: int
    detected: bool = False


_COMMON_IOS: Final = (
    Expander("Internal GPIO", 0x00, 16, detected=True),
    Expander("Auxilliary GPIO (RTC+ADC)", 0x01, 2, detected=True),
    Expander("MCP23017 I2C I/O expander #1", 0x20, 16),
    Expander("MCP23017 I2C I/O expander #2", 0x21, 16),
    Expander("MCP23017 I2C I/O expander #3", 0x22, 16),
    Expander("PCF8574A I2C I/O expander", 0x3A, 8),
    Expander("led string", 0x00, 16),
)

_OLD_FLAGS: Final = (
    "strip-telnet", "log-to-uart", "tsl-high-sens", "bh-high-sens", "cpu-high-speed", "wlan-power-save",
    "uart0-tx-inv", "uart0-rx-inv", "log-to-buffer", "auto-sequencer", "pwm1-extend", "tmd-high-sens",
    "apds3-high-sens", "apds6-high-sens", "uart1-tx-inv", "udp-term-empty", "enable-orbital", "cmd-from-uart",
)  # fmt: skip
_MIDDLE_FLAGS: Final = (
    "strip-telnet", "log-to-uart", "dummy3", "dummy4", "cpu-high-speed", "wlan-power-save", "display-clock",
    "dummy1", "log-to-buffer", "auto-sequencer", "pwm1-extend", "dummy5", "dummy6", "dummy7", "dummy2",
    "udp-term-empty", "enable-orbital", "cmd-from-uart", "log-to-display", "ssd-height-32",
)  # fmt: skip
_NEWEST_FLAGS: Final = {
    "strip-telnet": 0, "log-to-uart": 1, "log-date": 2, "log-time": 3, "cpu-high-speed": 4, "wlan-power-save": 5,
    "display-clock": 6, "mcp-int-push-pull": 7, "log-to-buffer": 8, "auto-sequencer": 9, "pwm1-extend": 10,
    "mcp-no-poll": 11, "cmd-from-uart": 17, "log-to-display": 18, "ssd-height-32": 19, "pcf-no-poll": 20,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traits:
    """The tables of one era."""

    era: Era
    device_flags: dict[str, int]
    """Name to bit mask, in the order in which `fs` lists them."""
    default_flags: int
    ios: tuple[Expander, ...]
    last_mode: Mode
    """The newest pin mode this era knows."""
    invert: bool
    """Pin flag `invert` exists, and (re)initialising an output drives it to logical off."""
    strict: bool
    """Newest: strict numbers, one segment is one command, packet mode."""
    uart_rx_default: bool
    """GPIO3 is UART without being configured."""
    tcp_connections: int
    command_buffer: int
    """Bytes."""
    first_key_bug: bool
    firmware_date: str

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Pin modes of this era in the order in which `im` lists them."""
        return tuple(mode for mode in Mode if mode <= self.last_mode)

    @property
    def pin_flags(self) -> tuple[PinFlag, ...]:
        """Pin flags of this era in the order in which they are listed."""
        return tuple(flag for flag in PIN_FLAG_WORD if self.invert or flag is not PinFlag.INVERT)


_LOG: Final = int(DeviceFlag.LOG_TO_UART | DeviceFlag.LOG_TO_BUFFER)

TRAITS: Final[dict[Era, Traits]] = {
    Era.OLD: Traits(
        era=Era.OLD,
        device_flags={name: 1 << bit for bit, name in enumerate(_OLD_FLAGS)},
        default_flags=_LOG,
        ios=_COMMON_IOS,
        last_mode=Mode.RENC,
        invert=False,
        strict=False,
        uart_rx_default=False,
        tcp_connections=4,
        command_buffer=4160,
        first_key_bug=True,
        firmware_date="Jul 30 2019 12:00:00",
    ),
    Era.MIDDLE: Traits(
        era=Era.MIDDLE,
        device_flags={name: 1 << bit for bit, name in enumerate(_MIDDLE_FLAGS)},
        default_flags=_LOG | DeviceFlag.CMD_FROM_UART,
        ios=_COMMON_IOS,
        last_mode=Mode.SPI,
        invert=True,
        strict=False,
        uart_rx_default=True,
        tcp_connections=2,
        command_buffer=4160,
        first_key_bug=False,
        firmware_date="Jul  4 2021 12:00:00",
    ),
    Era.NEWEST: Traits(
        era=Era.NEWEST,
        device_flags={name: 1 << bit for name, bit in _NEWEST_FLAGS.items()},
        default_flags=_LOG | DeviceFlag.CMD_FROM_UART,
        ios=(
            *_COMMON_IOS,
            Expander("PCF8574 I2C I/O expander", 0x26, 8),
            Expander("MCP23S17 SPI I/O expander", 0x00, 16),
        ),
        last_mode=Mode.PCINT,
        invert=True,
        strict=True,
        uart_rx_default=True,
        tcp_connections=2,
        command_buffer=4192,
        first_key_bug=False,
        firmware_date="May  8 2024 12:00:00",
    ),
}
