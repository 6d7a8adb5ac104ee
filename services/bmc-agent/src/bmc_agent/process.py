"""A worker process seen from the agent: start it, ask it, and kill it when it does not answer."""

import asyncio
import multiprocessing
import socket
from collections.abc import Coroutine
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

from bmc_agent import worker
from bmc_agent.client import BmcError
from bmc_agent.messages import (
    MAX_LINE,
    Login,
    ReadEvents,
    ReadPower,
    ReadSensors,
    Reply,
    Request,
    TakeInventory,
    Trouble,
)

READINGS = (ReadPower, ReadSensors, ReadEvents, TakeInventory)
"""Requests that change nothing."""

GOODBYE_TIMEOUT = 2.0
"""Seconds that a worker has for logging out."""
LOGIN_TIMEOUT = 20.0
"""Seconds for a login. pyghmi gives up a dead BMC after some five."""


def worker_context() -> ForkServerContext:
    """How workers are started: forked from a server process that has pyghmi loaded, 9 MB each instead of 19 (PSS)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])
    return context


class BmcProcess:
    """One worker with one session. Use `open` to get one and always `close` it.

    Requests are sent one at a time. After `BmcError` with `UNREACHABLE` it is of no use any more.
    """

    def __init__(
        self, process: BaseProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._name = name
        self._lock = asyncio.Lock()
        self._lost = False
        self._unheard: asyncio.Task[Reply] | None = None

    @classmethod
    async def open(cls, login: Login, context: ForkServerContext) -> "tuple[BmcProcess, object]":
        """Start a worker and log in. Returns it and the answer (of type `Identity`). Raises `BmcError`."""
        try:
            return await cls._open(login, context)
        except BmcError as error:
            if error.trouble is not Trouble.OTHER_HASH:
                raise
        return await cls._open(login.model_copy(update={"sha1": True}), context)

    @classmethod
    async def _open(cls, login: Login, context: ForkServerContext) -> "tuple[BmcProcess, object]":
        ours, theirs = socket.socketpair()
        name = f"{login.host}:{login.port}"
        process = context.Process(target=worker.serve, args=(theirs,), name=f"bmc {name}", daemon=True)
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_LINE)
        opened = cls(process, reader, writer, name)
        try:
            try:
                await _to_the_end(asyncio.to_thread(process.start))
            finally:
                theirs.close()
            return opened, await opened.ask(login, LOGIN_TIMEOUT)
        except BaseException:
            await opened.close()
            raise

    async def ask(self, request: Request, timeout: float) -> object:
        """Send a request and return the result. Raises `BmcError`.

        A worker that does not answer within `timeout` seconds is killed, and so is one whose asker is cancelled in the
        middle of an action: nothing that was asked for may happen later. A reading just goes on unheard.
        """
        async with self._lock:
            if self._unheard is not None:
                await asyncio.wait({self._unheard})
                self._unheard = None
            if self._lost:
                raise BmcError(Trouble.UNREACHABLE, f"BMC {self._name}: the session is lost")
            exchange = asyncio.create_task(self._exchange(request, timeout))
            try:
                reply = await asyncio.shield(exchange)
            except asyncio.CancelledError:
                if isinstance(request, READINGS):
                    self._unheard = exchange
                else:
                    exchange.cancel()
                raise
        if reply.trouble is not None:
            raise BmcError(reply.trouble, reply.text)
        return reply.result

    async def _exchange(self, request: Request, timeout: float) -> Reply:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(request.model_dump_json().encode() + b"\n")
                await self._writer.drain()
                reply = Reply.model_validate_json(await self._reader.readline())
        except (TimeoutError, OSError, ValueError) as error:
            self._lose()
            what = f"no answer within {timeout:g} s" if isinstance(error, TimeoutError) else "its process has ended"
            return Reply(trouble=Trouble.UNREACHABLE, text=f"BMC {self._name}: {what}")
        except BaseException:
            self._lose()
            raise
        self._lost = reply.trouble is Trouble.UNREACHABLE
        return reply

    def _lose(self) -> None:
        self._lost = True
        self._process.kill()

    async def close(self) -> None:
        """Let the worker log out, or kill it; then it is gone."""
        await _to_the_end(self._close())

    async def _close(self) -> None:
        self._writer.close()  # the worker logs out and ends when it sees that
        if self._process.pid is None:
            return
        if self._unheard is not None and not self._unheard.done():
            self._unheard.cancel()
            await asyncio.wait({self._unheard})
        if self._lost or self._lock.locked():
            self._process.kill()
        await asyncio.to_thread(self._process.join, GOODBYE_TIMEOUT)
        if self._process.is_alive():
            self._process.kill()
            await asyncio.to_thread(self._process.join)
        self._process.close()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` to its end, also when cancelled meanwhile: a thread can't be stopped, a process not be left."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
