"""What counts as a command: segments, datagrams, packets, numbers (reference 1.3 to 1.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypmi_simulator.eras import TRAITS, Era
from pypmi_simulator.framing import HAS_MD5, HAS_TRANSACTION, WANT_MD5, Framer, checksum, pack
from pypmi_simulator.ports import split_segments
from pypmi_simulator.text import Line, trim_line_end

OLD, MIDDLE, NEWEST = Era.OLD, Era.MIDDLE, Era.NEWEST
ALL = (OLD, MIDDLE, NEWEST)
OLDER = (OLD, MIDDLE)

REQUEST = bytes.fromhex("0102fb4a 2600 2000 2600 2600 0000 0700 44332211 00000000 00000000 d83f4c01") + b"ir 0 2"
REPLY = (
    bytes.fromhex("0102fb4a 3300 2000 3300 3300 0000 0600 44332211 00000000 00000000 8c6455cc")
    + b"digital input: [0]\n"
)


def framer(era: Era) -> Framer:
    return Framer(TRAITS[era])


def text(request) -> bytes:
    assert request is not None
    return request.line.text


# -- newest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n\r", b"\n", b"\r"])
def test_one_segment_is_one_command(end):
    assert text(framer(NEWEST).segment(b"ir 0 2" + end, 0)) == b"ir 0 2"


def test_only_one_line_end_is_taken_off():
    assert text(framer(NEWEST).segment(b"ir 0 2\n\n", 0)) == b"ir 0 2\n"


def test_two_lines_in_a_segment_are_one_command(ready):
    device = ready(NEWEST)
    idle = device.level()
    assert device("ir 0 2\r\nir 0 0") == "digital input: [1]\n"
    assert device("it 0 0 on\r\nir 0 2").startswith("usage: io-trigger")
    assert device.level() is idle


def test_a_full_segment_means_more_follows():
    device = framer(NEWEST)
    assert device.segment(b"x" * 1460, 0) is None
    assert device.segment(b"ir 0 2\r\n", 0.5) is None  # still not more than a sector
    assert text(device.segment(b"ir 0 2\r\n", 1.5)) == b"ir 0 2"  # a second later all that is forgotten


def test_more_than_three_segments_are_dropped():
    device = framer(NEWEST)
    for piece in (REQUEST[:33], REQUEST[33:34], REQUEST[34:35], REQUEST[35:]):
        assert device.segment(piece, 0) is None
    assert text(device.segment(b"ir 0 2", 0)) == b"ir 0 2"


def test_what_does_not_fit_the_buffer_is_dropped():
    device = framer(NEWEST)
    for _ in range(3):
        assert device.segment(b"x" * 1460, 0) is None
    assert text(device.segment(b"ir 0 2", 0)) == b"ir 0 2"


def test_a_datagram_keeps_its_line_end(ready):
    device = ready(NEWEST)
    request = device.framer.datagram(b"\r\n", 0)
    assert device.firmware.execute(request.line, device.now).reply == b": command unknown\n"
    request = device.framer.datagram(b"ir 0 2\r\n", 0)
    assert device.firmware.execute(request.line, device.now).reply == b"digital input: [1]\n"
    request = device.framer.datagram(b"id a\r\n", 0)
    assert device.firmware.execute(request.line, device.now).reply == b'identification is "a\r\n"\n'


def test_a_zero_byte_starts_an_attachment_and_costs_a_character():
    assert text(framer(NEWEST).segment(b"ir 0 2\0\0data", 0)) == b"ir 0 "


# -- packet mode -------------------------------------------------------------------------------------


def test_packet_of_the_reference(ready):
    device = ready(NEWEST)
    device.pins.inputs[2] = lambda _now: False
    request = device.framer.segment(REQUEST, 0)
    reply = device.firmware.execute(request.line, device.now).reply
    assert device.framer.reply(request, reply) == REPLY
    assert pack(b"ir 0 2", flags=WANT_MD5 | HAS_MD5 | HAS_TRANSACTION, transaction=0x11223344) == REQUEST


def test_a_packet_may_come_in_pieces():
    device = framer(NEWEST)
    assert device.segment(REQUEST[:35], 0) is None
    assert text(device.segment(REQUEST[35:], 0.9)) == b"ir 0 2"
    assert device.segment(REQUEST[:35], 2) is None
    assert text(device.segment(b"id", 3.1)) == b"id"  # too late for the rest


def test_a_transaction_is_done_once():
    device = framer(NEWEST)
    first = pack(b"it 0 0 on", flags=HAS_TRANSACTION, transaction=5)
    request = device.segment(first, 0)
    device.reply(request, b"ok\n")
    assert device.segment(first, 0) is None
    for number in (6, 7):  # two are remembered
        assert device.segment(first, 0) is None or number == 7
        device.reply(device.segment(pack(b"x", flags=HAS_TRANSACTION, transaction=number), 0), b"")
    assert text(device.segment(first, 0)) == b"it 0 0 on"
    assert device.duplicates >= 2


def test_transaction_zero_counts_as_done():
    assert framer(NEWEST).segment(pack(b"x", flags=HAS_TRANSACTION, transaction=0), 0) is None
    assert text(framer(NEWEST).segment(pack(b"x"), 0)) == b"x"


@pytest.mark.parametrize(("offset", "value"), [(1, b"\x03"), (28, b"\0\0\0\0"), (10, b"\x25\0"), (12, b"\1\0")])
def test_bad_packets_are_dropped(offset, value):
    packet = REQUEST[:offset] + value + REQUEST[offset + len(value) :]
    if offset != 28:
        bare = packet[:28] + bytes(4) + packet[32:]
        packet = packet[:28] + checksum(bare).to_bytes(4, "little") + packet[32:]
    assert framer(NEWEST).segment(packet, 0) is None


def test_a_packet_by_datagram_must_be_whole():
    assert framer(NEWEST).datagram(REQUEST[:35], 0) is None
    assert text(framer(NEWEST).datagram(REQUEST, 0)) == b"ir 0 2"


@given(st.binary(max_size=200), st.integers(0, 7), st.integers(1, 0xFFFFFFFF))
def test_packets_come_back(data, flags, transaction):
    device = framer(NEWEST)
    request = device.segment(pack(data, flags=flags, transaction=transaction), 0)
    assert text(request) == data


@pytest.mark.parametrize("era", OLDER)
def test_older_firmware_waits_for_the_rest_of_a_packet(era):
    device = framer(era)
    assert device.segment(REQUEST, 0) is None
    assert device.segment(b"\r\n", 0) is not None


# -- 2019 and 2021 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("era", OLDER)
def test_bytes_are_collected_until_a_line_end(era):
    device = framer(era)
    assert device.segment(b"ir ", 0) is None
    assert device.segment(b"0 2", 100) is None
    assert text(device.segment(b"\r\n", 200)) == b"ir 0 2"


@pytest.mark.parametrize("era", OLDER)
def test_numbers_run_on_into_older_bytes(ready, era):
    device = ready(era)
    device.framer.datagram(b"id 12345", 0)
    request = device.framer.datagram(b"ir 0 1", 0)
    assert request.line.uint(2) == 145  # the longer command's 4 and 5 stand behind the 1
    assert device.firmware.execute(request.line, device.now).reply == b"io pin out of range\n"


@pytest.mark.parametrize("era", OLDER)
def test_a_line_end_stops_numbers(ready, era):
    device = ready(era)
    device("id 1234567890")
    assert device("ir 0 2") == "digital input: [1]\n"


# -- numbers -----------------------------------------------------------------------------------------


def strict(word: str) -> Line:
    return Line(f"x {word}".encode(), strict=True)


def loose(word: str) -> Line:
    return Line(f"x {word}".encode(), strict=False)


@pytest.mark.parametrize(("word", "unsigned", "signed"), [
    ("1", 1, 1), ("010", 10, 10), ("0x10", 16, 16), ("1x", None, None), ("-1", None, -1), ("+5", None, 5),
    ("0x", None, None), ("", None, None), ("4294967295", 4294967295, -1), ("4294967296", 0, 0),
    ("0XA", None, None), ("0xfF", 255, 255), ("1\r\n", 1, 1), ("-0x1", None, None),
])  # fmt: skip
def test_newest_numbers(word, unsigned, signed):
    assert strict(word).uint(1) == unsigned
    assert strict(word).sint(1) == signed


@pytest.mark.parametrize(("word", "unsigned", "signed"), [
    ("1", 1, 1), ("010", 8, 8), ("0x10", 16, 16), ("1x", 1, 1), ("-1", 4294967295, -1), ("+5", 5, 5),
    ("0x", 0, 0), ("x", None, None), ("09", 0, 0), ("0XA", 10, 10), ("99999999999", 4294967295, -1),
])  # fmt: skip
def test_older_numbers(word, unsigned, signed):
    assert loose(word).uint(1) == unsigned
    assert loose(word).sint(1) == signed


def test_two_spaces_make_an_empty_word():
    assert strict(" 0").word(1) == ""
    assert strict(" 0").uint(1) is None
    assert loose(" 0").uint(1) == 0  # strtoul skips spaces


def test_words():
    line = Line(b"cs name -1 -1 a b", strict=True)
    assert [line.word(n) for n in range(7)] == ["cs", "name", "-1", "-1", "a", "b", None]
    assert line.rest(4) == "a b"
    assert Line(b"ir ", strict=True).word(1) is None
    assert Line(b"a\x01b\xe9c", strict=False).word(0) == "abc"
    assert Line(b"a\x01b", strict=True).word(0) == "a\x01b"


@given(st.binary(max_size=60), st.sampled_from(ALL))
def test_nothing_breaks_the_interpreter(ready_device, data, era):
    device = ready_device(era)
    request = device.framer.segment(data + b"\r\n", device.now)
    if request is not None:
        device.firmware.execute(request.line, device.now)


@given(st.text(alphabet="iwrmtscdfubps 0129x-%.", max_size=40), st.sampled_from(ALL))
def test_nothing_like_a_command_breaks_the_interpreter(ready_device, command, era):
    device = ready_device(era)
    device.outcome(command or " ")


@pytest.fixture(scope="module")
def ready_device():
    from pypmi_simulator.provisioning import provisioned_store

    def make(era: Era):
        return _device_class()(era, provisioned_store(era))

    return make


def _device_class():
    import sys

    return next(m.Device for n, m in sys.modules.items() if n.endswith("conftest") and hasattr(m, "Device"))


@pytest.mark.parametrize(("data", "end"), [(b"a\r\n", b"\r\n"), (b"a\n\r", b"\n\r"), (b"a\n", b"\n"), (b"a", b"")])
def test_trim(data, end):
    assert trim_line_end(data) == (b"a", end)


def test_segments_that_one_read_merged():
    assert split_segments(b"ir 0 2\r\nir 0 0\r\n", 1) == [b"ir 0 2\r\nir 0 0\r\n"]
    assert split_segments(b"ir 0 2\r\nir 0 0\r\n", 2) == [b"ir 0 2\r\n", b"ir 0 0\r\n"]
    assert split_segments(b"a\nb\nc\n", 2) == [b"a\n", b"b\nc\n"]
    assert split_segments(b"x" * 3000, 3) == [b"x" * 3000]
