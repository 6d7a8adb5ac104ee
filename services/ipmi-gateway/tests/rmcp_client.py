"""A plain, synchronous RMCP+ client that can build every kind of wrong packet.

It shares no code with the gateway, so that both do not make the same mistake, and it checks all that it receives. It
knows nothing of a particular server: point it at any BMC.

    with RmcpClient.udp("127.0.0.1", 623) as client:
        client.login("admin", "secret", suite=17)
        assert client.request(0x06, 0x01).code == 0
        first, second = client.bridge(0, 0x30, 0x06, 0x01)
"""

import hashlib
import hmac
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Protocol, Self

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

RMCP_IPMI = b"\x06\x00\xff\x07"
RMCP_ASF = b"\x06\x00\xff\x06"
IPMI, SOL, OPEN_REQUEST, OPEN_RESPONSE, RAKP1, RAKP2, RAKP3, RAKP4 = 0, 1, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15
ENCRYPTED, AUTHENTICATED = 0x80, 0x40
HIGHEST, CALLBACK, USER, OPERATOR, ADMINISTRATOR, OEM = range(6)
NAME_ONLY = 0x10
CONSOLE = 0x81
BMC = 0x20


class NoAnswerError(Exception):
    """No answer came."""


class BadPacketError(Exception):
    """An answer was wrong: what exactly stands in the text."""


class RefusedError(Exception):
    """A step of the login was refused."""

    def __init__(self, step: str, status: int) -> None:
        super().__init__(f"{step}: status {status:#04x}")
        self.step = step
        self.status = status


class Transport(Protocol):
    """The way to the server."""

    def send(self, datagram: bytes) -> None: ...

    def receive(self, timeout: float) -> bytes | None: ...

    def close(self) -> None: ...


class UdpTransport:
    """A UDP socket of its own; `source` is the local address to use."""

    def __init__(self, host: str, port: int, source: str | None = None) -> None:
        family, _, _, _, self.server = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        if source is not None:
            self.socket.bind((source, 0))

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.server)

    def receive(self, timeout: float) -> bytes | None:
        self.socket.settimeout(max(timeout, 0.001))
        try:
            return self.socket.recv(65535)
        except (TimeoutError, BlockingIOError):
            return None

    def close(self) -> None:
        self.socket.close()


@dataclass(frozen=True)
class Suite:
    """Algorithm numbers and sizes of a cipher suite."""

    id: int
    authentication: int
    integrity: int
    confidentiality: int
    hash: str
    check_length: int

    def hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, getattr(hashlib, self.hash)).digest()

    @property
    def algorithms(self) -> tuple[int, int, int]:
        return self.authentication, self.integrity, self.confidentiality


SUITES = {3: Suite(3, 1, 1, 1, "sha1", 12), 17: Suite(17, 3, 4, 1, "sha256", 16)}


@dataclass(frozen=True)
class Answer:
    """An IPMI response message."""

    raw: bytes
    rq_address: int
    netfn: int
    rq_lun: int
    rs_address: int
    sequence: int
    rs_lun: int
    command: int
    code: int
    data: bytes


@dataclass(frozen=True)
class Packet:
    """A received RMCP+ packet, checked and decrypted."""

    payload_type: int
    """Without the two flag bits."""
    encrypted: bool
    authenticated: bool
    session_id: int
    sequence: int
    payload: bytes


@dataclass
class Keys:
    """What an open session works with."""

    suite: Suite
    session_id: int
    console_id: int
    sik: bytes
    k1: bytes = field(init=False)
    k2: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.k1 = self.suite.hmac(self.sik, b"\x01" * 20)
        self.k2 = self.suite.hmac(self.sik, b"\x02" * 20)


def checksum(octets: bytes) -> int:
    return -sum(octets) & 0xFF


def message(
    netfn: int,
    command: int,
    data: bytes = b"",
    *,
    rs_address: int = BMC,
    rs_lun: int = 0,
    rq_address: int = CONSOLE,
    rq_lun: int = 0,
    sequence: int = 0,
    bad_first: bool = False,
    bad_second: bool = False,
) -> bytes:
    """An IPMI request message; `bad_*` spoil its checksums."""
    head = bytes((rs_address, netfn << 2 | rs_lun))
    body = bytes((rq_address, sequence << 2 | rq_lun, command)) + data
    return head + bytes((checksum(head) ^ (0x55 * bad_first),)) + body + bytes((checksum(body) ^ (0x55 * bad_second),))


def parse_answer(raw: bytes) -> Answer:
    """Take a response message apart; raises BadPacketError when it is not a right one."""
    if len(raw) < 8:
        raise BadPacketError(f"response message of {len(raw)} octets")
    if sum(raw[:3]) & 0xFF or sum(raw[3:]) & 0xFF:
        raise BadPacketError(f"wrong checksum in {raw.hex()}")
    return Answer(raw, raw[0], raw[1] >> 2, raw[1] & 3, raw[3], raw[4] >> 2, raw[4] & 3, raw[5], raw[6], raw[7:-1])


def confidentiality_pad(length: int) -> bytes:
    pad = -(length + 1) % 16
    return bytes(range(1, pad + 1)) + bytes((pad,))


class RmcpClient:
    """One client: a transport, and at most one session at a time on it."""

    def __init__(self, transport: Transport, *, timeout: float = 2.0, retries: int = 2) -> None:
        self.transport = transport
        self.timeout = timeout
        self.retries = retries
        self.keys: Keys | None = None
        self.out_sequence = 0
        self.rq_sequence = 0
        self.tag = 0
        self.seen: list[int] = []
        """Session sequence numbers received, in their order."""
        self.sol: list[bytes] = []
        """SOL payloads that came while something else was waited for."""
        self.granted = 0
        self.guid = b""

    @classmethod
    def udp(cls, host: str, port: int, *, source: str | None = None, timeout: float = 2.0, retries: int = 2) -> Self:
        return cls(UdpTransport(host, port, source), timeout=timeout, retries=retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()

    # --- raw ---

    def send(self, datagram: bytes) -> None:
        self.transport.send(datagram)

    def receive_raw(self, timeout: float | None = None) -> bytes | None:
        return self.transport.receive(self.timeout if timeout is None else timeout)

    def drain(self, timeout: float = 0.05) -> list[bytes]:
        """All that comes until it is quiet for `timeout` seconds."""
        packets = []
        while (packet := self.receive_raw(timeout)) is not None:
            packets.append(packet)
        return packets

    def exchange(self, datagram: bytes, timeout: float | None = None) -> bytes | None:
        self.send(datagram)
        return self.receive_raw(timeout)

    def silent(self, datagram: bytes, timeout: float = 0.25) -> bool:
        """Whether a datagram stays without any answer."""
        return self.exchange(datagram, timeout) is None

    # --- outside sessions ---

    def ping(self, tag: int = 1, sequence: int = 0xFF, data: bytes = b"") -> bytes | None:
        header = bytes((6, 0, sequence, 6))
        return self.exchange(header + struct.pack(">IBBBB", 4542, 0x80, tag, 0, len(data)) + data)

    def lan15(self, payload: bytes, *, auth_type: int = 0, sequence: int = 0, session_id: int = 0) -> bytes:
        """A 1.5 packet around a message."""
        return RMCP_IPMI + struct.pack("<BIIB", auth_type, sequence, session_id, len(payload)) + payload

    def rmcpplus(
        self, payload_type: int, payload: bytes, *, session_id: int = 0, sequence: int = 0, length: int | None = None
    ) -> bytes:
        """An RMCP+ packet without trailer; `length` lies about the payload's."""
        size = len(payload) if length is None else length
        return RMCP_IPMI + struct.pack("<BBIIH", 6, payload_type, session_id, sequence, size) + payload

    def ask15(self, netfn: int, command: int, data: bytes = b"") -> Answer:
        """A request in a 1.5 packet outside any session."""
        reply = self._retry(self.lan15(message(netfn, command, data, sequence=self._next_rq())))
        auth_type, sequence, session_id, length = struct.unpack_from("<BIIB", reply, 4)
        if reply[:4] != RMCP_IPMI or (auth_type, sequence, session_id) != (0, 0, 0) or length != len(reply) - 14:
            raise BadPacketError(f"1.5 header of {reply.hex()}")
        return parse_answer(reply[14:])

    def ask20(self, netfn: int, command: int, data: bytes = b"") -> Answer:
        """A request in an RMCP+ packet outside any session."""
        return parse_answer(self._sessionless(IPMI, IPMI, message(netfn, command, data, sequence=self._next_rq())))

    def _sessionless(self, payload_type: int, expected: int, payload: bytes) -> bytes:
        return self.parse_sessionless(self._retry(self.rmcpplus(payload_type, payload)), expected)

    @staticmethod
    def parse_sessionless(reply: bytes, expected: int) -> bytes:
        if len(reply) < 16 or reply[:4] != RMCP_IPMI:
            raise BadPacketError(f"RMCP header of {reply.hex()}")
        auth_type, kind, session_id, sequence, length = struct.unpack_from("<BBIIH", reply, 4)
        if (auth_type, kind, session_id, sequence, length) != (6, expected, 0, 0, len(reply) - 16):
            raise BadPacketError(f"session header of {reply.hex()}")
        return reply[16:]

    def _retry(self, datagram: bytes) -> bytes:
        for _ in range(self.retries):
            reply = self.exchange(datagram)
            if reply is not None:
                return reply
        raise NoAnswerError

    # --- login, step by step ---

    def open_request(
        self,
        algorithms: tuple[int, int, int],
        *,
        level: int = HIGHEST,
        console_id: int = 0xA0A2A3A4,
        block_length: int = 8,
    ) -> bytes:
        blocks = b"".join(
            struct.pack("<BxxBBxxx", kind, block_length, algorithm) for kind, algorithm in enumerate(algorithms)
        )
        return struct.pack("<BBxxI", self._next_tag(), level, console_id) + blocks

    def open(self, algorithms: tuple[int, int, int], *, level: int = HIGHEST, console_id: int = 0xA0A2A3A4) -> int:
        """Open Session; returns the server's session id. Raises RefusedError."""
        request = self.open_request(algorithms, level=level, console_id=console_id)
        reply = self._sessionless(OPEN_REQUEST, OPEN_RESPONSE, request)
        self._check_refusal("open", reply, request[0], console_id)
        if len(reply) != 36:
            raise BadPacketError(f"Open Session Response of {len(reply)} octets")
        self.granted = reply[2]
        session_id: int = struct.unpack_from("<I", reply, 8)[0]
        expected = b"".join(struct.pack("<BxxBBxxx", kind, 8, algorithm) for kind, algorithm in enumerate(algorithms))
        if reply[12:] != expected or session_id == 0:
            raise BadPacketError(f"Open Session Response {reply.hex()}")
        return session_id

    def rakp1_payload(
        self, session_id: int, console_random: bytes, role: int, name: bytes, name_length: int | None = None
    ) -> bytes:
        size = len(name) if name_length is None else name_length
        return struct.pack("<BxxxI16sBxxB", self._next_tag(), session_id, console_random, role, size) + name

    def rakp3_payload(self, session_id: int, proof: bytes, status: int = 0) -> bytes:
        return struct.pack("<BBxxI", self._next_tag(), status, session_id) + proof

    def login(
        self,
        user: str | bytes,
        password: str | bytes,
        *,
        suite: int = 17,
        level: int = HIGHEST,
        role: int = ADMINISTRATOR | NAME_ONLY,
        kg: bytes = b"",
        console_id: int = 0xA0A2A3A4,
        repeat: bool = False,
    ) -> Self:
        """Open a session; `repeat` sends RAKP 1 and 3 twice, as after a lost answer. Raises RefusedError."""
        name = user.encode() if isinstance(user, str) else user
        secret = (password.encode() if isinstance(password, str) else password).ljust(20, b"\0")
        algorithms = SUITES[suite]
        session_id = self.open(algorithms.algorithms, level=level, console_id=console_id)
        console_random = os.urandom(16)
        first = self.rakp1_payload(session_id, console_random, role, name)
        reply = self._sessionless(RAKP1, RAKP2, first)
        self._check_refusal("rakp2", reply, first[0], console_id)
        if repeat and self._sessionless(RAKP1, RAKP2, first) != reply:
            raise BadPacketError("a repeated RAKP 1 has another answer")
        random, guid, check = reply[8:24], reply[24:40], reply[40:]
        self.guid = guid
        who = bytes((role, len(name))) + name
        ids = struct.pack("<II", console_id, session_id)
        if check != algorithms.hmac(secret, ids + console_random + random + guid + who):
            raise RefusedError("rakp2 check", 0)
        proof = algorithms.hmac(secret, random + struct.pack("<I", console_id) + who)
        third = self.rakp3_payload(session_id, proof)
        reply = self._sessionless(RAKP3, RAKP4, third)
        self._check_refusal("rakp4", reply, third[0], console_id)
        if repeat and self._sessionless(RAKP3, RAKP4, third) != reply:
            raise BadPacketError("a repeated RAKP 3 has another answer")
        sik = algorithms.hmac(kg.ljust(20, b"\0") if kg else secret, console_random + random + who)
        expected = algorithms.hmac(sik, console_random + struct.pack("<I", session_id) + guid)
        if reply[8:] != expected[: algorithms.check_length]:
            raise RefusedError("rakp4 check", 0)
        self.keys = Keys(algorithms, session_id, console_id, sik)
        self.out_sequence = 0
        self.seen = []
        return self

    def bad_login(self, user: str, *, suite: int = 17, role: int = ADMINISTRATOR | NAME_ONLY) -> int:
        """Log in with a wrong password, which we do not even know the check of; returns RAKP 4's status."""
        session_id = self.open(SUITES[suite].algorithms)
        first = self.rakp1_payload(session_id, os.urandom(16), role, user.encode())
        reply = self._sessionless(RAKP1, RAKP2, first)
        if reply[1]:
            return reply[1]
        proof = os.urandom(hashlib.new(SUITES[suite].hash).digest_size)
        return self._sessionless(RAKP3, RAKP4, self.rakp3_payload(session_id, proof))[1]

    @staticmethod
    def _check_refusal(step: str, reply: bytes, tag: int, console_id: int) -> None:
        if reply[0] != tag:
            raise BadPacketError(f"{step}: message tag {reply[0]}, expected {tag}")
        if reply[1]:
            if len(reply) != 8 or struct.unpack_from("<I", reply, 4)[0] not in {console_id, 0}:
                raise BadPacketError(f"{step}: error form {reply.hex()}")
            raise RefusedError(step, reply[1])
        if struct.unpack_from("<I", reply, 4)[0] != console_id:
            raise BadPacketError(f"{step}: console session id of {reply.hex()}")

    # --- in a session ---

    def seal(
        self,
        payload_type: int,
        payload: bytes,
        *,
        sequence: int | None = None,
        encrypt: bool = True,
        authenticate: bool = True,
        flags: int | None = None,
        pad: bytes | None = None,
        trailer: bytes | None = None,
        check: bytes | None = None,
        session_id: int | None = None,
        length: int | None = None,
    ) -> bytes:
        """A packet of this session. Without options it is right; each option spoils one thing.

        `pad`: the confidentiality pad with its length; `trailer`: integrity pad, its length and next header; `check`:
        the integrity check value; `flags`: the two bits of the payload type; `length`: what the header says.
        """
        keys = self.keys
        assert keys is not None, "no session"
        if sequence is None:
            sequence = self.out_sequence = self.out_sequence + 1
        if encrypt:
            iv = os.urandom(16)
            encryptor = Cipher(AES(keys.k2[:16]), CBC(iv)).encryptor()
            padded = payload + (confidentiality_pad(len(payload)) if pad is None else pad)
            payload = iv + encryptor.update(padded) + encryptor.finalize()
        if flags is None:
            flags = ENCRYPTED * encrypt | AUTHENTICATED * authenticate
        covered = struct.pack(
            "<BBIIH",
            6,
            payload_type | flags,
            keys.session_id if session_id is None else session_id,
            sequence,
            len(payload) if length is None else length,
        )
        covered += payload
        if not authenticate:
            return RMCP_IPMI + covered
        if trailer is None:
            fill = -(len(covered) + 2) % 4
            trailer = b"\xff" * fill + bytes((fill, 7))
        covered += trailer
        if check is None:
            check = keys.suite.hmac(keys.k1, covered)[: keys.suite.check_length]
        return RMCP_IPMI + covered + check

    def unseal(self, datagram: bytes) -> Packet:
        """Check and decrypt a packet of this session; raises BadPacketError."""
        keys = self.keys
        assert keys is not None, "no session"
        if len(datagram) < 16 or datagram[:4] != RMCP_IPMI:
            raise BadPacketError(f"RMCP header of {datagram.hex()}")
        auth_type, kind, session_id, sequence, length = struct.unpack_from("<BBIIH", datagram, 4)
        if auth_type != 6 or session_id != keys.console_id or sequence == 0:
            raise BadPacketError(f"session header of {datagram.hex()}")
        payload, rest = datagram[16 : 16 + length], datagram[16 + length :]
        if kind & AUTHENTICATED:
            check = rest[-keys.suite.check_length :]
            if keys.suite.hmac(keys.k1, datagram[4 : -len(check)])[: keys.suite.check_length] != check:
                raise BadPacketError("integrity check value")
            trailer = rest[: -len(check)]
            fill = trailer[-2]
            if trailer != b"\xff" * fill + bytes((fill, 7)) or (12 + length + len(trailer)) % 4:
                raise BadPacketError(f"trailer {trailer.hex()}")
        elif rest:
            raise BadPacketError(f"{len(rest)} octets behind the payload")
        if kind & ENCRYPTED:
            decryptor = Cipher(AES(keys.k2[:16]), CBC(payload[:16])).decryptor()
            plain = decryptor.update(payload[16:]) + decryptor.finalize()
            size = len(plain) - plain[-1] - 1
            if plain[size:] != confidentiality_pad(size):
                raise BadPacketError("confidentiality pad")
            payload = plain[:size]
        if sequence in self.seen:
            raise BadPacketError(f"session sequence number {sequence} came twice")
        self.seen.append(sequence)
        return Packet(kind & 0x3F, bool(kind & ENCRYPTED), bool(kind & AUTHENTICATED), session_id, sequence, payload)

    def receive(self, timeout: float | None = None) -> Packet | None:
        """The next packet of this session, or None when none comes."""
        datagram = self.receive_raw(timeout)
        return None if datagram is None else self.unseal(datagram)

    def receive_answer(self, timeout: float | None = None) -> Answer | None:
        """The next IPMI message; SOL payloads that come before it are put into `sol`."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            packet = self.receive(max(deadline - time.monotonic(), 0))
            if packet is None:
                return None
            if packet.payload_type == IPMI:
                if not (packet.encrypted and packet.authenticated):
                    raise BadPacketError("an answer without protection")
                return parse_answer(packet.payload)
            self.sol.append(packet.payload)

    def ask(self, raw: bytes, timeout: float | None = None) -> Answer | None:
        """Send a message in the session, once; its answer, if one comes."""
        self.send(self.seal(IPMI, raw))
        return self.receive_answer(timeout)

    def request(self, netfn: int, command: int, data: bytes = b"", *, rs_lun: int = 0, rq_lun: int = 0) -> Answer:
        """A request to the server itself, sent again when no answer comes. Raises NoAnswerError."""
        sequence = self._next_rq()
        raw = message(netfn, command, data, sequence=sequence, rs_lun=rs_lun, rq_lun=rq_lun)
        for _ in range(self.retries):
            self.send(self.seal(IPMI, raw))
            while (answer := self.receive_answer()) is not None:
                if answer.sequence == sequence and answer.command == command:
                    if (answer.netfn, answer.rq_address, answer.rs_address) != (netfn | 1, CONSOLE, BMC):
                        raise BadPacketError(f"addresses of {answer}")
                    return answer
        raise NoAnswerError

    def bridge(
        self,
        channel: int,
        target: int,
        netfn: int,
        command: int,
        data: bytes = b"",
        *,
        rq_address: int = CONSOLE,
        transit: tuple[int, int] | None = None,
    ) -> list[Answer]:
        """A bridged request; `transit` is (channel, address) on the way. All answers, in their order.

        Raises NoAnswerError when the last one, or a refusal on the way, does not come.
        """
        sequence = self._next_rq()
        raw = message(netfn, command, data, rs_address=target, rq_address=rq_address, sequence=sequence)
        raw_channel = channel
        expected = 2
        if transit is not None:
            raw = message(
                6, 0x34, bytes((0x40 | raw_channel,)) + raw, rs_address=transit[1], rq_address=BMC, sequence=sequence
            )
            raw_channel = transit[0]
            expected = 3
        raw = message(6, 0x34, bytes((0x40 | raw_channel,)) + raw, sequence=sequence)
        self.send(self.seal(IPMI, raw))
        answers: list[Answer] = []
        while len(answers) < expected:
            answer = self.receive_answer()
            if answer is None:
                raise NoAnswerError
            answers.append(answer)
            if answer.code and answer.command == 0x34:
                break
        return answers

    def set_privilege(self, level: int) -> Answer:
        return self.request(6, 0x3B, bytes((level,)))

    def close_session(self) -> Answer:
        assert self.keys is not None, "no session"
        return self.request(6, 0x3C, struct.pack("<I", self.keys.session_id))

    def _next_rq(self) -> int:
        self.rq_sequence = (self.rq_sequence + 1) & 0x3F
        return self.rq_sequence

    def _next_tag(self) -> int:
        self.tag = (self.tag + 1) & 0xFF
        return self.tag
