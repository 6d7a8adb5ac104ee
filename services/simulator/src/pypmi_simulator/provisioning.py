"""Contents of a board's flash: as it comes from the factory, and as the reference's 6.4 leaves it."""

from __future__ import annotations

from typing import Final

from .eras import TRAITS, DeviceFlag, Era, LowMode, Mode, PinFlag
from .store import Store

BRIDGE_PORT: Final = 23
_DOWN, _UP = 1, 2


def blank_store(era: Era) -> Store:
    """An erased configuration sector."""
    return Store(first_key_bug=TRAITS[era].first_key_bug, strict=TRAITS[era].strict)


def provisioned_store(
    era: Era,
    *,
    identification: str = "",
    relay_pin: int = 0,
    led_pin: int = 2,
    reset_pin: int | None = None,
    nmi_pin: int | None = None,
    pulse_ms: int = 500,
    active_low: bool = True,
    baud: int = 115200,
) -> Store:
    """Flash of a board that was set up with the reference's recipe.

    For an active-low relay the timer is `down` with `invert`, or `up` in 2019, which has no `invert`.
    """
    store = blank_store(era)
    traits = TRAITS[era]
    if traits.first_key_bug:  # the recipe's two `id x`: the first one is lost to the bug
        store.commit(put={"identification": "x"})
        store.commit(put={"identification": "x"})
    for pin in (relay_pin, reset_pin, nmi_pin):
        if pin is None:
            continue
        prefix = f"io.0.{pin}."
        put: dict[str, str | int] = {}
        if active_low and traits.invert:
            put[prefix + "flags"] = int(PinFlag.INVERT)
        put |= {
            prefix + "timer.direction": _UP if active_low and not traits.invert else _DOWN,
            prefix + "timer.delay": pulse_ms,
            prefix + "llmode": int(LowMode.OUTPUT),
            prefix + "mode": int(Mode.TIMER),
        }
        store.commit(put=put)
    store.commit(put={f"io.0.{led_pin}.mode": int(Mode.DINPUT), f"io.0.{led_pin}.llmode": int(LowMode.INPUT)})
    if not traits.uart_rx_default and 3 not in {relay_pin, led_pin, reset_pin, nmi_pin}:
        store.commit(put={"io.0.3.mode": int(Mode.UART), "io.0.3.llmode": int(LowMode.UART)})
    flags = traits.default_flags & ~(DeviceFlag.CMD_FROM_UART | DeviceFlag.LOG_TO_UART)
    store.commit(put={"flags": flags})
    if baud != 115200:
        store.commit(put={"uart.baud.0": baud})
    if identification:
        store.commit(put={"identification": identification})
    store.commit(put={"bridge.port": BRIDGE_PORT})
    store.writes = 0
    return store
