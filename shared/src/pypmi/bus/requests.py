"""Requests with replies: a topic of one's own to answer to, correlation, deadlines, and no waiting for the dead."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pypmi.bus.bus import Bus
from pypmi.bus.errors import BusDisconnectedError
from pypmi.bus.message import Message
from pypmi.contract.topics import TopicKind, Topics

logger = logging.getLogger(__name__)

_MAX_REPLIES = 1024
"""Replies that may wait in one exchange; further ones are dropped with a log line."""
_LONGEST_REPLY = 65_536
"""Octets."""


class Exchange:
    """Replies to one request, in the order they come."""

    def __init__(self, topic: str, correlation: bytes) -> None:
        self.response_topic = topic
        self.correlation = correlation
        self._replies: asyncio.Queue[Message | BusDisconnectedError] = asyncio.Queue(_MAX_REPLIES)

    def put(self, item: Message | BusDisconnectedError) -> None:
        """Hand in a reply, or the reason why none will come."""
        try:
            self._replies.put_nowait(item)
        except asyncio.QueueFull:
            logger.warning("dropped a reply: %d wait already", _MAX_REPLIES)

    async def next(self, timeout: float) -> Message:
        """The next reply. Raises `TimeoutError` after `timeout` seconds, `BusDisconnectedError` on a lost link."""
        async with asyncio.timeout(timeout):
            item = await self._replies.get()
        if isinstance(item, BusDisconnectedError):
            raise item
        return item


class Requests:
    """The reply topic of one service, `services/<name>/reply`, and the exchanges open on it."""

    def __init__(self, bus: Bus, topics: Topics, service: str) -> None:
        self._bus = bus
        self.topic = topics.service(service, TopicKind.SERVICE_REPLY)
        self._open: dict[bytes, Exchange] = {}
        # QoS 0: a reply that the broker kept for later is of no use to anybody
        bus.subscribe(self.topic, self._on_reply, qos=0)
        bus.on_disconnected(self._on_down)

    @contextmanager
    def exchange(self, request_id: str) -> Iterator[Exchange]:
        """Collect the replies to the request with this id while the block runs.

        Enter it before publishing the request, with `exchange.response_topic` and `exchange.correlation` in the
        publish and `reply_to` in the payload.
        """
        key = request_id.encode()
        if key in self._open:
            raise ValueError(f"request id {request_id!r} is in use")
        exchange = self._open[key] = Exchange(self.topic, key)
        try:
            yield exchange
        finally:
            del self._open[key]

    def _on_reply(self, message: Message) -> None:
        key = message.correlation
        if key is None:  # MQTT 3.1.1: the payload carries the request's id
            if not self._open or len(message.payload) > _LONGEST_REPLY:
                return
            try:
                value = json.loads(message.payload)
            except (ValueError, RecursionError):  # nested as deep as no answer is
                return
            key = str(value.get("id", "")).encode() if isinstance(value, dict) else b""
        exchange = self._open.get(key)
        if exchange is not None:  # else: a reply that came after its deadline
            exchange.put(message)

    def _on_down(self, reason: str) -> None:
        for exchange in self._open.values():
            exchange.put(BusDisconnectedError(reason))
