"""The BMC driver against real servers: OpenIPMI's ipmi_sim and pyghmi's own."""

import asyncio
import multiprocessing
import time
from pathlib import Path

import pytest
from bmc_agent import driver as driver_module
from bmc_agent.driver import BmcDriver
from bmc_agent.process import worker_context
from bmc_rigs import FakeBmc, IpmiSim, LossyRelay, free_port, make_driver, running, until
from pypmi.config.hardware import BmcHardware
from pypmi.config.secrets import SecretSource
from pypmi.contract import BootDevice, EventType, PowerAction, SensorKind
from pypmi.power.hardware import HardwareError, HardwareUnreachableError


async def test_reads_power_sensors_inventory_and_firmware(ipmi_sim: IpmiSim) -> None:
    driver = make_driver(ipmi_sim.port)
    async with running(driver) as seen:
        assert seen.reachable == [(True, "")]
        assert seen.status[0] is False
        assert seen.firmware[0] == "BMC 9.08 (manufacturer 4753, product 3842)"
        await until(lambda: "ambient_temp" in seen.sensors)
        assert seen.sensors["ambient_temp"] == 48.0
        (sensor,) = driver.sensors
        assert (sensor.key, sensor.name, sensor.kind, sensor.unit) == (
            "ambient_temp",
            "Ambient Temp",
            SensorKind.TEMPERATURE,
            "°C",
        )
        limits = sensor.thresholds
        assert (limits.upper_non_critical, limits.upper_critical, limits.upper_non_recoverable) == (72.0, 80.0, 88.0)
        assert limits.lower_critical is None
        assert len(seen.firmware) == 2  # again when the sensors were known
        fru = driver.fru
        assert (fru.manufacturer, fru.product, fru.part_number) == ("Acme", "Anvil 9000", "AN-9000")
        assert (fru.version, fru.serial, fru.asset_tag) == ("2", "SN123456", "A-42")


async def test_power_is_told_and_read(ipmi_sim: IpmiSim) -> None:
    driver = make_driver(ipmi_sim.port)
    async with running(driver) as seen:
        await driver.power(PowerAction.ON)
        assert await driver.read_status() is True
        await until(lambda: seen.status[-1] is True)
        await driver.power(PowerAction.RESET)
        await driver.power(PowerAction.OFF)
        assert await driver.read_status() is False
        await until(lambda: seen.status[-1] is False)
    assert ipmi_sim.actions == ["power 1", "reset 1", "power 0"]


async def test_external_change_shows_at_the_poll(ipmi_sim: IpmiSim) -> None:
    async with running(make_driver(ipmi_sim.port)) as seen:
        await ipmi_sim.ipmitool("power", "on")
        await until(lambda: seen.status[-1] is True)


@pytest.mark.parametrize(
    ("device", "word"),
    [(BootDevice.PXE, "pxe"), (BootDevice.DISK, "default"), (BootDevice.CDROM, "cdrom"), (BootDevice.BIOS, "bios")],
)
async def test_boot_device(ipmi_sim: IpmiSim, device: BootDevice, word: str) -> None:
    driver = make_driver(ipmi_sim.port)
    async with running(driver):
        await driver.set_boot(device, persistent=True, efi=True)
    assert ipmi_sim.actions == [f"boot {word}"]


async def test_identify(ipmi_sim: IpmiSim) -> None:
    driver = make_driver(ipmi_sim.port)
    async with running(driver):
        await driver.identify(10)
        await driver.identify(None)
        await driver.identify(0)
    assert ipmi_sim.actions == ["identify 10 0", "identify 0 1", "identify 0 0"]


async def test_light_that_is_longer_than_a_bmc_can_time(ipmi_sim: IpmiSim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "LONGEST_IDENTIFY", 0)
    driver = make_driver(ipmi_sim.port)
    async with running(driver):
        await driver.identify(1)
        await until(lambda: len(ipmi_sim.actions) == 2)
    assert ipmi_sim.actions == ["identify 0 1", "identify 0 0"]


def sel_entry(reading: int) -> tuple[str, ...]:
    """Add SEL Entry: temperature sensor 1 crosses its upper critical threshold (IPMI 2.0 section 31.6)."""
    record = [0, 0, 2, 0, 0, 0, 0, 0x20, 0, 4, 1, 1, 1, 0x59, reading, 0x48]
    return ("raw", "0x0a", "0x44", *(f"{octet:#04x}" for octet in record))


async def test_only_new_log_entries_become_events(ipmi_sim: IpmiSim) -> None:
    await ipmi_sim.ipmitool(*sel_entry(0x52))
    async with running(make_driver(ipmi_sim.port)) as seen:
        await until(lambda: "ambient_temp" in seen.sensors)
        await asyncio.sleep(1)  # the first look at the log follows the first readings
        assert seen.events == []
        await ipmi_sim.ipmitool(*sel_entry(0x53))
        await ipmi_sim.ipmitool(*sel_entry(0x54))
        await until(lambda: len(seen.events) >= 2)
        assert [event.data["value"] for event in seen.events] == [0x53, 0x54]
        event = seen.events[0]
        assert (event.type, event.cause, event.epoch) == (EventType.SEL, "hardware", "epoch1")
        assert event.message == "Ambient Temp: Upper critical"
        assert event.data["severity"] == "critical"
        assert event.data["sensor"] == "Ambient Temp"
        assert event.data["asserted"] is True
        await ipmi_sim.ipmitool("sel", "clear")
        await until(lambda: len(seen.events) >= 3)
        assert "cleared" in seen.events[2].message
        await ipmi_sim.ipmitool(*sel_entry(0x55))
        await until(lambda: len(seen.events) >= 4)
        assert seen.events[3].data["value"] == 0x55


async def test_server_that_takes_suite_3_only(fakebmc: FakeBmc) -> None:
    """pyghmi's own server, and so VirtualBMC, goes on with SHA-1 when asked for SHA-256."""
    driver = make_driver(fakebmc.port)
    async with running(driver) as seen:
        assert seen.reachable == [(True, "")]
        for action in (PowerAction.ON, PowerAction.RESET, PowerAction.CYCLE, PowerAction.DIAG, PowerAction.SOFT):
            await driver.power(action)
        assert await driver.read_status() is False
        await driver.set_boot(BootDevice.PXE, persistent=False, efi=False)
        with pytest.raises(HardwareError, match="Invalid command") as caught:
            await driver.identify(5)
        assert not isinstance(caught.value, HardwareUnreachableError)
        assert await driver.read_status() is False  # the session goes on after a refusal
    assert fakebmc.actions == ["on", "reset", "cycle", "diag", "soft", "boot network"]


@pytest.mark.parametrize(
    ("user", "password", "text"),
    [("admin", "wrong", "refuses the login of 'admin'"), ("nobody", "secret", "refuses the login of 'nobody'")],
)
async def test_wrong_credentials_are_said(ipmi_sim: IpmiSim, user: str, password: str, text: str) -> None:
    driver = make_driver(ipmi_sim.port, user, password)
    async with running(driver) as seen:
        ((reachable, reason),) = seen.reachable
        assert not reachable
        assert text in reason
        assert password not in reason
        assert seen.status == [None]
        with pytest.raises(HardwareUnreachableError, match=text) as caught:
            await driver.power(PowerAction.ON)
        assert not caught.value.acted
    assert ipmi_sim.actions == []


async def test_wrong_bmc_key_is_said(ipmi_sim: IpmiSim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYPMI_TEST_KG", "not the key")
    async with running(make_driver(ipmi_sim.port, kg={"env": "PYPMI_TEST_KG"})) as seen:
        assert "wrong Kg?" in seen.reachable[0][1]


async def test_missing_secret_is_said(tmp_path: Path) -> None:
    hardware = BmcHardware(type="bmc", host="127.0.0.1", user="admin", password=SecretSource(file=tmp_path / "none"))
    driver = BmcDriver(hardware, "pc1", "epoch1", worker_context())
    async with running(driver) as seen:
        assert "cannot read secret file" in seen.reachable[0][1]


async def test_dead_bmc_does_not_hold_up_others(ipmi_sim: IpmiSim) -> None:
    dead = [make_driver(free_port()) for _ in range(3)]
    tasks = [asyncio.create_task(running(driver).__aenter__()) for driver in dead]
    await asyncio.sleep(0.5)  # all of them are logging in now, which takes each some five seconds
    driver = make_driver(ipmi_sim.port)
    started = time.monotonic()
    async with running(driver) as seen:
        assert seen.reachable[0][0]
        await driver.power(PowerAction.ON)
        took = time.monotonic() - started
        assert not any(task.done() for task in tasks), f"the dead ones were given up before the living answered, {took}"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_lost_answer_of_a_reset_is_never_sent_again(ipmi_sim: IpmiSim, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    _, relay = await loop.create_datagram_endpoint(lambda: LossyRelay(ipmi_sim.port), local_addr=("127.0.0.1", 0))
    driver = make_driver(relay.port, poll_interval=600, sensor_interval=3600, sel_interval=3600)
    async with running(driver) as seen:
        await until(lambda: "ambient_temp" in seen.sensors)
        await driver.power(PowerAction.ON)
        relay.lose_answers = True
        with pytest.raises(HardwareUnreachableError) as caught:
            await driver.power(PowerAction.RESET)
        assert caught.value.acted
        assert relay.lost >= 1
        relay.lose_answers = False
        await asyncio.sleep(3)
    relay.close()
    assert ipmi_sim.actions == ["power 1", "reset 1"]


async def test_lost_session_is_noticed_and_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "RETRY_LAST", 1.0)
    server = IpmiSim(tmp_path)
    await server.start()
    driver = make_driver(server.port)
    try:
        async with running(driver) as seen:
            await server.stop()
            await until(lambda: not seen.reachable[-1][0])
            assert seen.status[-1] is None
            with pytest.raises(HardwareUnreachableError):
                await driver.read_status()
            await server.start()
            await until(lambda: seen.reachable[-1][0])
            await driver.power(PowerAction.ON)
    finally:
        await server.stop()


async def test_reading_that_is_cancelled_costs_nothing(ipmi_sim: IpmiSim) -> None:
    driver = make_driver(ipmi_sim.port)
    async with running(driver) as seen:
        for _ in range(30):
            reading = asyncio.create_task(driver.read_status())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
        await driver.power(PowerAction.ON)
        assert await driver.read_status() is True
        assert seen.reachable == [(True, "")]


async def test_action_that_is_cancelled_ends_the_session(ipmi_sim: IpmiSim) -> None:
    """Its worker may be about to send it; nobody may find the machine reset later."""
    driver = make_driver(ipmi_sim.port)
    async with running(driver) as seen:
        action = asyncio.create_task(driver.power(PowerAction.RESET))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        action.cancel()
        with pytest.raises(asyncio.CancelledError):
            await action
        await until(lambda: len(seen.reachable) >= 3 and seen.reachable[-1][0])
        assert not seen.reachable[1][0]
        assert ipmi_sim.actions in ([], ["reset 1"])
        await driver.power(PowerAction.ON)


async def test_stopping_logs_out_and_leaves_no_process(ipmi_sim: IpmiSim) -> None:
    for _ in range(12):  # ipmi_sim takes ten sessions of one user
        async with running(make_driver(ipmi_sim.port)) as seen:
            assert seen.reachable == [(True, "")]
    assert not [process for process in multiprocessing.active_children() if process.name.startswith("bmc ")]
