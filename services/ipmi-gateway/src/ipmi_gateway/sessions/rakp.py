"""The messages that open a session, and what is computed from them (sections 13.17 to 13.24, 13.31, 13.32).

Pure functions and values; the session manager keeps the state. All "session id" fields are little-endian.
"""

import struct
from dataclasses import dataclass
from typing import Final

from ipmi_gateway.codes import Privilege
from ipmi_gateway.packets.rmcpplus import Status
from ipmi_gateway.sessions.suites import (
    STANDARD_COMBINATIONS,
    SUITES,
    Suite,
    SuiteId,
    digest_hmac,
)
from ipmi_gateway.sessions.users import MAX_NAME_LENGTH

_OPEN_REQUEST: Final = struct.Struct("<BB2xI8s8s8s")
_OPEN_RESPONSE: Final = struct.Struct("<BBBxII8s8s8s")
_ERROR: Final = struct.Struct("<BBBxI")
_RAKP_1: Final = struct.Struct("<B3xI16sB2xB")
_RAKP_3: Final = struct.Struct("<BB2xI")
_RAKP_2: Final = struct.Struct("<BB2xI16s16s")
_RAKP_4: Final = struct.Struct("<BB2xI")
_ALGORITHM_BLOCK_LENGTH: Final = 8
_LEVEL_MASK: Final = 0x0F
NAME_ONLY_LOOKUP: Final = 0x10
"""Bit of the role octet: look the user up by name only, not by name and privilege."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Open Session Request (table 13-9)."""

    tag: int
    level: int
    """Maximum privilege asked; 0 for the highest possible."""
    console_id: int
    algorithms: tuple[int, int, int] | None
    """Authentication, integrity, confidentiality; None when these blocks are malformed."""


@dataclass(frozen=True, slots=True)
class Rakp1:
    """RAKP message 1 (table 13-11)."""

    tag: int
    session_id: int
    console_random: bytes
    role: int
    """The octet as it came: level and lookup bit."""
    name: bytes | None
    """None when its length is wrong."""

    @property
    def level(self) -> int:
        """The privilege level asked for."""
        return self.role & _LEVEL_MASK


@dataclass(frozen=True, slots=True)
class Rakp3:
    """RAKP message 3 (table 13-13)."""

    tag: int
    status: int
    session_id: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class Handshake:
    """All values that the key exchange's HMACs are made of."""

    suite: Suite
    console_id: int
    session_id: int
    console_random: bytes
    random: bytes
    """Ours."""
    guid: bytes
    role: int
    name: bytes

    @property
    def _role_and_name(self) -> bytes:
        return bytes((self.role, len(self.name))) + self.name

    def rakp2_check(self, password: bytes) -> bytes:
        """What proves to the client that we know its password (section 13.31)."""
        ids = struct.pack("<II", self.console_id, self.session_id)
        message = ids + self.console_random + self.random + self.guid + self._role_and_name
        return digest_hmac(self.suite, password, message)

    def rakp3_check(self, password: bytes) -> bytes:
        """What RAKP 3 must hold."""
        message = self.random + struct.pack("<I", self.console_id) + self._role_and_name
        return digest_hmac(self.suite, password, message)

    def integrity_key(self, key: bytes) -> bytes:
        """The session integrity key, SIK; `key` is Kg, or the password when there is no Kg."""
        return digest_hmac(self.suite, key, self.console_random + self.random + self._role_and_name)

    def rakp4_check(self, session_integrity_key: bytes) -> bytes:
        """What proves to the client that we have the same SIK."""
        message = self.console_random + struct.pack("<I", self.session_id) + self.guid
        return digest_hmac(self.suite, session_integrity_key, message)[: self.suite.check_length]


def unpack_open_request(payload: bytes) -> OpenRequest | None:
    """Take an Open Session Request apart; None when it is not as long as one."""
    if len(payload) != _OPEN_REQUEST.size:
        return None
    tag, level, console_id, *blocks = _OPEN_REQUEST.unpack(payload)
    well_formed = all(block[0] == kind and block[3] == _ALGORITHM_BLOCK_LENGTH for kind, block in enumerate(blocks))
    algorithms = (blocks[0][4] & 0x3F, blocks[1][4] & 0x3F, blocks[2][4] & 0x3F) if well_formed else None
    return OpenRequest(tag, level & _LEVEL_MASK, console_id, algorithms)


def choose_suite(algorithms: tuple[int, int, int], served: tuple[int, ...]) -> Suite | Status:
    """The suite that these algorithms are, or why it is refused.

    A suite of the specification that is not served is "no cipher suite match", even though one could blame one of its
    algorithms: clients (Ironic) go on to try another suite on that answer only.
    """
    suites = [SUITES[SuiteId(suite_id)] for suite_id in served]
    for suite in suites:
        if algorithms == (suite.authentication, suite.integrity, suite.confidentiality):
            return suite
    if algorithms in STANDARD_COMBINATIONS:
        return Status.NO_SUITE_MATCH
    if algorithms[0] not in {suite.authentication for suite in suites}:
        return Status.INVALID_AUTHENTICATION
    if algorithms[1] not in {suite.integrity for suite in suites}:
        return Status.INVALID_INTEGRITY
    if algorithms[2] not in {suite.confidentiality for suite in suites}:
        return Status.INVALID_CONFIDENTIALITY
    return Status.NO_SUITE_MATCH


def pack_open_response(request: OpenRequest, session_id: int, level: Privilege, suite: Suite) -> bytes:
    """Open Session Response (table 13-10) that grants one. `level` is what "highest" comes out as."""
    blocks = [
        bytes((kind, 0, 0, _ALGORITHM_BLOCK_LENGTH, algorithm, 0, 0, 0))
        for kind, algorithm in enumerate((suite.authentication, suite.integrity, suite.confidentiality))
    ]
    return _OPEN_RESPONSE.pack(request.tag, Status.OK, level, request.console_id, session_id, *blocks)


def pack_error(tag: int, status: Status, console_id: int) -> bytes:
    """The 8 octets by which Open Session Response, RAKP 2 and RAKP 4 refuse."""
    return _ERROR.pack(tag, status, 0, console_id)


def unpack_rakp1(payload: bytes) -> Rakp1 | None:
    """Take a RAKP 1 apart; None when it is too short for one."""
    if len(payload) < _RAKP_1.size:
        return None
    tag, session_id, console_random, role, name_length = _RAKP_1.unpack_from(payload)
    name = payload[_RAKP_1.size :]
    fits = len(name) == name_length <= MAX_NAME_LENGTH
    return Rakp1(tag, session_id, console_random, role, name if fits else None)


def pack_rakp2(tag: int, handshake: Handshake, password: bytes) -> bytes:
    """RAKP message 2 (table 13-12)."""
    head = _RAKP_2.pack(tag, Status.OK, handshake.console_id, handshake.random, handshake.guid)
    return head + handshake.rakp2_check(password)


def unpack_rakp3(payload: bytes) -> Rakp3 | None:
    """Take a RAKP 3 apart; None when it is too short for one."""
    if len(payload) < _RAKP_3.size:
        return None
    tag, status, session_id = _RAKP_3.unpack_from(payload)
    return Rakp3(tag, status, session_id, payload[_RAKP_3.size :])


def pack_rakp4(tag: int, handshake: Handshake, session_integrity_key: bytes) -> bytes:
    """RAKP message 4 (table 13-14)."""
    head = _RAKP_4.pack(tag, Status.OK, handshake.console_id)
    return head + handshake.rakp4_check(session_integrity_key)
