"""One viewer of a node's console: scrollback, then live output, and input. Made by `ConsoleHub.attach`."""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from pypmi.bus import Bus, BusDisconnectedError, BusError
from pypmi.console.assembly import HELD_LIMIT, Chunk, Lost, Piece
from pypmi.console.events import (
    ConsoleData,
    ConsoleError,
    ConsoleEvent,
    ConsoleGap,
    ConsoleNotice,
    ConsoleOfflineError,
    NoticeKind,
    OnEvent,
)
from pypmi.console.transmit import TransmitWindow
from pypmi.contract import ConsoleAck, ConsoleReplay, ConsoleState, SolPosition, new_id

if TYPE_CHECKING:
    from pypmi.console.feed import Feed

logger = logging.getLogger(__name__)

_STALL = 2.0
"""Seconds without a word from the relay before input is sent again."""
_STALLS_MAX = 5
_RESEND_WITHIN = 30.0
"""Seconds. Input under way when the broker was lost is sent again if it is back by then: later, nobody expects it."""
_CHUNK = 4096
_DEFAULT_BAUD = 115_200
_BITS_PER_OCTET = 10
_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_.-]+")


class ConsoleClient:
    """A viewer of one node's console.

    Events go to the callback given to `ConsoleHub.attach`: the scrollback (`ConsoleData` with `scrollback`), a notice
    `LIVE`, then live `ConsoleData`: each octet once and in order, with a `ConsoleGap` where octets are lost for good,
    and `ConsoleNotice`s.

    Input goes the other way through a window of 16 KiB: `write` waits for room, `write_nowait` takes what fits.
    """

    def __init__(
        self, feed: "Feed", viewer: str, on_event: OnEvent, scrollback: int, on_room: Callable[[], None] | None
    ) -> None:
        self.node_id = feed.node_id
        self._feed = feed
        self._bus: Bus = feed.bus
        self._name = _NOT_IN_ID.sub("-", viewer)[:40] or "viewer"
        self._on_event = on_event
        self._on_room = on_room
        self._scrollback = scrollback
        self._pending: deque[Piece] | None = deque()
        self._pending_octets = 0
        self._seen: SolPosition | None = None
        self._window = TransmitWindow()
        self._room = asyncio.Event()
        self._paced_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stalls = 0
        self._down_at: float | None = None
        self._attached = True
        self.viewer = self._new_viewer()
        """Unique name of this viewer on the bus: its lease, and the stream of its input."""

    def _new_viewer(self) -> str:
        return f"{self._name}:{new_id()}"

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Until `detach`."""
        return self._attached

    @property
    def state(self) -> ConsoleState | None:
        """What the relay last said about the console; None when nothing was heard."""
        return self._feed.state

    @property
    def why_offline(self) -> str:
        """Why input can't reach the port now, for people; empty when it can."""
        return self._feed.why_offline

    @property
    def room(self) -> int:
        """Octets that `write_nowait` would take now."""
        self._pace()
        return max(0, self._window.room)

    @property
    def unwritten(self) -> int:
        """Octets taken by `write` and not yet known to be out of the port."""
        self._pace()
        return self._window.next - self._window.written

    # -- life ------------------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Stop. No event comes after this call. Input already taken still goes to the port."""
        if not self._attached:
            return
        self._attached = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()
        self._feed.drop(self)

    async def join(self) -> None:
        """Fetch the scrollback and go live; run by the hub."""
        pieces: list[ConsoleReplay] = []
        while self._scrollback > 0:
            await self._bus.wait_connected()
            try:
                pieces = [piece async for piece in self._feed.fetch(None, None, self._scrollback)]
                break
            except BusError:
                await asyncio.sleep(0.1)
            except TimeoutError:
                break  # no relay, or one that does not replay: live output is still worth having
        if self._attached:
            self._go_live(pieces)

    def _go_live(self, pieces: list[ConsoleReplay]) -> None:
        pending, self._pending = self._pending or deque(), None
        for piece in pieces:
            if piece.data:
                self._emit(ConsoleData(piece.data, scrollback=True))
        if pieces:
            end = pieces[-1].offset + len(pieces[-1].data)
            self._seen = SolPosition(pieces[-1].stream, end)
            if any(isinstance(piece, Chunk) and piece.position is None for piece in pending):
                # no positions: what came before the answer is in the answer, for the relay sends both in order
                pending.clear()
        self._emit(ConsoleNotice(NoticeKind.LIVE, "live output follows"))
        for item in pending:
            self.on_piece(item)
        if self._seen is not None:
            self._feed.align(self._seen)
        why = self._feed.why_offline
        if why:
            self._emit(ConsoleNotice(NoticeKind.OFFLINE, why))

    # -- output ----------------------------------------------------------------------------------------------------

    def on_piece(self, piece: Piece) -> None:
        """Something from the stream, in order; called by the feed."""
        if self._pending is not None:
            self._pending.append(piece)
            self._pending_octets += len(piece.data) if isinstance(piece, Chunk) else 0
            while self._pending_octets > HELD_LIMIT:
                oldest = self._pending.popleft()
                self._pending_octets -= len(oldest.data) if isinstance(oldest, Chunk) else 0
            return
        if isinstance(piece, Lost):
            if piece.restarted:
                self.lose_input("the relay was restarted")
                self._emit(ConsoleNotice(NoticeKind.RESTARTED, "the relay was restarted; what came meanwhile is lost"))
            self._emit(ConsoleGap(piece.octets))
            return
        data, position, seen = piece.data, piece.position, self._seen
        if position is not None and seen is not None and position.stream == seen.stream:
            data = data[max(0, seen.offset - position.offset) :]  # the scrollback had it
            if not data:
                return
        self._emit(ConsoleData(data))

    def on_notice(self, notice: ConsoleNotice) -> None:
        """The console or the way to it changed; called by the feed."""
        self._wake()
        if self._pending is None:
            self._emit(notice)

    def _emit(self, event: ConsoleEvent) -> None:
        if not self._attached:
            return
        try:
            self._on_event(event)
        except Exception:
            logger.exception("the viewer of %s's console failed", self.node_id)

    # -- input -----------------------------------------------------------------------------------------------------

    def write_nowait(self, data: bytes) -> int:
        """Send what there is room for, and return how many octets that is (0 when the window is full).

        Raises `ConsoleOfflineError`, with nothing sent, when broker, relay or port is away.
        """
        if not self._attached:
            raise ConsoleError("this viewer has left the console")
        why = self._feed.why_offline
        if why:
            raise ConsoleOfflineError(why)
        self._pace()
        offset, taken = self._window.send(data)
        if taken:
            self._publish(offset, taken)
            self._arm(_STALL if self._acked else self._pace_time())
        return len(taken)

    async def write(self, data: bytes) -> None:
        """Send all of `data`, as fast as the port takes it.

        Raises like `write_nowait`; then a part may have been sent.
        """
        while True:
            self._room.clear()
            data = data[self.write_nowait(data) :]
            if not data:
                return
            await self._room.wait()

    async def drain(self) -> None:
        """Wait until all input is out of the port. Raises `ConsoleOfflineError` when that can't be known any more."""
        while self.unwritten:
            self._room.clear()
            await self._room.wait()
            if not self._attached or (self.unwritten and self._feed.why_offline and self._bus.connected):
                raise ConsoleOfflineError(self._feed.why_offline or "this viewer has left the console")

    async def send_break(self, duration_ms: int = 250) -> None:
        """Hold the line for 1-5000 ms, after the input sent before.

        Raises `ConsoleOfflineError`, or `ConsoleRefusedError` when this kind of line can't carry a break.
        """
        await self._feed.send_break(self.viewer, duration_ms)

    def _wake(self) -> None:
        self._room.set()
        if self._on_room is not None and self._attached:
            self._on_room()

    @property
    def _acked(self) -> bool:
        return self._feed.acks

    def _publish(self, offset: int, data: bytes) -> None:
        for start in range(0, max(1, len(data)), _CHUNK):
            try:
                self._feed.send(SolPosition(self.viewer, offset + start), data[start : start + _CHUNK])
            except BusDisconnectedError:
                return  # kept in the window; sent again when the broker is back
            except BusError as error:
                logger.warning("input for %s's console waits: %s", self.node_id, error)
                return

    def on_ack(self, ack: ConsoleAck) -> None:
        """The relay's answer to input; called by the hub."""
        self._stalls = 0
        refused = self._window.acknowledge(ack)
        self._wake()
        if refused:
            self._say_lost(refused, ack.error or "refused by the relay")
        if self._window.idle and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lose_input(self, why: str) -> None:
        """Nobody can say what became of the input under way: name it lost, and begin a new stream for what follows."""
        lost = self._window.next - self._window.written
        if not lost:
            return
        self._window = TransmitWindow()
        self._feed.rename(self, self._new_viewer())
        self._say_lost(lost, why)

    def _say_lost(self, octets: int, why: str) -> None:
        self._emit(ConsoleNotice(NoticeKind.INPUT_LOST, f"{octets} octets of input lost: {why}"))

    def on_bus(self, up: bool, now: float) -> None:
        """The broker is away or back; called by the hub."""
        self._wake()
        if not up:
            self._down_at = now
            return
        away, self._down_at = now - (self._down_at or now), None
        if self._window.idle or not self._acked:
            return
        if away > _RESEND_WITHIN:
            self.lose_input(f"the broker was away for {away:.0f} s")
        else:
            self._publish(self._window.received, self._window.unanswered)
            self._arm(_STALL)

    def _arm(self, delay: float) -> None:
        if self._timer is None and self._attached:
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._acked:
            self._pace()
            self._wake()
            if not self._window.idle:
                self._arm(self._pace_time())
            return
        if self._window.idle or self._down_at is not None:
            return
        self._stalls += 1
        if self._stalls > _STALLS_MAX:
            self._stalls = 0
            self.lose_input("the relay does not answer")
            return
        # even with nothing to repeat this asks the relay where it is: its last answer may be what was lost
        self._publish(self._window.received, self._window.unanswered)
        self._arm(_STALL)

    # Without acknowledgements (MQTT 3.1.1) the line's speed is all there is to go by.

    def _pace(self) -> None:
        if self._acked:
            return
        now = asyncio.get_running_loop().time()
        if self._window.idle:
            self._paced_at = now
            return
        octets = int((now - self._paced_at) * self._rate)
        if octets > 0:
            self._window.assume_written(octets)
            self._paced_at += octets / self._rate

    @property
    def _rate(self) -> float:
        baud = (self._feed.state.baud if self._feed.state else None) or _DEFAULT_BAUD
        return baud / _BITS_PER_OCTET

    def _pace_time(self) -> float:
        return min(1.0, max(0.01, (self._window.next - self._window.written) / 2 / self._rate))
