"""The two MQTT packets that nearly all traffic is made of, PUBLISH and PUBACK: bytes to values and back. No I/O.

paho takes a PUBLISH apart in some 40 µs, most of them for the properties of MQTT 5, and reads the socket octet by
octet; a relay or gateway with hundreds of busy consoles spent half its core there. All other packets are paho's
(docs/decisions/0120). Section numbers are those of MQTT 5.0.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from pypmi.bus.message import Message, UserProperties

_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_MAX_LENGTH_OCTETS: Final = 4
_MAX_TEXT: Final = 0xFFFF
_QOS: Final = 0x06
_RETAIN: Final = 0x01


class PacketType(IntEnum):
    """The upper four bits of a packet's first octet, in place (section 2.1.2)."""

    CONNACK = 0x20
    PUBLISH = 0x30
    PUBACK = 0x40


class PropertyId(IntEnum):
    """Properties that a PUBLISH may have (section 2.2.2.2)."""

    PAYLOAD_FORMAT = 0x01
    MESSAGE_EXPIRY = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_ID = 0x0B
    TOPIC_ALIAS = 0x23
    USER_PROPERTY = 0x26


class MalformedPacketError(ValueError):
    """Not MQTT: the connection can't go on."""


class UnreadableMessageError(ValueError):
    """A message whose topic or properties are not UTF-8: it is dropped, and the next one is read."""

    def __init__(self, packet_id: int) -> None:
        super().__init__("its topic or properties are not UTF-8")
        self.packet_id = packet_id
        """To be acknowledged all the same; 0 for QoS 0."""


class PacketReader:
    """Cuts what a connection brings into packets."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        """Take octets in; gives (first octet, whole packet, its part behind the fixed header) for each whole packet.

        Raises `MalformedPacketError`. To be used up before the next call.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
        start = 0
        while True:
            length, at = _unpack_varint(data, start + 1)
            if at == 0 or at + length > len(data):
                break
            yield data[start], data[start : at + length], data[at : at + length]
            start = at + length
        self._rest = bytearray(data[start:])
        self._wanted = at + length - start if at else 0


def _unpack_varint(data: bytes, at: int) -> tuple[int, int]:
    """A Variable Byte Integer (section 1.5.5) and where it ends; an end of 0: it is not all there yet."""
    value = shift = 0
    for position in range(at, min(at + _MAX_LENGTH_OCTETS, len(data))):
        octet = data[position]
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position + 1
        shift += 7
    if len(data) >= at + _MAX_LENGTH_OCTETS:
        raise MalformedPacketError("a length of more than four octets")
    return 0, 0


def unpack_publish(first: int, body: bytes, *, v5: bool) -> tuple[Message, int]:
    """A PUBLISH (section 3.3) and its packet identifier, 0 for QoS 0.

    Raises `MalformedPacketError`, and `UnreadableMessageError` where only the text is wrong.
    """
    qos = (first & _QOS) >> 1
    if qos > 1:
        raise MalformedPacketError(f"a message of QoS {qos}, which nobody subscribed to")
    packet_id = 0
    response_topic = correlation = None
    properties: UserProperties = ()
    try:
        topic_end = 2 + (body[0] << 8 | body[1])
        at = topic_end
        if qos:
            packet_id = body[at] << 8 | body[at + 1]
            at += 2
        if v5:
            if body[at]:
                length, at = _unpack_varint(body, at)
                response_topic, correlation, properties = _unpack_properties(body, at, at + length)
                at += length
            else:
                at += 1
        topic = body[2:topic_end].decode()
    except UnicodeDecodeError:
        raise UnreadableMessageError(packet_id) from None
    except (IndexError, struct.error):
        raise MalformedPacketError("a PUBLISH that is cut short") from None
    if not topic or at > len(body) or (qos and not packet_id):
        raise MalformedPacketError("a PUBLISH without a topic or packet identifier, or cut short")
    message = Message(topic, body[at:], bool(first & _RETAIN), qos, response_topic, correlation, properties)
    return message, packet_id


def _unpack_properties(body: bytes, at: int, end: int) -> tuple[str | None, bytes | None, UserProperties]:
    """Response topic, correlation data and user properties (section 3.3.2.3); the rest is passed over."""
    response_topic = correlation = None
    user: list[tuple[str, str]] = []
    if at == 0 or end > len(body):
        raise MalformedPacketError("properties that are cut short")
    while at < end:
        kind = body[at]
        at += 1
        if kind == PropertyId.USER_PROPERTY:
            middle = at + 2 + (body[at] << 8 | body[at + 1])
            key = body[at + 2 : middle].decode()
            at = middle + 2 + (body[middle] << 8 | body[middle + 1])
            user.append((key, body[middle + 2 : at].decode()))
        elif kind in {PropertyId.RESPONSE_TOPIC, PropertyId.CORRELATION_DATA, PropertyId.CONTENT_TYPE}:
            start = at + 2
            at = start + (body[at] << 8 | body[at + 1])
            if kind == PropertyId.RESPONSE_TOPIC:
                response_topic = body[start:at].decode()
            elif kind == PropertyId.CORRELATION_DATA:
                correlation = body[start:at]
        elif kind == PropertyId.MESSAGE_EXPIRY:
            at += 4
        elif kind == PropertyId.PAYLOAD_FORMAT:
            at += 1
        elif kind == PropertyId.SUBSCRIPTION_ID:
            _, at = _unpack_varint(body, at)
            if at == 0:
                raise MalformedPacketError("properties that are cut short")
        else:  # a topic alias too: we have allowed none
            raise MalformedPacketError(f"a PUBLISH with property {kind:#04x}")
    if at != end:
        raise MalformedPacketError("properties that are longer than they say")
    return response_topic, correlation, tuple(user)


def pack_publish(
    topic: str,
    payload: bytes,
    *,
    qos: int,
    retain: bool,
    v5: bool,
    expiry: int | None = None,
    response_topic: str | None = None,
    correlation: bytes | None = None,
    properties: UserProperties = (),
) -> bytes:
    """A PUBLISH; at QoS 1 its packet identifier is 0 until `with_packet_id`. Properties go out on MQTT 5 only.

    Raises ValueError for what is no topic, or too long.
    """
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        raise ValueError(f"cannot publish to {topic!r}")
    head = _text(topic) + (b"\0\0" if qos else b"")
    if v5:
        packed = b""
        if expiry or response_topic or correlation or properties:
            packed = _pack_properties(expiry, response_topic, correlation, properties)
        head += _varint(len(packed)) + packed
    first = PacketType.PUBLISH | qos << 1 | retain
    return b"%c%b%b%b" % (first, _varint(len(head) + len(payload)), head, payload)


def with_packet_id(packet: bytes, packet_id: int) -> bytes:
    """A PUBLISH of QoS 1 that `pack_publish` made, with its identifier in it."""
    _, at = _unpack_varint(packet, 1)
    at += 2 + (packet[at] << 8 | packet[at + 1])
    return b"%b%b%b" % (packet[:at], _U16.pack(packet_id), packet[at + 2 :])


def _pack_properties(
    expiry: int | None, response_topic: str | None, correlation: bytes | None, properties: UserProperties
) -> bytes:
    parts = []
    if expiry:
        parts.append(b"\x02" + _U32.pack(expiry))
    if response_topic:
        parts.append(b"\x08" + _text(response_topic))
    if correlation:
        parts.append(b"\x09" + _binary(correlation))
    for key, value in properties:
        parts.append(b"\x26" + _text(key) + _text(value))
    return b"".join(parts)


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > _MAX_TEXT:
        raise ValueError(f"{len(data)} octets where MQTT has room for {_MAX_TEXT}")
    return _U16.pack(len(data)) + data


def _varint(value: int) -> bytes:
    """A Variable Byte Integer. Raises ValueError beyond 268,435,455."""
    if value < 0x80:
        return b"%c" % value
    octets = bytearray()
    while value:
        octets.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
    if len(octets) > _MAX_LENGTH_OCTETS:
        raise ValueError("a message that is too large for MQTT")
    return bytes(octets)


def unpack_puback(body: bytes) -> tuple[int, int]:
    """Packet identifier and reason code of a PUBACK (section 3.4). Raises `MalformedPacketError`."""
    if len(body) < 2:
        raise MalformedPacketError("a PUBACK that is cut short")
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0


def pack_puback(packet_id: int) -> bytes:
    """A PUBACK that says Success."""
    return b"\x40\x02" + _U16.pack(packet_id)
