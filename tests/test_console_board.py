"""A relay board's UART bridge, simulated at its wire, through the relay to a viewer: nothing lost at full speed."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pypmi.bus import Bus, Requests
from pypmi.config.load import load_fleet
from pypmi.config.mqtt import MqttSettings
from pypmi.console import ConsoleClient, ConsoleData, ConsoleEvent, ConsoleGap, ConsoleHub
from pypmi.contract import ServiceKind, Topics
from pypmi.service import Service
from pypmi_simulator import Era, SimulatedBoard
from pypmi_simulator.console import Console, FloodConsole, RecordingConsole
from sol_relay.relay import Relay
from stack import free_tcp_port, have

pytestmark = pytest.mark.skipif(not have("mosquitto"), reason="needs mosquitto")


async def until(condition: Callable[[], Any], timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(*works: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[int]:
    port = free_tcp_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\npersistence false\nuser root\nallow_anonymous true\n")
    process = await asyncio.create_subprocess_exec(
        "mosquitto", "-c", str(config), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def viewed(board: SimulatedBoard, folder: Path) -> AsyncIterator[tuple[ConsoleClient, list[ConsoleEvent]]]:
    """The board's console as a viewer sees it, once it is online."""
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(broker(folder))
        fleet = folder / "fleet.yaml"
        hardware = f"{{type: esp8266, host: 127.0.0.1, port: {board.port}, bridge_port: {board.bridge_port}}}"
        fleet.write_text(
            f"mqtt: {{url: 'mqtt://127.0.0.1:{port}'}}\n"
            f"nodes:\n  - {{id: n1, hardware: {hardware}, console: {{type: esp8266}}}}\n"
        )
        service = Service(ServiceKind.SOL_RELAY, "sol-relay", load_fleet(fleet), folder / "state")
        await stack.enter_async_context(running(service.run_bus(), Relay(service).run()))
        bus = Bus(MqttSettings(url=f"mqtt://127.0.0.1:{port}"), "viewer")
        hub = ConsoleHub(bus, Requests(bus, Topics(), "viewer"), Topics())
        await stack.enter_async_context(running(bus.run(), hub.run()))
        await bus.wait_connected()
        events: list[ConsoleEvent] = []
        client = hub.attach("n1", "test", events.append)
        await until(lambda: not client.why_offline)
        yield client, events


def output(events: list[ConsoleEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ConsoleData))


@pytest.mark.parametrize("era", list(Era))
async def test_everything_typed_reaches_the_machine(era: Era, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(40_000)
    console = RecordingConsole()
    async with SimulatedBoard(era, console=console, boot_noise=False) as board, viewed(board, tmp_path) as (client, _):
        await client.write(data)
        await until(lambda: len(console.data) >= len(data))
        assert bytes(console.data) == data


@pytest.mark.parametrize("era", list(Era))
async def test_full_output_at_115200_baud_arrives_whole(era: Era, tmp_path: Path) -> None:
    total = 100_000
    console = FloodConsole(total=total)
    async with SimulatedBoard(era, console=console, boot_noise=False) as board, viewed(board, tmp_path) as (_, events):
        console.resume()
        await until(lambda: len(output(events)) >= total, 60)
        expected = b"".join(FloodConsole.pattern(line) for line in range(total // 64 + 1))[:total]
        assert output(events) == expected
        assert not any(isinstance(event, ConsoleGap) for event in events)


async def test_a_bridge_that_was_left_mute_speaks_again(tmp_path: Path) -> None:
    console: Console = RecordingConsole()
    async with SimulatedBoard(Era.NEWEST, console=console, boot_noise=False) as board:
        # somebody's connection ends with a reset while octets are unacknowledged (reference 8.3)
        live = board._live
        assert live is not None
        live.uart.stale_unacked = 127
        async with viewed(board, tmp_path) as (_, events):
            console.output(b"login: ")
            await until(lambda: b"login: " in output(events))
