"""One function for each parser: it takes any octets, and raises what is a fault and nothing else.

Where a checksum, a key or an id would keep the fuzzer outside, the function puts the right one in: what an attacker can
compute, the fuzzer need not guess.
"""

import os
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from esp8266_agent import pins, protocol
from esp8266_agent.packets import decode_packet, encode_packet, packet_ends
from esp8266_agent.protocol import ReplyError
from ipmi_gateway.packets import ipmb
from ipmi_gateway.sol.endpoint import Endpoint, Timing
from pypmi.agent.intake import judge
from pypmi.bus import Message
from pypmi.bus.packets import (
    MalformedPacketError,
    PacketReader,
    UnreadableMessageError,
    pack_publish,
    unpack_puback,
    unpack_publish,
    with_packet_id,
)
from pypmi.config.document import ConfigError
from pypmi.config.load import parse_fleet
from pypmi.console.assembly import Chunk, StreamAssembler
from pypmi.contract import (
    BootIntent,
    BootRequest,
    ConsoleAck,
    ConsoleReplay,
    ConsoleRequest,
    ConsoleState,
    ContractError,
    Event,
    IdentifyRequest,
    NodeInfo,
    NodeState,
    PowerResult,
    ServiceInfo,
    SolPosition,
    Topic,
    Topics,
    parse_power_command,
)
from pypmi.contract.service import ServiceStats
from pypmi.view.node import NodeView
from sol_relay.links import LinkError, PortTarget
from sol_relay.links.telnet import TelnetComPort

from fuzz.gateway import ADDRESSES, FaultError, Rig, lan15, pieces, unsigned

_MAX_ANSWER: Final = 400
"""Octets of a datagram in a session."""
_SECRET: Final = "hunter2-of-the-fuzzer"
"""A password in fleet.yaml: what is said of mistakes must not show it."""
_IS_SECRET: Final = re.compile(r"[{,\n] *password:[ \[{]{0,3}" + _SECRET)


# -- octets from the network ---------------------------------------------------------------------------------------


def rmcp(data: bytes) -> None:
    """Datagrams outside sessions: as they are, and IPMI messages with right checksums in both kinds of packets."""
    rig = Rig()
    for kind, octets in pieces(data):
        match kind % 4:
            case 0:
                rig.stranger(octets)
            case 1:
                rig.stranger(lan15(_message(octets)))
            case 2:
                rig.stranger(_rmcpplus(0, _message(octets)))
            case _:
                rig.stranger(b"\x06\x00\xff" + octets)


def _message(octets: bytes) -> bytes:
    """A message from `rsAddr, netFn/LUN, rqAddr, rqSeq/LUN, cmd, data...`, with its checksums."""
    head, body = octets[:2], octets[2:]
    return head + bytes((ipmb.checksum(head),)) + body + bytes((ipmb.checksum(body),))


def _rmcpplus(payload_type: int, payload: bytes) -> bytes:
    return b"\x06\x00\xff\x07" + struct.pack("<BBIIH", 6, payload_type & 0xFF, 0, 0, len(payload)) + payload


def handshake(data: bytes) -> None:
    """Open Session, RAKP 1 and RAKP 3 in any order and state, with the session ids that were given out."""
    rig = Rig()
    ids = [0]
    for kind, octets in pieces(data):
        match kind % 8:
            case 0 | 1:  # a right Open Session Request, or with these octets at its end
                request = _open_request(kind >> 3 & 1, octets)
                granted = [answer for answer in rig.stranger(_rmcpplus(0x10, request)) if len(answer) == 16 + 36]
                ids += [unsigned(answer[16 + 8 : 16 + 12]) for answer in granted]
            case 2:
                rig.stranger(_rmcpplus(0x10, octets))
            case 3:  # a name that exists
                who = os.urandom(16) + bytes((octets[0] if octets else 0x14, 0, 0, 5)) + b"admin"
                rig.stranger(_rmcpplus(0x12, struct.pack("<B3xI", kind, ids[-1]) + who))
            case 4:
                rig.stranger(_rmcpplus(0x12, octets[:4].ljust(4, b"\0") + struct.pack("<I", ids[-1]) + octets[4:]))
            case 5:
                rig.stranger(_rmcpplus(0x14, octets[:4].ljust(4, b"\0") + struct.pack("<I", ids[-1]) + octets[4:]))
            case 6:
                ids = ids[-1:] + ids[:-1]
            case _:
                rig.advance(unsigned(octets[:2]) / 100)
    if len(rig.engine.manager.sessions):
        raise FaultError("a session without a proof")


def _open_request(suite: int, octets: bytes) -> bytes:
    """An Open Session Request for one of the suites served."""
    authentication, integrity, confidentiality = (3, 4, 1) if suite else (1, 1, 1)
    blocks = [(0, authentication), (1, integrity), (2, confidentiality)]
    body = b"".join(struct.pack("<BxxBBxxx", kind, 8, algorithm) for kind, algorithm in blocks)
    request = struct.pack("<BBxxI", 7, 0, 0xA0A2A3A4) + body
    return request[: len(request) - len(octets)] + octets if len(octets) < len(request) else octets


def session(data: bytes) -> None:
    """What somebody with the keys can send: every command with any data, to the gateway and bridged; other payloads."""
    rig = Rig()
    client = rig.client(*(("viewer", "fuzzing-viewer") if data[:1] == b"v" else ()), suite=3)
    rig.deliver(client.seal(0, _message(b"\x20\x18\x81\x04\x3b\x04")))
    datagram = b""
    for kind, octets in pieces(data[1:]):
        match kind % 8:
            case 0 | 1:
                datagram = client.seal(0, _message(b"\x20" + octets))
            case 2:
                datagram = client.seal(0, octets)
            case 3:
                datagram = client.seal(octets[0] & 0x3F if octets else 1, octets[1:])
            case 4:  # the last one again, or spoiled
                place = unsigned(octets[:1])
                datagram = datagram[:place] + octets[1:] + datagram[place + len(octets[1:]) :]
            case 5:  # from further on, or from before
                number = max(client.out_sequence + int.from_bytes(octets[:1], "big", signed=True), 0)
                datagram = client.seal(0, _message(b"\x20" + octets[1:]), sequence=number)
            case _:
                rig.advance(unsigned(octets[:2]) / 100)
                continue
        if any(len(answer) > _MAX_ANSWER for answer in rig.deliver(datagram)):
            raise FaultError("an answer that is too long")
    if rig.engine.manager.sessions:
        client.out_sequence = next(iter(rig.engine.manager))._highest
        if rig.deliver(client.seal(0, _message(b"\x20\x18\x81\x00\x01"))) == []:
            raise FaultError("the session does not answer any more")


def bridging(data: bytes) -> None:
    """Send Message with whatever inside it: to a machine, to nobody, in two layers; spoiled ones too."""
    rig = Rig()
    client = rig.client(suite=3)
    rig.deliver(client.seal(0, _message(b"\x20\x18\x81\x04\x3b\x04")))
    for number, (kind, octets) in enumerate(pieces(data)):
        sequence = bytes((number % 64 << 2,))
        target = bytes((ADDRESSES[kind >> 2 & 1],))
        match kind % 4:
            case 0:
                inner = _message(target + octets[:1] + b"\x81" + sequence + octets[1:])
            case 1:
                inner = octets
            case 2:
                innermost = _message(target + octets)
                inner = _message(target + b"\x18\x20" + sequence + b"\x34\x40" + innermost)
            case _:
                inner = _message(octets)
        answers = rig.deliver(client.seal(0, _message(b"\x20\x18\x81" + sequence + b"\x34\x40" + inner)))
        if not answers:
            raise FaultError("a bridged request without an answer")


def sol(data: bytes) -> None:
    """The console's payload: on an endpoint alone, and in a session through which it was activated."""
    sent: list[bytes] = []
    taken: list[int] = []
    endpoint = Endpoint(sent.append, _Keyboard(taken), timing=Timing(), buffer_size=1000)
    rig = Rig()
    client = rig.client(suite=3)
    activate = _message(b"\x30\x18\x81\x08\x48\x01\x01\xc0\0\0\0")
    for words in (b"\x20\x18\x81\x04\x3b\x04", b"\x20\x18\x81\x08\x34\x40" + activate):
        rig.deliver(client.seal(0, _message(words)))
    now = 0.0
    for kind, octets in pieces(data):
        match kind % 4:
            case 0:
                endpoint.receive(octets, now)
                rig.deliver(client.seal(1, octets))
            case 1:
                endpoint.output(octets * 8, now)
            case 2:
                taken.append(unsigned(octets[:1]))
                endpoint.console_ready(now)
            case _:
                now += unsigned(octets[:2]) / 1000
                rig.advance(unsigned(octets[:2]) / 1000)
        if endpoint.next_timer is not None and now >= endpoint.next_timer:
            endpoint.handle_timer(now)
        if endpoint.waiting > 1000 + 255 or len(sent) > 100_000:
            raise FaultError("the console's buffer grows without a limit")
        if any(len(payload) > 255 + 4 for payload in sent[-3:]):
            raise FaultError("a payload that is too long")
    endpoint.finish(b"over")


class _Keyboard:
    """Takes as many octets as `room` says, one entry at a time; all when there is none."""

    def __init__(self, room: list[int]) -> None:
        self._room = room

    def write(self, data: bytes) -> int:
        return min(self._room.pop(0), len(data)) if self._room else len(data)

    def send_break(self) -> None:
        pass


# -- what boards and consoles answer -------------------------------------------------------------------------------

_REQUESTS: Final = (
    protocol.HAS_UART_STATISTICS,
    protocol.HAS_FLASH_STATISTICS,
    protocol.IDENTIFICATION,
    protocol.set_identification("x"),
    protocol.STATISTICS,
    protocol.UPTIME,
    protocol.SIGNAL,
    protocol.RESET,
    protocol.STORE,
    protocol.delete_stored("x"),
    protocol.store("x", 1),
    protocol.FLAGS,
    protocol.clear_flag("x"),
    protocol.BRIDGE_PORT.ask(),
    protocol.BAUD.put("115200"),
    protocol.PARITY.ask(),
    pins.show_pin(4),
    pins.set_mode(4, "dinput"),
    pins.read_pin(4, "digital input"),
    pins.write_output(4, value=True),
    pins.trigger(4, "on"),
)


def board(data: bytes) -> None:
    """Replies of the relay board's firmware, to every request, in text and in packets, as they come piece by piece."""
    if not data:
        return
    request, reply = _REQUESTS[data[0] % len(_REQUESTS)], data[1:]
    for end in (1, len(reply) // 2, len(reply)):
        if request.ends is not None:
            request.ends(reply[:end])
        packet_ends(reply[:end])
    try:
        request.read(reply)
    except ReplyError as error:
        if len(str(error)) > 1000:
            raise FaultError("the reason is longer than a person reads") from error
    with suppress(ReplyError):
        decode_packet(reply, unsigned(reply[24:28]))
    with suppress(ValueError):
        encode_packet(reply.decode("latin-1"), unsigned(reply[:4]))


def rfc2217(data: bytes) -> None:
    """A telnet server with com port control."""
    link = TelnetComPort(PortTarget("rfc2217", "127.0.0.1", 1))
    try:
        for kind, octets in pieces(data):
            link.receive(octets)
            link.outgoing.clear()
            link.escape(octets)
            if kind & 1:
                link.receive(b"\xff\xfa\x2c" + octets + b"\xff\xf0")
    except LinkError:
        return
    if len(link.complaints) > 100:
        raise FaultError("complaints without a limit")


# -- MQTT and configuration ----------------------------------------------------------------------------------------

_TOPICS: Final = Topics("site")
_PAYLOADS: Final = (
    NodeState.from_payload,
    NodeInfo.from_payload,
    PowerResult.from_payload,
    BootIntent.from_payload,
    Event.from_payload,
    ServiceInfo.from_payload,
    ServiceStats.from_payload,
    ConsoleState.from_payload,
    ConsoleRequest.from_payload,
    ConsoleReplay.from_payload,
    ConsoleAck.from_payload,
    BootRequest.parse,
    IdentifyRequest.parse,
    parse_power_command,
)


def mqtt(data: bytes) -> None:
    """Payloads of every topic, and topics; a payload that is taken can be said again, and means the same."""
    if not data:
        return
    kind, payload = data[0], data[1:]
    parse: Callable[[bytes], object] = _PAYLOADS[kind % len(_PAYLOADS)]
    try:
        value = parse(payload)
    except ContractError as error:
        if len(str(error)) > 4096:
            raise FaultError("the reason is longer than a person reads") from error
    else:
        again = parse(value.to_payload())  # type: ignore[attr-defined]
        if again != value:
            raise FaultError(f"{value!r} became {again!r}")
    topic = payload.decode("utf-8", "replace")
    for prefix in ("", "site/"):
        try:
            _same_topic(_TOPICS.parse(prefix + topic), prefix + topic)
        except ContractError:
            continue
    _command(payload, retain=bool(kind & 0x80), topic=topic)
    view = NodeView("n1", {})
    for put in (view.put_state, view.put_info, view.put_boot, view.put_console, view.put_availability):
        put(payload)
    view.put_sensor("k", payload)
    _ = view.state, view.info, view.boot, view.console, view.available


def _same_topic(parsed: Topic, text: str) -> None:
    if parsed.key:
        made = _TOPICS.sensor(parsed.name, parsed.key)
    elif text.startswith("site/nodes/"):
        made = _TOPICS.node(parsed.name, parsed.kind)
    else:
        made = _TOPICS.service(parsed.name, parsed.kind)
    if made != text:
        raise FaultError(f"{text!r} was read as {made!r}")


def _command(payload: bytes, *, retain: bool, topic: str) -> None:
    """As an agent judges it. A retained one must never come out as a request."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    message = Message("site/nodes/n1/power/set", payload, retain, 0, topic, payload[:2000])
    judged = judge(message, _TOPICS, now, 100.0)
    if retain and judged is not None and hasattr(judged, "deadline"):
        raise FaultError("a retained command was taken")
    reply = getattr(judged, "reply_to", None)
    if reply is not None and not reply.startswith("site/services/"):
        raise FaultError(f"answers would go to {reply}")


def wire(data: bytes) -> None:
    """What a connection to the broker brings, in one piece and in two: the same packets come out."""
    v5, cut = bool(data[:1] and data[0] & 1), data[0] >> 1 if data else 0
    packets, broken = _cut([data[1:]])
    if (packets, broken) != _cut([data[1:][:cut], data[1:][cut:]]):
        raise FaultError("other packets when they come in two pieces")
    for first, _, body in packets:
        with suppress(MalformedPacketError):
            unpack_puback(body)
        with suppress(MalformedPacketError, UnreadableMessageError):
            message, number = unpack_publish(first, body, v5=v5)
            if bool(number) is not bool(message.qos):
                raise FaultError(f"packet identifier {number} at QoS {message.qos}")
            _same_message(message, number, v5=v5)


def _same_message(message: Message, number: int, *, v5: bool) -> None:
    """What was read can be said again, and is read as the same."""
    with suppress(ValueError):  # a topic to which nobody may publish
        packet = pack_publish(
            message.topic, message.payload, qos=message.qos, retain=message.retain, v5=v5,
            response_topic=message.response_topic, correlation=message.correlation, properties=message.properties,
        )  # fmt: skip
        ((first, _, body),) = PacketReader().feed(with_packet_id(packet, number) if number else packet)
        again, _ = unpack_publish(first, body, v5=v5)
        if again != replace(message, response_topic=again.response_topic, correlation=again.correlation):
            raise FaultError(f"{message!r} became {again!r}")


def _cut(pieces_of_stream: list[bytes]) -> tuple[list[tuple[int, bytes, bytes]], bool]:
    reader, packets = PacketReader(), []
    try:
        for piece in pieces_of_stream:
            packets += reader.feed(piece)
    except MalformedPacketError:
        return packets, True
    return packets, False


def fleet(data: bytes) -> None:
    """fleet.yaml: every mistake is said in words that name the place and never a secret."""
    text = data.decode("utf-8", "replace").replace("$SECRET", _SECRET)
    # what follows the word, in text without quotes: anywhere else nobody could know it for a secret
    meant = len(_IS_SECRET.findall(text)) == text.count(_SECRET) and not set(text) & set("'\"|>?#&*%!\\")
    try:
        parse_fleet(text)
    except ConfigError as error:
        if meant and _SECRET in str(error):
            raise FaultError(f"a secret is shown: {error}") from error


def console(data: bytes) -> None:
    """The console's stream as it comes over MQTT: what is shown is in order, and never twice."""
    assembler = StreamAssembler()
    for kind, octets in pieces(data):
        properties = (("stream", "ab"[kind >> 3 & 1]), ("offset", str(unsigned(octets[:2]))))
        if kind & 0x40:
            properties = ((octets[:4].decode("latin-1"), octets[4:8].decode("latin-1")), *properties[kind & 1 :])
        try:
            position = SolPosition.from_properties(properties)
        except ContractError:
            continue
        before = assembler.stream, assembler.next
        match kind % 4:
            case 0 | 1:
                shown = assembler.live(position, octets[2:])
            case 2 if position is not None:
                shown = assembler.repaired(position, octets[2:])
            case _:
                shown = assembler.give_up()
        count = sum(len(piece.data) for piece in shown if isinstance(piece, Chunk) and piece.position is not None)
        if before[0] is not None and assembler.stream == before[0] and assembler.next - before[1] < count:
            raise FaultError("octets were shown twice")


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    function.__name__: function
    for function in (rmcp, handshake, session, bridging, sol, board, rfc2217, mqtt, wire, fleet, console)
}

PARSERS: Final = (
    "ipmi_gateway/packets/",
    "ipmi_gateway/sessions/rakp.py",
    "ipmi_gateway/sessions/session.py",
    "ipmi_gateway/bridging.py",
    "ipmi_gateway/sol/endpoint.py",
    "ipmi_gateway/sol/packet.py",
    "esp8266_agent/protocol.py",
    "esp8266_agent/packets.py",
    "esp8266_agent/pins.py",
    "sol_relay/links/telnet.py",
    "pypmi/agent/intake.py",
    "pypmi/bus/packets.py",
    "pypmi/contract/",
    "pypmi/console/assembly.py",
    "pypmi/config/document.py",
    "pypmi/config/explain.py",
    "pypmi/config/unfold.py",
    "pypmi/config/crosscheck.py",
    "pypmi/config/patterns.py",
)
"""What must be covered by the corpus."""
