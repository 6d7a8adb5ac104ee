"""Power actions by presses of a power and a reset button."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf

from pypmi.config.power import PowerSettings
from pypmi.contract import Capability, CommandError, ErrorCode, PowerAction, PowerState
from pypmi.power.controller import ActionFailedError, Outcome, Run, refuse_state, require_on
from pypmi.power.hardware import Button, ButtonHardware, HardwareError, PowerOn
from pypmi.power.monitor import PowerMonitor

_BLIND = (
    "there is no status input, so a press might do the opposite of what is asked;"
    " wire one, add a probe, or set power.blind: true for this node"
)


class ButtonController:
    """A `PowerController` for `ButtonHardware`.

    What a press of the power button does depends on the state. So `on` and `soft` are refused while the state can't be
    read (without any status input: unless `settings.blind`). A long press ends in off from either state: without a
    status input `off` and `cycle` are done unconfirmed; with one that can't be read just now they are refused too, for
    the press would first switch on a machine that is off.

    Args:
        hardware: the driver.
        settings: durations.
        monitor: fed by the driver's `run` and, during actions, from here.
        power_on: used instead of the power button to switch on, such as Wake-on-LAN.
    """

    def __init__(
        self,
        hardware: ButtonHardware,
        settings: PowerSettings,
        monitor: PowerMonitor,
        power_on: PowerOn | None = None,
    ) -> None:
        self._hardware = hardware
        self._settings = settings
        self._monitor = monitor
        self._power_on = power_on

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the wired buttons allow."""
        buttons, sensed = self._hardware.buttons, self._hardware.has_status
        found = {Capability.BOOT}
        if sensed:
            found.add(Capability.STATUS)
        if self._power_on is not None:
            found.add(Capability.ON)
        if Button.POWER in buttons:
            found |= {Capability.OFF, Capability.CYCLE, Capability.RESET}
            if sensed or self._settings.blind:
                found |= {Capability.ON, Capability.SOFT}
        if Button.RESET in buttons:
            found.add(Capability.RESET)
        if Button.NMI in buttons:
            found.add(Capability.DIAG)
        if Button.IDENTIFY in buttons:
            found.add(Capability.IDENTIFY)
        return frozenset(found)

    def refusal(self, action: PowerAction) -> CommandError | None:
        """Why `action` can't be begun."""
        if Capability(action.value) not in self.capabilities:
            blind = Button.POWER in self._hardware.buttons and action in {PowerAction.ON, PowerAction.SOFT}
            message = _BLIND if blind else f"no button is wired for {action}"
            return CommandError(code=ErrorCode.UNSUPPORTED, message=message)
        tracker = self._monitor.tracker
        return refuse_state(action, tracker.power) if tracker.settled else None

    async def execute(self, action: PowerAction, deadline: float = inf) -> Outcome:
        """Carry out one action."""
        sensed = self._hardware.has_status
        run = Run(self._hardware, self._monitor, self._settings, sensed=sensed, deadline=deadline)
        refused = self.refusal(action)
        if refused is not None:
            return Outcome(refused)
        steps: dict[PowerAction, Callable[[Run], Awaitable[None]]] = {
            PowerAction.ON: self._on,
            PowerAction.OFF: self._off,
            PowerAction.CYCLE: self._cycle,
            PowerAction.RESET: self._reset,
            PowerAction.SOFT: self._soft,
            PowerAction.DIAG: self._diag,
        }
        return await run.perform(action, steps[action])

    # -- the actions -----------------------------------------------------------------------------------------------

    async def _on(self, run: Run) -> None:
        # a wake-up does nothing to a machine that is on: then the state need not be known
        power = await (run.known_power() if self._power_on is not None else run.need_power())
        if power is PowerState.ON:
            run.note("was on already; nothing was pressed")
            return
        await self._switch_on(run, self._settings.on_press)

    async def _off(self, run: Run) -> None:
        if await run.need_power() is PowerState.OFF:
            run.note("was off already; nothing was pressed")
            return
        await self._force_off(run, self._settings.off_press)

    async def _cycle(self, run: Run) -> None:
        if await run.need_power() is PowerState.OFF:
            # docs/decisions/0101: whoever asks for a cycle wants a machine that has just started
            run.note("was off: switched on")
        else:
            await self._force_off(run, self._settings.cycle_off_press)
            await asyncio.sleep(self._settings.cycle_wait)
            if run.sensed and await run.need_power() is PowerState.ON:
                run.note("came on again by itself after the off half")
                return
        await self._switch_on(run, self._settings.cycle_on_press)

    async def _reset(self, run: Run) -> None:
        require_on(PowerAction.RESET, await run.known_power())
        if Button.RESET not in self._hardware.buttons:
            run.note("no reset button: done as a power cycle")
            await self._cycle(run)
            return
        await self._press(run, Button.RESET, self._settings.reset_press)
        run.tracker.settle(asyncio.get_running_loop().time())
        await run.confirm(PowerState.ON, self._settings.on_grace, "the reset button was pressed")

    async def _soft(self, run: Run) -> None:
        if await run.need_power() is PowerState.OFF:
            run.note("was off already; nothing was pressed")
            return
        run.tracker.halt()
        await self._press(run, Button.POWER, self._settings.soft_press)
        await run.confirm(PowerState.OFF, self._settings.soft_patience, "the operating system was asked to shut down")

    async def _diag(self, run: Run) -> None:
        require_on(PowerAction.DIAG, await run.known_power())
        await self._press(run, Button.NMI, self._settings.nmi_press)
        if run.doubt:
            raise ActionFailedError(ErrorCode.DEVICE_UNREACHABLE, run.doubt)

    # -- their parts -----------------------------------------------------------------------------------------------

    async def _switch_on(self, run: Run, seconds: float) -> None:
        if self._power_on is None:
            await self._press(run, Button.POWER, seconds)
            what = "the power button was pressed"
        else:
            run.begin()
            what = f"{self._power_on.name} was sent"
            try:
                await self._power_on.power_on()
            except HardwareError as error:
                run.failed(error, self._power_on.name)
        await run.confirm(PowerState.ON, self._settings.on_grace, what)

    async def _force_off(self, run: Run, seconds: float) -> None:
        run.tracker.halt()
        release = asyncio.Event()

        async def let_go_early() -> None:
            if await run.monitor.wait(lambda: run.power is PowerState.OFF, seconds):
                release.set()

        # before the press the state was known and on, or there is no status input and the hold lasts its full time
        early = asyncio.create_task(let_go_early()) if run.sensed else None
        try:
            await self._press(run, Button.POWER, seconds, release)
        finally:
            if early is not None:
                early.cancel()
                await asyncio.gather(early, return_exceptions=True)
        await run.confirm(PowerState.OFF, self._settings.off_grace, f"the power button was held for {seconds:g} s")

    async def _press(self, run: Run, button: Button, seconds: float, release: asyncio.Event | None = None) -> None:
        run.begin()
        try:
            await self._hardware.press(button, seconds, release or asyncio.Event())
        except HardwareError as error:
            run.failed(error, f"the press of the {button} button")
