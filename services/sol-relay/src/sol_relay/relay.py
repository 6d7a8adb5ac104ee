"""The relay: consoles of a fleet, their requests, and the service around them."""

import asyncio
import logging
from functools import partial

from pypmi.bus import BusError, Message, RetainedReplay
from pypmi.config.load import LoadedFleet
from pypmi.contract import (
    ConsoleAck,
    ConsoleAction,
    ConsoleRequest,
    ConsoleState,
    ContractError,
    TopicKind,
)
from pypmi.service import Service

from sol_relay import replay
from sol_relay.console import Console, RelayPlace
from sol_relay.input import Break
from sol_relay.log import ConsoleLog, LogWriter
from sol_relay.output import Pace
from sol_relay.settings import ConsoleConfig

logger = logging.getLogger(__name__)

_HOUSEKEEPING = 1.0
_SLICES = 20
_REPLAYS = 4
"""Replays under way at a time; they share the loop with the consoles."""
_REPLAYS_WAITING = 500
_LOG_FOLDER = "consoles"
_LOOK_BACK = 5.0
"""Seconds in which the broker hands over what it keeps of consoles, after a start."""


class Relay:
    """Carries the consoles that the fleet gives to this service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._bus = service.bus
        self._place = RelayPlace(service.bus, service.topics, service.name, service.epoch, Pace())
        self._consoles: dict[str, Console] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._logs = LogWriter()
        self._replays = asyncio.Semaphore(_REPLAYS)
        self._replays_waiting = 0
        self._wanted = self._configs(service.loaded)
        service.bus.on_connected(self._on_connected)
        service.bus.on_disconnected(self._on_disconnected)

    def _configs(self, loaded: LoadedFleet) -> dict[str, ConsoleConfig]:
        return {node.id: ConsoleConfig.of(node) for node in loaded.fleet.consoles_of_relay(self._service.name)}

    @property
    def consoles(self) -> tuple[Console, ...]:
        """Those carried now; for metrics."""
        return tuple(self._consoles.values())

    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes whose consoles this relay carries."""
        return tuple(self._wanted)

    def not_ready(self) -> str | None:
        """A relay is ready when it runs, whatever its ports do."""
        return None if self._tasks is not None else "not started"

    async def run(self) -> None:
        """Carry consoles until cancelled."""
        writer = asyncio.create_task(self._logs.run(), name="logs")
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self._apply()
                tasks.create_task(self._keep_house())
                tasks.create_task(self._leave_old_consoles())
        finally:
            self._tasks = None
            # after the consoles: their last words are logged too
            self._logs.stop()
            await asyncio.wait({writer})

    async def reload(self, loaded: LoadedFleet) -> None:
        """Take over a changed fleet; consoles that did not change go on undisturbed."""
        self._wanted = self._configs(loaded)
        await self._apply()

    async def _apply(self) -> None:
        for node_id, console in list(self._consoles.items()):
            if self._wanted.get(node_id) != console.config:
                await self._stop(node_id)
                if node_id not in self._wanted:
                    self._forget_state(node_id)
        for node_id, config in self._wanted.items():
            if node_id not in self._consoles:
                self._start(config)

    def _start(self, config: ConsoleConfig) -> None:
        if self._tasks is None:
            return  # started with the others by `run`
        log = None
        if config.log:
            path = self._service.state_dir / _LOG_FOLDER / f"{config.node_id}.log"
            log = ConsoleLog(path, size=config.log_size, files=config.log_files)
            self._logs.add(log)
        console = self._consoles[config.node_id] = Console(self._place, config, log)
        topics = self._service.topics
        self._bus.subscribe(
            topics.node(config.node_id, TopicKind.SOL_TX), console.on_input, replay=RetainedReplay.NEVER
        )
        self._bus.subscribe(
            topics.node(config.node_id, TopicKind.SOL_SET), self._on_request, qos=0, replay=RetainedReplay.NEVER
        )
        self._running[config.node_id] = self._tasks.create_task(console.run(), name=f"console {config.node_id}")

    async def _stop(self, node_id: str) -> None:
        console = self._consoles.pop(node_id)
        topics = self._service.topics
        self._bus.unsubscribe(topics.node(node_id, TopicKind.SOL_TX), console.on_input)
        self._bus.unsubscribe(topics.node(node_id, TopicKind.SOL_SET), self._on_request)
        task = self._running.pop(node_id)
        task.cancel()
        await asyncio.wait({task})
        if console.log is not None:
            await self._logs.remove(console.log)

    async def _leave_old_consoles(self) -> None:
        """Clear the state of consoles that left the fleet while the relay was away."""
        await self._bus.wait_connected()
        topic = self._service.topics.nodes(TopicKind.SOL_STATE)
        self._bus.subscribe(topic, self._on_old_state)
        try:
            await asyncio.sleep(_LOOK_BACK)
        finally:
            self._bus.unsubscribe(topic, self._on_old_state)

    def _on_old_state(self, message: Message) -> None:
        if not message.retain or not message.payload:
            return
        try:
            node_id = self._service.topics.parse(message.topic).name
            said = ConsoleState.from_payload(message.payload)
        except ContractError:
            return
        if said.relay == self._service.name and node_id not in self._wanted:
            self._forget_state(node_id)

    def _forget_state(self, node_id: str) -> None:
        try:
            self._bus.clear_retained(self._service.topics.node(node_id, TopicKind.SOL_STATE))
        except BusError as error:
            logger.warning("%s", error)

    async def _keep_house(self) -> None:
        while True:
            # a few at a time, each once a second: nobody's keys wait for hundreds of states
            for part in range(_SLICES):
                await asyncio.sleep(_HOUSEKEEPING / _SLICES)
                for console in self.consoles[part::_SLICES]:
                    console.housekeep()
            self._place.pace.settle(_HOUSEKEEPING)

    async def _on_connected(self) -> None:
        for count, console in enumerate(self.consoles):
            console.on_bus_back()
            if count % 50 == 0:
                await asyncio.sleep(0)

    def _on_disconnected(self, _reason: str) -> None:
        for console in self.consoles:
            console.on_bus_lost()

    # -- requests --------------------------------------------------------------------------------------------------

    def _on_request(self, message: Message) -> None:
        node_id = self._service.topics.parse(message.topic).name
        console = self._consoles.get(node_id)
        if console is None:
            return
        if message.retain:
            logger.warning("refused a retained request on %s: clear it", message.topic)
            return
        try:
            request = ConsoleRequest.from_payload(message.payload)
            topic = self._reply_topic(message.response_topic or request.reply_to)
        except ContractError as error:
            logger.warning("refused a request on %s: %s", message.topic, error)
            return
        now = asyncio.get_running_loop().time()
        match request.action:
            case ConsoleAction.OPEN if request.viewer:
                console.viewers.open(request.viewer, now)
                console.touch_state()
            case ConsoleAction.CLOSE if request.viewer:
                console.viewers.close(request.viewer)
                console.touch_state()
            case ConsoleAction.BREAK:
                done = partial(self._answer, topic, request.id)
                console.send_break(Break(request.duration_ms / 1000, done), request.viewer or "")
            case ConsoleAction.REPLAY if topic:
                self._replay(console, request, topic)
            case _:
                logger.warning("refused a request on %s: %s lacks viewer or reply_to", message.topic, request.action)

    def _reply_topic(self, topic: str | None) -> str | None:
        """Check where an answer is to go: never to one of the contract's own topics, where it could do something."""
        if topic is None:
            return None
        if not topic or len(topic) > 256 or any(char in topic for char in "+#\0"):
            raise ContractError("the reply topic is no topic")
        try:
            kind = self._service.topics.parse(topic).kind
        except ContractError:
            return topic  # somebody's own
        if kind is not TopicKind.SERVICE_REPLY:
            raise ContractError("the reply topic is one of the contract's")
        return topic

    def _answer(self, topic: str | None, request_id: str, error: str | None) -> None:
        if topic is None:
            if error:
                logger.warning("a break was not sent: %s", error)
            return
        ack = ConsoleAck(id=request_id, error=error[:128] if error else None)
        try:
            self._bus.publish_nowait(topic, ack.to_payload(), qos=0, correlation=request_id.encode())
        except BusError as failure:
            logger.warning("an answer was not sent: %s", failure)

    def _replay(self, console: Console, request: ConsoleRequest, topic: str) -> None:
        if self._tasks is None or self._replays_waiting >= _REPLAYS_WAITING:
            logger.warning("refused a replay of %s: %d wait already", console.config.node_id, self._replays_waiting)
            return
        self._replays_waiting += 1
        self._tasks.create_task(self._do_replay(console, request, topic))

    async def _do_replay(self, console: Console, request: ConsoleRequest, topic: str) -> None:
        try:
            async with self._replays:
                await replay.answer(self._bus, topic, request, console.output)
        finally:
            self._replays_waiting -= 1
