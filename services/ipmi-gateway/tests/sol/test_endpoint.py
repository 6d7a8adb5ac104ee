"""Every rule of the SOL endpoint, packet by packet."""

from ipmi_gateway.sol.endpoint import (
    HOLD_ACKNOWLEDGE,
    INPUT_BEFORE_HOLDING,
    INPUT_LIMIT,
    REPEAT_ACKNOWLEDGE,
    Endpoint,
    Timing,
)

NACK, BREAK, PAUSE, FLUSH_IN, FLUSH_OUT = 0x40, 0x10, 0x08, 0x02, 0x01
DEACTIVATED, OVERRUN = 0x10, 0x08


class Machine:
    """What the client types into; takes up to `room` octets."""

    def __init__(self) -> None:
        self.typed = b""
        self.breaks = 0
        self.room = 1 << 30

    def write(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        self.typed += data[:taken]
        self.room -= taken
        return taken

    def send_break(self) -> None:
        self.breaks += 1


class Bench:
    """An endpoint with a clock that is turned by hand."""

    def __init__(self, timing: Timing | None = None, buffer_size: int = 4096) -> None:
        self.sent: list[bytes] = []
        self.machine = Machine()
        self.endpoint = Endpoint(
            self.sent.append, self.machine, timing=timing or Timing(retry_interval=0.1), buffer_size=buffer_size
        )
        self.now = 1000.0

    def take(self) -> list[bytes]:
        sent, self.sent[:] = list(self.sent), []
        return sent

    def output(self, data: bytes) -> list[bytes]:
        self.endpoint.output(data, self.now)
        return self.take()

    def receive(self, *header: int, data: bytes = b"") -> list[bytes]:
        self.endpoint.receive(bytes(header) + data, self.now)
        return self.take()

    def wait(self, seconds: float) -> list[bytes]:
        end = self.now + seconds
        while self.endpoint.next_timer is not None and self.endpoint.next_timer <= end:
            self.now = max(self.now, self.endpoint.next_timer)
            self.endpoint.handle_timer(self.now)
        self.now = end
        return self.take()


def test_characters_go_at_once_when_nothing_is_under_way() -> None:
    bench = Bench()
    assert bench.output(b"login: ") == [b"\x01\x00\x00\x00login: "]


def test_characters_gather_while_a_packet_is_under_way_and_fill_the_next_one() -> None:
    bench = Bench()
    bench.output(b"a")
    for _ in range(300):
        assert bench.output(b"xy") == []
    packets = bench.receive(0, 1, 1, 0)
    assert packets == [b"\x02\x00\x00\x00" + b"xy" * 125 + b"x"]
    assert len(packets[0]) == 255


def test_sequence_numbers_wrap_from_fifteen_to_one() -> None:
    bench = Bench()
    sequences = []
    for _ in range(32):
        (packet,) = bench.output(b"z")
        sequences.append(packet[0])
        bench.receive(0, packet[0], 1, 0)
    assert sequences == [*range(1, 16), *range(1, 16), 1, 2]


def test_unacknowledged_packet_is_repeated_unchanged() -> None:
    bench = Bench()
    (first,) = bench.output(b"a")
    bench.output(b"b")
    assert bench.wait(0.35) == [first] * 3
    assert bench.receive(0, 1, 1, 0) == [b"\x02\x00\x00\x00b"]


def test_used_up_retries_slow_down_and_never_drop_the_packet() -> None:
    bench = Bench(Timing(retry_interval=0.1, retries=2))
    (first,) = bench.output(b"a")
    assert bench.wait(0.25) == [first] * 2
    bench.wait(60)
    repeats = bench.wait(50)
    assert set(repeats) == {first}
    assert 9 <= len(repeats) <= 11
    assert bench.receive(0, 1, 1, 0) == []
    assert bench.wait(60) == []


def test_acknowledge_of_another_packet_is_ignored() -> None:
    bench = Bench()
    bench.output(b"a")
    bench.output(b"b")
    assert bench.receive(0, 7, 1, 0) == []
    assert bench.receive(0, 1, 1, 0) == [b"\x02\x00\x00\x00b"]
    assert bench.receive(0, 1, 1, 0) == []


def test_partial_acknowledge_resends_the_rest_in_a_new_packet() -> None:
    bench = Bench()
    bench.output(b"abcdef")
    bench.output(b"XY")
    assert bench.receive(0, 1, 4, 0) == [b"\x02\x00\x00\x00efXY"]
    assert bench.receive(0, 2, 4, 0) == []


def test_acknowledge_without_any_character_waits_before_resending() -> None:
    bench = Bench()
    bench.output(b"abc")
    assert bench.receive(0, 1, 0, 0) == []
    assert bench.wait(0.15) == [b"\x02\x00\x00\x00abc"]


def test_acknowledge_of_more_than_was_sent_counts_as_all() -> None:
    bench = Bench()
    bench.output(b"abc")
    assert bench.receive(0, 1, 200, 0) == []
    assert bench.output(b"d") == [b"\x02\x00\x00\x00d"]


def test_nack_holds_the_rest_back_for_an_interval() -> None:
    bench = Bench()
    bench.output(b"abcdef")
    assert bench.receive(0, 1, 2, NACK) == []
    assert bench.output(b"g") == []
    assert bench.wait(0.15) == [b"\x02\x00\x00\x00cdefg"]


def test_acknowledge_after_a_nack_resumes_at_once() -> None:
    bench = Bench()
    bench.output(b"abcdef")
    bench.receive(0, 1, 0, NACK)
    assert bench.receive(0, 1, 0, NACK) == []
    assert bench.receive(0, 1, 0, 0) == [b"\x02\x00\x00\x00abcdef"]


def test_endless_nacks_never_wedge_it() -> None:
    bench = Bench()
    bench.output(b"abc")
    sequence = 1
    for _ in range(40):
        bench.receive(0, sequence, 0, NACK)
        (packet,) = bench.wait(0.15)[:1]
        assert packet[4:] == b"abc"
        sequence = packet[0]
    bench.receive(0, sequence, 3, 0)
    (last,) = bench.output(b"d")
    assert last[4:] == b"d"


def test_input_is_passed_on_and_acknowledged() -> None:
    bench = Bench()
    assert bench.receive(1, 0, 0, 0, data=b"ls\r") == [b"\x00\x01\x03\x00"]
    assert bench.machine.typed == b"ls\r"


def test_all_255_characters_of_a_packet_are_taken() -> None:
    bench = Bench()
    data = bytes(range(255))
    assert bench.receive(1, 0, 0, 0, data=data) == [b"\x00\x01\xff\x00"]
    assert bench.machine.typed == data


def test_repeated_input_is_passed_on_once_and_acknowledged_again() -> None:
    bench = Bench()
    bench.receive(3, 0, 0, 0, data=b"ab")
    assert bench.receive(3, 0, 0, 0, data=b"ab") == [b"\x00\x03\x02\x00"]
    assert bench.machine.typed == b"ab"


def test_more_characters_in_a_repeated_packet_are_passed_on() -> None:
    bench = Bench()
    bench.receive(3, 0, 0, 0, data=b"ab")
    assert bench.receive(3, 0, 0, 0, data=b"abcd") == [b"\x00\x03\x04\x00"]
    assert bench.receive(3, 0, 0, 0, data=b"abcd") == [b"\x00\x03\x04\x00"]
    assert bench.machine.typed == b"abcd"


def test_same_characters_in_a_new_packet_are_typed_again() -> None:
    bench = Bench()
    bench.receive(3, 0, 0, 0, data=b"l")
    bench.receive(4, 0, 0, 0, data=b"l")
    assert bench.machine.typed == b"ll"


def test_straggler_is_ignored() -> None:
    bench = Bench()
    for sequence in (14, 15, 1):
        bench.receive(sequence, 0, 0, 0, data=b"%x" % sequence)
    assert bench.receive(15, 0, 0, 0, data=b"f") == []
    assert bench.machine.typed == b"ef1"


def test_client_that_went_on_without_us_is_understood() -> None:
    bench = Bench()
    bench.receive(5, 0, 0, 0, data=b"a")
    bench.wait(20)
    assert bench.receive(4, 0, 0, 0, data=b"b") == [b"\x00\x04\x01\x00"]
    assert bench.machine.typed == b"ab"


def test_empty_packet_is_acknowledged() -> None:
    bench = Bench()
    assert bench.receive(9, 0, 0, 0) == [b"\x00\x09\x00\x00"]
    assert bench.wait(5) == []


def test_characters_in_a_packet_without_number_are_ignored() -> None:
    bench = Bench()
    assert bench.receive(0, 0, 0, 0, data=b"x") == []
    assert bench.machine.typed == b""


def test_too_short_payload_is_ignored() -> None:
    bench = Bench()
    for length in range(4):
        assert bench.receive(*([1] * length)) == []


def test_one_packet_acknowledges_and_types() -> None:
    bench = Bench()
    bench.output(b"a")
    bench.output(b"b")
    assert bench.receive(1, 1, 1, 0, data=b"x") == [b"\x00\x01\x01\x00", b"\x02\x00\x00\x00b"]


def test_break_is_passed_on_once() -> None:
    bench = Bench()
    assert bench.receive(1, 0, 0, BREAK) == [b"\x00\x01\x00\x00"]
    assert bench.receive(1, 0, 0, BREAK) == [b"\x00\x01\x00\x00"]
    assert bench.machine.breaks == 1
    bench.receive(2, 0, 0, BREAK)
    assert bench.machine.breaks == 2


def test_pause_stops_new_packets_until_it_is_lifted() -> None:
    bench = Bench()
    bench.receive(1, 0, 0, PAUSE)
    assert bench.output(b"abc") == []
    assert bench.wait(10) == []
    assert bench.receive(0, 0, 0, 0) == [b"\x01\x00\x00\x00abc"]


def test_flush_drops_waiting_output_once() -> None:
    bench = Bench()
    bench.output(b"old")
    bench.output(b"older")
    assert bench.receive(1, 0, 0, FLUSH_OUT) == [b"\x00\x01\x00\x00"]
    assert bench.output(b"new") == [b"\x02\x00\x00\x00new"]
    bench.output(b"newer")
    bench.receive(1, 0, 0, FLUSH_OUT)
    assert bench.receive(0, 2, 3, 0) == [b"\x03\x00\x00\x00newer"]


def test_acknowledge_is_repeated_while_the_client_is_silent() -> None:
    bench = Bench()
    (acknowledge,) = bench.receive(1, 0, 0, 0, data=b"x")
    assert bench.wait(0.2) == []
    assert bench.wait(10) == [acknowledge] * len(REPEAT_ACKNOWLEDGE)


def test_acknowledge_is_not_repeated_when_the_client_goes_on() -> None:
    bench = Bench()
    bench.receive(1, 0, 0, 0, data=b"x")
    bench.wait(0.2)
    bench.receive(2, 0, 0, 0)
    assert bench.wait(10) == []


def test_full_packet_that_ipmitool_sent_again_is_acknowledged_only() -> None:
    bench = Bench()
    data = bytes(251)
    bench.receive(5, 0, 0, 0, data=data)
    assert bench.wait(1.0) == []
    assert bench.receive(6, 0, 0, 0, data=data) == [b"\x00\x06\xfb\x00"]
    bench.wait(2.0)
    assert bench.receive(8, 0, 0, 0, data=data) == [b"\x00\x08\xfb\x00"]  # the seventh was lost
    assert bench.machine.typed == data


def test_same_full_packet_is_typed_again_when_nothing_was_lost() -> None:
    bench = Bench()
    data = bytes(251)
    bench.receive(5, 0, 0, 0, data=data)
    bench.wait(0.5)
    bench.receive(6, 0, 0, 0, data=data)
    bench.wait(1.0)
    bench.receive(8, 0, 0, 0, data=data)  # the seventh did not come, so this is that one again
    assert bench.machine.typed == data * 3


def test_short_packet_is_always_typed_again() -> None:
    bench = Bench()
    bench.receive(5, 0, 0, 0, data=b"a" * 250)
    bench.wait(1.0)
    bench.receive(6, 0, 0, 0, data=b"a" * 250)
    assert bench.machine.typed == b"a" * 500


def test_what_a_full_console_does_not_take_follows_later() -> None:
    bench = Bench()
    bench.machine.room = 2
    assert bench.receive(1, 0, 0, 0, data=b"abcd") == [b"\x00\x01\x04\x00"]
    assert bench.receive(2, 0, 0, 0, data=b"ef") == [b"\x00\x02\x02\x00"]
    assert bench.machine.typed == b"ab"
    bench.machine.room = 100
    bench.wait(0.1)
    assert bench.machine.typed == b"abcdef"
    assert bench.endpoint.untyped == 0


def fill(bench: Bench, octets: int) -> int:
    """Type so much that it does not fit; returns the last sequence number."""
    sequence = 0
    while bench.endpoint.untyped < octets:
        sequence = sequence % 15 + 1
        bench.receive(sequence, 0, 0, 0, data=b"%08d" % bench.endpoint.untyped + b"x" * 243)
        bench.wait(0.5)
    return sequence


def test_much_waiting_input_holds_acknowledges_back() -> None:
    bench = Bench()
    bench.machine.room = 0
    sequence = fill(bench, INPUT_BEFORE_HOLDING) % 15 + 1
    assert bench.receive(sequence, 0, 0, 0, data=b"abcd") == []
    assert bench.receive(sequence, 0, 0, 0, data=b"abcd") == []
    assert bench.wait(HOLD_ACKNOWLEDGE - 0.1) == []
    assert bench.wait(0.2) == [bytes((0, sequence, 4, 0))]
    sequence = sequence % 15 + 1
    assert bench.receive(sequence, 0, 0, 0, data=b"efgh") == []
    bench.machine.room = 1 << 20
    bench.endpoint.console_ready(bench.now)
    assert bench.take() == [bytes((0, sequence, 4, 0))]
    assert bench.machine.typed.endswith(b"abcdefgh")


def test_input_that_finds_no_room_is_accepted_in_part() -> None:
    bench = Bench()
    bench.machine.room = 0
    sequence = fill(bench, INPUT_LIMIT - 250) % 15 + 1
    room = INPUT_LIMIT - bench.endpoint.untyped
    bench.receive(sequence, 0, 0, 0, data=b"y" * 251)
    assert bench.wait(0.5) == [bytes((0, sequence, room, 0))]
    assert bench.endpoint.untyped == INPUT_LIMIT


def test_flush_inbound_drops_what_the_console_did_not_take() -> None:
    bench = Bench()
    bench.machine.room = 1
    bench.receive(1, 0, 0, 0, data=b"abcd")
    bench.receive(2, 0, 0, FLUSH_IN, data=b"e")
    bench.machine.room = 100
    bench.wait(1)
    assert bench.machine.typed == b"ae"


def test_oldest_output_is_dropped_and_the_drop_is_said() -> None:
    bench = Bench(buffer_size=300)
    bench.output(b"first")
    bench.output(b"o" * 1000)
    bench.output(b"n" * 200)
    assert bench.endpoint.dropped == 900
    stream = b""
    sequence, flags = 1, []
    while True:
        packets = bench.receive(0, sequence, 255, 0)
        if not packets:
            break
        sequence = packets[0][0]
        flags.append(packets[0][3])
        stream += packets[0][4:]
    assert stream == b"\r\n[pypmi: 900 octets of output dropped]\r\n" + b"o" * 100 + b"n" * 200
    assert flags == [OVERRUN, 0]


def test_threshold_and_interval_gather_characters() -> None:
    bench = Bench(Timing(accumulate=0.05, threshold=10, retry_interval=1))
    assert bench.output(b"abc") == []
    assert bench.wait(0.04) == []
    assert bench.wait(0.02) == [b"\x01\x00\x00\x00abc"]
    bench.receive(0, 1, 3, 0)
    assert bench.output(b"0123456789") == [b"\x02\x00\x00\x000123456789"]


def test_slow_path_gets_a_longer_interval() -> None:
    bench = Bench(Timing(retry_interval=0.05))
    copies = []
    for _ in range(30):
        (packet,) = bench.output(b"x")
        copies.append(1 + len(bench.wait(0.3)))
        bench.receive(0, packet[0], 1, 0)
    assert copies[0] == 7
    assert copies[-1] == 1


def test_taken_away_says_so() -> None:
    bench = Bench()
    bench.output(b"x")
    bench.endpoint.finish(b"gone")
    assert bench.take() == [b"\x02\x00\x00\x00gone", bytes((0, 0, 0, DEACTIVATED))]
    assert bench.endpoint.next_timer is None
