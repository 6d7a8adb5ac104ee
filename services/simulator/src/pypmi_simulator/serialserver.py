"""Serial consoles without a relay board: over the network, raw or RFC 2217 (as ser2net serves them), or as a pty.

A break passes RFC 2217, and so reaches the console; a raw connection and a pty can't carry one.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import tty
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .console import Console
from .serialline import HIGH_WATER, PacedLine

_READ: Final = 65536


class Telnet(enum.IntEnum):
    """Telnet commands (RFC 854) and options (RFC 855 ff.)."""

    SE = 240
    SB = 250
    WILL = 251
    WONT = 252
    DO = 253
    DONT = 254
    IAC = 255


BINARY, ECHO, SUPPRESS_GO_AHEAD, COM_PORT = 0, 1, 3, 44
_OURS: Final = frozenset({BINARY, ECHO, SUPPRESS_GO_AHEAD, COM_PORT})
_THEIRS: Final = frozenset({BINARY, SUPPRESS_GO_AHEAD, COM_PORT})
_SERVER: Final = 100
"""What the server's answers add to the client's command numbers (RFC 2217, section 3)."""


class ComPort(enum.IntEnum):
    """Commands of the COM-PORT option (RFC 2217, section 3)."""

    SIGNATURE = 0
    SET_BAUDRATE = 1
    SET_DATASIZE = 2
    SET_PARITY = 3
    SET_STOPSIZE = 4
    SET_CONTROL = 5
    NOTIFY_LINESTATE = 6
    NOTIFY_MODEMSTATE = 7
    FLOWCONTROL_SUSPEND = 8
    FLOWCONTROL_RESUME = 9
    SET_LINESTATE_MASK = 10
    SET_MODEMSTATE_MASK = 11
    PURGE_DATA = 12


BREAK_ON, BREAK_OFF = 5, 6
MODEM_READY: Final = 0xB0
"""Carrier, data set ready, clear to send."""


class TelnetDecoder:
    """Telnet with the COM-PORT option, the server's half. Sans-IO.

    `receive` returns the data; answers collect in `answers`, settings in the attributes.
    """

    def __init__(self) -> None:
        self.answers = bytearray()
        self.breaks = 0
        self.baud = 0
        self.data_bits = 0
        self.parity = 0
        self.stop_bits = 0
        self.suspended = False
        self._ours: set[int] = {COM_PORT}
        self._theirs: set[int] = {BINARY}
        self._state = 0
        self._verb = 0
        self._sub = bytearray()
        self._say(Telnet.WILL, COM_PORT)
        self._say(Telnet.DO, BINARY)

    def receive(self, data: bytes) -> bytes:
        """Takes bytes from the client; returns those that are data."""
        out = bytearray()
        for byte in data:
            match self._state:
                case 0:
                    if byte == Telnet.IAC:
                        self._state = 1
                    else:
                        out.append(byte)
                case 1:
                    self._command(byte, out)
                case 2:
                    self._negotiate(byte)
                    self._state = 0
                case 3:
                    if byte == Telnet.IAC:
                        self._state = 4
                    else:
                        self._sub.append(byte)
                case _:
                    self._in_subnegotiation(byte)
        return bytes(out)

    @staticmethod
    def encode(data: bytes) -> bytes:
        """Data for the client."""
        return data.replace(b"\xff", b"\xff\xff")

    def _say(self, verb: Telnet, option: int) -> None:
        self.answers += bytes([Telnet.IAC, verb, option])

    def _command(self, byte: int, out: bytearray) -> None:
        self._state = 0
        if byte == Telnet.IAC:
            out.append(byte)
        elif byte == Telnet.SB:
            self._sub.clear()
            self._state = 3
        elif byte in {Telnet.WILL, Telnet.WONT, Telnet.DO, Telnet.DONT}:
            self._verb = byte
            self._state = 2

    def _in_subnegotiation(self, byte: int) -> None:
        if byte == Telnet.IAC:
            self._sub.append(byte)
            self._state = 3
        else:
            self._state = 0
            if byte == Telnet.SE and self._sub[:1] == bytes([COM_PORT]) and len(self._sub) > 1:
                self._com_port(self._sub[1], bytes(self._sub[2:]))

    def _negotiate(self, option: int) -> None:
        mine = self._verb in {Telnet.DO, Telnet.DONT}
        active, able = (self._ours, _OURS) if mine else (self._theirs, _THEIRS)
        yes, no = (Telnet.WILL, Telnet.WONT) if mine else (Telnet.DO, Telnet.DONT)
        if self._verb in {Telnet.DO, Telnet.WILL}:
            if option not in able:
                self._say(no, option)
            elif option not in active:
                active.add(option)
                self._say(yes, option)
        elif option in active:
            active.discard(option)
            self._say(no, option)

    def _com_port(self, command: int, value: bytes) -> None:
        match command:
            case ComPort.SIGNATURE:
                value = b"pypmi-simulator"
            case ComPort.SET_BAUDRATE:
                self.baud = int.from_bytes(value, "big") or self.baud
                value = self.baud.to_bytes(4, "big")
            case ComPort.SET_DATASIZE:
                self.data_bits = value[0] if value else self.data_bits
            case ComPort.SET_PARITY:
                self.parity = value[0] if value else self.parity
            case ComPort.SET_STOPSIZE:
                self.stop_bits = value[0] if value else self.stop_bits
            case ComPort.SET_CONTROL if value[:1] == bytes([BREAK_ON]):
                self.breaks += 1
            case ComPort.FLOWCONTROL_SUSPEND | ComPort.FLOWCONTROL_RESUME:
                self.suspended = command == ComPort.FLOWCONTROL_SUSPEND
                return
        self._answer(command, value)
        if command == ComPort.SET_MODEMSTATE_MASK:
            self._answer(ComPort.NOTIFY_MODEMSTATE, bytes([MODEM_READY]))

    def _answer(self, command: int, value: bytes) -> None:
        body = bytes([COM_PORT, command + _SERVER]) + value
        self.answers += bytes([Telnet.IAC, Telnet.SB]) + self.encode(body) + bytes([Telnet.IAC, Telnet.SE])


class _Client(asyncio.Protocol):
    """One connection to a `SerialServer`."""

    def __init__(self, server: SerialServer) -> None:
        self._server = server
        self._telnet = TelnetDecoder() if server.rfc2217 else None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  asyncio's promise
        self._transport = transport
        if not self._server.attach(self):
            transport.close()
            self._transport = None
            return
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self._transport = None
        self._server.detach(self)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._telnet is not None:
            breaks = self._telnet.breaks
            data = self._telnet.receive(data)
            self._flush()
            for _ in range(self._telnet.breaks - breaks):
                self._server.console.send_break()
            self._server.set_baud(self._telnet.baud)
        if data:
            self._server.to_pc(data)

    def _flush(self) -> None:
        if self._telnet is not None and self._telnet.answers and self._transport is not None:
            self._transport.write(bytes(self._telnet.answers))
            self._telnet.answers.clear()

    def pause_writing(self) -> None:
        self._server.console.pause()

    def resume_writing(self) -> None:
        self._server.console.resume()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data if self._telnet is None else TelnetDecoder.encode(data))

    def hang_up(self, *, abort: bool) -> None:
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()


class SerialServer:
    """A console on a TCP port, for one client at a time; a second one is hung up on.

    Args:
        console: what is behind it.
        rfc2217: telnet with the COM-PORT option; False: raw bytes.
        baud: pace both directions to this rate; with RFC 2217 the client's rate takes over. None: no pacing.
    """

    def __init__(
        self,
        console: Console,
        *,
        rfc2217: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        baud: int | None = None,
    ) -> None:
        self.console = console
        self.rfc2217 = rfc2217
        self.host = host
        self.port = port
        self._baud = baud
        self._server: asyncio.Server | None = None
        self._client: _Client | None = None
        self._to_pc = PacedLine(console.feed, baud=baud)
        self._from_pc = PacedLine(self._deliver, baud=baud, drained=console.resume)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Client(self), self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.console.output = self._output
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.drop_client()
        self._to_pc.clear()
        self._from_pc.clear()
        self.console.close()

    @property
    def connected(self) -> bool:
        """Tells whether a client is there."""
        return self._client is not None

    def drop_client(self, *, abort: bool = False) -> None:
        """Hangs up on the client."""
        if self._client is not None:
            self._client.hang_up(abort=abort)

    def attach(self, client: _Client) -> bool:
        """A client comes; returns False when there is one already."""
        if self._client is not None:
            return False
        self._client = client
        return True

    def detach(self, client: _Client) -> None:
        """A client goes."""
        if self._client is client:
            self._client = None
            self.console.resume()

    def set_baud(self, baud: int) -> None:
        """The client has chosen a rate; it is followed if the line is paced at all."""
        if self._baud is not None and baud > 0:
            self._to_pc.baud = self._from_pc.baud = baud

    def to_pc(self, data: bytes) -> None:
        """Bytes from the client."""
        self._to_pc.write(data)

    def _output(self, data: bytes) -> None:
        self._from_pc.write(data)
        if self._from_pc.queued >= HIGH_WATER:
            self.console.pause()

    def _deliver(self, data: bytes) -> None:
        if self._client is not None:
            self._client.send(data)


class PtyPort:
    """A console as a serial device: a pseudo terminal behind a path that stays the same, as udev's links do.

    Args:
        console: what is behind it.
        path: where the link to the device is made.
    """

    def __init__(self, console: Console, path: Path) -> None:
        self.console = console
        self.path = path
        self._master = -1
        self._slave = -1
        self._pending = bytearray()

    async def __aenter__(self) -> Self:
        self.plug()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.unplug()
        self.console.close()

    def plug(self) -> None:
        """The adapter is plugged in: the path appears."""
        if self._master >= 0:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)  # our own end stays open, so that a client may come and go
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        self.console.output = self._write

    def unplug(self) -> None:
        """The adapter is pulled out: the path goes, open devices see a hang-up."""
        if self._master < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        self.path.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1
        self._pending.clear()

    def _readable(self) -> None:
        with contextlib.suppress(OSError):
            self.console.feed(os.read(self._master, _READ))

    def _write(self, data: bytes) -> None:
        if self._master < 0:
            return
        self._pending += data
        self._flush()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        written = 0
        with contextlib.suppress(OSError):
            written = os.write(self._master, self._pending)
        del self._pending[:written]
        if self._pending:
            loop.add_writer(self._master, self._flush)
        else:
            loop.remove_writer(self._master)
        if len(self._pending) >= HIGH_WATER:
            self.console.pause()
        elif written:
            self.console.resume()
