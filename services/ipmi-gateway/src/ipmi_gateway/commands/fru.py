"""FRU inventory commands (section 34). There is one FRU device, 0, and it is read only."""

import struct

from ipmi_gateway.codes import Code, NetFn, Privilege
from ipmi_gateway.commands.actions import part
from ipmi_gateway.commands.registry import CompletionError, Registry, Request

registry = Registry()

GET_INVENTORY_AREA_INFO, READ_FRU_DATA, WRITE_FRU_DATA = 0x10, 0x11, 0x12
WRITE_PROTECTED = 0x80
"""Completion code of Write FRU Data."""
_BY_BYTES = 0x00


def _image(request: Request) -> bytes:
    if request.data[0] != 0:
        raise CompletionError(Code.NOT_PRESENT)
    return request.bmc.controller.fru_image()


@registry.add(NetFn.STORAGE, GET_INVENTORY_AREA_INFO, Privilege.USER, 1)
def get_inventory_area_info(request: Request) -> bytes:
    """Get FRU Inventory Area Info (section 34.1)."""
    return struct.pack("<HB", len(_image(request)), _BY_BYTES)


@registry.add(NetFn.STORAGE, READ_FRU_DATA, Privilege.USER, 4)
def read_fru_data(request: Request) -> bytes:
    """Read FRU Data (section 34.2): C9h behind the end, CAh for more than there is."""
    offset, count = struct.unpack_from("<HB", request.data, 1)
    data = part(_image(request), offset, count)
    if len(data) > 0xFF:
        data = data[:0xFF]
    return bytes((len(data),)) + data


@registry.add(NetFn.STORAGE, WRITE_FRU_DATA, Privilege.OPERATOR, (3, 255))
def write_fru_data(request: Request) -> bytes:
    """Write FRU Data (section 34.3): inventory comes from the node's agent, and can't be written."""
    _image(request)
    raise CompletionError(WRITE_PROTECTED)
