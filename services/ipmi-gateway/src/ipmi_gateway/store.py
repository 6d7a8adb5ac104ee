"""What management controllers must remember over a restart, in one SQLite file: settings and system event logs.

Reads come from memory (settings) or from the file once per node (event logs). Writes are queued and carried out
in batches by `run`, in a thread, so that a slow disk never holds up an answer. A full disk costs an error in the
log and a longer queue, never a command; the queue is bounded.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from contextlib import closing
from pathlib import Path

log = logging.getLogger(__name__)

BATCH_DELAY = 0.05
"""Seconds that `run` waits for more writes, so that a burst becomes one transaction."""
RETRY_DELAY = 5.0
"""Seconds after a failed write."""
MAX_QUEUE = 20_000
"""Writes kept while the disk takes none; beyond that the oldest are given up."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS setting (node TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (node, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sel (sequence INTEGER PRIMARY KEY, node TEXT NOT NULL, record_id INTEGER NOT NULL,
    record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS sel_of_node ON sel (node, record_id);
"""


_SELECT = "SELECT record FROM sel WHERE node = ? ORDER BY sequence"


class StoreError(Exception):
    """The file can't be opened or read; the text says which and why."""


class Store:
    """Settings and event logs of all nodes (`node` is "" for the gateway itself).

    `path` names the file; None keeps everything in memory, for embedding without a state directory. Raises
    `StoreError` when the file can't be opened; a damaged one is put aside and a new one begun.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._queue: deque[tuple[str, tuple[object, ...]]] = deque()
        self._wake = asyncio.Event()
        self._lock = threading.Lock()
        self._failing = False
        self._unwritten: set[str] = set()
        try:
            self._connection, self._settings = self._open()
        except sqlite3.OperationalError as error:
            raise StoreError(f"{path}: {error}; the state directory must exist and be writable") from error
        except sqlite3.DatabaseError as error:
            if path is None:
                raise StoreError(str(error)) from error
            aside = path.with_name(path.name + ".damaged")
            log.error("%s is damaged (%s): it is put aside as %s and a new one begun", path, error, aside)
            path.replace(aside)
            for tail in ("-wal", "-shm"):
                path.with_name(path.name + tail).unlink(missing_ok=True)
            self._connection, self._settings = self._open()

    def _open(self) -> tuple[sqlite3.Connection, dict[tuple[str, str], bytes]]:
        # Used by one thread at a time: `_lock` sees to it.
        connection = sqlite3.connect(
            ":memory:" if self.path is None else self.path, check_same_thread=False, isolation_level=None, timeout=1.0
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_SCHEMA)
            rows = connection.execute("SELECT node, key, value FROM setting").fetchall()
        except sqlite3.Error:
            connection.close()
            raise
        return connection, {(node, key): bytes(value) for node, key, value in rows}

    def get(self, node: str, key: str) -> bytes | None:
        """A setting, or None when it was never put."""
        return self._settings.get((node, key))

    def put(self, node: str, key: str, value: bytes | None) -> None:
        """Keep a setting; None forgets it."""
        if self._settings.get((node, key)) == value:
            return
        if value is None:
            del self._settings[node, key]
            self._enqueue("DELETE FROM setting WHERE node = ? AND key = ?", (node, key))
        else:
            self._settings[node, key] = value
            self._enqueue("INSERT OR REPLACE INTO setting (node, key, value) VALUES (?, ?, ?)", (node, key, value))

    def load_sel(self, node: str) -> list[bytes]:
        """The event log of a node, oldest record first, 16 octets each; empty when it can't be read (logged)."""
        if node in self._unwritten:
            self.flush()
        try:
            # A connection of its own does not wait for a batch that is just being written.
            if self.path is None:
                rows = self._connection.execute(_SELECT, (node,)).fetchall()
            else:
                with closing(sqlite3.connect(self.path, timeout=1.0)) as reader:
                    rows = reader.execute(_SELECT, (node,)).fetchall()
        except sqlite3.Error as error:
            log.error("%s: event log of %s can't be read: %s", self.path, node or "the gateway", error)
            return []
        return [bytes(row[0]) for row in rows if len(row[0]) == 16]

    def add_sel(self, node: str, record_id: int, record: bytes) -> None:
        """Append a record to a node's event log."""
        self._unwritten.add(node)
        self._enqueue("INSERT INTO sel (node, record_id, record) VALUES (?, ?, ?)", (node, record_id, record))

    def delete_sel(self, node: str, record_id: int) -> None:
        """Remove a record from a node's event log."""
        self._unwritten.add(node)
        self._enqueue("DELETE FROM sel WHERE node = ? AND record_id = ?", (node, record_id))

    def clear_sel(self, node: str) -> None:
        """Remove all records of a node's event log."""
        self._unwritten.add(node)
        self._enqueue("DELETE FROM sel WHERE node = ?", (node,))

    def _enqueue(self, statement: str, values: tuple[object, ...]) -> None:
        if len(self._queue) >= MAX_QUEUE:
            self._queue.popleft()
        self._queue.append((statement, values))
        self._wake.set()

    def flush(self) -> bool:
        """Write what is queued, now, in the calling thread. False when the disk did not take it (logged)."""
        with self._lock:
            batch = []
            while self._queue:
                batch.append(self._queue.popleft())
            if not batch:
                return True
            try:
                self._connection.execute("BEGIN")
                for statement, values in batch:
                    self._connection.execute(statement, values)
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                # Newer writes may have been queued meanwhile; these come before them.
                self._queue.extendleft(reversed(batch))
                while len(self._queue) > MAX_QUEUE:
                    self._queue.popleft()
                if not self._failing:
                    log.error("%s takes no writes: %s; %d are waiting", self.path, error, len(self._queue))
                self._failing = True
                return False
            if self._failing:
                log.warning("%s takes writes again", self.path)
                self._failing = False
            if not self._queue:
                self._unwritten.clear()
            return True

    async def run(self) -> None:
        """Carry out queued writes until cancelled; what is queued then is written before it returns."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(BATCH_DELAY)
                self._wake.clear()
                if not await asyncio.to_thread(self.flush):
                    await asyncio.sleep(RETRY_DELAY)
                    self._wake.set()
        finally:
            self.flush()

    def close(self) -> None:
        """Write what is queued and close the file."""
        self.flush()
        self._connection.close()
