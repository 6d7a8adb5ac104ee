"""What is said of a program on the bus."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from pypmi.contract.base import CONTRACT_VERSION, Payload, ShortText, Timestamp


class ServiceKind(StrEnum):
    """The programs there are."""

    GATEWAY = "ipmi-gateway"
    ESP8266_AGENT = "esp8266-agent"
    RPI_GPIO_AGENT = "rpi-gpio-agent"
    BMC_AGENT = "bmc-agent"
    SOL_RELAY = "sol-relay"
    SIMULATOR = "simulator"
    TOOL = "tool"


class ServiceStats(Payload):
    """Numbers of a service that change. Retained, at most every few seconds; null where they mean nothing."""

    sessions: int | None = None
    """IPMI sessions that are open."""
    consoles: int | None = None
    """Consoles that are open."""
    nodes_online: int | None = None
    """Nodes that commands can reach."""
    epoch: ShortText
    """Of the service's start."""


class ServiceInfo(Payload):
    """Who is on the bus. Retained."""

    kind: ServiceKind
    """Which program it is."""
    version: ShortText
    """Of the program."""
    contract: int = CONTRACT_VERSION
    """Version of the contract that it speaks."""
    host: ShortText
    """The machine's host name."""
    started: Timestamp
    """When it started."""
    nodes: Annotated[tuple[ShortText, ...], Field(max_length=20_000)] = ()
    """Ids of the nodes that it serves."""
    epoch: ShortText
    """Random, new at each start."""
    url: Annotated[str, StringConstraints(max_length=512)] | None = None
    """A page about the service."""
    contract_seen: int = CONTRACT_VERSION
    """The newest contract that this service has seen another one speak: newer than `contract` asks for an update."""
