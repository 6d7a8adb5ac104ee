"""The journal as the agent uses it: awaited calls, one thread, and one flush to disk for all that wait together."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pypmi.agent.store import Entry, JournalError, JournalStore, NodeMemory
from pypmi.contract import PowerResult

_MAX_WAITING = 10_000
"""Writes that may wait; a disk that hangs must not fill the memory."""


@dataclass(slots=True)
class _Write:
    do: Callable[[JournalStore], Any]
    done: asyncio.Future[Any]


class Journal:
    """What was accepted, and how it ended, on disk.

    Writes keep their order. Those that come while the disk is busy go into one transaction, so that two hundred
    nodes switched on together cost a few flushes and not two hundred.

    Args:
        path: the SQLite file; its folder must exist.
        store: another store, for tests.
    """

    def __init__(self, path: Path, store: JournalStore | None = None) -> None:
        self._store = store or JournalStore(path)
        # SQLite blocks; one thread keeps the order. Ends in `close`.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: list[_Write] = []
        self._writing: asyncio.Future[None] | None = None
        self._memories: dict[str, NodeMemory] = {}
        self._unwritten: dict[tuple[str, str], PowerResult] = {}

    async def open(self, epoch: str) -> list[Entry]:
        """Open it and return what an earlier run left unfinished: now written down as failed / interrupted.

        Raises `JournalError`; without a journal an agent must not move anything.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._open, epoch)

    def _open(self, epoch: str) -> list[Entry]:
        self._store.open()
        with self._store.transaction():
            ended = self._store.interrupt_open(epoch)
        self._memories = self._store.memories()
        return ended

    async def close(self) -> None:
        """Wait for what is being written, then close."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
            await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=False)

    async def record(self, entry: Entry) -> Entry | None:
        """Write a command down, on disk when this returns; None when it is new, else what is written of it already.

        Raises `JournalError`: then nothing may be moved.
        """
        found: Entry | None = await self._write(lambda store: store.record(entry))
        if found is None:
            return None
        ended = self._unwritten.get((found.node, found.id))
        return found if ended is None else replace(found, result=ended)

    async def finish(self, result: PowerResult) -> None:
        """Write down how a command ended.

        Raises `JournalError`; the result is then known until the agent stops, and is interrupted after that.
        """
        key = (result.node, result.id)
        if len(self._unwritten) < _MAX_WAITING:
            self._unwritten[key] = result
        await self._write(lambda store: store.finish(result))
        self._unwritten.pop(key, None)

    def memory(self, node: str) -> NodeMemory:
        """What was last remembered of a node."""
        return self._memories.get(node) or NodeMemory()

    def known_nodes(self) -> tuple[str, ...]:
        """Nodes that something is remembered of."""
        return tuple(self._memories)

    async def remember(self, node: str, memory: NodeMemory) -> None:
        """Keep this of a node. Raises `JournalError`."""
        self._memories[node] = memory
        await self._write(lambda store: store.remember(node, memory))

    async def forget(self, node: str) -> None:
        """The node has left the fleet. Raises `JournalError`."""
        self._memories.pop(node, None)
        await self._write(lambda store: store.forget(node))

    # -- the writer ------------------------------------------------------------------------------------------------

    async def _write(self, do: Callable[[JournalStore], Any]) -> Any:
        if len(self._waiting) >= _MAX_WAITING:
            raise JournalError(f"{_MAX_WAITING} writes wait for the journal's disk already")
        write = _Write(do, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._writing is None:
            self._start()
        return await write.done

    def _start(self) -> None:
        batch, self._waiting = self._waiting, []
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._thread, self._commit, batch, loop)
        self._writing.add_done_callback(self._written)

    def _written(self, done: asyncio.Future[None]) -> None:
        self._writing = None
        if self._waiting:
            self._start()
        done.result()

    def _commit(self, batch: list[_Write], loop: asyncio.AbstractEventLoop) -> None:
        """In the thread: all of it in one transaction; every waiter hears, whatever happens."""
        answers: list[Any] = []
        try:
            with self._store.transaction():
                answers.extend(write.do(self._store) for write in batch)
        except Exception as error:  # noqa: BLE001 - handed to the waiters
            loop.call_soon_threadsafe(_fail, batch, error)
        else:
            loop.call_soon_threadsafe(_answer, batch, answers)


def _answer(batch: list[_Write], answers: list[Any]) -> None:
    for write, answer in zip(batch, answers, strict=True):
        if not write.done.done():
            write.done.set_result(answer)


def _fail(batch: list[_Write], error: Exception) -> None:
    for write in batch:
        if not write.done.done():
            write.done.set_exception(error if isinstance(error, JournalError) else JournalError(str(error)))
