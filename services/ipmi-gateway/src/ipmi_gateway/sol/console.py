"""What a SOL payload is connected to: consoles behind the bus, or in this process, all seen alike.

A `Console` takes viewers. A viewer gets the events of `pypmi.console` (output, gaps, notices) by a callback, and
types through the `ConsoleLink` that it was given.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from pypmi.console import (
    ConsoleClient,
    ConsoleData,
    ConsoleError,
    ConsoleEvent,
    ConsoleHub,
    ConsoleNotice,
    ConsoleOfflineError,
    NoticeKind,
)

log = logging.getLogger(__name__)

OnEvent = Callable[[ConsoleEvent], None]

BREAK_MILLISECONDS: Final = 250
"""How long a break is, as SOL does not say (section 15.9): long enough for every baud rate in use."""


class ConsoleLink(Protocol):
    """One viewer's way to a console."""

    def write(self, data: bytes) -> int:
        """Pass on what the viewer types; returns how many octets were taken, from the first.

        Raises `ConsoleOfflineError` where nothing can be passed on.
        """

    def send_break(self) -> None:
        """Hold the line in the break state for a moment. What goes wrong comes as a notice."""

    def detach(self) -> None:
        """Look no longer. No event comes after this."""


class Console(Protocol):
    """A machine's console."""

    def attach(self, viewer: str, on_event: OnEvent, *, scrollback: int, on_room: Callable[[], None]) -> ConsoleLink:
        """Begin to look: first up to `scrollback` octets of what was said before, then live output.

        `viewer` says who, for people. `on_room` is called when `write` may take more than before.
        """


class HubConsoles:
    """Consoles behind the bus. `run` must be running."""

    def __init__(self, hub: ConsoleHub) -> None:
        self._hub = hub
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Carry out what takes time, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await asyncio.get_running_loop().create_future()
        finally:
            self._tasks = None

    def of(self, node_id: str) -> Console:
        """The console of a node."""
        return _HubConsole(self._hub, node_id, self._spawn)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            work.close()
        else:
            self._tasks.create_task(work)


class _HubConsole:
    def __init__(self, hub: ConsoleHub, node_id: str, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._hub = hub
        self._node_id = node_id
        self._spawn = spawn

    def attach(self, viewer: str, on_event: OnEvent, *, scrollback: int, on_room: Callable[[], None]) -> ConsoleLink:
        client = self._hub.attach(self._node_id, viewer, on_event, scrollback=scrollback, on_room=on_room)
        return _HubLink(client, on_event, self._spawn)


class _HubLink:
    def __init__(
        self, client: ConsoleClient, on_event: OnEvent, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._client = client
        self._on_event = on_event
        self._spawn = spawn
        self.write = client.write_nowait
        self.detach = client.detach

    def send_break(self) -> None:
        self._spawn(self._break())

    async def _break(self) -> None:
        try:
            await self._client.send_break(BREAK_MILLISECONDS)
        except ConsoleError as error:
            if self._client.attached:
                self._on_event(ConsoleNotice(NoticeKind.INPUT_LOST, f"no break: {error}"))


class LocalConsole:
    """A console in this process: output comes by `feed`, input goes to a callback.

    `on_input` gets what viewers type, and may return how many octets it took (None: all). `on_break` is called for a
    break. The last `history` octets of output are kept for those who come later.
    """

    def __init__(
        self,
        on_input: Callable[[bytes], int | None],
        on_break: Callable[[], None] | None = None,
        *,
        history: int = 262_144,
    ) -> None:
        self._on_input = on_input
        self._on_break = on_break
        self._history = bytearray()
        self._history_size = history
        self._viewers: dict[_LocalLink, OnEvent] = {}
        self._on_room: dict[_LocalLink, Callable[[], None]] = {}
        self.online = True
        """Whether input can be taken; viewers are told by `set_online`."""

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    def feed(self, data: bytes) -> None:
        """Output of the machine: to all viewers, and into the history."""
        self._history += data
        excess = len(self._history) - self._history_size
        if excess > 0:
            del self._history[:excess]
        event = ConsoleData(bytes(data))
        for on_event in tuple(self._viewers.values()):
            on_event(event)

    def set_online(self, online: bool, why: str = "the console is away") -> None:
        """Say that the console went away, or is back."""
        if online != self.online:
            self.online = online
            notice = (
                ConsoleNotice(NoticeKind.ONLINE, "the console is back")
                if online
                else ConsoleNotice(NoticeKind.OFFLINE, why)
            )
            for on_event in tuple(self._viewers.values()):
                on_event(notice)

    def room(self) -> None:
        """`on_input` may take more than before."""
        for on_room in tuple(self._on_room.values()):
            on_room()

    def attach(
        self,
        viewer: str,  # noqa: ARG002 - nobody else sees who looks
        on_event: OnEvent,
        *,
        scrollback: int,
        on_room: Callable[[], None],
    ) -> ConsoleLink:
        """Begin to look."""
        link = _LocalLink(self)
        before = bytes(self._history[-scrollback:]) if scrollback else b""
        if before:
            on_event(ConsoleData(before, scrollback=True))
        on_event(ConsoleNotice(NoticeKind.LIVE, "live output follows"))
        if not self.online:
            on_event(ConsoleNotice(NoticeKind.OFFLINE, "the console is away"))
        self._viewers[link] = on_event
        self._on_room[link] = on_room
        return link

    def take(self, data: bytes) -> int:
        """Input from a viewer; returns how many octets were taken."""
        if not self.online:
            raise ConsoleOfflineError("the console is away")
        taken = self._on_input(data)
        return len(data) if taken is None else taken

    def take_break(self) -> None:
        """A break from a viewer."""
        if self._on_break is not None:
            self._on_break()

    def leave(self, link: "_LocalLink") -> None:
        """A viewer looks no longer."""
        self._viewers.pop(link, None)
        self._on_room.pop(link, None)


class _LocalLink:
    def __init__(self, console: LocalConsole) -> None:
        self._console = console
        self.write = console.take
        self.send_break = console.take_break

    def detach(self) -> None:
        self._console.leave(self)


class _SendData:
    """What pyghmi's `Bmc` finds as its `sol`: takes the machine's output."""

    def __init__(self, console: LocalConsole) -> None:
        self.send_data = console.feed


def pyghmi_console(machine: Any) -> LocalConsole | None:
    """The console of an object written for pyghmi's `Bmc`: input goes to `iohandler`, output comes by `sol.send_data`.

    None where it has no `iohandler`. Its `sol` is there from now on, not only while somebody looks.
    """
    handler = getattr(machine, "iohandler", None)
    if not callable(handler):
        return None
    console = LocalConsole(lambda data: handler(data) and None)
    machine.sol = _SendData(console)
    machine.activated = True
    return console
