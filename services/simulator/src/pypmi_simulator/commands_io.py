"""Commands about pins: `im ir iw it isf icf ism ios ior` (reference section 5)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from .eras import LOW_MODE_TITLE, MODE_TITLE, PIN_FLAG_WORD, TRAITS, Era, Expander, LowMode, Mode, PinFlag
from .pins import FLASH_PINS, UART_PINS, Pin, PinError, clamp_speed
from .store import StoreError
from .text import Line

if TYPE_CHECKING:
    from .firmware import Firmware, Handler

TRIGGERS: Final = ("none", "off", "on", "down", "up", "toggle", "stop", "start")
TRIGGER_USAGE: Final = "usage: io-trigger <io> <pin> <action>\n    action: " + ", ".join(TRIGGERS)
FLAG_USAGE: Final = "io-flag <io> <pin> <flag>\n"
WRITE_USAGE: Final = "io-write <io> <pin> <value>\n"
MASK_USAGE: Final = "io-set-mask <io> <mask> <pins>\n"
SUSPEND_USAGE: Final = "io-suspend <io> <pin>\n"
TIMER_USAGE: Final = "timer: <direction>:up/down <speed>:ms\n"
MIN_SPEED: Final = 100
_LOW: Final = {
    Mode.DISABLED: LowMode.DISABLED,
    Mode.DINPUT: LowMode.INPUT,
    Mode.COUNTER: LowMode.COUNTER,
    Mode.DOUTPUT: LowMode.OUTPUT,
    Mode.TIMER: LowMode.OUTPUT,
    Mode.I2C: LowMode.I2C,
    Mode.UART: LowMode.UART,
}
_DIRECTION: Final = {"down": 1, "up": 2}
_DIRECTION_WORD: Final = {0: "none", 1: "down", 2: "up"}
_I2C: Final = {"sda": 1, "scl": 2}


class _RefusedError(Exception):
    """The reply of a command that ends early."""


def _on_off(value: int) -> str:
    return "on" if value else "off"


def _io(fw: Firmware, line: Line, usage: str) -> tuple[int, Expander]:
    io = line.uint(1)
    if io is None:
        raise _RefusedError(usage)
    ios = TRAITS[fw.era].ios
    if io >= len(ios):
        raise _RefusedError(f"invalid io {io}\n")
    return io, ios[io]


def _io_pin(fw: Firmware, line: Line, usage: str, pin_usage: str, out_of_range: str) -> tuple[int, Expander, int]:
    io, expander = _io(fw, line, usage)
    pin = line.uint(2)
    if pin is None:
        raise _RefusedError(pin_usage)
    if pin >= expander.pins:
        raise _RefusedError(out_of_range)
    return io, expander, pin


def _elsewhere(fw: Firmware, expander: Expander, verb: str) -> str:
    """Error text for reading or writing a pin of another io than the chip itself (all of them are disabled)."""
    if not expander.detected and fw.era is not Era.OLD:
        return "io not available\n"
    return f"cannot {verb} this pin"


# -- ir, iw, it -------------------------------------------------------------------------------------


def io_read(fw: Firmware, line: Line, now: float) -> str:
    """`ir`: reads a pin (5.3)."""
    try:
        io, expander, number = _io_pin(fw, line, "io-read: <io> <pin>\n", "get: <io> <pin>\n", "io pin out of range\n")
    except _RefusedError as reply:
        return str(reply)
    if io:
        text = _elsewhere(fw, expander, "read from")
        return f"disabled: {text}" if text.endswith("\n") else f"disabled: {text}\n"
    pin = fw.pins.pins[number]
    head = MODE_TITLE[pin.mode]
    if pin.mode is Mode.I2C:
        head += "/sda" if pin.i2c == _I2C["sda"] else "/scl"
    try:
        value = fw.pins.read(pin, now)
    except PinError as error:
        return f"{head}: {error}\n"
    if pin.mode is Mode.COUNTER and pin.flags & PinFlag.RESET_ON_READ:
        pin.counter = 0
    return f"{head}: [{value}]\n"


def io_write(fw: Firmware, line: Line, now: float) -> str:
    """`iw`: writes a pin; a missing or bad value writes 0 (5.4)."""
    try:
        io, expander, number = _io_pin(fw, line, WRITE_USAGE, WRITE_USAGE, "invalid pin\n")
    except _RefusedError as reply:
        return str(reply)
    value = line.uint(3) or 0
    if io:
        return f"disabled: {_elsewhere(fw, expander, 'write to')}\n"
    pin = fw.pins.pins[number]
    head = MODE_TITLE[pin.mode]
    try:
        fw.pins.write(pin, value, now)
    except PinError as error:
        return f"{head}: {error}\n"
    try:
        return f"{head}: [{fw.pins.read(pin, now)}]\n"
    except PinError as error:
        return f"{head}: {error}\n\n"


def io_trigger(fw: Firmware, line: Line, now: float) -> str:
    """`it`: triggers a pin; on a timer pin, the pulse (5.5)."""
    try:
        io, expander, number = _io_pin(fw, line, TRIGGER_USAGE, TRIGGER_USAGE, "invalid pin\n")
    except _RefusedError as reply:
        return str(reply)
    action = line.word(3)
    if action not in TRIGGERS:
        return TRIGGER_USAGE
    head = f"trigger {action} {io}/{number}: "
    if io:
        absent = not expander.detected and fw.era is not Era.OLD
        return head + ("io not available\n\n" if absent else "cannot trigger this pin\n")
    try:
        fw.pins.trigger(fw.pins.pins[number], action, now)
    except PinError as error:
        return f"{head}{error}\n"
    return f"{head}ok\n"


# -- im ---------------------------------------------------------------------------------------------


def _flag_words(fw: Firmware, pin: Pin) -> str:
    words = ["suspended"] if pin.suspended else []
    words += [PIN_FLAG_WORD[flag] for flag in TRAITS[fw.era].pin_flags if pin.flags & flag]
    return " ".join(words)


def _max_value(pin: Pin) -> int:
    if pin.mode is Mode.DISABLED:
        return 0
    return {LowMode.INPUT: 1, LowMode.OUTPUT: 1, LowMode.UART: 0xFF, LowMode.COUNTER: 0xFFFFFFFF}.get(pin.low, 0)


def _detail(fw: Firmware, pin: Pin, now: float) -> str:
    value = 0
    if pin.mode in {Mode.DINPUT, Mode.COUNTER, Mode.DOUTPUT, Mode.TIMER, Mode.I2C}:
        try:
            value = fw.pins.read(pin, now)
        except PinError as error:
            return f"{error}\nerror"
    match pin.mode:
        case Mode.DISABLED:
            return ""
        case Mode.DINPUT:
            return f"state: {_on_off(value)}"
        case Mode.COUNTER:
            return f"counter: {value}" if fw.era is Era.NEWEST else f"counter: {value}, debounce: {pin.speed}"
        case Mode.DOUTPUT:
            return f"output, state: {_on_off(value)}"
        case Mode.TIMER:
            return (
                f"config direction: {_DIRECTION_WORD.get(pin.direction, 'none')}, speed: {pin.speed} ms, "
                f"current direction: {_DIRECTION_WORD.get(pin.running, 'none')}, "
                f"delay: {fw.pins.remaining(pin, now)} ms, state: {_on_off(value)}"
            )
        case Mode.I2C:
            return "sda" if pin.i2c == _I2C["sda"] else "scl"
        case _:
            return MODE_TITLE[pin.mode]


def _info(fw: Firmware, pin: Pin, now: float) -> str:
    if pin.number in FLASH_PINS:
        return "unusable i/o pin"
    if pin.low is LowMode.UART and pin.number in UART_PINS:
        uart, side = UART_PINS[pin.number]
        text = f"uart {uart}, pin: {side}"
        if side == "tx":
            text += ", autofill: no, character: 0x00"
        if fw.era is not Era.OLD:
            text += f", inverted: {'yes' if pin.invert else 'no'}"
        return text
    if pin.low in {LowMode.COUNTER, LowMode.I2C}:
        state = f"current state: {_on_off(fw.pins.level(pin.number, now))}"
        old_counter = pin.low is LowMode.COUNTER and fw.era is not Era.NEWEST
        return f"{state}, debounce delay: 0/0" if old_counter else state
    return ""


def _pin_line(fw: Firmware, pin: Pin, now: float) -> str:
    return (
        f"  pin: {pin.number:2d}, mode: {MODE_TITLE[pin.mode]:<20} [hw: {LOW_MODE_TITLE[pin.low]:<14}]"
        f" flags: [{_flag_words(fw, pin)}], {_detail(fw, pin, now)}, max value: {_max_value(pin)},"
        f" info: {_info(fw, pin, now)}\n"
    )


def _other_pin_line(number: int) -> str:
    return f"  pin: {number:2d}, mode: {'disabled':<20} [hw: {'disabled':<14}] flags: [], , max value: 0, info: \n"


def dump(fw: Firmware, now: float, only_io: int | None = None, only_pin: int | None = None) -> str:
    """What `im` shows."""
    lines = []
    for io, expander in enumerate(TRAITS[fw.era].ios):
        if only_io is not None and io != only_io:
            continue
        star = "" if fw.era is Era.OLD else f"{'*' if expander.detected else ' '} "
        lines.append(f"{star}io[{io}]: {expander.name}@{expander.address:02x}\n")
        if not expander.detected:
            if fw.era is Era.OLD:
                lines.append("  not found\n")
            continue
        if only_io is None and fw.era is not Era.OLD:
            continue
        for number in range(expander.pins):
            if only_pin is not None and number != only_pin:
                continue
            if io == 0 and number in FLASH_PINS and fw.era is Era.NEWEST:
                continue
            lines.append(_pin_line(fw, fw.pins.pins[number], now) if io == 0 else _other_pin_line(number))
    return "".join(lines)


def io_mode(fw: Firmware, line: Line, now: float) -> str:
    """`im`: shows or configures pins (5.1)."""
    if line.uint(1) is None:
        return dump(fw, now)
    try:
        io, expander = _io(fw, line, "")
        if not expander.detected:
            raise _RefusedError(f"io {io} not detected\n")
        number = line.uint(2)
        if number is None:
            return dump(fw, now, io)
        if number >= expander.pins:
            raise _RefusedError("io pin out of range\n")
        word = line.word(3)
        if word is None:
            return dump(fw, now, io, number)
        return _configure(fw, line, now, (io, number), word)
    except _RefusedError as reply:
        return str(reply)


def _configure(fw: Firmware, line: Line, now: float, place: tuple[int, int], word: str) -> str:
    io, number = place
    traits = TRAITS[fw.era]
    mode = next((mode for mode in traits.modes if mode.word == word), None)
    if mode is None:
        raise _RefusedError("invalid mode, available modes: " + "/".join(m.word for m in traits.modes) + "\n")
    if fw.store.locked:
        raise _RefusedError("config write failure (open)\n")
    if mode is Mode.AINPUT and io == 0:
        raise _RefusedError("analog input mode invalid for this io\n")
    if mode not in _LOW or io != 0:
        raise _RefusedError("unsupported io mode\n")  # not simulated: nothing of the kind is on a relay board
    pin = fw.pins.pins[number]
    prefix = f"io.{io}.{number}."
    put: dict[str, str | int] = {prefix + "mode": int(mode), prefix + "llmode": int(_LOW[mode])}
    put |= _arguments(fw, line, pin, mode, prefix)
    try:
        fw.store.commit(prefix=prefix, put=None if mode is Mode.DISABLED else put)
    except StoreError as error:
        raise _RefusedError(f"config write failure ({error})\n") from error
    fw.pins.set_mode(pin, mode, _LOW[mode], now)
    try:
        fw.pins.initialise(pin, now)
    except PinError as error:
        fw.pins.set_mode(pin, Mode.DISABLED, LowMode.DISABLED, now)
        return str(error)
    return dump(fw, now, io, number)


def _arguments(fw: Firmware, line: Line, pin: Pin, mode: Mode, prefix: str) -> dict[str, str | int]:
    match mode:
        case Mode.TIMER:
            word, speed = line.word(4), line.uint(5)
            if word is None:
                raise _RefusedError(TIMER_USAGE)
            if word not in _DIRECTION:
                raise _RefusedError(f"{word}: timer direction invalid\n")
            if speed is None:
                raise _RefusedError(TIMER_USAGE)
            if speed < MIN_SPEED:
                raise _RefusedError(f"timer: speed too small: must be >= {MIN_SPEED} ms\n")
            pin.direction, pin.speed = _DIRECTION[word], clamp_speed(speed)
            return {prefix + "timer.direction": pin.direction, prefix + "timer.delay": speed}
        case Mode.I2C:
            side = line.word(4)
            if side not in _I2C:
                raise _RefusedError("i2c: <pin mode>=sda|scl\n")
            pin.i2c = _I2C[side]
            return {prefix + "i2c.pinmode": pin.i2c}
        case Mode.COUNTER if fw.era is not Era.NEWEST:
            debounce = line.uint(4)
            if debounce is None:
                raise _RefusedError("counter: <debounce ms>\n")
            pin.speed = clamp_speed(debounce)
            return {prefix + "counter.debounce": debounce}
        case _:
            return {}


# -- flags, masks, suspending -----------------------------------------------------------------------


def _change_flag(fw: Firmware, line: Line, now: float, *, on: bool) -> str:
    try:
        io, _, number = _io_pin(fw, line, FLAG_USAGE, FLAG_USAGE, "invalid pin\n")
    except _RefusedError as reply:
        return str(reply)
    word = line.word(3)
    flag = PinFlag.NONE
    if word is not None:
        found = next((f for f in TRAITS[fw.era].pin_flags if PIN_FLAG_WORD[f] == word), None)
        if found is None:
            return FLAG_USAGE
        flag = found
    if io:
        return "io does not support pullup\n" if on and flag is PinFlag.PULLUP else "cannot enable this flag\n"
    pin = fw.pins.pins[number]
    saved = pin.flags
    pin.flags = pin.flags | flag if on else pin.flags & ~flag
    try:
        fw.pins.initialise(pin, now)
    except PinError:
        pin.flags = saved
        return "cannot enable this flag\n"
    with contextlib.suppress(StoreError):  # the firmware does not look at the outcome
        fw.store.commit(put={f"io.{io}.{number}.flags": int(pin.flags)})
    return f"flags for pin {io}/{number}:{_flag_words(fw, pin)}\n"


def set_flag(fw: Firmware, line: Line, now: float) -> str:
    """`isf`: sets a pin flag, stores it and initialises the pin again (5.6)."""
    return _change_flag(fw, line, now, on=True)


def clear_flag(fw: Firmware, line: Line, now: float) -> str:
    """`icf`: the same, clearing it."""
    return _change_flag(fw, line, now, on=False)


def set_mask(fw: Firmware, line: Line, now: float) -> str:
    """`ism`: writes several pins at once (5.2)."""
    try:
        io, expander = _io(fw, line, MASK_USAGE)
    except _RefusedError as reply:
        return str(reply)
    mask, levels = line.uint(2), line.uint(3)
    if mask is None or levels is None:
        return MASK_USAGE
    if not expander.detected and fw.era is not Era.OLD:
        return "io not available\nerror\n"
    if fw.era is Era.OLD or io:
        return "set mask operation not supported on this ioerror\n"
    fw.pins.write_mask(mask, levels, now)
    return "ok\n"


def _suspended(fw: Firmware, line: Line) -> tuple[int, int]:
    io, _, number = _io_pin(fw, line, SUSPEND_USAGE, SUSPEND_USAGE, "invalid pin\n")
    return io, number


def suspend(fw: Firmware, line: Line, now: float) -> str:
    """`ios`: logical off, and deaf from then on (5.2)."""
    try:
        io, number = _suspended(fw, line)
    except _RefusedError as reply:
        return str(reply)
    if io == 0:
        pin = fw.pins.pins[number]
        for action in ("stop", "off"):
            with contextlib.suppress(PinError):  # not all modes know all actions; the firmware ignores it
                fw.pins.trigger(pin, action, now)
        with contextlib.suppress(PinError):  # an input can be suspended too
            fw.pins.write(pin, 0, now)
        pin.suspended = True
    return f"i/o {io}/{number} suspended\n"


def resume(fw: Firmware, line: Line, _now: float) -> str:
    """`ior`: undoes `ios`."""
    try:
        io, number = _suspended(fw, line)
    except _RefusedError as reply:
        return str(reply)
    if io == 0:
        fw.pins.pins[number].suspended = False
    return f"i/o {io}/{number} resumed\n"


_ALL: Final = frozenset(Era)
COMMANDS: Final[tuple[tuple[tuple[str, str], Handler, frozenset[Era]], ...]] = (
    (("im", "io-mode"), io_mode, _ALL),
    (("ir", "io-read"), io_read, _ALL),
    (("iw", "io-write"), io_write, _ALL),
    (("it", "io-trigger"), io_trigger, _ALL),
    (("isf", "io-set-flag"), set_flag, _ALL),
    (("icf", "io-clear-flag"), clear_flag, _ALL),
    (("ism", "io-set-mask"), set_mask, _ALL),
    (("ios", "io-suspend"), suspend, frozenset({Era.NEWEST})),
    (("ior", "io-resume"), resume, frozenset({Era.NEWEST})),
)
