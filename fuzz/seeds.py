"""What the fuzzer begins with: right input for each target, so that it need not guess formats."""

import re
from pathlib import Path

from ipmi_gateway.commands.table import build_registry
from pypmi.bus.packets import pack_puback, pack_publish, with_packet_id

ROOT = Path(__file__).parent.parent
_PIN_END = b", max value: 1, info: none\n"
_PULSE = b"config direction: up, speed: 300 ms, current direction: none, delay: 0 ms, state: off"


def _pieces(*parts: tuple[int, bytes]) -> bytes:
    return b"".join(bytes((kind, len(octets))) + octets for kind, octets in parts)


def _commands() -> list[bytes]:
    """Requests for every command of the table: netFn/LUN, rqAddr, rqSeq/LUN, cmd, data."""
    table = build_registry()
    return [
        bytes((netfn << 2, 0x81, 0x04, number)) + data
        for netfn in range(0, 64, 2)
        for number in range(256)
        if (command := table.find(netfn, number)) is not None
        for data in (bytes(command.minimum), b"\x01" * command.minimum, b"\xff" * min(command.maximum, 12))
    ]


def _texts(path: str, pattern: str) -> list[bytes]:
    """Pieces of text in a file of the project that match."""
    return [match.encode() for match in re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.DOTALL)]


def seeds(target: str) -> list[bytes]:
    """Inputs for one target."""
    commands = _commands()
    match target:
        case "rmcp":
            ping = bytes.fromhex("0600ff06000011be802a0000")
            asked = [b"\x20\x18\x81\x04" + tail for tail in (b"\x38\x8e\x04", b"\x54\x0e\x00\x80", b"\x37", b"\x01")]
            short = [_pieces((0, b"\x06\0\xff\x07" + bytes(size))) for size in (1, 9, 10, 12)]
            acknowledged = ping[:2] + b"\x01" + ping[3:]
            other = b"\x06\0\xff\x07" + bytes.fromhex("01") + bytes(9)
            return [
                _pieces((0, ping), (0, acknowledged), (0, other)),
                *short,
                *(_pieces((1, words), (2, words)) for words in asked),
            ]
        case "handshake":
            return [
                _pieces((0, b""), (3, b"\x14"), (5, bytes(40)), (7, b"\xff\xff")),
                _pieces((8, b""), (3, b"\x04"), (3, b"\x04"), (5, bytes(20)), (6, b""), (4, bytes(24) + b"\x05admin")),
            ]
        case "session":
            asked = b"\x18\x81\x04\x01"
            again = _pieces((0, asked), (4, b"\xff"), (5, b"\x05" + asked), (5, b"\xfe" + asked), (5, b"\xe0" + asked))
            return [b"a" + again, *(user + _pieces((0, words)) for words in commands for user in (b"a", b"v"))]
        case "bridging":
            return [_pieces((0, words[:1] + words[3:]), (2, words)) for words in commands]
        case "sol":
            return [
                _pieces((0, b"\x01\0\0\0abc"), (1, b"out"), (0, b"\0\x01\x18\0"), (3, b"\xff\x01"), (2, b"\0")),
                _pieces((1, b"x" * 100), (0, b"\0\x01\x08\x40"), (0, b"\0\0\0\x3f"), (3, b"\xff\xff")),
            ]
        case "board":
            replies = _texts("docs/esp8266-protocol.md", r"```[a-z ]*\n(.*?)```")
            lines = [line + b"\n" for reply in replies for line in reply.splitlines()]
            refused = [b"trigger on 0/4: " + words for words in (b"ok\n", b"cannot trigger this pin\n", b"\n")]
            pin = [
                head + b"  pin:  4, mode: " + mode + b" [hw: gpio            ] flags: [autostart], " + state + _PIN_END
                for head in (b"* io[0]: Internal GPIO@00\n", b"io[0]: Internal GPIO@00\n")
                for mode, state in (
                    (b"timer", _PULSE),
                    (b"digital output", b"output, state: on"),
                    (b"digital input", b"state: off"),
                )
            ]
            packet = bytes.fromhex("0102fb4a") + bytes((40, 0, 36, 0, 40, 0, 40, 0, 0, 0, 4, 0)) + bytes(20) + b"text"
            texts = (*replies, *lines, *refused, *pin, packet, b"digital input: [1]\n", b"OK\n", b"> reset\n")
            return [bytes((number,)) + text for text in texts for number in range(21)]
        case "rfc2217":
            return [
                _pieces(
                    (0, bytes.fromhex("fffd00fffb00fffd2cfffb03fffd03fffe01fffcff")), (1, b"\x65\0\0\x96\0\xff\xff")
                )
            ]
        case "mqtt":
            bodies = _texts("docs/contract.md", r"```json\n(.*?)```")
            issued = [
                b'{"id":"a","action":"on","ttl_ms":%d,"issued_at":"%s"}' % (life, at)
                for life in (1000, 60000)
                for at in (
                    b"2026-01-01T00:00:00Z",
                    b"2025-12-31T23:59:50Z",
                    b"2026-01-01T00:01:00Z",
                    b"1970-01-01T00:00:00Z",
                )
            ]
            topics = [b"nodes/n1/sensors/t", b"nodes/n1/sol/rx", b"services/x/info", b"nodes/n1/boot", b"nodes/N/x"]
            words = [
                *issued,
                *topics,
                b"on",
                b"OFF",
                b"none",
                b"12.5",
                b"online",
                b"60",
                b"nodes/n1/power/set",
                b"services/x/reply",
            ]
            return [bytes((number,)) + body for body in (*bodies, *words) for number in range(14)]
        case "fleet":
            pages = ("docs/configuration.md", "docs/quickstart.md", "docs/hardware.md", "docs/deploy.md")
            return [
                *(text for page in pages for text in _texts(page, r"```yaml[a-z ]*\n(.*?)```")),
                *(file.read_bytes() for file in sorted((ROOT / "deploy").glob("**/fleet*.yaml"))),
                b"version: 1\nusers: [{name: a, password: $SECRET}]\nmqtt: {password: [$SECRET]}\n",
                b"users: [{name: a, password:$SECRET}]\n",
            ]
        case "wire":
            plain = [pack_publish("nodes/n1/state", b"{}", qos=1, retain=True, v5=v5) for v5 in (False, True)]
            rich = pack_publish(
                "nodes/n1/power/set", b"on", qos=1, retain=False, v5=True, expiry=5, response_topic="services/x/reply",
                correlation=b"id", properties=(("stream", "a"), ("offset", "7")),
            )  # fmt: skip
            found = [*(with_packet_id(packet, 7) for packet in (*plain, rich)), pack_puback(7)]
            return [bytes((number,)) + packet for packet in found for number in range(4)]
        case "console":
            return [_pieces((0, b"\0\0abc"), (0, b"\x05\0x"), (2, b"\x03\0de"), (8, b"\0\0new"), (3, b""))]
    raise ValueError(target)
