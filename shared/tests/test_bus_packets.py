"""PUBLISH and PUBACK, taken apart and put together as paho does it; and what is no MQTT is found out."""

import random
import socket
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pypmi.bus.channel import Channel
from pypmi.bus.message import Message
from pypmi.bus.packets import (
    MalformedPacketError,
    PacketReader,
    PacketType,
    UnreadableMessageError,
    pack_puback,
    pack_publish,
    unpack_puback,
    unpack_publish,
    with_packet_id,
)

CONNACK = {5: b"\x20\x03\x00\x00\x00", 4: b"\x20\x02\x00\x00"}
LETTERS = "abz/09 -_äß€😀"


class Paho(paho.Client):
    """paho with a socket pair instead of a connection; `peer` is the broker's end."""

    def __init__(self, v5: bool) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5 if v5 else paho.MQTTv311)
        self.got: list[Message] = []
        self.own, self.peer = socket.socketpair()
        self.on_message = self._note
        self.connect("broker")
        self.peer.setblocking(False)
        self.sent()
        self.peer.send(CONNACK[5 if v5 else 4])
        self.loop_read()

    def _create_socket(self) -> Any:
        return self.own

    def _note(self, _client: Any, _userdata: Any, raw: paho.MQTTMessage) -> None:
        given = raw.properties
        self.got.append(
            Message(
                raw.topic,
                bytes(raw.payload),
                raw.retain,
                raw.qos,
                getattr(given, "ResponseTopic", None),
                getattr(given, "CorrelationData", None),
                tuple(getattr(given, "UserProperty", ())),
            )
        )

    def sent(self) -> bytes:
        return self.peer.recv(1 << 20)

    def receive(self, packet: bytes) -> Message:
        self.got.clear()
        self.peer.send(packet)
        self.loop_read()
        return self.got[0]

    def end(self) -> None:
        self.own.close()
        self.peer.close()


def text(rng: random.Random, least: int = 0, most: int = 40) -> str:
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(least, most)))


def random_message(rng: random.Random, v5: bool) -> tuple[Message, int]:
    """A message, and its expiry (0: none)."""
    payload = rng.randbytes(rng.choice((0, 1, 100, 127, 128, 5000, 20_000)))
    topic, retain, qos = text(rng, 1), rng.random() < 0.5, rng.randint(0, 1)
    if not v5:
        return Message(topic, payload, retain, qos), 0
    properties = tuple((text(rng), text(rng)) for _ in range(rng.choice((0, 0, 1, 2, 9))))
    response = text(rng, 1) if rng.random() < 0.5 else None
    correlation = rng.randbytes(rng.randint(1, 40)) if rng.random() < 0.5 else None
    return Message(topic, payload, retain, qos, response, correlation, properties), rng.choice((0, 1, 70_000))


def pack(message: Message, *, v5: bool, expiry: int = 0, packet_id: int = 4711) -> bytes:
    packet = pack_publish(
        message.topic, message.payload, qos=message.qos, retain=message.retain, v5=v5, expiry=expiry,
        response_topic=message.response_topic, correlation=message.correlation, properties=message.properties,
    )  # fmt: skip
    return with_packet_id(packet, packet_id) if message.qos else packet


@pytest.mark.parametrize("v5", [True, False], ids=["5", "3.1.1"])
def test_paho_reads_what_we_write_and_we_read_what_paho_writes(v5):
    rng = random.Random(5)
    client = Paho(v5)
    try:
        for number in range(300):
            message, expiry = random_message(rng, v5)
            assert client.receive(pack(message, v5=v5, expiry=expiry, packet_id=number + 1)) == message
            if message.qos:
                assert unpack_puback(client.sent()[2:]) == (number + 1, 0)
            properties = Properties(PacketTypes.PUBLISH) if v5 else None
            if v5:
                if expiry:
                    properties.MessageExpiryInterval = expiry
                    properties.ContentType = text(rng)
                    properties.PayloadFormatIndicator = 1
                if message.response_topic is not None:
                    properties.ResponseTopic = message.response_topic
                if message.correlation is not None:
                    properties.CorrelationData = message.correlation
                if message.properties:
                    properties.UserProperty = list(message.properties)
            info = client.publish(message.topic, message.payload, message.qos, message.retain, properties)
            ((first, _, body),) = PacketReader().feed(client.sent())
            assert first & 0xF0 == PacketType.PUBLISH
            assert unpack_publish(first, body, v5=v5) == (message, info.mid if message.qos else 0)
            if message.qos:  # paho takes our acknowledgement for one
                client.peer.send(pack_puback(info.mid))
                client.loop_read()
                assert info.is_published()
    finally:
        client.end()


def test_packets_come_in_pieces_of_any_size():
    rng = random.Random(7)
    messages = [random_message(rng, True)[0] for _ in range(60)]
    stream = b"".join(pack(message, v5=True) for message in messages)
    for _ in range(20):
        reader, got, at = PacketReader(), [], 0
        while at < len(stream):
            size = rng.choice((1, 2, 3, 10, 100, 5000, 100_000))
            for first, packet, body in reader.feed(stream[at : at + size]):
                assert packet.endswith(body)
                got.append(unpack_publish(first, body, v5=True)[0])
            at += size
        assert got == messages


def test_broken_packets_are_found_out_and_nothing_else_happens():
    rng = random.Random(9)
    outcomes = set()
    for _ in range(4000):
        packet = bytearray(pack(random_message(rng, True)[0], v5=True))
        for _ in range(rng.randint(1, 3)):
            packet[rng.randrange(min(len(packet), 60))] = rng.randrange(256)
        del packet[rng.randint(2, len(packet)) :]
        try:
            for first, _, body in PacketReader().feed(bytes(packet)):
                unpack_publish(first, body, v5=True)
            outcomes.add("read")
        except (MalformedPacketError, UnreadableMessageError) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"read", "MalformedPacketError", "UnreadableMessageError"}


@pytest.mark.parametrize(
    ("first", "body"),
    [
        (0x34, b"\x00\x01t\x00\x01\x00"),  # QoS 2
        (0x30, b""),
        (0x30, b"\x00\x00\x00"),  # no topic
        (0x30, b"\x00\x05t\x00"),
        (0x32, b"\x00\x01t\x00\x00\x00"),  # packet identifier 0
        (0x32, b"\x00\x01t\x00"),
        (0x30, b"\x00\x01t"),  # no length of properties
        (0x30, b"\x00\x01t\x05\x02\x00"),
        (0x30, b"\x00\x01t\x03\x23\x00\x01"),  # a topic alias
        (0x30, b"\x00\x01t\x02\x7f\x00"),  # no such property
        (0x30, b"\x00\x01t\x03\x02\x00\x00\x00\x00"),  # a property longer than all of them
        (0x30, b"\x00\x01t\xff\xff\xff\xff\x01"),
        (0x30, b"\x00\x01t\x01\x0b"),
    ],
)
def test_malformed_messages(first, body):
    with pytest.raises(MalformedPacketError):
        unpack_publish(first, body, v5=True)


@pytest.mark.parametrize(
    "body",
    [b"\x00\x02\xff\xfe\x00\x07\x00", b"\x00\x01t\x00\x07\x07\x26\x00\x01\xff\x00\x01v"],
    ids=["topic", "property"],
)
def test_text_that_is_none_costs_the_message_and_not_the_connection(body):
    with pytest.raises(UnreadableMessageError) as caught:
        unpack_publish(0x32, body, v5=True)
    assert caught.value.packet_id == 7


def test_a_length_without_end_and_a_short_acknowledgement():
    with pytest.raises(MalformedPacketError):
        list(PacketReader().feed(b"\x30\xff\xff\xff\xff\xff"))
    with pytest.raises(MalformedPacketError):
        unpack_puback(b"\x01")
    assert unpack_puback(b"\x01\x02\x87\x00") == (0x102, 0x87)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "x" * 65_536])
def test_what_is_no_topic_is_refused(topic):
    with pytest.raises(ValueError, match=r"publish|room"):
        pack_publish(topic, b"", qos=0, retain=False, v5=True)


def test_a_channel_keeps_the_order_and_gives_each_side_its_own():
    own, peer = socket.socketpair()
    channel = Channel(own)
    channel.setblocking(False)
    try:
        with pytest.raises(BlockingIOError):
            channel.recv(1)
        channel.write(b"ours ")
        assert channel.send(b"paho's ") == 7
        channel.write(b"ours again")
        assert channel.unsent == 22
        assert channel.flush()
        assert peer.recv(100) == b"ours paho's ours again"
        channel.hand_over(b"\x20\x02ab")
        assert (channel.recv(1), channel.recv(100)) == (b"\x20", b"\x02ab")
        assert channel.receive() is None
        peer.send(b"data")
        assert channel.receive() == b"data"
        channel.write(bytes(20_000_000))  # more than the system takes
        assert not channel.flush()
        assert channel.unsent
        peer.close()
        with pytest.raises(OSError, match=r"pipe|reset"):
            channel.flush()
    finally:
        channel.close()
        channel.close()
        peer.close()
