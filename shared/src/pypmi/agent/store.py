"""The journal's database: what was accepted before anything moved, how it ended, and what a node must remember.

Blocking; `journal.Journal` keeps it in a thread of its own. SQLite in WAL mode: a commit with `synchronous=FULL` is on
disk before it returns, and a process killed at any point leaves every commit whole.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pypmi.contract import (
    BootIntent,
    CommandError,
    CommandStatus,
    ErrorCode,
    PowerAction,
    PowerResult,
    PowerState,
    utc_now,
)
from pypmi.contract.base import Payload, ShortText, Timestamp

SCHEMA_VERSION = 1
KEEP_COMMANDS = 256
"""Finished commands kept for each node."""
KEEP_REFUSALS = 64
"""Refused commands kept for each node, apart, so that a flood of them pushes out no real one."""
KEEP_SECONDS = 30 * 86_400
"""Older ones go whatever their number, except for the newest."""
KEEP_NEWEST = 1000
"""Of all nodes together: so many are kept however old they look."""
_PRUNE_EVERY = 32

_SCHEMA = """
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    id TEXT NOT NULL,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    refused INTEGER NOT NULL,
    reply_to TEXT,
    correlation BLOB,
    result TEXT NOT NULL,
    at REAL NOT NULL,
    UNIQUE (node, id)
);
CREATE INDEX IF NOT EXISTS commands_open ON commands (status) WHERE status = 'accepted';
CREATE INDEX IF NOT EXISTS commands_age ON commands (node, refused, seq);
CREATE TABLE IF NOT EXISTS nodes (node TEXT PRIMARY KEY, memory TEXT NOT NULL);
"""


class JournalError(Exception):
    """The journal can't be written or read: nothing may be moved. The text says why, for people."""


class NodeMemory(Payload):
    """What is kept of a node over the agent's restart."""

    power: PowerState = PowerState.UNKNOWN
    since: Timestamp | None = None
    cause: ShortText | None = None
    last_action: ShortText | None = None
    on_seconds: float = 0.0
    boot: BootIntent | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A command as it stands in the journal."""

    node: str
    id: str
    action: PowerAction
    result: PowerResult
    """The last one said of it."""
    reply_to: str | None = None
    correlation: bytes | None = None


class JournalStore:
    """The open database. One process at a time; every call may raise `JournalError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._writes = 0

    # -- life ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open or create the database."""
        if self._db is not None:
            return
        with self._explained("open"):
            try:
                self._connect()
            except sqlite3.OperationalError:
                raise  # locked, full, not writable: the file may be all right
            except sqlite3.DatabaseError:
                # Not a database any more. Whatever was in it, nothing is done again because of its loss.
                self.close()
                self._path.rename(self._path.with_suffix(f".damaged-{int(time.time())}"))
                self._connect()

    def _connect(self) -> None:
        self._db = db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=2.0)
        # exclusive: a second agent on the same journal would not know what this one is doing
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self._path} was written by a newer pypmi (form {version}, this one knows"
                f" {SCHEMA_VERSION}); run that version, or move the file away"
            )
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")

    def close(self) -> None:
        """Close the database; it can be opened again."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block is on disk when it ends, or nothing of it is."""
        with self._explained("write"):
            db = self._opened()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise JournalError(f"the journal {self._path} is not open")
        return self._db

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"cannot {what} the journal {self._path}: {error}") from error

    # -- commands; call inside a transaction -----------------------------------------------------------------------

    def record(self, entry: Entry) -> Entry | None:
        """Write a new command down; return the entry that is there already, if there is one, and change nothing."""
        found = self.find(entry.node, entry.id)
        if found is not None:
            return found
        self._opened().execute(
            "INSERT INTO commands (node, id, action, status, refused, reply_to, correlation, result, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.node,
                entry.id,
                entry.action.value,
                entry.result.status.value,
                entry.result.status in {CommandStatus.REJECTED, CommandStatus.EXPIRED},
                entry.reply_to,
                entry.correlation,
                entry.result.model_dump_json(),
                time.time(),
            ),
        )
        self._writes += 1
        if self._writes % _PRUNE_EVERY == 0:
            self._prune(entry.node)
        return None

    def finish(self, result: PowerResult) -> None:
        """Write down how a command ended; the first end counts."""
        self._opened().execute(
            "UPDATE commands SET status = ?, result = ? WHERE node = ? AND id = ? AND status = 'accepted'",
            (result.status.value, result.model_dump_json(), result.node, result.id),
        )

    def find(self, node: str, command_id: str) -> Entry | None:
        """What is written of a command."""
        row = (
            self._opened()
            .execute(
                "SELECT node, id, action, reply_to, correlation, result FROM commands WHERE node = ? AND id = ?",
                (node, command_id),
            )
            .fetchone()
        )
        return None if row is None else _entry(row)

    def interrupt_open(self, epoch: str) -> list[Entry]:
        """Report what an earlier run of the agent left unfinished as failed; it is not done again."""
        rows = (
            self._opened()
            .execute(
                "SELECT node, id, action, reply_to, correlation, result FROM commands WHERE status = 'accepted'"
                " ORDER BY seq"
            )
            .fetchall()
        )
        ended = []
        for entry in map(_entry, rows):
            result = entry.result.model_copy(
                update={
                    "status": CommandStatus.FAILED,
                    "power": PowerState.UNKNOWN.value,
                    "error": CommandError(
                        code=ErrorCode.INTERRUPTED,
                        message="the agent was stopped while it carried this out; it is not known how far it came,"
                        " and it is not done again",
                    ),
                    "at": utc_now(),
                    "epoch": epoch,
                }
            )
            self.finish(result)
            ended.append(Entry(entry.node, entry.id, entry.action, result, entry.reply_to, entry.correlation))
        return ended

    def _prune(self, node: str) -> None:
        db = self._opened()
        for refused, keep in ((0, KEEP_COMMANDS), (1, KEEP_REFUSALS)):
            db.execute(
                "DELETE FROM commands WHERE node = ? AND refused = ? AND status != 'accepted' AND seq <="
                " (SELECT seq FROM commands WHERE node = ? AND refused = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (node, refused, node, refused, keep),
            )
        # Not the newest ones, whatever their age: a clock that is set (a Raspberry Pi begins in 1970) makes a command
        # of a minute ago look old, and a repeat of it must still be known.
        db.execute(
            "DELETE FROM commands WHERE status != 'accepted' AND at < ? AND seq <= (SELECT max(seq) FROM commands) - ?",
            (time.time() - KEEP_SECONDS, KEEP_NEWEST),
        )

    # -- nodes -----------------------------------------------------------------------------------------------------

    def remember(self, node: str, memory: NodeMemory) -> None:
        """Keep this of a node; call inside a transaction."""
        self._opened().execute(
            "INSERT INTO nodes (node, memory) VALUES (?, ?) ON CONFLICT (node) DO UPDATE SET memory = excluded.memory",
            (node, memory.model_dump_json()),
        )

    def forget(self, node: str) -> None:
        """The node has left the fleet; call inside a transaction. Its commands age away by themselves."""
        self._opened().execute("DELETE FROM nodes WHERE node = ?", (node,))

    def memories(self) -> dict[str, NodeMemory]:
        """All that is kept."""
        with self._explained("read"):
            rows: Sequence[tuple[str, str]] = self._opened().execute("SELECT node, memory FROM nodes").fetchall()
        return {node: NodeMemory.model_validate_json(memory) for node, memory in rows}


def _entry(row: tuple[str, str, str, str | None, bytes | None, str]) -> Entry:
    node, command_id, action, reply_to, correlation, result = row
    return Entry(node, command_id, PowerAction(action), PowerResult.model_validate_json(result), reply_to, correlation)
