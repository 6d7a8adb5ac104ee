"""The gateway as a service: nodes of fleet.yaml on the bus become targets; reload changes what has changed."""

import asyncio
import errno
import ipaddress
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pypmi.bus import Bus
from pypmi.config.document import ConfigError, Problem
from pypmi.config.fleet import Fleet as FleetConfig
from pypmi.config.fleet import NodeSettings, UserSettings
from pypmi.config.load import LoadedFleet
from pypmi.config.secrets import KNOWN_DEFAULTS, SecretError
from pypmi.console import ConsoleHub
from pypmi.contract import Event, EventType, utc_now
from pypmi.service import Service
from pypmi.view import Change, FleetView, NodeView

from ipmi_gateway.bmc import Bmc
from ipmi_gateway.codes import Privilege
from ipmi_gateway.commands.table import build_registry
from ipmi_gateway.controller.facts import Identity, LanFacts
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.directory import Listener
from ipmi_gateway.gateway import Gateway
from ipmi_gateway.host import host_network
from ipmi_gateway.metrics import GatewayMetrics
from ipmi_gateway.sessions.users import User
from ipmi_gateway.settings import GatewaySettings, SessionSettings
from ipmi_gateway.sol.console import HubConsoles
from ipmi_gateway.sol.payload import Conflict, SolPolicy
from ipmi_gateway.store import Store, StoreError
from ipmi_gateway.targets.node import NodeTarget

logger = logging.getLogger(__name__)

STATS_SECONDS = 5.0
"""Between two looks at the numbers for `services/<name>/stats`."""
FIRST_USER_ID = 2
"""User id 1 is the null user's, which does not exist here (section 6.9.1)."""


@dataclass(slots=True)
class _Served:
    """One node as it is served now."""

    settings: NodeSettings
    bmc: Bmc
    listener: Listener | None = None


class GatewayApp:
    """The inside of the ipmi-gateway service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        config = service.fleet
        self._nodes: dict[str, _Served] = {}
        self._listening = False
        self._agents_away: set[str] = set()
        self.view = FleetView(service.bus, service.topics, wanted=self._nodes.__contains__)
        self.view.listen(self._on_change)
        self.view.listen_events(self._on_event)
        try:
            store = Store(service.state_dir / "gateway.sqlite")
        except StoreError as error:
            raise ConfigError([Problem(0, "", str(error))]) from None
        gateway = config.gateway
        fleet = Fleet(
            store=store,
            name=config.fleet,
            sel_capacity=gateway.sel_size,
            identity=Identity(manufacturer=gateway.manufacturer_id),
            lan=_lan_facts(config),
            sol=SolPolicy(
                enabled=gateway.sol.enabled,
                conflict=Conflict(gateway.sol.conflict),
                allow_unencrypted=gateway.sol.allow_unencrypted,
                scrollback=gateway.sol.scrollback,
                buffer=gateway.sol.buffer,
            ),
        )
        self._hub = ConsoleHub(service.bus, service.requests, service.topics)
        self._consoles = HubConsoles(self._hub)
        metrics = GatewayMetrics(self, service.registry)
        self.gateway = Gateway(
            make_users(service.loaded),
            settings=make_settings(service.loaded),
            fleet=fleet,
            registry=build_registry(with_watchdog=gateway.workers == 1),
            on_event=metrics.on_event,
        )
        self._add_nodes(config.nodes)

    def nodes(self) -> tuple[str, ...]:
        """Ids of the nodes served."""
        return tuple(self._nodes)

    def not_ready(self) -> str | None:
        """None once the sockets are bound."""
        return None if self._listening else "not listening yet"

    async def run(self) -> None:
        """Bind the sockets and serve until cancelled. Raises `ConfigError` when an address can't be had."""
        config = self._service.fleet
        for endpoint in config.gateway.listen:
            host, port = split_endpoint(endpoint)
            with _naming(endpoint):
                self.gateway.listen(
                    host,
                    port,
                    public_port=config.gateway.sol.public_port,
                    reuse_port=config.gateway.workers > 1,
                )
        for served in self._nodes.values():
            self._open_listener(served)
        self._listening = True
        logger.info("serving %d nodes on %s", len(self._nodes), ", ".join(config.gateway.listen))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hub.run(), name="consoles")
            tasks.create_task(self._consoles.run(), name="console breaks")
            tasks.create_task(self.gateway.run(), name="gateway")
            tasks.create_task(self._count(), name="stats")

    async def _count(self) -> None:
        while True:
            sessions = tuple(self.gateway.engine.manager)
            consoles = sum(session.sol is not None for session in sessions)
            online = sum(self.view.node(node_id).available for node_id in self._nodes)
            self._service.say_stats(sessions=len(sessions), consoles=consoles, nodes_online=online)
            await asyncio.sleep(STATS_SECONDS)

    async def reload(self, loaded: LoadedFleet) -> None:
        """Take over users and nodes; sessions of users and nodes that did not change go on."""
        try:
            users = make_users(loaded)
        except ConfigError as error:
            logger.error("users not reloaded: %s", error)
        else:
            self.gateway.users.replace(users)
            self.gateway.engine.users_changed(asyncio.get_running_loop().time())
        wanted = {node.id: node for node in loaded.fleet.nodes}
        for node_id, served in list(self._nodes.items()):
            new = wanted.get(node_id)
            if new is None or _place(new) != _place(served.settings):
                self._remove_node(served)
            else:
                served.settings = new
                served.bmc.controller.sol.console = None if new.console is None else self._consoles.of(node_id)
        self._add_nodes(node for node in loaded.fleet.nodes if node.id not in self._nodes)
        for node in loaded.fleet.nodes:
            if self._nodes[node.id].listener is None:
                self._open_listener(self._nodes[node.id])

    def _add_nodes(self, nodes: Iterable[NodeSettings]) -> None:
        service, bus = self._service, self._service.bus
        for node in nodes:
            self._nodes[node.id] = _Served(node, self._make_bmc(node, service, bus))

    def _make_bmc(self, node: NodeSettings, service: Service, bus: Bus) -> Bmc:
        target = NodeTarget(
            self.view.node(node.id), bus, service.requests, service.topics, service.fleet.gateway.accept_timeout
        )
        console = None if node.console is None else self._consoles.of(node.id)
        if node.address is None:
            bmc = Bmc.create(self.gateway.fleet, node.id, target)
            bmc.controller.sol.console = console
            return bmc
        return self.gateway.add_target(node.address, target, channel=node.channel, console=console)

    def _remove_node(self, served: _Served) -> None:
        node = served.settings
        if served.listener is not None:
            self.gateway.stop_listening_for(served.listener)
        served.bmc.controller.sol.close("this node is no longer served")
        served.bmc.controller.retire()
        if node.address is not None:
            self.gateway.remove_target(node.address, channel=node.channel)
        del self._nodes[node.id]
        self.view.nodes.pop(node.id, None)

    def _open_listener(self, served: _Served) -> None:
        if served.settings.listen is None:
            return
        host, port = split_endpoint(served.settings.listen)
        with _naming(served.settings.listen):
            shared = self._service.fleet.gateway.workers > 1
            served.listener = self.gateway.listen_for(served.bmc, host, port, reuse_port=shared)

    # -- what the bus tells ------------------------------------------------------------------------------------------

    def _on_change(self, view: NodeView, change: Change) -> None:
        served = self._nodes.get(view.id)
        if served is None:
            return
        if change in {Change.STATE, Change.BOOT, Change.AVAILABILITY}:
            served.bmc.controller.observe(self._now())
        if change is Change.AVAILABILITY:
            self._note_agent(view, served)

    def _note_agent(self, view: NodeView, served: _Served) -> None:
        """Log in the node's SEL when its agent goes and comes; the agent itself can't tell that it died."""
        away = not view.agent_available
        if away == (view.id in self._agents_away) or not self._service.bus.connected or view.info is None:
            return
        (self._agents_away.add if away else self._agents_away.discard)(view.id)
        event = Event(
            type=EventType.NODE_LOST if away else EventType.NODE_BACK,
            cause="hardware",
            message=f"agent {view.info.agent} is {'away' if away else 'back'}",
            at=utc_now(),
            epoch=self._service.epoch,
        )
        served.bmc.controller.record_event(event, self._now())

    def _on_event(self, node_id: str, event: Event) -> None:
        served = self._nodes.get(node_id)
        if served is not None:
            served.bmc.controller.record_event(event, self._now())

    def _now(self) -> float:
        return self.gateway.fleet.clock()


@contextmanager
def _naming(endpoint: str) -> Iterator[None]:
    """Say which address could not be had, and what helps."""
    try:
        yield
    except OSError as error:
        hint = "; ports below 1024 take the capability CAP_NET_BIND_SERVICE" if error.errno == errno.EACCES else ""
        raise ConfigError([Problem(0, "", f"cannot listen on UDP {endpoint}: {error.strerror}{hint}")]) from None


def _place(node: NodeSettings) -> tuple[object, ...]:
    return node.channel, node.address, node.listen


def _lan_facts(config: FleetConfig) -> LanFacts:
    gateway = config.gateway
    host = split_endpoint(gateway.listen[0])[0]
    address, netmask, router, mac = host_network(host if _is_ipv4(host) else "0.0.0.0")
    return LanFacts(
        address=address,
        netmask=netmask,
        gateway=router,
        mac=mac,
        port=_main_port(config),
        suites=gateway.cipher_suites,
        kg=gateway.kg is not None,
    )


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _main_port(config: FleetConfig) -> int:
    return config.gateway.sol.public_port or split_endpoint(config.gateway.listen[0])[1]


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of a `HOST:PORT` that the configuration's models have checked."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def make_users(loaded: LoadedFleet) -> list[User]:
    """The accounts, with their passwords read. Raises `ConfigError` that names the account and the fix.

    A password that everybody knows is taken only where nobody else can reach the gateway, as in the demo.
    """
    users = []
    local = _is_local(loaded.fleet)
    for index, settings in enumerate(loaded.fleet.users):
        field = f"users[{index}].password"
        try:
            password = settings.password.read(loaded.base)
            if not local and password.lower() in KNOWN_DEFAULTS:
                raise ValueError("this is a known default password; set another (`pypmi init` makes random ones)")
            users.append(_make_user(settings, password.encode(), index + FIRST_USER_ID))
        except (SecretError, ValueError) as error:
            raise ConfigError([Problem(0, field, str(error))]) from None
    return users


def _is_local(config: FleetConfig) -> bool:
    """Whether the gateway is reached from this machine only."""
    endpoints = (*config.gateway.listen, *(node.listen for node in config.nodes if node.listen is not None))
    hosts = {split_endpoint(endpoint)[0] for endpoint in endpoints}
    return all(host == "localhost" or _is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _make_user(settings: UserSettings, password: bytes, user_id: int) -> User:
    nodes = None if "*" in settings.nodes else settings.nodes
    return User(settings.name, password, Privilege[settings.privilege.upper()], nodes, user_id)


def make_settings(loaded: LoadedFleet) -> GatewaySettings:
    """The protocol core's settings. Raises `ConfigError` for a Kg that can't be read or used."""
    config = loaded.fleet.gateway
    kg = b""
    if config.kg is not None:
        try:
            text = config.kg.read(loaded.base)
            kg = bytes.fromhex(text[2:]) if text.lower().startswith("0x") else text.encode()
        except (SecretError, ValueError) as error:
            raise ConfigError([Problem(0, "gateway.kg", f"{error}; give text, or 0x and hexadecimal digits")]) from None
    try:
        return GatewaySettings(
            suites=config.cipher_suites,
            kg=kg,
            sessions=SessionSettings(
                maximum=config.max_sessions,
                maximum_per_user=config.max_sessions_per_user,
                inactivity_timeout=config.session_timeout,
                half_open_maximum=config.max_half_open,
            ),
        )
    except ValueError as error:
        raise ConfigError([Problem(0, "gateway", str(error))]) from None
