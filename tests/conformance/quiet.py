"""Checks that something stays without an answer, and that the BMC goes on as if nothing had come."""

import struct

from rmcp_client import IPMI, RMCP_ASF, Answer, RmcpClient, message, parse_answer

from .codes import APP, AUTH_CAPABILITIES, GET_DEVICE_ID

SETTLE = 0.06
"""Seconds in which a late answer would come."""
PROBE = 61
"""Sequence number of the request that has to be answered in the end."""


def unanswered(client: RmcpClient, *datagrams: bytes) -> None:
    """Send datagrams outside any session: none is answered, and a right request behind them is."""
    for datagram in datagrams:
        client.send(datagram)
    client.send(client.lan15(message(APP, AUTH_CAPABILITIES, b"\x8e\x04", sequence=PROBE)))
    first = client.receive_raw()
    assert first is not None, "no answer to a right request afterwards"
    answer = parse_answer(first[14:]) if first[:4] != RMCP_ASF and first[4] == 0 else None
    assert answer is not None and answer.sequence == PROBE, f"answered with {first.hex()}"
    late = client.drain(SETTLE)
    assert not late, f"answered with {late[0].hex()}"


def ignored(client: RmcpClient, *datagrams: bytes) -> None:
    """Send packets in a session: none is answered, and a right request behind them is."""
    for datagram in datagrams:
        client.send(datagram)
    client.send(client.seal(IPMI, message(APP, GET_DEVICE_ID, sequence=PROBE)))
    answer = client.receive_answer()
    assert answer is not None, "the session does not answer any more"
    assert (answer.sequence, answer.command) == (PROBE, GET_DEVICE_ID), f"answered with {answer.raw.hex()}"
    late = client.drain(SETTLE)
    assert not late, "answered"


def dead(client: RmcpClient) -> None:
    """The client's session is over: nothing in it is answered."""
    assert client.silent(client.seal(IPMI, message(APP, GET_DEVICE_ID, sequence=PROBE)), 0.3), "it goes on"


def answered(client: RmcpClient, datagram: bytes, sequence: int, command: int) -> Answer:
    """Send a packet in a session that has to be answered."""
    client.send(datagram)
    answer = client.receive_answer()
    assert answer is not None, "no answer"
    assert (answer.sequence, answer.command) == (sequence, command), f"answered with {answer.raw.hex()}"
    return answer


def asf(kind: int, *, iana: int = 4542, tag: int = 1, data: bytes = b"", length: int | None = None) -> bytes:
    """An ASF message."""
    return RMCP_ASF + struct.pack(">IBBBB", iana, kind, tag, 0, len(data) if length is None else length) + data
