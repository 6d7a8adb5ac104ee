"""The relay's parts alone: ring, log, input queue, viewers, pace."""

import random
import re
from pathlib import Path

import pytest
from pypmi.bus import Message
from pypmi.contract import ConsoleAck, SolPosition
from sol_relay.input import QUEUE_LIMIT, Break, InputQueue
from sol_relay.log import ConsoleLog, LogWriter
from sol_relay.output import Pace
from sol_relay.ring import Ring
from sol_relay.viewers import Viewers

STAMP = rb"2026-01-02T03:04:05\.\d{3}Z "
AT = 1767323045.5


def test_the_ring_keeps_the_newest():
    ring = Ring(100)
    rng = random.Random(1)
    everything = b""
    for _ in range(500):
        data = rng.randbytes(rng.randrange(40))
        everything += data
        ring.append(data)
        assert ring.end == len(everything)
        assert ring.read(ring.start, 1000) == everything[-100:]
    with pytest.raises(IndexError):
        ring.read(ring.start - 1, 1)
    with pytest.raises(IndexError):
        ring.overwrite(ring.end - 1, b"ab")
    ring.overwrite(ring.start, b"mark")
    assert ring.read(ring.start, 4) == b"mark"


def test_log_lines_are_stamped_and_bytes_kept(tmp_path):
    log = ConsoleLog(tmp_path / "new" / "n1.log", size=1_000_000, files=2)
    for piece in (b"first\r\nsec", b"ond\r\n\xff\x00", b"\n"):
        log.add(piece, AT)
        log.write(log.take(), 1.0)
    path = tmp_path / "new" / "n1.log"
    assert re.fullmatch(STAMP + rb"first\r\n" + STAMP + rb"second\r\n" + STAMP + rb"\xff\x00\n", path.read_bytes())
    assert path.stat().st_mode & 0o077 == 0


def test_the_log_rotates_and_is_bounded(tmp_path):
    log = ConsoleLog(tmp_path / "n1.log", size=1000, files=3)
    for _ in range(200):
        log.add(b"x" * 99 + b"\n", AT)
        log.write(log.take(), 1.0)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept - {"n1.log"} == {"n1.log.1", "n1.log.2", "n1.log.3"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 6000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_once_and_tried_again(tmp_path, caplog):
    path = tmp_path / "n1.log"
    path.symlink_to("/dev/full")
    log = ConsoleLog(path, size=1000, files=1)
    for second in range(10):
        log.add(b"data\n", AT)
        log.write(log.take(), float(second))
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    path.unlink()
    log.add(b"after\n", AT)
    log.write(log.take(), 100.0)
    assert b"interrupted" in path.read_bytes()
    assert path.read_bytes().endswith(b"after\n")


def test_a_disk_that_does_not_keep_up_costs_the_log_only(tmp_path):
    log = ConsoleLog(tmp_path / "n1.log", size=10_000_000, files=1)
    for _ in range(3000):
        log.add(bytes(1000), AT)
    waiting = log.take()
    assert len(waiting) < 1_200_000
    log.add(b"go on", AT)
    assert b"octets are not in this log" in log.take()


async def test_the_writer_writes_the_rest_when_it_stops(tmp_path):
    writer = LogWriter()
    log = ConsoleLog(tmp_path / "n1.log", size=1000, files=1)
    writer.add(log)
    log.add(b"last words", AT)
    writer.stop()
    await writer.run()
    assert (tmp_path / "n1.log").read_bytes().endswith(b"last words")


class Desk:
    """An input queue and what it says."""

    def __init__(self) -> None:
        self.acks: list[ConsoleAck] = []
        self.refused: list[tuple[int, str]] = []
        self.queue = InputQueue(lambda _topic, ack: self.acks.append(ack), lambda *item: self.refused.append(item))

    def send(self, offset: int, data: bytes, *, refuse: str = "", reply: bool = True, stream: str = "s") -> None:
        message = Message("t", data, False, 1, "reply" if reply else None, b"id" if reply else None)
        self.queue.take(message, SolPosition(stream, offset), refuse)

    def drain(self, step: int = 1000) -> bytes:
        out = b""
        while isinstance(item := self.queue.next(), bytes):
            out += item[:step]
            self.queue.wrote(min(step, len(item)))
        return out


def test_input_is_acknowledged_when_it_is_written():
    desk = Desk()
    desk.send(0, b"hello")
    assert desk.acks == []
    assert desk.drain(2) == b"hello"
    assert (desk.acks[-1].offset, desk.acks[-1].written, desk.acks[-1].refused) == (5, 5, 0)


def test_a_gap_makes_the_sender_go_back():
    desk = Desk()
    desk.send(0, b"ab")
    desk.send(4, b"ef")
    assert desk.acks[-1].offset == 2
    desk.send(2, b"cdef")
    assert desk.drain() == b"abcdef"


def test_a_gap_nobody_will_fill_is_named():
    desk = Desk()
    desk.send(0, b"ab", reply=False)
    desk.send(4, b"ef", reply=False)
    assert desk.drain() == b"abef"
    assert desk.refused == [(2, "lost on the way to the relay")]


def test_refused_input_is_counted_for_its_sender():
    desk = Desk()
    desk.send(0, b"abc", refuse="the port is away")
    assert (desk.acks[-1].offset, desk.acks[-1].written, desk.acks[-1].refused) == (3, 3, 3)
    assert desk.acks[-1].error == "the port is away"
    assert desk.refused == [(3, "the port is away")]
    desk.send(0, b"abc")
    desk.send(3, b"d")
    assert desk.drain() == b"d"


def test_the_queue_is_bounded_and_what_does_not_fit_comes_again():
    desk = Desk()
    chunk = bytes(4096)
    sent = 0
    while sent < QUEUE_LIMIT + 8192:
        desk.send(sent, chunk)
        sent += len(chunk)
    assert desk.queue.octets == QUEUE_LIMIT
    assert len(desk.drain(4096)) == QUEUE_LIMIT
    desk.send(QUEUE_LIMIT, chunk)
    assert len(desk.drain()) == 4096
    assert not desk.refused


def test_a_lost_port_refuses_what_waits():
    desk = Desk()
    answers: list[str | None] = []
    desk.send(0, b"abc")
    desk.queue.add_break(Break(0.1, answers.append))
    desk.send(3, b"def")
    desk.queue.wrote(1)
    desk.queue.fail("unplugged")
    assert answers == ["unplugged"]
    assert desk.refused == [(5, "unplugged")]
    assert (desk.acks[-1].written, desk.acks[-1].refused) == (6, 5)
    assert desk.queue.next() is None


def test_senders_are_bounded():
    desk = Desk()
    for number in range(1000):
        desk.send(0, b"x", stream=f"s{number}")
    assert len(desk.queue._senders) <= 256


def test_leases_and_the_one_writer_expire():
    viewers = Viewers(one_writer=True)
    viewers.open("a", 0)
    viewers.open("b", 100)
    assert viewers.may_write("a", 100)
    assert not viewers.may_write("b", 130)
    assert viewers.may_write("b", 161)
    viewers.expire(181)
    assert len(viewers) == 1
    assert viewers.writer == "b"
    viewers.expire(300)
    assert viewers.writer is None
    assert len(viewers) == 0


def test_the_pace_keeps_all_consoles_below_the_budget():
    pace = Pace(random.Random(1))
    pace.busy = 1
    assert pace.interval(0) <= Pace.SHORTEST * 1.25
    pace.busy = 250
    assert sum(pace.interval(9) for _ in range(1000)) / 1000 == pytest.approx(0.125, rel=0.05)
    pace.busy = 100_000
    assert pace.interval(9) <= Pace.LONGEST * 1.25
    for _ in range(10):
        for _ in range(5000):
            pace.count()
        pace.settle(1.0)
    assert pace.shortest == Pace.LONGEST
    for _ in range(10):
        pace.settle(1.0)
    assert pace.shortest == Pace.SHORTEST
