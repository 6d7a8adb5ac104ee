"""Wake-on-LAN in the agents: alone, and together with a relay; the state comes from a TCP port of the machine."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import esp8266_agent.__main__
import pytest
from alike import TIMINGS, Bench, BoardRig, Rig, bench, broker, now, until
from pypmi.contract import ServiceKind
from pypmi_simulator import PC
from pypmi_simulator.pc import magic_packet_mac

__all__ = ["broker"]  # a fixture

MAC = "02:00:00:00:00:17"


class NetworkCard(asyncio.DatagramProtocol):
    """What of a machine listens while it is off, and the TCP port that answers when it is on.

    Off is silence, not a refusal: the port's queue of connections is kept full, so that further ones are dropped.
    """

    def __init__(self, pc: PC) -> None:
        self.pc = pc

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.udp, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self.wake_port: int = self.udp.get_extra_info("sockname")[1]
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(0)
        self.listener.setblocking(False)
        self.tcp_port: int = self.listener.getsockname()[1]
        self.fillers: list[socket.socket] = []
        self._close()
        self.time = asyncio.create_task(self._let_time_pass())

    async def stop(self) -> None:
        self.time.cancel()
        await asyncio.gather(self.time, return_exceptions=True)
        asyncio.get_running_loop().remove_reader(self.listener)
        for sock in (*self.fillers, self.listener):
            sock.close()
        self.udp.close()

    def datagram_received(self, data: bytes, _addr: object) -> None:
        if magic_packet_mac(data) == self.pc.mac:
            self.pc.wake(now())

    async def _let_time_pass(self) -> None:
        answers = False
        while True:
            self.pc.advance(now())
            if self.pc.powered is not answers:
                answers = self.pc.powered
                (self._open if answers else self._close)()
            await asyncio.sleep(0.01)

    def _open(self) -> None:
        asyncio.get_running_loop().add_reader(self.listener, self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()[0].close()

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.listener)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.tcp_port))
            self.fillers.append(filler)

    def node(self) -> dict[str, Any]:
        """The node's parts of fleet.yaml."""
        return {
            "wake": {"mac": MAC, "broadcast": "127.0.0.1", "port": self.wake_port},
            "probe": {"host": "127.0.0.1", "tcp_port": self.tcp_port, "interval": 0.3, "timeout": 0.3, "failures": 2},
        }


class WakeOnlyRig(Rig):
    """A machine that nothing is wired to."""

    kind = ServiceKind.ESP8266_AGENT
    make = staticmethod(esp8266_agent.__main__.make_driver)

    def hardware(self) -> dict[str, Any]:
        return {"type": "wol"}


class RelayRig(BoardRig):
    """A machine with a relay on its power button, and no LED."""

    def hardware(self) -> dict[str, Any]:
        return {**super().hardware(), "status": None}


@pytest.fixture(params=[WakeOnlyRig, RelayRig])
async def node(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> AsyncIterator[Bench]:
    pc = PC(timings=TIMINGS, mac=MAC)
    card = NetworkCard(pc)
    await card.start()
    try:
        async with bench(request.param(pc), broker, tmp_path, **card.node()) as running:
            yield running
    finally:
        await card.stop()


async def test_woken_and_confirmed_by_the_probe(node: Bench) -> None:
    assert {"on", "status"} <= set(node.retained("info")["capabilities"])
    result = await node.ask("on")
    assert (result["status"], result["power"], result["error"]) == ("completed", "on", None)
    assert node.pc.powered
    assert node.pc.presses == []
    await until(lambda: node.state["action"] is None)
    assert (node.state["power"], node.state["cause"]) == ("on", "command")


async def test_switched_off_by_the_relay_where_there_is_one(node: Bench) -> None:
    await node.ask("on")
    await until(lambda: node.state["action"] is None and node.pc.os == "running")
    result = await node.ask("off")
    if isinstance(node.rig, WakeOnlyRig):
        assert (result["status"], result["error"]["code"]) == ("rejected", "unsupported")
        assert node.pc.powered
    else:
        assert (result["status"], result["power"]) == ("completed", "off")
        assert len(node.pc.presses) == 1
        assert not node.pc.powered


async def test_a_machine_that_is_not_woken_is_not_confirmed(node: Bench) -> None:
    node.pc.psu_ok = False
    result = await node.ask("on")
    assert (result["status"], result["power"], result["error"]["code"]) == ("failed", "off", "not_confirmed")


async def test_somebody_else_switches_it_on(node: Bench) -> None:
    node.pc.turn_on(now())
    await until(lambda: node.state["power"] == "on")
    assert node.state["cause"] == "external"
