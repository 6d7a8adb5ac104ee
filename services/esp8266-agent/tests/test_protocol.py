"""Requests and replies, byte for byte as in the firmware's reference, and parsers that stand whatever comes."""

import contextlib
import random

import pytest
from esp8266_agent import packets, pins, protocol
from esp8266_agent.protocol import ReplyError, Request
from hypothesis import given
from hypothesis import strategies as st

REQUEST_PACKET = bytes.fromhex("0102fb4a260020002600260000000700443322110000000000000000d83f4c01") + b"ir 0 2"
REPLY_PACKET = (
    bytes.fromhex("0102fb4a3300200033003300000006004433221100000000000000008c6455cc") + b"digital input: [0]\n"
)
TRANSACTION = 0x11223344

NEW_TIMER = (
    "* io[0]: Internal GPIO@00\n  pin:  0, mode: timer (blink)        [hw: digital output] flags: [invert], config"
    " direction: down, speed: 500 ms, current direction: down, delay: 480 ms, state: on, max value: 1, info: \n"
)
OLD_TIMER = (
    "io[0]: Internal GPIO@00\n  pin:  0, mode: timer (blink)        [hw: digital output] flags: [], config direction:"
    " up, speed: 500 ms, current direction: none, delay: 0 ms, state: on, max value: 1, info: \n"
)
INPUT = (
    "* io[0]: Internal GPIO@00\n  pin:  2, mode: digital input        [hw: digital input ] flags: [], state: on,"
    " max value: 1, info: \n"
)
OUTPUT = (
    "* io[0]: Internal GPIO@00\n  pin:  0, mode: digital output       [hw: digital output] flags: [], output, state:"
    " off, max value: 1, info: \n"
)
UART = (
    "* io[0]: Internal GPIO@00\n  pin:  1, mode: uart                 [hw: uart          ] flags: [], uart,"
    " max value: 255, info: uart 0, pin: tx, autofill: no, character: 0x00, inverted: no\n"
)
DISABLED = (
    "* io[0]: Internal GPIO@00\n  pin:  0, mode: disabled             [hw: disabled      ] flags: [], , max value: 0,"
    " info: \n"
)

ALL_REQUESTS: tuple[Request[object], ...] = (
    protocol.HAS_UART_STATISTICS,
    protocol.HAS_FLASH_STATISTICS,
    protocol.IDENTIFICATION,
    protocol.STATISTICS,
    protocol.UPTIME,
    protocol.SIGNAL,
    protocol.RESET,
    protocol.STORE,
    protocol.FLAGS,
    protocol.delete_stored("io.0.0."),
    protocol.store("io.0.0.mode", 4),
    protocol.BRIDGE_PORT.ask(),
    protocol.BAUD.put("9600"),
    protocol.DATA_BITS.ask(),
    protocol.STOP_BITS.ask(),
    protocol.PARITY.ask(),
    pins.show_pin(0),
    pins.read_pin(2, pins.INPUT_MODE),
    pins.write_output(0, True),
    pins.trigger(0, "on"),
)  # type: ignore[assignment]


def test_commands_are_the_references() -> None:
    assert pins.read_pin(2, pins.INPUT_MODE).encode().hex(" ") == "69 72 20 30 20 32 0d 0a"
    assert pins.trigger(0, "on").encode() == b"it 0 0 on\r\n"
    assert pins.write_output(0, False).encode() == b"iw 0 0 0\r\n"
    assert protocol.delete_stored("io.0.0.").encode() == b"cde io.0.0. -1 -1 1\r\n"
    assert protocol.store("io.0.0.flags", 256).encode() == b"cs io.0.0.flags -1 -1 256\r\n"


@pytest.mark.parametrize("text", ["ir  0 2", " ir 0 2", "ir 0 2 ", "ir 0 2\r\nit 0 0 on", "a\0b", "\u00e9", "x" * 257])
def test_what_the_firmware_would_read_differently_is_not_sent(text: str) -> None:
    with pytest.raises(ValueError, match="not a command"):
        protocol.encode(text)


def test_pin_reports() -> None:
    new = pins.show_pin(0).read(NEW_TIMER.encode())
    assert new.star
    assert new.flags == {"invert"}
    assert new.timer == pins.TimerReport("down", 500, "down", 480)
    assert new.state is True
    old = pins.show_pin(0).read(OLD_TIMER.encode())
    assert not old.star
    assert old.timer == pins.TimerReport("up", 500, "none", 0)
    entry = pins.show_pin(2).read(INPUT.encode())
    assert (entry.mode, entry.state, entry.timer) == (pins.INPUT_MODE, True, None)
    assert pins.show_pin(0).read(OUTPUT.encode()).state is False
    assert pins.show_pin(1).read(UART.encode()).mode == pins.UART_MODE
    assert pins.show_pin(0).read(DISABLED.encode()).mode == "disabled"


def test_a_report_of_another_pin_is_refused() -> None:
    with pytest.raises(ReplyError):
        pins.show_pin(3).read(INPUT.encode())


@pytest.mark.parametrize("reply", [NEW_TIMER, OLD_TIMER, INPUT, OUTPUT, UART, DISABLED, "io pin out of range\n"])
def test_a_pin_report_ends_at_its_end_and_not_before(reply: str) -> None:
    ends = pins.show_pin(0).ends
    assert ends is not None
    assert [ends(reply[:size].encode()) for size in range(len(reply) + 1)].index(True) == len(reply)


def test_replies_are_matched_in_full() -> None:
    trigger = pins.trigger(0, "on")
    trigger.read(b"trigger on 0/0: ok\n")
    for reply in (b"trigger on 0/1: ok\n", b"trigger off 0/0: ok\n", b"trigger on 0/0: ok\nx", b"trigger on 0/0: ok"):
        with pytest.raises(ReplyError):
            trigger.read(reply)
    with pytest.raises(protocol.RefusedError):
        trigger.read(b"trigger on 0/0: \n")  # suspended
    read = pins.read_pin(2, pins.INPUT_MODE)
    assert read.read(b"digital input: [1]\n") is True
    assert read.read(b"digital input: [0]\n") is False
    for reply in (b"digital output: [1]\n", b"digital input: [2]\n", b"digital input: [1]\n\n", b""):
        with pytest.raises(ReplyError):
            read.read(reply)


def test_statistics_of_each_era() -> None:
    new = "> firmware\n>   date: May  8 2024 12:00:00\n> system\n>   reset cause: power on reset\n"
    old = "> firmware version date: Jul 30 2019 12:00:00\n> reset cause: power on, exception: 0, epc1: 0\n"
    assert protocol.STATISTICS.read(new.encode()) == protocol.Firmware("May  8 2024 12:00:00", "power on reset")
    assert protocol.STATISTICS.read(old.encode()) == protocol.Firmware("Jul 30 2019 12:00:00", "power on")
    assert protocol.UPTIME.read(b"> uptime   1 02:03:04.600 00000000 x\n") == 93784.6
    assert protocol.UPTIME.read(b"> uptime:  0 00:00:01.600 (r1=1600000,r2=0,b=0,w=0)\n") == 1.6
    assert protocol.SIGNAL.read(b"> passwd\n> signal strength: -55 dB\n") == -55
    assert protocol.SIGNAL.read(b"> not associated\n") is None


def test_store_and_flags() -> None:
    assert protocol.STORE.read(
        b"io.0.0.mode=4\nflags=256 (256/256/0x100)\n\ntotal config entries: 2, flags: 20102\n"
    ) == {
        "io.0.0.mode": "4",
        "flags": "256",
    }
    with pytest.raises(ReplyError) as caught:
        protocol.STORE.read(b"wlan.client.passwd=secretsecret\n")
    assert "secret" not in str(caught.value)
    flags = protocol.FLAGS.read(b"> flags:\n>\n>    no log-to-uart\n>       cmd-from-uart\n")
    assert flags == {"log-to-uart": False, "cmd-from-uart": True}
    with pytest.raises(ReplyError):
        protocol.FLAGS.read(b"> flags:\n>\n>    no log-to-uart\n")


@pytest.mark.parametrize(
    ("setting", "reply", "value"),
    [
        (protocol.BRIDGE_PORT, b"> port: 23\n", "23"),
        (protocol.BAUD, b"> baudrate[0]: 115200\n", "115200"),
        (protocol.DATA_BITS, b"data bits[0]: 8\n", "8"),
        (protocol.STOP_BITS, b"> stop bits[0]: 1\n", "1"),
        (protocol.PARITY, b"parity[0]: none\n", "none"),
    ],
)
def test_settings(setting: protocol.Setting, reply: bytes, value: str) -> None:
    assert setting.ask().read(reply) == value
    with pytest.raises(ReplyError):
        setting.ask().read(b"> cannot delete config (default values)\n")


def test_packet_mode_is_the_references() -> None:
    assert packets.encode_packet("ir 0 2", TRANSACTION) == REQUEST_PACKET
    assert packets.decode_packet(REPLY_PACKET, TRANSACTION) == b"digital input: [0]\n"
    sizes = range(len(REPLY_PACKET) + 1)
    assert [packets.packet_ends(REPLY_PACKET[:size]) for size in sizes].index(True) == len(REPLY_PACKET)
    with pytest.raises(ReplyError, match="another transaction"):
        packets.decode_packet(REPLY_PACKET, TRANSACTION + 1)
    with pytest.raises(ValueError, match="transaction"):
        packets.encode_packet("ir 0 2", 0)
    assert 0 < packets.new_transaction(random.Random(1)) < 1 << 32


@given(st.integers(0, len(REPLY_PACKET) - 1), st.integers(1, 255))
def test_a_damaged_packet_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(REPLY_PACKET)
    damaged[position] ^= change
    try:
        text = packets.decode_packet(bytes(damaged), TRANSACTION)
    except ReplyError:
        return
    assert position == 14  # only the flag that says that there is a checksum can be lost unseen
    assert text == b"digital input: [0]\n"


@given(st.binary(max_size=300))
def test_parsers_stand_anything(reply: bytes) -> None:
    for request in ALL_REQUESTS:
        if request.ends is not None:
            request.ends(reply)
        with contextlib.suppress(ReplyError):
            request.read(reply)
    packets.packet_ends(reply)
    with pytest.raises(ReplyError):
        packets.decode_packet(reply, TRANSACTION)


@given(st.sampled_from([NEW_TIMER, OLD_TIMER, INPUT, OUTPUT, UART, DISABLED]), st.data())
def test_a_cut_or_changed_pin_report_is_never_another_one(reply: str, data: st.DataObject) -> None:
    number = int(reply.split("pin:", 1)[1][:3])
    whole = pins.show_pin(number).read(reply.encode())
    size = data.draw(st.integers(0, len(reply) - 1))
    with pytest.raises(ReplyError):
        pins.show_pin(number).read(reply[:size].encode())
    assert pins.show_pin(number).read(reply.encode()) == whole
