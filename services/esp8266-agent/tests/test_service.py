"""The console script as a process, with a broker and simulated boards: `power/set` to a running PC, and --provision."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from pypmi.bus import Bus
from pypmi.config.mqtt import MqttSettings
from pypmi.contract import TopicKind, Topics
from pypmi_simulator import Era, SimulatedBoard
from pypmi_simulator.mqttdevices import TasmotaDevice

TOPICS = Topics("")


def write_fleet(path: Path, broker: MqttSettings, nodes: dict[str, dict[str, Any]]) -> Path:
    fleet = path / "fleet.yaml"
    hardware = [{"id": node, "hardware": values} for node, values in nodes.items()]
    fleet.write_text(yaml.safe_dump({"version": 1, "mqtt": {"url": broker.url}, "nodes": hardware}))
    return fleet


@asynccontextmanager
async def agent(fleet: Path, state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "esp8266_agent", "--config", str(fleet), "--state-dir", str(state)
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 20) == 0


class View:
    """Retained topics and results of the nodes."""

    def __init__(self, bus: Bus) -> None:
        self.state: dict[str, dict[str, Any]] = {}
        self.availability: dict[str, str] = {}
        self.results: list[dict[str, Any]] = []
        bus.subscribe(
            TOPICS.nodes(TopicKind.STATE),
            lambda m: self.state.__setitem__(m.topic.split("/")[1], json.loads(m.payload)),
        )
        bus.subscribe(
            TOPICS.nodes(TopicKind.NODE_AVAILABILITY),
            lambda m: self.availability.__setitem__(m.topic.split("/")[1], m.payload.decode()),
        )
        bus.subscribe(TOPICS.nodes(TopicKind.POWER_RESULT), lambda m: self.results.append(json.loads(m.payload)))

    def power(self, node: str) -> str | None:
        return self.state.get(node, {}).get("power")


async def test_power_on_by_mqtt_on_every_kind_of_board(
    bus: Bus, broker: MqttSettings, tmp_path: Path, wait_until: Callable[..., Awaitable[None]]
) -> None:
    view = View(bus)
    boards = {f"node{index}": SimulatedBoard(era, name=f"pc{index}") for index, era in enumerate(Era)}
    try:
        nodes: dict[str, dict[str, Any]] = {}
        for index, (node, board) in enumerate(boards.items()):
            await board.start()
            nodes[node] = {"type": "esp8266", "host": board.host, "port": board.port, "identification": f"pc{index}"}
        nodes["tasmota"] = {"type": "tasmota", "topic": "relay1", "status_switch": 1}
        async with TasmotaDevice(broker, "relay1") as device:
            async with agent(write_fleet(tmp_path, broker, nodes), tmp_path / "state"):
                await wait_until(lambda: len(nodes) == list(view.availability.values()).count("online"), "online", 20)
                await wait_until(lambda: {view.power(node) for node in nodes} == {"off"}, "off", 20)
                for node in nodes:
                    await bus.publish(TOPICS.node(node, TopicKind.POWER_SET), b"on")
                await wait_until(lambda: {view.power(node) for node in nodes} == {"on"}, "on", 20)
                await wait_until(
                    lambda: [r["status"] for r in view.results].count("completed") == len(nodes), str(view.results), 20
                )
            assert all(len(board.pc.presses) == 1 and not board.relay_closed for board in boards.values())
            assert len(device.pc.presses) == 1
    finally:
        for board in boards.values():
            await board.stop()


async def test_provision_from_the_command_line(broker: MqttSettings, tmp_path: Path) -> None:
    async with SimulatedBoard(Era.NEWEST, provisioned=False) as board:
        hardware = {"type": "esp8266", "host": board.host, "port": board.port, "identification": "pc1"}
        fleet = write_fleet(tmp_path, broker, {"node1": hardware})

        async def run(node: str) -> tuple[int | None, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "esp8266_agent", "--provision", node, "--config", str(fleet),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, error = await process.communicate()
            return process.returncode, (out + error).decode()

        code, text = await run("node1")
        assert code == 0, text
        assert "is set up (firmware 2024)" in text
        assert board.store.get("identification") == "pc1"
        assert board.pc.presses == []
        writes = board.store.writes
        code, _ = await run("node1")
        assert (code, board.store.writes) == (0, writes)
        code, text = await run("node9")
        assert code == 1
        assert "node9" in text
