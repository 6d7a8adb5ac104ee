"""The drivers for boards that speak MQTT themselves, on simulated devices and a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from esp8266_agent.esphome import EsphomeBoard
from esp8266_agent.mqttboard import MqttBoard
from esp8266_agent.tasmota import TasmotaBoard, pulse_setting
from pypmi.config.hardware import EsphomeHardware, TasmotaHardware
from pypmi.power.hardware import Button, HardwareUnreachableError, HardwareUnsafeError, HardwareUnsupportedError
from pypmi_simulator.esphome import EspButton
from pypmi_simulator.mqttdevices import EsphomeDevice, TasmotaDevice


@asynccontextmanager
async def running(board: MqttBoard, listener) -> AsyncIterator[None]:
    task = asyncio.create_task(board.run(listener))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def tasmota(bus, **changes) -> TasmotaBoard:
    values = {"type": "tasmota", "topic": "relay1", "status_switch": 1}
    return TasmotaBoard(TasmotaHardware.model_validate(values | changes), bus)


def esphome(bus, **changes) -> EsphomeBoard:
    values = {"type": "esphome-mqtt", "prefix": "pc1", "status_sensor": "power_led"}
    return EsphomeBoard(EsphomeHardware.model_validate(values | changes), bus)


@pytest.mark.parametrize(
    ("seconds", "setting"), [(0.01, 1), (0.1, 1), (0.3, 3), (0.35, 4), (1.0, 10), (11.1, 111), (11.2, 112), (30, 130)]
)
def test_pulse_setting(seconds: float, setting: int) -> None:
    assert pulse_setting(seconds) == setting


# -- Tasmota -----------------------------------------------------------------------------------------------------------


async def test_tasmota_says_what_it_is(bus, broker, listener, wait_until) -> None:
    async with TasmotaDevice(broker, "relay1") as device, running(tasmota(bus), listener):
        await wait_until(lambda: listener.online, "online")
        await wait_until(lambda: listener.status[-1:] == [False], "off")
        await wait_until(lambda: listener.sensors.get("signal") == -62, "signal")
        device.pc.turn_on(device.now)
        device.touch()
        await wait_until(lambda: listener.status[-1] is True, "on")
        assert device.pc.presses == []


@pytest.mark.parametrize("full_topic", ["%prefix%/%topic%/", "home/%topic%/%prefix%"])
async def test_tasmota_press(bus, broker, listener, wait_until, full_topic: str) -> None:
    board = tasmota(bus, full_topic=full_topic)
    async with TasmotaDevice(broker, "relay1", full_topic=full_topic) as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        await board.press(Button.POWER, 0.4, asyncio.Event())
        assert [round(press.duration, 1) for press in device.pc.presses] == [0.4]
        await wait_until(lambda: listener.status[-1] is True, "on")
        assert await board.read_status() is True


async def test_tasmota_reset_relay_early_release_and_other_lengths(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus, reset_relay=2)
    async with TasmotaDevice(broker, "relay1", reset_relay=True) as device, running(board, listener):
        device.pc.powered = True
        await wait_until(lambda: listener.online, "online")
        await board.press(Button.RESET, 0.3, asyncio.Event())
        assert device.pc.resets == 1
        release = asyncio.Event()
        press = asyncio.create_task(board.press(Button.POWER, 10, release))
        await wait_until(lambda: device.logic.relays[0].closed, "pressed")
        assert device.logic.pulse[0] == 100
        await asyncio.sleep(0.3)
        release.set()
        await press
        assert not device.logic.relays[0].closed
        assert len(device.pc.presses) == 2


async def test_tasmota_pulse_is_set_only_when_it_differs(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus)
    async with TasmotaDevice(broker, "relay1"), running(board, listener):
        await wait_until(lambda: listener.online, "online")
        seen: list[bytes] = []
        bus.subscribe("cmnd/relay1/PulseTime1", lambda message: seen.append(message.payload))
        await asyncio.sleep(0.2)
        await board.press(Button.POWER, 0.2, asyncio.Event())
        await board.press(Button.POWER, 0.2, asyncio.Event())
        assert [payload for payload in seen if payload] == [b"2"]


async def test_tasmota_cancelled_press_is_let_go(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus)
    async with TasmotaDevice(broker, "relay1") as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        press = asyncio.create_task(board.press(Button.POWER, 10, asyncio.Event()))
        await wait_until(lambda: device.logic.relays[0].closed, "pressed")
        press.cancel()
        await asyncio.gather(press, return_exceptions=True)
        await wait_until(lambda: not device.logic.relays[0].closed, "let go", 2)


async def test_tasmota_lost_answer_is_not_pressed_again(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus, status_switch=None)
    async with TasmotaDevice(broker, "relay1", switch=None) as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        await board.press(Button.POWER, 0.3, asyncio.Event())
        answers = iter([0, 0, 1])  # state of the relay, pulse time, then the press itself
        command = device._command

        def lossy(topic, payload, now):
            device.lose_replies = next(answers, 0)
            return command(topic, payload, now)

        device._command = lossy
        with pytest.raises(HardwareUnreachableError) as caught:
            await board.press(Button.POWER, 0.3, asyncio.Event())
        assert caught.value.acted
        await asyncio.sleep(0.5)
        assert len(device.pc.presses) == 2
        assert not device.logic.relays[0].closed


async def test_tasmota_lost_question_has_not_acted(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus, status_switch=None)
    async with TasmotaDevice(broker, "relay1", switch=None) as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        device.lose_commands = 1
        with pytest.raises(HardwareUnreachableError) as caught:
            await board.press(Button.POWER, 0.3, asyncio.Event())
        assert not caught.value.acted
        assert device.pc.presses == []


async def test_tasmota_closed_relay_is_left_alone(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus)
    async with TasmotaDevice(broker, "relay1") as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        device.logic.relays[0].close(device.now)
        with pytest.raises(HardwareUnsafeError, match="closed already"):
            await board.press(Button.POWER, 0.3, asyncio.Event())


async def test_tasmota_that_goes_and_comes_back(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus)
    async with TasmotaDevice(broker, "relay1") as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        await device.disconnect()
        await wait_until(lambda: "lost the board" in listener.offline_because, "offline")
        with pytest.raises(HardwareUnreachableError) as caught:
            await board.press(Button.POWER, 0.3, asyncio.Event())
        assert not caught.value.acted
        await device.connect()
        await wait_until(lambda: listener.online, "online again")
        assert device.pc.presses == []


async def test_tasmota_that_never_was(bus, listener, wait_until) -> None:
    async with running(tasmota(bus), listener):
        await wait_until(lambda: "nothing was ever heard" in listener.offline_because, "offline")


async def test_tasmota_that_does_not_answer(bus, broker, listener, wait_until) -> None:
    board = tasmota(bus)
    board.poll_interval = 0.1
    async with TasmotaDevice(broker, "relay1") as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        device.lose_commands = 1000
        await wait_until(lambda: "does not answer" in listener.offline_because, "offline")
        device.lose_commands = 0
        await wait_until(lambda: listener.online, "online again")


# -- ESPHome -----------------------------------------------------------------------------------------------------------

BUTTONS = (
    EspButton("power_button", seconds=0.3),
    EspButton("force_off", seconds=5.0),
    EspButton("reset", Button.RESET, seconds=0.3),
)


async def test_esphome_presses_the_button_that_fits(bus, broker, listener, wait_until) -> None:
    board = esphome(bus, force_off_button="force_off", reset_button="reset")
    async with EsphomeDevice(broker, "pc1", buttons=BUTTONS) as device, running(board, listener):
        await wait_until(lambda: listener.online and listener.status[-1:] == [False], "online")
        await board.press(Button.POWER, 0.5, asyncio.Event())
        await wait_until(lambda: listener.status[-1] is True, "on")
        assert await board.read_status() is True
        await board.press(Button.RESET, 0.5, asyncio.Event())
        assert device.pc.resets == 1
        release = asyncio.Event()
        press = asyncio.create_task(board.press(Button.POWER, 10, release))
        await wait_until(lambda: listener.status[-1] is False, "off")
        release.set()
        await press
        await wait_until(lambda: len(device.pc.presses) == 3, "let go by the board")


async def test_esphome_without_a_long_button_refuses_a_long_press(bus, broker, listener, wait_until) -> None:
    board = esphome(bus)
    async with EsphomeDevice(broker, "pc1", buttons=BUTTONS) as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        with pytest.raises(HardwareUnsupportedError, match="force_off_button"):
            await board.press(Button.POWER, 10, asyncio.Event())
        with pytest.raises(HardwareUnsupportedError):
            await board.press(Button.RESET, 1, asyncio.Event())
        assert device.pc.presses == []


async def test_esphome_wrong_button_name_is_not_a_press(bus, broker, listener, wait_until) -> None:
    board = esphome(bus, power_button="no_such")
    async with EsphomeDevice(broker, "pc1", buttons=BUTTONS), running(board, listener):
        await wait_until(lambda: listener.online, "online")
        with pytest.raises(HardwareUnreachableError, match="no board listens") as caught:
            await board.press(Button.POWER, 1, asyncio.Event())
        assert not caught.value.acted


async def test_esphome_that_goes_and_comes_back(bus, broker, listener, wait_until) -> None:
    board = esphome(bus)
    async with EsphomeDevice(broker, "pc1", buttons=BUTTONS) as device, running(board, listener):
        await wait_until(lambda: listener.online, "online")
        await device.disconnect()
        await wait_until(lambda: "lost the board" in listener.offline_because, "offline")
        assert listener.status[-1] is None
        with pytest.raises(HardwareUnreachableError):
            await board.press(Button.POWER, 1, asyncio.Event())
        await device.connect()
        await wait_until(lambda: listener.online and listener.status[-1] is False, "online again")
        assert device.pc.presses == []
