"""All the consoles that one process looks at."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from pypmi.bus import Bus, BusDisconnectedError, Requests
from pypmi.console.client import ConsoleClient
from pypmi.console.events import OnEvent
from pypmi.console.feed import Feed
from pypmi.contract import ConsoleAck, ContractError, Topics, new_id

logger = logging.getLogger(__name__)

_LEASE = 60.0
"""Seconds between two signs of life of a viewer; the relay forgets it after three."""


class ConsoleHub:
    """Viewers of consoles, several on one node sharing its subscription. `run` must be running.

    Args:
        bus: the service's connection.
        requests: its reply topic; replays and acknowledgements come there.
        topics: the fleet's topics.
    """

    def __init__(self, bus: Bus, requests: Requests, topics: Topics) -> None:
        self._bus = bus
        self._requests = requests
        self._topics = topics
        self._feeds: dict[str, Feed] = {}
        self._ack_id = new_id()
        self._tasks: asyncio.TaskGroup | None = None
        bus.on_connected(self._on_connected)
        bus.on_disconnected(lambda _reason: self._on_bus(up=False))

    async def run(self) -> None:
        """Work until cancelled. Cancelling detaches all viewers."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._read_acks())
                tasks.create_task(self._renew_leases())
        finally:
            self._tasks = None
            for feed in tuple(self._feeds.values()):
                for client in tuple(feed.clients):
                    client.detach()

    def attach(
        self,
        node_id: str,
        viewer: str,
        on_event: OnEvent,
        *,
        scrollback: int = 4096,
        on_room: Callable[[], None] | None = None,
    ) -> ConsoleClient:
        """Begin to look at a node's console.

        `viewer` says who, for people (40 characters of `A-Za-z0-9_.-` remain of it). `scrollback` is in octets; 0 for
        live output only. Returns at once; events come to `on_event`. `on_room` is called when `write_nowait` may take
        more than before, or would raise. Raises `ContractError` for a bad node id.
        """
        if self._tasks is None:
            raise RuntimeError("ConsoleHub.run is not running")
        feed = self._feeds.get(node_id)
        if feed is None:
            feed = self._feeds[node_id] = Feed(
                self._bus,
                self._requests,
                self._topics,
                node_id,
                ack_id=self._ack_id,
                spawn=self._spawn,
                on_unused=self._on_unused,
            )
        client = ConsoleClient(feed, viewer, on_event, scrollback, on_room)
        feed.add(client)
        self._spawn(client.join())
        return client

    def _on_unused(self, feed: Feed) -> None:
        del self._feeds[feed.node_id]
        feed.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            work.close()
            return
        self._tasks.create_task(self._guard(work))

    @staticmethod
    async def _guard(work: Coroutine[Any, Any, None]) -> None:
        """One console's trouble must not end the others'."""
        try:
            await work
        except Exception:
            logger.exception("work for a console failed")

    async def _on_connected(self) -> None:
        self._on_bus(up=True)

    def _on_bus(self, *, up: bool) -> None:
        now = asyncio.get_running_loop().time()
        for feed in tuple(self._feeds.values()):
            feed.on_bus(up, now)

    async def _read_acks(self) -> None:
        """All viewers' acknowledgements come in one exchange and say whose stream they are about."""
        with self._requests.exchange(self._ack_id) as exchange:
            while True:
                try:
                    message = await exchange.next(3600)
                    ack = ConsoleAck.from_payload(message.payload)
                except (TimeoutError, BusDisconnectedError):
                    continue
                except ContractError as error:
                    logger.warning("ignored an acknowledgement: %s", error)
                    continue
                for feed in self._feeds.values():
                    client = feed.by_stream.get(ack.stream or "")
                    if client is not None:
                        client.on_ack(ack)
                        break

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(_LEASE)
            for feed in tuple(self._feeds.values()):
                for client in tuple(feed.clients):
                    feed.renew(client)
                await asyncio.sleep(0)
