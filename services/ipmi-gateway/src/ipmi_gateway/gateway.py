"""A gateway to embed: IPMI on UDP for targets in this process, the way pypmi of 2019 was used.

    gateway = Gateway([User("admin", b"secret")])
    gateway.add_target(1, machine)          # ipmitool -t 1
    gateway.listen("0.0.0.0", 623)
    await gateway.run()                     # until cancelled

`machine` is a `Target`, or any object with the methods of pyghmi's `Bmc` (`get_power_state`, `power_on` ...).
The service (`app.py`) uses the same class and adds targets that stand for nodes on the bus.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from ipmi_gateway import audit
from ipmi_gateway.bmc import Bmc
from ipmi_gateway.commands.registry import Registry
from ipmi_gateway.commands.table import build_registry
from ipmi_gateway.controller.facts import PacketCounts
from ipmi_gateway.controller.fleet import Fleet
from ipmi_gateway.directory import Directory, Listener
from ipmi_gateway.engine import Engine
from ipmi_gateway.events import Event, LoginFailed
from ipmi_gateway.server import Server
from ipmi_gateway.sessions.users import User, Users
from ipmi_gateway.settings import GatewaySettings
from ipmi_gateway.sol.console import Console, pyghmi_console
from ipmi_gateway.targets.base import Target
from ipmi_gateway.targets.local import LocalTarget
from ipmi_gateway.targets.pyghmi_target import PyghmiTarget


class Gateway:
    """Engine, sockets and controllers of one gateway.

    Args:
        users: the accounts.
        settings: limits of the protocol core.
        fleet: what the controllers have in common; give one with a `Store` on disk to keep event logs over restarts.
        registry: the commands served; None for all that come with pypmi.
        on_event: called with each session event besides the audit log.
    """

    def __init__(
        self,
        users: Iterable[User] = (),
        *,
        settings: GatewaySettings | None = None,
        fleet: Fleet | None = None,
        registry: Registry | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self.fleet = fleet or Fleet()
        self.users = Users(users)
        self.directory = Directory()
        self.bmc = Bmc.create(self.fleet, None, LocalTarget(self.fleet.name))
        """The gateway's own controller, at 20h."""
        self._on_event = on_event
        self._own: dict[str, Bmc] = {}
        """Controllers with a listener of their own, by its name."""
        self.engine = Engine(
            self.directory, self.users, registry or build_registry(), settings, on_event=self._on_session_event
        )
        self.server = Server(self.engine)
        self.fleet.packet_counts = self._packet_counts

    def add_target(
        self,
        address: int,
        target: Target | Any,
        *,
        channel: int = 0,
        node_id: str | None = None,
        console: Console | None = None,
    ) -> Bmc:
        """Serve a machine at (channel, address); returns its controller.

        `node_id` names it in logs, user lists and the store; None takes the target's own, or one made from channel
        and address. `console` is what SOL is connected to; for objects written for pyghmi, None takes their
        `iohandler`. Raises `ValueError` where nothing can be at that address, or something is already.
        """
        name = node_id or getattr(target, "node_id", None) or f"target-{channel}-{address}"
        machine = target if isinstance(target, Target) else PyghmiTarget(name, target)
        bmc = Bmc.create(self.fleet, name, machine, address=address, channel=channel)
        self.directory.add(channel, address, bmc)
        bmc.controller.sol.console = console or (None if machine is target else pyghmi_console(target))
        return bmc

    def remove_target(self, address: int, *, channel: int = 0) -> None:
        """Stop serving what is at (channel, address). Raises `KeyError` when nothing is."""
        bmc = self.directory.find(channel, address)
        self.directory.remove(channel, address)
        if bmc is not None:
            bmc.controller.retire()
            bmc.controller.sol.close("this node is no longer served")

    def listen(self, host: str, port: int, *, public_port: int | None = None, reuse_port: bool = False) -> int:
        """Listen for clients that bridge; returns the port (0 lets the system choose). Raises `OSError`.

        `public_port` is what clients dial, where that is another.
        """
        listener = Listener(f"{host}:{port}", self.bmc, public_port=public_port or port)
        return self.server.listen(listener, host, port, reuse_port=reuse_port)

    def listen_for(
        self, bmc: Bmc, host: str, port: int, *, public_port: int | None = None, reuse_port: bool = False
    ) -> Listener:
        """Listen on an address and port of a node's own, for clients that can't bridge. Raises `OSError`."""
        view = bmc.view()
        listener = Listener(bmc.node_id or f"{host}:{port}", view, bridging=False, public_port=public_port or port)
        self.server.listen(listener, host, port, reuse_port=reuse_port)
        lan = self.fleet.lan
        view.lan = replace(lan, address=host if _is_own_address(host) else lan.address, port=listener.public_port)
        self._own[listener.name] = view
        return listener

    def stop_listening_for(self, listener: Listener) -> None:
        """Close what `listen_for` opened; its sessions are left to time out."""
        self.server.stop_listening(listener)
        del self._own[listener.name]

    async def run(self) -> None:
        """Serve until cancelled."""
        store = self.fleet.store
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.server.run(), name="udp")
            tasks.create_task(self.fleet.keep_time(), name="timers")
            tasks.create_task(store.run(), name="store")

    def _packet_counts(self) -> PacketCounts:
        engine = self.engine
        return PacketCounts(engine.packets_received, engine.packets_valid, engine.packets_sent)

    def _on_session_event(self, event: Event) -> None:
        audit.write(event)
        if isinstance(event, LoginFailed):
            self._own.get(event.listener, self.bmc).controller.record_login_failure()
        if self._on_event is not None:
            self._on_event(event)


def _is_own_address(host: str) -> bool:
    """Whether this is one IPv4 address, and not all of them, a name, or an IPv6 address."""
    try:
        return not IPv4Address(host).is_unspecified
    except AddressValueError:
        return False
