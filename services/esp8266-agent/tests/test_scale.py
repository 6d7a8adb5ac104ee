"""One agent with 250 boards: all online soon, cheap when idle, and commands sent to all at once complete on all."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pypmi.contract import PowerAction, TopicKind, Topics

BOARDS = 250
TOPICS = Topics("")


class Simulators:
    """The boards' process."""

    def __init__(self, process: asyncio.subprocess.Process, ports: list[int]) -> None:
        self._process = process
        self.ports = ports

    async def counts(self) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?\n")
        counts: dict[str, int] = json.loads(await self._process.stdout.readline())
        return counts


@pytest.fixture
async def simulators() -> AsyncIterator[Simulators]:
    program = Path(__file__).with_name("simulated_fleet.py")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, program, str(BOARDS), stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    yield Simulators(process, json.loads(await process.stdout.readline()))
    process.stdin.close()
    await process.wait()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_250_boards(bus, broker, simulators, tmp_path: Path, wait_until) -> None:
    nodes: list[dict[str, Any]] = [
        {"id": f"node{index}", "hardware": {"type": "esp8266", "host": "127.0.0.1", "port": port,
                                            "identification": f"pc{index}"}}
        for index, port in enumerate(simulators.ports)
    ]  # fmt: skip
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(json.dumps({"version": 1, "mqtt": {"url": broker.url}, "nodes": nodes}))
    online: dict[str, str] = {}
    power: dict[str, str] = {}
    results: list[dict[str, Any]] = []
    bus.subscribe(TOPICS.nodes(TopicKind.NODE_AVAILABILITY), lambda m: online.__setitem__(m.topic, m.payload.decode()))
    bus.subscribe(TOPICS.nodes(TopicKind.STATE), lambda m: power.__setitem__(m.topic, json.loads(m.payload)["power"]))
    bus.subscribe(TOPICS.nodes(TopicKind.POWER_RESULT), lambda m: results.append(json.loads(m.payload)))

    def done(status: str) -> int:
        return sum(result["status"] == status for result in results)

    async def order(action: PowerAction, wanted: str) -> None:
        results.clear()
        started = loop.time()
        for node in nodes:
            bus.publish_nowait(TOPICS.node(node["id"], TopicKind.POWER_SET), action.value.encode())
        await wait_until(lambda: done("completed") + done("failed") + done("rejected") == BOARDS, action, 90)
        print(f"{action}: {loop.time() - started:.1f} s")
        assert done("completed") == BOARDS, [r for r in results if r["status"] not in {"accepted", "completed"}][:3]
        assert list(power.values()).count(wanted) == BOARDS

    loop = asyncio.get_running_loop()
    started = loop.time()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "esp8266_agent", "--config", str(fleet), "--state-dir", str(tmp_path / "state")
    )
    try:
        await wait_until(lambda: list(online.values()).count("online") == BOARDS, "all online", 60)
        print(f"online: {loop.time() - started:.1f} s")
        await wait_until(lambda: list(power.values()).count("off") == BOARDS, "all off", 30)
        await asyncio.sleep(5)
        before, at = _cpu_seconds(process.pid), loop.time()
        await asyncio.sleep(20)
        percent = 100 * (_cpu_seconds(process.pid) - before) / (loop.time() - at)
        print(f"idle: {percent:.1f} % of a core")
        assert percent < 15
        await order(PowerAction.ON, "on")
        assert await simulators.counts() == {
            "most_presses": 1, "fewest_presses": 1, "powered": BOARDS, "closed": 0,
        }  # fmt: skip
        await order(PowerAction.OFF, "off")
        assert await simulators.counts() == {
            "most_presses": 2, "fewest_presses": 2, "powered": 0, "closed": 0,
        }  # fmt: skip
        assert list(online.values()).count("online") == BOARDS
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
