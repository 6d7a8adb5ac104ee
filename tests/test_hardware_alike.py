"""The same node behaves alike on every kind of hardware: relay board, both GPIO back ends, and a machine's own BMC.

Each test runs once for each kind, over a real broker and the kind's real agent; see alike.py.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alike import RIGS, TIMINGS, Bench, bench, broker, until
from pypmi_simulator import PC, SoftOff

__all__ = ["broker"]  # a fixture


@pytest.fixture(params=list(RIGS))
async def node(
    request: pytest.FixtureRequest, broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Bench]:
    rig = RIGS[request.param](PC(timings=TIMINGS), monkeypatch, tmp_path)
    async with bench(rig, broker, tmp_path) as running:
        yield running


async def test_says_the_same_of_itself(node: Bench) -> None:
    info = node.retained("info")
    assert {"on", "off", "cycle", "reset", "soft", "status", "boot"} <= set(info["capabilities"])
    assert (info["name"], info["area"]) == ("Alike", "Lab")
    assert info["agent"] == node.rig.kind.value
    state = node.state
    assert (state["power"], state["target"], state["action"], state["fault"]) == ("off", None, None, None)
    assert node.pc.events == []


async def test_on_and_off(node: Bench) -> None:
    result = await node.ask("on")
    assert (result["status"], result["power"], result["error"]) == ("completed", "on", None)
    assert node.pc.powered
    await node.running()
    assert (node.state["cause"], node.state["last_action"]) == ("command", "on")
    result = await node.ask("off")
    assert (result["status"], result["power"], result["error"]) == ("completed", "off", None)
    assert not node.pc.powered
    await until(lambda: node.state["action"] is None)
    assert (node.state["power"], node.state["cause"], node.state["last_action"]) == ("off", "command", "off")
    await until(lambda: node.event_types() == ["power_on", "power_off"])
    assert [event["cause"] for event in node.events] == ["command", "command"]


async def test_what_is_so_already_is_left_alone(node: Bench) -> None:
    result = await node.ask("off")
    assert (result["status"], result["power"]) == ("completed", "off")
    assert "off already" in result["note"]
    await node.ask("on")
    await node.running()
    result = await node.ask("on")
    assert (result["status"], result["power"]) == ("completed", "on")
    assert "on already" in result["note"]
    assert node.pc.boots == 1
    assert [event.what for event in node.pc.events] == ["on", "running"]


async def test_soft_lets_the_system_halt(node: Bench) -> None:
    await node.ask("on")
    await node.running()
    result = await node.ask("soft")
    assert (result["status"], result["power"], result["error"]) == ("completed", "off", None)
    assert "halted" in [event.what for event in node.pc.events]
    assert "forced off" not in [event.what for event in node.pc.events]


async def test_soft_that_is_not_followed_is_not_confirmed(node: Bench) -> None:
    await node.ask("on")
    await node.running()
    node.pc.soft_off = SoftOff.IGNORE
    node.pc.hang(asyncio.get_running_loop().time())  # a BMC's request for a shutdown is ignored by a hung system, too
    node.rig.touch()
    result = await node.ask("soft")
    assert (result["status"], result["power"]) == ("failed", "on")
    assert result["error"]["code"] == "not_confirmed"
    await until(lambda: node.state["fault"] is not None)
    assert node.state["power"] == "on"
    result = await node.ask("off")
    assert (result["status"], result["power"]) == ("completed", "off")


async def test_reset_restarts_without_switching_off(node: Bench) -> None:
    await node.ask("on")
    await node.running()
    result = await node.ask("reset")
    assert (result["status"], result["power"], result["error"]) == ("completed", "on", None)
    await until(lambda: node.pc.boots == 2)
    assert "off" not in [event.what for event in node.pc.events]
    await until(lambda: node.event_types() == ["power_on", "reset"])


async def test_reset_of_a_machine_that_is_off_is_refused(node: Bench) -> None:
    result = await node.ask("reset")
    assert result["status"] in {"rejected", "failed"}
    assert result["error"]["code"] == "invalid"
    assert node.pc.events == []


async def test_cycle_switches_off_and_on(node: Bench) -> None:
    await node.ask("on")
    await node.running()
    result = await node.ask("cycle")
    assert (result["status"], result["power"], result["error"]) == ("completed", "on", None)
    assert node.pc.boots == 2
    assert [event.what for event in node.pc.events].count("off") == 1
    await node.running()


async def test_cycle_of_a_machine_that_is_off_switches_on(node: Bench) -> None:
    result = await node.ask("cycle")
    assert (result["status"], result["power"], result["error"]) == ("completed", "on", None)
    assert result["note"]
    assert node.pc.boots == 1


async def test_somebody_presses_the_real_button(node: Bench) -> None:
    await node.rig.press_by_hand(0.2)
    await until(lambda: node.state["power"] == "on")
    assert node.state["cause"] == "external"
    await until(lambda: node.event_types() == ["power_on"])
    assert node.events[0]["cause"] == "external"
    await until(lambda: node.pc.os == "running")
    await node.rig.press_by_hand(3.0)
    await until(lambda: node.state["power"] == "off")
    assert node.state["cause"] == "external"


async def test_the_same_command_twice_is_done_once(node: Bench) -> None:
    first = await node.ask("on", id="abc-1")
    await node.running()
    await node.ask("off")
    await until(lambda: node.state["action"] is None)
    node.results.clear()
    await node.send("on", id="abc-1")
    again = await node.final("abc-1")
    assert (again["id"], again["status"]) == (first["id"], first["status"])
    await asyncio.sleep(1)
    assert not node.pc.powered
    assert node.pc.boots == 1


async def test_another_command_meanwhile_is_busy(node: Bench) -> None:
    await node.ask("on")
    await node.running()
    node.pc.timings = type(node.pc.timings)(boot=0.3, halt=4.0, force_off=2.0)
    soft = await node.send("soft")
    await until(lambda: any(r["id"] == soft for r in node.results))
    other = await node.ask("reset")
    assert (other["status"], other["error"]["code"]) == ("rejected", "busy")
    assert (await node.final(soft))["status"] == "completed"
    assert node.pc.boots == 1


async def test_a_late_command_is_not_carried_out(node: Bench) -> None:
    result = await node.ask("on", issued_at="2020-01-01T00:00:00Z", ttl_ms=1000)
    assert (result["status"], result["error"]["code"]) == ("expired", "expired")
    assert node.pc.events == []


async def test_one_shot_boot_device_is_used_up_at_the_next_start(node: Bench) -> None:
    await node.bus.publish(f"{node.head}boot/set", b'{"device": "pxe", "efi": true}')
    await until(lambda: node.retained("boot").get("device") == "pxe")
    assert node.retained("boot")["efi"] is True
    await node.ask("on")
    await until(lambda: node.retained("boot")["device"] == "none")


async def test_hardware_that_is_lost_is_unknown_and_comes_back(node: Bench) -> None:
    await node.ask("on")
    await node.running()
    await node.rig.lose()
    await until(lambda: not node.online, 60)
    await until(lambda: node.state["power"] == "unknown")
    result = await node.ask("off", ttl_ms=60_000)
    assert result["status"] in {"failed", "rejected"}
    assert (result["power"], result["error"]["code"]) == ("unknown", "device_unreachable")
    await node.rig.find()
    await until(lambda: node.online and node.state["power"] == "on", 90)
    assert node.pc.powered
    assert {"node_lost", "node_back"} <= set(node.event_types())
    result = await node.ask("off")
    assert (result["status"], result["power"]) == ("completed", "off")
