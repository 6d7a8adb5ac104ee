"""Consoles on the network and on a pty, with the real pyserial as the client."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading

import pytest
import serial
from pypmi_simulator.console import EchoConsole, FloodConsole, RecordingConsole, ShellConsole
from pypmi_simulator.serialserver import BREAK_ON, COM_PORT, PtyPort, SerialServer, Telnet, TelnetDecoder

IAC = int(Telnet.IAC)


def test_decoder_passes_data_and_answers_options():
    telnet = TelnetDecoder()
    telnet.answers.clear()
    assert telnet.receive(b"a\xff\xffb") == b"a\xffb"
    assert telnet.receive(bytes([IAC, Telnet.DO, 1, IAC, Telnet.DO, 99])) == b""
    assert telnet.answers == bytes([IAC, Telnet.WILL, 1, IAC, Telnet.WONT, 99])
    telnet.answers.clear()
    telnet.receive(bytes([IAC, Telnet.DO, 1, IAC, Telnet.DO, COM_PORT]))  # agreed already: no answer, or it never ends
    assert telnet.answers == b""


def test_decoder_knows_baud_rate_and_break_in_any_pieces():
    telnet = TelnetDecoder()
    telnet.answers.clear()
    message = bytes([IAC, 250, COM_PORT, 1]) + (9600).to_bytes(4, "big") + bytes([IAC, 240])
    message += bytes([IAC, 250, COM_PORT, 5, BREAK_ON, IAC, 240])
    for byte in message:
        assert telnet.receive(bytes([byte])) == b""
    assert telnet.baud == 9600
    assert telnet.breaks == 1
    assert telnet.answers == message.replace(bytes([COM_PORT, 1]), bytes([COM_PORT, 101])).replace(
        bytes([COM_PORT, 5]), bytes([COM_PORT, 105])
    )


async def test_pyserial_over_rfc2217_with_break():
    console = ShellConsole("pc1")
    async with SerialServer(console, rfc2217=True) as server:

        def client() -> bytes:
            with serial.serial_for_url(f"rfc2217://127.0.0.1:{server.port}", baudrate=38400, timeout=10) as port:
                port.write(b"hostname\r")
                text = port.read_until(b"\r\npc1\r\n")
                port.send_break(0.01)
                port.write(b"h")
                return text + port.read_until(b"unmount(u)\r\n")

        console.running()
        text = await asyncio.to_thread(client)
        assert b"\r\npc1\r\n" in text
        assert b"sysrq: HELP" in text
        assert console.breaks == 1


@pytest.mark.parametrize("rfc2217", [False, True])
async def test_every_byte_passes_both_ways(rfc2217):
    data = random.Random(1).randbytes(200_000)
    async with SerialServer(EchoConsole(), rfc2217=rfc2217) as server:
        url = f"{'rfc2217' if rfc2217 else 'socket'}://127.0.0.1:{server.port}"

        def client() -> bytes:
            with serial.serial_for_url(url, timeout=20) as port:
                writer = threading.Thread(target=port.write, args=(data,))
                writer.start()
                got = port.read(len(data))
                writer.join()
                return got

        got = await asyncio.to_thread(client)
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_a_second_client_is_hung_up_on():
    async with SerialServer(EchoConsole()) as server:
        first, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"a")
        assert await first.read(1) == b"a"
        second, other = await asyncio.open_connection("127.0.0.1", server.port)
        assert await asyncio.wait_for(second.read(1), 10) == b""
        server.drop_client()
        assert await asyncio.wait_for(first.read(1), 10) == b""
        writer.close()
        other.close()


async def test_a_slow_client_holds_the_flood():
    console = FloodConsole(autostart=False)
    async with SerialServer(console) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.sleep(0.05)
        console.resume()
        await asyncio.sleep(0.5)
        held = console.sent
        await asyncio.sleep(0.3)
        assert console.sent == held
        writer.close()


async def test_pty_with_a_stable_path(tmp_path, eventually):
    path = tmp_path / "by-id-adapter"
    console = RecordingConsole()
    async with PtyPort(console, path) as adapter:
        for turn in range(2):
            with serial.Serial(str(path), 115200, timeout=10) as port:
                port.write(b"to the pc %d" % turn)
                await eventually(lambda turn=turn: bytes(console.data).endswith(b"%d" % turn))
                console.say(b"to us")
                assert await asyncio.to_thread(port.read, 5) == b"to us"
            adapter.unplug()
            assert not path.exists()
            adapter.plug()
    assert not path.exists()
