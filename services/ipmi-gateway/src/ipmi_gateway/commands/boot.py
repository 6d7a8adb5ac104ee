"""Set and Get System Boot Options (sections 28.12 and 28.13)."""

from collections.abc import Awaitable

from pypmi.contract import BootDevice

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.actions import carried_out, origin_of, refreshed, target_of
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.boot_options import BLOCKS, SIZES, Parameter, intent_of

registry = Registry()

SET_SYSTEM_BOOT_OPTIONS, GET_SYSTEM_BOOT_OPTIONS = 0x08, 0x09
PARAMETER_VERSION = 0x01
PARAMETER_NOT_SUPPORTED, IN_PROGRESS, READ_ONLY = 0x80, 0x81, 0x82
"""Completion codes of these commands."""
_LOCK = 0x80
_SET_COMPLETE, _SET_IN_PROGRESS, _COMMIT_WRITE = 0, 1, 2


def _parameter(octet: int) -> Parameter:
    number = octet & 0x7F
    if number not in set(Parameter):
        raise CompletionError(PARAMETER_NOT_SUPPORTED)
    return Parameter(number)


@registry.add(NetFn.CHASSIS, SET_SYSTEM_BOOT_OPTIONS, Privilege.OPERATOR, (1, 18), changes=True)
def set_boot_options(request: Request) -> bytes | Awaitable[bytes]:
    """Set System Boot Options: 80h unknown parameter, 81h set already in progress, CCh wrong values."""
    number = _parameter(request.data[0])
    locked, data = bool(request.data[0] & _LOCK), request.data[1:]
    boot = request.bmc.controller.boot
    if not data:
        boot.set_locked(number, locked)
        return b""
    if number is Parameter.SET_IN_PROGRESS:
        return _set_progress(request, data)
    if number is Parameter.FLAGS:
        return _set_flags(request, data, locked)
    if number is Parameter.INITIATOR_MAILBOX:
        if data[0] >= BLOCKS:
            raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
        boot.set_mailbox(data[0], data[1:])
    else:
        if len(data) != SIZES[number]:
            raise CompletionError(Code.DATA_LENGTH_INVALID)
        boot.set(number, data)
    boot.set_locked(number, locked)
    return b""


def _set_progress(request: Request, data: bytes) -> bytes:
    """Parameter 0: 81h when another change is under way; commit is for those who can roll back."""
    if len(data) != 1:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    boot = request.bmc.controller.boot
    wanted = data[0] & 0x03
    if data[0] > _COMMIT_WRITE:
        raise CompletionError(Code.INVALID_FIELD)
    if wanted == _SET_IN_PROGRESS and boot.in_progress(request.now):
        raise CompletionError(IN_PROGRESS)
    boot.set_progress(wanted == _SET_IN_PROGRESS, request.now)
    return b""


def _set_flags(request: Request, flags: bytes, locked: bool) -> Awaitable[bytes]:
    if len(flags) != SIZES[Parameter.FLAGS]:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    try:
        intent = intent_of(flags)
    except ValueError as error:
        raise CompletionError(Code.INVALID_FIELD) from error
    target = target_of(request)

    async def store() -> bytes:
        controller = request.bmc.controller
        held = target.boot
        if intent.device is not BootDevice.NONE or (held is not None and held.device is not BootDevice.NONE):
            await carried_out(
                request,
                target.set_boot(intent.device, persistent=intent.persistent, efi=intent.efi, origin=origin_of(request)),
            )
        controller.boot.set_flags(flags, controller.fleet.clock(), controller.fleet.wall())
        controller.boot.set_locked(Parameter.FLAGS, locked)
        controller.arm()
        return b""

    return store()


@registry.add(NetFn.CHASSIS, GET_SYSTEM_BOOT_OPTIONS, Privilege.OPERATOR, 3)
def get_boot_options(request: Request) -> bytes | Awaitable[bytes]:
    """Get System Boot Options: version, parameter with its lock bit, data."""
    return _get_flags(request) if _parameter(request.data[0]) is Parameter.FLAGS else _get(request)


def _get(request: Request) -> bytes:
    number = _parameter(request.data[0])
    block = request.data[1]
    controller = request.bmc.controller
    boot = controller.boot
    if number is Parameter.SET_IN_PROGRESS:
        value = bytes((int(boot.in_progress(request.now)),))
    elif number is Parameter.INITIATOR_MAILBOX:
        if block >= BLOCKS:
            raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
        value = bytes((block,)) + boot.mailbox(block)
    else:
        if number is Parameter.FLAGS:
            controller.observe(request.now)
            boot.lapse(request.now)
        value = boot.get(number)
    return bytes((PARAMETER_VERSION, number | (_LOCK if boot.is_locked(number) else 0))) + value


_get_flags = refreshed(_get, required=False)
