"""Payload and SOL commands (sections 24 and 26): activation, who has it, user access, SOL configuration.

SOL is the one payload type that can be activated, with one instance for each node: its console. The data packets
themselves are the business of `ipmi_gateway.sol`.
"""

import struct
from typing import Final

from ipmi_gateway.codes import CURRENT_CHANNEL, Code, NetFn, Privilege
from ipmi_gateway.commands.registry import CompletionError, Registry, Request
from ipmi_gateway.packets.rmcpplus import PayloadType
from ipmi_gateway.sessions.session import Session
from ipmi_gateway.sessions.users import MAX_USER_ID
from ipmi_gateway.sol.packet import MAX_PAYLOAD
from ipmi_gateway.sol.parameters import Parameter
from ipmi_gateway.sol.payload import Refusal, SolPayload, SolRefusedError

registry = Registry()

ACTIVATE_PAYLOAD: Final = 0x48
DEACTIVATE_PAYLOAD: Final = 0x49
GET_PAYLOAD_ACTIVATION_STATUS: Final = 0x4A
GET_PAYLOAD_INSTANCE_INFO: Final = 0x4B
SET_USER_PAYLOAD_ACCESS: Final = 0x4C
GET_USER_PAYLOAD_ACCESS: Final = 0x4D
GET_CHANNEL_PAYLOAD_SUPPORT: Final = 0x4E
GET_CHANNEL_PAYLOAD_VERSION: Final = 0x4F
GET_CHANNEL_OEM_PAYLOAD_INFO: Final = 0x50
SUSPEND_RESUME_ENCRYPTION: Final = 0x55
SET_SOL_PARAMETERS: Final = 0x21
GET_SOL_PARAMETERS: Final = 0x22

INSTANCE: Final = 1
"""The one instance of SOL that each controller has."""
_TYPE_MASK: Final = 0x3F
_INSTANCE_MASK: Final = 0x0F
_CHANNEL_MASK: Final = 0x0F
_ENCRYPTION: Final = 0x80
"""In the auxiliary data of Activate Payload for SOL."""
_ACTIVATED = struct.Struct("<4xHHHH")
"""Test mode off, inbound and outbound payload size, UDP port, VLAN."""
_NO_VLAN: Final = 0xFFFF
_SOL_BIT: Final = 1 << PayloadType.SOL
_IPMI_BIT: Final = 1 << PayloadType.IPMI
_SETUP_BITS: Final = 0b111111
"""Open Session and RAKP, requests and responses: types 10h to 15h."""
_VERSION: Final = 0x10
"""1.0, for all payload types of the specification."""
_OPERATION_MASK: Final = 0xC0
_DISABLE: Final = 0x40
_REVISION: Final = 0x11
_REVISION_ONLY: Final = 0x80
_SETUP_TYPES: Final = range(PayloadType.OPEN_SESSION_REQUEST, PayloadType.RAKP_4 + 1)
_SUSPEND, _RESUME = 0, 1

# Completion codes of these commands.
ALREADY_ACTIVE: Final = 0x80
DISABLED: Final = 0x81
LIMIT_REACHED: Final = 0x82
ENCRYPTION_REQUIRED: Final = 0x84
ALREADY_DEACTIVATED: Final = 0x80
TYPE_NOT_AVAILABLE: Final = 0x80
OEM_PAYLOAD_UNKNOWN: Final = 0x80
OPERATION_NOT_SUPPORTED: Final = 0x80
OPERATION_NOT_ALLOWED: Final = 0x81
NOT_ACTIVE: Final = 0x83
PARAMETER_NOT_SUPPORTED: Final = 0x80
SET_IN_PROGRESS: Final = 0x81
READ_ONLY: Final = 0x82

_REFUSALS: Final = {
    Refusal.DISABLED: DISABLED,
    Refusal.ACTIVE_ELSEWHERE: ALREADY_ACTIVE,
    Refusal.LIMIT: LIMIT_REACHED,
    Refusal.UNENCRYPTED: ENCRYPTION_REQUIRED,
    Refusal.PRIVILEGE: Code.INSUFFICIENT_PRIVILEGE,
    Refusal.NOT_ACTIVE: ALREADY_DEACTIVATED,
}


def _sol(request: Request, payload_type: int, instance: int = INSTANCE) -> SolPayload:
    """The SOL payload of the controller addressed; CCh for another type or instance."""
    if payload_type & _TYPE_MASK != PayloadType.SOL or instance & _INSTANCE_MASK != INSTANCE:
        raise CompletionError(Code.INVALID_FIELD)
    return request.bmc.controller.sol


def _session(request: Request) -> Session:
    if request.session is None:
        raise CompletionError(Code.INSUFFICIENT_PRIVILEGE)
    return request.session


def _check_channel(request: Request) -> None:
    if request.data[0] & _CHANNEL_MASK not in {CURRENT_CHANNEL, request.bmc.lan.channel}:
        raise CompletionError(Code.INVALID_FIELD)


def _user_key(user_id: int) -> str:
    return f"sol.user.{user_id}"


def _may_use(request: Request, user_id: int) -> bool:
    """Whether Set User Payload Access left SOL enabled for a user."""
    return request.bmc.controller.setting(_user_key(user_id)) is None


@registry.add(NetFn.APP, ACTIVATE_PAYLOAD, Privilege.USER, 6, changes=True)
def activate_payload(request: Request) -> bytes:
    """Activate Payload (section 24.1): the session gets the console of the controller addressed."""
    session = _session(request)
    sol = _sol(request, request.data[0], request.data[1])
    if not _may_use(request, session.user.id):
        raise CompletionError(DISABLED)
    try:
        sol.activate(session, encrypted=bool(request.data[2] & _ENCRYPTION), now=request.now)
    except SolRefusedError as refusal:
        raise CompletionError(_REFUSALS[refusal.reason]) from None
    return _ACTIVATED.pack(MAX_PAYLOAD, MAX_PAYLOAD, session.listener.public_port, _NO_VLAN)


@registry.add(NetFn.APP, DEACTIVATE_PAYLOAD, Privilege.USER, 6, changes=True)
def deactivate_payload(request: Request) -> bytes:
    """Deactivate Payload (section 24.2), of the session itself or of whoever has the console."""
    session = _session(request)
    sol = _sol(request, request.data[0], request.data[1])
    try:
        sol.deactivate(session)
    except SolRefusedError as refusal:
        raise CompletionError(_REFUSALS[refusal.reason]) from None
    return b""


@registry.add(NetFn.APP, GET_PAYLOAD_ACTIVATION_STATUS, Privilege.USER, 1)
def get_payload_activation_status(request: Request) -> bytes:
    """Get Payload Activation Status (section 24.4): instance capacity, and a bit for each active instance."""
    sol = _sol(request, request.data[0])
    return bytes((INSTANCE, 1 if sol.active else 0, 0))


@registry.add(NetFn.APP, GET_PAYLOAD_INSTANCE_INFO, Privilege.USER, 2)
def get_payload_instance_info(request: Request) -> bytes:
    """Get Payload Instance Info (section 24.5): id of the session that has it (0: none), port not specified."""
    sol = _sol(request, request.data[0], request.data[1])
    holder = sol.holder(request.session)
    return struct.pack("<I8x", 0 if holder is None else holder.id)


@registry.add(NetFn.APP, SET_USER_PAYLOAD_ACCESS, Privilege.ADMINISTRATOR, 6, changes=True)
def set_user_payload_access(request: Request) -> bytes:
    """Set User Payload Access (section 24.6). Of the bits that are set, only SOL's means something."""
    _check_channel(request)
    user_id = request.data[1] & MAX_USER_ID
    operation = request.data[1] & _OPERATION_MASK
    if user_id == 0 or operation > _DISABLE or request.data[2] & ~_SOL_BIT or any(request.data[3:]):
        raise CompletionError(Code.INVALID_FIELD)
    if request.data[2] & _SOL_BIT:
        request.bmc.controller.keep(_user_key(user_id), b"\0" if operation == _DISABLE else None)
    return b""


@registry.add(NetFn.APP, GET_USER_PAYLOAD_ACCESS, Privilege.OPERATOR, 2)
def get_user_payload_access(request: Request) -> bytes:
    """Get User Payload Access (section 24.7)."""
    _check_channel(request)
    user_id = request.data[1] & MAX_USER_ID
    if user_id == 0:
        raise CompletionError(Code.INVALID_FIELD)
    return bytes((_SOL_BIT if _may_use(request, user_id) else 0, 0, 0, 0))


@registry.add(NetFn.APP, GET_CHANNEL_PAYLOAD_SUPPORT, Privilege.USER, 1)
def get_channel_payload_support(request: Request) -> bytes:
    """Get Channel Payload Support (section 24.8): IPMI messages, SOL, and the session set-up types."""
    _check_channel(request)
    return bytes((_IPMI_BIT | _SOL_BIT, 0, _SETUP_BITS, 0, 0, 0, 0, 0))


@registry.add(NetFn.APP, GET_CHANNEL_PAYLOAD_VERSION, Privilege.USER, 2)
def get_channel_payload_version(request: Request) -> bytes:
    """Get Channel Payload Version (section 24.9)."""
    _check_channel(request)
    payload_type = request.data[1]
    if payload_type not in (PayloadType.IPMI, PayloadType.SOL) and payload_type not in _SETUP_TYPES:
        raise CompletionError(TYPE_NOT_AVAILABLE)
    return bytes((_VERSION,))


@registry.add(NetFn.APP, GET_CHANNEL_OEM_PAYLOAD_INFO, Privilege.USER, 7)
def get_channel_oem_payload_info(request: Request) -> bytes:
    """Get Channel OEM Payload Info (section 24.10): there are none."""
    _check_channel(request)
    raise CompletionError(OEM_PAYLOAD_UNKNOWN)


@registry.add(NetFn.APP, SUSPEND_RESUME_ENCRYPTION, Privilege.USER, 3)
def suspend_resume_encryption(request: Request) -> bytes:
    """Suspend/Resume Payload Encryption (section 24.3): what is encrypted stays so."""
    sol = _sol(request, request.data[0], request.data[1])
    operation = request.data[2] & 0x03
    if operation not in {_SUSPEND, _RESUME}:  # a new initialization vector: for stream ciphers only
        raise CompletionError(OPERATION_NOT_SUPPORTED)
    if all(activation.session is not request.session for activation in sol.active):
        raise CompletionError(NOT_ACTIVE)
    if operation == _SUSPEND:
        raise CompletionError(OPERATION_NOT_ALLOWED)
    return b""


def _parameter(octet: int) -> Parameter:
    if octet not in set(Parameter):
        raise CompletionError(PARAMETER_NOT_SUPPORTED)
    return Parameter(octet)


@registry.add(NetFn.TRANSPORT, SET_SOL_PARAMETERS, Privilege.ADMINISTRATOR, (3, 32), changes=True)
def set_sol_parameters(request: Request) -> bytes:
    """Set SOL Configuration Parameters (section 26.2). Channel and port are read only."""
    _check_channel(request)
    sol = request.bmc.controller.sol
    parameter = _parameter(request.data[1])
    value = request.data[2:]
    if parameter in {Parameter.PAYLOAD_CHANNEL, Parameter.PAYLOAD_PORT}:
        raise CompletionError(READ_ONLY)
    if parameter is Parameter.SET_IN_PROGRESS:
        _set_in_progress(sol, value, request.now)
        return b""
    if len(value) != len(sol.parameters.get(parameter)):
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    try:
        sol.parameters.set(parameter, value)
    except ValueError:
        raise CompletionError(Code.INVALID_FIELD) from None
    sol.retime()
    return b""


def _set_in_progress(sol: SolPayload, value: bytes, now: float) -> None:
    """0: set complete; 1: set in progress; 2: commit write, which has nothing to do here."""
    if len(value) != 1:
        raise CompletionError(Code.DATA_LENGTH_INVALID)
    match value[0]:
        case 0:
            sol.parameters.complete()
        case 1:
            if not sol.parameters.begin(now):
                raise CompletionError(SET_IN_PROGRESS)
        case 2:
            pass
        case _:
            raise CompletionError(Code.INVALID_FIELD)


@registry.add(NetFn.TRANSPORT, GET_SOL_PARAMETERS, Privilege.USER, 4)
def get_sol_parameters(request: Request) -> bytes:
    """Get SOL Configuration Parameters (section 26.3). The port is the one that this session's client dials."""
    _check_channel(request)
    parameter = _parameter(request.data[1])
    if request.data[0] & _REVISION_ONLY:
        return bytes((_REVISION,))
    sol = request.bmc.controller.sol
    match parameter:
        case Parameter.SET_IN_PROGRESS:
            value = bytes((sol.parameters.in_progress(request.now),))
        case Parameter.PAYLOAD_CHANNEL:
            value = bytes((request.bmc.lan.channel,))
        case Parameter.PAYLOAD_PORT:
            value = struct.pack("<H", _session(request).listener.public_port)
        case _:
            value = sol.parameters.get(parameter)
    return bytes((_REVISION,)) + value
