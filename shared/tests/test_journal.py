"""The journal: what it keeps and for how long, full and damaged disks, and kill -9 at every step of a command."""

import asyncio
import json
import resource
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pypmi.agent import Journal, JournalError
from pypmi.agent import store as store_module
from pypmi.agent.store import Entry, JournalStore, NodeMemory
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import CommandStatus, ErrorCode, PowerAction, PowerResult, PowerState, utc_now

from .test_agent_runtime import Person, person, until

VICTIM = Path(__file__).with_name("journal_victim.py")


def entry(command_id: str, status: CommandStatus = CommandStatus.ACCEPTED, node: str = "n1") -> Entry:
    result = PowerResult(id=command_id, node=node, action=PowerAction.ON, status=status, at=utc_now(), epoch="first")
    return Entry(node, command_id, PowerAction.ON, result, "services/x/reply", b"\x00c")


def ended(command_id: str, node: str = "n1") -> PowerResult:
    return entry(command_id, CommandStatus.COMPLETED, node).result


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Journal, list[Entry]]]:
    journal = Journal(folder / "journal.sqlite3")
    unfinished = await journal.open("second")
    try:
        yield journal, unfinished
    finally:
        await journal.close()


async def test_what_was_recorded_is_found_again(tmp_path):
    async with opened(tmp_path) as (journal, unfinished):
        assert unfinished == []
        assert await journal.record(entry("a")) is None
        found = await journal.record(entry("a"))
        assert found == entry("a").__class__("n1", "a", PowerAction.ON, found.result, "services/x/reply", b"\x00c")
        assert found.result.status is CommandStatus.ACCEPTED
        assert await journal.record(entry("a", node="n2")) is None  # ids are a node's own
        await journal.finish(ended("a"))
    async with opened(tmp_path) as (journal, unfinished):
        assert [(item.node, item.id) for item in unfinished] == [("n2", "a")]
        assert (await journal.record(entry("a"))).result.status is CommandStatus.COMPLETED


async def test_what_was_open_is_interrupted_once(tmp_path):
    async with opened(tmp_path) as (journal, _):
        await journal.record(entry("a"))
    async with opened(tmp_path) as (_, unfinished):
        [item] = unfinished
        assert item.result.status is CommandStatus.FAILED
        assert item.result.error.code is ErrorCode.INTERRUPTED
        assert item.result.epoch == "second"
        assert (item.reply_to, item.correlation) == ("services/x/reply", b"\x00c")
    async with opened(tmp_path) as (journal, unfinished):
        assert unfinished == []
        await journal.finish(ended("a"))  # the first end counts
        assert (await journal.record(entry("a"))).result.status is CommandStatus.FAILED


async def test_memories_survive(tmp_path):
    memory = NodeMemory(power=PowerState.ON, since=utc_now(), on_seconds=12.5, last_action="on")
    async with opened(tmp_path) as (journal, _):
        await journal.remember("n1", memory)
        await journal.remember("n2", memory)
        await journal.forget("n2")
    async with opened(tmp_path) as (journal, _):
        assert journal.memory("n1").on_seconds == 12.5
        assert journal.memory("n1").power is PowerState.ON
        assert journal.memory("n2") == NodeMemory()
        assert journal.known_nodes() == ("n1",)


async def test_it_is_bounded_and_refusals_push_no_real_command_out(tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "KEEP_COMMANDS", 20)
    monkeypatch.setattr(store_module, "KEEP_REFUSALS", 10)
    async with opened(tmp_path) as (journal, _):
        await journal.record(entry("open"))
        await journal.record(entry("real"))
        await journal.finish(ended("real"))
        for number in range(200):
            await journal.record(entry(f"r{number}", CommandStatus.REJECTED))
        assert (await journal.record(entry("real"))).result.status is CommandStatus.COMPLETED
        for number in range(200):
            await journal.record(entry(f"c{number}"))
            await journal.finish(ended(f"c{number}"))
        assert await journal.record(entry("open")) is not None  # never while it is under way
    with sqlite3.connect(tmp_path / "journal.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM commands WHERE refused").fetchone()[0] <= 10 + 32
        assert db.execute("SELECT count(*) FROM commands WHERE NOT refused").fetchone()[0] <= 20 + 32
    db.close()


async def test_a_clock_that_is_set_makes_nothing_forgotten(tmp_path, monkeypatch):
    """A Raspberry Pi has no clock of its own: it starts in 1970, and NTP sets it years ahead while it works."""
    now = 100.0
    monkeypatch.setattr(store_module.time, "time", lambda: now)
    async with opened(tmp_path) as (journal, _):
        await journal.record(entry("a"))
        await journal.finish(ended("a"))
        now = 1.8e9
        for number in range(100):  # prunes a few times
            await journal.record(entry(f"c{number}"))
            await journal.finish(ended(f"c{number}"))
        assert (await journal.record(entry("a"))).result.status is CommandStatus.COMPLETED


async def test_many_at_once_share_a_few_transactions(tmp_path):
    store = JournalStore(tmp_path / "journal.sqlite3")
    count = 0
    original = store.transaction

    def counted():
        nonlocal count
        count += 1
        return original()

    store.transaction = counted
    journal = Journal(tmp_path / "journal.sqlite3", store)
    await journal.open("e")
    found = await asyncio.gather(*(journal.record(entry("a", node=f"n{number}")) for number in range(250)))
    await journal.close()
    assert found == [None] * 250
    assert count < 10


async def test_a_second_agent_on_the_same_journal_is_told_so(tmp_path):
    async with opened(tmp_path) as (journal, _):
        await journal.record(entry("a"))
        with pytest.raises(JournalError, match="locked"):
            async with opened(tmp_path):
                pass


async def test_a_damaged_file_is_set_aside(tmp_path):
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"not a database at all" * 1000)
    async with opened(tmp_path) as (journal, unfinished):
        assert unfinished == []
        assert await journal.record(entry("a")) is None
    assert list(tmp_path.glob("journal.damaged-*"))


async def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(JournalError, match="nowhere"):
        async with opened(tmp_path / "nowhere"):
            pass


async def test_a_newer_journal_is_not_touched(tmp_path):
    with sqlite3.connect(tmp_path / "journal.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="newer"):
        async with opened(tmp_path):
            pass


async def test_a_full_disk_refuses_and_recovers(tmp_path):
    """The file system says no, as a full one does: the process may not make its files any larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with opened(tmp_path) as (journal, _):
        await journal.record(entry("before"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
        try:
            with pytest.raises(JournalError, match="cannot write the journal"):
                await journal.record(entry("a"))
            with pytest.raises(JournalError):
                await journal.finish(ended("before"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, old)
        # known although it could not be written
        assert (await journal.record(entry("before"))).result.status is CommandStatus.COMPLETED
        assert await journal.record(entry("a")) is None


# -- kill -9 -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def victim(url: str, folder: Path, step: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, str(VICTIM), url, str(folder), step)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ready(someone: Person, process: asyncio.subprocess.Process, old_epoch: str = "") -> str:
    """Wait until the agent that has just started knows its state; return its epoch."""
    await until(lambda: someone.state.get("epoch", old_epoch) != old_epoch and someone.state["power"] != "unknown", 40)
    return str(someone.state["epoch"])


@pytest.mark.parametrize(
    ("step", "presses", "first", "again"),
    [
        ("before record", 0, [], ["accepted", "completed"]),
        ("in record", 0, [], ["accepted", "completed"]),
        ("after record", 0, ["failed"], ["failed"]),
        ("pressing", 1, ["failed"], ["failed"]),
        ("before finish", 1, ["failed"], ["failed"]),
        ("in finish", 1, ["failed"], ["failed"]),
        ("after finish", 1, [], ["completed"]),
    ],
)
async def test_killed_at_every_step(mosquitto, tmp_path, step, presses, first, again):
    """`presses`: by the time of the kill. `first`: said by the restarted agent by itself. `again`: to the same id."""
    file = tmp_path / "presses"

    def count() -> int:
        return file.read_text().count("press") if file.exists() else 0

    async with person(MqttSettings(url=mosquitto.url)) as someone:
        async with victim(mosquitto.url, tmp_path, step) as process:
            epoch = await ready(someone, process)
            command = {"id": "a1", "action": "on"}
            await someone.say(command)
            async with asyncio.timeout(40):
                assert await process.wait() == -signal.SIGKILL
        assert count() == presses
        if "record" in step:
            assert someone.statuses("a1") == []  # nothing is said before it is written down
        someone.heard.clear()
        async with victim(mosquitto.url, tmp_path, "never") as process:
            await ready(someone, process, epoch)
            await until(lambda: someone.statuses("a1") == first)
            assert count() == presses  # starting presses nothing
            someone.heard.clear()
            await someone.say(command)
            await until(lambda: someone.statuses("a1") == again)
            for result in someone.results("a1"):
                assert result["error"] is None or result["error"]["code"] == "interrupted"
            assert json.loads(someone.kept["nodes/n1/state"])["power"] == ("on" if count() else "off")
        assert count() <= 1


async def test_a_command_that_came_while_the_process_stood_still_is_late(mosquitto, tmp_path):
    async with (
        person(MqttSettings(url=mosquitto.url)) as someone,
        victim(mosquitto.url, tmp_path, "never") as process,
    ):
        await ready(someone, process)
        process.send_signal(signal.SIGSTOP)
        await someone.say({"id": "a1", "action": "on", "ttl_ms": 2000})  # without issued_at: nothing says its age
        await asyncio.sleep(6)
        process.send_signal(signal.SIGCONT)
        await until(lambda: someone.statuses("a1") == ["expired"])
        assert "stood still" in someone.results("a1")[0]["error"]["message"]
        await asyncio.sleep(3)
        await someone.say({"id": "a2", "action": "on", "ttl_ms": 2000})
        await until(lambda: someone.statuses("a2") == ["accepted", "completed"])
        assert (tmp_path / "presses").read_text() == "press\n"
