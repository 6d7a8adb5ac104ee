"""Several gateways on one port (`gateway.workers`): each client stays with one of them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest
from ipmi_gateway.commands.table import build_registry
from ipmi_gateway.gateway import Gateway
from ipmi_gateway.sessions.users import User
from rmcp_client import RmcpClient, UdpTransport
from test_gateway import HOST, Machine, running

CLIENTS = 24
WATCHDOG = 0x22, 0x24, 0x25


def polls(port: int) -> int:
    """Log in, ask for the machine's power twenty times, log out; returns how many answers were right."""
    client = RmcpClient(UdpTransport(HOST, port), timeout=5).login("admin", "secret")
    try:
        right = sum(client.bridge(0, 1, 0, 1)[-1].data[:1] == b"\x01" for _ in range(20))
        assert client.keys is not None
        client.request(6, 0x3C, client.keys.session_id.to_bytes(4, "little"))
        return right
    finally:
        client.close()


async def test_clients_are_shared_out_and_stay() -> None:
    first, second = Gateway([User("admin", b"secret")]), Gateway([User("admin", b"secret")])
    port = first.listen(HOST, 0, reuse_port=True)
    assert second.listen(HOST, port, reuse_port=True) == port
    for gateway in (first, second):
        gateway.listen_for(gateway.add_target(1, Machine()), HOST, 0, reuse_port=True)
    async with AsyncExitStack() as stack:
        for gateway in (first, second):
            await stack.enter_async_context(running(gateway))
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(CLIENTS) as threads:  # of their own: the machines' calls need the loop's
            answers = await asyncio.gather(*(loop.run_in_executor(threads, polls, port) for _ in range(CLIENTS)))
        assert answers == [20] * CLIENTS
        counts = [gateway.engine.packets_received for gateway in (first, second)]
        assert min(counts) > 20, "the kernel gives some clients to each"
        # no packet of a session came to the process that does not have it: each of a client's was answered
        sent = [gateway.engine.packets_sent for gateway in (first, second)]
        assert all(more >= received for more, received in zip(sent, counts, strict=True))


async def test_a_port_is_not_shared_by_accident() -> None:
    first, second = Gateway(), Gateway()
    port = first.listen(HOST, 0)
    with pytest.raises(OSError, match="in use"):
        second.listen(HOST, port)
    with pytest.raises(OSError, match="in use"):
        second.listen(HOST, port, reuse_port=True)


def test_gateways_that_share_a_port_have_no_watchdog() -> None:
    """One that was set in this process could be reset in the other, and would switch the machine off all the same."""
    alone, sharing = build_registry(), build_registry(with_watchdog=False)
    assert all(alone.find(0x06, number) is not None for number in WATCHDOG)
    assert all(sharing.find(0x06, number) is None for number in WATCHDOG)
