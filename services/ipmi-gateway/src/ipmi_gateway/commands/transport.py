"""LAN transport commands (section 23). What they tell is the gateway's configuration, and can't be set over IPMI."""

import struct
from collections.abc import Callable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from string import hexdigits

from ipmi_gateway.codes import CURRENT_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.controller.facts import LanFacts

registry = Registry()

SET_LAN_PARAMETERS, GET_LAN_PARAMETERS = 0x01, 0x02
GET_STATISTICS = 0x04
PARAMETER_NOT_SUPPORTED, READ_ONLY = 0x80, 0x82
REVISION = 0x11
_REVISION_ONLY = 0x80
_MAX_COUNT = 0xFFFF
_STATIC_ADDRESS = 0x01
_VLAN_ENABLED = 0x8000
_RMCP_PORT, _SECURE_PORT = 623, 664
_TIME_TO_LIVE = 64
_IPV6_TOO = 0x02
_DUAL_STACK = 0x02
_COMMUNITY_SIZE = 18
_SUITE_SLOTS = 16
_MAC_SIZE = 6


class LanParameter(IntEnum):
    """LAN configuration parameters (table 23-4)."""

    SET_IN_PROGRESS = 0
    AUTHENTICATION_SUPPORT = 1
    AUTHENTICATION_ENABLES = 2
    IP_ADDRESS = 3
    IP_ADDRESS_SOURCE = 4
    MAC_ADDRESS = 5
    SUBNET_MASK = 6
    IPV4_HEADER = 7
    PRIMARY_RMCP_PORT = 8
    SECONDARY_RMCP_PORT = 9
    ARP_CONTROL = 10
    GRATUITOUS_ARP_INTERVAL = 11
    DEFAULT_GATEWAY = 12
    DEFAULT_GATEWAY_MAC = 13
    BACKUP_GATEWAY = 14
    BACKUP_GATEWAY_MAC = 15
    COMMUNITY_STRING = 16
    NUMBER_OF_DESTINATIONS = 17
    DESTINATION_TYPE = 18
    DESTINATION_ADDRESS = 19
    VLAN_ID = 20
    VLAN_PRIORITY = 21
    CIPHER_SUITE_COUNT = 22
    CIPHER_SUITES = 23
    CIPHER_SUITE_PRIVILEGES = 24
    DESTINATION_VLAN = 25
    BAD_PASSWORD_THRESHOLD = 26
    IPV6_SUPPORT = 50
    IPV6_ENABLES = 51
    IPV6_STATUS = 55
    IPV6_STATIC_ADDRESS = 56
    IPV6_ROUTER_CONTROL = 64
    IPV6_ROUTER_1_ADDRESS = 65
    IPV6_ROUTER_1_MAC = 66
    IPV6_ROUTER_1_PREFIX_LENGTH = 67
    IPV6_ROUTER_1_PREFIX = 68
    IPV6_ROUTER_2_ADDRESS = 69
    IPV6_ROUTER_2_MAC = 70
    IPV6_ROUTER_2_PREFIX_LENGTH = 71
    IPV6_ROUTER_2_PREFIX = 72


def _suite_privileges(lan: LanFacts) -> bytes:
    """A nibble per suite, in the order of `CIPHER_SUITES`.

    FreeIPMI takes them as ordered by suite id, so those places, which are nobody's otherwise, say the same.
    """
    limit = int(lan.privilege_limit)
    nibbles = [limit if place < len(lan.suites) or place in lan.suites else 0 for place in range(_SUITE_SLOTS)]
    pairs = zip(nibbles[::2], nibbles[1::2], strict=True)
    return bytes((0, *(low | high << 4 for low, high in pairs)))


_CONSTANTS = {
    LanParameter.SET_IN_PROGRESS: bytes(1),
    LanParameter.AUTHENTICATION_SUPPORT: bytes(1),  # IPMI 1.5 sessions are not served, so no types
    LanParameter.AUTHENTICATION_ENABLES: bytes(5),
    LanParameter.IP_ADDRESS_SOURCE: bytes((_STATIC_ADDRESS,)),
    LanParameter.IPV4_HEADER: bytes((_TIME_TO_LIVE, 0x40, 0x10)),
    LanParameter.SECONDARY_RMCP_PORT: struct.pack("<H", _SECURE_PORT),
    LanParameter.ARP_CONTROL: bytes(1),
    LanParameter.GRATUITOUS_ARP_INTERVAL: bytes(1),
    LanParameter.DEFAULT_GATEWAY_MAC: bytes(6),
    LanParameter.BACKUP_GATEWAY: bytes(4),
    LanParameter.BACKUP_GATEWAY_MAC: bytes(6),
    LanParameter.COMMUNITY_STRING: b"public".ljust(_COMMUNITY_SIZE, b"\0"),
    LanParameter.NUMBER_OF_DESTINATIONS: bytes(1),  # no alerts over LAN: the broker has the events
    LanParameter.VLAN_PRIORITY: bytes(1),
    LanParameter.BAD_PASSWORD_THRESHOLD: bytes(6),  # no lock-out: see LoginDelaySettings
    LanParameter.IPV6_SUPPORT: bytes((_IPV6_TOO,)),
    LanParameter.IPV6_ENABLES: bytes((_DUAL_STACK,)),
    LanParameter.IPV6_STATUS: bytes((1, 0, 0)),
    LanParameter.IPV6_ROUTER_CONTROL: bytes(1),  # neither static nor dynamic routers: the host's affair
    LanParameter.IPV6_ROUTER_1_ADDRESS: bytes(16),
    LanParameter.IPV6_ROUTER_1_MAC: bytes(6),
    LanParameter.IPV6_ROUTER_1_PREFIX_LENGTH: bytes(1),
    LanParameter.IPV6_ROUTER_1_PREFIX: bytes(16),
    LanParameter.IPV6_ROUTER_2_ADDRESS: bytes(16),
    LanParameter.IPV6_ROUTER_2_MAC: bytes(6),
    LanParameter.IPV6_ROUTER_2_PREFIX_LENGTH: bytes(1),
    LanParameter.IPV6_ROUTER_2_PREFIX: bytes(16),
}
_FACTS: dict[LanParameter, Callable[[LanFacts], bytes]] = {
    LanParameter.IP_ADDRESS: lambda lan: IPv4Address(lan.address).packed,
    LanParameter.SUBNET_MASK: lambda lan: IPv4Address(lan.netmask).packed,
    LanParameter.DEFAULT_GATEWAY: lambda lan: IPv4Address(lan.gateway).packed,
    LanParameter.MAC_ADDRESS: lambda lan: lan.mac,
    LanParameter.PRIMARY_RMCP_PORT: lambda lan: struct.pack("<H", lan.port),
    LanParameter.VLAN_ID: lambda lan: struct.pack("<H", 0 if lan.vlan is None else lan.vlan & 0x0FFF | _VLAN_ENABLED),
    LanParameter.CIPHER_SUITE_COUNT: lambda lan: bytes((len(lan.suites),)),
    LanParameter.CIPHER_SUITES: lambda lan: bytes((0, *lan.suites[:_SUITE_SLOTS])),
    LanParameter.CIPHER_SUITE_PRIVILEGES: _suite_privileges,
}
_DESTINATION_SIZES = {
    LanParameter.DESTINATION_TYPE: 4,
    LanParameter.DESTINATION_ADDRESS: 13,
    LanParameter.DESTINATION_VLAN: 4,
}
"""Destination 0 is the volatile one for Alert Immediate; there are no others, and it is empty."""


def parameter(lan: LanFacts, number: LanParameter, selector: int) -> bytes:
    """The data of one parameter. Raises C9h for a set selector that does not exist."""
    if number in _FACTS:
        return _FACTS[number](lan)
    if number in _CONSTANTS:
        return _CONSTANTS[number]
    if selector:
        raise CompletionError(Code.PARAMETER_OUT_OF_RANGE)
    if number in _DESTINATION_SIZES:
        return bytes(_DESTINATION_SIZES[number])
    return _ipv6_address(lan)


def _ipv6_address(lan: LanFacts) -> bytes:
    """Static address 0: selector, enabled and static, address, prefix length, status."""
    if lan.ipv6_address is None:
        return bytes(20)
    return bytes((0, 0x80)) + IPv6Address(lan.ipv6_address).packed + bytes((64, 0))


def _lan_parameter(octet: int) -> LanParameter:
    if octet not in set(LanParameter):
        raise CompletionError(PARAMETER_NOT_SUPPORTED)
    return LanParameter(octet)


def _check_channel(request: Request) -> None:
    if request.data[0] & 0x0F not in (request.bmc.lan.channel, CURRENT_CHANNEL):
        raise CompletionError(Code.INVALID_FIELD)


def _announced_mac(request: Request) -> bytes | None:
    """The hardware address that the node's agent has announced, if it is one."""
    target = request.bmc.target
    info = target.info if target is not None else None
    text = (info.mac or "") if info is not None else ""
    digits = text.replace(":", "").replace("-", "")
    if len(digits) != 2 * _MAC_SIZE or any(digit not in hexdigits for digit in digits):
        return None
    return bytes.fromhex(digits)


@registry.add(NetFn.TRANSPORT, GET_LAN_PARAMETERS, Privilege.OPERATOR, 4)
def get_lan_parameters(request: Request) -> bytes:
    """Get LAN Configuration Parameters (section 23.2): 80h for those that do not exist here."""
    _check_channel(request)
    if request.data[0] & _REVISION_ONLY:
        return bytes((REVISION,))
    number = _lan_parameter(request.data[1])
    value = parameter(request.bmc.lan, number, request.data[2])
    if number is LanParameter.MAC_ADDRESS and not any(value):
        value = _announced_mac(request) or value
    return bytes((REVISION,)) + value


@registry.add(NetFn.TRANSPORT, SET_LAN_PARAMETERS, Privilege.ADMINISTRATOR, (3, 64))
def set_lan_parameters(request: Request) -> bytes:
    """Set LAN Configuration Parameters (section 23.1): 82h, read only; "set in progress" means nothing."""
    _check_channel(request)
    if _lan_parameter(request.data[1]) is not LanParameter.SET_IN_PROGRESS:
        raise CompletionError(READ_ONLY)
    if len(request.data) != 3 or request.data[2] > 2:
        raise CompletionError(Code.INVALID_FIELD)
    return b""


@registry.add(NetFn.TRANSPORT, GET_STATISTICS, Privilege.USER, 2)
def get_statistics(request: Request) -> bytes:
    """Get IP/UDP/RMCP Statistics (section 23.4), of the whole gateway. They can't be cleared from here."""
    _check_channel(request)
    if request.data[1] & 0xFE:
        raise CompletionError(Code.INVALID_FIELD)
    counts = request.bmc.controller.fleet.packet_counts()
    values = (counts.received, 0, 0, 0, counts.sent, counts.received, counts.valid, 0, 0)
    return struct.pack("<9H", *(min(value, _MAX_COUNT) for value in values))
