"""System event log commands (section 31), with its clock."""

import struct
from enum import IntEnum

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.actions import part
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.event_log import OWN_GENERATOR, RECORD_SIZE, EventLog

registry = Registry()


class SelCommand(IntEnum):
    """Numbers of appendix G."""

    GET_INFO = 0x40
    GET_ALLOCATION_INFO = 0x41
    RESERVE = 0x42
    GET_ENTRY = 0x43
    ADD_ENTRY = 0x44
    DELETE_ENTRY = 0x46
    CLEAR = 0x47
    GET_TIME = 0x48
    SET_TIME = 0x49
    GET_TIME_UTC_OFFSET = 0x5C
    SET_TIME_UTC_OFFSET = 0x5D


_VERSION = 0x51
_OVERFLOW = 0x80
_OPERATIONS = 0x08 | 0x02 | 0x01
"""Delete, reserve and allocation info are supported; partial add is not."""
_INITIATE, _GET_STATUS = 0xAA, 0x00
_ERASURE_COMPLETED = 0x01
_MAX_MINUTES = 1440
_UNSPECIFIED_OFFSET = 0x07FF


def _log(request: Request) -> EventLog:
    return request.bmc.controller.sel


def _free(log: EventLog) -> int:
    return max(log.capacity - len(log), 0)


@registry.add(NetFn.STORAGE, SelCommand.GET_INFO, Privilege.USER)
def get_info(request: Request) -> bytes:
    """Get SEL Info (section 31.2)."""
    log = _log(request)
    return struct.pack(
        "<BHHIIB",
        _VERSION,
        len(log),
        min(_free(log) * RECORD_SIZE, 0xFFFE),
        log.added_at,
        log.erased_at,
        _OPERATIONS | (_OVERFLOW if log.overflow else 0),
    )


@registry.add(NetFn.STORAGE, SelCommand.GET_ALLOCATION_INFO, Privilege.USER)
def get_allocation_info(request: Request) -> bytes:
    """Get SEL Allocation Info (section 31.3): one unit is one record."""
    log = _log(request)
    return struct.pack("<HHHHB", log.capacity, RECORD_SIZE, _free(log), _free(log), 1)


@registry.add(NetFn.STORAGE, SelCommand.RESERVE, Privilege.USER)
def reserve(request: Request) -> bytes:
    """Reserve SEL (section 31.4)."""
    return _log(request).reserve().to_bytes(2, "little")


def _check_reservation(request: Request, given: int) -> None:
    log = _log(request)
    if given == 0 or given != log.reservation:
        raise CompletionError(Code.RESERVATION_CANCELLED)


@registry.add(NetFn.STORAGE, SelCommand.GET_ENTRY, Privilege.USER, 6)
def get_entry(request: Request) -> bytes:
    """Get SEL Entry (section 31.5). Only partial reads from beyond the start need the reservation."""
    reservation, record_id, offset, count = struct.unpack("<HHBB", request.data)
    if offset:
        _check_reservation(request, reservation)
    found = _log(request).find(record_id)
    if found is None:
        raise CompletionError(Code.NOT_PRESENT)
    record, following = found
    if record[7:9] == OWN_GENERATOR:
        # This controller's own events name it by the address that it is seen at.
        record = record[:7] + bytes((request.bmc.address, request.bmc.channel << 4)) + record[9:]
    return following.to_bytes(2, "little") + part(record, offset, count)


@registry.add(NetFn.STORAGE, SelCommand.ADD_ENTRY, Privilege.OPERATOR, RECORD_SIZE, changes=True)
def add_entry(request: Request) -> bytes:
    """Add SEL Entry (section 31.6): record id and time stamp are put in here."""
    return _log(request).add(request.data).to_bytes(2, "little")


@registry.add(NetFn.STORAGE, SelCommand.DELETE_ENTRY, Privilege.OPERATOR, 4, changes=True)
def delete_entry(request: Request) -> bytes:
    """Delete SEL Entry (section 31.8)."""
    reservation, record_id = struct.unpack("<HH", request.data)
    _check_reservation(request, reservation)
    deleted = _log(request).delete(record_id)
    if deleted is None:
        raise CompletionError(Code.NOT_PRESENT)
    return deleted.to_bytes(2, "little")


@registry.add(NetFn.STORAGE, SelCommand.CLEAR, Privilege.OPERATOR, 6, changes=True)
def clear(request: Request) -> bytes:
    """Clear SEL (section 31.9): done at once, so that its progress is always "completed"."""
    (reservation,) = struct.unpack_from("<H", request.data)
    _check_reservation(request, reservation)
    action = request.data[5]
    if request.data[2:5] != b"CLR" or action not in (_INITIATE, _GET_STATUS):
        raise CompletionError(Code.INVALID_FIELD)
    if action == _INITIATE:
        _log(request).clear()
    return bytes((_ERASURE_COMPLETED,))


@registry.add(NetFn.STORAGE, SelCommand.GET_TIME, Privilege.USER)
def get_time(request: Request) -> bytes:
    """Get SEL Time (section 31.10)."""
    return _log(request).time().to_bytes(4, "little")


@registry.add(NetFn.STORAGE, SelCommand.SET_TIME, Privilege.OPERATOR, 4, changes=True)
def set_time(request: Request) -> bytes:
    """Set SEL Time (section 31.11): of this controller's log alone."""
    _log(request).set_time(int.from_bytes(request.data, "little"))
    return b""


@registry.add(NetFn.STORAGE, SelCommand.GET_TIME_UTC_OFFSET, Privilege.USER)
def get_time_utc_offset(request: Request) -> bytes:
    """Get SEL Time UTC Offset (section 31.11a): minutes, signed."""
    return struct.pack("<h", _log(request).utc_offset)


@registry.add(NetFn.STORAGE, SelCommand.SET_TIME_UTC_OFFSET, Privilege.OPERATOR, 2, changes=True)
def set_time_utc_offset(request: Request) -> bytes:
    """Set SEL Time UTC Offset (section 31.11b)."""
    (minutes,) = struct.unpack("<h", request.data)
    if abs(minutes) > _MAX_MINUTES and minutes != _UNSPECIFIED_OFFSET:
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    _log(request).utc_offset = minutes
    return b""
