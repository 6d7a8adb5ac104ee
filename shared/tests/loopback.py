"""A bus without a broker, for tests in virtual time: what is published is at hand at once."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from pypmi.bus import BusDisconnectedError, Message, PublishReceipt, RetainedReplay


class LoopbackBus:
    """The part of `Bus` that the agent runtime uses."""

    def __init__(self) -> None:
        self.connected = True
        self.acknowledges = True
        self._open: list[Future[PublishReceipt]] = []
        self.sent: list[tuple[str, bytes]] = []
        self.kept: dict[str, bytes] = {}
        self._mine: dict[str, bytes] = {}
        self._handlers: dict[str, list[Callable[[Message], None]]] = {}
        self._on_up: list[Callable[[], Awaitable[None]]] = []
        self.on_sent: Callable[[str, bytes], None] = lambda _topic, _payload: None

    def deliver(self, message: Message) -> None:
        for handler in list(self._handlers.get(message.topic, ())):
            handler(message)

    def on_connected(self, callback: Callable[[], Awaitable[None]]) -> None:
        self._on_up.append(callback)

    async def wait_connected(self) -> None:
        while not self.connected:
            await asyncio.sleep(0.5)

    async def reconnect(self) -> None:
        self.connected = True
        self.kept.update(self._mine)
        for callback in self._on_up:
            await callback()

    def subscribe(
        self, topic: str, handler: Callable[[Message], None], *, qos: int = 1, replay: Any = RetainedReplay.SEND
    ) -> None:
        self._handlers.setdefault(topic, []).append(handler)
        if replay is RetainedReplay.SEND and topic in self.kept:
            handler(Message(topic, self.kept[topic], True))

    def unsubscribe(self, topic: str, handler: Callable[[Message], None]) -> None:
        self._handlers[topic].remove(handler)

    def publish_nowait(self, topic: str, payload: bytes, *, retain: bool = False, **_more: Any) -> None:
        if not self.connected:
            raise BusDisconnectedError("no broker")
        self.sent.append((topic, payload))
        if retain:
            self.kept[topic] = payload
        self.on_sent(topic, payload)

    def publish_tracked(self, topic: str, payload: bytes, **more: Any) -> Future[PublishReceipt]:
        self.publish_nowait(topic, payload, **more)
        receipt: Future[PublishReceipt] = Future()  # not asyncio's: tests deliver messages while no loop runs
        if self.acknowledges:
            receipt.set_result(PublishReceipt())
        else:
            self._open.append(receipt)
        return receipt

    def lose(self) -> None:
        """The connection breaks; what was not acknowledged never will be."""
        self.connected = False
        while self._open:
            self._open.pop(0).set_exception(BusDisconnectedError("lost"))

    def set_retained(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        self._mine[topic] = payload
        if self.connected:
            self.publish_nowait(topic, payload, retain=True)

    def clear_retained(self, topic: str) -> None:
        self._mine.pop(topic, None)
        if self.connected:
            self.publish_nowait(topic, b"", retain=True)

    def forget_retained(self, topic: str) -> None:
        self._mine.pop(topic, None)

    def retained(self, topic: str) -> bytes | None:
        return self._mine.get(topic)
