"""One run's place on the bus: connected as the operator, with the fleet's retained state, and a reply topic of its own.

Several operators work at the same time, so that each run has a name of its own. The tool announces nothing and has no
last will: it is a visitor.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from pypmi.bus import Bus, Message, Requests
from pypmi.contract import TopicKind, Topics
from pypmi.view import Change, FleetView, NodeView

from pypmi_cli.access import Access
from pypmi_cli.exits import Exit, ToolError

T = TypeVar("T")

_QUIET = 0.2
"""Seconds without a message after which the broker has sent all that it retains."""
_LONGEST = 15.0
_FIRST_NODE = 1.5
"""Seconds to wait for nodes that fleet.yaml names and the broker has not shown yet."""
_GUESS = 2.0
"""Seconds for an answer to MQTT 5; some brokers that have only 3.1.1 say nothing at all."""
SOURCE = "pypmi"
"""How the tool is named in commands, for the audit trail."""


class Session:
    """What the commands work with; made by `connect`."""

    def __init__(self, access: Access, *, events: bool = False) -> None:
        self.access = access
        self.name = f"tool-{secrets.token_hex(4)}"
        """Of this run, on the bus."""
        self.topics = Topics(access.mqtt.prefix)
        # a visitor: nothing of it shall stay at the broker
        settings = access.mqtt.model_copy(update={"session_expiry": 0})
        self.bus = Bus(settings, f"pypmi-{self.name}", base=access.base)
        self.view = FleetView(self.bus, self.topics, events=events)
        self.requests = Requests(self.bus, self.topics, self.name)
        self._heard = 0.0
        self.view.listen(self._on_change)
        self.bus.subscribe(self.topics.services(TopicKind.SERVICE_INFO), self._on_message)

    def _on_change(self, _node: NodeView, _change: Change) -> None:
        self._heard = asyncio.get_running_loop().time()

    def _on_message(self, _message: Message) -> None:
        self._heard = asyncio.get_running_loop().time()

    async def settle(self) -> None:
        """Return when the broker has sent what it retains."""
        loop = asyncio.get_running_loop()
        started = self._heard = loop.time()
        loaded = self.access.loaded
        while loop.time() - started < _LONGEST:
            quiet = loop.time() - self._heard
            missing = loaded is not None and len(self.view.nodes) < len(loaded.fleet.nodes)
            if quiet >= (_FIRST_NODE if missing else _QUIET):
                return
            await asyncio.sleep(0.02)

    async def wait_connected(self) -> None:
        """Return when the bus is up. Raises `ToolError` with the reason when the first try fails."""
        while not self.bus.connected:
            if self.bus.last_error:
                raise ToolError(
                    f"{self.bus.last_error}\n(broker from {self.access.source};"
                    " `pypmi doctor` finds out which link is broken)",
                    Exit.NO_BROKER,
                )
            await asyncio.sleep(0.01)


@asynccontextmanager
async def connect(
    access: Access, *, events: bool = False, prepare: Callable[[Session], None] | None = None
) -> AsyncIterator[Session]:
    """Be on the bus while the block runs, with the fleet's state read. Raises `ToolError`.

    `prepare` may add subscriptions before the connection is made.
    """
    session, running = await _open(access, events, prepare)
    try:
        await session.settle()
        yield session
    finally:
        await _close(running)


async def _open(
    access: Access, events: bool, prepare: Callable[[Session], None] | None
) -> tuple[Session, asyncio.Task[None]]:
    failed: ToolError | None = None
    for candidate in _candidates(access):
        session = Session(candidate, events=events)
        if prepare is not None:
            prepare(session)
        running = asyncio.create_task(session.bus.run())
        try:
            await session.wait_connected()
        except ToolError as error:
            failed = failed or error
            await _close(running)
        except BaseException:
            await _close(running)
            raise
        else:
            return session, running
    assert failed is not None  # noqa: S101 - there is at least one candidate
    raise failed


def _candidates(access: Access) -> list[Access]:
    """The settings to try; where nobody has said which MQTT version, a broker of the older one is found too."""
    if not access.guess_protocol or access.mqtt.protocol != "5":
        return [access]
    newer = access.mqtt.model_copy(update={"connect_timeout": min(access.mqtt.connect_timeout, _GUESS)})
    older = access.mqtt.model_copy(update={"protocol": "3.1.1"})
    return [replace(access, mqtt=newer), replace(access, mqtt=older)]


async def _close(running: asyncio.Task[None]) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; its log lines stay out of the output."""
    logging.basicConfig(level=logging.ERROR, format="pypmi: %(message)s")
    logging.getLogger("pypmi.bus").setLevel(logging.CRITICAL)
    return asyncio.run(work)
