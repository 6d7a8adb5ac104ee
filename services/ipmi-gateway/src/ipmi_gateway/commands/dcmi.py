"""DCMI 1.5 commands (group extension DCh): capabilities, power reading, asset tag, controller's id, temperatures."""

import struct
from collections.abc import Callable
from enum import IntEnum

from pypmi.contract import SensorKind

from ipmi_gateway.codes import LAN_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Handler, Registry, Request
from ipmi_gateway.commands.sensor import value_of
from ipmi_gateway.controller.sensors import AnalogSensor, SensorType

registry = Registry()

GROUP = 0xDC


class DcmiCommand(IntEnum):
    """Numbers of the DCMI specification, table 6-1."""

    GET_CAPABILITIES = 0x01
    GET_POWER_READING = 0x02
    GET_POWER_LIMIT = 0x03
    GET_ASSET_TAG = 0x06
    GET_SENSOR_INFO = 0x07
    SET_ASSET_TAG = 0x08
    GET_CONTROLLER_ID = 0x09
    SET_CONTROLLER_ID = 0x0A
    GET_TEMPERATURES = 0x10


NO_POWER_LIMIT = 0x80
"""Completion code of Get Power Limit."""
_VERSION = bytes((1, 5, 2))
"""Conformance 1.5, parameter revision 2."""
_ROLLOVER, _RECORD_FLUSH = 0x8000, 0x1000
_ASSET_TAG_AND_GUID = 0x05
_NO_LIMIT = bytes(13)
"""Reserved, exception action, limit, correction time, reserved, sampling period: all nothing."""
_NO_CHANNEL = 0xFF
_SYSTEM_STATISTICS, _ENHANCED_STATISTICS = 0x01, 0x02
_MEASURING = 0x40
_REPORTING_PERIOD = 1000
"""Milliseconds: the agents say single readings, which are their own minimum, maximum and average."""
_TAG_SIZE, _ID_SIZE, _CHUNK = 63, 64, 16
_ALL_INSTANCES = 0
_MAX_RECORDS, _MAX_TEMPERATURES = 8, 8
_BASEBOARD_ENTITIES = frozenset((0x42, 0x07))
_TEMPERATURE_ENTITIES = frozenset((0x40, 0x41, 0x42, 0x37, 0x03, 0x07))


def _command(
    number: DcmiCommand, privilege: Privilege, length: int | tuple[int, int], *, changes: bool = False
) -> Callable[[Callable[[Request, bytes], bytes]], Callable[[Request, bytes], bytes]]:
    """A row for a handler that is given what follows the group id, and whose data goes behind it (section 5.1)."""
    minimum, maximum = (length, length) if isinstance(length, int) else length

    def register(handler: Callable[[Request, bytes], bytes]) -> Callable[[Request, bytes], bytes]:
        def unpacked(request: Request) -> bytes:
            # Other groups share the network function: of them there is none.
            if request.data[0] != GROUP:
                raise CompletionError(Code.INVALID_COMMAND)
            if privilege > Privilege.HIGHEST and not minimum <= len(request.data) - 1 <= maximum:
                raise CompletionError(Code.DATA_LENGTH_INVALID)
            return bytes((GROUP,)) + handler(request, request.data[1:])

        row: Handler = unpacked
        registry.add(NetFn.GROUP, number, privilege, (1, 255), changes=changes)(row)
        return handler

    return register


def _power_sensor(request: Request) -> AnalogSensor | None:
    return next((s for s in request.bmc.controller.analog if s.info.kind is SensorKind.POWER), None)


@_command(DcmiCommand.GET_CAPABILITIES, Privilege.HIGHEST, 1)
def get_capabilities(request: Request, data: bytes) -> bytes:
    """Get DCMI Capabilities Info (DCMI section 6.1.1); also before a session."""
    if len(data) != 1:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    measures = _power_sensor(request) is not None
    entries = min(request.bmc.controller.sel.capacity, 0x0FFF)
    parameters = {
        1: bytes((0, int(measures), 0)),
        2: struct.pack("<HBBB", _ROLLOVER | _RECORD_FLUSH | entries, _ASSET_TAG_AND_GUID, 0, 1),
        3: bytes((request.bmc.address if measures else 0, 0)),
        4: bytes((LAN_CHANNEL, _NO_CHANNEL, _NO_CHANNEL)),
        5: bytes(1),
    }
    if data[0] not in parameters:
        raise CompletionError(Code.INVALID_FIELD)
    return _VERSION + parameters[data[0]]


def _measuring(request: Request) -> AnalogSensor:
    sensor = _power_sensor(request)
    if sensor is None:
        raise CompletionError(Code.INVALID_COMMAND)
    return sensor


@_command(DcmiCommand.GET_POWER_READING, Privilege.USER, 3)
def get_power_reading(request: Request, data: bytes) -> bytes:
    """Get Power Reading (DCMI section 6.6.1), from the node's first power sensor; C1h without one."""
    sensor = _measuring(request)
    if data[0] not in (_SYSTEM_STATISTICS, _ENHANCED_STATISTICS):
        raise CompletionError(Code.INVALID_FIELD)
    controller = request.bmc.controller
    value = value_of(controller, sensor)
    if value is None:
        away = controller.target is None or not controller.target.available
        raise CompletionError(Code.DESTINATION_UNAVAILABLE if away else Code.NOT_IN_PRESENT_STATE)
    watts = min(max(round(value), 0), 0xFFFF)
    now = int(controller.fleet.wall()) & 0xFFFFFFFF
    return struct.pack("<HHHHIIB", watts, watts, watts, watts, now, _REPORTING_PERIOD, _MEASURING)


@_command(DcmiCommand.GET_POWER_LIMIT, Privilege.USER, 2)
def get_power_limit(request: Request, data: bytes) -> bytes:  # noqa: ARG001 - all handlers are called alike
    """Get Power Limit (DCMI section 6.6.2): none is set, and none can be."""
    _measuring(request)
    # ipmitool wants the whole answer behind this code too.
    raise CompletionError(NO_POWER_LIMIT, bytes((GROUP,)) + _NO_LIMIT)


def _chunk(text: bytes, data: bytes, size: int) -> bytes:
    """A part of a text for the readers: total length, then `data[1]` octets from `data[0]`."""
    offset, count = data
    if count > _CHUNK:
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    if offset + count > size + 1 or offset > len(text):
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    return bytes((len(text),)) + text[offset : offset + count]


def _replaced(text: bytes, data: bytes, size: int) -> bytes:
    """A text with a part written over; it ends where the part does."""
    offset, count, part = data[0], data[1], data[2:]
    if count > _CHUNK or offset + count > size:
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    if len(part) != count:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    return text[:offset].ljust(offset, b"\0") + part


def _asset_tag(request: Request) -> bytes:
    kept = request.bmc.controller.setting("asset_tag")
    if kept is not None:
        return kept
    target = request.bmc.target
    info = target.info if target is not None else None
    return (info.fru.asset_tag or "").encode()[:_TAG_SIZE] if info is not None else b""


@_command(DcmiCommand.GET_ASSET_TAG, Privilege.USER, 2)
def get_asset_tag(request: Request, data: bytes) -> bytes:
    """Get Asset Tag (DCMI section 6.4.2): the one set by a client, else the one in the node's inventory."""
    return _chunk(_asset_tag(request), data, _TAG_SIZE)


@_command(DcmiCommand.SET_ASSET_TAG, Privilege.OPERATOR, (2, 18), changes=True)
def set_asset_tag(request: Request, data: bytes) -> bytes:
    """Set Asset Tag (DCMI section 6.4.3): shown in the inventory too."""
    tag = _replaced(_asset_tag(request), data, _TAG_SIZE)
    request.bmc.controller.keep("asset_tag", tag)
    return bytes((len(tag),))


def _controller_id(request: Request) -> bytes:
    controller = request.bmc.controller
    kept = controller.setting("controller_id")
    return kept if kept is not None else (controller.node_id or controller.fleet.name).encode()[: _ID_SIZE - 1] + b"\0"


@_command(DcmiCommand.GET_CONTROLLER_ID, Privilege.USER, 2)
def get_controller_id(request: Request, data: bytes) -> bytes:
    """Get Management Controller Identifier String (DCMI section 6.4.6.1): the node's id unless set."""
    return _chunk(_controller_id(request), data, _ID_SIZE)


@_command(DcmiCommand.SET_CONTROLLER_ID, Privilege.ADMINISTRATOR, (2, 18), changes=True)
def set_controller_id(request: Request, data: bytes) -> bytes:
    """Set Management Controller Identifier String (DCMI section 6.4.6.2)."""
    text = _replaced(_controller_id(request), data, _ID_SIZE)
    request.bmc.controller.keep("controller_id", text)
    return bytes((len(text),))


def _temperatures(request: Request, data: bytes) -> list[AnalogSensor]:
    """The sensors that a request names: all of ours count as baseboard temperatures."""
    kind, entity, instance, _start = data
    if kind != SensorType.TEMPERATURE or entity not in _TEMPERATURE_ENTITIES:
        raise CompletionError(Code.INVALID_FIELD)
    if entity not in _BASEBOARD_ENTITIES:
        return []
    found = [sensor for sensor in request.bmc.controller.analog if sensor.kind is SensorType.TEMPERATURE]
    return [sensor for sensor in found if instance in (_ALL_INSTANCES, sensor.instance)]


@_command(DcmiCommand.GET_SENSOR_INFO, Privilege.USER, 4)
def get_sensor_info(request: Request, data: bytes) -> bytes:
    """Get DCMI Sensor Info (DCMI section 6.5.2): SDR record ids of temperature sensors."""
    sensors = _temperatures(request, data)
    # All analog sensors stand at the end of the repository, in order.
    controller = request.bmc.controller
    first = len(request.bmc.repository()) - len(controller.analog) + 1
    records = [first + controller.analog.index(sensor) for sensor in sensors if sensor.instance >= data[3]]
    shown = records[:_MAX_RECORDS]
    return bytes((len(sensors), len(shown))) + b"".join(number.to_bytes(2, "little") for number in shown)


@_command(DcmiCommand.GET_TEMPERATURES, Privilege.USER, 4)
def get_temperatures(request: Request, data: bytes) -> bytes:
    """Get Temperature Readings (DCMI section 6.7.3): sign and magnitude in °C, and instance, of those known."""
    sensors = _temperatures(request, data)
    sets = b""
    for sensor in [sensor for sensor in sensors if sensor.instance >= data[3]][:_MAX_TEMPERATURES]:
        value = value_of(request.bmc.controller, sensor)
        if value is not None:
            degrees = min(abs(round(value)), 0x7F)
            sets += bytes((degrees | (0x80 if value < 0 else 0), sensor.instance))
    return bytes((len(sensors), len(sets) // 2)) + sets
