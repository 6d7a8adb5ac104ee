"""How a board must be set up for safe presses: what is compared, and the steps that put it right.

A board that is not as it must be is never pressed. It is put right only when its owner asked for it (`provision`),
in the order of the reference's section 6.4, which never drives the relay; and only what differs is written, because
each write erases a flash sector, and a power cut in that moment loses the whole configuration.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from pypmi.config.hardware import BoardPin, Esp8266Hardware

from esp8266_agent import pins, protocol
from esp8266_agent.client import CommandLink
from esp8266_agent.pins import PinReport
from esp8266_agent.protocol import Era, ReplyError
from esp8266_agent.relay import plain_relay_fault, relay_fault, relay_setup, relays, words

logger = logging.getLogger(__name__)

_RX_PIN, _TX_PIN = 3, 1
_DANGEROUS_FLAGS: Final = {
    "cmd-from-uart": "what the machine's console prints is executed as commands",
    "log-to-uart": "the board's log is typed into the machine's console",
    "auto-sequencer": "the board plays its sequencer at start and may press",
}
_INPUT_FLAGS: Final = frozenset({"pullup"})


class SetupError(Exception):
    """The board must not be pressed as it is. The text says what is wrong and how to put it right."""


class WrongBoardError(SetupError):
    """Another board answers at this address."""


class RestartingError(Exception):
    """The board was set up and restarts now; look at it again when it is back."""


@dataclass(slots=True)
class Deviation:
    """One thing that is not as it must be, and what puts it right."""

    problem: str
    unsafe: bool
    """Presses are refused until it is right; else only the console suffers."""
    fix: Callable[[], Awaitable[None]]
    needs_restart: bool = False


@dataclass(slots=True)
class Inspection:
    """The comparison of one board, on one connection, with its settings."""

    link: CommandLink
    era: Era
    settings: Esp8266Hardware
    deviations: list[Deviation] = field(default_factory=list)
    reports: dict[int, PinReport] = field(default_factory=dict)
    """How each relay pin is now."""
    _stored: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Compare everything; fills `deviations` in the order in which they must be put right.

        Raises `WrongBoardError`, and `LinkError` and `ReplyError` as the link does.
        """
        name = await self._identification()
        if name is not None and self.era is Era.OLD:
            self.deviations.append(name)  # first: 2019 loses the first key ever written to a blank store (4.1)
        self._stored = await self.link.ask(protocol.STORE)
        for relay in relays(self.settings):
            await self._relay(relay)
        self._triggers()
        await self._status_pin()
        if self.settings.bridge_port is not None:
            await self._uart_pins()
        await self._flags()
        port = self.settings.bridge_port
        if port is not None:
            await self._uart()
        if name is not None and self.era is not Era.OLD:
            self.deviations.append(name)
        if port is not None:
            await self._setting(protocol.BRIDGE_PORT, str(port), needs_restart=True)

    async def put_right(self) -> None:
        """Apply all fixes in order. Raises `RestartingError` when the board restarts, else as `run`."""
        restart = False
        for index, deviation in enumerate(self.deviations):
            logger.warning("%s: setting the board up: %s", self.settings.host, deviation.problem)
            await deviation.fix()
            restart = restart or deviation.needs_restart
            following = self.deviations[index + 1 :]
            if deviation.needs_restart and any(later.unsafe and later.needs_restart for later in following):
                continue  # one restart for all relays
            if deviation.needs_restart and deviation.unsafe:
                break
        if restart:
            await self.link.restart_board()
            raise RestartingError

    def _differs(
        self, problem: str, fix: Callable[[], Awaitable[None]], *, unsafe: bool = True, needs_restart: bool = False
    ) -> None:
        self.deviations.append(Deviation(problem, unsafe, fix, needs_restart))

    async def _identification(self) -> Deviation | None:
        wanted = self.settings.identification
        found = await self.link.ask(protocol.IDENTIFICATION)
        if wanted is None or found == wanted:
            return None
        if found != protocol.UNSET:
            raise WrongBoardError(
                f"the board at {self.settings.host} says that it is {found!r}, not {wanted!r}: correct `host` or"
                " `identification` in fleet.yaml"
            )

        try:
            protocol.set_identification(wanted).encode()
        except ValueError:
            raise SetupError(f"the board can't have the name {wanted!r}: use ASCII, single spaces") from None

        async def fix() -> None:
            for _ in range(2):  # until it reads back, see 2019's lost key
                if await self.link.ask(protocol.set_identification(wanted)) == wanted:
                    return
            raise ReplyError("id: the board does not keep its name")

        return Deviation(f"the board has no name, it must be {wanted!r}", True, fix)

    async def _relay(self, relay: BoardPin) -> None:
        report = self.reports[relay.pin] = await self.link.ask(pins.show_pin(relay.pin))
        if report.star != (self.era is not Era.OLD):
            if self.settings.firmware == "auto":
                raise ReplyError("im: the answer is not that of the firmware found out before")
            raise SetupError(f"the firmware is not that of {self.era}: set `firmware: auto` in fleet.yaml")
        if self.settings.output_mode == "plain":
            problem = plain_relay_fault(relay, report)
            if problem is not None:
                raise SetupError(f"{problem}; set it up by hand, or use `output_mode: timer`")
            return
        wanted = relay_setup(self.era, relay)
        prefix = f"io.0.{relay.pin}."
        found = {key.removeprefix(prefix): value for key, value in self._stored.items() if key.startswith(prefix)}
        as_stored = {"flags": "0"} | {key: str(value) for key, value in wanted.stored.items()}
        running = relay_fault(self.era, relay, report)
        same = all(found.get(key, "0") == value for key, value in as_stored.items())
        stored = None if same else f"relay pin {relay.pin} is stored in another way than it runs: a restart may press"
        problem = running or stored
        if problem is None:
            return

        async def fix() -> None:
            if stored is None:
                return  # the restart is enough
            if self.era is Era.OLD and not self._stored:
                name = self.settings.identification or "x"
                for _ in range(2):  # the blank store loses its first key (4.1)
                    await self.link.ask(protocol.set_identification(name))
            await self.link.ask(protocol.delete_stored(prefix))
            for key, value in wanted.stored.items():
                await self.link.ask(protocol.store(prefix + key, value))
            after = await self.link.ask(protocol.STORE)
            if any(after.get(prefix + key) != str(value) for key, value in wanted.stored.items()):
                raise ReplyError(f"cd: relay pin {relay.pin} is not stored as it was written")

        self._differs(problem, fix, needs_restart=True)

    def _triggers(self) -> None:
        wired = {str(relay.pin) for relay in relays(self.settings)}
        for key, value in self._stored.items():
            family = key.removesuffix("pin")
            if not key.startswith("trigger.") or family == key or value not in wired:
                continue
            if self._stored.get(f"{family}io", "0") != "0":
                continue

            async def fix(family: str = family) -> None:
                await self.link.ask(protocol.delete_stored(family))

            self._differs(f"{family}io/pin presses the relay by itself", fix, needs_restart=True)

    async def _status_pin(self) -> None:
        status = self.settings.status
        if status is None:
            return
        report = await self.link.ask(pins.show_pin(status.pin))
        if report.mode == pins.INPUT_MODE and report.flags <= _INPUT_FLAGS:
            return

        async def fix() -> None:
            after = await self.link.ask(pins.set_mode(status.pin, "dinput"))
            if after.flags - _INPUT_FLAGS:  # `im` has deleted the stored flags, the running ones end at the restart
                await self.link.restart_board()
                raise RestartingError

        problem = f"status pin {status.pin} is in mode {report.mode!r}, flags {words(report.flags)}"
        self._differs(f"{problem}, and must be in mode 'dinput' without flags", fix)

    async def _uart_pins(self) -> None:
        used = {relay.pin for relay in relays(self.settings)}
        if self.settings.status is not None:
            used.add(self.settings.status.pin)
        for pin in (_TX_PIN, _RX_PIN):
            if pin in used:
                continue
            report = await self.link.ask(pins.show_pin(pin))
            if report.mode == pins.UART_MODE:
                continue

            async def fix(pin: int = pin) -> None:
                await self.link.ask(pins.set_mode(pin, "uart"))

            self._differs(f"pin {pin} is in mode {report.mode!r} and the console needs 'uart'", fix, unsafe=False)

    async def _flags(self) -> None:
        flags = await self.link.ask(protocol.FLAGS)
        for name, why in _DANGEROUS_FLAGS.items():
            if not flags.get(name, False):
                continue

            async def fix(name: str = name) -> None:
                if (await self.link.ask(protocol.clear_flag(name))).get(name, False):
                    raise ReplyError(f"fu: the flag {name} stays set")

            self._differs(f"the flag {name} is set ({why})", fix)

    async def _uart(self) -> None:
        uart = self.settings.uart
        await self._setting(protocol.BAUD, str(uart.baud))
        await self._setting(protocol.DATA_BITS, str(uart.bits))
        await self._setting(protocol.STOP_BITS, str(uart.stop))
        await self._setting(protocol.PARITY, uart.parity)

    async def _setting(self, setting: protocol.Setting, wanted: str, *, needs_restart: bool = False) -> None:
        found = await self.link.ask(setting.ask())
        if found == wanted:
            return

        async def fix() -> None:
            after = await self.link.ask(setting.put(wanted))
            if after != wanted:
                raise ReplyError(f"{setting.command}: asked for {wanted}, the board says {after}")

        problem = f"{setting.name} is {found} and fleet.yaml says {wanted}"
        self._differs(problem, fix, unsafe=False, needs_restart=needs_restart)


def refusal(host: str, node: str, problems: list[str]) -> SetupError:
    """The error for a board that is not set up and may not be."""
    return SetupError(
        f"the board at {host} is not set up for safe presses: {'; '.join(problems)}. To set it up (this writes its"
        f" flash and restarts it), run `esp8266-agent --provision {node}`, or set `provision: true` in fleet.yaml"
    )
