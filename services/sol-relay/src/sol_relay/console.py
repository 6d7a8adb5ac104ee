"""One console: a port on one side, the node's `sol/*` topics on the other."""

import asyncio
import logging
import time
from dataclasses import dataclass

from pypmi.bus import Bus, BusError, Message
from pypmi.contract import (
    ConsoleAck,
    ConsoleState,
    ContractError,
    Event,
    EventType,
    SolPosition,
    TopicKind,
    Topics,
    new_id,
    utc_now,
)

from sol_relay.input import Break, InputQueue
from sol_relay.links import Link, LinkError
from sol_relay.log import ConsoleLog
from sol_relay.markers import duration, marker
from sol_relay.output import Output, Pace
from sol_relay.port import Port
from sol_relay.ring import Ring
from sol_relay.settings import ConsoleConfig
from sol_relay.viewers import Viewers

logger = logging.getLogger(__name__)

_READS = 16
"""Reads of one port before others get their turn."""
_FULL_READ = 2048
"""Octets. After a smaller piece there is most likely nothing more: not worth asking the kernel again."""
_TYPED = 64
"""Octets in one interval that may be somebody's typing."""
_WRITE = 4096
_HOLD = 30.0
"""Seconds without a broker for which a port that can wait is made to wait. After that the console runs on and the
ring keeps the newest: a machine must not hang because nobody listens to its console."""
_VIEWERS_BACK = 5.0
"""Seconds after the broker came back that viewers may need to come back too, and to ask for what they missed: until
then a port that can wait waits, so that the ring still has it."""
_STATE_IDLE = 1.0
_STATE_BUSY = 10.0
"""Seconds between two `sol/state` with nothing new in them but the offset: a quiet console, a busy one."""
_DOWN_TICK = 0.25
_STOPPED = "the relay was stopped"


@dataclass(frozen=True, slots=True)
class RelayPlace:
    """What all consoles of a relay share."""

    bus: Bus
    topics: Topics
    name: str
    epoch: str
    pace: Pace


class Console:
    """Carries one console. `run` must be running; messages come by `on_input` and the methods for requests."""

    def __init__(self, place: RelayPlace, config: ConsoleConfig, log: ConsoleLog | None) -> None:
        self.config = config
        self.online = False
        self.log = log
        self._place = place
        self._bus = place.bus
        self._loop = asyncio.get_running_loop()
        self._events = place.topics.node(config.node_id, TopicKind.EVENTS)
        self._state_topic = place.topics.node(config.node_id, TopicKind.SOL_STATE)
        rx = place.topics.node(config.node_id, TopicKind.SOL_RX)
        self.output = Output(place.bus, rx, new_id(), Ring(config.ring), pace=place.pace, on_room=self._on_output_room)
        self.input = InputQueue(self._acknowledge, self._on_refused)
        self.viewers = Viewers(one_writer=config.writers == "one")
        self._port = Port(config.target, self._on_open, self._on_lost, self._on_close)
        self._link: Link | None = None
        self._error: str | None = "not opened yet"
        self._lost_at: float | None = None
        """When the port was lost that worked before; None while it works, and before the first time."""
        self._tick: asyncio.TimerHandle | None = None
        self._busy_ticks = 0
        """Intervals in a row that had much output."""
        self._breaking: asyncio.TimerHandle | None = None
        self._write_waits = False
        self._refused: dict[str, int] = {}
        self._bus_lost_at: float | None = None
        self._viewers_back_by = 0.0
        self._state_due = True
        self._state_at = 0.0
        self._state_offset = -1
        self.received_octets = 0
        self.written_octets = 0
        self.refused_octets = 0

    async def run(self) -> None:
        """Work until cancelled."""
        self.publish_state()
        try:
            await self._port.run()
        finally:
            self._error = _STOPPED
            self._flush_refused()
            self.output.flush()
            self.publish_state()

    # -- the port --------------------------------------------------------------------------------------------------

    def _on_open(self, link: Link) -> None:
        self._link = link
        self.online, self._error = True, None
        if self._lost_at is not None:
            away, self._lost_at = self._loop.time() - self._lost_at, None
            self._flush_refused()
            self._say(f"console link is back after {duration(away)}; output of that time is lost")
            self._event(EventType.CONSOLE_BACK, f"the console is back after {duration(away)}")
        logger.info("console of %s: %s is open", self.config.node_id, self.config.target)
        self._state_due = True
        self.housekeep()
        link.arm(self._on_readable)
        self._pump_input()

    def _on_lost(self, why: str) -> None:
        logger.warning("console of %s: %s", self.config.node_id, why)
        self._error = why[:128]
        if self.online:
            self._lost_at = self._loop.time()
            self._drop_link(why)
            self._say(f"console link lost: {why}")
            self._event(EventType.CONSOLE_LOST, why)
        self._state_due = True
        self.housekeep()

    def _on_close(self) -> None:
        if self._link is not None:
            self._drop_link(_STOPPED)

    def _drop_link(self, why: str) -> None:
        """Stop using the link; the port closes it."""
        self.online = False
        link, self._link = self._link, None
        if self._breaking is not None:
            self._breaking.cancel()
            self._breaking = None
        if link is not None:
            link.disarm()
        self._write_waits = False
        self.input.fail(why)

    def _fail(self, error: LinkError) -> None:
        self._port.lose(str(error))

    # -- output ----------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        self._read(announced=True)
        link = self._link
        if link is None:
            return
        if link.polled:
            link.disarm()
        if self._tick is None:
            # what came after a pause goes out at once; what follows is collected for an interval
            self.output.flush()
            self._start_tick()

    def _start_tick(self, delay: float | None = None) -> None:
        """Publish and read again after a while; the delay is in seconds."""
        if self._tick is None:
            pace = self._place.pace
            pace.busy += 1
            self._tick = self._loop.call_later(
                pace.interval(self._busy_ticks) if delay is None else delay, self._on_tick
            )

    def _on_tick(self) -> None:
        self._tick = None
        self._place.pace.busy -= 1
        link = self._link
        before = self.output.ring.end
        if link is not None and link.polled:
            self._read(announced=False)
        waiting = self.output.backlog
        self.output.flush()
        if waiting or self.output.ring.end != before or self._loop.time() < self._viewers_back_by:
            # keys and their echoes are not what intervals grow for
            self._busy_ticks = self._busy_ticks + 1 if waiting > _TYPED else 0
            self._start_tick(None if self._bus.connected else _DOWN_TICK)
            return
        self._busy_ticks = 0
        if link is not None and link is self._link and link.polled:
            link.arm(self._on_readable)

    def _read(self, *, announced: bool) -> None:
        """Read what there is, unless the far side can wait and had better."""
        for _ in range(_READS):
            link = self._link
            if link is None or (link.can_wait and self._is_behind()):
                return
            try:
                data = link.read(announced=announced)
            except LinkError as error:
                link.disarm()
                self._fail(error)
                return
            if not data:
                return
            more, announced = len(data) >= _FULL_READ, False
            self.received_octets += len(data)
            self._add(data)
            if not more:
                return

    def _is_behind(self) -> bool:
        """The bus does not keep up, and there is hope that it will."""
        now = self._loop.time()
        if now < self._viewers_back_by:
            return True
        if self.output.backlog < self.config.ring // 2:
            return False
        return self._bus_lost_at is None or now - self._bus_lost_at < _HOLD

    def _add(self, data: bytes) -> None:
        self.output.add(data)
        if self.log is not None:
            self.log.add(data, time.time())

    def _say(self, text: str) -> None:
        self._add(marker(text))
        self.output.flush()
        if self.output.backlog:
            self._start_tick()

    def _on_output_room(self) -> None:
        link = self._link
        if link is not None and link.polled and self._tick is not None:
            self._read(announced=False)
            self.output.flush()

    # -- input -----------------------------------------------------------------------------------------------------

    def on_input(self, message: Message) -> None:
        """A message on `sol/tx`."""
        if message.retain:
            logger.warning(
                "refused retained console input for %s: clear it, it would be typed again", self.config.node_id
            )
            return
        try:
            position = SolPosition.from_properties(message.properties)
        except ContractError as error:
            logger.warning("refused console input for %s: %s", self.config.node_id, error)
            return
        refuse = ""
        now = self._loop.time()
        viewer = position.stream if position is not None else ""
        if self._link is None:
            refuse = self._error or "the port is away"
        elif message.payload and not self.viewers.may_write(viewer, now):
            refuse = f"{self.viewers.writer or 'somebody'} is the one who types"
        self.input.take(message, position, refuse)
        self._pump_input()

    def _pump_input(self) -> None:
        link = self._link
        if self._write_waits or self._breaking is not None:
            return
        while link is not None and (item := self.input.next()) is not None:
            if isinstance(item, Break):
                self._begin_break(link, item)
                return
            try:
                taken = link.write(item[:_WRITE])
            except LinkError as error:
                self._fail(error)
                return
            if taken:
                self.written_octets += taken
                self.input.wrote(taken)
            if taken < min(len(item), _WRITE):
                self._write_waits = True
                link.on_writable(lambda: self._on_writable(link))
                return

    def _on_writable(self, link: Link) -> None:
        if link is self._link:
            self._write_waits = False
            self._pump_input()

    def _begin_break(self, link: Link, item: Break) -> None:
        try:
            link.set_break(True)
        except LinkError as error:
            item.done(str(error))
            self._loop.call_soon(self._pump_input)
            return
        self._breaking = self._loop.call_later(item.seconds, self._end_break, link, item)

    def _end_break(self, link: Link, item: Break) -> None:
        self._breaking = None
        try:
            link.set_break(False)
        except LinkError as error:
            item.done(str(error))
            self._fail(error)
            return
        item.done(None)
        self._pump_input()

    def send_break(self, item: Break, viewer: str) -> None:
        """A break, after the input that waits."""
        link = self._link
        if link is None:
            item.done(self._error or "the port is away")
        elif not link.can_break:
            try:
                link.set_break(True)
            except LinkError as error:
                item.done(str(error))
        elif not self.viewers.may_write(viewer, self._loop.time()):
            item.done(f"{self.viewers.writer or 'somebody'} is the one who types")
        else:
            self.input.add_break(item)
            self._pump_input()

    def _acknowledge(self, topic: str, ack: ConsoleAck) -> None:
        try:
            self._bus.publish_nowait(topic, ack.to_payload(), qos=0, correlation=ack.id.encode())
        except BusError as error:  # the sender asks again
            logger.debug("acknowledgement not sent: %s", error)

    def _on_refused(self, octets: int, why: str) -> None:
        self.refused_octets += octets
        # one line a second at the most, however fast somebody types
        self._refused[why] = self._refused.get(why, 0) + octets

    def _flush_refused(self) -> None:
        refused, self._refused = self._refused, {}
        for why, octets in list(refused.items())[:4]:
            self._say(f"{octets} octets of input were not delivered: {why}")

    # -- state -----------------------------------------------------------------------------------------------------

    def housekeep(self) -> None:
        """Once a second: expire viewers, report refused input, bring `sol/state` up to date."""
        now = self._loop.time()
        before = (len(self.viewers), self.viewers.writer)
        self.viewers.expire(now)
        if (len(self.viewers), self.viewers.writer) != before:
            self._state_due = True
        if self._refused:
            self._flush_refused()
        quiet = self._tick is None
        patience = _STATE_IDLE if quiet else _STATE_BUSY
        if self._state_due or (self.output.sent != self._state_offset and now - self._state_at >= patience):
            self.publish_state()

    def touch_state(self) -> None:
        """Something in the state changed; it is published within a second."""
        self._state_due = True

    def publish_state(self) -> None:
        """Publish `sol/state`."""
        self._state_due = False
        self._state_at = self._loop.time()
        self._state_offset = self.output.sent
        link = self._link
        state = ConsoleState(
            online=self.online,
            relay=self._place.name,
            can_break=link is not None and link.can_break,
            acks=self._bus.settings.protocol == "5",
            baud=self.config.target.baud,
            viewers=len(self.viewers),
            writer=self.viewers.writer or None,
            stream=self.output.stream,
            offset=self.output.sent,
            dropped=self.output.dropped,
            error=self._error,
            at=utc_now(),
            epoch=self._place.epoch,
        )
        self._bus.set_retained(self._state_topic, state.to_payload())

    def _event(self, kind: EventType, text: str) -> None:
        event = Event(
            type=kind, cause="hardware", source=self._place.name, message=text[:1024], at=utc_now(),
            epoch=self._place.epoch,
        )  # fmt: skip
        try:
            self._bus.publish_nowait(self._events, event.to_payload())
        except BusError as error:
            logger.warning("event %s of %s not sent: %s", kind, self.config.node_id, error)

    # -- the bus ---------------------------------------------------------------------------------------------------

    def on_bus_lost(self) -> None:
        """The broker is away."""
        if self._bus_lost_at is None:
            self._bus_lost_at = self._loop.time()

    def on_bus_back(self) -> None:
        """The broker is back, and may have forgotten everything."""
        if self._bus_lost_at is not None:
            self._viewers_back_by = self._loop.time() + min(_VIEWERS_BACK, _HOLD)
        self._bus_lost_at = None
        self.output.resume()
        if self.output.backlog:
            self._start_tick()
        self.publish_state()
