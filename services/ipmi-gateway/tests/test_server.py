"""The server on real sockets, with clients of ours and with the tools that people use."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from engine_harness import USERS, Harness
from ipmi_gateway.directory import Listener
from ipmi_gateway.server import Server
from ipmi_gateway.settings import GatewaySettings
from rmcp_client import OPERATOR, RefusedError, RmcpClient, UdpTransport

PATIENCE = 60.0
"""Seconds until a hanging tool is given up."""


@dataclass
class Running:
    """A server, its engine's harness, and its ports."""

    harness: Harness
    server: Server
    port: int
    node_port: int
    port6: int

    async def tool(self, *command: str) -> tuple[int, str]:
        """Run a program; its exit status and all that it printed."""
        if shutil.which(command[0]) is None:
            pytest.fail(f"{command[0]} is needed")
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def ipmitool(
        self, *arguments: str, user: str = "admin", password: str = "secret", port: int | None = None
    ) -> tuple[int, str]:
        where = ("-H", "127.0.0.1", "-p", str(port or self.port), "-U", user, "-P", password)
        return await self.tool("ipmitool", "-I", "lanplus", *where, *arguments)


@contextlib.asynccontextmanager
async def running(settings: GatewaySettings | None = None) -> AsyncIterator[Running]:
    harness = Harness(settings)
    server = Server(harness.engine)
    port = server.listen(harness.main, "127.0.0.1", 0)
    node_port = server.listen(harness.node1, "127.0.0.1", 0)
    port6 = server.listen(Listener("six", harness.gateway), "::1", 0)
    task = asyncio.create_task(server.run())
    try:
        yield Running(harness, server, port, node_port, port6)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as gateway:
        yield gateway


# --- sockets ---


def log_in_and_ask(host: str, port: int) -> int:
    with RmcpClient.udp(host, port, timeout=5) as client:
        client.login("admin", "secret")
        client.set_privilege(4)
        codes = [client.request(6, 1).code, client.request(0, 2, b"\x01").code, client.close_session().code]
        return sum(codes)


async def test_ipv4_ipv6_and_node_listeners(gateway: Running) -> None:
    for host, port in (("127.0.0.1", gateway.port), ("127.0.0.1", gateway.node_port), ("::1", gateway.port6)):
        assert await asyncio.to_thread(log_in_and_ask, host, port) == 0
    assert [request.bmc.node_id for request in gateway.harness.requests[::2]] == [None, "node1", None]


async def test_listeners_come_and_go(gateway: Running) -> None:
    listener = Listener("new", gateway.harness.gateway)
    port = gateway.server.listen(listener, "127.0.0.1", 0)
    assert await asyncio.to_thread(log_in_and_ask, "127.0.0.1", port) == 0
    with pytest.raises(ValueError, match="already"):
        gateway.server.listen(listener, "127.0.0.1", 0)
    gateway.server.stop_listening(listener)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
    with pytest.raises(KeyError):
        gateway.server.stop_listening(listener)


@pytest.mark.parametrize(
    ("bound", "host"), [("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "127.8.9.10"), ("::", "127.8.9.10"), ("::", "::1")]
)
async def test_all_addresses(gateway: Running, bound: str, host: str) -> None:
    """The answer leaves from the address that the client talks to: a connected socket takes no other."""
    port = gateway.server.listen(Listener("all", gateway.harness.gateway), bound, 0)

    def log_in() -> int:
        with RmcpClient.udp(host, port, timeout=5) as client:
            assert isinstance(client.transport, UdpTransport)
            client.transport.socket.connect(client.transport.server)
            client.login("admin", "secret")
            return client.request(6, 1).code + client.close_session().code

    assert await asyncio.to_thread(log_in) == 0


async def test_two_servers_on_one_port() -> None:
    """As several workers do it: the kernel keeps each client with one of them."""
    servers, tasks = [], []
    port = 0
    for _ in range(2):
        harness = Harness()
        server = Server(harness.engine)
        port = server.listen(harness.main, "127.0.0.1", port, reuse_port=True)
        servers.append(harness)
        tasks.append(asyncio.create_task(server.run()))
    try:
        codes = [await asyncio.to_thread(log_in_and_ask, "127.0.0.1", port) for _ in range(24)]
        assert set(codes) == {0}
        assert all(harness.requests for harness in servers)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_address_in_use(gateway: Running) -> None:
    with pytest.raises(OSError, match="in use"):
        gateway.server.listen(Listener("again", gateway.harness.gateway), "127.0.0.1", gateway.port)


async def test_many_clients_at_once(gateway: Running) -> None:
    results = await asyncio.gather(*(asyncio.to_thread(log_in_and_ask, "127.0.0.1", gateway.port) for _ in range(32)))
    assert set(results) == {0}
    assert not gateway.harness.engine.manager.sessions


async def test_output_from_elsewhere_is_sent_at_once(gateway: Running) -> None:
    with RmcpClient.udp("127.0.0.1", gateway.port, timeout=5) as client:
        await asyncio.to_thread(client.login, "admin", "secret")
        (session,) = gateway.harness.engine.manager
        session.send_payload(1, b"hello")
        packet = await asyncio.to_thread(client.receive)
        assert packet is not None
        assert packet.payload == b"hello"
        session.call_at(asyncio.get_running_loop().time() + 0.01, lambda now: session.send_payload(1, b"later"))
        packet = await asyncio.to_thread(client.receive)
        assert packet is not None
        assert packet.payload == b"later"


async def test_stopping_ends_sessions_and_work() -> None:
    async with running() as gateway:
        with RmcpClient.udp("127.0.0.1", gateway.port) as client:
            await asyncio.to_thread(client.login, "admin", "secret")
    assert not gateway.harness.engine.manager.sessions
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", gateway.port))


async def test_another_source_is_not_slowed_down(gateway: Running) -> None:
    """Loopback has many addresses: bad logins from one, a good one from another."""

    def attack_and_log_in() -> None:
        with RmcpClient.udp("127.0.0.1", gateway.port, source="127.0.0.5", timeout=5) as guesser:
            for _ in range(50):
                assert guesser.bad_login("admin") == 0x0F
        with RmcpClient.udp("127.0.0.1", gateway.port, source="127.0.0.6", timeout=5) as client:
            client.login("admin", "secret")

    await asyncio.to_thread(attack_and_log_in)


# --- ipmitool ---


@pytest.mark.parametrize("suite", [(), ("-C", "3"), ("-C", "17")])
@pytest.mark.parametrize(
    "bridging", [(), ("-t", "1"), ("-t", "0x30", "-b", "0"), ("-t", "1", "-b", "11"), ("-t", "0xff")]
)
async def test_ipmitool(gateway: Running, suite: tuple[str, ...], bridging: tuple[str, ...]) -> None:
    status, output = await gateway.ipmitool(*suite, *bridging, "power", "status")
    assert (status, output) == (0, "Chassis Power is on\n")
    status, output = await gateway.ipmitool(*suite, *bridging, "power", "on")
    assert (status, output) == (0, "Chassis Power Control: Up/On\n")
    channel, target = next(
        ((request.channel, request.bmc.address) for request in reversed(gateway.harness.requests)), (0, 0)
    )
    assert target == (int(bridging[1], 0) if bridging else 0x20)
    assert channel == (int(bridging[3]) if len(bridging) > 2 else 0)
    assert not gateway.harness.engine.manager.sessions


@pytest.mark.parametrize("transit", [("-T", "0x30", "-B", "0"), ("-T", "5", "-B", "2"), ("-T", "0x20", "-B", "0")])
@pytest.mark.parametrize("local", [(), ("-m", "0x20"), ("-m", "0x72")])
async def test_ipmitool_dual_bridging(gateway: Running, transit: tuple[str, ...], local: tuple[str, ...]) -> None:
    status, output = await gateway.ipmitool(*local, *transit, "-t", "1", "-b", "11", "raw", "6", "1")
    assert (status, output.split()[0]) == (0, "01")
    assert gateway.harness.requests[-1].bmc.node_id == "last"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-t", "0x77", "power", "status"), "Destination unavailable"),
        (("-T", "0x77", "-B", "0", "-t", "1", "power", "status"), "Destination unavailable"),
        (("-L", "USER", "power", "on"), "Insufficient privilege level"),
        (("-L", "USER", "-t", "1", "power", "on"), "Insufficient privilege level"),
        (("raw", "6", "0xfe"), "Invalid command"),
        (("-t", "1", "raw", "6", "0xfe"), "Invalid command"),
        (("raw", "6", "1", "1"), "Request data length invalid"),
        (("-C", "0", "power", "status"), "no matching cipher suite"),
        (("-C", "8", "power", "status"), "no matching cipher suite"),
        (("-C", "1", "power", "status"), "no matching cipher suite"),
    ],
)
async def test_ipmitool_refusals(gateway: Running, arguments: tuple[str, ...], text: str) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    status, output = await gateway.ipmitool(*arguments)
    assert status != 0
    assert text in output
    assert loop.time() - before < 15


@pytest.mark.parametrize(
    ("user", "password", "text"),
    [
        ("admin", "wrong", "Unable to establish IPMI v2 / RMCP+ session"),
        ("nobody", "secret", "Unable to establish IPMI v2 / RMCP+ session"),
        ("", "secret", "Unable to establish IPMI v2 / RMCP+ session"),
        ("oper", "operpass", "Unable to establish IPMI v2 / RMCP+ session"),
    ],
)
async def test_ipmitool_bad_logins(gateway: Running, user: str, password: str, text: str) -> None:
    status, output = await gateway.ipmitool("power", "status", user=user, password=password)
    assert status != 0
    assert text in output


async def test_ipmitool_operator(gateway: Running) -> None:
    login = {"user": "oper", "password": "operpass"}
    assert (await gateway.ipmitool("-L", "OPERATOR", "-t", "1", "power", "on", **login))[0] == 0
    status, output = await gateway.ipmitool("-L", "OPERATOR", "-t", "0x30", "power", "on", **login)
    assert status != 0
    assert "Insufficient privilege level" in output
    assert (await gateway.ipmitool("-L", "OPERATOR", "power", "on", port=gateway.node_port, **login))[0] == 0


async def test_ipmitool_kg() -> None:
    async with running(GatewaySettings(kg=bytes.fromhex("0102030405"))) as gateway:
        assert "Chassis Power is on" in (await gateway.ipmitool("-y", "0102030405", "power", "status"))[1]
        assert "Power is" not in (await gateway.ipmitool("-y", "010203", "power", "status"))[1]
        assert "Power is" not in (await gateway.ipmitool("power", "status"))[1]
        assert "non-zero" in (await gateway.ipmitool("-y", "0102030405", "channel", "authcap", "14", "4"))[1]


async def test_ipmitool_about_sessions_and_users(gateway: Running) -> None:
    _, output = await gateway.ipmitool("session", "info", "active")
    assert "privilege level               : ADMINISTRATOR" in output
    assert "console ip                    : 127.0.0.1" in output
    status, output = await gateway.ipmitool("session", "info", "all")
    assert status == 0
    assert "IPMIv2/RMCP+" in output
    _, output = await gateway.ipmitool("user", "list", "1")
    assert [line.split()[:2] for line in output.splitlines()][2:4] == [["2", "admin"], ["3", "oper"]]
    _, output = await gateway.ipmitool("user", "summary", "1")
    assert "Enabled User Count  : 5" in output
    _, output = await gateway.ipmitool("channel", "info", "1")
    assert "802.3 LAN" in output
    _, output = await gateway.ipmitool("channel", "getaccess", "1", "2")
    assert "ADMINISTRATOR" in output
    _, output = await gateway.ipmitool("channel", "getciphers", "ipmi")
    assert [line.split()[0] for line in output.splitlines()[1:]] == ["17", "3"]
    status, output = await gateway.ipmitool("user", "test", "2", "16", "secret")
    assert (status, output) == (0, "Success\n")
    status, output = await gateway.ipmitool("user", "set", "name", "4", "new")
    assert status != 0
    assert (await gateway.ipmitool("user", "list", "1", "-t", "1"))[0] == 0


async def test_ipmitool_version_1_5_is_refused(gateway: Running) -> None:
    where = ("-H", "127.0.0.1", "-p", str(gateway.port), "-U", "admin", "-P", "secret")
    status, output = await gateway.tool("ipmitool", "-I", "lan", *where, "power", "status")
    assert status != 0
    assert "not supported" in output


# --- FreeIPMI ---


@pytest.mark.parametrize("suite", ["3", "17"])
async def test_freeipmi(gateway: Running, suite: str) -> None:
    login = ("-D", "LAN_2_0", "-h", f"127.0.0.1:{gateway.port}", "-u", "admin", "-p", "secret", "-I", suite)
    assert await gateway.tool("ipmipower", *login, "--stat") == (0, "127.0.0.1: on\n")
    assert await gateway.tool("ipmipower", *login, "--on") == (0, "127.0.0.1: ok\n")
    status, output = await gateway.tool("ipmi-raw", *login, "-l", "ADMIN", "0", "6", "1")
    assert (status, output.split()[:4]) == (0, ["rcvd:", "01", "00", "20"])
    bridged = ("--target-channel-number=2", "--target-slave-address=0x05")
    status, output = await gateway.tool("ipmi-raw", *login, *bridged, "0", "6", "1")
    assert (status, output.split()[:4]) == (0, ["rcvd:", "01", "00", "05"])


async def test_freeipmi_refusals(gateway: Running) -> None:
    login = ("-D", "LAN_2_0", "-h", f"127.0.0.1:{gateway.port}", "-u", "admin")
    assert "password invalid" in (await gateway.tool("ipmipower", *login, "-p", "wrong", "--stat"))[1]
    assert "cipher suite" in (await gateway.tool("ipmipower", *login, "-p", "secret", "-I", "8", "--stat"))[1]
    where = ("-D", "LAN_2_0", "-h", f"127.0.0.1:{gateway.port}", "-u", "nobody", "-p", "secret")
    assert "username invalid" in (await gateway.tool("ipmipower", *where, "--stat"))[1]


async def test_freeipmi_kg() -> None:
    async with running(GatewaySettings(kg=b"\x01\x02\x03")) as gateway:
        login = ("-D", "LAN_2_0", "-h", f"127.0.0.1:{gateway.port}", "-u", "admin", "-p", "secret", "-I", "17")
        assert await gateway.tool("ipmipower", *login, "-k", "0x010203", "--stat") == (0, "127.0.0.1: on\n")
        assert "k_g invalid" in (await gateway.tool("ipmipower", *login, "--stat"))[1]


@pytest.mark.parametrize(
    "command", [("rmcpping", "-c", "1"), ("ipmiping", "-c", "1"), ("ipmiping", "-r", "2.0", "-c", "1")]
)
async def test_freeipmi_ping(command: tuple[str, ...]) -> None:
    """These know no other port than 623."""
    harness = Harness()
    server = Server(harness.engine)
    address = f"127.61.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF}"  # own: others, too, may test at port 623
    try:
        server.listen(harness.main, address, 623)
    except PermissionError:
        assert await asyncio.to_thread(ping_like_rmcpping)
        return
    task = asyncio.create_task(server.run())
    try:
        process = await asyncio.create_subprocess_exec(*command, address, stdout=asyncio.subprocess.PIPE)
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0
        assert b" 0.0% packet loss" in output
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def ping_like_rmcpping() -> bool:
    """Where port 623 may not be bound: the same octets, on the engine."""
    client = RmcpClient(Harness().transport())
    pong = client.ping(tag=200)
    return pong is not None and pong[9] == 200


# --- pyghmi ---


def pyghmi_session(port: int, password: str, target: int = 0x30) -> list[object]:
    from pyghmi.ipmi.command import Command

    command = Command("127.0.0.1", "admin", password, port=port)
    try:
        return [
            command.get_power(),
            bytes(command.raw_command(6, 1)["data"])[0],
            bytes(command.raw_command(6, 1, bridge_request={"addr": target, "channel": 0})["data"])[0],
            command.raw_command(6, 0xFE)["code"],
        ]
    finally:
        command.ipmi_session.logout()


async def test_pyghmi(gateway: Running) -> None:
    result = await asyncio.to_thread(pyghmi_session, gateway.port, "secret")
    assert result == [{"powerstate": "on"}, 0x20, 0x30, 0xC1]
    result = await asyncio.to_thread(pyghmi_session, gateway.node_port, "secret", 0x01)
    assert result == [{"powerstate": "on"}, 0x20, 0x01, 0xC1]


async def test_pyghmi_wrong_password(gateway: Running) -> None:
    from pyghmi.exceptions import IpmiException

    with pytest.raises(IpmiException, match="Incorrect password"):
        await asyncio.to_thread(pyghmi_session, gateway.port, "wrong")


async def test_client_of_ours_is_refused_as_the_tools_are(gateway: Running) -> None:
    def log_in() -> None:
        with RmcpClient.udp("127.0.0.1", gateway.port, timeout=5) as client:
            client.login("oper", "operpass", role=OPERATOR).close_session()
            client.login("oper", USERS[1].password)

    with pytest.raises(RefusedError, match="rakp2: status 0x0a"):
        await asyncio.to_thread(log_in)
