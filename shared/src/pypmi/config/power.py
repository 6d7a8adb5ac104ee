"""Durations of presses and patience, per node. The defaults are those of pypmi of 2019 where it had them."""

from typing import Annotated

from pydantic import Field

from pypmi.config.base import Section

Press = Annotated[float, Field(gt=0, le=30)]
Patience = Annotated[float, Field(ge=0, le=1800)]


class PowerSettings(Section):
    """How long buttons are held, and how long the machine gets to follow. All in seconds."""

    on_press: Press = 1.0
    """Hold the power button to switch on."""
    off_press: Press = 10.0
    """Hold the power button to force off; let go early when the status input shows off."""
    cycle_off_press: Press = 5.0
    """Hold the power button for the off half of a power cycle; let go early when the status input shows off."""
    cycle_wait: Annotated[float, Field(ge=0, le=300)] = 2.0
    """Wait between the off and the on half of a power cycle."""
    cycle_on_press: Press = 1.0
    """Hold the power button for the on half of a power cycle."""
    reset_press: Press = 1.0
    """Hold the reset button."""
    soft_press: Press = 1.0
    """Hold the power button to ask the operating system to shut down."""
    soft_patience: Patience = 20.0
    """Wait for a soft shutdown. Longer ones are still seen in the state, but the result is then not_confirmed."""
    nmi_press: Press = 0.5
    """Hold the NMI button."""
    on_grace: Patience = 10.0
    """After a press to switch on: wait for the status input to show on before the result is not_confirmed."""
    off_grace: Patience = 10.0
    """After a forced off: wait for the status input to show off before the result is not_confirmed."""
    boot_settle: Annotated[float, Field(ge=0, le=300)] = 3.0
    """After a power-on or reset, ignore a status that dips for less than this: some boards drop the LED meanwhile."""
    debounce: Annotated[float, Field(ge=0, le=10)] = 0.3
    """A status change counts when it has lasted this long; a blinking light (sleep) counts as on."""
    blink_dark: Annotated[float, Field(ge=0, le=10)] = 0.75
    """An off counts when it has lasted at least this long: the longest dark phase of a blinking light."""
    blind: bool = False
    """Without a status input: press the power button for `on` and `soft` all the same, although on a machine that is
    in the other state the press does the opposite of what was asked for."""
