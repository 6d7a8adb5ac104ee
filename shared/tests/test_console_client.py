"""The viewer's side without a network: order, gaps, windows, the bounded queue."""

import asyncio
import random

from pypmi.console import ConsoleData, ConsoleGap, ConsoleNotice, ConsoleQueue, NoticeKind
from pypmi.console.assembly import HELD_LIMIT, Chunk, Lost, StreamAssembler
from pypmi.console.transmit import TransmitWindow
from pypmi.contract import ConsoleAck, SolPosition


def at(offset: int, stream: str = "s") -> SolPosition:
    return SolPosition(stream, offset)


def text(pieces) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, Chunk))


def lost(pieces) -> list[int | None]:
    return [piece.octets for piece in pieces if isinstance(piece, Lost)]


def test_duplicates_and_overlaps_are_dropped():
    stream = StreamAssembler()
    assert text(stream.live(at(10), b"abcd")) == b"abcd"
    assert stream.live(at(10), b"abcd") == []
    assert text(stream.live(at(12), b"cdef")) == b"ef"
    assert stream.next == 16


def test_a_gap_holds_back_until_it_is_repaired():
    stream = StreamAssembler()
    stream.live(at(0), b"ab")
    assert stream.live(at(4), b"ef") == []
    assert stream.live(at(6), b"gh") == []
    assert stream.has_gap
    assert text(stream.repaired(at(2), b"cdef")) == b"cdefgh"
    assert not stream.has_gap


def test_what_the_relay_no_longer_has_is_named():
    stream = StreamAssembler()
    stream.live(at(0), b"ab")
    stream.live(at(10), b"kl")
    pieces = stream.repaired(at(7), b"hij")
    assert lost(pieces) == [5]
    assert text(pieces) == b"hijkl"


def test_what_can_not_be_repaired_is_given_up():
    stream = StreamAssembler()
    stream.live(at(0), b"ab")
    stream.live(at(5), b"f")
    stream.live(at(9), b"j")
    pieces = stream.give_up()
    assert lost(pieces) == [3, 3]
    assert text(pieces) == b"fj"


def test_what_is_held_is_bounded():
    stream = StreamAssembler()
    stream.live(at(0), b"x")
    pieces = []
    for number in range(200):
        pieces += stream.live(at(100 + number * 10_000), bytes(10_000))
    assert lost(pieces) == [99]
    assert len(text(pieces)) > HELD_LIMIT


def test_a_new_stream_begins_at_its_start_and_the_old_one_is_over():
    stream = StreamAssembler()
    stream.live(at(0), b"ab")
    pieces = stream.live(at(3, "new"), b"!")
    assert [piece.restarted for piece in pieces if isinstance(piece, Lost)] == [True]
    assert stream.has_gap
    assert text(stream.repaired(at(0, "new"), b"abc!")) == b"abc!"
    assert stream.live(at(2), b"late") == []


def test_any_order_any_cut_gives_the_stream_once():
    rng = random.Random(7)
    data = rng.randbytes(5000)
    for _ in range(50):
        stream = StreamAssembler()
        got = text(stream.live(at(0), data[:1]))
        chunks = []
        for _ in range(400):
            start = rng.randrange(len(data))
            chunks.append((start, data[start : start + rng.randrange(1, 200)]))
        for start, chunk in chunks:
            got += text(stream.live(at(start), chunk))
        got += text(stream.repaired(at(stream.next), data[stream.next :]))
        assert got == data


def test_the_window_keeps_what_the_relay_may_not_have():
    window = TransmitWindow(limit=10)
    assert window.send(b"0123456789abc") == (0, b"0123456789")
    assert window.send(b"x") == (10, b"")
    window.acknowledge(ConsoleAck(id="i", stream="s", offset=6, written=4))
    assert (window.unanswered, window.received, window.room) == (b"6789", 6, 4)
    assert window.send(b"abcdef") == (10, b"abcd")
    assert window.acknowledge(ConsoleAck(id="i", stream="s", offset=14, written=14, refused=3)) == 3
    assert window.acknowledge(ConsoleAck(id="i", stream="s", offset=2, written=1, refused=3)) == 0
    assert window.idle
    # an answer about octets that were never sent moves nothing
    window.acknowledge(ConsoleAck(id="i", stream="s", offset=99, written=99))
    assert window.next == 14


def test_without_acknowledgements_time_makes_room():
    window = TransmitWindow(limit=10)
    window.send(b"0123456789")
    window.assume_written(4)
    assert (window.room, window.unanswered) == (4, b"456789")
    window.assume_written(100)
    assert window.idle


async def test_a_slow_consumer_loses_the_oldest_and_sees_it():
    queue = ConsoleQueue(limit=100)
    queue.put(ConsoleNotice(NoticeKind.LIVE, "live"))
    for number in range(30):
        queue.put(ConsoleData(b"%010d" % number))
    events = []
    while (event := queue.get_nowait()) is not None:
        events.append(event)
    octets = sum(len(event.data) for event in events if isinstance(event, ConsoleData))
    gone = sum(event.lost or 0 for event in events if isinstance(event, ConsoleGap))
    assert octets + gone == 300
    assert octets <= 100
    assert ConsoleNotice(NoticeKind.LIVE, "live") in events
    assert events[-1] == ConsoleData(b"%010d" % 29)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(ConsoleData(b"x"))
    assert await waiting == ConsoleData(b"x")
