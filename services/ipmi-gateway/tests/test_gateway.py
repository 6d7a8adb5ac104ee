"""The gateway as it is embedded: listeners of nodes' own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ipmi_gateway.bmc import Bmc
from ipmi_gateway.controller.facts import LanFacts
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.gateway import Gateway
from ipmi_gateway.sessions.users import User
from rmcp_client import RmcpClient, UdpTransport

HOST = "127.0.0.1"
LAN = LanFacts(address="192.0.2.7", port=623)


class Machine:
    """A machine that is on."""

    def get_power_state(self) -> str:
        return "on"


@asynccontextmanager
async def running(gateway: Gateway) -> AsyncIterator[None]:
    task = asyncio.create_task(gateway.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def shown(port: int, *parameters: int) -> list[bytes]:
    """LAN configuration parameters, as a client at this port is told them."""
    client = RmcpClient(UdpTransport(HOST, port)).login("admin", "secret")
    try:
        client.set_privilege(3)
        return [client.request(0x0C, 0x02, bytes((0x0E, number, 0, 0))).data[1:] for number in parameters]
    finally:
        client.close()


async def test_a_port_of_its_own_is_told_where_it_is() -> None:
    gateway = Gateway([User("admin", b"secret")], fleet=Fleet(lan=LAN))
    bmc = gateway.add_target(1, Machine())
    main = gateway.listen(HOST, 0)
    own = gateway.listen_for(bmc, HOST, 0)
    mapped = gateway.listen_for(gateway.add_target(2, Machine()), HOST, 0, public_port=6002)
    anywhere = gateway.listen_for(gateway.add_target(3, Machine()), "0.0.0.0", 0)
    assert mapped.bmc.lan.port == 6002
    assert (anywhere.bmc.lan.address, anywhere.bmc.lan.port) == ("192.0.2.7", anywhere.public_port)
    async with running(gateway):
        told = await asyncio.to_thread(shown, own.public_port, 3, 8)
        assert told == [bytes((127, 0, 0, 1)), own.public_port.to_bytes(2, "little")]
        assert await asyncio.to_thread(shown, main, 3, 8) == [bytes((192, 0, 2, 7)), (623).to_bytes(2, "little")]


async def test_a_login_failure_is_logged_where_it_was_tried() -> None:
    gateway = Gateway([User("admin", b"secret")])
    bmc = gateway.add_target(1, Machine())
    main, own = gateway.listen(HOST, 0), gateway.listen_for(bmc, HOST, 0)

    def fail(port: int) -> None:
        client = RmcpClient(UdpTransport(HOST, port))
        assert client.bad_login("admin") == 0x0F
        client.close()

    def entries(at: Bmc) -> int:
        return len(at.controller.sel)

    async with running(gateway):
        await asyncio.to_thread(fail, own.public_port)
        assert (entries(gateway.bmc), entries(bmc)) == (0, 1)
        await asyncio.to_thread(fail, main)
        assert (entries(gateway.bmc), entries(bmc)) == (1, 1)
        gateway.stop_listening_for(own)
