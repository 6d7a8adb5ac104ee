"""One connection to the broker, driven from the event loop. The only module that imports the MQTT client library.

paho is driven by the loop's readers and writers and not through aiomqtt: a QoS 1 round trip costs half the time and
a message a quarter of the CPU (docs/decisions/0002). A `Link` lives for one connection; the next one gets a fresh
paho client, so that nothing which was under way on a lost connection can be sent late on the next.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from pypmi.bus.errors import BusDisconnectedError, BusOverflowError, BusRefusedError, ClientIdTakenError
from pypmi.bus.message import Message, PublishReceipt, UserProperties
from pypmi.config.mqtt import MqttSettings

logger = logging.getLogger(__name__)

_READ_BATCH = 64
"""Packets handled before other tasks get their turn."""
_INFLIGHT = 20
"""QoS 1 messages without acknowledgement on the wire: Mosquitto's own limit, and the least a broker must take."""
_MISC_INTERVAL = 1.0
_REASON_TAKEN_OVER = 0x8E
_REASON_NO_SUBSCRIBERS = 0x10
_REASON_FAILURE = 0x80

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
        self._subscribed: dict[int, tuple[list[str], asyncio.Future[None]]] = {}
        self._sock: socket.socket | None = None
        self._write_wanted = False
        self._handled = 0
        self._misc: asyncio.TimerHandle | None = None
        self._client = self._make_client(client_id, password, will)

    def _make_client(self, client_id: str, password: str | None, will: tuple[str, bytes] | None) -> paho.Client:
        settings = self._settings
        path = settings.websocket_path
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            # MQTT 5 has Clean Start (in connect) instead; see `_connect_blocking`
            clean_session=None if self._v5 else True,
            protocol=paho.MQTTv5 if self._v5 else paho.MQTTv311,
            transport="websockets" if path else "tcp",
            reconnect_on_failure=False,
        )
        if path:
            client.ws_set_options(path=path)
        if settings.username is not None:
            client.username_pw_set(settings.username, password)
        if settings.tls:
            context = ssl.create_default_context(cafile=settings.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.check_hostname = settings.verify_host
            if settings.cert_file is not None:
                context.load_cert_chain(settings.cert_file, settings.key_file)
            client.tls_set_context(context)
        if will is not None:
            properties = None
            if self._v5:
                properties = Properties(PacketTypes.WILLMESSAGE)
                properties.WillDelayInterval = settings.session_expiry
            client.will_set(will[0], will[1], qos=1, retain=True, properties=properties)
        client.connect_timeout = settings.connect_timeout
        client.max_inflight_messages_set(_INFLIGHT)
        client.max_queued_messages_set(0)  # `publish` bounds them with an error instead of dropping
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_paho_message
        client.on_publish = self._on_published
        client.on_subscribe = self._on_subscribed
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_want_write
        client.on_socket_unregister_write = self._on_unwant_write
        return client

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
            sock: Any = self._client.socket()
            if sock is None or self.closed.done():
                self._fail(BusDisconnectedError(f"the broker at {self._where} closed the connection at once"))
            else:
                if isinstance(sock, socket.socket):
                    # Without it Nagle and delayed acknowledgement cost 40 ms for each QoS 1 message
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sock = sock
                self._loop.add_reader(sock, self._readable)
                self._misc = self._loop.call_later(_MISC_INTERVAL, self._do_misc)
                self._arm_writer()
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
        self._send_connect()
        sock = self._client.socket()
        if self.closed.done() and sock is not None:
            sock.close()  # given up meanwhile

    def _send_connect(self) -> None:
        settings = self._settings
        if not self._v5:
            self._client.connect(settings.host, settings.port, settings.keepalive)
            return
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = settings.session_expiry
        properties.MaximumPacketSize = settings.max_payload + 1024
        # Clean Start 0: a quick return ends the will's delay instead of the session (contract, Connections).
        # Nothing queues meanwhile: command topics are subscribed at QoS 0.
        self._client.connect(settings.host, settings.port, settings.keepalive, clean_start=False, properties=properties)

    @property
    def pending(self) -> int:
        """Messages that wait for the broker's acknowledgement."""
        return len(self._acks)

    async def close(self) -> None:
        """Say goodbye (the broker then drops the will) and let go of the socket. Never raises."""
        if not self.closed.done():
            self._client.disconnect()
            for _ in range(50):  # until the DISCONNECT is on its way; half a second is generous
                if not self._client.want_write() or self.closed.done():
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
        if self.closed.done() or not self._connected.done():
            raise BusDisconnectedError("not connected to the broker")
        if len(self._acks) >= self._settings.max_pending:
            raise BusOverflowError(f"{len(self._acks)} messages wait for the broker's acknowledgement")
        packed = None
        if self._v5 and (expiry or response_topic or correlation or properties):
            packed = Properties(PacketTypes.PUBLISH)
            if expiry:
                packed.MessageExpiryInterval = expiry
            if response_topic:
                packed.ResponseTopic = response_topic
            if correlation:
                packed.CorrelationData = correlation
            if properties:
                packed.UserProperty = list(properties)
        info = self._client.publish(topic, payload, qos, retain, packed)
        if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            raise BusDisconnectedError("not connected to the broker")
        if info.rc not in {MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_QUEUE_SIZE}:
            raise BusDisconnectedError(f"publishing failed: {paho.error_string(info.rc)}")
        if qos == 0:
            return None
        receipt: asyncio.Future[PublishReceipt] | None = self._loop.create_future() if want_receipt else None
        self._acks[info.mid] = receipt
        return receipt

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
        done: asyncio.Future[None] = self._loop.create_future()
        self._subscribed[mid] = ([name for name, _, _ in filters], done)
        return done

    def unsubscribe(self, topic_filter: str) -> None:
        """Stop a subscription, without waiting for the broker's word."""
        if not self.closed.done():
            self._client.unsubscribe(topic_filter)

    # -- the socket ----------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        # paho reads one packet a call and does not say whether there was one: go on while packets are handled.
        # TLS may hold decrypted bytes that select() does not see, so "pending" counts too.
        for _ in range(_READ_BATCH):
            handled = self._handled
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._sock is None:
                break
            if handled == self._handled and not self._pending():
                break
        else:
            if self._pending():
                self._loop.call_soon(self._readable)
        self._acknowledge()

    def _acknowledge(self) -> None:
        """Let the kernel acknowledge now what has come (it falls back to waiting 40 ms by itself, so again each time).

        A broker without TCP_NODELAY (Mosquitto's default) holds its next small message until then.
        """
        if isinstance(self._sock, socket.socket) and hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):  # closed meanwhile; noticed by the next read
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _pending(self) -> bool:
        pending = getattr(self._sock, "pending", None)
        return pending is not None and pending() > 0

    def _on_want_write(self, _client: paho.Client, _userdata: Any, _sock: Any) -> None:
        self._write_wanted = True
        self._arm_writer()

    def _arm_writer(self) -> None:
        if self._sock is not None and self._write_wanted:
            self._loop.add_writer(self._sock, self._client.loop_write)

    def _on_unwant_write(self, _client: paho.Client, _userdata: Any, _sock: Any) -> None:
        self._write_wanted = False
        if self._sock is not None:
            self._loop.remove_writer(self._sock)

    def _on_socket_close(self, _client: paho.Client, _userdata: Any, _sock: Any) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock = None

    def _do_misc(self) -> None:
        if not self.closed.done():
            self._client.loop_misc()
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

    def _on_paho_message(self, _client: paho.Client, _userdata: Any, raw: paho.MQTTMessage) -> None:
        self._handled += 1
        try:
            topic = raw.topic
        except UnicodeDecodeError:
            logger.warning("ignored a message whose topic is not UTF-8")
            return
        properties = raw.properties if self._v5 else None
        payload = bytes(raw.payload)
        if properties is None or properties.isEmpty():
            message = Message(topic, payload, bool(raw.retain), raw.qos)
        else:
            message = Message(
                topic,
                payload,
                bool(raw.retain),
                raw.qos,
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
                tuple(getattr(properties, "UserProperty", ())),
            )
        self._on_message(message)

    def _on_published(self, _c: paho.Client, _u: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._handled += 1
        receipt = self._acks.pop(mid, None)
        if receipt is None or receipt.done():
            if reason.value >= _REASON_FAILURE:
                logger.error("the broker refused a message: %s (check the access rules of this account)", reason)
            return
        if reason.value >= _REASON_FAILURE:
            receipt.set_exception(BusRefusedError(f"the broker refused the message: {reason}"))
        else:
            receipt.set_result(PublishReceipt(no_subscribers=reason.value == _REASON_NO_SUBSCRIBERS))

    def _on_subscribed(self, _c: paho.Client, _u: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._handled += 1
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
        if self._misc is not None:
            self._misc.cancel()
        if error is None:
            self.closed.set_result(None)
        else:
            self.closed.set_exception(error)
            self.closed.exception()  # retrieved: the owner may already be gone
        reason = error or BusDisconnectedError("the connection was closed")
        waiting = [*self._acks.values(), *(done for _, done in self._subscribed.values()), self._connected]
        for receipt in waiting:
            if receipt is not None and not receipt.done():
                receipt.set_exception(reason)
                receipt.exception()
        self._acks.clear()
        self._subscribed.clear()
        sock = self._client.socket()
        if sock is not None:
            self._on_socket_close(self._client, None, sock)
            sock.close()
