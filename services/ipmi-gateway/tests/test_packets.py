"""Packet formats by themselves: octets known from the specification and from captures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipmi_gateway.packets import asf, ipmb, lan15, rmcp, rmcpplus

PING = bytes.fromhex("0600ff06 000011be 80 2a 00 00")


def test_message_from_the_reference() -> None:
    outer = ipmb.unpack(bytes.fromhex("2018c8 81183440 3000d0 81180166 f3"))
    assert outer == ipmb.Message(0x20, 6, 0, 0x81, 6, 0, 0x34, bytes.fromhex("403000d081180166"))
    inner = ipmb.unpack(outer.data[1:])
    assert inner == ipmb.Message(0x30, 0, 0, 0x81, 6, 0, 0x01, b"")
    assert ipmb.pack_response(outer, 0) == bytes.fromhex("811c63 20183400") + b"\x94"
    assert ipmb.pack_response(inner._replace(rq_address=0x20), 0, b"\x01\0\0") == bytes.fromhex(
        "2004dc 30180100010000b6"
    )


def test_response_keeps_both_luns() -> None:
    request = ipmb.Message(0x30, 4, 1, 0x20, 9, 2, 0x2D, b"\x01")
    response = ipmb.pack_response(request, 0xC1)
    assert (response[1], response[4]) == (5 << 2 | 2, 9 << 2 | 1)


@given(
    st.builds(
        ipmb.Message,
        st.integers(0, 255),
        st.integers(0, 63),
        st.integers(0, 3),
        st.integers(0, 255),
        st.integers(0, 63),
        st.integers(0, 3),
        st.integers(0, 255),
        st.binary(max_size=100),
    )
)
def test_request_round_trip(message: ipmb.Message) -> None:
    raw = ipmb.pack_request(message)
    assert ipmb.unpack(raw) == message
    for position in range(len(raw)):
        spoiled = bytearray(raw)
        spoiled[position] ^= 0x10
        assert ipmb.unpack(bytes(spoiled)) is None


@pytest.mark.parametrize("length", range(7))
def test_short_messages(length: int) -> None:
    assert ipmb.unpack(bytes(length)) is None


def test_ping_and_pong() -> None:
    pong = asf.answer_ping(PING)
    assert pong == bytes.fromhex("0600ff06 000011be 40 2a 00 10 000011be 00000000 81 00 000000000000")


@pytest.mark.parametrize(
    "datagram",
    [PING[:-1], PING[:4], PING.replace(b"\x11\xbe", b"\x11\xbf"), PING[:8] + b"\x40" + PING[9:], PING[:-1] + b"\x01"],
)
def test_what_is_no_ping(datagram: bytes) -> None:
    assert asf.answer_ping(datagram) is None


def test_acknowledge() -> None:
    assert rmcp.acknowledge(b"\x06\x00\x07\x06 and more") == b"\x06\x00\x07\x86"


def test_lan15_round_trip_and_pad() -> None:
    packet = lan15.pack(b"abcdefgh")
    assert lan15.unpack(packet) == b"abcdefgh"
    assert lan15.unpack(packet + b"\0") == b"abcdefgh"
    assert lan15.unpack(packet + b"\0\0") is None
    assert lan15.unpack(packet[:-1]) is None
    assert lan15.unpack(packet[:4] + b"\x02" + packet[5:]) is None


def test_integrity_trailers() -> None:
    assert rmcpplus.INTEGRITY_TRAILERS == (b"\0\x07", b"\xff\x01\x07", b"\xff\xff\x02\x07", b"\xff\xff\xff\x03\x07")
