"""Telnet (RFC 854) with the Com Port Control option (RFC 2217), the client's side. No I/O.

Octets go in and out of `TelnetComPort`; what must be answered collects in `outgoing`.
"""

from enum import Enum, IntEnum, auto

from sol_relay.links.base import LinkError
from sol_relay.links.target import PortTarget

_LONGEST_SUBNEGOTIATION = 512
_MOST_COMPLAINTS = 16


class Command(IntEnum):
    """Telnet commands (RFC 854)."""

    SE = 240
    SB = 250
    WILL = 251
    WONT = 252
    DO = 253
    DONT = 254
    IAC = 255


class Option(IntEnum):
    """Telnet options."""

    BINARY = 0
    ECHO = 1
    SUPPRESS_GO_AHEAD = 3
    COM_PORT = 44


class ComPort(IntEnum):
    """Com Port Control commands to the server (RFC 2217 section 3); its answers are 100 higher."""

    SET_BAUDRATE = 1
    SET_DATASIZE = 2
    SET_PARITY = 3
    SET_STOPSIZE = 4
    SET_CONTROL = 5
    FLOWCONTROL_SUSPEND = 8
    FLOWCONTROL_RESUME = 9


_ANSWER = 100


class Control(IntEnum):
    """Values of SET_CONTROL."""

    FLOW_NONE = 1
    FLOW_XON_XOFF = 2
    FLOW_HARDWARE = 3
    BREAK_ON = 5
    BREAK_OFF = 6
    DTR_ON = 8
    RTS_ON = 11


_FLOW = {"none": Control.FLOW_NONE, "xon-xoff": Control.FLOW_XON_XOFF, "rts-cts": Control.FLOW_HARDWARE}
_PARITY = {"none": 1, "odd": 2, "even": 3}
_WE_OFFER = frozenset({Option.BINARY, Option.SUPPRESS_GO_AHEAD, Option.COM_PORT})
_WE_ASK = frozenset({Option.BINARY, Option.SUPPRESS_GO_AHEAD})
_WE_ALLOW = _WE_ASK | {Option.ECHO, Option.COM_PORT}
_IAC = bytes([Command.IAC])
_CR, _NUL = 13, 0


class _State(Enum):
    DATA = auto()
    IAC = auto()
    OPTION = auto()
    SUB = auto()
    SUB_IAC = auto()


class TelnetComPort:
    """One connection to an RFC 2217 server."""

    def __init__(self, target: PortTarget) -> None:
        self._target = target
        self._state = _State.DATA
        self._command = 0
        self._sub = bytearray()
        self._data = bytearray()
        self._after_cr = False
        self._theirs: set[int] = set()
        """Options in force for what comes from the server."""
        self._ours: set[int] = set()
        """Options in force for what goes to the server."""
        self.ready = False
        """The server takes com port commands, and has the line's settings."""
        self.suspended = False
        """The server asks not to be sent data now."""
        self.complaints: list[str] = []
        """What the server set otherwise than it was asked to."""
        self.outgoing = bytearray()
        for option in sorted(_WE_OFFER):
            self._say(Command.WILL, option)
        for option in sorted(_WE_ASK):
            self._say(Command.DO, option)

    def _say(self, command: Command, option: int) -> None:
        self.outgoing += bytes([Command.IAC, command, option])

    # -- to the server ---------------------------------------------------------------------------------------------

    def escape(self, data: bytes) -> bytes:
        """Console input as it travels."""
        data = data.replace(_IAC, _IAC + _IAC)
        # RFC 854: without binary transmission a carriage return is followed by LF or NUL
        return data if Option.BINARY in self._ours else data.replace(b"\r", b"\r\0")

    def _send_command(self, command: ComPort, value: bytes) -> None:
        head = bytes([Command.IAC, Command.SB, Option.COM_PORT, command])
        self.outgoing += head + value.replace(_IAC, _IAC + _IAC) + bytes([Command.IAC, Command.SE])

    def control(self, value: Control) -> None:
        """Set flow control, break or a modem line."""
        self._send_command(ComPort.SET_CONTROL, bytes([value]))

    def _send_settings(self) -> None:
        target = self._target
        self._send_command(ComPort.SET_BAUDRATE, target.baud.to_bytes(4, "big"))
        self._send_command(ComPort.SET_DATASIZE, bytes([target.bits]))
        self._send_command(ComPort.SET_PARITY, bytes([_PARITY[target.parity]]))
        self._send_command(ComPort.SET_STOPSIZE, bytes([target.stop]))
        self.control(_FLOW[target.flow])
        self.control(Control.DTR_ON)
        if target.flow != "rts-cts":
            self.control(Control.RTS_ON)

    # -- from the server -------------------------------------------------------------------------------------------

    def receive(self, raw: bytes) -> bytes:
        """Take octets from the connection; return the console's output in them. Raises `LinkError`."""
        if self._state is _State.DATA and Option.BINARY in self._theirs and _IAC not in raw:
            self._after_cr = False
            return raw
        for octet in raw:
            self._take(octet)
        data = bytes(self._data)
        self._data.clear()
        return data

    def _take(self, octet: int) -> None:
        match self._state:
            case _State.DATA:
                self._take_data(octet)
            case _State.IAC:
                self._take_command(octet)
            case _State.OPTION:
                self._state = _State.DATA
                self._negotiate(self._command, octet)
            case _State.SUB:
                if octet == Command.IAC:
                    self._state = _State.SUB_IAC
                elif len(self._sub) < _LONGEST_SUBNEGOTIATION:
                    self._sub.append(octet)
            case _State.SUB_IAC:
                self._state = _State.SUB
                if octet == Command.IAC:
                    self._sub.append(octet)
                else:  # SE; anything else is a mistake of the server's and ends it too
                    self._state = _State.DATA
                    self._take_answer(bytes(self._sub))

    def _take_data(self, octet: int) -> None:
        if octet == Command.IAC:
            self._state = _State.IAC
            return
        padding = self._after_cr and octet == _NUL
        self._after_cr = octet == _CR and Option.BINARY not in self._theirs
        if not padding:
            self._data.append(octet)

    def _take_command(self, octet: int) -> None:
        self._state = _State.DATA
        if octet == Command.IAC:
            self._after_cr = False
            self._data.append(octet)
        elif octet == Command.SB:
            self._state = _State.SUB
            self._sub.clear()
        elif octet in {Command.WILL, Command.WONT, Command.DO, Command.DONT}:
            self._state = _State.OPTION
            self._command = octet
        # others (NOP, AYT ...) ask for nothing

    def _negotiate(self, command: int, option: int) -> None:
        """RFC 854: answer only what changes something, or two polite machines go on for ever."""
        match command:
            case Command.WILL if option in _WE_ALLOW:
                if option not in self._theirs:
                    self._theirs.add(option)
                    if option not in _WE_ASK:
                        self._say(Command.DO, option)
            case Command.WILL:
                self._say(Command.DONT, option)
            case Command.WONT:
                self._theirs.discard(option)
            case Command.DO if option in _WE_OFFER:
                if option not in self._ours:
                    self._ours.add(option)
                    if option == Option.COM_PORT:
                        self._send_settings()
                        self.ready = True
            case Command.DO:
                self._say(Command.WONT, option)
            case Command.DONT:
                self._ours.discard(option)
                if option == Option.COM_PORT:
                    raise LinkError(f"{self._target} does not speak RFC 2217; is it a raw port (type tcp)?")

    def _take_answer(self, sub: bytes) -> None:
        if len(sub) < 2 or sub[0] != Option.COM_PORT:
            return
        command, value = sub[1] - _ANSWER, sub[2:]
        if command == ComPort.FLOWCONTROL_SUSPEND:
            self.suspended = True
        elif command == ComPort.FLOWCONTROL_RESUME:
            self.suspended = False
        wanted = {
            ComPort.SET_BAUDRATE: ("baud", self._target.baud),
            ComPort.SET_DATASIZE: ("data bits", self._target.bits),
            ComPort.SET_PARITY: ("parity", _PARITY[self._target.parity]),
            ComPort.SET_STOPSIZE: ("stop bits", self._target.stop),
        }.get(ComPort(command) if command in set(ComPort) else ComPort.SET_CONTROL)
        # sredird answers the speed with 8 octets: the first four are it
        if (
            len(self.complaints) < _MOST_COMPLAINTS
            and wanted
            and value
            and int.from_bytes(value[:4], "big") != wanted[1]
        ):
            self.complaints.append(f"{wanted[0]}: asked for {wanted[1]}, got {int.from_bytes(value[:4], 'big')}")
