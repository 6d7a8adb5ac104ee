"""Commands about channels and cipher suites (sections 22.15, 22.22 to 22.25)."""

from itertools import chain
from typing import Final

from ipmi_gateway.bridging import SEND_MESSAGE
from ipmi_gateway.codes import CURRENT_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.directory import Directory
from ipmi_gateway.packets.rmcpplus import PayloadType
from ipmi_gateway.sessions.manager import SessionManager
from ipmi_gateway.sessions.suites import SUITES, SuiteId

GET_CIPHER_SUITES: Final = 0x54
SET_CHANNEL_SECURITY_KEYS: Final = 0x56
SET_CHANNEL_ACCESS: Final = 0x40
GET_CHANNEL_ACCESS: Final = 0x41
GET_CHANNEL_INFO: Final = 0x42

_LIST_BY_SUITE: Final = 0x80
_INDEX_MASK: Final = 0x3F
_PAGE: Final = 16
_STANDARD_SUITE: Final = 0xC0
"""Start of record for a suite of the specification."""
_INTEGRITY_TAG: Final = 0x40
_CONFIDENTIALITY_TAG: Final = 0x80
_MEDIUM_IPMB: Final = 0x01
_MEDIUM_LAN: Final = 0x04
_PROTOCOL_IPMB: Final = 0x01
_MULTI_SESSION: Final = 0x80
_COUNT_MASK: Final = 0x3F
_IPMI_FORUM: Final = (7154).to_bytes(3, "little")
"""Vendor of channel protocols that the specification defines."""
_ALWAYS_AVAILABLE: Final = 0x02
_NO_ALERTING: Final = 0x20
_NON_VOLATILE: Final = 0x40
_VOLATILE: Final = 0x80


def channel_commands(manager: SessionManager, directory: Directory) -> Registry:
    """The rows about channels."""
    commands = Registry()
    settings = manager.settings
    app = NetFn.APP
    by_suite = _suite_records(settings.suites)
    by_algorithm = _algorithms(settings.suites)

    def lan_channel(number: int) -> int:
        """The LAN channel's number, if that one is meant."""
        if number & 0x0F not in {CURRENT_CHANNEL, settings.channel}:
            raise CompletionError(Code.INVALID_FIELD)
        return settings.channel

    @commands.add(app, GET_CIPHER_SUITES, Privilege.HIGHEST, 3)
    def get_cipher_suites(request: Request) -> bytes:
        """Section 22.15: pages of 16 octets; a page that is not full is the last one."""
        channel = lan_channel(request.data[0])
        if request.data[1] & 0x3F not in {PayloadType.IPMI, PayloadType.SOL}:
            raise CompletionError(Code.INVALID_FIELD)
        start = (request.data[2] & _INDEX_MASK) * _PAGE
        records = by_suite if request.data[2] & _LIST_BY_SUITE else by_algorithm
        return bytes((channel,)) + records[start : start + _PAGE]

    @commands.add(app, GET_CHANNEL_ACCESS, Privilege.USER, 2)
    def get_channel_access(request: Request) -> bytes:
        """Section 22.23: always available, per-message and user level authentication on; the same stored as present."""
        lan_channel(request.data[0])
        if request.data[1] & 0xC0 not in {_NON_VOLATILE, _VOLATILE}:
            raise CompletionError(Code.INVALID_FIELD)
        return bytes((_ALWAYS_AVAILABLE | _NO_ALERTING, settings.channel_privilege_limit))

    @commands.add(app, GET_CHANNEL_INFO, Privilege.USER, 1)
    def get_channel_info(request: Request) -> bytes:
        """Section 22.24: the LAN channel, and each IPMB channel that has nodes."""
        number = request.data[0] & 0x0F
        if number in {CURRENT_CHANNEL, settings.channel}:
            active = min(len(manager.sessions), _COUNT_MASK)
            head = (settings.channel, _MEDIUM_LAN, _PROTOCOL_IPMB, _MULTI_SESSION | active)
        elif number == 0 or directory.has_channel(number):
            head = (number, _MEDIUM_IPMB, _PROTOCOL_IPMB, 0)
        else:
            raise CompletionError(Code.INVALID_FIELD)
        return bytes(head) + _IPMI_FORUM + bytes(2)

    @commands.add(app, SET_CHANNEL_ACCESS, Privilege.ADMINISTRATOR, 3)
    @commands.add(app, SET_CHANNEL_SECURITY_KEYS, Privilege.ADMINISTRATOR, (3, 23))
    def refuse(_request: Request) -> bytes:
        """Sections 22.22 and 22.25: channels and keys are set in the gateway's configuration only."""
        raise CompletionError(Code.SUBFUNCTION_DISABLED)

    @commands.add(app, SEND_MESSAGE, Privilege.USER, (0, 255))
    def send_message(_request: Request) -> bytes:
        """Section 22.7. The engine follows these itself; only one that is bridged too deep would get here."""
        raise CompletionError(Code.INVALID_FIELD)

    return commands


def _suite_records(suites: tuple[int, ...]) -> bytes:
    """Cipher suite records (table 22-18)."""
    records = bytearray()
    for suite in (SUITES[SuiteId(number)] for number in suites):
        records += bytes((_STANDARD_SUITE, suite.id, suite.authentication))
        records += bytes((_INTEGRITY_TAG | suite.integrity, _CONFIDENTIALITY_TAG | suite.confidentiality))
    return bytes(records)


def _algorithms(suites: tuple[int, ...]) -> bytes:
    """All algorithms, each once, in the order of preference and by kind."""
    served = [SUITES[SuiteId(number)] for number in suites]
    return bytes(
        dict.fromkeys(
            chain(
                (int(suite.authentication) for suite in served),
                (_INTEGRITY_TAG | suite.integrity for suite in served),
                (_CONFIDENTIALITY_TAG | suite.confidentiality for suite in served),
            )
        )
    )
