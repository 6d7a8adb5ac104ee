"""Numbers of the IPMI 2.0 specification that more than one module needs, each named once.

Numbers that only one module needs stand in that module, as enums or named constants too.
"""

from enum import IntEnum


class NetFn(IntEnum):
    """Network functions, request side (section 5.1, table 5-1). The response has the next, odd number."""

    CHASSIS = 0x00
    BRIDGE = 0x02
    SENSOR = 0x04
    APP = 0x06
    FIRMWARE = 0x08
    STORAGE = 0x0A
    TRANSPORT = 0x0C
    GROUP = 0x2C
    OEM_GROUP = 0x2E


class Code(IntEnum):
    """Completion codes (section 5.2, table 5-2)."""

    OK = 0x00
    NODE_BUSY = 0xC0
    INVALID_COMMAND = 0xC1
    INVALID_FOR_LUN = 0xC2
    TIMEOUT = 0xC3
    OUT_OF_SPACE = 0xC4
    RESERVATION_CANCELLED = 0xC5
    DATA_TRUNCATED = 0xC6
    DATA_LENGTH_INVALID = 0xC7
    DATA_LENGTH_EXCEEDED = 0xC8
    PARAMETER_OUT_OF_RANGE = 0xC9
    CANNOT_RETURN_BYTES = 0xCA
    NOT_PRESENT = 0xCB
    INVALID_FIELD = 0xCC
    ILLEGAL_FOR_SENSOR = 0xCD
    NO_RESPONSE = 0xCE
    DUPLICATE = 0xCF
    SDR_UPDATE = 0xD0
    FIRMWARE_UPDATE = 0xD1
    INITIALIZING = 0xD2
    DESTINATION_UNAVAILABLE = 0xD3
    INSUFFICIENT_PRIVILEGE = 0xD4
    NOT_IN_PRESENT_STATE = 0xD5
    SUBFUNCTION_DISABLED = 0xD6
    UNSPECIFIED = 0xFF


class Privilege(IntEnum):
    """Privilege levels (section 6.8). `HIGHEST` is only asked for in Open Session, never held."""

    HIGHEST = 0
    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMINISTRATOR = 4
    OEM = 5


BMC_ADDRESS = 0x20
"""The slave address of a management controller: here, of the gateway itself."""

REMOTE_CONSOLE_ADDRESS = 0x81
"""The software id that remote consoles put in as requester's address."""

LAN_CHANNEL = 1
"""The channel number the gateway gives its LAN interface; 0 is the primary IPMB (section 6.3)."""

CURRENT_CHANNEL = 0x0E
"""In a request: the channel that the request came by."""
