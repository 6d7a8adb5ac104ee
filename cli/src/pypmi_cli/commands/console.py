"""`pypmi console`: a node's serial console over the broker, with what was said before."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import typer
from pypmi.console import (
    ConsoleClient,
    ConsoleData,
    ConsoleError,
    ConsoleEvent,
    ConsoleGap,
    ConsoleHub,
    ConsoleQueue,
    NoticeKind,
)

from pypmi_cli.access import Access
from pypmi_cli.commands.common import Node, execute, user_name
from pypmi_cli.escape import HELP, Escape, EscapeFilter
from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.selection import choose, is_pattern, known_nodes
from pypmi_cli.session import SOURCE, connect

_READ = 4096
_BREAK_MS = 250


def console(
    context: typer.Context,
    node: Node,
    scrollback: Annotated[
        int, typer.Option(min=0, max=65_536, help="Octets of what the machine said before to show first.")
    ] = 4096,
    read_only: Annotated[bool, typer.Option("--read-only", "-r", help="Look, and do not type.")] = False,
    escape: Annotated[
        str, typer.Option(metavar="CHAR", help="First key of an escape, at the start of a line; none: no escapes.")
    ] = "~",
    linger: Annotated[
        float, typer.Option(min=0, max=3600, help="Where input is no terminal: seconds to listen after its end.")
    ] = 2.0,
) -> None:
    """Open a node's serial console. Leave with ~. at the start of a line; ~? shows what else there is."""
    if escape != "none" and (len(escape) != 1 or not escape.isascii() or escape in "\r\n"):
        raise typer.BadParameter("one ASCII character, or none", param_hint="--escape")
    options = _Options(scrollback, read_only, None if escape == "none" else escape.encode(), linger)
    execute(context, lambda access: _console(access, node, options))


class _Options:
    def __init__(self, scrollback: int, read_only: bool, escape: bytes | None, linger: float) -> None:
        self.scrollback = scrollback
        self.read_only = read_only
        self.escape = escape
        self.linger = linger


async def _console(access: Access, node: str, options: _Options) -> Exit:
    async with connect(access) as session:
        if is_pattern(node):
            raise ToolError("a console is one node's; give its name", Exit.USAGE)
        (node_id,) = choose(node, known_nodes(session))
        view = session.view.node(node_id)
        if view.console is None:
            hint = "give it a `console` part in fleet.yaml" if not (view.info and view.info.console) else (
                "its relay has not announced it: is the sol-relay running?"
            )  # fmt: skip
            raise ToolError(f"{node_id} has no console: {hint}", Exit.UNAVAILABLE)
        hub = ConsoleHub(session.bus, session.requests, session.topics)
        working = asyncio.create_task(hub.run())
        await asyncio.sleep(0)
        try:
            return await _talk(hub, node_id, options)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


async def _talk(hub: ConsoleHub, node_id: str, options: _Options) -> Exit:
    queue = ConsoleQueue()
    client = hub.attach(node_id, f"{SOURCE}-{user_name()}", queue.put, scrollback=options.scrollback)
    terminal = sys.stdin.isatty() and not options.read_only
    screen = _Screen(raw=terminal)
    if terminal and options.escape is not None:
        key = options.escape.decode()
        screen.note(f"console of {node_id}; {key}. at the start of a line leaves, {key}? helps")
    live = asyncio.Event()
    with _raw_terminal() if terminal else contextlib.nullcontext():
        showing = asyncio.create_task(_show(queue, screen, live))
        typing = asyncio.create_task(_type(client, screen, options, live, terminal=terminal))
        try:
            await asyncio.wait({showing, typing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            showing.cancel()
            typing.cancel()
            done = await asyncio.gather(showing, typing, return_exceptions=True)
            client.detach()
    for failed in done:
        if isinstance(failed, BrokenPipeError):
            return Exit.OK  # `| head` has seen enough
        if isinstance(failed, Exception):
            raise failed
    if terminal:
        screen.note("console closed")
    return Exit.OK


class _Screen:
    """Where output goes: bytes as they are, and our own notes on lines of their own, on stderr."""

    def __init__(self, *, raw: bool) -> None:
        self._end = "\r\n" if raw else "\n"

    def data(self, octets: bytes) -> None:
        sys.stdout.buffer.write(octets)
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        sys.stderr.write(f"{self._end}[pypmi: {text}]{self._end}")
        sys.stderr.flush()


async def _show(queue: ConsoleQueue, screen: _Screen, live: asyncio.Event) -> None:
    while True:
        event: ConsoleEvent = await queue.get()
        if isinstance(event, ConsoleData):
            screen.data(event.data)
        elif isinstance(event, ConsoleGap):
            screen.note(str(event))
        elif event.kind is NoticeKind.LIVE:
            live.set()
        else:
            screen.note(event.text)


async def _type(
    client: ConsoleClient, screen: _Screen, options: _Options, live: asyncio.Event, *, terminal: bool
) -> None:
    """Send what is typed, until the escape or, without a terminal, the end of the input."""
    if options.read_only:
        await asyncio.Event().wait()  # until Ctrl-C
    keys = EscapeFilter(options.escape if terminal else None)
    if not terminal:
        await live.wait()  # before that nothing is known of the relay
    async with _keyboard() as typed:
        while True:
            octets = await typed.get()
            if not octets:
                break
            for item in keys.feed(octets):
                if item is Escape.LEAVE:
                    return
                try:
                    await _do(client, screen, item)
                except ConsoleError as error:
                    if not terminal:
                        raise ToolError(f"input not sent: {error}", Exit.UNAVAILABLE) from None
                    screen.note(f"not sent: {error}")
    if not terminal:
        with contextlib.suppress(ConsoleError, TimeoutError):
            async with asyncio.timeout(60):
                await client.drain()
        await asyncio.sleep(options.linger)


async def _do(client: ConsoleClient, screen: _Screen, item: bytes | Escape) -> None:
    if isinstance(item, bytes):
        await client.write(item)
    elif item is Escape.BREAK:
        await client.send_break(_BREAK_MS)
        screen.note("break sent")
    elif item is Escape.HELP:
        screen.note(HELP)


@contextlib.asynccontextmanager
async def _keyboard() -> AsyncIterator[asyncio.Queue[bytes]]:
    """Standard input as a queue of octets; an empty item is its end."""
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[bytes] = asyncio.Queue()
    number = sys.stdin.fileno()

    def readable() -> None:
        try:
            octets = os.read(number, _READ)
        except OSError:
            octets = b""
        typed.put_nowait(octets)
        if not octets:
            loop.remove_reader(number)

    try:
        loop.add_reader(number, readable)
    except PermissionError:  # a plain file, or /dev/null: it is all there at once
        typed.put_nowait(await asyncio.to_thread(sys.stdin.buffer.read))
        typed.put_nowait(b"")
    try:
        yield typed
    finally:
        loop.remove_reader(number)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Each key goes to the machine, Ctrl-C too; put back whatever happens."""
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setraw(number)
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
