"""Chassis commands (section 28) but for the boot options, which have a module of their own."""

from collections.abc import Awaitable
from enum import IntEnum

from pypmi.contract import Capability, IdentifyState, NodeInfo, NodeState, PowerAction, PowerState

from ipmi_gateway.codes import LAN_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.actions import carried_out, origin_of, refreshed, target_of
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.facts import RestartCause
from ipmi_gateway.targets.base import TargetUnsupportedError

registry = Registry()

IDENTIFY_DEFAULT = 15
"""Seconds, when Chassis Identify names no interval (section 28.5)."""


class ChassisCommand(IntEnum):
    """Numbers of appendix G."""

    GET_CAPABILITIES = 0x00
    GET_STATUS = 0x01
    CONTROL = 0x02
    IDENTIFY = 0x04
    SET_POWER_RESTORE_POLICY = 0x06
    GET_RESTART_CAUSE = 0x07
    SET_FRONT_PANEL_ENABLES = 0x0A
    SET_POWER_CYCLE_INTERVAL = 0x0B
    GET_POH_COUNTER = 0x0F


_ACTIONS = (PowerAction.OFF, PowerAction.ON, PowerAction.CYCLE, PowerAction.RESET, PowerAction.DIAG, PowerAction.SOFT)
"""By the number in Chassis Control (table 28-4)."""
_IDENTIFY_STATES = {IdentifyState.OFF: 0, IdentifyState.TIMED: 1, IdentifyState.ON: 2}
_POLICY_NO_CHANGE = 3
_POLICIES = 0b111
"""Restore policies known: always off, previous state, always on."""
_DIAGNOSTIC_INTERRUPT = 0x04
_POWER_ON, _CONTROL_FAULT = 0x01, 0x10
_BY_COMMAND = 0x10
_IDENTIFY_SUPPORTED = 0x40


def _capabilities(request: Request) -> frozenset[Capability]:
    target = request.bmc.target
    info = target.info if target is not None else None
    return info.capabilities if info is not None else frozenset()


def sensed(request: Request) -> NodeState:
    """The state of a machine whose power is known: D3h while it is away, D5h where it cannot be told."""
    state = target_of(request).state  # None, too, while the machine is not available
    if state is None:
        raise CompletionError(Code.DESTINATION_UNAVAILABLE)
    if state.power is PowerState.UNKNOWN:
        raise CompletionError(Code.NOT_IN_PRESENT_STATE)
    return state


@registry.add(NetFn.CHASSIS, ChassisCommand.GET_CAPABILITIES, Privilege.USER)
def get_capabilities(request: Request) -> bytes:
    """Get Chassis Capabilities (section 28.1): everything is found at the controller's own address."""
    flags = _DIAGNOSTIC_INTERRUPT if Capability.DIAG in _capabilities(request) else 0
    address = request.bmc.address
    return bytes((flags, address, address, address, address))


@registry.add(NetFn.CHASSIS, ChassisCommand.GET_STATUS, Privilege.USER)
@refreshed
def get_status(request: Request) -> bytes:
    """Get Chassis Status (section 28.2). Never a guess: no answer but a code while the power is not known."""
    controller = request.bmc.controller
    controller.observe(request.now)
    state, info, policy = sensed(request), target_of(request).info, restore_policy(request)
    last = controller.last_status
    # State and info are immutable, and stay the same objects until the agent says something new: most answers are the
    # last one (0.2 µs instead of 1.5).
    mark = controller.mark.state(request.now)
    if last is not None and last[0] is state and last[1] is info and last[2] == policy and mark is IdentifyState.OFF:
        return last[3]
    answer = _status(state, info, policy, mark)
    if mark is IdentifyState.OFF:
        controller.last_status = (state, info, policy, answer)
    return answer


def _status(state: NodeState, info: NodeInfo | None, policy: int, mark: IdentifyState) -> bytes:
    power = policy << 5
    if state.power is PowerState.ON:
        power |= _POWER_ON
    if state.fault is not None:
        power |= _CONTROL_FAULT
    last_event = _BY_COMMAND if state.power is PowerState.ON and state.cause == "command" else 0
    has_light = info is not None and Capability.IDENTIFY in info.capabilities
    misc = _IDENTIFY_SUPPORTED | _IDENTIFY_STATES[state.identify if has_light else mark] << 4
    return bytes((power, last_event, misc, 0))


@registry.add(NetFn.CHASSIS, ChassisCommand.CONTROL, Privilege.OPERATOR, 1, changes=True)
def control(request: Request) -> Awaitable[bytes]:
    """Chassis Control (section 28.3). Answered when the agent has accepted it; CCh for what the machine can't do."""
    number = request.data[0]
    if number >= len(_ACTIONS):
        raise CompletionError(Code.INVALID_FIELD)
    target = target_of(request)
    controller = request.bmc.controller
    controller.boot.restart_timer(request.now, controller.fleet.wall())
    return carried_out(request, target.power(_ACTIONS[number], origin_of(request)), Code.INVALID_FIELD)


@registry.add(NetFn.CHASSIS, ChassisCommand.IDENTIFY, Privilege.OPERATOR, (0, 2), changes=True)
def identify(request: Request) -> Awaitable[bytes]:
    """Chassis Identify (section 28.5): interval in seconds (0: off), force on."""
    seconds: int | None = request.data[0] if request.data else IDENTIFY_DEFAULT
    if len(request.data) == 2:
        if request.data[1] & 0xFE:
            raise CompletionError(Code.INVALID_FIELD)
        if request.data[1] & 0x01:
            seconds = None
    return carried_out(request, _light(request, seconds))


async def _light(request: Request, seconds: int | None) -> None:
    """Light the machine's light; one that has none is marked here, for those who look at the chassis status.

    Clients take a BMC that knows no Chassis Identify for a broken one.
    """
    try:
        await target_of(request).identify(seconds, origin_of(request))
    except TargetUnsupportedError:
        request.bmc.controller.mark.set(seconds, request.now)


def restore_policy(request: Request) -> int:
    """The power restore policy that was set last; always off, as relay boards behave, before."""
    kept = request.bmc.controller.setting("restore_policy")
    return kept[0] if kept else 0


@registry.add(NetFn.CHASSIS, ChassisCommand.SET_POWER_RESTORE_POLICY, Privilege.OPERATOR, 1, changes=True)
def set_power_restore_policy(request: Request) -> bytes:
    """Set Power Restore Policy (section 28.8): kept and reported; 3 only asks which ones there are."""
    policy = request.data[0]
    if policy > _POLICY_NO_CHANGE:
        raise CompletionError(Code.INVALID_FIELD)
    if policy != _POLICY_NO_CHANGE:
        request.bmc.controller.keep("restore_policy", bytes((policy,)))
    return bytes((_POLICIES,))


@registry.add(NetFn.CHASSIS, ChassisCommand.GET_RESTART_CAUSE, Privilege.USER)
@refreshed
def get_restart_cause(request: Request) -> bytes:
    """Get System Restart Cause (section 28.11): the cause, and the channel that a command came by."""
    controller = request.bmc.controller
    controller.observe(request.now)
    kept = controller.setting("restart_cause")
    cause = kept[0] if kept else RestartCause.UNKNOWN
    return bytes((cause, LAN_CHANNEL if cause == RestartCause.CHASSIS_CONTROL else 0))


@registry.add(NetFn.CHASSIS, ChassisCommand.SET_FRONT_PANEL_ENABLES, Privilege.ADMINISTRATOR, 1)
def set_front_panel_enables(request: Request) -> bytes:
    """Set Front Panel Button Enables (section 28.6): buttons of a machine behind a relay can't be disabled."""
    if request.data[0]:
        raise CompletionError(Code.INVALID_FIELD)
    return b""


@registry.add(NetFn.CHASSIS, ChassisCommand.SET_POWER_CYCLE_INTERVAL, Privilege.ADMINISTRATOR, 1, changes=True)
def set_power_cycle_interval(request: Request) -> bytes:
    """Set Power Cycle Interval (section 28.9): kept; how long a cycle stays off is the agent's setting."""
    request.bmc.controller.keep("cycle_interval", request.data)
    return b""


@registry.add(NetFn.CHASSIS, ChassisCommand.GET_POH_COUNTER, Privilege.USER)
@refreshed
def get_poh_counter(request: Request) -> bytes:
    """Get POH Counter (section 28.14): one count per minute, with the time since the agent has last said it."""
    target = target_of(request)
    state = target.state
    if state is None:
        raise CompletionError(Code.DESTINATION_UNAVAILABLE)
    seconds = state.on_seconds
    if state.power is PowerState.ON:
        seconds += max(int(request.bmc.controller.fleet.wall() - state.at.timestamp()), 0)
    return bytes((1,)) + (seconds // 60).to_bytes(4, "little")
