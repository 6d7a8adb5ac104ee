"""The whole of fleet.yaml as models. `load.py` reads the file; here stands what may be in it."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from pypmi.config.base import Section
from pypmi.config.hardware import (
    DEFAULT_AGENTS,
    ConsoleSettings,
    Hardware,
    MacAddress,
    Port,
    ProbeSettings,
    WakeSettings,
)
from pypmi.config.mqtt import MqttSettings
from pypmi.config.power import PowerSettings
from pypmi.config.secrets import SecretSource
from pypmi.contract.node import FruFields

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Endpoint = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$")]
"""`HOST:PORT`, with an IPv6 address in brackets."""

GATEWAY_ADDRESS = 0x20
REMOTE_CONSOLE_ADDRESS = 0x81


class UserSettings(Section):
    """An IPMI account on the gateway."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=16)]
    """At most 16 octets (IPMI 2.0 section 22.28)."""
    password: SecretSource
    """At most 20 octets."""
    privilege: Literal["callback", "user", "operator", "administrator"] = "administrator"
    """The highest level this account can reach. `user` may look, `operator` may switch, `administrator` may all."""
    nodes: tuple[str, ...] = ("*",)
    """Ids of the nodes this account may reach, `*` and `?` allowed. The gateway itself is always reached."""

    @field_validator("name")
    @classmethod
    def _octets(cls, value: str) -> str:
        if len(value.encode()) > 16:
            raise ValueError("longer than 16 octets")
        return value

    def may_reach(self, node_id: str) -> bool:
        """Whether the account's list names this node."""
        return any(fnmatchcase(node_id, pattern) for pattern in self.nodes)


class SolSettings(Section):
    """Serial over LAN, as the gateway serves it."""

    enabled: bool = True
    """Serve consoles at all."""
    conflict: Literal["refuse", "takeover", "share"] = "takeover"
    """A second session activates a console that one has: refuse it (80h), give it over, or let both see and type."""
    allow_unencrypted: bool = False
    """Let a client ask for a console without encryption. Passwords are typed there."""
    scrollback: Annotated[int, Field(ge=0, le=65_536)] = 4096
    """Octets of what the machine said before that a new session is shown."""
    public_port: Port | None = None
    """The UDP port that clients dial, where it is mapped to another (containers). null: the one they came by."""
    buffer: Annotated[int, Field(ge=4096, le=16_777_216)] = 2_097_152
    """Octets that wait for a slow client before the oldest are dropped."""


class GatewaySettings(Section):
    """The IPMI gateway."""

    listen: tuple[Endpoint, ...] = ("[::]:623",)
    """UDP addresses; `[::]` takes IPv4 too."""
    cipher_suites: Annotated[tuple[Literal[3, 17], ...], Field(min_length=1)] = (17, 3)
    """Offered in this order. 17 is SHA-256, 3 is SHA-1."""
    kg: SecretSource | None = None
    """The BMC key: text, or 0x and up to 40 hexadecimal digits."""
    max_sessions: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    """Sessions at one time; further logins are refused."""
    max_sessions_per_user: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    """Sessions of one account at one time."""
    session_timeout: Annotated[float, Field(ge=10, le=600)] = 60.0
    """Seconds without a packet after which a session ends."""
    max_half_open: Annotated[int, Field(ge=16, le=100_000)] = 4096
    """Logins that may be under way."""
    accept_timeout: Annotated[float, Field(gt=0.1, le=8)] = 1.5
    """Seconds to wait for an agent to accept a command, and the life of the command. Healthy agents take some 20 ms."""
    sel_size: Annotated[int, Field(ge=16, le=65_000)] = 1000
    """Events kept for each node."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Gateways that share the ports, each started with a `--name` of its own. See docs/performance.md."""
    sol: SolSettings = SolSettings()
    """Serial over LAN."""
    manufacturer_id: Annotated[int, Field(ge=0, le=0xFFFFF)] = 0
    """IANA enterprise number shown in `mc info`; 0 is unspecified."""


class ServiceSettings(Section):
    """What every process has."""

    state_dir: Path | None = None
    """Where the journal, SEL and logs are kept. null: /var/lib/pypmi/NAME, or PYPMI_STATE_DIR."""
    health: Endpoint | None = None
    """Where /healthz, /readyz and /metrics are served. null: not at all."""
    log_format: Literal["text", "json"] = "text"
    """`text` for people, `json` with one object a line for log collectors."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important messages that are logged."""
    boot_listen: Endpoint | None = None
    """Where this agent serves boot scripts, where two agents share a host. null: `boot.listen`."""


class HomeAssistantSettings(Section):
    """Home Assistant's MQTT discovery, published by each agent for its nodes."""

    enabled: bool = True
    """Announce nodes and services. false removes what was announced before."""
    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$")] = "homeassistant"
    """Home Assistant's discovery prefix."""
    form: Literal["device", "component"] = "device"
    """`device`: one message a node (2024.12 and later). `component`: one message an entity, for older releases."""
    turn_off: Literal["soft", "off"] = "soft"
    """What the switch's off does: ask the operating system, or hold the button."""


class BootServerSettings(Section):
    """The agent's HTTP endpoint that serves iPXE scripts by the node's boot intent. See docs/integrations/ironic.md."""

    listen: Endpoint | None = None
    """Where it listens, as in `10.0.0.5:8060`; best on the network that the machines boot from. null: not at all."""
    pxe_url: Annotated[str, StringConstraints(max_length=512, pattern=r"^[a-z]+://\S+$")] | None = None
    """Chained to when the intent is pxe; `{id}` and `{mac}` stand for the node's."""
    hook: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] | None = None
    """A command run at each change of what a node boots; `{id}`, `{mac}` and `{device}` are filled in."""
    patience: Annotated[float, Field(ge=10, le=3600)] = 300.0
    """Seconds after its start in which a machine may ask for what it was told to boot once. As long as its firmware
    takes to come to the network card, and shorter than an installer takes to the restart at its end."""


class NodeSettings(Section):
    """One machine."""

    id: Name
    """Its name in topics: 1-63 of a-z, 0-9 and -."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    """For people. null: the id."""
    address: Annotated[int, Field(ge=1, le=255)] | None = None
    """The target address: the number behind `ipmitool -t`. null: not reachable by bridging."""
    channel: Annotated[int, Field(ge=0, le=11)] = 0
    """The channel: the number behind `ipmitool -b`."""
    listen: Endpoint | None = None
    """A UDP address of the node's own, for clients that can't bridge."""
    agent: Name | None = None
    """The service that works its hardware. null: the usual one for the hardware's type."""
    hardware: Hardware
    """What its power is wired to, by `type`."""
    power: PowerSettings = PowerSettings()
    """How long buttons are held, and how long the machine gets to follow."""
    wake: WakeSettings | None = None
    """Wake-on-LAN, used to switch on instead of the button."""
    probe: ProbeSettings | None = None
    """Tells whether the machine is on where no LED is wired."""
    console: ConsoleSettings | None = None
    """Its serial console. null: none."""
    mac: MacAddress | None = None
    """Of the network card that boots; iPXE scripts are served by it. null: that of `wake`."""
    area: Annotated[str, StringConstraints(max_length=64)] | None = None
    """The room or rack, for Home Assistant."""
    url: Annotated[str, StringConstraints(max_length=512, pattern=r"^https?://\S+$")] | None = None
    """A page about the machine."""
    fru: FruFields = FruFields()
    """Manufacturer, product, serial numbers, asset tag."""

    @field_validator("address")
    @classmethod
    def _not_reserved(cls, value: int | None) -> int | None:
        if value == GATEWAY_ADDRESS:
            raise ValueError("32 (0x20) is the gateway itself; take another address from 1 to 255")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.hardware.type == "wol" and self.wake is None:
            raise ValueError("hardware type wol needs a wake part with the mac")
        if self.console is not None and self.console.type == "esp8266" and self.console.host is None:
            if self.hardware.type != "esp8266":
                raise ValueError("console type esp8266 needs host, or hardware type esp8266")
            if self.hardware.bridge_port is None and self.console.port is None:
                raise ValueError("console type esp8266 needs the board's bridge_port")
        return self

    @property
    def agent_name(self) -> str:
        """The service that works its hardware."""
        return self.agent or DEFAULT_AGENTS[self.hardware.type]

    @property
    def display_name(self) -> str:
        """For people."""
        return self.name or self.id

    @property
    def boot_mac(self) -> str | None:
        """MAC address of the network card that boots, lower case with colons."""
        mac = self.mac or (self.wake.mac if self.wake else None)
        return mac.replace("-", ":") if mac else None


class Fleet(Section):
    """Everything in fleet.yaml."""

    version: Literal[1] = 1
    """Of this file's form."""
    fleet: Name = "pypmi"
    """The fleet's name. GUIDs are made from it and the nodes' ids."""
    mqtt: MqttSettings = MqttSettings()
    """The broker."""
    gateway: GatewaySettings = GatewaySettings()
    """The IPMI gateway."""
    users: Annotated[tuple[UserSettings, ...], Field(max_length=63)] = ()
    """IPMI accounts. Without any, nobody can log in."""
    services: dict[Name, ServiceSettings] = Field(default_factory=dict)
    """Settings of single services, by name; `default` for those that have none."""
    homeassistant: HomeAssistantSettings = HomeAssistantSettings()
    """Home Assistant's discovery."""
    boot: BootServerSettings = BootServerSettings()
    """Network boot by boot intent."""
    nodes: Annotated[tuple[NodeSettings, ...], Field(max_length=100_000)] = ()
    """The machines."""

    def service(self, name: str) -> ServiceSettings:
        """The settings of one service."""
        return self.services.get(name) or self.services.get("default") or ServiceSettings()

    def nodes_of_agent(self, name: str) -> tuple[NodeSettings, ...]:
        """The nodes that an agent works."""
        return tuple(node for node in self.nodes if node.agent_name == name)

    def consoles_of_relay(self, name: str) -> tuple[NodeSettings, ...]:
        """The nodes whose console a relay carries."""
        return tuple(node for node in self.nodes if node.console is not None and node.console.relay == name)

    def broker_for(self, service: str) -> MqttSettings:
        """The broker's settings with `{service}` in account and secret file filled in."""
        mqtt = self.mqtt
        update: dict[str, object] = {}
        if mqtt.username is not None:
            update["username"] = mqtt.username.replace("{service}", service)
        if mqtt.password is not None and mqtt.password.file is not None:
            file = Path(str(mqtt.password.file).replace("{service}", service))
            update["password"] = mqtt.password.model_copy(update={"file": file})
        return mqtt.model_copy(update=update) if update else mqtt
