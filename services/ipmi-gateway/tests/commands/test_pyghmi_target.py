"""Objects with the methods of pyghmi's `Bmc`, among them pyghmi's own fakebmc, as targets."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Code
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.targets import pyghmi_target
from ipmi_gateway.targets.base import RefreshingTarget, ResettableTarget, Target
from ipmi_gateway.targets.pyghmi_target import PyghmiTarget
from pyghmi.cmd.fakebmc import FakeBmc
from pypmi.contract import Capability

CHASSIS = 0x00


class Machine:
    """What people wrote for pypmi in 2019."""

    def __init__(self) -> None:
        self.power = "off"
        self.device = "default"
        self.calls: list[str] = []
        self.code: int | None = None

    def get_power_state(self) -> str:
        return self.power

    def power_on(self) -> int | None:
        self.calls.append("on")
        self.power = "on"
        return self.code

    def power_off(self) -> int | None:
        self.calls.append("off")
        self.power = "off"
        return self.code

    def get_boot_device(self) -> str:
        return self.device

    def set_boot_device(self, bootdevice: str) -> None:
        self.device = bootdevice

    def power_reset(self) -> None:
        raise NotImplementedError


@pytest.fixture
def serve(console: Any, fleet: Fleet) -> Callable[[object], Any]:
    def begin(machine: object) -> Any:
        console.bmc = Bmc.create(fleet, "old", PyghmiTarget("old", machine))
        return console

    return begin


def test_it_is_a_target() -> None:
    target = PyghmiTarget("old", Machine())
    assert isinstance(target, Target)
    assert isinstance(target, RefreshingTarget)
    assert isinstance(target, ResettableTarget)
    assert target.sensor("x") is None


async def test_power(serve: Any) -> None:
    machine = Machine()
    console = serve(machine)
    assert (await console.ok(CHASSIS, 0x01))[0] & 1 == 0
    await console.ok(CHASSIS, 0x02, 1)
    assert await console.ok(CHASSIS, 0x01) == bytes((0x01, 0x10, 0x40, 0))
    machine.power = "off"
    assert (await console.ok(CHASSIS, 0x01))[0] & 1 == 0
    assert (await console.ok(0x04, 0x2D, 1))[2] == 0x40
    assert machine.calls == ["on"]


@pytest.mark.parametrize(
    ("value", "code", "bit"), [("ON", 0, 1), (1, 0, 1), (True, 0, 1), (0, 0, 0), ("what", 0xD5, 0)]
)
async def test_the_ways_to_say_a_power_state(serve: Any, value: Any, code: int, bit: int) -> None:
    machine = Machine()
    machine.power = value
    found, answer = await serve(machine).ask(CHASSIS, 0x01)
    assert found == code
    assert not answer or answer[0] & 1 == bit


@pytest.mark.parametrize("number", [2, 3, 4, 5])
async def test_what_is_missing_is_not_supported(serve: Any, number: int) -> None:
    assert await serve(Machine()).code(CHASSIS, 0x02, number) == Code.INVALID_FIELD


async def test_an_empty_object(serve: Any) -> None:
    console = serve(object())
    assert await console.code(CHASSIS, 0x01) == Code.NOT_IN_PRESENT_STATE
    assert await console.code(CHASSIS, 0x02, 1) == Code.INVALID_FIELD
    assert await console.code(CHASSIS, 0x08, 5, 0x80, 4, 0, 0, 0) == Code.INVALID_COMMAND
    assert await console.ok(CHASSIS, 0x04, 5) == b""
    assert await console.ok(CHASSIS, 0x09, 5, 0, 0) == bytes((1, 5, 0, 0, 0, 0, 0))
    assert await console.ok(0x06, 0x02) == b""
    assert (await console.ok(0x04, 0x2D, 1))[1] & 0x20


@pytest.mark.parametrize(
    ("returned", "code"), [(None, 0), (0, 0), (0xC0, 0xC0), (0xD5, 0xD5), (0xD3, 0xD3), (0xC3, 0xC3), (0x99, 0xFF)]
)
async def test_completion_codes_that_methods_return(serve: Any, returned: int | None, code: int) -> None:
    machine = Machine()
    machine.code = returned
    assert await serve(machine).code(CHASSIS, 0x02, 1) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError("slow"), Code.TIMEOUT),
        (ConnectionError("gone"), Code.DESTINATION_UNAVAILABLE),
        (ValueError("odd"), Code.UNSPECIFIED),
        (SystemExit(1), Code.UNSPECIFIED),
    ],
)
async def test_exceptions_become_codes(serve: Any, error: BaseException, code: int) -> None:
    class Broken(Machine):
        def power_on(self) -> None:
            raise error

        def get_power_state(self) -> str:
            raise error

    console = serve(Broken())
    assert await console.code(CHASSIS, 0x02, 1) == code
    assert await console.code(CHASSIS, 0x01) == code


async def test_a_press_that_takes_long_is_answered_when_it_is_under_way(serve: Any) -> None:
    go_on = threading.Event()

    class Slow(Machine):
        def power_on(self) -> None:
            go_on.wait(60)
            super().power_on()

    machine = Slow()
    console = serve(machine)
    begun = time.monotonic()
    await console.ok(CHASSIS, 0x02, 1)
    assert time.monotonic() - begun < 30
    assert machine.calls == []
    await console.ok(CHASSIS, 0x02, 1)  # the same wish again
    assert await console.code(CHASSIS, 0x02, 0) == Code.NODE_BUSY
    go_on.set()
    async with asyncio.timeout(30):
        while machine.calls != ["on"]:
            await asyncio.sleep(0.01)
        while await console.code(CHASSIS, 0x02, 0) == Code.NODE_BUSY:
            await asyncio.sleep(0.01)
    assert machine.calls == ["on", "off"]


async def test_a_reading_that_hangs_ends_in_a_time_out(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyghmi_target, "READ_WITHIN", 0.2)
    go_on, calls = threading.Event(), []

    class Hanging(Machine):
        def get_power_state(self) -> str:
            calls.append(1)
            go_on.wait(60)
            return "on"

    console = serve(Hanging())
    codes = await asyncio.gather(*(console.code(CHASSIS, 0x01) for _ in range(20)))
    assert set(codes) == {Code.TIMEOUT}
    assert len(calls) == 1  # threads do not pile up behind an object that hangs
    go_on.set()
    async with asyncio.timeout(30):
        while await console.code(CHASSIS, 0x01):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("selector", "name"),
    [(0x04, "network"), (0x08, "hd"), (0x0C, "safe"), (0x14, "optical"), (0x18, "setup"), (0x3C, "floppy")],
)
async def test_boot_devices(serve: Any, selector: int, name: str) -> None:
    machine = Machine()
    console = serve(machine)
    await console.ok(CHASSIS, 0x08, 5, 0xE0, selector, 0, 0, 0)
    assert machine.device == name
    assert await console.ok(CHASSIS, 0x09, 5, 0, 0) == bytes((1, 5, 0xE0, selector, 0, 0, 0))
    machine.device = "default"  # it has booted
    assert await console.ok(CHASSIS, 0x09, 5, 0, 0) == bytes((1, 5, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("value", [4, "net", {"bootdev": "network", "persistent": False}])
async def test_the_ways_to_say_a_boot_device(serve: Any, value: Any) -> None:
    machine = Machine()
    machine.device = value
    assert (await serve(machine).ok(CHASSIS, 0x09, 5, 0, 0))[2:4] == bytes((0x80, 0x04))


async def test_a_device_without_a_name(serve: Any) -> None:
    assert await serve(Machine()).code(CHASSIS, 0x08, 5, 0x80, 0x10, 0, 0, 0) == Code.INVALID_COMMAND


async def test_identify_as_pyghmis_client_has_it(serve: Any) -> None:
    class Lit(Machine):
        def set_identify(self, on: bool = True, duration: int | None = None) -> None:
            self.calls.append(f"{on} {duration}")

    machine = Lit()
    console = serve(machine)
    for data in ((7,), (0,), (0, 1)):
        await console.ok(CHASSIS, 0x04, *data)
    assert machine.calls == ["True 7", "False 0", "True None"]


async def test_pyghmis_own_fakebmc(serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeBmc.__new__(FakeBmc)  # its constructor opens pyghmi's server, which is what we stand in for
    fake.powerstate, fake.bootdevice = "off", "default"
    console = serve(fake)
    assert console.bmc.target.info.capabilities == {
        Capability.ON, Capability.OFF, Capability.RESET, Capability.SOFT, Capability.STATUS, Capability.BOOT
    }  # fmt: skip
    await console.ok(CHASSIS, 0x02, 1)
    assert (await console.ok(CHASSIS, 0x01))[0] & 1
    await console.ok(CHASSIS, 0x08, 5, 0x80, 4, 0, 0, 0)
    assert fake.bootdevice == "network"
    assert await console.code(CHASSIS, 0x02, 2) == Code.INVALID_FIELD
    # Its cold reset ends the process; here it only fails.
    assert await console.code(0x06, 0x02) == Code.UNSPECIFIED
    assert "pyghmi" in sys.modules
