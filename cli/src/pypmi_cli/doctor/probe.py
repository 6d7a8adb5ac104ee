"""Ask an agent whether it is there, by a command that can't be carried out; and overhear what else is on the bus.

The probe is a `power/set` payload whose action does not exist: an agent refuses it before it looks at anything else,
whatever its clock says, and its answer tells that it is there, and what its clock says. It leaves an event `refused`.
"""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field

from pypmi.bus import BusError, BusRefusedError, Exchange, Message, RetainedReplay
from pypmi.contract import ContractError, PowerResult, ServiceInfo, TopicKind, Topics, new_id, utc_now

from pypmi_cli.session import Session

ANSWER = 5.0
"""Seconds that an agent gets to answer; it takes milliseconds."""


@dataclass
class Overheard:
    """What is seen on the bus beside the view; give `listen` to `connect`."""

    retained_commands: set[str] = field(default_factory=set)
    """Command topics on which the broker keeps a message."""
    other_prefixes: set[str] = field(default_factory=set)
    starts: dict[str, dict[str, ServiceInfo]] = field(default_factory=lambda: defaultdict(dict))
    """By service: what each of its starts (epochs) said of itself."""
    results: dict[str, asyncio.Future[PowerResult]] = field(default_factory=dict)

    def listen(self, session: Session) -> None:
        """Subscribe to what tells."""
        topics, bus = session.topics, session.bus

        def on_service(message: Message) -> None:
            try:
                info = ServiceInfo.from_payload(message.payload)
                self.starts[topics.parse(message.topic).name][info.epoch] = info
            except ContractError:
                return

        def on_result(message: Message) -> None:
            try:
                result = PowerResult.from_payload(message.payload)
            except ContractError:
                return
            waiting = self.results.get(result.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(result)

        bus.subscribe(topics.nodes(TopicKind.POWER_SET), self._on_command, qos=0)
        bus.subscribe(topics.services(TopicKind.SERVICE_INFO), on_service)
        bus.subscribe(topics.nodes(TopicKind.POWER_RESULT), on_result, qos=0, replay=RetainedReplay.NEVER)
        anywhere = Topics().nodes(TopicKind.NODE_AVAILABILITY)
        for wildcard in (anywhere, f"+/{anywhere}", f"+/+/{anywhere}"):
            bus.subscribe(wildcard, lambda message: self._note_prefix(message.topic, topics.prefix), qos=0)

    def stop_commands(self, session: Session) -> None:
        """Leave the command topics: the broker shall not count us when it says that nobody listens there."""
        session.bus.unsubscribe(session.topics.nodes(TopicKind.POWER_SET), self._on_command)

    def _on_command(self, message: Message) -> None:
        if message.retain and message.payload:
            self.retained_commands.add(message.topic)

    def _note_prefix(self, topic: str, own: str) -> None:
        prefix = topic.rsplit("/", 3)[0] if topic.count("/") > 2 else ""
        if prefix != own:
            self.other_prefixes.add(prefix)


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking an agent."""

    refused: str = ""
    """Why the broker did not take the question."""
    nobody: bool = False
    """The broker says that nobody is subscribed."""
    result: PowerResult | None = None
    skew: float = 0.0
    """Seconds by which the agent's clock is ahead of ours, to some milliseconds."""
    seconds: float = 0.0
    """Until the answer came."""


async def ask(session: Session, heard: Overheard, node_id: str) -> Asked:
    """Send the probe to one node's agent and wait for its answer, on its own topic or on the reply topic."""
    loop = asyncio.get_running_loop()
    number = f"doctor-{new_id()}"
    waiting = heard.results[number] = loop.create_future()
    payload = json.dumps({"id": number, "action": "none: pypmi doctor asks whether somebody is there"}).encode()
    started, wall = loop.time(), utc_now()
    with session.requests.exchange(number) as exchange:
        try:
            receipt = await session.bus.publish(
                session.topics.node(node_id, TopicKind.POWER_SET), payload, expiry=10,
                response_topic=exchange.response_topic, correlation=exchange.correlation,
            )  # fmt: skip
        except BusRefusedError as error:
            return Asked(refused=str(error))
        except BusError:
            return Asked()
        if receipt.no_subscribers:
            return Asked(nobody=True)
        result = await _first(waiting, asyncio.ensure_future(_reply(exchange)))
    seconds = loop.time() - started
    if result is None:
        return Asked(seconds=seconds)
    middle = (result.at - wall).total_seconds() - seconds / 2
    return Asked(result=result, skew=middle, seconds=seconds)


async def _reply(exchange: Exchange) -> PowerResult:
    return PowerResult.from_payload((await exchange.next(ANSWER)).payload)


async def _first(*answers: asyncio.Future[PowerResult]) -> PowerResult | None:
    done, rest = await asyncio.wait(answers, timeout=ANSWER, return_when=asyncio.FIRST_COMPLETED)
    for future in rest:
        future.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    return next((future.result() for future in done if future.exception() is None), None)
