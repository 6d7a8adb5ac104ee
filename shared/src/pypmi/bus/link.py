"""One connection to the broker, driven from the event loop. With `client`, all that imports the MQTT client library.

paho is driven by the loop's readers and writers and not through aiomqtt (docs/decisions/0002). It connects, subscribes,
pings and says goodbye; messages and their acknowledgements go past it, over the same socket, since they are nearly all
of the work (docs/decisions/0120). A `Link` lives for one connection; the next one gets a fresh paho client, so that
nothing which was under way on a lost connection can be sent late on the next.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from pypmi.bus.channel import Channel
from pypmi.bus.client import connect, make_client
from pypmi.bus.errors import BusDisconnectedError, BusOverflowError, BusRefusedError, ClientIdTakenError
from pypmi.bus.message import Message, PublishReceipt, UserProperties
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
from pypmi.config.mqtt import MqttSettings

logger = logging.getLogger(__name__)

_PACKET_TYPE = 0xF0
_INFLIGHT = 20
"""QoS 1 messages without acknowledgement on the wire: Mosquitto's own limit, and the least a broker must take."""
_FIRST_PACKET_ID, _LAST_PACKET_ID = 0x8000, 0xFFFF
"""Of our messages; paho counts its subscriptions up from 1."""
_MAX_UNSENT = 67_108_864
"""Octets that may wait for a broker that does not read."""
_MISC_INTERVAL = 1.0
_REASON_TAKEN_OVER = 0x8E
_REASON_NO_SUBSCRIBERS = 0x10
_REASON_FAILURE = 0x80


_RECEIVED = PublishReceipt()
_NOBODY = PublishReceipt(no_subscribers=True)


def _reason_text(reason: int) -> str:
    try:
        return str(ReasonCode(PacketTypes.PUBACK, identifier=reason))
    except (KeyError, AssertionError):
        return f"reason {reason:#04x}"


RETAIN_SEND = 0
RETAIN_NEW_ONLY = 1
RETAIN_DO_NOT_SEND = 2


class Link:
    """A connection: `open`, then `publish` and `subscribe`, until `closed` has an exception.

    Args:
        settings: where and how to connect.
        client_id: stable over restarts, so that the broker lets a dead twin go.
        password: the account's secret, already read.
        on_message: called in the loop for each message; must not block or raise.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        password: str | None,
        on_message: Callable[[Message], None],
        will: tuple[str, bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._on_message = on_message
        self._v5 = settings.protocol == "5"
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        """Ends with the reason (an exception) when the connection is lost, or with None after `close`."""
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._acks: dict[int, asyncio.Future[PublishReceipt] | None] = {}
        """By packet identifier: QoS 1 messages on the wire, and who waits for their acknowledgement."""
        self._subscribed: dict[int, tuple[list[str], asyncio.Future[None]]] = {}
        """By packet identifier: filters that the broker has not granted yet."""
        self._waiting: deque[tuple[bytes, asyncio.Future[PublishReceipt] | None]] = deque()
        """Messages beyond `_INFLIGHT`, which have no packet identifier yet."""
        self._packet_id = _FIRST_PACKET_ID - 1
        self._reader = PacketReader()
        self._channel: Channel | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._writer_armed = False
        self._misc: asyncio.TimerHandle | None = None
        self._client = make_client(settings, client_id, password, will)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribed
        self._client.on_socket_close = self._on_socket_close

    async def open(self) -> None:
        """Connect and wait for the broker's welcome.

        Raises `BusDisconnectedError` when the broker can't be reached and `BusRefusedError` when it says no.
        """
        try:
            # resolving, connecting and the TLS handshake block; no callback touches the loop from that thread
            await asyncio.to_thread(self._connect_blocking)
        except (OSError, ValueError) as error:  # ValueError: paho's word for an unusable address
            self._fail(BusDisconnectedError(f"cannot reach the broker at {self._where}: {error}"))
        except paho.WebsocketConnectionError as error:
            self._fail(BusDisconnectedError(f"no MQTT over WebSocket at {self._where}: {error}"))
        else:
            channel: Any = self._client.socket()
            if channel is None or self.closed.done():
                self._fail(BusDisconnectedError(f"the broker at {self._where} closed the connection at once"))
            else:
                channel.send_at_once()
                self._channel = channel
                self._loop.add_reader(channel, self._readable)
                self._misc = self._loop.call_later(_MISC_INTERVAL, self._do_misc)
                self._flush()
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self._connected
        except TimeoutError:
            late = BusDisconnectedError(
                f"the broker at {self._where} did not answer within {self._settings.connect_timeout} s"
            )
            self._fail(late)
            raise late from None

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    def _connect_blocking(self) -> None:
        connect(self._client, self._settings)
        sock = self._client.socket()
        if self.closed.done() and sock is not None:
            sock.close()  # given up meanwhile

    @property
    def pending(self) -> int:
        """Messages that wait for the broker's acknowledgement."""
        return len(self._acks) + len(self._waiting)

    async def close(self) -> None:
        """Say goodbye (the broker then drops the will) and let go of the socket. Never raises."""
        if not self.closed.done():
            self._client.disconnect()
            for _ in range(50):  # until the DISCONNECT is on its way; half a second is generous
                self._flush()
                if self._channel is None or not self._channel.unsent:
                    break
                await asyncio.sleep(0.01)
        self._fail(None)

    def abort(self) -> None:
        """Let go of the socket without a word; the broker will send the will."""
        self._fail(BusDisconnectedError("the connection was given up"))

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool,
        expiry: int | None,
        response_topic: str | None,
        correlation: bytes | None,
        properties: UserProperties,
        want_receipt: bool,
    ) -> asyncio.Future[PublishReceipt] | None:
        """Hand a message to the broker. With `want_receipt` and QoS 1 the future ends with the acknowledgement.

        Raises `BusDisconnectedError` or `BusOverflowError` at once; the future may end with `BusDisconnectedError` or
        `BusRefusedError`.
        """
        channel = self._channel
        if channel is None or self.closed.done() or not self._connected.done():
            raise BusDisconnectedError("not connected to the broker")
        if self.pending >= self._settings.max_pending:
            raise BusOverflowError(f"{self.pending} messages wait for the broker's acknowledgement")
        if channel.unsent > _MAX_UNSENT:
            raise BusOverflowError(f"{channel.unsent} octets wait for the broker to read")
        packet = pack_publish(
            topic, payload, qos=qos, retain=retain, v5=self._v5, expiry=expiry, response_topic=response_topic,
            correlation=correlation, properties=properties,
        )  # fmt: skip
        if qos == 0:
            channel.write(packet)
            self._flush_soon()
            return None
        receipt: asyncio.Future[PublishReceipt] | None = self._loop.create_future() if want_receipt else None
        if len(self._acks) < _INFLIGHT:
            self._send(channel, packet, receipt)
        else:
            self._waiting.append((packet, receipt))
        return receipt

    def _send(self, channel: Channel, packet: bytes, receipt: asyncio.Future[PublishReceipt] | None) -> None:
        self._packet_id = self._packet_id + 1 if self._packet_id < _LAST_PACKET_ID else _FIRST_PACKET_ID
        if self._packet_id in self._acks:
            self._fail(BusDisconnectedError("connection to the broker lost: it has left a message unacknowledged"))
            return
        self._acks[self._packet_id] = receipt
        channel.write(with_packet_id(packet, self._packet_id))
        self._flush_soon()

    def subscribe(self, filters: list[tuple[str, int, int]]) -> asyncio.Future[None]:
        """Subscribe to (filter, QoS, retain handling). The future ends with the broker's word.

        On MQTT 3.1.1 there is no retain handling: the receiver sees retained messages by their flag.
        Raises `BusDisconnectedError`; the future may end with it too, or with `BusRefusedError` that names the filters.
        """
        if self._v5:
            wanted: Any = [
                (name, SubscribeOptions(qos=qos, retainAsPublished=True, retainHandling=handling))
                for name, qos, handling in filters
            ]
        else:
            wanted = [(name, qos) for name, qos, _ in filters]
        rc, mid = self._client.subscribe(wanted)
        if rc != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise BusDisconnectedError("not connected to the broker")
        self._flush_soon()
        done: asyncio.Future[None] = self._loop.create_future()
        self._subscribed[mid] = ([name for name, _, _ in filters], done)
        return done

    def unsubscribe(self, topic_filter: str) -> None:
        """Stop a subscription, without waiting for the broker's word."""
        if not self.closed.done():
            self._client.unsubscribe(topic_filter)
            self._flush_soon()

    # -- the socket ----------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        channel = self._channel
        if channel is None:
            return
        try:
            data = channel.receive()
            if data:
                for first, packet, body in self._reader.feed(data):
                    self._take(channel, first, packet, body)
                    if self._channel is None:  # paho has found that it was the last one
                        return
        except MalformedPacketError as error:
            self._fail(BusDisconnectedError(f"connection to the broker lost: it sent {error}"))
        except OSError as error:
            self._fail(BusDisconnectedError(f"connection to the broker lost: {error.strerror or error}"))
        else:
            if data == b"":
                self._fail(BusDisconnectedError("connection to the broker lost: it closed the connection"))
                return
            channel.acknowledge()
            if channel.has_more():
                self._loop.call_soon(self._readable)

    def _take(self, channel: Channel, first: int, packet: bytes, body: bytes) -> None:
        kind = first & _PACKET_TYPE
        if kind == PacketType.PUBLISH:
            self._take_publish(channel, first, body)
        elif kind == PacketType.PUBACK:
            self._take_puback(channel, body)
        else:
            channel.hand_over(packet)
            self._client.loop_read()

    def _take_publish(self, channel: Channel, first: int, body: bytes) -> None:
        try:
            message, packet_id = unpack_publish(first, body, v5=self._v5)
        except UnreadableMessageError as error:
            logger.warning("ignored a message: %s", error)
            packet_id = error.packet_id
        else:
            self._on_message(message)
        if packet_id:
            channel.write(pack_puback(packet_id))
            self._flush_soon()

    def _take_puback(self, channel: Channel, body: bytes) -> None:
        packet_id, reason = unpack_puback(body)
        if packet_id not in self._acks:
            return
        receipt = self._acks.pop(packet_id)
        if self._waiting:
            self._send(channel, *self._waiting.popleft())
        if receipt is None or receipt.done():
            if reason >= _REASON_FAILURE:
                why = _reason_text(reason)
                logger.error("the broker refused a message: %s (check the access rules of this account)", why)
        elif reason >= _REASON_FAILURE:
            receipt.set_exception(BusRefusedError(f"the broker refused the message: {_reason_text(reason)}"))
        else:
            receipt.set_result(_NOBODY if reason == _REASON_NO_SUBSCRIBERS else _RECEIVED)

    def _flush_soon(self) -> None:
        """Send at the end of this turn of the loop: what comes together goes together."""
        if self._flush_handle is None and not self._writer_armed:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        channel = self._channel
        if channel is None:
            return
        try:
            done = channel.flush()
        except OSError as error:
            self._fail(BusDisconnectedError(f"connection to the broker lost: {error.strerror or error}"))
            return
        if done == self._writer_armed:
            self._writer_armed = not done
            if done:
                self._loop.remove_writer(channel)
            else:
                self._loop.add_writer(channel, self._flush)

    def _on_socket_close(self, _client: paho.Client, _userdata: Any, _sock: Any) -> None:
        if self._channel is not None:
            self._loop.remove_reader(self._channel)
            self._loop.remove_writer(self._channel)
            self._channel = None

    def _do_misc(self) -> None:
        if not self.closed.done():
            self._client.loop_misc()
            self._flush()
            self._misc = self._loop.call_later(_MISC_INTERVAL, self._do_misc)

    # -- paho's callbacks; all but the socket's run in the loop ----------------------------------------------------

    def _on_connect(
        self, _c: paho.Client, _u: Any, _flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self._fail(BusRefusedError(f"the broker at {self._where} refused the connection: {reason}"))
            return
        del properties
        if not self._connected.done():
            self._connected.set_result(None)

    def _on_disconnect(
        self, _c: paho.Client, _u: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.value == _REASON_TAKEN_OVER:
            self._fail(ClientIdTakenError("another process connected to the broker with this client id"))
        else:
            self._fail(BusDisconnectedError(f"connection to the broker lost: {reason}"))

    def _on_subscribed(self, _c: paho.Client, _u: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        names, done = self._subscribed.pop(mid, ([], None))
        if done is None or done.done():
            return
        refused = [(name, reason) for name, reason in zip(names, reasons, strict=False) if reason.is_failure]
        if refused:
            what = ", ".join(f"{name} ({reason})" for name, reason in refused)
            done.set_exception(BusRefusedError(f"the broker refused subscriptions: {what}"))
        else:
            done.set_result(None)

    def _fail(self, error: Exception | None) -> None:
        """End the link once, for the first reason given; everything that waits hears it."""
        if self.closed.done():
            return
        for handle in (self._misc, self._flush_handle):
            if handle is not None:
                handle.cancel()
        if error is None:
            self.closed.set_result(None)
        else:
            self.closed.set_exception(error)
            self.closed.exception()  # retrieved: the owner may already be gone
        reason = error or BusDisconnectedError("the connection was closed")
        publishes = (*self._acks.values(), *(receipt for _, receipt in self._waiting))
        waiting = [*publishes, *(done for _, done in self._subscribed.values()), self._connected]
        for receipt in waiting:
            if receipt is not None and not receipt.done():
                receipt.set_exception(reason)
                receipt.exception()
        self._acks.clear()
        self._waiting.clear()
        self._subscribed.clear()
        sock = self._client.socket()
        if sock is not None:
            self._on_socket_close(self._client, None, sock)
            sock.close()
