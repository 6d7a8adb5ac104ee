"""Cipher suites 3 and 17: their algorithms, and the keyed contexts that one session works with.

Both are made of HMAC for authentication and integrity and AES-CBC-128 for confidentiality (sections 13.28 to 13.29).
The contexts are set up once per session, since setting them up costs far more than using them:

- HMAC: two hash states, fed with the inner and the outer key block, copied for each message.
- AES: one running CBC encryptor and one decryptor. CBC only chains blocks, so a running encryptor fed with 16 random
  octets and the plaintext puts out a fresh, unpredictable IV (the random block, encrypted) and the ciphertext under
  it. A running decryptor fed with IV and ciphertext spoils only the first block that it puts out: the IV's.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from ipmi_gateway.packets import rmcp
from ipmi_gateway.packets.rmcpplus import (
    AUTH_FORMAT,
    AUTHENTICATED,
    ENCRYPTED,
    HEADER,
    INTEGRITY_TRAILERS,
    PAYLOAD_OFFSET,
)

_BLOCK: Final = 16
_HMAC_BLOCK: Final = 64
"""Input block of both SHA-1 and SHA-256."""
_INNER: Final = bytes(octet ^ 0x36 for octet in range(256))
_OUTER: Final = bytes(octet ^ 0x5C for octet in range(256))
_PROTECTED: Final = ENCRYPTED | AUTHENTICATED
_RMCP_HEADER: Final = rmcp.IPMI_HEADER
_AUTH_START: Final = rmcp.HEADER_LENGTH
"""The integrity check covers everything from the "authentication type" octet on."""

_CONFIDENTIALITY_PADS: Final = tuple(bytes(range(1, pad + 1)) + bytes((pad,)) for pad in range(_BLOCK))
"""Pad and pad length, by the length of the pad (section 13.29)."""
_TRAILER: Final = INTEGRITY_TRAILERS[2]
_pack_header: Final = HEADER.pack
KEY_CONSTANT_LENGTH: Final = 20
"""Octets of the constants of section 13.32, as ipmitool, FreeIPMI, pyghmi and most BMCs have them in every suite.

The section's words, "up to the HMAC block size", have led others (python-ipmi) to the digest's length: 32 for SHA-256.
"""


class SuiteId(IntEnum):
    """The cipher suite ids that are served (table 22-20)."""

    SHA1 = 3
    SHA256 = 17


class Authentication(IntEnum):
    """RAKP authentication algorithms (table 13-17)."""

    HMAC_SHA1 = 1
    HMAC_SHA256 = 3


class Integrity(IntEnum):
    """Integrity algorithms (table 13-18)."""

    HMAC_SHA1_96 = 1
    HMAC_SHA256_128 = 4


class Confidentiality(IntEnum):
    """Confidentiality algorithms (table 13-19)."""

    AES_CBC_128 = 1


@dataclass(frozen=True, slots=True)
class Suite:
    """One row of table 22-20."""

    id: SuiteId
    authentication: Authentication
    integrity: Integrity
    confidentiality: Confidentiality
    digest: str
    """The hash that its HMACs use."""
    check_length: int
    """Octets of integrity check value behind each packet, and in RAKP 4."""
    digest_length: int


SUITES: Final = {
    suite.id: suite
    for suite in (
        Suite(
            SuiteId.SHA1, Authentication.HMAC_SHA1, Integrity.HMAC_SHA1_96, Confidentiality.AES_CBC_128, "sha1", 12, 20
        ),
        Suite(
            SuiteId.SHA256,
            Authentication.HMAC_SHA256,
            Integrity.HMAC_SHA256_128,
            Confidentiality.AES_CBC_128,
            "sha256",
            16,
            32,
        ),
    )
}

STANDARD_COMBINATIONS: Final = frozenset(
    {
        (0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 1, 2), (1, 1, 3),
        (2, 0, 0), (2, 2, 0), (2, 2, 1), (2, 2, 2), (2, 2, 3), (2, 3, 0), (2, 3, 1), (2, 3, 2), (2, 3, 3),
        (3, 0, 0), (3, 4, 0), (3, 4, 1), (3, 4, 2), (3, 4, 3),
    }
)  # fmt: skip
"""(authentication, integrity, confidentiality) of the suites 0 to 19, most of which are not served."""


def digest_hmac(suite: Suite, key: bytes, message: bytes) -> bytes:
    """HMAC of the suite's hash, whole."""
    return hmac.digest(key, message, suite.digest)


class SessionCrypto:
    """The keyed contexts of one session. `random16` gives 16 unpredictable octets at each call.

    `constant_length` is the number of octets of the constants that the keys are made from (section 13.32): see
    `KEY_CONSTANT_LENGTH`.
    """

    __slots__ = ("_check_length", "_decrypt", "_encrypt", "_new_inner", "_new_outer", "_random16")

    def __init__(
        self,
        suite: Suite,
        session_integrity_key: bytes,
        random16: Callable[[], bytes],
        constant_length: int = KEY_CONSTANT_LENGTH,
    ) -> None:
        key1 = digest_hmac(suite, session_integrity_key, b"\x01" * constant_length)
        key2 = digest_hmac(suite, session_integrity_key, b"\x02" * constant_length)
        padded = key1.ljust(_HMAC_BLOCK, b"\0")
        new = hashlib.sha1 if suite.id is SuiteId.SHA1 else hashlib.sha256
        self._new_inner = new(padded.translate(_INNER)).copy
        self._new_outer = new(padded.translate(_OUTER)).copy
        cipher = Cipher(AES(key2[:_BLOCK]), CBC(random16()))
        self._encrypt = cipher.encryptor().update
        self._decrypt = cipher.decryptor().update
        self._check_length = suite.check_length
        self._random16 = random16

    def seal(self, payload_type: int, session_id: int, sequence: int, payload: bytes) -> bytes:
        """A whole datagram: encrypted, authenticated."""
        ciphertext = self._encrypt(self._random16() + payload + _CONFIDENTIALITY_PADS[~len(payload) & 15])
        covered = _pack_header(AUTH_FORMAT, payload_type | _PROTECTED, session_id, sequence, len(ciphertext))
        # 12 octets of header, n blocks and 2 octets of trailer: two octets of pad make it a multiple of four.
        covered += ciphertext + _TRAILER
        inner = self._new_inner()
        inner.update(covered)
        outer = self._new_outer()
        outer.update(inner.digest())
        return _RMCP_HEADER + covered + outer.digest()[: self._check_length]

    def unseal(self, datagram: bytes, length: int) -> bytes | None:
        """The payload of a whole datagram whose header says that `length` octets of payload follow; None if wrong."""
        check_at = len(datagram) - self._check_length
        payload_end = PAYLOAD_OFFSET + length
        pad = check_at - payload_end - 2
        # The pad is as short as can be (section 13.6); so a datagram that is cut, or longer, is found here too.
        if pad != (-length - 14) & 3 or length < 2 * _BLOCK or length % _BLOCK:
            return None
        inner = self._new_inner()
        inner.update(datagram[_AUTH_START:check_at])
        outer = self._new_outer()
        outer.update(inner.digest())
        if not compare_digest(outer.digest()[: self._check_length], datagram[check_at:]):
            return None
        if datagram[payload_end:check_at] != INTEGRITY_TRAILERS[pad]:
            return None
        plaintext = self._decrypt(datagram[PAYLOAD_OFFSET:payload_end])
        pad = plaintext[-1]
        if pad >= _BLOCK or not plaintext.endswith(_CONFIDENTIALITY_PADS[pad]):
            return None
        return plaintext[_BLOCK : -pad - 1]
