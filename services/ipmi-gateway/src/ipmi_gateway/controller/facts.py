"""What a controller says of itself and its surroundings, as configured or counted elsewhere; and numbers for it."""

from dataclasses import dataclass
from importlib.metadata import version

from ipmi_gateway.codes import LAN_CHANNEL, Privilege


class RestartCause:
    """System restart causes (table 28-11)."""

    UNKNOWN = 0x0
    CHASSIS_CONTROL = 0x1
    POWER_BUTTON = 0x3
    WATCHDOG = 0x4


class Support:
    """Additional device support bits of Get Device ID (table 20-2)."""

    SENSOR = 0x01
    SDR = 0x02
    SEL = 0x04
    FRU = 0x08
    EVENT_RECEIVER = 0x10
    BRIDGE = 0x40
    CHASSIS = 0x80
    NODE = SENSOR | SDR | SEL | FRU | EVENT_RECEIVER | CHASSIS


@dataclass(frozen=True, slots=True)
class Identity:
    """What controllers say of themselves in Get Device ID (section 20.1)."""

    manufacturer: int = 0
    """IANA enterprise number, 20 bits; 0: unspecified."""
    product: int = 0x5049
    firmware: str = version("pypmi-ipmi-gateway")
    """`major.minor.patch`; major up to 127, minor up to 99."""


@dataclass(frozen=True, slots=True)
class LanFacts:
    """What Get LAN Configuration Parameters (section 23.2) tells of the network side. Nothing of it can be set."""

    address: str = "0.0.0.0"
    """IPv4; all zeros where there is none or it is not known."""
    netmask: str = "0.0.0.0"
    gateway: str = "0.0.0.0"
    mac: bytes = bytes(6)
    port: int = 623
    """That clients use."""
    vlan: int | None = None
    ipv6_address: str | None = None
    suites: tuple[int, ...] = (17, 3)
    kg: bool = False
    """Whether a BMC key is set."""
    privilege_limit: Privilege = Privilege.ADMINISTRATOR
    channel: int = LAN_CHANNEL


@dataclass(frozen=True, slots=True)
class PacketCounts:
    """Datagrams since the gateway's start."""

    received: int = 0
    valid: int = 0
    """Of those received, the ones that were RMCP."""
    sent: int = 0
