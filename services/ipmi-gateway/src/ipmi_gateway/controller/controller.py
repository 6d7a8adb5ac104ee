"""One management controller: what it remembers of its machine, and what it does by itself when time passes."""

import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime

from pypmi.contract import (
    BootDevice,
    Event,
    EventType,
    FruFields,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerState,
    SensorInfo,
)

from ipmi_gateway.codes import BMC_ADDRESS
from ipmi_gateway.controller import event_records
from ipmi_gateway.controller.boot_options import BootOptions
from ipmi_gateway.controller.event_log import EventLog
from ipmi_gateway.controller.facts import RestartCause, Support
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.controller.fru_image import build_image
from ipmi_gateway.controller.mark import Mark
from ipmi_gateway.controller.power_log import PowerLog
from ipmi_gateway.controller.sensors import AnalogSensor, analog_sensors
from ipmi_gateway.controller.watchdog import Interrupt, Watchdog, WatchdogAction
from ipmi_gateway.sol.parameters import SolParameters
from ipmi_gateway.sol.payload import SolPayload
from ipmi_gateway.targets.base import Origin, RefreshingTarget, Target, TargetError

log = logging.getLogger(__name__)

_GUIDS = uuid.UUID("6f7a1c1e-57a5-5c0e-9c5b-2f6d1a0f4c11")
"""Name space of the GUIDs that are made from fleet and node names."""
_REMEMBERED_EVENTS = 64
"""Ids kept per node, so that an event that the broker delivers twice is logged once."""
_PLAUSIBLE = 86_400.0
"""Seconds that an event's time may be off ours; beyond it the agent has no clock, and the event is logged as of now."""
_LOGGED_POWER = "sel.power"
"""Setting: `on` or `off`, as the last change of power in the event log left it."""
_WATCHDOG_LINGERS = 120.0
"""Seconds after a watchdog action in which a start by command is put down to it."""
EVENT_LOGGING = 0x08
"""The bit of the BMC global enables (section 22.1) that has events logged."""


_CAUSES = {
    "command": RestartCause.CHASSIS_CONTROL,
    "external": RestartCause.POWER_BUTTON,
    "watchdog": RestartCause.WATCHDOG,
}
_STARTS = frozenset({EventType.POWER_ON, EventType.POWER_CYCLE, EventType.RESET})
_STOPS = frozenset({EventType.POWER_OFF, EventType.SOFT_OFF, EventType.POWER_CYCLE, EventType.RESET})
_WATCHDOG_ACTIONS = {
    WatchdogAction.HARD_RESET: PowerAction.RESET,
    WatchdogAction.POWER_DOWN: PowerAction.OFF,
    WatchdogAction.POWER_CYCLE: PowerAction.CYCLE,
}
_PRE_TIMEOUT = 0x08
"""Watchdog 2's event offset of the pre-time-out interrupt."""


def _refresh_of(target: object) -> Callable[[], Awaitable[None]] | None:
    return target.refresh if isinstance(target, RefreshingTarget) else None


class Controller:
    """One management controller: shared by all the ways in which it can be reached."""

    def __init__(self, fleet: Fleet, node_id: str | None, target: Target | None) -> None:
        self.fleet = fleet
        self.node_id = node_id
        """None for the gateway itself."""
        self.target = target
        self.guid = uuid.uuid5(_GUIDS, f"{fleet.name}/{node_id or ''}").bytes[::-1]
        """As it goes over the wire: least significant octet first (section 20.8)."""
        self.refresh = _refresh_of(target)
        """For targets whose state has to be fetched first; None for those that have it at hand."""
        self.boot = BootOptions(fleet.store, self.key, fleet.clock(), fleet.wall())
        self.watchdog = Watchdog()
        self.sel = EventLog(fleet.store, self.key, fleet.sel_capacity, fleet.wall)
        logged = self.setting(_LOGGED_POWER)
        self._power_log = PowerLog(None if logged is None else PowerState(logged.decode()))
        self.sol = SolPayload(
            self.label,
            SolParameters(self.setting, self.keep, allow_unencrypted=fleet.sol.allow_unencrypted),
            fleet.sol,
            fleet.clock,
        )
        """The node's console; `sol.console` is put in by whoever knows of one."""
        self.sdr_reservation = 0
        """The valid reservation id; 0 when there is none."""
        self.last_sdr_reservation = 0
        self.global_enables = EVENT_LOGGING
        self.event_receiver = (BMC_ADDRESS, 0)
        """Slave address and LUN, as Set Event Receiver put them."""
        self.acpi_state: int | None = None
        """The sleep state that system software has announced, while the machine is on."""
        self.acpi_device_state = 0
        self.ticking = False
        self._analog: tuple[tuple[SensorInfo, ...], tuple[AnalogSensor, ...]] = ((), ())
        self.sensors_changed_at = int(fleet.wall())
        """When the set of sensors became what it is: seconds since 1970."""
        self._seen_power: PowerState | None = None
        self._seen_state: NodeState | None = None
        self.last_status: tuple[NodeState, NodeInfo | None, int, bytes] | None = None
        """Chassis status as it was answered last, and what it was made of (see `commands/chassis.py`)."""
        self._watchdog_acted_at = float("-inf")
        self.mark = Mark()
        """For a machine without an identify light."""
        self._event_ids: deque[str] = deque(maxlen=_REMEMBERED_EVENTS)
        self.arm()

    @property
    def key(self) -> str:
        """The name under which the store keeps what belongs to it."""
        return self.node_id or ""

    @property
    def label(self) -> str:
        """For the log."""
        return self.node_id or "the gateway"

    @property
    def support(self) -> int:
        """Additional device support (Get Device ID)."""
        return Support.NODE | Support.BRIDGE if self.node_id is None else Support.NODE

    @property
    def name(self) -> str:
        """The machine's name for people; its node id while no agent has told more."""
        info = self.target.info if self.target is not None else None
        return info.name if info is not None and info.name else self.label

    # --- settings that outlive a restart

    def setting(self, key: str) -> bytes | None:
        """What `keep` kept."""
        return self.fleet.store.get(self.key, key)

    def keep(self, key: str, value: bytes | None) -> None:
        """Keep a small value over restarts; None forgets it."""
        self.fleet.store.put(self.key, key, value)

    # --- inventory and sensors

    @property
    def analog(self) -> tuple[AnalogSensor, ...]:
        """The sensors that the node's `info` announces."""
        info = self.target.info if self.target is not None else None
        announced = info.sensors if info is not None else ()
        if announced is not self._analog[0]:
            if announced != self._analog[0]:
                self.sensors_changed_at = int(self.fleet.wall())
                self.sdr_reservation = 0
                self._analog = (announced, analog_sensors(announced))
            else:
                self._analog = (announced, self._analog[1])
        return self._analog[1]

    @property
    def asset_tag(self) -> str | None:
        """The one that a client has set (DCMI), if any."""
        kept = self.setting("asset_tag")
        return None if kept is None else kept.decode("latin-1")

    def fru_image(self) -> bytes:
        """The node's inventory, as FRU device 0."""
        info = self.target.info if self.target is not None else None
        return build_image(info.fru if info is not None else FruFields(), name=self.name, asset_tag=self.asset_tag)

    # --- what happens to the machine

    def record(self, body: bytes, at: float | None = None) -> None:
        """Log an event of this controller, unless event logging is disabled."""
        if self.global_enables & EVENT_LOGGING:
            self.sel.record(body, at)

    def record_event(self, event: Event, now: float) -> None:
        """Take in an event of the contract: into the log, once, and as news of the machine's power."""
        if event.id in self._event_ids:
            return
        self._event_ids.append(event.id)
        by_key = {sensor.info.key: sensor for sensor in self.analog} if event.type is EventType.SENSOR else {}
        if self._power_log.told(event):
            at = self._plausible(event.at)
            for body in event_records.of_event(event, by_key):
                self.record(body, at)
        self._keep_logged_power()
        if event.type in _STOPS:
            self._stopped()
        if event.type in _STARTS:
            self._started(event.cause, now)
        elif event.type is EventType.BOOT_USED:
            self.boot.started(tracked=self._intent_is_tracked)
        self.observe(now)

    def _plausible(self, at: datetime | None) -> float | None:
        """Seconds since 1970; None when that is unknown or the agent has no clock: then it is logged as of now."""
        seconds = None if at is None else at.timestamp()
        return None if seconds is None or abs(seconds - self.fleet.wall()) > _PLAUSIBLE else seconds

    def _fill_in_power(self, now: float) -> None:
        """Log a change that nobody told of, but the state shows."""
        state = self._power_log.overdue(now)
        if state is not None:
            kind = EventType.POWER_ON if state.power is PowerState.ON else EventType.POWER_OFF
            log.info("%s: the event of %s was missed; it is logged after the state", self.label, kind)
            for body in event_records.power_changed(kind):
                self.record(body, self._plausible(state.since))
            self._keep_logged_power()

    def _keep_logged_power(self) -> None:
        logged = self._power_log.logged
        self.keep(_LOGGED_POWER, None if logged is None else logged.value.encode())

    def record_login_failure(self) -> None:
        """Log that somebody gave a wrong name or password."""
        self.record(event_records.login_failed())

    def observe(self, now: float) -> None:
        """Look at the target's present state: what an event may have told already, or nobody told at all."""
        target = self.target
        if target is None:
            return
        state = target.state
        if state is not None and state is not self._seen_state and state.power is not PowerState.UNKNOWN:
            self._seen_state = state
            before, self._seen_power = self._seen_power, state.power
            if before is PowerState.OFF and state.power is PowerState.ON:
                self._started(state.cause, now)
            elif before is PowerState.ON and state.power is PowerState.OFF:
                self._stopped()
            self._power_log.seen(state, now)
            self._keep_logged_power()
            self.arm()
        self.boot.observe(target.boot, now)

    @property
    def _intent_is_tracked(self) -> bool:
        """Whether an agent holds the boot intent, and says itself whether it was used."""
        return self.target is not None and self.target.boot is not None

    def _started(self, cause: str | None, now: float) -> None:
        self.acpi_state = None
        code = _CAUSES.get(cause or "", RestartCause.UNKNOWN)
        if code == RestartCause.CHASSIS_CONTROL and now - self._watchdog_acted_at < _WATCHDOG_LINGERS:
            code = RestartCause.WATCHDOG
        self.keep("restart_cause", bytes((code,)))
        self.boot.started(tracked=self._intent_is_tracked)

    def _stopped(self) -> None:
        self.acpi_state = None
        self.watchdog.stop()

    def reset(self) -> None:
        """A cold or warm reset of the controller: what is volatile starts anew; the machine is not touched."""
        self.watchdog = Watchdog()
        self.sel.reservation = 0
        self.sdr_reservation = 0
        self.global_enables = EVENT_LOGGING
        self.acpi_state = None
        self.acpi_device_state = 0
        self.boot.reset()

    # --- time

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do next (monotonic seconds); None when no timer runs."""
        running = (self.watchdog.deadline, self.boot.deadline, self._power_log.deadline)
        times = [when for when in running if when is not None]
        return min(times) if times else None

    def arm(self) -> None:
        """Have `Fleet.keep_time` look after the timers; called when one was started."""
        if self.deadline is not None:
            self.fleet.armed.add(self)

    def retire(self) -> None:
        """The node is no longer served: no timer acts on it any more."""
        self.watchdog.stop()
        self.fleet.armed.discard(self)

    async def tick(self, now: float) -> None:
        """Carry out what is due: watchdog actions, and the end of the boot flags' validity. Raises nothing."""
        self.ticking = True
        try:
            self.observe(now)
            self._fill_in_power(now)
            for due in self.watchdog.advance(now):
                setting = due.setting
                offset = _PRE_TIMEOUT if due.pre_timeout else int(setting.action)
                if setting.log:
                    self.record(event_records.watchdog_expired(offset, setting.use, setting.interrupt))
                if due.pre_timeout:
                    action = PowerAction.DIAG if setting.interrupt is Interrupt.NMI else None
                else:
                    action = _WATCHDOG_ACTIONS.get(setting.action)
                if action is not None:
                    self._watchdog_acted_at = now
                    await self._watchdog_power(action)
            if self.boot.expire(now):
                await self._clear_intent(now)
        except Exception:
            # A target may be anybody's code; its failure must not end the timers of all others.
            log.exception("timers of %s", self.label)
        finally:
            self.ticking = False

    async def _watchdog_power(self, action: PowerAction) -> None:
        if self.target is None:
            return
        log.warning("watchdog timer of %s has run out: %s", self.label, action)
        try:
            await self.target.power(action, Origin("watchdog", "", "watchdog"))
        except TargetError as error:
            log.error("watchdog timer of %s: %s failed: %s", self.label, action, error)

    async def _clear_intent(self, now: float) -> None:
        if self.target is None or not self.target.available:
            return
        try:
            await self.target.set_boot(
                BootDevice.NONE, persistent=False, efi=False, origin=Origin("boot-flags-timer", "", "ipmi")
            )
        except TargetError as error:
            log.warning("boot flags of %s are no longer valid, but that did not reach it: %s", self.label, error)
        else:
            self.boot.cleared(now)
