"""Many boards in one process, from parameters: for the demo, tests and benches."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from .board import SimulatedBoard
from .console import Console, EchoConsole, FloodConsole, ProcessConsole, ShellConsole
from .eras import Era
from .faults import BoardTimings
from .pc import PC, PcTimings, magic_packet_mac

FILES_PER_BOARD: Final = 8
"""Two listeners, two datagram sockets, two connections, and a pty."""
_SPARE_FILES: Final = 200

CONSOLES: Final[dict[str, Callable[[str], Console]]] = {
    "shell": ShellConsole,
    "sh": lambda _name: ProcessConsole(),
    "echo": lambda _name: EchoConsole(),
    "flood": lambda _name: FloodConsole(),
    "none": lambda _name: Console(),
}
"""Kinds of consoles by name."""


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """What a fleet is made of.

    `base_port` 0 takes free ports; else board n (from 0) listens on `base_port + 2n` and its bridge on the next.
    `eras` are given out in turn. A board's name is `name_format` with its number, from 1.
    """

    boards: int = 4
    base_port: int = 0
    host: str = "127.0.0.1"
    eras: tuple[Era, ...] = (Era.NEWEST,)
    name_format: str = "node{}"
    provisioned: bool = True
    udp: bool = True
    console: str = "shell"
    paced_uart: bool = True
    powered: bool = False
    pulse_ms: int = 500
    reset_pin: int | None = None
    nmi_pin: int | None = None
    board_timings: BoardTimings = field(default_factory=BoardTimings)
    pc_timings: PcTimings = field(default_factory=PcTimings)
    wol_port: int | None = None
    """UDP port that takes Wake-on-LAN packets; 0 takes a free one, None has no such listener."""


class Fleet:
    """Boards that start and stop together; `boards` in order, `by_name` by name."""

    def __init__(self, options: FleetOptions) -> None:
        self.options = options
        self.boards = [self._make(index) for index in range(options.boards)]
        self.by_name = {board.name: board for board in self.boards}
        self.wol_port: int | None = None
        self._wol: asyncio.DatagramTransport | None = None

    def _make(self, index: int) -> SimulatedBoard:
        options = self.options
        name = options.name_format.format(index + 1)
        return SimulatedBoard(
            options.eras[index % len(options.eras)],
            pc=PC(timings=options.pc_timings, powered=options.powered, mac=mac_of(index)),
            provisioned=options.provisioned,
            name=name,
            host=options.host,
            port=options.base_port + 2 * index if options.base_port else 0,
            bridge_port=options.base_port + 2 * index + 1 if options.base_port else 0,
            udp=options.udp,
            reset_pin=options.reset_pin,
            nmi_pin=options.nmi_pin,
            pulse_ms=options.pulse_ms,
            timings=options.board_timings,
            console=_console(options.console, name),
            paced_uart=options.paced_uart,
        )

    async def __aenter__(self) -> Self:
        raise_file_limit(len(self.boards) * FILES_PER_BOARD + _SPARE_FILES)
        async with contextlib.AsyncExitStack() as stack:
            for board in self.boards:
                await stack.enter_async_context(board)
            if self.options.wol_port is not None:
                await self._listen_for_magic(self.options.wol_port)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._wol is not None:
            self._wol.close()
        await self._stack.aclose()

    def find(self, key: str | int) -> SimulatedBoard:
        """Board by name, or by number from 1.

        Raises:
            KeyError: no such board.
        """
        if isinstance(key, str) and key in self.by_name:
            return self.by_name[key]
        with contextlib.suppress(ValueError):
            index = int(key) - 1
            if 0 <= index < len(self.boards):
                return self.boards[index]
        raise KeyError(f"no board {key!r}")

    async def _listen_for_magic(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _MagicListener(self), local_addr=(self.options.host, port)
        )
        self._wol = transport
        self.wol_port = transport.get_extra_info("sockname")[1]

    def wake(self, mac: str) -> None:
        """What a magic packet does."""
        for board in self.boards:
            if board.pc.mac == mac:
                board.pc.wake(board.now)
                board.touch()


class _MagicListener(asyncio.DatagramProtocol):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002  asyncio's signature
        mac = magic_packet_mac(data)
        if mac is not None:
            self._fleet.wake(mac)


def _console(kind: str, name: str) -> Console:
    return CONSOLES[kind](name)


def mac_of(index: int) -> str:
    """Network address of board `index`'s PC (locally administered)."""
    return (b"\x02\x50\x4d" + index.to_bytes(3, "big")).hex(":")


def raise_file_limit(wanted: int) -> None:
    """Raises the limit of open files towards `wanted`, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
