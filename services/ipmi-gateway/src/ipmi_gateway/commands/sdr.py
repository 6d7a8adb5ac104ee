"""SDR repository commands (section 33), and the same records as device SDRs (sections 35.2-35.4)."""

import struct
from enum import IntEnum

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.actions import part
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.sensors import DISCRETE

registry = Registry()


class SdrCommand(IntEnum):
    """Numbers of appendix G, network function Storage."""

    GET_REPOSITORY_INFO = 0x20
    GET_ALLOCATION_INFO = 0x21
    RESERVE_REPOSITORY = 0x22
    GET_SDR = 0x23
    GET_REPOSITORY_TIME = 0x28
    RUN_INITIALIZATION_AGENT = 0x2C


class DeviceSdrCommand(IntEnum):
    """Numbers of appendix G, network function Sensor/Event."""

    GET_DEVICE_SDR_INFO = 0x20
    GET_DEVICE_SDR = 0x21
    RESERVE_DEVICE_SDR_REPOSITORY = 0x22


_VERSION = 0x51
_OPERATIONS = 0x20 | 0x02 | 0x01
"""Non-modal update support, reserve and allocation info."""
_ALLOCATION_UNIT = 64
_FIRST, _LAST = 0x0000, 0xFFFF
_NO_FREE_SPACE = 0
_COUNT_SDRS = 0x01
_DYNAMIC_POPULATION, _LUN_0_HAS_SENSORS = 0x80, 0x01
_NEVER = 0xFFFFFFFF
_INITIALIZATION_COMPLETED = 0x01


@registry.add(NetFn.STORAGE, SdrCommand.GET_REPOSITORY_INFO, Privilege.USER)
def get_repository_info(request: Request) -> bytes:
    """Get SDR Repository Info (section 33.9)."""
    records = request.bmc.repository()
    changed = request.bmc.controller.sensors_changed_at
    return struct.pack("<BHHIIB", _VERSION, len(records), _NO_FREE_SPACE, changed, _NEVER, _OPERATIONS)


@registry.add(NetFn.STORAGE, SdrCommand.GET_ALLOCATION_INFO, Privilege.USER)
def get_allocation_info(request: Request) -> bytes:
    """Get SDR Repository Allocation Info (section 33.10)."""
    return struct.pack("<HHHHB", len(request.bmc.repository()), _ALLOCATION_UNIT, 0, 0, 1)


@registry.add(NetFn.SENSOR, DeviceSdrCommand.RESERVE_DEVICE_SDR_REPOSITORY, Privilege.USER)
@registry.add(NetFn.STORAGE, SdrCommand.RESERVE_REPOSITORY, Privilege.USER)
def reserve_repository(request: Request) -> bytes:
    """Reserve SDR Repository (section 33.11), Reserve Device SDR Repository (section 35.4)."""
    controller = request.bmc.controller
    request.bmc.repository()  # so that a change of sensors is noticed before, not after
    controller.sdr_reservation = controller.last_sdr_reservation % 0xFFFF + 1
    controller.last_sdr_reservation = controller.sdr_reservation
    return controller.sdr_reservation.to_bytes(2, "little")


@registry.add(NetFn.SENSOR, DeviceSdrCommand.GET_DEVICE_SDR, Privilege.USER, 6)
@registry.add(NetFn.STORAGE, SdrCommand.GET_SDR, Privilege.USER, 6)
def get_sdr(request: Request) -> bytes:
    """Get SDR (section 33.12), Get Device SDR (section 35.3). FFFFh is the last record."""
    reservation, record_id, offset, count = struct.unpack("<HHBB", request.data)
    records = request.bmc.repository()
    if offset and (reservation == 0 or reservation != request.bmc.controller.sdr_reservation):
        raise CompletionError(Code.RESERVATION_CANCELLED)
    if record_id == _FIRST:
        record_id = 1
    elif record_id == _LAST:
        record_id = len(records)
    if record_id > len(records):
        raise CompletionError(Code.NOT_PRESENT)
    following = record_id + 1 if record_id < len(records) else _LAST
    return following.to_bytes(2, "little") + part(records[record_id - 1], offset, count)


@registry.add(NetFn.STORAGE, SdrCommand.GET_REPOSITORY_TIME, Privilege.USER)
def get_repository_time(request: Request) -> bytes:
    """Get SDR Repository Time (section 33.17)."""
    return (int(request.bmc.controller.fleet.wall()) & 0xFFFFFFFF).to_bytes(4, "little")


@registry.add(NetFn.STORAGE, SdrCommand.RUN_INITIALIZATION_AGENT, Privilege.OPERATOR, 1)
def run_initialization_agent(request: Request) -> bytes:
    """Run Initialization Agent (section 33.21): 0 asks for its state; there is nothing to run."""
    if request.data[0] & 0xFE:
        raise CompletionError(Code.INVALID_FIELD)
    return bytes((_INITIALIZATION_COMPLETED,))


@registry.add(NetFn.SENSOR, DeviceSdrCommand.GET_DEVICE_SDR_INFO, Privilege.USER, (0, 1))
def get_device_sdr_info(request: Request) -> bytes:
    """Get Device SDR Info (section 35.2): the number of sensors on LUN 0, or of records."""
    controller = request.bmc.controller
    if request.data and request.data[0] & _COUNT_SDRS:
        count = len(request.bmc.repository())
    else:
        count = len(DISCRETE) + len(controller.analog)
    return struct.pack("<BBI", min(count, 255), _DYNAMIC_POPULATION | _LUN_0_HAS_SENSORS, controller.sensors_changed_at)
