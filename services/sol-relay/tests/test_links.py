"""RFC 2217 through Debian's ser2net, its codec alone, and the rules of the ESP8266 bridge on the wire."""

import asyncio
import shutil
import socket
import time
from typing import Self

import pytest
from pypmi.console import ConsoleOfflineError
from sol_relay.links import LinkError, PortTarget
from sol_relay.links.esp8266 import open_esp8266
from sol_relay.links.telnet import TelnetComPort

TARGET = PortTarget("rfc2217", host="127.0.0.1", port=1, baud=9600, bits=7, parity="even", stop=2, flow="rts-cts")
DO_COM_PORT = bytes([255, 253, 44])
BREAK_ON, BREAK_OFF = bytes.fromhex("fffa2c0505fff0"), bytes.fromhex("fffa2c0506fff0")


class Ser2net:
    """Debian's ser2net between the relay and a far side of ours that speaks RFC 2217 too: it sees breaks."""

    def __init__(self, folder, port: int) -> None:
        self.port = port
        self.heard = bytearray()
        self._folder = folder
        self._writer: asyncio.StreamWriter | None = None

    async def _far_side(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        writer.write(DO_COM_PORT)
        try:
            while data := await reader.read(65_536):
                self.heard += data
        except ConnectionError:
            pass
        writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._far_side, "127.0.0.1", 0)
        far = self._server.sockets[0].getsockname()[1]
        config = self._folder / "ser2net.yaml"
        config.write_text(
            f"connection: &c\n  accepter: telnet(rfc2217),tcp,127.0.0.1,{self.port}\n"
            f"  connector: telnet(rfc2217),tcp,127.0.0.1,{far}\n"
        )
        program = shutil.which("ser2net") or "/usr/sbin/ser2net"
        self._process = await asyncio.create_subprocess_exec(
            program, "-n", "-d", "-u", "-c", str(config), stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._process.terminate()
        await self._process.wait()
        self._server.close()

    def say(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data.replace(b"\xff", b"\xff\xff"))


async def test_rfc2217_through_ser2net_with_a_break(setup, tmp_path, free_port):
    everything = bytes(range(256)) * 64
    port = free_port()
    async with Ser2net(tmp_path, port) as ser2net, setup.relay(n1=f"type: rfc2217, host: 127.0.0.1, port: {port}"):
        client, seen = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        assert client.state is not None
        assert client.state.can_break
        await setup.until(lambda: ser2net._writer is not None)
        ser2net.say(everything)
        await setup.until(lambda: len(seen.data) >= len(everything))
        assert seen.data == everything
        await client.write(everything)
        await client.send_break(100)
        await client.write(b"after the break")
        await setup.until(lambda: ser2net.heard.endswith(b"after the break"))
        on, off = ser2net.heard.find(BREAK_ON), ser2net.heard.find(BREAK_OFF)
        assert 0 < on < off < ser2net.heard.find(b"after the break")
        # the break comes after what was typed before it
        assert everything.replace(b"\xff", b"\xff\xff")[-64:] in ser2net.heard[:on]


async def test_a_raw_port_is_told_from_rfc2217(setup):
    async with setup.machine() as machine, setup.relay(n1=f"type: rfc2217, host: 127.0.0.1, port: {machine.port}"):
        client, _ = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: "is it a raw port" in client.why_offline)


def negotiated(target: PortTarget = TARGET) -> TelnetComPort:
    telnet = TelnetComPort(target)
    # the server agrees to all: DO BINARY, WILL BINARY, DO COM-PORT
    assert telnet.receive(bytes([255, 253, 0, 255, 251, 0]) + DO_COM_PORT) == b""
    return telnet


def test_line_settings_are_sent_once_the_server_agrees():
    telnet = TelnetComPort(TARGET)
    assert bytes([255, 251, 44]) in telnet.outgoing
    telnet.outgoing.clear()
    telnet.receive(DO_COM_PORT)
    for value in ("2c01 00002580", "2c02 07", "2c03 03", "2c04 02", "2c05 03", "2c05 08"):
        assert bytes([255, 250]) + bytes.fromhex(value.replace(" ", "")) + bytes([255, 240]) in telnet.outgoing
    assert telnet.ready


def test_a_speed_with_ff_in_it_is_escaped():
    telnet = negotiated(PortTarget("rfc2217", host="h", port=1, baud=0xFF00))
    assert bytes.fromhex("fffa2c01 0000ffff00 fff0".replace(" ", "")) in telnet.outgoing


def test_data_passes_unchanged_however_it_is_cut():
    data = bytes(range(256)) * 3
    wire = negotiated().escape(data)
    telnet = negotiated()
    assert b"".join(telnet.receive(wire[at : at + 1]) for at in range(len(wire))) == data
    assert telnet.receive(wire) == data


def test_without_binary_a_carriage_return_is_padded():
    telnet = TelnetComPort(TARGET)
    assert telnet.escape(b"a\rb") == b"a\r\0b"
    assert telnet.receive(b"x\r\0y\r\nz") == b"x\ry\r\nz"


def test_answers_suspend_and_resume_and_complain():
    telnet = negotiated()
    assert telnet.receive(bytes.fromhex("fffa2c6cfff0") + b"a" + bytes.fromhex("fffa2c650000c200fff0")) == b"a"
    assert telnet.suspended
    assert telnet.complaints == ["baud: asked for 9600, got 49664"]
    telnet.receive(bytes.fromhex("fffa2c6dfff0"))
    assert not telnet.suspended


def test_a_server_without_the_option_is_refused_and_endless_answers_are_cut():
    with pytest.raises(LinkError, match="does not speak RFC 2217"):
        TelnetComPort(TARGET).receive(bytes([255, 254, 44]))
    telnet = negotiated()
    telnet.receive(bytes.fromhex("fffa2c6b") + bytes(100_000))
    assert len(telnet._sub) <= 512


def test_unknown_options_are_declined_and_nothing_loops():
    telnet = negotiated()
    telnet.outgoing.clear()
    telnet.receive(bytes([255, 251, 31, 255, 253, 24]))
    assert telnet.outgoing == bytes([255, 254, 31, 255, 252, 24])
    telnet.outgoing.clear()
    telnet.receive(bytes([255, 251, 0, 255, 253, 0, 255, 252, 0, 255, 254, 0]))
    assert telnet.outgoing == b""


async def test_the_bridge_gets_small_paced_segments_and_is_unmuted_first(setup):
    closes: list[bytes] = []
    segments: list[int] = []
    started = 0.0

    async def board(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal started
        while data := await reader.read(65_536):
            started = started or time.monotonic()
            segments.append(len(data))
        closes.append(b"FIN")
        writer.close()

    server = await asyncio.start_server(board, "127.0.0.1", 0)
    target = PortTarget("esp8266", host="127.0.0.1", port=server.sockets[0].getsockname()[1], baud=9600)
    link = await open_esp8266(target)
    try:
        assert closes == [b"FIN"]
        data = bytes(1500)
        while data:
            taken = link.write(data)
            assert taken <= 100
            data = data[taken:]
            if data:
                again = asyncio.Event()
                link.on_writable(again.set)
                await again.wait()
        await setup.until(lambda: sum(segments) == 1500)
        # 500 octets go ahead, the other 1000 at 960 a second
        assert time.monotonic() - started > 0.95
        assert link._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= 128
        with pytest.raises(LinkError, match="break"):
            link.set_break(True)
    finally:
        await link.close()
        server.close()
    await setup.until(lambda: len(closes) == 2)


async def test_a_serial_break_is_accepted(setup, pty):
    async with setup.relay(n1=f"type: serial, path: {pty.path}"):
        client, _ = await setup.attached(await setup.hub(), "n1")
        await setup.until(lambda: not client.why_offline)
        await client.send_break(20)
        pty.unplug()
        await setup.until(lambda: client.why_offline)
        with pytest.raises(ConsoleOfflineError, match=r"unplugged|hung up|lost"):
            await client.send_break(20)
