"""What a node's power is wired to: one model for each kind of hardware, told apart by `type`."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from pypmi.config.base import Section
from pypmi.config.secrets import SecretSource

Port = Annotated[int, Field(ge=1, le=65_535)]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+$")]
Seconds = Annotated[float, Field(gt=0, le=3600)]
MacAddress = Annotated[str, StringConstraints(pattern=r"^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$", to_lower=True)]
Level = Literal["low", "high"]
Parity = Literal["none", "even", "odd"]


class BoardPin(Section):
    """An output pin of a relay board that works a button."""

    pin: Annotated[int, Field(ge=0, le=16)]
    """GPIO number."""
    active: Level = "low"
    """The level that closes the contact. `low` for the usual ESP-01S relay module."""
    pulse_ms: Annotated[int, Field(ge=100, le=5000)] = 500
    """Length of the pulse that the board times itself; long presses are trains of these."""


class StatusPin(Section):
    """An input pin that shows whether the machine is on (its power LED)."""

    pin: Annotated[int, Field(ge=0, le=16)]
    """GPIO number."""
    active: Level = "high"
    """The level that means on."""


class UartSettings(Section):
    """The board's serial side."""

    baud: Annotated[int, Field(ge=300, le=921_600)] = 115_200
    """Bits per second."""
    bits: Annotated[int, Field(ge=5, le=8)] = 8
    """Data bits."""
    parity: Parity = "none"
    """Parity bit."""
    stop: Literal[1, 2] = 1
    """Stop bits."""


class Esp8266Hardware(Section):
    """An ESP8266 relay board with the Universal I/O bridge firmware."""

    type: Literal["esp8266"] = "esp8266"
    """This kind of hardware; also when none is named."""
    host: Host
    """Name or address of the board."""
    port: Port = 24
    """Command port (the firmware's `cmd.port`)."""
    firmware: Literal["auto", "2019", "2021", "2024"] = "auto"
    """Era of the firmware; `auto` finds out."""
    identification: Annotated[str, StringConstraints(max_length=63)] | None = None
    """The text that `id` answers on the right board. When set, any other board is never pressed."""
    relay: BoardPin = BoardPin(pin=0)
    """The relay on the power button."""
    reset_relay: BoardPin | None = None
    """The relay on the reset button, where there is one."""
    nmi_relay: BoardPin | None = None
    """The relay on the NMI button, where there is one."""
    status: StatusPin | None = StatusPin(pin=2)
    """The power LED. null where it is not wired: power is then unknown, unless `probe` tells."""
    uart: UartSettings = UartSettings()
    """Serial console side of the board."""
    bridge_port: Port | None = 23
    """The firmware's `bridge.port` that carries the console. null: no console."""
    provision: bool = False
    """Set the board up (pins, flags, UART, ports) when it is not as it must be. Writes its flash and restarts it."""
    output_mode: Literal["timer", "plain"] = "timer"
    """`timer`: the board times each pulse itself (safe). `plain`: press and release are two commands; the button stays
    pressed when the link fails between them. Only for boards that can't be set up otherwise."""
    poll_interval: Annotated[float, Field(ge=0.2, le=60)] = 1.0
    """Seconds between two readings of the status input."""
    connect_timeout: Seconds = 5.0
    """Seconds for the TCP connection."""
    command_timeout: Seconds = 1.0
    """Seconds for one command's answer (those that write the board's flash get 2.5 s more)."""
    retries: Annotated[int, Field(ge=1, le=20)] = 3
    """Readings that may fail in a row before the node counts as offline. A press is never repeated."""


class TasmotaHardware(Section):
    """A relay that runs Tasmota, reached through the same broker."""

    type: Literal["tasmota"]
    """This kind of hardware."""
    topic: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^+#]+$")]
    """Tasmota's `Topic`."""
    full_topic: Annotated[str, StringConstraints(max_length=128)] = "%prefix%/%topic%"
    """Tasmota's `FullTopic`."""
    relay: Annotated[int, Field(ge=1, le=32)] = 1
    """Which `POWER<n>` works the power button."""
    reset_relay: Annotated[int, Field(ge=1, le=32)] | None = None
    """Which `POWER<n>` works the reset button."""
    status_switch: Annotated[int, Field(ge=1, le=28)] | None = None
    """Which `Switch<n>` senses the power LED."""
    status_active: Level = "high"
    """The switch state that means on (`high` is Tasmota's ON)."""


class EsphomeHardware(Section):
    """A board that runs ESPHome with its MQTT component."""

    type: Literal["esphome-mqtt"]
    """This kind of hardware."""
    prefix: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^+#]+$")]
    """The `topic_prefix` of the device."""
    power_button: str = "power_button"
    """Object id of the ESPHome `button` that presses power shortly."""
    force_off_button: str | None = None
    """Object id of the `button` that holds power until the machine is off."""
    reset_button: str | None = None
    """Object id of the `button` on the reset pin."""
    status_sensor: str | None = None
    """Object id of the `binary_sensor` on the power LED."""


class GpioLine(Section):
    """One GPIO line of a Raspberry Pi, as an output."""

    line: int | str
    """BCM number, or the line's name (`GPIO17`; gpiod only)."""
    active: Level = "high"
    """The level that presses the button (through an optocoupler or relay: mostly high)."""


class GpioStatus(Section):
    """One GPIO line of a Raspberry Pi, as the status input."""

    line: int | str
    """BCM number, or the line's name (gpiod only)."""
    active: Level = "high"
    """The level that means on."""
    bias: Literal["none", "pull-up", "pull-down"] = "none"
    """The Pi's own resistor."""


class GpioHardware(Section):
    """Buttons and LED wired to a Raspberry Pi's GPIO."""

    type: Literal["gpio"]
    """This kind of hardware."""
    backend: Literal["auto", "gpiod", "rpi-gpio"] = "auto"
    """`gpiod` (libgpiod 2) or `rpi-gpio` (RPi.GPIO, or rpi-lgpio on a Pi 5); `auto` takes the first installed."""
    chip: str = "pinctrl-*"
    """Label, name or path of the GPIO chip, `*` allowed (gpiod only). Labels stay, numbers change between kernels."""
    power_button: GpioLine
    """The line on the power button."""
    reset_button: GpioLine | None = None
    """The line on the reset button, where there is one."""
    nmi_button: GpioLine | None = None
    """The line on the NMI button, where there is one."""
    identify_led: GpioLine | None = None
    """The line of a locator light, where there is one."""
    status: GpioStatus | None = None
    """The power LED. null where it is not wired."""


class BmcHardware(Section):
    """A machine that has a BMC of its own, reached by IPMI 2.0."""

    type: Literal["bmc"]
    """This kind of hardware."""
    host: Host
    """Name or address of the BMC."""
    port: Port = 623
    """Its UDP port."""
    user: Annotated[str, StringConstraints(min_length=1, max_length=16)]
    """An account on it, best one of pypmi's own."""
    password: SecretSource
    """Where the account's password is."""
    kg: SecretSource | None = None
    """The BMC key, where one is set."""
    privilege: Literal["user", "operator", "administrator"] = "operator"
    """The level to ask for. `operator` may switch."""
    poll_interval: Annotated[float, Field(ge=1, le=600)] = 5.0
    """Seconds between two readings of the power state."""
    sensor_interval: Annotated[float, Field(ge=5, le=3600)] = 30.0
    """Seconds between two readings of the sensors."""
    sel_interval: Annotated[float, Field(ge=5, le=3600)] = 60.0
    """Seconds between two looks at the event log."""


class WolHardware(Section):
    """A machine that can only be woken (the node's `wake` part says how), with `probe` for its state."""

    type: Literal["wol"]
    """This kind of hardware."""


Hardware = Annotated[
    Esp8266Hardware | TasmotaHardware | EsphomeHardware | GpioHardware | BmcHardware | WolHardware,
    Field(discriminator="type"),
]

DEFAULT_AGENTS = {
    "esp8266": "esp8266-agent",
    "tasmota": "esp8266-agent",
    "esphome-mqtt": "esp8266-agent",
    "gpio": "rpi-gpio-agent",
    "bmc": "bmc-agent",
    "wol": "esp8266-agent",
}
"""The agent that serves a node when it names none."""


class WakeSettings(Section):
    """Wake-on-LAN, as the way to switch on."""

    mac: MacAddress
    """Of the machine's network card."""
    port: Port = 9
    """UDP port of the magic packet; the network card does not mind."""
    broadcast: Host = "255.255.255.255"
    """Where to send it: the broadcast address of the machine's network, or the machine's own address."""
    interface: str | None = None
    """The local IP address to send from, on hosts with several networks."""


class ProbeSettings(Section):
    """How to tell that a machine is on when no LED is wired: it answers on the network."""

    host: Host
    """The machine's name or address."""
    tcp_port: Port | None = None
    """A port that it listens on when it is up, such as 22. null: ping."""
    interval: Annotated[float, Field(ge=0.2, le=600)] = 5.0
    """Seconds between two probes."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Seconds for one probe."""
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    """Probes that fail in a row before the machine counts as off."""


class ConsoleSettings(Section):
    """A node's serial console, carried by a sol-relay."""

    type: Literal["serial", "rfc2217", "tcp", "esp8266"]
    """`serial`: a port of the relay's own host. `rfc2217`: ser2net and the like. `tcp`: raw bytes on a TCP port.
    `esp8266`: the UART bridge of the node's own relay board."""
    path: str | None = None
    """serial: the port, best by its stable name under /dev/serial/by-id/."""
    host: Host | None = None
    """rfc2217, tcp: where it is. esp8266: the board's, unless given."""
    port: Port | None = None
    """rfc2217, tcp: TCP port. esp8266: the board's `bridge_port`, unless given."""
    baud: Annotated[int, Field(ge=50, le=4_000_000)] = 115_200
    """Bits per second. esp8266: the board's, unless given."""
    bits: Annotated[int, Field(ge=5, le=8)] = 8
    """Data bits."""
    parity: Parity = "none"
    """Parity bit."""
    stop: Literal[1, 2] = 1
    """Stop bits."""
    flow: Literal["none", "rts-cts", "xon-xoff"] = "none"
    """Flow control of a `serial` or `rfc2217` port."""
    relay: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "sol-relay"
    """The service that carries it."""
    ring: Annotated[int, Field(ge=4096, le=67_108_864)] = 262_144
    """Octets of scrollback that the relay keeps in memory."""
    log: bool = True
    """Write what the console says to a rotating log in the relay's state folder."""
    log_size: Annotated[int, Field(ge=65_536, le=1_073_741_824)] = 4_194_304
    """Octets in one log file before it is rotated."""
    log_files: Annotated[int, Field(ge=1, le=100)] = 4
    """Rotated log files that are kept."""
    writers: Literal["all", "one"] = "all"
    """Who may type: everybody who looks, or one at a time."""

    @model_validator(mode="after")
    def _address(self) -> "ConsoleSettings":
        if self.type == "serial" and not self.path:
            raise ValueError("type serial needs path, as in path: /dev/serial/by-id/usb-FTDI_...")
        if self.type in {"rfc2217", "tcp"} and (self.host is None or self.port is None):
            raise ValueError(f"type {self.type} needs host and port")
        if self.type != "serial" and self.path:
            raise ValueError("path is for type serial only")
        return self
