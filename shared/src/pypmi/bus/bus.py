"""A service's place on the bus: subscriptions, retained topics and a last will that outlive any one connection.

Rules:

1. While there is no connection, `publish` and requests fail at once with `BusDisconnectedError`. Nothing is kept to
   be sent later: a late command is worse than none. What must be true in the broker (`set_retained`) is kept, and
   published again on every connection, because a broker may have lost it.
2. Handlers are plain calls in the event loop. They must not block; what they raise is logged and goes no further.
3. A lost connection is tried again for ever, at growing, jittered intervals; only a second process with the same
   client id ends `run`.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from paho.mqtt.matcher import MQTTMatcher

from pypmi.bus.errors import BusDisconnectedError, BusError, BusRefusedError, ClientIdTakenError
from pypmi.bus.link import Link
from pypmi.bus.message import Message, PublishReceipt, UserProperties
from pypmi.config.mqtt import MqttSettings
from pypmi.config.secrets import SecretError

logger = logging.getLogger(__name__)

Handler = Callable[[Message], None]
_FIRST_RETRY = 0.2
_ROUTE_CACHE = 100_000
_RETAINED_BATCH = 500
_REPORT_EVERY = 60.0


class RetainedReplay(IntEnum):
    """Whether a subscription wants the retained messages there are (MQTT 5 Retain Handling)."""

    SEND = 0
    NEVER = 2
    """For command topics. On 3.1.1 they come all the same, and the receiver refuses them by their flag."""


@dataclass(slots=True)
class _Subscription:
    qos: int
    replay: RetainedReplay
    handlers: list[Handler] = field(default_factory=list)


class Bus:
    """The connection of one service to the broker, kept up by `run`.

    Args:
        settings: the broker.
        client_id: `<prefix>-<service>-<name>`, the same after every restart.
        base: folder that relative secret files start at.
        will: topic and payload the broker publishes, retained, when this service is gone.
        rng: jitter; an argument so that tests are repeatable.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        *,
        base: Path | None = None,
        will: tuple[str, bytes] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.client_id = client_id
        self._base = base
        self._will = will
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._link: Link | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._matcher: MQTTMatcher = MQTTMatcher()
        self._routes: dict[str, tuple[Handler, ...]] = {}
        self._retained: dict[str, tuple[bytes, int]] = {}
        self._to_clear: set[str] = set()
        self.connected = False
        """Whether subscriptions and retained topics are in place and messages can be sent."""
        self._up = asyncio.Event()
        self._on_up: list[Callable[[], Awaitable[None]]] = []
        self._on_down: list[Callable[[str], None]] = []
        self._reported = ""
        self._reported_at = 0.0
        self.reconnects = 0
        """Connections made after the first; for metrics."""
        self.last_error = ""
        """Why there is, or was last, no connection; for people."""

    # -- life ------------------------------------------------------------------------------------------------------

    @property
    def pending(self) -> int:
        """Messages that wait for the broker's acknowledgement."""
        return self._link.pending if self._link is not None else 0

    async def wait_connected(self) -> None:
        """Return when there is a working connection."""
        await self._up.wait()

    def on_connected(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Call on every connection, after subscriptions and retained topics are in place."""
        self._on_up.append(callback)

    def on_disconnected(self, callback: Callable[[str], None]) -> None:
        """Call with the reason on every loss of the connection."""
        self._on_down.append(callback)

    async def run(self) -> None:
        """Keep the connection up until cancelled.

        Cancelling says goodbye to the broker properly. Raises `ClientIdTakenError` when another process connects with
        the same client id.
        """
        delay = _FIRST_RETRY
        first = True
        while True:
            try:
                await self._serve_once(first)
                delay = _FIRST_RETRY
            except ClientIdTakenError as error:
                self._report_down(str(error))
                raise ClientIdTakenError(
                    f"another process connected to the broker as {self.client_id!r}: two services of one name in the"
                    " fleet, or a second copy of this one. Stopping; give each its own name."
                ) from None
            except BusError as error:
                if self.connected:
                    delay = _FIRST_RETRY
                self._report_down(str(error))
            first = False
            # half to full: two services that lost the broker together do not come back together
            await asyncio.sleep(delay * (0.5 + self._rng.random() / 2))
            delay = min(delay * 2, self.settings.reconnect_max)

    async def _serve_once(self, first: bool) -> None:
        try:
            password = self.settings.password.read(self._base) if self.settings.password else None
            link = Link(self._resolved(), self.client_id, password, self._dispatch, self._will)
        except (SecretError, OSError, ssl.SSLError) as error:
            # a missing secret or certificate may still be on its way (containers, mounts): say so and try again
            raise BusError(f"cannot prepare the connection: {error}") from None
        try:
            await link.open()
            self._link = link
            await self._prepare(link)
            if not first:
                self.reconnects += 1
            logger.info("connected to the broker at %s:%d", self.settings.host, self.settings.port)
            self.last_error = self._reported = ""
            self._set_up(True)
            for callback in self._on_up:
                await callback()
            await link.closed
        except asyncio.CancelledError:
            self._link = None
            self._set_up(False)
            await link.close()
            raise
        finally:
            self._link = None
            link.abort()

    def _resolved(self) -> MqttSettings:
        """The settings with certificate paths that start at fleet.yaml's folder."""
        if self._base is None:
            return self.settings
        names = ("ca_file", "cert_file", "key_file")
        paths = {name: self._base / path for name in names if (path := getattr(self.settings, name)) is not None}
        return self.settings.model_copy(update=paths) if paths else self.settings

    async def _prepare(self, link: Link) -> None:
        wanted = [(name, sub.qos, int(sub.replay)) for name, sub in self._subscriptions.items()]
        for start in range(0, len(wanted), 100):
            await link.subscribe(wanted[start : start + 100])
        await self._publish_retained(link)
        while self._to_clear:
            self._send_retained(link, self._to_clear.pop(), b"", 1)

    async def _publish_retained(self, link: Link) -> None:
        for count, (topic, (payload, qos)) in enumerate(list(self._retained.items()), start=1):
            self._send_retained(link, topic, payload, qos)
            if count % _RETAINED_BATCH == 0:
                await asyncio.sleep(0)

    @staticmethod
    def _send_retained(link: Link, topic: str, payload: bytes, qos: int) -> None:
        link.publish(
            topic, payload, qos=qos, retain=True, expiry=None, response_topic=None, correlation=None,
            properties=(), want_receipt=False,
        )  # fmt: skip

    def _set_up(self, up: bool) -> None:
        self.connected = up
        if up:
            self._up.set()
        else:
            self._up.clear()

    def _report_down(self, reason: str) -> None:
        was_up = self.connected
        self._set_up(False)
        self.last_error = reason
        now = asyncio.get_running_loop().time()
        # one line for each new reason, then one a minute: a broker that is down all night must not fill the disk
        if was_up or reason != self._reported or now - self._reported_at > _REPORT_EVERY:
            logger.warning("%s", reason)
            self._reported, self._reported_at = reason, now
        if was_up:
            for callback in self._on_down:
                callback(reason)

    # -- receiving -------------------------------------------------------------------------------------------------

    def subscribe(
        self, topic_filter: str, handler: Handler, *, qos: int = 1, replay: RetainedReplay = RetainedReplay.SEND
    ) -> None:
        """Call `handler` for each message under `topic_filter`, on this connection and all later ones.

        Command topics take `qos=0` and `RetainedReplay.NEVER`, so that the broker never keeps a command.
        A filter has one QoS and replay: those of its first subscriber.
        """
        subscription = self._subscriptions.get(topic_filter)
        if subscription is None:
            subscription = self._subscriptions[topic_filter] = _Subscription(qos, replay)
            self._matcher[topic_filter] = subscription
            if self._link is not None:
                self._subscribe_later(self._link, topic_filter, subscription)
        subscription.handlers.append(handler)
        self._routes.clear()

    def _subscribe_later(self, link: Link, topic_filter: str, subscription: _Subscription) -> None:
        def on_answer(done: asyncio.Future[None]) -> None:
            error = None if done.cancelled() else done.exception()
            if isinstance(error, BusRefusedError):
                logger.error("%s", error)

        with contextlib.suppress(BusDisconnectedError):  # subscribed on the next connection
            link.subscribe([(topic_filter, subscription.qos, int(subscription.replay))]).add_done_callback(on_answer)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Stop calling `handler`; the broker is told when it was the filter's last."""
        subscription = self._subscriptions.get(topic_filter)
        if subscription is None or handler not in subscription.handlers:
            return
        subscription.handlers.remove(handler)
        self._routes.clear()
        if not subscription.handlers:
            del self._subscriptions[topic_filter]
            del self._matcher[topic_filter]
            if self._link is not None:
                self._link.unsubscribe(topic_filter)

    def _dispatch(self, message: Message) -> None:
        handlers = self._routes.get(message.topic)
        if handlers is None:
            found: list[_Subscription] = list(self._matcher.iter_match(message.topic))
            handlers = tuple(handler for subscription in found for handler in subscription.handlers)
            if len(self._routes) >= _ROUTE_CACHE:
                self._routes.clear()
            self._routes[message.topic] = handlers
        for handler in handlers:
            try:
                handler(message)
            except Exception:
                logger.exception("a handler failed for topic %s", message.topic)

    # -- sending ---------------------------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        properties: UserProperties = (),
    ) -> PublishReceipt:
        """Publish and, at QoS 1, wait until the broker has it.

        `expiry` is in seconds. Properties go out on MQTT 5 only. Raises `BusDisconnectedError` at once when there is
        no connection or when it is lost meanwhile (then it is not known whether the broker has the message),
        `BusRefusedError` when the broker says no, `BusOverflowError` when too many wait.
        """
        receipt = self._get_link().publish(
            topic, payload, qos=qos, retain=retain, expiry=expiry, response_topic=response_topic,
            correlation=correlation, properties=properties, want_receipt=True,
        )  # fmt: skip
        return await receipt if receipt is not None else PublishReceipt()

    def publish_nowait(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        properties: UserProperties = (),
    ) -> None:
        """Publish without waiting. Raises like `publish` for what is known at once; a later refusal is logged."""
        self._get_link().publish(
            topic, payload, qos=qos, retain=retain, expiry=expiry, response_topic=response_topic,
            correlation=correlation, properties=properties, want_receipt=False,
        )  # fmt: skip

    def publish_tracked(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry: int | None = None,
        correlation: bytes | None = None,
        properties: UserProperties = (),
    ) -> asyncio.Future[PublishReceipt]:
        """Publish at QoS 1; the future ends with the broker's acknowledgement. Raises, and fails, like `publish`.

        For streams of many small messages: it costs no task for each.
        """
        receipt = self._get_link().publish(
            topic, payload, qos=1, retain=retain, expiry=expiry, response_topic=None, correlation=correlation,
            properties=properties, want_receipt=True,
        )  # fmt: skip
        assert receipt is not None  # noqa: S101 - QoS 1 with want_receipt always has one
        return receipt

    def _get_link(self) -> Link:
        if self._link is None:
            reason = f": {self.last_error}" if self.last_error else ""
            raise BusDisconnectedError(f"no connection to the broker{reason}")
        return self._link

    def set_retained(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Make `payload` the retained message of `topic`: now if connected, and again on every connection.

        Never raises for a missing connection: what counts is the last value, and it is kept here.
        """
        self._retained[topic] = (payload, qos)
        self._to_clear.discard(topic)
        if self._link is not None:
            with contextlib.suppress(BusDisconnectedError):  # published on the next connection
                self.publish_nowait(topic, payload, qos=qos, retain=True)

    def clear_retained(self, topic: str) -> None:
        """Remove the retained message of `topic` from the broker; for things that have left the fleet.

        Without a connection it is removed on the next one.
        """
        self._retained.pop(topic, None)
        self._to_clear.add(topic)
        if self._link is not None:
            with contextlib.suppress(BusDisconnectedError):
                self.publish_nowait(topic, b"", retain=True)
                self._to_clear.discard(topic)

    async def republish(self) -> None:
        """Publish every retained topic again, as on a new connection. Does nothing without one."""
        if self._link is not None:
            with contextlib.suppress(BusDisconnectedError):
                await self._publish_retained(self._link)

    def forget_retained(self, topic: str) -> None:
        """Say no more about `topic` and leave the broker's message alone: it is somebody else's now."""
        self._retained.pop(topic, None)

    def retained(self, topic: str) -> bytes | None:
        """What this service last set as the retained message of `topic`."""
        entry = self._retained.get(topic)
        return entry[0] if entry else None
