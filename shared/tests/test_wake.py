"""Wake-on-LAN over real UDP sockets on loopback, and the driver for machines that can only be woken."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from pypmi.config.hardware import WakeSettings
from pypmi.power.hardware import Button, HardwareUnreachableError, HardwareUnsupportedError
from pypmi.wake import REPEATS, WakeOnLan
from pypmi.wol_hardware import WakeOnlyHardware

MAC = "00:11:22:aa:bb:cc"
MAGIC = b"\xff" * 6 + bytes.fromhex("001122aabbcc") * 16


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


async def receive(sock: socket.socket) -> tuple[bytes, str]:
    packet, (address, _) = await asyncio.to_thread(sock.recvfrom, 2048)
    return packet, address


@pytest.mark.parametrize("interface", [None, "127.0.0.1"])
@pytest.mark.parametrize("mac", [MAC, "00-11-22-AA-BB-CC"])
async def test_sends_magic_packets(listener: socket.socket, interface: str | None, mac: str) -> None:
    port = listener.getsockname()[1]
    await WakeOnLan(WakeSettings(mac=mac, port=port, broadcast="127.0.0.1", interface=interface)).power_on()
    assert [await receive(listener) for _ in range(REPEATS)] == [(MAGIC, "127.0.0.1")] * REPEATS


async def test_loopback_broadcast_address(listener: socket.socket) -> None:
    """A broadcast address takes SO_BROADCAST, else sending is refused."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.255.255.255", 0))
        sock.settimeout(5)
        wake = WakeSettings(mac=MAC, port=sock.getsockname()[1], broadcast="127.255.255.255")
        await WakeOnLan(wake).power_on()
        assert (await receive(sock))[0] == MAGIC


async def test_foreign_interface_is_said_and_nothing_was_sent() -> None:
    wake = WakeSettings(mac=MAC, broadcast="127.0.0.1", interface="192.0.2.1")
    with pytest.raises(HardwareUnreachableError, match=r"magic packet can't be sent to 127\.0\.0\.1:9") as caught:
        await WakeOnLan(wake).power_on()
    assert not caught.value.acted


async def test_slow_name_look_up_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*macs: str, **_: object) -> None:
        done.wait(10)

    done = threading.Event()
    monkeypatch.setattr("pypmi.wake.wakeonlan.wake", slow)
    monkeypatch.setattr("pypmi.wake.SEND_TIMEOUT", 0.05)
    try:
        with pytest.raises(HardwareUnreachableError) as caught:
            await WakeOnLan(WakeSettings(mac=MAC)).power_on()
        assert caught.value.acted
    finally:
        done.set()


async def test_wake_only_hardware_is_there_and_has_nothing() -> None:
    class Listener:
        def __init__(self) -> None:
            self.reachable = asyncio.Event()

        def on_reachable(self, reachable: bool, reason: str = "") -> None:
            assert reachable
            self.reachable.set()

    hardware, listener = WakeOnlyHardware(), Listener()
    task = asyncio.create_task(hardware.run(listener))  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await listener.reachable.wait()
    assert await hardware.read_status() is None
    assert not hardware.buttons
    assert not hardware.has_status
    with pytest.raises(HardwareUnsupportedError):
        await hardware.press(Button.POWER, 0.1, asyncio.Event())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
