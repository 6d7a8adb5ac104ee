"""Tasmota and ESPHome devices: their logic, and on a real broker."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pypmi.bus import Bus
from pypmi.config.mqtt import MqttSettings
from pypmi_simulator.esphome import EspButton, Esphome
from pypmi_simulator.mqttdevices import EsphomeDevice, TasmotaDevice
from pypmi_simulator.pc import PC, Button, OsState, SoftOff
from pypmi_simulator.tasmota import Tasmota, pulse_seconds, pulse_setting


@pytest.mark.parametrize(("setting", "seconds"), [(0, None), (1, 0.1), (5, 0.5), (111, 11.1), (112, 12), (160, 60)])
def test_pulse_time(setting, seconds):
    assert pulse_seconds(setting) == seconds
    if seconds is not None:
        assert pulse_setting(seconds) == setting


def payloads(messages) -> dict[str, str]:
    return {f"{message.prefix}/{message.suffix}": message.payload for message in messages}


def test_tasmota_presses_for_the_pulse_time():
    device = Tasmota(PC())
    assert payloads(device.command("PulseTime1", "5", 10)) == {"stat/RESULT": '{"PulseTime1":{"Set":5,"Remaining":0}}'}
    assert payloads(device.command("Power", "on", 10)) == {"stat/RESULT": '{"POWER":"ON"}', "stat/POWER": "ON"}
    messages = payloads(device.command("pulsetime1", "", 10.2))
    assert messages["stat/RESULT"] == '{"PulseTime1":{"Set":5,"Remaining":3}}'
    assert json.loads(messages["tele/SENSOR"])["Switch1"] == "ON"
    status = payloads(device.command("status", "10", 10.2))["stat/STATUS10"]
    assert json.loads(status)["StatusSNS"]["Switch1"] == "ON"
    assert device.deadline() == pytest.approx(10.5)
    assert payloads(device.advance(11))["stat/POWER"] == "OFF"
    assert device.pc.presses == [(10, pytest.approx(0.5), Button.POWER)]


def test_tasmota_power_again_extends_and_off_ends():
    device = Tasmota(PC(soft_off=SoftOff.IGNORE))
    device.command("Backlog", "PulseTime1 5; Power1 ON", 10)
    device.command("Power1", "ON", 10.3)
    device.command("Power1", "OFF", 10.6)
    assert device.pc.presses == [(10, pytest.approx(0.6), Button.POWER)]
    assert device.deadline() is None


def test_tasmota_toggle_query_and_nonsense():
    device = Tasmota(PC(), buttons=(Button.POWER, Button.RESET), switch=None)
    assert payloads(device.command("POWER2", "", 1))["stat/POWER2"] == "OFF"
    assert payloads(device.command("POWER2", "toggle", 2))["stat/POWER2"] == "ON"
    assert payloads(device.command("POWER2", "2", 3))["stat/POWER2"] == "OFF"
    assert payloads(device.command("POWER2", "maybe", 4)) == {"stat/RESULT": '{"Command":"Error"}'}
    assert payloads(device.command("POWER3", "on", 5)) == {"stat/RESULT": '{"Command":"Unknown"}'}
    assert payloads(device.command("nope", "", 6)) == {"stat/RESULT": '{"Command":"Unknown"}'}
    assert json.loads(payloads(device.command("PulseTime", "", 7))["stat/RESULT"]) == {
        "PulseTime": {"Set": [0, 0], "Remaining": [0, 0]}
    }
    assert "POWER1" in payloads(device.command("STATE", "", 8))["stat/RESULT"]
    assert json.loads(payloads(device.command("status", "", 9))["stat/STATUS"])["Status"]["Power"] == 0
    assert json.loads(payloads(device.command("status", "11", 9))["stat/STATUS11"])["StatusSTS"]["POWER2"] == "OFF"


@pytest.mark.parametrize(("report", "topic"), [("sensor", "tele/SENSOR"), ("action", "stat/RESULT"), ("none", None)])
def test_tasmota_reports_the_switch(report, topic):
    device = Tasmota(PC(), switch=3, switch_report=report)
    device.pc.turn_on(5)
    messages = payloads(device.advance(5))
    assert set(messages) == ({topic} if topic else set())
    if report == "action":
        assert messages["stat/RESULT"] == '{"Switch3":{"Action":"ON"}}'
    if report == "sensor":
        assert json.loads(messages["tele/SENSOR"])["Switch3"] == "ON"


def test_esphome_buttons():
    pc = PC(powered=True, soft_off=SoftOff.IGNORE)
    device = Esphome(
        pc,
        buttons=(EspButton("power_button"), EspButton("force_off", seconds=5), EspButton("reset", Button.RESET, 0.2)),
    )
    assert device.greeting(0) == [("status", "online"), ("binary_sensor/power_led/state", "ON")]
    device.command("button/reset/command", "PRESS", 1)
    device.advance(2)
    assert pc.resets == 1
    device.command("button/power_button/command", "press", 3)
    assert device.ignored == ["press"]
    device.command("button/force_off/command", "PRESS", 4)
    device.advance(10)
    assert not pc.powered
    assert device.advance(10) == []
    assert pc.presses[-1] == (4, pytest.approx(5), Button.POWER)


# -- on a broker -------------------------------------------------------------------------------------


@pytest.fixture
async def broker(tmp_path: Path, eventually) -> AsyncIterator[MqttSettings]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    process = await asyncio.create_subprocess_exec(
        shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config),
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    await eventually(listening)
    yield MqttSettings(url=f"mqtt://127.0.0.1:{port}")
    process.terminate()
    await process.wait()


@pytest.fixture
async def watcher(broker) -> AsyncIterator[tuple[Bus, dict[str, str]]]:
    seen: dict[str, str] = {}
    bus = Bus(broker, "watcher")
    bus.subscribe("#", lambda message: seen.__setitem__(message.topic, message.payload.decode()))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bus.run())
        await bus.wait_connected()
        yield bus, seen
        task.cancel()


async def test_tasmota_on_a_broker(broker, watcher, eventually):
    bus, seen = watcher
    async with TasmotaDevice(broker, "relay1") as device:
        await eventually(lambda: seen.get("tele/relay1/LWT") == "Online")
        await bus.publish("cmnd/relay1/PulseTime1", b"2")
        await bus.publish("cmnd/relay1/POWER", b"ON")
        await eventually(lambda: seen.get("stat/relay1/POWER") == "ON")
        await eventually(lambda: seen.get("stat/relay1/POWER") == "OFF")
        await eventually(lambda: device.pc.os is OsState.RUNNING)
        await eventually(lambda: '"Switch1":"ON"' in seen.get("tele/relay1/SENSOR", ""))
        assert [press.duration for press in device.pc.presses] == [pytest.approx(0.2, abs=0.001)]
        device.lose_replies = 1
        seen.clear()
        await bus.publish("cmnd/relay1/STATE", b"")
        await bus.publish("cmnd/relay1/STATUS", b"10")
        await eventually(lambda: "stat/relay1/STATUS10" in seen)
        assert "stat/relay1/RESULT" not in seen
        await device.restart()
        await eventually(lambda: seen.get("tele/relay1/LWT") == "Online")
    await eventually(lambda: seen.get("tele/relay1/LWT") == "Offline")


async def test_esphome_on_a_broker(broker, watcher, eventually):
    bus, seen = watcher
    async with EsphomeDevice(broker, "board1", buttons=(EspButton("power_button", seconds=0.1),)) as device:
        await eventually(lambda: seen.get("board1/status") == "online")
        await eventually(lambda: seen.get("board1/binary_sensor/power_led/state") == "OFF")
        await bus.publish("board1/button/power_button/command", b"PRESS")
        await eventually(lambda: seen.get("board1/binary_sensor/power_led/state") == "ON")
        await eventually(lambda: len(device.pc.presses) == 1)
    await eventually(lambda: seen.get("board1/status") == "offline")
