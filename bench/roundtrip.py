"""One bare QoS 1 round trip through a broker: publish, and the same message back on an own subscription.

A socket and the octets of MQTT 3.1.1, and no client library: the least that a message can cost here.
"""

import socket
import struct
import time

TOPIC = b"bench/roundtrip"


def _packet(first: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes((first, len(body))) + body


def _read(sock: socket.socket) -> tuple[int, bytes]:
    head = sock.recv(2, socket.MSG_WAITALL)
    return head[0], sock.recv(head[1], socket.MSG_WAITALL) if head[1] else b""


def measure(port: int, count: int, pause: float = 0.0) -> list[float]:
    """Seconds of each of `count` round trips, after some to warm up.

    With a `pause` (seconds) before each: caches and cores are cold then, as they are for a command that comes alone.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(_packet(0x10, b"\0\4MQTT\4\2\0\x3c\0\x0bpypmi-bench"))
        _read(sock)
        topic = struct.pack(">H", len(TOPIC)) + TOPIC
        sock.sendall(_packet(0x82, b"\0\1" + topic + b"\1"))
        _read(sock)
        times = []
        for number in range(count + 50):
            time.sleep(pause if number >= 50 else 0)
            packet_id = struct.pack(">H", number % 1000 + 2)
            began = time.perf_counter()
            sock.sendall(_packet(0x32, topic + packet_id + b"x" * 60))
            acknowledged = returned = False
            while not (acknowledged and returned):
                first, body = _read(sock)
                if first == 0x40:
                    acknowledged = True
                else:
                    returned = True
                    sock.sendall(_packet(0x40, body[2 + len(TOPIC) : 4 + len(TOPIC)]))
            times.append(time.perf_counter() - began)
        return times[50:]
