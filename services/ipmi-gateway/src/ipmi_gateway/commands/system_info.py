"""Set and Get System Info Parameters (sections 22.14a and 22.14b): names and versions of the machine's software."""

from enum import IntEnum

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request

registry = Registry()

SET_SYSTEM_INFO, GET_SYSTEM_INFO = 0x58, 0x59
PARAMETER_NOT_SUPPORTED, IN_PROGRESS = 0x80, 0x81
REVISION = 0x11
_REVISION_ONLY = 0x80
BLOCK_SIZE = 16
_MAX_LENGTH = 255
_ENCODINGS = frozenset((0, 1, 2))
"""ASCII + Latin-1, UTF-8, Unicode."""


class Parameter(IntEnum):
    """System info parameters (table 22-16c)."""

    SET_IN_PROGRESS = 0
    FIRMWARE_VERSION = 1
    SYSTEM_NAME = 2
    PRIMARY_OS_NAME = 3
    OS_NAME = 4
    OS_VERSION = 5
    BMC_URL = 6
    MANAGEMENT_URL = 7


def _default(request: Request, number: Parameter) -> str:
    """What is known of the machine without anybody having set it."""
    target = request.bmc.target
    info = target.info if target is not None else None
    if number is Parameter.SYSTEM_NAME:
        return request.bmc.controller.name
    if info is None:
        return ""
    return {Parameter.FIRMWARE_VERSION: info.firmware, Parameter.BMC_URL: info.url}.get(number) or ""


def _text(request: Request, number: Parameter) -> bytes:
    """The whole parameter: encoding, length, text."""
    kept = request.bmc.controller.setting(f"system_info.{number:d}")
    if kept is not None:
        return kept
    text = _default(request, number).encode()[:_MAX_LENGTH]
    return bytes((0x00 if text.isascii() else 0x01, len(text))) + text


def _parameter(octet: int) -> Parameter:
    if octet not in set(Parameter):
        raise CompletionError(PARAMETER_NOT_SUPPORTED)
    return Parameter(octet)


@registry.add(NetFn.APP, GET_SYSTEM_INFO, Privilege.USER, 4)
def get_system_info(request: Request) -> bytes:
    """Get System Info Parameters: revision, then set selector and block of 16 octets."""
    if request.data[0] & _REVISION_ONLY:
        return bytes((REVISION,))
    number = _parameter(request.data[1])
    if number is Parameter.SET_IN_PROGRESS:
        return bytes((REVISION, 0))
    block = request.data[2]
    text = _text(request, number)
    if block and block * BLOCK_SIZE >= len(text):
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    return bytes((REVISION, block)) + text[block * BLOCK_SIZE :][:BLOCK_SIZE].ljust(BLOCK_SIZE, b"\0")


@registry.add(NetFn.APP, SET_SYSTEM_INFO, Privilege.ADMINISTRATOR, (2, 18), changes=True)
def set_system_info(request: Request) -> bytes:
    """Set System Info Parameters: block by block; the first one gives encoding and length."""
    number = _parameter(request.data[0])
    if number is Parameter.SET_IN_PROGRESS:
        if len(request.data) != 2 or request.data[1] > 2:
            raise CompletionError(Code.INVALID_FIELD)
        return b""
    block, data = request.data[1], request.data[2:]
    if not data:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    if block == 0:
        if len(data) < 2:
            raise CompletionError(Code.DATA_LENGTH_INVALID)
        if data[0] & 0x0F not in _ENCODINGS:
            raise CompletionError(Code.INVALID_FIELD)
        text = data
    else:
        text = _text(request, number)[: block * BLOCK_SIZE].ljust(block * BLOCK_SIZE, b"\0") + data
    if len(text) > 2 + _MAX_LENGTH + BLOCK_SIZE:
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    request.bmc.controller.keep(f"system_info.{number:d}", text[: 2 + text[1]])
    return b""
