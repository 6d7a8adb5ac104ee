"""A board on the network: two ports, two or four connections, restarts and cut cables."""

from __future__ import annotations

import socket
from collections.abc import Callable

from .commandport import CommandPort
from .eras import TRAITS
from .faults import Network
from .firmware import Firmware
from .ports import Address, Connection, DevicePort
from .timers import Timers
from .uart import UartBridge


class BoardNetwork:
    """Takes connections and datagrams for the command port and the bridge (reference 1.1, 1.2, 2.2).

    Args:
        firmware: for the era's limits, and whether the bridge is on.
        timers: the board's timers.
        command: the command port.
        uart: the bridge.
        boot_seconds: how long the device is away when it restarts.
    """

    def __init__(
        self,
        firmware: Firmware,
        timers: Timers,
        command: CommandPort,
        uart: UartBridge,
        *,
        boot_seconds: Callable[[], float],
    ) -> None:
        self._firmware = firmware
        self._timers = timers
        self._command = command
        self._uart = uart
        self._boot_seconds = boot_seconds
        self._strays: set[Connection] = set()
        """Connections from before the last restart."""
        self._bridge_peer: Address | None = None
        self._command_port: DevicePort | None = None
        self._bridge_port: DevicePort | None = None
        self._bridge: Connection | None = None
        self.state = Network.UP
        self.device_up = False

    def open(self, host: str, port: int, bridge_port: int, *, udp: bool) -> tuple[int, int]:
        """Binds both ports (0: a free one) and returns their numbers; nothing listens yet."""
        self._command_port = DevicePort(
            host, port, on_accept=self._accept_command, on_datagram=self._command_datagram, udp=udp
        )
        try:
            self._bridge_port = DevicePort(
                host, bridge_port, on_accept=self._accept_bridge, on_datagram=self._bridge_datagram, udp=udp
            )
        except OSError:
            self._command_port.close()
            raise
        return self._command_port.port, self._bridge_port.port

    def close(self) -> None:
        """Closes everything."""
        self.device_up = False
        for connection in self._connections():
            connection.close()
        self._strays.clear()
        for port in (self._command_port, self._bridge_port):
            if port is not None:
                port.close()

    def _connections(self) -> list[Connection]:
        return [c for c in (self._command.client, self._bridge, *self._strays) if c is not None]

    # -- the device restarts --------------------------------------------------------------------

    def device_down(self) -> None:
        """The chip resets: its connections are forgotten, and nothing answers."""
        self.device_up = False
        for connection in (self._command.client, self._bridge):
            if connection is not None:
                connection.forgotten = True
                self._strays.add(connection)
        self._bridge = None
        self._bridge_peer = None
        self.apply()

    def device_started(self) -> None:
        """The chip is reachable again."""
        self.device_up = True
        self.apply()

    def _stray_data(self, connection: Connection) -> None:
        """Data on a connection from before the restart: RST, as soon as the device is back."""
        if self.device_up:
            self._strays.discard(connection)
            connection.abort()
        else:
            self._timers.after(self._boot_seconds(), lambda: self._stray_data(connection))

    # -- the network ----------------------------------------------------------------------------

    def cut(self, state: Network) -> None:
        """Changes what the network does."""
        self.state = state
        connections = self._connections()
        if state is Network.BLACKHOLE:
            for connection in connections:
                connection.freeze()
        elif state is Network.UP:
            for connection in connections:
                connection.thaw()
        else:
            for connection in connections:
                connection.abort()
                self._ended(connection, clean=False)
        self.apply()

    def apply(self) -> None:
        """Makes the ports listen or not, as device and network are."""
        bridged = self._firmware.bridge_port != 0
        for port, on in ((self._command_port, True), (self._bridge_port, bridged)):
            if port is None:
                continue
            if not self.device_up or not on or self.state is Network.REFUSE:
                port.refuse()
                continue
            port.listen()
            if self.state is Network.BLACKHOLE:
                port.plug()
            else:
                port.unplug()

    # -- connections ----------------------------------------------------------------------------

    def _welcome(self, sock: socket.socket) -> bool:
        """Makes room for a new connection: one too many kills the one that was idle longest."""
        if self.state is Network.RESET or not self.device_up:
            _reject(sock)
            return False
        alive = [c for c in (self._command.client, self._bridge) if c is not None]
        if len(alive) >= TRAITS[self._firmware.era].tcp_connections:
            victim = min(alive, key=lambda connection: connection.active)
            victim.abort()
            self._ended(victim, clean=False)
        return True

    def _accept_command(self, sock: socket.socket) -> None:
        if not self._welcome(sock):
            return
        old = self._command.client
        if old is not None:
            old.abort()
            self._ended(old, clean=False)
        if not self.device_up:  # a reset was waiting for the old client's end
            _reject(sock)
            return
        self._command.client = Connection(sock, self._command_data, self._on_end)

    def _accept_bridge(self, sock: socket.socket) -> None:
        if not self._welcome(sock):
            return
        if self._bridge is not None:
            old = self._bridge
            old.abort()
            self._ended(old, clean=False)
        self._bridge = self._uart.client = Connection(sock, self._bridge_data, self._on_end)

    def _on_end(self, connection: Connection, clean: bool) -> None:
        self._ended(connection, clean=clean)

    def _ended(self, connection: Connection, *, clean: bool) -> None:
        self._strays.discard(connection)
        if connection is self._command.client:
            self._command.client_ended()
        elif connection is self._bridge:
            self._bridge = None
            self._uart.client_ended(clean=clean, unacknowledged=connection.unacknowledged_at_end)

    # -- data -----------------------------------------------------------------------------------

    def _command_data(self, connection: Connection, data: bytes, segments: int) -> None:
        if connection.forgotten:
            self._stray_data(connection)
        else:
            self._command.received(data, segments)

    def _command_datagram(self, data: bytes, address: Address) -> None:
        if self.device_up:
            self._command.datagram(data, address)

    def reply_datagram(self, data: bytes, address: Address) -> None:
        """Sends a reply by UDP, if the network lets it through."""
        if self._command_port is not None and self.state is not Network.BLACKHOLE:
            self._command_port.sendto(data, address)

    def _bridge_data(self, connection: Connection, data: bytes, segments: int) -> None:
        if connection.forgotten:
            self._stray_data(connection)
        else:
            self._uart.from_tcp(data, segments)

    def _bridge_datagram(self, data: bytes, address: Address) -> None:
        if self.device_up:
            self._bridge_peer = address
            self._uart.from_datagram(data)

    def bridge_datagram(self, data: bytes) -> bool:
        """Sends console bytes to the last sender of a datagram; False when there is none."""
        if self._bridge_peer is None or self._bridge_port is None:
            return False
        self._bridge_port.sendto(data, self._bridge_peer)
        return True


def _reject(sock: socket.socket) -> None:
    Connection(sock, lambda *_: None, lambda *_: None).abort()
