"""Brings the boot intent to machines whose boot order nobody can set: by iPXE scripts over HTTP, and by a hook command.

    GET /ipxe/<mac>     the script for the machine with this network card: go on to the local disk, or chain to the
                        configured URL

What a machine is told to boot once is served once. The agent spends the intent in the moment it sees the machine
start; the network card asks seconds or minutes later. So the spent intent is held here for that start until it is
asked for, the machine goes off or starts again, or `patience` is over: an installer's own restart at its end must find
the disk. A card that asks before the agent has seen a start (the machine was restarted from within) spends the intent
itself. HEAD shows what GET would, and spends nothing; nor does a GET while the machine is off.

Who asks is not known: iPXE has no password. So all that a stranger who knows a MAC address can do here is to use up a
one-shot intent of a running machine; nothing that comes in moves hardware or sets an intent.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from pypmi.agent.boothook import BootChange, BootHook
from pypmi.agent.publisher import AgentObserver
from pypmi.config.fleet import BootServerSettings
from pypmi.contract import BootDevice, BootIntent, NodeInfo, NodeState, PowerState

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 10.0
_CONNECTION_SECONDS = 15.0
"""A connection is closed after one to two times this: a script is fetched in a moment."""
_MAX_CONNECTIONS = 256

_LOCAL = """#!ipxe
echo pypmi: {id} boots from its disk
exit
"""
_CHAIN = """#!ipxe
echo pypmi: {id} boots from the network
:again
chain {url} || goto failed
exit
:failed
echo pypmi: {url} can't be loaded, trying again in 10 s
sleep 10
goto again
"""
_NO_URL = """#!ipxe
echo pypmi: {id} should boot from the network, but boot.pxe_url is not set in fleet.yaml
exit
"""


@dataclass(slots=True)
class _Held:
    """A one-shot intent that was spent by a start, for the network card of that start."""

    intent: BootIntent
    expiry: asyncio.TimerHandle


class BootServer(AgentObserver):
    """Serves the nodes of one agent.

    Args:
        settings: the `boot` section of fleet.yaml.
        listen: `HOST:PORT`; None: nowhere, and only the hook is run.
        use_boot: called with a node's id when its network card asks while a one-shot intent is still in force; spends
            the intent, and comes back by `on_boot_used`.
    """

    def __init__(self, settings: BootServerSettings, listen: str | None, use_boot: Callable[[str], None]) -> None:
        self._settings = settings
        self._listen = listen
        self._use_boot = use_boot
        self._loop = asyncio.get_running_loop()
        self._macs: dict[str, str] = {}
        """Node id by MAC address, lower case with colons."""
        self._intents: dict[str, BootIntent] = {}
        self._off: set[str] = set()
        self._held: dict[str, _Held] = {}
        self._hook = BootHook(settings.hook)

    def configure(self, settings: BootServerSettings, listen: str | None) -> None:
        """Take over changed settings; a changed address takes a restart."""
        if listen != self._listen:
            logger.warning("a changed address for boot scripts takes a restart; the rest is taken over now")
        self._settings = settings
        self._hook.command = settings.hook

    # -- what the agent says ---------------------------------------------------------------------------------------

    def on_info(self, node: str, info: NodeInfo) -> None:
        """Learn the node's MAC address."""
        mac = (info.mac or "").lower().replace("-", ":")
        if self._macs.get(mac, node) != node:
            logger.warning("%s and %s have the same MAC address %s", self._macs[mac], node, mac)
        self._forget_mac(node)
        if mac:
            self._macs[mac] = node

    def on_boot(self, node: str, intent: BootIntent) -> None:
        """The intent in force has changed: by a start that has spent it, or by somebody's wish."""
        before = self._intents.get(node)
        self._intents[node] = intent
        spent = intent.device is BootDevice.NONE and before is not None and before.device is not BootDevice.NONE
        if not spent:
            self._let_go(node)  # a newer wish, also that to boot as ever
        self._tell_hook(node)

    def on_start(self, node: str) -> None:
        """What an earlier start did not ask for is void."""
        self._let_go(node)

    def on_boot_used(self, node: str, intent: BootIntent) -> None:
        """The machine starts under this intent; its network card will ask."""
        if not intent.persistent:
            self._let_go(node)
            expiry = self._loop.call_later(self._settings.patience, self._expire, node)
            self._held[node] = _Held(intent, expiry)

    def on_state(self, node: str, state: NodeState) -> None:
        """A machine that is off will not ask."""
        if state.power is not PowerState.OFF:
            self._off.discard(node)
            return
        self._off.add(node)
        if node in self._held:
            self._let_go(node)
            self._tell_hook(node)

    def on_removed(self, node: str) -> None:
        """The node is no longer ours."""
        self._let_go(node)
        self._intents.pop(node, None)
        self._off.discard(node)
        self._tell_hook(node)
        self._hook.forget(node)
        self._forget_mac(node)

    def _forget_mac(self, node: str) -> None:
        for mac in [mac for mac, owner in self._macs.items() if owner == node]:
            del self._macs[mac]

    def _let_go(self, node: str) -> None:
        held = self._held.pop(node, None)
        if held is not None:
            held.expiry.cancel()

    def _expire(self, node: str) -> None:
        held = self._held.pop(node)
        logger.info("%s: did not ask to boot from %s; that is over now", node, held.intent.device)
        self._tell_hook(node)

    def _tell_hook(self, node: str) -> None:
        intent = self.effective(node) or BootIntent(epoch="")
        mac = next((mac for mac, owner in self._macs.items() if owner == node), "")
        self._hook.tell(BootChange(node, mac, intent.device, intent.persistent, intent.efi))

    def effective(self, node: str) -> BootIntent | None:
        """What the machine is to boot if it asks now: the intent in force, or the one that its last start spent."""
        intent = self._intents.get(node)
        if intent is not None and intent.device is not BootDevice.NONE:
            return intent
        held = self._held.get(node)
        return held.intent if held is not None else None

    def _script(self, node: str, mac: str, intent: BootIntent | None) -> str:
        if intent is None or intent.device is not BootDevice.PXE:
            return _LOCAL.format(id=node)
        url = self._settings.pxe_url
        if url is None:
            logger.warning("%s should boot from the network, but boot.pxe_url is not set in fleet.yaml", node)
            return _NO_URL.format(id=node)
        return _CHAIN.format(id=node, url=url.replace("{id}", node).replace("{mac}", mac))

    # -- HTTP ------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        mac = request.match_info["mac"].lower().replace("-", ":")
        node = self._macs.get(mac)
        if node is None:
            raise web.HTTPNotFound(text=f"no node of this agent has the MAC address {mac}\n")
        if request.method == "GET" and node not in self._off:
            intent = self._intents.get(node)
            if intent is not None and intent.device is not BootDevice.NONE and not intent.persistent:
                self._use_boot(node)  # `on_boot_used` has it held now
        intent = self.effective(node)
        response = web.Response(text=self._script(node, mac, intent))
        if request.method == "GET":
            logger.info(
                "%s: its network card asks what to boot; the intent is %s", node, intent.device if intent else "none"
            )
            if node in self._held:
                self._let_go(node)
                self._tell_hook(node)
        return response

    async def run(self) -> None:
        """Serve, and run the hook, until cancelled. An address that can't be had is tried again: power goes on."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hook.run(), name="boot hook")
            if self._listen is not None:
                group.create_task(self._serve(self._listen), name="boot scripts")

    async def _serve(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        app = web.Application()
        app.add_routes([web.get("/ipxe/{mac:[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}}", self._answer)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - set up above
        doorman = _Doorman(runner.server)
        sockets: asyncio.Server | None = None
        said = ""
        try:
            while sockets is None:
                try:
                    sockets = await self._loop.create_server(doorman, host.strip("[]"), int(port))
                except (OSError, OverflowError) as error:
                    if str(error) != said:
                        said = str(error)
                        logger.error("boot scripts can't be served on %s: %s; trying again", listen, said)
                    await asyncio.sleep(_RETRY_SECONDS)
            logger.info("serving boot scripts on http://%s/ipxe/<mac>", listen)
            await doorman.run()
        finally:
            if sockets is not None:
                sockets.close()
            await runner.cleanup()


class _Doorman:
    """Makes the protocol of each connection: there are not too many, and none stays for long."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def __call__(self) -> asyncio.Protocol:
        return self._server() if len(self._server.connections) < _MAX_CONNECTIONS else _Refusal()

    async def run(self) -> None:
        """Close what stays too long, until cancelled."""
        before: set[web.RequestHandler] = set()
        while True:
            await asyncio.sleep(_CONNECTION_SECONDS)
            now = set(self._server.connections)
            for handler in now & before:
                handler.force_close()
            before = now - before


class _Refusal(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()
