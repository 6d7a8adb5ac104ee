"""Power actions on a machine that understands them itself."""

import asyncio
from collections.abc import Awaitable, Callable
from math import inf

from pypmi.config.power import PowerSettings
from pypmi.contract import Capability, CommandError, ErrorCode, PowerAction, PowerState
from pypmi.power.controller import ActionFailedError, Outcome, Run, refuse_state, require_on
from pypmi.power.hardware import HardwareError, ManagedHardware, PowerOn
from pypmi.power.monitor import PowerMonitor

_POLL_INTERVAL = 1.0
"""Seconds between two readings during an action: a management controller is slow, and not only ours to ask."""


class ManagedController:
    """A `PowerController` for `ManagedHardware`.

    The machine's own controller does not toggle: an unknown state refuses nothing here, but the result still says what
    was read afterwards.

    Args:
        hardware: the driver.
        settings: patience (`on_grace`, `off_grace`, `soft_patience`, `cycle_wait`).
        monitor: fed by the driver's `run` and, during actions, from here.
        power_on: used instead of the controller's own power-on, such as Wake-on-LAN.
    """

    def __init__(
        self,
        hardware: ManagedHardware,
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
        """What the machine's controller can do."""
        actions = self._hardware.actions
        found = {Capability.STATUS, Capability.BOOT} | {Capability(action.value) for action in actions}
        if self._power_on is not None:
            found.add(Capability.ON)
        if {Capability.ON, Capability.OFF} <= found:
            found.add(Capability.CYCLE)
        if Capability.CYCLE in found:
            found.add(Capability.RESET)
        if self._hardware.can_identify:
            found.add(Capability.IDENTIFY)
        return frozenset(found)

    def refusal(self, action: PowerAction) -> CommandError | None:
        """Why `action` can't be begun."""
        if Capability(action.value) not in self.capabilities:
            return CommandError(code=ErrorCode.UNSUPPORTED, message=f"the machine's controller has no {action}")
        return refuse_state(action, self._monitor.tracker.power)

    async def execute(self, action: PowerAction, deadline: float = inf) -> Outcome:
        """Carry out one action."""
        run = Run(
            self._hardware, self._monitor, self._settings, sensed=True, deadline=deadline, poll_interval=_POLL_INTERVAL
        )
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
        if await run.known_power() is PowerState.ON:
            run.note("was on already")
            return
        await self._switch_on(run)

    async def _off(self, run: Run) -> None:
        if await run.known_power() is PowerState.OFF:
            run.note("was off already")
            return
        await self._switch_off(run)

    async def _cycle(self, run: Run) -> None:
        if await run.known_power() is PowerState.OFF:
            run.note("was off: switched on")
            await self._switch_on(run)
        elif PowerAction.CYCLE in self._hardware.actions:
            await self._pass_on(run, PowerAction.CYCLE)
            # the off half may be shorter than the time between two readings
            if not await run.monitor.wait(lambda: run.power is PowerState.OFF, self._settings.off_grace):
                run.note("the off half was not seen")
            await run.confirm(PowerState.ON, self._settings.on_grace, "the controller took the power cycle")
        else:
            await self._switch_off(run)
            await asyncio.sleep(self._settings.cycle_wait)
            await self._switch_on(run)

    async def _reset(self, run: Run) -> None:
        require_on(PowerAction.RESET, await run.known_power())
        if PowerAction.RESET not in self._hardware.actions:
            run.note("no reset: done as a power cycle")
            await self._cycle(run)
            return
        await self._pass_on(run, PowerAction.RESET)
        await run.confirm(PowerState.ON, self._settings.on_grace, "the controller took the reset")

    async def _soft(self, run: Run) -> None:
        if await run.known_power() is PowerState.OFF:
            run.note("was off already")
            return
        await self._pass_on(run, PowerAction.SOFT)
        await run.confirm(PowerState.OFF, self._settings.soft_patience, "the operating system was asked to shut down")

    async def _diag(self, run: Run) -> None:
        require_on(PowerAction.DIAG, await run.known_power())
        await self._pass_on(run, PowerAction.DIAG)
        if run.doubt:
            raise ActionFailedError(ErrorCode.DEVICE_UNREACHABLE, run.doubt)

    # -- their parts -----------------------------------------------------------------------------------------------

    async def _switch_on(self, run: Run) -> None:
        if self._power_on is None:
            await self._pass_on(run, PowerAction.ON)
        else:
            run.begin()
            try:
                await self._power_on.power_on()
            except HardwareError as error:
                run.failed(error, self._power_on.name)
        await run.confirm(PowerState.ON, self._settings.on_grace, "the machine was told to switch on")

    async def _switch_off(self, run: Run) -> None:
        await self._pass_on(run, PowerAction.OFF)
        await run.confirm(PowerState.OFF, self._settings.off_grace, "the machine was told to switch off")

    async def _pass_on(self, run: Run, action: PowerAction) -> None:
        run.begin()
        try:
            await self._hardware.power(action)
        except HardwareError as error:
            run.failed(error, str(action))
