"""Boot intents that reach the machine: iPXE scripts over real HTTP, and the hook."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from pydantic import ValidationError
from pypmi.agent import AgentNode, AgentRuntime, boothook, bootserver
from pypmi.agent.bootserver import BootServer
from pypmi.bus import Bus, Message
from pypmi.config.fleet import BootServerSettings
from pypmi.config.power import PowerSettings
from pypmi.contract import BootDevice, BootIntent, NodeInfo, NodeState, PowerState, Topics, utc_now

from .conftest import free_port
from .loopback import LoopbackBus
from .machine import Board, Pc
from .virtual_time import run_virtual

MAC = "52:54:00:00:00:01"
URL = "http://192.0.2.2:8080/boot/{id}/{mac}.ipxe"
QUICK = PowerSettings(
    on_press=0.1, off_press=5, reset_press=0.1, on_grace=5, off_grace=5, boot_settle=0.3, debounce=0.05, blink_dark=0.1
)


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def info(mac: str | None = MAC) -> NodeInfo:
    return NodeInfo(name="n1", agent="agent", driver="test", mac=mac, epoch="e")


def intent(device: str, *, persistent: bool = False, efi: bool = False) -> BootIntent:
    return BootIntent(device=BootDevice(device), persistent=persistent, efi=efi, at=utc_now(), epoch="e")


def state(power: str) -> NodeState:
    return NodeState(power=PowerState(power), at=utc_now(), epoch="e", seq=1)


class Card:
    """The network card: it asks on the real port."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    async def get(self, path: str = f"/ipxe/{MAC}", method: str = "GET") -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.request(method, self.base + path) as answer:
            return answer.status, await answer.text()

    async def device(self) -> str:
        """What the script says."""
        status, text = await self.get()
        assert status == 200
        assert text.startswith("#!ipxe\n")
        return "pxe" if "chain " in text else "disk"


@asynccontextmanager
async def serving(server: BootServer, port: int) -> AsyncIterator[Card]:
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert not task.done()
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield Card(port)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def stage(**settings: Any) -> AsyncIterator[tuple[BootServer, Card, list[str]]]:
    """A server that knows one running node, its card, and the nodes whose intent it has asked to spend."""
    port = free_port()
    asked: list[str] = []

    def use(node: str) -> None:  # what the agent does
        asked.append(node)
        used = server.effective(node)
        assert used is not None
        server.on_boot_used(node, used)
        server.on_boot(node, intent("none"))

    server = BootServer(BootServerSettings(pxe_url=URL, **settings), f"127.0.0.1:{port}", use)
    server.on_info("n1", info())
    server.on_boot("n1", intent("none"))
    server.on_state("n1", state("on"))
    async with serving(server, port) as card:
        yield server, card, asked


def start(server: BootServer, *, spends: BootIntent | None = None) -> None:
    """The agent sees the machine start."""
    server.on_start("n1")
    if spends is not None:
        server.on_boot_used("n1", spends)
        if not spends.persistent:
            server.on_boot("n1", intent("none"))


# -- scripts -----------------------------------------------------------------------------------------------------------


async def test_without_an_intent_the_disk_boots():
    async with stage() as (_server, card, asked):
        status, text = await card.get()
        assert (status, text) == (200, "#!ipxe\necho pypmi: n1 boots from its disk\nexit\n")
        assert asked == []


async def test_pxe_chains_to_the_url_of_this_node():
    async with stage() as (server, card, _asked):
        server.on_boot("n1", intent("pxe", persistent=True))
        for mac in (MAC, MAC.replace(":", "-"), MAC.upper()):
            _, text = await card.get(f"/ipxe/{mac}")
            assert f"chain http://192.0.2.2:8080/boot/n1/{MAC}.ipxe || goto failed\n" in text


@pytest.mark.parametrize("device", ["disk", "cdrom", "bios", "safe"])
async def test_every_other_device_goes_on_to_the_disk(device):
    async with stage() as (server, card, _asked):
        server.on_boot("n1", intent(device, persistent=True))
        assert await card.device() == "disk"


async def test_pxe_without_a_url_says_so_on_the_screen(caplog):
    async with stage() as (server, card, _asked):
        server.configure(BootServerSettings(), server._listen)
        server.on_boot("n1", intent("pxe", persistent=True))
        _, text = await card.get()
        assert text.endswith("boot.pxe_url is not set in fleet.yaml\nexit\n")
        assert "boot.pxe_url is not set" in caplog.text


@pytest.mark.parametrize(
    "path",
    ["/", "/ipxe", "/ipxe/", "/ipxe/n1", "/ipxe/52:54:00:00:00", f"/ipxe/{MAC}/x", f"/ipxe/{MAC}0", "/ipxe/..%2f..%2fx",
     "/ipxe/5254:0000:00001:1", "/ipxe/zz:54:00:00:00:01", "/ipxe/52:54:00:00:00:02"],
)  # fmt: skip
async def test_other_paths_and_macs_are_refused(path):
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe"))
        status, text = await card.get(path)
        assert status == 404
        assert "#!ipxe" not in text
        assert asked == []


async def test_nothing_but_reading():
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe"))
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            status, _ = await card.get(method=method)
            assert status == 405
        assert asked == []


async def test_a_mac_follows_its_node():
    async with stage() as (server, card, _asked):
        server.on_info("n1", info("52-54-00-00-00-0A"))
        assert (await card.get())[0] == 404
        assert (await card.get("/ipxe/52:54:00:00:00:0a"))[0] == 200
        server.on_removed("n1")
        assert (await card.get("/ipxe/52:54:00:00:00:0a"))[0] == 404


# -- once --------------------------------------------------------------------------------------------------------------


async def test_a_one_shot_that_a_start_has_spent_is_served_once():
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe"))
        start(server, spends=intent("pxe"))
        assert await card.device() == "pxe"
        assert await card.device() == "disk"
        assert asked == []  # the start has spent it


async def test_cards_that_ask_at_one_time_get_it_once_together():
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe"))
        answers = await asyncio.gather(*(card.device() for _ in range(20)))
        assert sorted(answers) == ["disk"] * 19 + ["pxe"]
        assert asked == ["n1"]


async def test_a_card_that_asks_before_a_start_was_seen_spends_it_itself():
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe"))
        assert await card.device() == "pxe"
        assert asked == ["n1"]
        start(server)
        assert await card.device() == "disk"


async def test_head_spends_nothing():
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe"))
        assert (await card.get(method="HEAD"))[0] == 200
        start(server, spends=intent("pxe"))
        assert (await card.get(method="HEAD"))[0] == 200
        assert asked == []
        assert await card.device() == "pxe"


async def test_who_asks_while_the_machine_is_off_spends_nothing():
    async with stage() as (server, card, asked):
        server.on_state("n1", state("off"))
        server.on_boot("n1", intent("pxe"))
        assert [await card.device() for _ in range(3)] == ["pxe"] * 3
        assert asked == []
        server.on_state("n1", state("on"))
        start(server, spends=intent("pxe"))
        assert [await card.device() for _ in range(2)] == ["pxe", "disk"]


async def test_what_a_start_did_not_ask_for_is_void():
    async with stage() as (server, card, _asked):
        for end in (
            lambda: start(server),  # it started again
            lambda: server.on_state("n1", state("off")),
            lambda: server.on_boot("n1", intent("none")),  # somebody wants no network boot after all
            lambda: server.on_boot("n1", intent("disk")),
        ):
            server.on_state("n1", state("on"))
            server.on_boot("n1", intent("pxe"))
            start(server, spends=intent("pxe"))
            end()
            assert await card.device() == "disk"


async def test_a_persistent_intent_stays():
    async with stage() as (server, card, asked):
        server.on_boot("n1", intent("pxe", persistent=True))
        for _ in range(3):
            start(server, spends=intent("pxe", persistent=True))
            assert await card.device() == "pxe"
        assert asked == []


def test_patience_ends():
    async def main() -> None:
        server = BootServer(BootServerSettings(patience=60), None, lambda _node: None)
        server.on_info("n1", info())
        server.on_boot("n1", intent("pxe"))
        start(server, spends=intent("pxe"))
        await asyncio.sleep(59)
        held = server.effective("n1")
        assert held is not None
        assert held.device is BootDevice.PXE
        await asyncio.sleep(2)
        left = server.effective("n1")
        assert left is None or left.device is BootDevice.NONE

    run_virtual(main)


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_silent_connections_are_closed_and_too_many_refused(monkeypatch):
    monkeypatch.setattr(bootserver, "_CONNECTION_SECONDS", 1.0)
    monkeypatch.setattr(bootserver, "_MAX_CONNECTIONS", 10)
    async with stage() as (_server, card, _asked):
        port = int(card.base.rsplit(":", 1)[1])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        await asyncio.sleep(0.1)
        extra, _ = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            assert await extra.read() == b""
            for reader, _ in silent:
                assert await reader.read() == b""
        assert await card.device() == "disk"


async def test_an_address_that_is_taken_is_tried_again(monkeypatch, caplog):
    monkeypatch.setattr(bootserver, "_RETRY_SECONDS", 0.1)
    taken = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    server = BootServer(BootServerSettings(), f"127.0.0.1:{port}", lambda _node: None)
    server.on_info("n1", info())
    server.on_boot("n1", intent("none"))
    task = asyncio.create_task(server.run())
    await asyncio.sleep(0.5)
    taken.close()
    await taken.wait_closed()

    async def answers() -> bool:
        try:
            return (await Card(port).get())[0] == 200
        except aiohttp.ClientError:
            return False

    async with asyncio.timeout(20):
        while not await answers():
            await asyncio.sleep(0.1)
    assert caplog.text.count("can't be served") == 1  # one line, not one for each try
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_port_that_does_not_exist_ends_nothing(caplog):
    server = BootServer(BootServerSettings(), "127.0.0.1:99999", lambda _node: None)
    task = asyncio.create_task(server.run())
    await until(lambda: "can't be served" in caplog.text)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    "wrong", [{"pxe_url": "no url"}, {"pxe_url": "http://a b"}, {"hook": ()}, {"patience": 1}, {"listen": "8060"}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ValidationError):
        BootServerSettings(**wrong)


# -- hook --------------------------------------------------------------------------------------------------------------

_WRITES = """
import os, sys
names = ("NODE", "MAC", "DEVICE", "PERSISTENT", "EFI")
print(*sys.argv[1:], *(os.environ["PYPMI_" + name] for name in names), file=open({!r}, "a"))
"""


def hook(file: Path) -> tuple[str, ...]:
    return (sys.executable, "-c", _WRITES.format(str(file)), "{id}", "{mac}", "{device}")


async def test_the_hook_hears_of_each_change_once(tmp_path):
    file = tmp_path / "heard"
    file.touch()
    async with stage(hook=hook(file)) as (server, card, _asked):
        server.on_boot("n1", intent("none"))  # as ever
        server.on_boot("n1", intent("pxe", efi=True))
        server.on_boot("n1", intent("pxe", efi=True))
        start(server, spends=intent("pxe", efi=True))  # its card has still to ask
        assert await card.device() == "pxe"
        server.on_boot("n1", intent("disk", persistent=True))
        server.on_removed("n1")
        await until(lambda: len(file.read_text().splitlines()) == 4)
        await asyncio.sleep(0.2)
    assert file.read_text().splitlines() == [
        f"n1 {MAC} pxe n1 {MAC} pxe 0 1",
        f"n1 {MAC} none n1 {MAC} none 0 0",
        f"n1 {MAC} disk n1 {MAC} disk 1 0",
        f"n1 {MAC} none n1 {MAC} none 0 0",
    ]


async def test_a_hook_is_no_shell(tmp_path):
    file = tmp_path / "heard"
    async with stage(hook=(*hook(file), "; touch x", "$HOME")) as (server, _card, _asked):
        server.on_boot("n1", intent("pxe"))
        await until(file.exists)
        await until(file.read_text)
    assert "; touch x $HOME" in file.read_text()


async def test_hooks_that_fail_are_logged_and_stop_nobody(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(boothook, "_SECONDS", 2.0)
    file = tmp_path / "heard"
    pid = tmp_path / "pid"
    async with stage(hook=("/does/not/exist",)) as (server, card, _asked):
        server.on_boot("n1", intent("pxe", persistent=True))
        await until(lambda: "can't be run" in caplog.text)
        failing = (sys.executable, "-c", "print('x' * 100_000, 'no such switch'); raise SystemExit(3)")
        server.configure(BootServerSettings(hook=failing), server._listen)
        server.on_boot("n1", intent("disk"))
        await until(lambda: "status 3" in caplog.text)
        assert "no such switch" in caplog.text
        assert len(caplog.text) < 10_000
        slow = ("/bin/sh", "-c", f"sleep 1000 & echo $! > {pid}; wait")
        server.configure(BootServerSettings(hook=slow), server._listen)
        server.on_boot("n1", intent("pxe"))
        await until(lambda: "took longer" in caplog.text)
        await until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
        server.configure(BootServerSettings(hook=hook(file)), server._listen)
        server.on_boot("n1", intent("disk"))
        await until(file.exists)
        assert await card.device() == "disk"


# -- in an agent -------------------------------------------------------------------------------------------------------


class Agent:
    """The real runtime with one node and the boot server, on a loopback bus."""

    def __init__(self, pc: Pc, folder: Path, port: int) -> None:
        self.bus = LoopbackBus()
        settings = BootServerSettings(pxe_url=URL)
        self.boot = BootServer(settings, f"127.0.0.1:{port}", self._use_boot)
        self.runtime = AgentRuntime(
            cast("Bus", self.bus), Topics(), "agent", os.urandom(8).hex(), folder, observers=[self.boot]
        )
        self.node = AgentNode("n1", Board(pc), QUICK, mac=MAC)

    def _use_boot(self, node: str) -> None:
        self.runtime.use_boot(node)

    def kept(self, what: str) -> Any:
        return json.loads(self.bus.kept.get(f"nodes/n1/{what}", b"{}"))

    def say(self, what: str, payload: bytes) -> None:
        self.bus.deliver(Message(f"nodes/n1/{what}", payload, False))

    async def wait_power(self, power: str) -> None:
        await until(lambda: self.kept("state").get("power") == power and not self.kept("state")["action"])

    async def set_boot(self, payload: bytes) -> None:
        before = self.kept("boot")["at"]
        self.say("boot/set", payload)
        await until(lambda: self.kept("boot")["at"] != before)

    def events(self) -> list[str]:
        return [json.loads(payload)["type"] for topic, payload in self.bus.sent if topic.endswith("/events")]


@asynccontextmanager
async def agent(pc: Pc, folder: Path) -> AsyncIterator[tuple[Agent, Card]]:
    port = free_port()
    running = Agent(pc, folder, port)
    await running.runtime.put(running.node)
    task = asyncio.create_task(running.runtime.run())
    try:
        async with serving(running.boot, port) as card:
            await running.wait_power("on" if pc.on else "off")
            yield running, card
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        pc.close()


async def test_an_installation_as_ironic_does_it(tmp_path):
    """Network boot once, power on; the installer restarts the machine from within and must find the disk."""
    pc = Pc()
    async with agent(pc, tmp_path) as (running, card):
        await running.set_boot(b'{"device": "pxe"}')
        running.say("power/set", b"on")
        await running.wait_power("on")
        await until(lambda: running.kept("boot")["device"] == "none")
        assert await card.device() == "pxe"
        assert await card.device() == "disk"
        assert running.events().count("boot_used") == 1


async def test_a_restart_from_within_spends_the_intent_and_presses_nothing(tmp_path):
    pc = Pc(on=True)
    async with agent(pc, tmp_path) as (running, card):
        await running.set_boot(b'{"device": "pxe"}')
        assert await card.device() == "pxe"
        await until(lambda: running.kept("boot")["device"] == "none")
        assert running.events().count("boot_used") == 1
        running.say("power/set", b"reset")
        await until(lambda: pc.resets == 1)
        await running.wait_power("on")
        assert await card.device() == "disk"
        assert running.events().count("boot_used") == 1
    assert [press[0] for press in pc.presses] == ["reset"]
    async with agent(pc, tmp_path) as (running, card):  # and it is still spent after a restart of the agent
        assert await card.device() == "disk"


async def test_no_request_moves_anything(tmp_path):
    pc = Pc()
    async with agent(pc, tmp_path) as (running, card):
        await running.set_boot(b'{"device": "pxe"}')
        before = running.kept("boot")
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
            for path in (f"/ipxe/{MAC}", f"/ipxe/{MAC}?power=on", "/nodes/n1/power/set", "/ipxe/power/set"):
                await card.get(path, method)
        await asyncio.sleep(0.5)
        assert running.kept("boot") == before
        assert pc.presses == []
        assert not pc.on
