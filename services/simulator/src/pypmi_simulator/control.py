"""Control of a running simulator from outside: one JSON object per line, over TCP on the loopback interface.

    $ echo '{"op": "press", "board": "node1", "seconds": 0.2}' | nc 127.0.0.1 PORT
    {"ok": true, ...}

Every answer has `ok`; with `ok` false there is `error`. `call` is a client for scripts and tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .board import SimulatedBoard
from .faults import Network
from .fleet import Fleet
from .pc import Button, SoftOff

_LINE_LIMIT: Final = 65536


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _BoardRequest(_Request):
    board: str | int
    """Name, or number from 1."""


class ListBoards(_Request):
    """Where all boards are and what state they are in."""

    op: Literal["list"]


class State(_BoardRequest):
    """Everything about one board and its PC."""

    op: Literal["state"]


class PressButton(_BoardRequest):
    """Somebody presses the real button; the answer comes when it was let go."""

    op: Literal["press"]
    button: Button = Button.POWER
    seconds: float = Field(default=0.2, gt=0, le=60)


class PcAction(_BoardRequest):
    """Something happens to the PC."""

    op: Literal["hang", "shutdown", "sleep", "wake", "unplug", "plug"]


class PcSettings(_BoardRequest):
    """Changes how the PC behaves; what is left out stays."""

    op: Literal["pc"]
    soft_off: SoftOff | None = None
    psu_ok: bool | None = None
    psu_weak: bool | None = None


class SetNetwork(_BoardRequest):
    """Cuts or repairs the network to a board."""

    op: Literal["network"]
    mode: Network


class Reboot(_BoardRequest):
    """The module resets by itself."""

    op: Literal["reboot"]
    cause: str = Field(default="hardware watchdog", max_length=40)


class SetFaults(_BoardRequest):
    """Changes what goes wrong; what is left out stays."""

    op: Literal["faults"]
    reply_delay: float | None = Field(default=None, ge=0, le=60)
    lose_replies: int | None = Field(default=None, ge=0)
    lose_commands: int | None = Field(default=None, ge=0)
    reset_replies: int | None = Field(default=None, ge=0)
    hung: bool | None = None


class Presses(_BoardRequest):
    """The presses so far; `clear` forgets them after that."""

    op: Literal["presses"]
    clear: bool = False


class Mute(_BoardRequest):
    """Brings on newest's mute bug of the bridge (reference 8.3)."""

    op: Literal["mute"]


Request = Annotated[
    ListBoards | State | PressButton | PcAction | PcSettings | SetNetwork | Reboot | SetFaults | Presses | Mute,
    Field(discriminator="op"),
]
_REQUEST: Final[TypeAdapter[Request]] = TypeAdapter(Request)


def summary(board: SimulatedBoard) -> dict[str, Any]:
    """Where a board is, and its state in short."""
    board.touch()
    return {
        "name": board.name,
        "era": board.era.value,
        "host": board.host,
        "port": board.port,
        "bridge_port": board.bridge_port,
        "mac": board.pc.mac,
        "power": "on" if board.pc.powered else "off",
        "os": board.pc.os.value,
    }


def details(board: SimulatedBoard) -> dict[str, Any]:
    """Everything one may want to know of a board."""
    return summary(board) | {
        "relay_closed": board.relay_closed,
        "network": board.network.value,
        "boots": board.boots,
        "pc_boots": board.pc.boots,
        "pc_resets": board.pc.resets,
        "pc_nmis": board.pc.nmis,
        "flash_writes": board.store.writes,
        "presses": [_press(press) for press in board.pc.presses],
        "hand_presses": [_press(press) for press in board.pc.hand_presses],
        "events": [{"time": event.time, "what": event.what} for event in board.pc.events],
        "console": {"received": board.console.received, "breaks": board.console.breaks},
    }


def _press(press: tuple[float, float, Button]) -> dict[str, Any]:
    return {"start": press[0], "duration": press[1], "button": press[2].value}


class ControlServer:
    """Serves the control interface of a fleet.

    Raises:
        ValueError: `host` is not a loopback address: there is no login.
    """

    def __init__(self, fleet: Fleet, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"the control interface has no login and is for loopback addresses only, not {host}")
        self._fleet = fleet
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=_LINE_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while line := await reader.readline():
                answer = await self.handle(line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def handle(self, line: bytes) -> dict[str, Any]:
        """Answers one line."""
        try:
            request = _REQUEST.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return {"ok": False, "error": f"{where}: {first['msg']}" if where else first["msg"]}
        if isinstance(request, ListBoards):
            return {"ok": True, "boards": [summary(board) for board in self._fleet.boards]}
        try:
            board = self._fleet.find(request.board)
        except KeyError as error:
            return {"ok": False, "error": str(error.args[0])}
        if isinstance(request, PressButton):
            await press_button(board, request.button, request.seconds)
            return {"ok": True} | details(board)
        if isinstance(request, Presses):
            presses = [_press(press) for press in board.pc.presses]
            if request.clear:
                board.pc.presses.clear()
            return {"ok": True, "presses": presses}
        _act(board, request)
        return {"ok": True} | details(board)


def _act(
    board: SimulatedBoard, request: State | PcAction | PcSettings | SetNetwork | Reboot | SetFaults | Mute
) -> None:
    match request:
        case State():
            pass
        case PcAction():
            getattr(board.pc, request.op)(board.now)
        case PcSettings():
            for name, value in request.model_dump(exclude={"op", "board"}, exclude_none=True).items():
                setattr(board.pc, name, value)
        case SetFaults():
            for name, value in request.model_dump(exclude={"op", "board"}, exclude_none=True).items():
                setattr(board.faults, name, value)
        case SetNetwork():
            board.cut_network(request.mode)
        case Reboot():
            board.reboot(request.cause)
        case Mute():
            board.mute_bridge()
    board.touch()


async def press_button(board: SimulatedBoard, button: Button = Button.POWER, seconds: float = 0.2) -> None:
    """Presses the PC's real button by hand."""
    board.pc.press(button, board.now, by="hand")
    board.touch()
    try:
        await asyncio.sleep(seconds)
    finally:
        board.pc.release(button, board.now, by="hand")
        board.touch()


def call(port: int, op: str, *, host: str = "127.0.0.1", timeout: float = 65.0, **fields: Any) -> dict[str, Any]:
    """Sends one request to a running simulator and returns its answer (blocking; for scripts and tests).

    Raises:
        RuntimeError: the simulator refused it.
        OSError: it can't be reached.
    """
    with socket.create_connection((host, port), timeout=timeout) as sock, sock.makefile("rwb") as stream:
        stream.write(json.dumps({"op": op, **fields}).encode() + b"\n")
        stream.flush()
        answer: dict[str, Any] = json.loads(stream.readline())
    if not answer.pop("ok"):
        raise RuntimeError(answer["error"])
    return answer
