"""Sensor commands (section 35) but for those on records."""

from collections.abc import Awaitable

from pypmi.contract import NodeState, PowerState

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.actions import refreshed
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller import event_records
from ipmi_gateway.controller.controller import Controller
from ipmi_gateway.controller.sdr_records import factors_reply, readable_mask, threshold_events
from ipmi_gateway.controller.sensors import (
    DISCRETE,
    AnalogSensor,
    DiscreteSensor,
    EventType,
    ReadingFlags,
    SensorNumber,
)

registry = Registry()

GET_READING_FACTORS = 0x23
SET_HYSTERESIS, GET_HYSTERESIS = 0x24, 0x25
SET_THRESHOLDS, GET_THRESHOLDS = 0x26, 0x27
SET_EVENT_ENABLE, GET_EVENT_ENABLE = 0x28, 0x29
REARM_EVENTS, GET_EVENT_STATUS = 0x2A, 0x2B
GET_READING = 0x2D
SET_TYPE, GET_TYPE = 0x2E, 0x2F

_DISCRETE = {int(sensor.number): sensor for sensor in DISCRETE}
_AVAILABLE = ReadingFlags.EVENTS_ENABLED | ReadingFlags.SCANNING_ENABLED
_UNAVAILABLE = _AVAILABLE | ReadingFlags.UNAVAILABLE
_ALMOST_FULL = 0.9
_LOG_FULL, _LOG_ALMOST_FULL = 0x04, 0x05
"""Offsets of Event Logging Disabled."""
_RESERVED_ONES = 0xC0
"""Threshold comparison status: bits 7:6 read as ones."""
_DISCRETE_RESERVED_ONE = 0x8000


def sensor_of(request: Request) -> AnalogSensor | DiscreteSensor:
    """The sensor that the first octet names; CBh when there is none (on LUN 0, where all are)."""
    number = request.data[0]
    found: AnalogSensor | DiscreteSensor | None = _DISCRETE.get(number)
    if found is None:
        found = next((sensor for sensor in request.bmc.controller.analog if sensor.number == number), None)
    if found is None or request.lun != 0:
        raise CompletionError(Code.NOT_PRESENT)
    return found


def _analog(request: Request) -> AnalogSensor:
    sensor = sensor_of(request)
    if not isinstance(sensor, AnalogSensor):
        raise CompletionError(Code.ILLEGAL_FOR_SENSOR)
    return sensor


def value_of(controller: Controller, sensor: AnalogSensor) -> float | None:
    """The present value; None while the node is away or has not said any."""
    target = controller.target
    return target.sensor(sensor.info.key) if target is not None and target.available else None


def states_of(controller: Controller, number: SensorNumber) -> int | None:
    """The states (bit n: offset n) of a discrete sensor; None when they are not known."""
    target = controller.target
    match number:
        case SensorNumber.POWER_STATE | SensorNumber.POWER_UNIT:
            state = target.state if target is not None and target.available else None
            return None if state is None else _power_states(state, number)
        case SensorNumber.WATCHDOG:
            action = controller.watchdog.last_action
            return 0 if action is None else 1 << action
        case SensorNumber.LINK:
            away = target is None or not target.available
            return 1 << event_records.CONTROLLER_UNREACHABLE if away else 0
        case SensorNumber.EVENT_LOG:
            used = len(controller.sel)
            full = used >= controller.sel.capacity
            almost = used >= controller.sel.capacity * _ALMOST_FULL
            return full << _LOG_FULL | almost << _LOG_ALMOST_FULL
        case _:
            return None


def _power_states(state: NodeState, number: SensorNumber) -> int | None:
    if state.power is PowerState.UNKNOWN:
        return None
    if number is SensorNumber.POWER_STATE:
        return 1 << (event_records.POWER_ON_STATE if state.power is PowerState.ON else event_records.SOFT_OFF)
    off = state.power is PowerState.OFF
    return int(off) | (state.fault is not None) << event_records.SOFT_CONTROL_FAILURE


@registry.add(NetFn.SENSOR, GET_READING, Privilege.USER, 1)
def get_reading(request: Request) -> bytes | Awaitable[bytes]:
    """Get Sensor Reading (section 35.14): "reading unavailable" for what is not known, never an old value."""
    return _read(request)


def _reading(request: Request) -> bytes:
    sensor = sensor_of(request)
    controller = request.bmc.controller
    if isinstance(sensor, AnalogSensor):
        value = value_of(controller, sensor)
        reading = None if value is None else sensor.reading(value)
        if value is None or reading is None:
            return bytes((0, _UNAVAILABLE, _RESERVED_ONES))
        return bytes((reading, _AVAILABLE, _RESERVED_ONES | sensor.crossed(value)))
    if not sensor.states:
        raise CompletionError(Code.NOT_PRESENT)
    states = states_of(controller, sensor.number)
    if states is None:
        return bytes((0, _UNAVAILABLE)) + _DISCRETE_RESERVED_ONE.to_bytes(2, "little")
    return bytes((0, _AVAILABLE)) + (states | _DISCRETE_RESERVED_ONE).to_bytes(2, "little")


_read = refreshed(_reading, required=False)


@registry.add(NetFn.SENSOR, GET_READING_FACTORS, Privilege.USER, 2)
def get_reading_factors(request: Request) -> bytes:
    """Get Sensor Reading Factors (section 35.5): linear sensors have the same ones for every reading."""
    return bytes((request.data[1],)) + factors_reply(_analog(request))


@registry.add(NetFn.SENSOR, GET_THRESHOLDS, Privilege.USER, 1)
def get_thresholds(request: Request) -> bytes:
    """Get Sensor Thresholds (section 35.9): which can be read, and the six of them."""
    sensor = _analog(request)
    return bytes((readable_mask(sensor), *(limit or 0 for limit in sensor.thresholds)))


@registry.add(NetFn.SENSOR, SET_THRESHOLDS, Privilege.OPERATOR, 8)
def set_thresholds(request: Request) -> bytes:
    """Set Sensor Thresholds (section 35.8): they are the agent's, and can't be set from here (CDh)."""
    sensor_of(request)
    raise CompletionError(Code.ILLEGAL_FOR_SENSOR)


@registry.add(NetFn.SENSOR, GET_HYSTERESIS, Privilege.USER, (1, 2))
def get_hysteresis(request: Request) -> bytes:
    """Get Sensor Hysteresis (section 35.7): none."""
    _analog(request)
    return bytes(2)


@registry.add(NetFn.SENSOR, SET_HYSTERESIS, Privilege.OPERATOR, 4)
def set_hysteresis(request: Request) -> bytes:
    """Set Sensor Hysteresis (section 35.6): no sensor has one."""
    _analog(request)
    raise CompletionError(Code.ILLEGAL_FOR_SENSOR)


@registry.add(NetFn.SENSOR, GET_EVENT_ENABLE, Privilege.USER, 1)
def get_event_enable(request: Request) -> bytes:
    """Get Sensor Event Enable (section 35.11): all events that a sensor has are enabled."""
    sensor = sensor_of(request)
    if isinstance(sensor, AnalogSensor):
        asserts, deasserts = threshold_events(sensor)
    else:
        asserts = deasserts = sensor.events
    return bytes((_AVAILABLE,)) + asserts.to_bytes(2, "little") + deasserts.to_bytes(2, "little")


@registry.add(NetFn.SENSOR, SET_EVENT_ENABLE, Privilege.OPERATOR, (2, 6))
def set_event_enable(request: Request) -> bytes:
    """Set Sensor Event Enable (section 35.10): events come from the agent, and can't be disabled one by one."""
    sensor_of(request)
    raise CompletionError(Code.ILLEGAL_FOR_SENSOR)


@registry.add(NetFn.SENSOR, REARM_EVENTS, Privilege.OPERATOR, (2, 6))
def rearm_events(request: Request) -> bytes:
    """Re-arm Sensor Events (section 35.12): all of them re-arm by themselves."""
    sensor_of(request)
    return b""


@registry.add(NetFn.SENSOR, GET_EVENT_STATUS, Privilege.USER, 1)
def get_event_status(request: Request) -> bytes:
    """Get Sensor Event Status (section 35.13): the events that are asserted at present."""
    sensor = sensor_of(request)
    controller = request.bmc.controller
    if isinstance(sensor, AnalogSensor):
        value = value_of(controller, sensor)
        if value is None:
            return bytes((_UNAVAILABLE, 0, 0, 0, 0))
        offsets = (0, 2, 4, 7, 9, 11)
        crossed = sensor.crossed(value)
        asserted: int | None = sum(1 << offset for bit, offset in enumerate(offsets) if crossed >> bit & 1)
    else:
        asserted = states_of(controller, sensor.number)
    if asserted is None:
        return bytes((_UNAVAILABLE, 0, 0, 0, 0))
    return bytes((_AVAILABLE,)) + asserted.to_bytes(2, "little") + bytes(2)


@registry.add(NetFn.SENSOR, GET_TYPE, Privilege.USER, 1)
def get_type(request: Request) -> bytes:
    """Get Sensor Type (section 35.16)."""
    sensor = sensor_of(request)
    event_type = EventType.THRESHOLD if isinstance(sensor, AnalogSensor) else sensor.event_type
    return bytes((sensor.kind, event_type))


@registry.add(NetFn.SENSOR, SET_TYPE, Privilege.OPERATOR, 3)
def set_type(request: Request) -> bytes:
    """Set Sensor Type (section 35.15): types are fixed."""
    sensor_of(request)
    raise CompletionError(Code.ILLEGAL_FOR_SENSOR)
