"""Bytes through the endpoint over links that lose, repeat and reorder packets: all arrive, once, in order."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ipmi_gateway.sol.endpoint import Endpoint, Timing

NACK = 0x40


class Schedule:
    """Simulated time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, call))

    def run(self, until: Callable[[], bool], limit: float) -> None:
        while self._heap and not until():
            when, _, call = heapq.heappop(self._heap)
            assert when <= limit, "it did not arrive in time"
            self.now = when
            call()


@dataclass
class Link:
    """One direction. Delays differ from packet to packet, so that later ones may overtake."""

    schedule: Schedule
    rng: random.Random
    loss: float
    repeat: float
    jitter: float
    deliver: Callable[[bytes], None] = lambda _: None
    delay: float = 0.002

    def send(self, packet: bytes) -> None:
        copies = 0 if self.rng.random() < self.loss else 2 if self.rng.random() < self.repeat else 1
        for _ in range(copies):
            when = self.schedule.now + self.delay + self.rng.random() * self.jitter
            self.schedule.at(when, lambda: self.deliver(packet))


@dataclass
class Client:
    """A client like FreeIPMI's: stop and wait, repeats after 0.5 s, sometimes accepts a part or nothing (NACK)."""

    schedule: Schedule
    rng: random.Random
    link: Link
    to_type: bytes
    chunk: int
    moody: float
    shown: bytearray = field(default_factory=bytearray)
    sequence: int = 0
    under_way: bytes = b""
    last: tuple[int, int, int, int] = (0, 0, 0, 0)  # number, length, accepted, flags of the last packet shown
    generation: int = 0

    @property
    def done(self) -> bool:
        return not self.to_type and not self.under_way

    def begin(self) -> None:
        if self.under_way or not self.to_type:
            return
        self.under_way = self.to_type[: self.chunk]
        self.sequence = self.sequence % 15 + 1
        self.generation += 1
        self.transmit(self.generation)

    def transmit(self, generation: int) -> None:
        if generation == self.generation and self.under_way:
            self.link.send(bytes((self.sequence, 0, 0, 0)) + self.under_way)
            self.schedule.at(self.schedule.now + 0.5, lambda: self.transmit(generation))

    def receive(self, packet: bytes) -> None:
        sequence, acknowledged, count, _ = packet[:4]
        characters = packet[4:]
        if acknowledged and acknowledged == self.sequence and self.under_way:
            self.to_type = self.to_type[min(count, len(self.under_way)) :]
            self.under_way = b""
            self.begin()
        if not sequence:
            return
        number, length, accepted, flags = self.last
        if sequence != number:
            if number and 0 < (number - sequence) % 15 <= 3:
                return  # a straggler
            length, accepted, flags = len(characters), len(characters), 0
            if self.rng.random() < self.moody:
                accepted = self.rng.randrange(len(characters) + 1)
                flags = self.rng.choice((0, NACK))
            self.shown += characters[:accepted]
            self.last = sequence, length, accepted, flags
        self.link.send(bytes((0, sequence, accepted, flags)))


class Machine:
    """Takes what is typed, at times only a part or nothing."""

    def __init__(self, rng: random.Random, full: float) -> None:
        self.rng, self.full = rng, full
        self.typed = bytearray()

    def write(self, data: bytes) -> int:
        taken = self.rng.randrange(len(data) + 1) if self.rng.random() < self.full else len(data)
        self.typed += data[:taken]
        return taken

    def send_break(self) -> None:
        raise AssertionError("nobody sent a break")


def exchange(
    seed: int,
    output: list[bytes],
    typed: bytes,
    *,
    chunk: int,
    loss: float,
    repeat: float,
    jitter: float,
    moody: float,
    full: float,
    timing: Timing,
    limit: float = 3600.0,
) -> tuple[bytes, bytes]:
    """Run both directions at once until all is through; returns what was shown and what was typed."""
    schedule, rng = Schedule(), random.Random(seed)
    down = Link(schedule, rng, loss, repeat, jitter)
    up = Link(schedule, rng, loss, repeat, jitter)
    machine = Machine(rng, full)
    client = Client(schedule, rng, up, typed, chunk=chunk, moody=moody)
    endpoint = Endpoint(down.send, machine, timing=timing, buffer_size=1 << 24)
    down.deliver = client.receive

    def arm() -> None:
        if endpoint.next_timer is not None:
            due = endpoint.next_timer

            def fire() -> None:
                if endpoint.next_timer is not None and schedule.now >= endpoint.next_timer:
                    endpoint.handle_timer(schedule.now)
                    arm()

            schedule.at(due, fire)

    def from_client(packet: bytes) -> None:
        endpoint.receive(packet, schedule.now)
        arm()

    up.deliver = from_client

    def from_machine(data: bytes) -> Callable[[], None]:
        def call() -> None:
            endpoint.output(data, schedule.now)
            arm()

        return call

    when = 0.0
    for data in output:
        when += rng.random() * 0.01
        schedule.at(when, from_machine(data))
    schedule.at(0.0, client.begin)
    total = sum(map(len, output))
    schedule.run(lambda: len(client.shown) >= total and client.done and len(machine.typed) >= len(typed), limit)
    # what is still on its way must not bring anything twice
    settle = schedule.now + 2.0
    schedule.run(lambda: schedule.now > settle, limit + 10)
    return bytes(client.shown), bytes(machine.typed)


TIMINGS = (Timing(), Timing(accumulate=0.06, threshold=96, retry_interval=0.1), Timing(retry_interval=0.5, retries=0))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    pieces=st.integers(0, 60),
    largest=st.sampled_from((1, 30, 700)),
    to_type=st.integers(0, 3000),
    chunk=st.sampled_from((1, 40, 251)),
    loss=st.sampled_from((0.0, 0.05, 0.3)),
    repeat=st.sampled_from((0.0, 0.05, 0.3)),
    jitter=st.sampled_from((0.0, 0.02)),
    moody=st.sampled_from((0.0, 0.2)),
    full=st.sampled_from((0.0, 0.2)),
    timing=st.sampled_from(TIMINGS),
)
def test_everything_arrives_once_and_in_order(
    seed: int,
    pieces: int,
    largest: int,
    to_type: int,
    chunk: int,
    loss: float,
    repeat: float,
    jitter: float,
    moody: float,
    full: float,
    timing: Timing,
) -> None:
    rng = random.Random(seed)
    output = [rng.randbytes(rng.randint(1, largest)) for _ in range(pieces)]
    typed = rng.randbytes(min(to_type, chunk * 60))
    shown, passed_on = exchange(
        seed, output, typed, chunk=chunk, loss=loss, repeat=repeat, jitter=jitter, moody=moody, full=full, timing=timing
    )
    assert shown == b"".join(output)
    assert passed_on == typed


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_mebibyte_each_way(loss: float) -> None:
    rng = random.Random(7)
    output = [rng.randbytes(4096) for _ in range(256)]
    typed = rng.randbytes(1 << 20)
    shown, passed_on = exchange(
        1, output, typed, chunk=251, loss=loss, repeat=loss, jitter=0.0, moody=0.0, full=0.0, timing=Timing()
    )
    assert shown == b"".join(output)
    assert passed_on == typed


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 2000)), max_size=60), st.integers(0, 2**32))
def test_noise_is_borne(noise: list[bytes | int], seed: int) -> None:
    """Payloads of any content, output and time in any order: no exception, bounded, whole packets."""
    sent: list[bytes] = []
    machine = Machine(random.Random(seed), 0.5)
    machine.send_break = lambda: None  # type: ignore[method-assign]
    endpoint = Endpoint(sent.append, machine, timing=Timing(), buffer_size=1000)
    now = 0.0
    for item in noise:
        if isinstance(item, bytes):
            endpoint.receive(item, now)
        else:
            endpoint.output(b"o" * item, now)
            now += item / 1000
        if endpoint.next_timer is not None and now >= endpoint.next_timer:
            endpoint.handle_timer(now)
    assert endpoint.waiting <= 1000 + 2 * 255
    assert all(4 <= len(packet) <= 255 and packet[0] <= 15 and packet[1] <= 15 for packet in sent)
