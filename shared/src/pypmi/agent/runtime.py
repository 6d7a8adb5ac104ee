"""Runs an agent's nodes: adds, replaces and removes them at run time, and keeps their journal."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pypmi.agent.definition import AgentNode
from pypmi.agent.journal import Journal
from pypmi.agent.node import NodeRunner
from pypmi.agent.publisher import AgentObserver, Outbox, Publisher
from pypmi.agent.stall import StallWatch
from pypmi.agent.store import Entry, JournalError
from pypmi.bus import Bus, Message
from pypmi.contract import ContractError, NodeInfo, TopicKind, Topics, is_node_id

logger = logging.getLogger(__name__)

JOURNAL_NAME = "journal.sqlite3"
_SAVE_EVERY = 300.0
"""Seconds between two notes of how long machines have been on."""
_NODE_RETRY = 5.0
_OWNER_TIMEOUT = 1.0
"""Seconds to wait for the broker's retained `info` of a node that is to be cleared."""


class AgentRuntime:
    """The nodes of one agent.

    An agent makes a driver for each of its nodes and leaves the rest to this class:

        runtime = AgentRuntime(service.bus, service.topics, service.name, service.epoch, service.state_dir)

        def build(node_id: str) -> AgentNode:
            settings = configured[node_id]
            return AgentNode.from_settings(settings, MyDriver(settings.hardware), wake_for(settings))

        await runtime.apply(configured, build)   # may come before `run`, and again at each reload
        await runtime.run()                      # until cancelled

    Stop it before the bus: it says what it interrupted.

    Args:
        bus: kept up by the service.
        topics: names the topics.
        agent: the service's name.
        epoch: of this start.
        state_dir: folder of the journal.
        observers: hear what is said of the nodes.
        journal: another journal, for tests.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Topics,
        agent: str,
        epoch: str,
        state_dir: Path,
        *,
        observers: Iterable[AgentObserver] = (),
        journal: Journal | None = None,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._agent = agent
        self.epoch = epoch
        self._observers = tuple(observers)
        self._journal = journal or Journal(state_dir / JOURNAL_NAME)
        self._outbox = Outbox(bus)
        self._stalls = StallWatch()
        self._wanted: dict[str, tuple[object, AgentNode]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._runners: dict[str, NodeRunner] = {}
        self._group: asyncio.TaskGroup | None = None
        self._publishers: dict[str, Publisher] = {}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes there are."""
        return tuple(self._wanted)

    async def run(self) -> None:
        """Run the nodes until cancelled. Raises `JournalError` when there can be no journal."""
        unfinished = await self._journal.open(self.epoch)
        try:
            for entry in unfinished:
                self._publish_unfinished(entry)
            async with asyncio.TaskGroup() as group:
                self._group = group
                for node_id in self._wanted:
                    self._start(node_id)
                group.create_task(self._leave_old_nodes(), name="leave old nodes")
                group.create_task(self._stalls.run(), name="stall watch")
                await self._keep_hours()
        finally:
            self._group = None
            self._running.clear()
            await self._journal.close()

    def use_boot(self, node_id: str) -> None:
        """A machine's network card asks what to boot: it starts, although its power may not have shown it."""
        runner = self._runners.get(node_id)
        if runner is not None:
            runner.use_boot()

    # -- which nodes -----------------------------------------------------------------------------------------------

    async def apply(self, configured: Mapping[str, object], build: Callable[[str], AgentNode]) -> None:
        """Make the nodes those of `configured`; `build` is called for those that are new or changed.

        Args:
            configured: by id, anything that compares equal as long as nothing has changed, such as `NodeSettings`.
            build: makes the node and its driver.
        """
        for node_id in [known for known in self._wanted if known not in configured]:
            await self.remove(node_id)
        for node_id, config in configured.items():
            known = self._wanted.get(node_id)
            if known is not None and known[0] == config:
                continue
            try:
                node = build(node_id)
            except Exception:
                logger.exception("%s: its driver could not be made; the node stays as it was", node_id)
                continue
            await self.put(node, config)

    async def put(self, node: AgentNode, config: object = None) -> None:
        """Add a node, or replace the one of this id. A command under way on the old one is interrupted."""
        if not is_node_id(node.id):
            raise ContractError(f"node id {node.id!r}: use 1-63 of a-z, 0-9 and '-'")
        await self._stop(node.id)
        self._wanted[node.id] = (config, node)
        self._start(node.id)

    async def remove(self, node_id: str) -> None:
        """Take a node out of the fleet and clear what is retained of it."""
        if self._wanted.pop(node_id, None) is None:
            return
        await self._stop(node_id)
        if self._group is not None:  # else `run` will see that it has left
            await self._leave(node_id)

    # -- running ---------------------------------------------------------------------------------------------------

    def _start(self, node_id: str) -> None:
        if self._group is not None:
            self._running[node_id] = self._group.create_task(self._run_node(node_id), name=f"node {node_id}")

    async def _stop(self, node_id: str) -> None:
        task = self._running.pop(node_id, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _run_node(self, node_id: str) -> None:
        """One node; a mistake in it must not end the others."""
        _, node = self._wanted[node_id]
        publisher = self._publisher(node_id)
        while True:
            runner = NodeRunner(
                node,
                agent=self._agent,
                bus=self._bus,
                topics=self._topics,
                journal=self._journal,
                publisher=publisher,
                stalls=self._stalls,
            )
            self._runners[node_id] = runner
            try:
                await runner.run()
            except Exception:
                logger.exception("%s: stopped by a mistake in pypmi; started again in %g s", node_id, _NODE_RETRY)
                publisher.availability(False)
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise asyncio.CancelledError from None
            finally:
                self._runners.pop(node_id, None)
            await asyncio.sleep(_NODE_RETRY)

    def _publisher(self, node_id: str) -> Publisher:
        found = self._publishers.get(node_id)
        if found is None:
            found = self._publishers[node_id] = Publisher(
                self._bus, self._topics, self._outbox, self._observers, node=node_id, epoch=self.epoch
            )
        return found

    async def _keep_hours(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY)
            for runner in list(self._runners.values()):
                if runner.idle_on:
                    await runner.save()

    def _publish_unfinished(self, entry: Entry) -> None:
        logger.warning(
            "%s: %s (%s) was interrupted when the agent stopped; not done again", entry.node, entry.action, entry.id
        )
        if is_node_id(entry.node):
            self._publisher(entry.node).result(entry.result, entry.reply_to, entry.correlation)

    # -- leaving ---------------------------------------------------------------------------------------------------

    async def _leave_old_nodes(self) -> None:
        """Nodes that left the configuration while the agent was away."""
        await self._bus.wait_connected()
        for node_id in self._journal.known_nodes():
            if node_id not in self._wanted:
                await self._leave(node_id)

    async def _leave(self, node_id: str) -> None:
        publisher = self._publisher(node_id)
        info = await self._said(node_id)
        if info is None or info.agent == self._agent:
            publisher.clear(info)
        else:  # moved to another agent
            publisher.drop()
        self._publishers.pop(node_id, None)
        try:
            await self._journal.forget(node_id)
        except JournalError as error:
            logger.error("%s: could not be removed from the journal: %s", node_id, error)

    async def _said(self, node_id: str) -> NodeInfo | None:
        """What the broker keeps of the node's `info`; None: nothing, or nothing that can be read."""
        if not self._bus.connected:
            return None
        heard: asyncio.Future[NodeInfo | None] = asyncio.get_running_loop().create_future()

        def on_info(message: Message) -> None:
            if message.payload and not heard.done():
                try:
                    heard.set_result(NodeInfo.from_payload(message.payload))
                except ContractError:
                    heard.set_result(None)

        topic = self._topics.node(node_id, TopicKind.NODE_INFO)
        self._bus.subscribe(topic, on_info)
        try:
            async with asyncio.timeout(_OWNER_TIMEOUT):
                return await heard
        except TimeoutError:
            return None
        finally:
            self._bus.unsubscribe(topic, on_info)
