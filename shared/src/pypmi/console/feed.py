"""One node's console as this process sees it: a single subscription, put in order once, for all its viewers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from pypmi.bus import Bus, BusDisconnectedError, BusError, Message, Requests
from pypmi.console.assembly import Lost, Piece, StreamAssembler
from pypmi.console.client import ConsoleClient
from pypmi.console.events import ConsoleNotice, ConsoleOfflineError, ConsoleRefusedError, NoticeKind
from pypmi.contract import (
    Availability,
    ConsoleAck,
    ConsoleAction,
    ConsoleReplay,
    ConsoleRequest,
    ConsoleState,
    ContractError,
    SolPosition,
    TopicKind,
    Topics,
    new_id,
)

logger = logging.getLogger(__name__)

_REPLY_TIMEOUT = 3.0
_REQUEST_LIFE = 10
"""Seconds after which the broker may forget a request."""
_INPUT_LIFE = 30
_REPAIR_TRIES = 3
_TAIL_PATIENCE = 1.0
"""Seconds that output may be behind the offset in `sol/state` before it is asked for."""
_REPLAY_MAX = 4_194_304

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Feed:
    """Owned by the hub; made for the first viewer of a node and closed after the last."""

    def __init__(
        self,
        bus: Bus,
        requests: Requests,
        topics: Topics,
        node_id: str,
        *,
        ack_id: str,
        spawn: Spawn,
        on_unused: Callable[["Feed"], None],
    ) -> None:
        self.bus = bus
        self.node_id = node_id
        self.state: ConsoleState | None = None
        self.clients: list[ConsoleClient] = []
        self.by_stream: dict[str, ConsoleClient] = {}
        self._requests = requests
        self._topics = topics
        self._ack_id = ack_id
        self._spawn = spawn
        self._on_unused = on_unused
        self._assembler = StreamAssembler()
        self._repairing = False
        self._positioned = bus.settings.protocol == "5"
        """Output carries offsets. False from the first that does not: then gaps can't be seen or repaired."""
        self._relay: str | None = None
        self._relay_online = True
        self._why_told = ""
        self._rx = topics.node(node_id, TopicKind.SOL_RX)
        self._tx = topics.node(node_id, TopicKind.SOL_TX)
        self._set = topics.node(node_id, TopicKind.SOL_SET)
        self._state_topic = topics.node(node_id, TopicKind.SOL_STATE)
        self._closed = False
        bus.subscribe(self._rx, self._on_rx)
        bus.subscribe(self._state_topic, self._on_state)

    def close(self) -> None:
        """Let go of the subscriptions."""
        self._closed = True
        self.bus.unsubscribe(self._rx, self._on_rx)
        self.bus.unsubscribe(self._state_topic, self._on_state)
        self._watch(None)

    # -- viewers ---------------------------------------------------------------------------------------------------

    def add(self, client: ConsoleClient) -> None:
        """A viewer came."""
        self.clients.append(client)
        self.by_stream[client.viewer] = client
        self.renew(client)

    def drop(self, client: ConsoleClient) -> None:
        """A viewer left."""
        self.clients.remove(client)
        del self.by_stream[client.viewer]
        self._ask(ConsoleAction.CLOSE, client.viewer)
        if not self.clients:
            self._on_unused(self)

    def rename(self, client: ConsoleClient, viewer: str) -> None:
        """A viewer goes on under another name, with a new stream of input."""
        self._ask(ConsoleAction.CLOSE, client.viewer)
        del self.by_stream[client.viewer]
        client.viewer = viewer
        self.by_stream[viewer] = client
        self.renew(client)

    def renew(self, client: ConsoleClient) -> None:
        """Tell the relay that this viewer is there."""
        self._ask(ConsoleAction.OPEN, client.viewer)

    def _ask(self, action: ConsoleAction, viewer: str) -> None:
        request = ConsoleRequest(id=new_id(), action=action, viewer=viewer)
        try:
            self.bus.publish_nowait(self._set, request.to_payload(), expiry=_REQUEST_LIFE)
        except BusError as error:  # said again on the next connection, and every minute
            logger.debug("%s: %s not sent: %s", self.node_id, action, error)

    # -- output ----------------------------------------------------------------------------------------------------

    def _on_rx(self, message: Message) -> None:
        try:
            position = SolPosition.from_properties(message.properties)
        except ContractError as error:
            logger.warning("ignored output of %s's console: %s", self.node_id, error)
            return
        self._positioned = self._positioned and position is not None
        if message.retain:  # console output is never retained: an accident of somebody's, old and out of place
            return
        self._deliver(self._assembler.live(position, message.payload))

    def _deliver(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            for client in tuple(self.clients):
                client.on_piece(piece)
        if self._assembler.has_gap:
            self._repair()

    def _repair(self) -> None:
        if self._positioned and not self._repairing and not self._closed and self._assembler.stream is not None:
            self._repairing = True
            self._spawn(self._do_repair())

    async def _do_repair(self) -> None:
        """Ask for what is missing after the last octet delivered; when it can't be had, go on with a gap."""
        try:
            for _ in range(_REPAIR_TRIES):
                try:
                    async for piece in self.fetch(self._assembler.stream, self._assembler.next, _REPLAY_MAX):
                        self._deliver(self._assembler.repaired(SolPosition(piece.stream, piece.offset), piece.data))
                except BusDisconnectedError:
                    return  # repaired when the broker is back
                except (BusError, TimeoutError):
                    continue
                if not self._assembler.has_gap:
                    return
            self._deliver(self._assembler.give_up())
        finally:
            self._repairing = False

    def align(self, position: SolPosition) -> None:
        """The relay's answer to a viewer shows how far the stream is."""
        if self._assembler.stream is None:
            self._assembler.begin(position.stream, position.offset)
        elif self._assembler.stream != position.stream:
            self._deliver(self._assembler.begin(position.stream))
            self._repair()
        else:
            self._check_tail(position)

    def _check_tail(self, position: SolPosition) -> None:
        """Output that ends in a loss shows no gap; the offset in `sol/state` tells."""
        if self._is_behind(position):
            asyncio.get_running_loop().call_later(
                _TAIL_PATIENCE, lambda: self._repair() if self._is_behind(position) else None
            )

    def _is_behind(self, position: SolPosition) -> bool:
        return self._positioned and self._assembler.stream == position.stream and self._assembler.next < position.offset

    async def fetch(self, stream: str | None, offset: int | None, length: int) -> AsyncIterator[ConsoleReplay]:
        """Ask the relay for output it still holds. Raises `TimeoutError`, `BusError`; pieces come without holes."""
        request = ConsoleRequest(
            id=new_id(), action=ConsoleAction.REPLAY, stream=stream, offset=offset, length=length,
            reply_to=self._requests.topic,
        )  # fmt: skip
        end: int | None = None
        with self._requests.exchange(request.id) as exchange:
            self.bus.publish_nowait(
                self._set, request.to_payload(), expiry=_REQUEST_LIFE, response_topic=exchange.response_topic,
                correlation=exchange.correlation,
            )  # fmt: skip
            while True:
                message = await exchange.next(_REPLY_TIMEOUT)
                try:
                    piece = ConsoleReplay.from_payload(message.payload)
                except ContractError as error:
                    logger.warning("ignored a replay of %s's console: %s", self.node_id, error)
                    raise TimeoutError from None
                if end is not None and piece.offset != end:
                    raise TimeoutError("a piece of the replay is missing")
                end = piece.offset + len(piece.data)
                yield piece
                if piece.last:
                    return

    # -- state -----------------------------------------------------------------------------------------------------

    def _on_state(self, message: Message) -> None:
        if not message.payload:
            self.state = None
        else:
            try:
                self.state = ConsoleState.from_payload(message.payload)
            except ContractError as error:
                logger.warning("ignored the state of %s's console: %s", self.node_id, error)
                return
        state = self.state
        self._watch(state.relay if state else None)
        if state is not None:
            known = self._assembler.stream
            if known is not None and state.stream != known:
                self._deliver(self._assembler.begin(state.stream))
                if state.offset:
                    self._repair()
            else:
                self._check_tail(SolPosition(state.stream, state.offset))
        self._tell()

    def _watch(self, relay: str | None) -> None:
        if relay == self._relay:
            return
        if self._relay is not None:
            self.bus.unsubscribe(self._availability(self._relay), self._on_availability)
        self._relay, self._relay_online = relay, True
        if relay is not None:
            try:
                self.bus.subscribe(self._availability(relay), self._on_availability)
            except ContractError as error:
                logger.warning("%s's console names no proper relay: %s", self.node_id, error)
                self._relay = None

    def _availability(self, relay: str) -> str:
        return self._topics.service(relay, TopicKind.SERVICE_AVAILABILITY)

    def _on_availability(self, message: Message) -> None:
        self._relay_online = message.payload.strip() != Availability.OFFLINE.value.encode()
        self._tell()

    @property
    def acks(self) -> bool:
        """The relay acknowledges input."""
        return self.bus.settings.protocol == "5" and self.state is not None and self.state.acks

    @property
    def why_offline(self) -> str:
        """Why input can't reach the port; empty when it can."""
        if not self.bus.connected:
            return f"no connection to the broker: {self.bus.last_error or 'not yet connected'}"
        if self.state is None:
            return f"no relay serves the console of {self.node_id}"
        if not self._relay_online:
            return f"the relay {self._relay} is away"
        if not self.state.online:
            return self.state.error or "the port is away"
        return ""

    def _tell(self) -> None:
        """Tell the viewers when the console went away or came back."""
        why = self.why_offline
        if bool(why) != bool(self._why_told):
            kind = NoticeKind.OFFLINE if why else NoticeKind.ONLINE
            for client in tuple(self.clients):
                client.on_notice(ConsoleNotice(kind, why or "the console is back"))
        self._why_told = why

    def on_bus(self, up: bool, now: float) -> None:
        """The broker is away or back: the hub says so after subscriptions are in place."""
        if up:
            for client in tuple(self.clients):
                self.renew(client)
            self._repair()
            if not self._positioned:
                self._deliver([Lost(None)])
        self._tell()
        for client in tuple(self.clients):
            client.on_bus(up, now)

    # -- input -----------------------------------------------------------------------------------------------------

    def send(self, position: SolPosition, data: bytes) -> None:
        """Publish input. Raises `BusError`s."""
        acks = self.acks
        self.bus.publish_nowait(
            self._tx, data, expiry=_INPUT_LIFE, properties=position.to_properties(),
            response_topic=self._requests.topic if acks else None,
            correlation=self._ack_id.encode() if acks else None,
        )  # fmt: skip

    async def send_break(self, viewer: str, duration_ms: int) -> None:
        """Ask for a break and wait for the relay's word."""
        why = self.why_offline
        if why:
            raise ConsoleOfflineError(why)
        request = ConsoleRequest(
            id=new_id(), action=ConsoleAction.BREAK, viewer=viewer, duration_ms=duration_ms,
            reply_to=self._requests.topic,
        )  # fmt: skip
        try:
            with self._requests.exchange(request.id) as exchange:
                self.bus.publish_nowait(
                    self._set, request.to_payload(), expiry=_REQUEST_LIFE, response_topic=exchange.response_topic,
                    correlation=exchange.correlation,
                )  # fmt: skip
                ack = ConsoleAck.from_payload((await exchange.next(_REPLY_TIMEOUT + duration_ms / 1000)).payload)
        except (BusError, TimeoutError, ContractError) as error:
            raise ConsoleOfflineError(f"no answer to the break: {error or 'the relay is silent'}") from None
        if ack.error:
            raise ConsoleRefusedError(ack.error)
