"""A small RMCP+ client: enough to ask a gateway who it is, to log in, and to read a power state through it.

It reads, and never switches anything. References are to the IPMI 2.0 specification.
"""

import asyncio
import hmac
import os
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

_RMCP_IPMI = b"\x06\x00\xff\x07"
_ASF_PING = b"\x06\x00\xff\x06" + struct.pack(">IBBBB", 4542, 0x80, 1, 0, 0)
_PONG_TYPE = 0x40
_RMCP_PLUS = 6
_IPMI, _OPEN, _OPENED, _RAKP1, _RAKP2, _RAKP3, _RAKP4 = 0, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
_PROTECTED = 0xC0
_CONSOLE_ID = 0x50594D49
_REMOTE_CONSOLE, BMC = 0x81, 0x20
_NAME_ONLY = 0x10
_NETFN_CHASSIS, _NETFN_APP, _NETFN_STORAGE = 0x00, 0x06, 0x0A
_GET_AUTH, _GET_SUITES, _SEND_MESSAGE, _CLOSE_SESSION, _GET_CHASSIS_STATUS = 0x38, 0x54, 0x34, 0x3C, 0x01
_GET_SEL_TIME = 0x48
_TRACKED = 0x40
_LIST_BY_SUITE = 0x80
_SUITE_START = 0xC0
RETRIES = 3


class RmcpError(Exception):
    """It did not work; the text says why."""


class NoAnswerError(RmcpError):
    """Nothing came back."""


class LoginStep(IntEnum):
    """Where a login ended."""

    OPEN = 1
    USER = 2
    PASSWORD = 3


class LoginRefusedError(RmcpError):
    """The login was refused."""

    def __init__(self, step: LoginStep, status: int) -> None:
        super().__init__(f"{STATUS_WORDS.get(status, f'status {status:#04x}')}")
        self.step = step
        self.status = status


class CompletionError(RmcpError):
    """A command was answered with a completion code that is an error."""

    def __init__(self, code: int, *, on_the_way: bool = False) -> None:
        super().__init__(f"completion code {code:#04x}")
        self.code = code
        self.on_the_way = on_the_way
        """Said by the gateway, in place of the node."""


NO_SUITE, UNAUTHORIZED_ROLE, UNAUTHORIZED_NAME, BAD_CHECK = 0x11, 0x09, 0x0D, 0x0F
STATUS_WORDS = {
    0x01: "no room for another session", UNAUTHORIZED_ROLE: "the account may not have this privilege",
    UNAUTHORIZED_NAME: "no such account", BAD_CHECK: "wrong password or BMC key", NO_SUITE: "no cipher suite in common",
    0x12: "illegal parameter",
}  # fmt: skip
"""RMCP+ status codes (table 13-15) as people say them."""


class Privilege(IntEnum):
    """Privilege levels (section 6.8)."""

    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMINISTRATOR = 4


@dataclass(frozen=True, slots=True)
class Suite:
    """A cipher suite's algorithms (table 22-20)."""

    number: int
    authentication: int
    integrity: int
    digest: str
    check_length: int

    def hmac(self, key: bytes, message: bytes) -> bytes:
        """The keyed hash that all of the suite is made of."""
        return hmac.new(key, message, self.digest).digest()


SUITES = {3: Suite(3, 1, 1, "sha1", 12), 17: Suite(17, 3, 4, "sha256", 16)}


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | OSError] = asyncio.Queue(100)

    def _put(self, item: bytes | OSError) -> None:
        if not self.queue.full():
            self.queue.put_nowait(item)

    def datagram_received(self, data: bytes, _addr: object) -> None:
        self._put(data)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, OSError):
            self._put(exc)


def is_pong(datagram: bytes) -> bool:
    """Whether this is an RMCP presence pong whose sender speaks IPMI (section 13.2.4)."""
    return len(datagram) >= 24 and datagram[3] == 6 and datagram[8] == _PONG_TYPE and bool(datagram[20] & 0x80)


def presence_ping() -> bytes:
    """The datagram that asks whether somebody speaks RMCP here (section 13.2.3)."""
    return _ASF_PING


class RmcpClient:
    """A socket to one server, and at most one session. Made by `open`; `close` it."""

    def __init__(self, transport: asyncio.DatagramTransport, receiver: _Receiver, timeout: float) -> None:
        self._transport = transport
        self._receiver = receiver
        self._timeout = timeout
        self._suite: Suite | None = None
        self._session_id = 0
        self._k1 = self._k2 = b""
        self._sequence = 0
        self._rq = 0

    @classmethod
    async def open(cls, host: str, port: int, *, timeout: float = 1.0) -> Self:
        """A client for `host`. Raises `RmcpError` when the name is not known. `timeout` is for one try of three."""
        loop = asyncio.get_running_loop()
        try:
            transport, receiver = await loop.create_datagram_endpoint(
                _Receiver, remote_addr=(host, port), family=socket.AF_UNSPEC
            )
        except OSError as error:
            raise RmcpError(f"{host}:{port}: {error}") from None
        return cls(transport, receiver, timeout)

    def close(self) -> None:
        """Let go of the socket."""
        self._transport.close()

    # -- outside sessions ------------------------------------------------------------------------------------------

    async def ping(self) -> bool:
        """Whether an RMCP pong comes back. Raises `RmcpError` where the host says that nobody listens."""
        try:
            return is_pong(await self._exchange(_ASF_PING))
        except NoAnswerError:
            return False

    async def cipher_suites(self) -> tuple[int, ...]:
        """Numbers of the suites offered (section 22.15). Raises `RmcpError`."""
        records = b""
        for index in range(64):
            data = await self._ask15(_GET_SUITES, bytes((0x0E, 0, _LIST_BY_SUITE | index)))
            records += data[1:]
            if len(data) < 17:
                break
        return tuple(
            records[place + 1] for place in range(len(records) - 1) if records[place] == _SUITE_START
        )  # an algorithm's octet has never the two top bits set together

    async def speaks_ipmi_2(self) -> bool:
        """Whether it offers IPMI 2.0 sessions (Get Channel Authentication Capabilities, section 22.13)."""
        data = await self._ask15(_GET_AUTH, bytes((0x8E, Privilege.ADMINISTRATOR)))
        return len(data) >= 4 and bool(data[1] & 0x80) and bool(data[3] & 2)

    async def _ask15(self, command: int, data: bytes) -> bytes:
        message = _request(_NETFN_APP, command, data, self._next_rq())
        reply = await self._exchange(_RMCP_IPMI + struct.pack("<BIIB", 0, 0, 0, len(message)) + message)
        return _data(reply[14:], command)

    # -- login (section 13.20 to 13.24) ----------------------------------------------------------------------------

    async def login(self, user: str, password: str, *, privilege: Privilege, suite: int = 17, kg: bytes = b"") -> None:
        """Open a session. Raises `LoginRefusedError` or `RmcpError`."""
        algorithms = SUITES[suite]
        name, secret = user.encode(), password.encode().ljust(20, b"\0")
        blocks = b"".join(
            struct.pack("<BxxBBxxx", kind, 8, number)
            for kind, number in enumerate((algorithms.authentication, algorithms.integrity, 1))
        )
        opened = await self._step(
            _OPEN, _OPENED, struct.pack("<BBxxI", 1, privilege, _CONSOLE_ID) + blocks, LoginStep.OPEN
        )
        session_id: int = struct.unpack_from("<I", opened, 8)[0]
        console_random, role = os.urandom(16), privilege | _NAME_ONLY
        who = bytes((role, len(name))) + name
        second = await self._step(
            _RAKP1,
            _RAKP2,
            struct.pack("<BxxxI16sBxxB", 2, session_id, console_random, role, len(name)) + name,
            LoginStep.USER,
        )
        bmc_random, guid, check = second[8:24], second[24:40], second[40:]
        ids = struct.pack("<II", _CONSOLE_ID, session_id)
        if not hmac.compare_digest(check, algorithms.hmac(secret, ids + console_random + bmc_random + guid + who)):
            raise LoginRefusedError(LoginStep.PASSWORD, BAD_CHECK)
        proof = algorithms.hmac(secret, bmc_random + struct.pack("<I", _CONSOLE_ID) + who)
        await self._step(_RAKP3, _RAKP4, struct.pack("<BBxxI", 3, 0, session_id) + proof, LoginStep.PASSWORD)
        key = algorithms.hmac(kg.ljust(20, b"\0") if kg else secret, console_random + bmc_random + who)
        self._suite, self._session_id, self._sequence = algorithms, session_id, 0
        self._k1, self._k2 = algorithms.hmac(key, b"\1" * 20), algorithms.hmac(key, b"\2" * 20)

    async def _step(self, kind: int, answer: int, payload: bytes, step: LoginStep) -> bytes:
        packet = _RMCP_IPMI + struct.pack("<BBIIH", _RMCP_PLUS, kind, 0, 0, len(payload)) + payload
        reply = await self._exchange(packet, lambda got: len(got) >= 18 and got[4] == _RMCP_PLUS and got[5] == answer)
        if reply[17]:
            raise LoginRefusedError(step, reply[17])
        shortest = {_OPENED: 36, _RAKP2: 60, _RAKP4: 16}[answer]
        if len(reply) - 16 < shortest:
            raise RmcpError("its answer is too short")
        return reply[16:]

    # -- in the session --------------------------------------------------------------------------------------------

    async def chassis_power(self, channel: int, address: int) -> bool:
        """Whether a node behind the gateway is on: Get Chassis Status inside Send Message (sections 28.2, 6.13).

        Raises `CompletionError` and `RmcpError`.
        """
        inner = _request(_NETFN_CHASSIS, _GET_CHASSIS_STATUS, b"", self._next_rq(), address)
        message = _request(_NETFN_APP, _SEND_MESSAGE, bytes((_TRACKED | channel,)) + inner, self._next_rq())
        self._transport.sendto(self._seal(message))
        while True:
            answer = self._unseal(await self._receive(self._timeout * 4))
            if len(answer) < 8:
                continue
            if answer[5] == _SEND_MESSAGE:
                if answer[6]:
                    raise CompletionError(answer[6], on_the_way=True)
                continue
            return bool(_data(answer, _GET_CHASSIS_STATUS)[0] & 1)

    async def log_time(self) -> int:
        """The time of the server's event log, in seconds since 1970: Get SEL Time (section 31.10).

        Raises `CompletionError` and `RmcpError`.
        """
        self._transport.sendto(self._seal(_request(_NETFN_STORAGE, _GET_SEL_TIME, b"", self._next_rq())))
        while True:
            answer = self._unseal(await self._receive(self._timeout * 4))
            if len(answer) >= 8 and answer[5] == _GET_SEL_TIME:
                return int.from_bytes(_data(answer, _GET_SEL_TIME)[:4], "little")

    async def logout(self) -> None:
        """End the session politely; never raises."""
        if self._suite is not None:
            data = struct.pack("<I", self._session_id)
            self._transport.sendto(self._seal(_request(_NETFN_APP, _CLOSE_SESSION, data, self._next_rq())))
            self._suite = None
            await asyncio.sleep(0)

    def _seal(self, message: bytes) -> bytes:
        suite = self._session()
        self._sequence += 1
        pad = -(len(message) + 1) % 16
        vector = os.urandom(16)
        encryptor = Cipher(AES(self._k2[:16]), CBC(vector)).encryptor()
        payload = vector + encryptor.update(message + bytes(range(1, pad + 1)) + bytes((pad,))) + encryptor.finalize()
        kind = _IPMI | _PROTECTED
        covered = struct.pack("<BBIIH", _RMCP_PLUS, kind, self._session_id, self._sequence, len(payload)) + payload
        fill = -(len(covered) + 2) % 4
        covered += b"\xff" * fill + bytes((fill, 7))
        return _RMCP_IPMI + covered + suite.hmac(self._k1, covered)[: suite.check_length]

    def _unseal(self, datagram: bytes) -> bytes:
        """The message in a packet; empty for one that is not of this session."""
        suite = self._session()
        covered, check = datagram[4 : -suite.check_length], datagram[-suite.check_length :]
        if len(covered) < 44 or covered[1] != _PROTECTED:
            return b""
        if not hmac.compare_digest(suite.hmac(self._k1, covered)[: suite.check_length], check):
            return b""
        length: int = struct.unpack_from("<H", covered, 10)[0]
        payload = covered[12 : 12 + length]
        decryptor = Cipher(AES(self._k2[:16]), CBC(payload[:16])).decryptor()
        plain = decryptor.update(payload[16:]) + decryptor.finalize()
        return plain[: len(plain) - plain[-1] - 1]

    def _session(self) -> Suite:
        if self._suite is None:
            raise RmcpError("no session")
        return self._suite

    # -- the socket ------------------------------------------------------------------------------------------------

    async def _exchange(self, datagram: bytes, fits: object = None) -> bytes:
        """Send, again when nothing comes, and return the first answer that fits. Raises `NoAnswerError`."""
        for _ in range(RETRIES):
            self._transport.sendto(datagram)
            try:
                while True:
                    reply = await self._receive(self._timeout)
                    if not callable(fits) or fits(reply):
                        return reply
            except NoAnswerError:
                continue
        raise NoAnswerError("no answer")

    async def _receive(self, timeout: float) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                item = await self._receiver.queue.get()
        except TimeoutError:
            raise NoAnswerError("no answer") from None
        if isinstance(item, OSError):
            raise RmcpError(os.strerror(item.errno) if item.errno else str(item))
        return item

    def _next_rq(self) -> int:
        self._rq = (self._rq + 1) & 0x3F
        return self._rq


def _request(netfn: int, command: int, data: bytes, sequence: int, address: int = BMC) -> bytes:
    """An IPMI request message (section 13.8)."""
    head = bytes((address, netfn << 2))
    body = bytes((_REMOTE_CONSOLE, sequence << 2, command)) + data
    return head + bytes((-sum(head) & 0xFF,)) + body + bytes((-sum(body) & 0xFF,))


def _data(message: bytes, command: int) -> bytes:
    """The data of a response message. Raises `RmcpError` and `CompletionError`."""
    if len(message) < 8 or message[5] != command:
        raise RmcpError("its answer is not one to what was asked")
    if message[6]:
        raise CompletionError(message[6])
    if len(message) < 9:
        raise RmcpError("its answer is too short")
    return message[7:-1]
