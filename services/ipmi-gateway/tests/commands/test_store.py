"""The store: what is put in comes back after a restart, also when the disk or the file is bad."""

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest
from ipmi_gateway import store as store_module
from ipmi_gateway.store import Store, StoreError

RECORD = bytes(range(16))


def test_settings_and_logs_come_back(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    first = Store(path)
    first.put("node1", "key", b"one")
    first.put("node1", "key", b"two")
    first.put("", "key", b"gateway")
    first.put("node1", "gone", b"x")
    first.put("node1", "gone", None)
    first.add_sel("node1", 1, RECORD)
    first.add_sel("node1", 2, RECORD[::-1])
    first.add_sel("node2", 1, RECORD)
    first.delete_sel("node1", 1)
    first.close()
    second = Store(path)
    assert second.get("node1", "key") == b"two"
    assert second.get("", "key") == b"gateway"
    assert second.get("node1", "gone") is None
    assert second.load_sel("node1") == [RECORD[::-1]]
    second.clear_sel("node1")
    second.close()
    third = Store(path)
    assert third.load_sel("node1") == []
    assert third.load_sel("node2") == [RECORD]
    third.close()


def test_what_is_queued_is_seen_by_readers(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.db")
    store.add_sel("node1", 1, RECORD)
    assert store.load_sel("node1") == [RECORD]
    store.close()


async def test_run_writes_in_the_background_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    store = Store(path)
    task = asyncio.create_task(store.run())
    store.put("node1", "key", b"value")

    def written(key: str) -> bool:
        with sqlite3.connect(path) as reader:
            return reader.execute("SELECT value FROM setting WHERE key = ?", (key,)).fetchone() is not None

    async with asyncio.timeout(30):
        while not written("key"):
            await asyncio.sleep(0.02)
    store.put("node1", "late", b"value")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert written("late")
    store.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="state directory"):
        Store(tmp_path / "missing" / "gateway.db")


def test_a_damaged_file_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "gateway.db"
    path.write_bytes(b"this is no database" * 500)
    store = Store(path)
    store.put("node1", "key", b"value")
    assert store.flush()
    store.close()
    assert (tmp_path / "gateway.db.damaged").exists()
    assert "damaged" in caplog.text


async def test_a_full_disk_costs_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RETRY_DELAY", 0.05)
    store = Store(tmp_path / "gateway.db")
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # what SQLite then says is that the disk is full
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(store.run())
        for number in range(200):
            store.put("node1", f"key{number}", bytes(100))
        async with asyncio.timeout(30):
            while "takes no writes" not in caplog.text:
                await asyncio.sleep(0.01)
        assert store.get("node1", "key199") == bytes(100)
        store._connection.execute("PRAGMA max_page_count = 1000000")
        async with asyncio.timeout(30):
            while "takes writes again" not in caplog.text:
                await asyncio.sleep(0.01)
    assert caplog.text.count("takes no writes") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    store.close()
    again = Store(tmp_path / "gateway.db")
    assert again.get("node1", "key0") == bytes(100)
    again.close()


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_QUEUE", 10)
    store = Store()
    for number in range(50):
        store.put("node1", f"key{number}", b"x")
    assert len(store._queue) == 10
    store.close()


def test_the_same_value_is_not_written_again() -> None:
    store = Store()
    store.put("node1", "key", b"x")
    store.flush()
    store.put("node1", "key", b"x")
    store.put("node1", "other", None)
    assert not store._queue
    store.close()
