"""A simulated relay board on the network, wired to a simulated PC.

async with SimulatedBoard(era=Era.NEWEST, pc=PC()) as board:
    ... connect to board.host, board.port; look at board.pc.presses
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from .commandport import CommandPort, DeviceHooks
from .console import Console, ShellConsole
from .eras import TRAITS, Era
from .faults import BoardTimings, Faults, Network
from .firmware import Firmware
from .network import BoardNetwork
from .pc import PC, Button
from .pins import Edge, PinBank
from .ports import Address
from .provisioning import blank_store, provisioned_store
from .store import Store
from .timers import Timers
from .uart import BOOT_NOISE, UartBridge

BOOT_GLITCH_PIN: Final = 0


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
        relay_pin, led_pin, reset_pin, nmi_pin: GPIO numbers; without `reset_pin` or `nmi_pin` there is no such relay.
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
        nmi_pin: int | None = None,
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
                    nmi_pin=nmi_pin,
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
        if nmi_pin is not None:
            self._relays[nmi_pin] = Button.NMI
        self._active_low = active_low
        self._boot_noise = boot_noise
        self._paced = paced_uart
        self.pins = PinBank(TRAITS[self.era], on_edge=self._on_edge)
        self.pins.inputs[led_pin] = lambda now: self.pc.power_led(now) != led_active_low
        self.firmware = Firmware(self.era, store, self.pins)
        self.console = console if console is not None else ShellConsole(name or "sim", reboot=self._os_reboot)
        self._wake: asyncio.TimerHandle | None = None
        self._live: _Live | None = None

    # -- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Binds the ports and switches the board on; it is reachable when this returns.

        Raises:
            OSError: a port is in use.
        """
        live = _Live(self, paced=self._paced)
        self.port, self.bridge_port = live.network.open(self.host, self.port, self.bridge_port, udp=self._udp)
        self._live = live
        self.console.output = live.uart.from_pc
        self.firmware.uart_send = live.uart.send
        self.firmware.uart_flushed = live.uart.configure
        self.pc.on_power = lambda on, _now: self.console.power(on=on)
        self.pc.on_reset = lambda _now: self.console.power(on=True)
        self.pc.on_running = lambda _now: self.console.running()
        if self.pc.powered:
            self.console.running()
        self._boot("power on")

    async def stop(self) -> None:
        """Switches the board off and frees the ports."""
        if self._live is None:
            return
        live, self._live = self._live, None
        self._wake = None
        live.timers.close()
        live.network.close()
        live.uart.close()
        self.console.close()

    @property
    def _on(self) -> _Live:
        if self._live is None:
            raise RuntimeError("the board has not been started")
        return self._live

    @property
    def now(self) -> float:
        """The clock of everything here: the event loop's."""
        return self._on.timers.now

    @property
    def network(self) -> Network:
        """What the network does at the moment."""
        return self._on.network.state

    @property
    def relay_closed(self) -> bool:
        """Tells whether the power button's relay is closed now."""
        self.touch()
        pin = next(pin for pin, button in self._relays.items() if button is Button.POWER)
        return self.pins.level(pin, self.now) != self._active_low

    # -- wiring ---------------------------------------------------------------------------------

    def _on_edge(self, edge: Edge) -> None:
        button = self._relays.get(edge.pin)
        if button is None:
            return
        if edge.level != self._active_low:
            self.pc.press(button, edge.time)
        else:
            self.pc.release(button, edge.time)

    def _os_reboot(self) -> None:
        """The operating system restarts the machine."""
        self.pc.press(Button.RESET, self.now, by="os")
        self._on.timers.after(self.pc.timings.debounce * 2, self._os_reboot_done)
        self.touch()

    def _os_reboot_done(self) -> None:
        self.pc.release(Button.RESET, self.now, by="os")
        self.touch()

    def touch(self) -> None:
        """Lets everything happen that is due, and sets one timer for what is due next.

        To be called after the PC was changed from outside.
        """
        if self._live is None:
            return
        timers = self._live.timers
        now = timers.now
        self.firmware.advance(now)
        self.pc.advance(now)
        if self._wake is not None:
            timers.cancel(self._wake)
            self._wake = None
        times = [t for t in (self.firmware.deadline(), self.pc.deadline()) if t is not None]
        if times:
            self._wake = timers.at(min(times), self.touch)

    # -- reset and boot -------------------------------------------------------------------------

    def reboot(self, cause: str = "hardware watchdog") -> None:
        """The chip resets, for whatever reason: connections are forgotten, pins fall back to inputs."""
        if self._live is None:
            return
        live, now = self._live, self.now
        self.firmware.advance(now)
        live.network.device_down()
        live.command.restart()
        live.uart.restart()
        self.pins.reset(now)
        self.touch()
        live.timers.after(self.timings.boot, lambda: self._boot(cause))

    def _boot(self, cause: str) -> None:
        live, now = self._on, self.now
        self.boots += 1
        glitch = self.timings.boot_glitch
        if glitch > 0:
            self.pins.force(BOOT_GLITCH_PIN, level=False, now=now)
            live.timers.after(glitch, self._end_glitch)
        self.firmware.boot(now, cause=cause)
        live.uart.configure()
        if self._boot_noise:
            live.uart.send(BOOT_NOISE)
        live.network.device_started()
        self.touch()

    def _end_glitch(self) -> None:
        self.pins.force(BOOT_GLITCH_PIN, level=None, now=self.now)
        self.touch()

    # -- what may go wrong ----------------------------------------------------------------------

    def cut_network(self, mode: Network = Network.BLACKHOLE) -> None:
        """Changes what the network does; `Network.UP` repairs it."""
        self._on.network.cut(mode)

    def restore_network(self) -> None:
        """Back to normal."""
        self._on.network.cut(Network.UP)

    def wlan_restart(self) -> None:
        """The link goes down for as long as a boot takes; the chip goes on, its connections are lost."""
        self.cut_network(Network.REFUSE)
        self._on.timers.after(self.timings.boot, self._wlan_back)

    def _wlan_back(self) -> None:
        self.restore_network()
        self.firmware.associated(self.now)
        self.touch()

    def mute_bridge(self) -> None:
        """Brings on newest's mute bug: as if a bridge connection had broken with bytes in flight."""
        self._on.uart.stale_unacked = max(self._on.uart.stale_unacked, 1)


class _Live:
    """The parts of a board that exist while it is switched on."""

    def __init__(self, board: SimulatedBoard, *, paced: bool) -> None:
        self.timers = Timers()
        hooks = DeviceHooks(
            advance=board.touch,
            reboot=board.reboot,
            wlan_restart=board.wlan_restart,
            send_datagram=self._reply_datagram,
            uart_send=self._uart_send,
        )
        self.command = CommandPort(board.firmware, self.timers, board.timings, board.faults, hooks)
        self.uart = UartBridge(
            board.firmware,
            to_pc=board.console.feed,
            resume_pc=board.console.resume,
            pause_pc=board.console.pause,
            on_command_byte=self.command.console_byte,
            send_datagram=self._bridge_datagram,
            paced=paced,
        )
        self.network = BoardNetwork(
            board.firmware, self.timers, self.command, self.uart, boot_seconds=lambda: board.timings.boot
        )

    # The parts know each other in a circle: these look the other one up when it is needed.

    def _reply_datagram(self, data: bytes, address: Address) -> None:
        self.network.reply_datagram(data, address)

    def _bridge_datagram(self, data: bytes) -> bool:
        return self.network.bridge_datagram(data)

    def _uart_send(self, data: bytes) -> None:
        self.uart.send(data)
