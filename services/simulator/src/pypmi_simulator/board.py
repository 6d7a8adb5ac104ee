"""A simulated relay board on the network, wired to a simulated PC.

async with SimulatedBoard(era=Era.NEWEST, pc=PC()) as board:
    ... connect to board.host, board.port; look at board.pc.presses
"""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

from .console import Console, ShellConsole
from .eras import TRAITS, DeviceFlag, Era
from .faults import BoardTimings, Faults, Network
from .firmware import Action, Firmware, Outcome
from .framing import Framer, Request
from .pc import PC, Button
from .pins import Edge, PinBank
from .ports import Address, Connection, DevicePort, split_segments
from .provisioning import blank_store, provisioned_store
from .store import Store
from .uart import BOOT_NOISE, UartBridge

_BOOT_GLITCH_PIN = 0


class SimulatedBoard:
    """One ESP8266 relay module and the PC behind its pins.

    Args:
        era: firmware generation, or its name (`2019`, `2021`, `newest`).
        pc: the machine; a new one by default.
        provisioned: flash as reference 6.4 leaves it; False: as from the factory.
        store: flash contents, instead of `provisioned`.
        name: identification text, also the PC's host name.
        host, port, bridge_port: where to listen; port 0 takes free ones. The device's own numbers (24, and what
            `bp` says) show up in replies only, so that many boards fit on one address.
        udp: also take commands and console bytes by UDP.
        relay_pin, led_pin, reset_pin: GPIO numbers; without `reset_pin` there is no reset relay.
        active_low: the relay closes when its pin is low.
        led_active_low: the LED pin is low while the power LED is lit.
        timings, faults: see there.
        console: what is on the PC's serial port; a small shell by default.
        paced_uart: serial bytes take the time that the baud rate says.
        boot_noise: the boot ROM's bytes on the console at each reset.
    """

    def __init__(
        self,
        era: Era | str = Era.NEWEST,
        *,
        pc: PC | None = None,
        provisioned: bool = True,
        store: Store | None = None,
        name: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
        bridge_port: int = 0,
        udp: bool = True,
        relay_pin: int = 0,
        led_pin: int = 2,
        reset_pin: int | None = None,
        active_low: bool = True,
        led_active_low: bool = False,
        pulse_ms: int = 500,
        baud: int = 115200,
        timings: BoardTimings | None = None,
        console: Console | None = None,
        paced_uart: bool = True,
        boot_noise: bool = True,
    ) -> None:
        self.era = Era.parse(era)
        self.name = name
        self.pc = pc if pc is not None else PC()
        self.faults = Faults()
        self.timings = timings if timings is not None else BoardTimings()
        self.host = host
        self.port = port
        self.bridge_port = bridge_port
        self.network = Network.UP
        self.boots = 0
        """How often the chip has started."""
        if store is None:
            store = (
                provisioned_store(
                    self.era,
                    identification=name,
                    relay_pin=relay_pin,
                    led_pin=led_pin,
                    reset_pin=reset_pin,
                    pulse_ms=pulse_ms,
                    active_low=active_low,
                    baud=baud,
                )
                if provisioned
                else blank_store(self.era)
            )
        self.store = store
        self._udp = udp
        self._relays = {relay_pin: Button.POWER}
        if reset_pin is not None:
            self._relays[reset_pin] = Button.RESET
        self._active_low = active_low
        self._boot_noise = boot_noise
        self._paced = paced_uart
        self.pins = PinBank(TRAITS[self.era], on_edge=self._on_edge)
        self.pins.inputs[led_pin] = lambda now: self.pc.power_led(now) != led_active_low
        self.firmware = Firmware(self.era, store, self.pins)
        self._framer = Framer(TRAITS[self.era])
        self.console = console if console is not None else ShellConsole(name or "sim", reboot=self._os_reboot)
        self._ports: list[DevicePort] = []
        self._command: Connection | None = None
        self._bridge: Connection | None = None
        self._strays: set[Connection] = set()
        self._peer: Address | None = None
        """Where the next reply goes: a datagram's sender, or None for TCP."""
        self._bridge_peer: Address | None = None
        self._busy = False
        self._running = False
        self._reset_pending: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._handles: set[asyncio.TimerHandle] = set()
        self._closed = True
        self._uart: UartBridge | None = None

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Binds the ports and switches the board on; it is reachable when this returns."""
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._ports = [
            DevicePort(
                self.host, self.port, on_accept=self._accept_command, on_datagram=self._command_datagram, udp=self._udp
            ),
            DevicePort(
                self.host,
                self.bridge_port,
                on_accept=self._accept_bridge,
                on_datagram=self._bridge_datagram,
                udp=self._udp,
            ),
        ]
        self.port, self.bridge_port = (port.port for port in self._ports)
        self._uart = UartBridge(
            self.firmware,
            to_pc=self.console.feed,
            resume_pc=self.console.resume,
            pause_pc=self.console.pause,
            on_command_byte=self._console_command,
            send_datagram=self._to_bridge_peer,
            paced=self._paced,
        )
        self.console.output = self._uart.from_pc
        self.firmware.uart_send = self._uart.send
        self.firmware.uart_flushed = self._uart.configure
        self.pc.on_power = self._pc_power
        self.pc.on_reset = self._pc_reset
        self.pc.on_running = lambda _now: self.console.running()
        if self.pc.powered:
            self.console.running()
        self._boot("power on")

    async def stop(self) -> None:
        """Switches the board off and frees the ports."""
        self._closed = True
        self._running = False
        for handle in (self._timer, self._reset_pending, *self._handles):
            if handle is not None:
                handle.cancel()
        self._handles.clear()
        self._timer = self._reset_pending = None
        for connection in (self._command, self._bridge, *self._strays):
            if connection is not None:
                connection.close()
        self._command = self._bridge = None
        self._strays.clear()
        for port in self._ports:
            port.close()
        if self._uart is not None:
            self._uart.close()
        self.console.close()

    @property
    def now(self) -> float:
        """The clock of everything here: the event loop's."""
        return self._loop.time()

    @property
    def relay_closed(self) -> bool:
        """Tells whether the power button's relay is closed now."""
        self._advance()
        pin = next(pin for pin, button in self._relays.items() if button is Button.POWER)
        return self.pins.level(pin, self.now) != self._active_low

    def _later(self, delay: float, callback: object, *args: object) -> asyncio.TimerHandle:
        def run() -> None:
            self._handles.discard(handle)
            callback(*args)  # type: ignore[operator]

        handle = self._loop.call_later(delay, run)
        self._handles.add(handle)
        return handle

    # -- wiring ---------------------------------------------------------------------------------

    def _on_edge(self, edge: Edge) -> None:
        button = self._relays.get(edge.pin)
        if button is None:
            return
        if edge.level != self._active_low:
            self.pc.press(button, edge.time)
        else:
            self.pc.release(button, edge.time)

    def _pc_power(self, on: bool, _now: float) -> None:
        self.console.power(on=on)

    def _pc_reset(self, _now: float) -> None:
        self.console.power(on=True)

    def _os_reboot(self) -> None:
        self.pc.press(Button.RESET, self.now, by="os")
        self._loop.call_later(self.pc.timings.debounce * 2, self._os_reboot_done)
        self._reschedule()

    def _os_reboot_done(self) -> None:
        self.pc.release(Button.RESET, self.now, by="os")
        self._reschedule()

    def _advance(self) -> None:
        now = self.now
        self.firmware.advance(now)
        self.pc.advance(now)
        self._reschedule()

    def _reschedule(self) -> None:
        """One timer for everything of this board that is due some time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        times = [t for t in (self.firmware.deadline(), self.pc.deadline()) if t is not None]
        if times and not self._closed:
            self._timer = self._loop.call_at(min(times), self._advance)

    def touch(self) -> None:
        """To be called after the PC was changed from outside, so that what follows happens in time."""
        self._advance()

    # -- reset and boot -------------------------------------------------------------------------

    def reboot(self, cause: str = "hardware watchdog") -> None:
        """The chip resets, for whatever reason: connections are forgotten, pins fall back to inputs."""
        if self._closed:
            return
        now = self.now
        self.firmware.advance(now)
        self._running = False
        self._busy = False
        if self._reset_pending is not None:
            self._reset_pending.cancel()
            self._reset_pending = None
        for connection in (self._command, self._bridge):
            if connection is not None:
                connection.forgotten = True
                self._strays.add(connection)
        self._command = self._bridge = None
        self._peer = self._bridge_peer = None
        if self._uart is not None:
            self._uart.client = None
            self._uart.stale_unacked = 0
            self._uart.to_datagrams = False
        for port in self._ports:
            port.refuse()
        self._framer = Framer(TRAITS[self.era])
        self.pins.reset(now)
        self._reschedule()
        self._later(self.timings.boot, self._boot, cause)

    def _boot(self, cause: str) -> None:
        now = self.now
        self.boots += 1
        glitch = self.timings.boot_glitch
        if glitch > 0:
            self.pins.force(_BOOT_GLITCH_PIN, False, now)
            self._later(glitch, self._end_glitch)
        self.firmware.boot(now, cause=cause)
        if self._uart is not None:
            self._uart.configure()
            if self._boot_noise:
                self._uart.send(BOOT_NOISE)
        self._running = True
        self._apply_network()
        self._reschedule()

    def _end_glitch(self) -> None:
        self.pins.force(_BOOT_GLITCH_PIN, None, self.now)
        self._reschedule()

    def mute_bridge(self) -> None:
        """Brings on newest's mute bug: as if a bridge connection had broken with bytes in flight."""
        if self._uart is not None:
            self._uart.stale_unacked = max(self._uart.stale_unacked, 1)

    # -- network --------------------------------------------------------------------------------

    def cut_network(self, mode: Network = Network.BLACKHOLE) -> None:
        """Changes what the network does; `Network.UP` repairs it."""
        self.network = mode
        connections = [c for c in (self._command, self._bridge, *self._strays) if c is not None]
        if mode is Network.BLACKHOLE:
            for connection in connections:
                connection.freeze()
        elif mode is Network.UP:
            for connection in connections:
                connection.thaw()
        else:
            for connection in connections:
                connection.abort()
                self._ended(connection, clean=False)
        if self._running:
            self._apply_network()

    def restore_network(self) -> None:
        """Back to normal."""
        self.cut_network(Network.UP)

    def _apply_network(self) -> None:
        bridged = self.firmware.bridge_port != 0
        for port, on in zip(self._ports, (True, bridged), strict=True):
            if not on or self.network is Network.REFUSE:
                port.refuse()
                continue
            port.listen()
            if self.network is Network.BLACKHOLE:
                port.plug()
            else:
                port.unplug()

    def _make_room(self) -> None:
        """The stack's limit: a connection too many kills the one that was idle longest (reference 1.2)."""
        alive = [c for c in (self._command, self._bridge) if c is not None]
        if len(alive) >= TRAITS[self.era].tcp_connections:
            victim = min(alive, key=lambda connection: connection.active)
            victim.abort()
            self._ended(victim, clean=False)

    def _accept(self, sock: socket.socket) -> bool:
        if self.network is Network.RESET or not self._running:
            Connection(sock, lambda *_: None, lambda *_: None).abort()
            return False
        self._make_room()
        return True

    def _ended(self, connection: Connection, clean: bool) -> None:
        self._strays.discard(connection)
        if connection is self._command:
            self._command = None
            if self._reset_pending is not None:
                self.reboot("user reset")
        elif connection is self._bridge:
            self._bridge = None
            if self._uart is not None:
                self._uart.client_ended(clean=clean, unacknowledged=connection.unacknowledged_at_end)

    def _stray(self, connection: Connection) -> None:
        """Data on a connection from before the restart: RST, as soon as the device is back."""
        if self._running:
            self._strays.discard(connection)
            connection.abort()
        else:
            self._later(self.timings.boot, self._stray, connection)

    # -- commands -------------------------------------------------------------------------------

    def _accept_command(self, sock: socket.socket) -> None:
        if not self._accept(sock):
            return
        if self._command is not None:
            old = self._command
            old.abort()
            self._ended(old, clean=False)
            if not self._running:  # the old client's reset was waiting for its end
                Connection(sock, lambda *_: None, lambda *_: None).abort()
                return
        self._command = Connection(sock, self._command_data, self._ended)

    def _command_data(self, connection: Connection, data: bytes, segments: int) -> None:
        if connection.forgotten:
            self._stray(connection)
            return
        for part in split_segments(data, segments):
            if self._busy or self.faults.hung:
                self.firmware.counters.dropped_busy += 1
                continue
            if self._lose_command():
                continue
            self._peer = None
            request = self._framer.segment(part, self.now)
            if request is not None:
                self.firmware.counters.tcp += 1
                self._begin(request)

    def _command_datagram(self, data: bytes, address: Address) -> None:
        if not self._running or self._busy or self.faults.hung or self._lose_command():
            return
        self._peer = address
        request = self._framer.datagram(data, self.now)
        if request is not None:
            self.firmware.counters.udp += 1
            self._begin(request)

    def _lose_command(self) -> bool:
        if self.faults.lose_commands <= 0:
            return False
        self.faults.lose_commands -= 1
        return True

    def _begin(self, request: Request) -> None:
        self._busy = True
        self._later(self.timings.command, self._execute, request)

    def _execute(self, request: Request) -> None:
        if not self._running:
            return
        self.firmware.counters.duplicates = self._framer.duplicates
        self.firmware.counters.checksum_errors = self._framer.checksum_errors
        outcome = self.firmware.execute(request.line, self.now)
        self._advance()
        wait = outcome.flash_writes * self.timings.flash_write
        if wait > 0:
            self._later(wait, self._finish, request, outcome)
        else:
            self._finish(request, outcome)

    def _finish(self, request: Request, outcome: Outcome) -> None:
        if not self._running:
            return
        self._busy = False
        reply = self._framer.reply(request, outcome.reply)
        if self.faults.lose_replies > 0:
            self.faults.lose_replies -= 1
        elif self.faults.reset_replies > 0:
            self.faults.reset_replies -= 1
            self._drop_command_client()
        else:
            self._reply(reply, self._peer)
        match outcome.action:
            case Action.DISCONNECT:
                self._after_reply(self._drop_command_client)
            case Action.RESET:
                self._after_reply(self._begin_reset)
            case Action.WLAN_RESTART:
                self._after_reply(self._wlan_restart)
            case Action.NOTHING:
                pass

    def _after_reply(self, action: object) -> None:
        self._later(self.faults.reply_delay, action)

    def _reply(self, reply: bytes, peer: Address | None) -> None:
        if self.faults.reply_delay > 0:
            self._later(self.faults.reply_delay, self._send_reply, reply, peer)
        else:
            self._send_reply(reply, peer)

    def _send_reply(self, reply: bytes, peer: Address | None) -> None:
        if self.network is Network.BLACKHOLE and peer is not None:
            return
        if peer is None:
            if self._command is not None:
                self._command.send(reply)
            return
        size = len(reply) if TRAITS[self.era].strict else 1472
        for start in range(0, len(reply), max(size, 1)):
            self._ports[0].sendto(reply[start : start + size], peer)
        if self.era is not Era.NEWEST and self.firmware.has(DeviceFlag.UDP_TERM_EMPTY):
            self._ports[0].sendto(b"", peer)

    def _drop_command_client(self) -> None:
        if self._peer is None and self._command is not None:
            connection = self._command
            connection.abort()
            self._ended(connection, clean=False)

    def _begin_reset(self) -> None:
        if self._peer is not None or self._command is None:
            self.reboot("user reset")
            return
        self._command.finish()
        self._reset_pending = self._loop.call_later(self.timings.fin_wait, self.reboot, "user reset")

    def _wlan_restart(self) -> None:
        """The link goes down for as long as a boot takes; the chip goes on, its connections are lost."""
        self._drop_command_client()
        self.cut_network(Network.REFUSE)
        self._later(self.timings.boot, self._wlan_back)

    def _wlan_back(self) -> None:
        self.restore_network()
        self.firmware.associated(self.now)
        self._advance()

    def _console_command(self, byte: int) -> bool:
        """A byte for `cmd-from-uart`; returns True when it ended a line."""
        request = self._framer.console(byte)
        if request is None:
            return False
        if self._uart is None:
            return True
        self.firmware.counters.uart += 1
        self._uart.send(b"\r\n>> \0" + request.line.text)
        outcome = self.firmware.execute(request.line, self.now)
        self._uart.send(outcome.reply)
        if self.era is not Era.NEWEST:
            self._reply(outcome.reply, self._peer)
        if outcome.action is Action.RESET:
            self.reboot("user reset")
        self._advance()
        return True

    # -- bridge ---------------------------------------------------------------------------------

    def _accept_bridge(self, sock: socket.socket) -> None:
        if not self._accept(sock) or self._uart is None:
            return
        if self._bridge is not None:
            old = self._bridge
            old.abort()
            self._ended(old, clean=False)
        self._bridge = Connection(sock, self._bridge_data, self._ended)
        self._uart.client = self._bridge

    def _bridge_data(self, connection: Connection, data: bytes, segments: int) -> None:
        if connection.forgotten:
            self._stray(connection)
        elif self._uart is not None:
            self._uart.from_tcp(data, segments)

    def _bridge_datagram(self, data: bytes, address: Address) -> None:
        if self._running and self._uart is not None:
            self._bridge_peer = address
            self._uart.from_datagram(data)

    def _to_bridge_peer(self, data: bytes) -> bool:
        if self._bridge_peer is None:
            return False
        self._ports[1].sendto(data, self._bridge_peer)
        return True
