"""Find relay boards and BMCs on a network, with questions that change nothing."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from esp8266_agent.client import CommandLink, LinkError
from esp8266_agent.protocol import IDENTIFICATION, UNSET, ReplyError
from esp8266_agent.session import detect_era
from pypmi.config.fleet import GATEWAY_ADDRESS, REMOTE_CONSOLE_ADDRESS, Fleet
from pypmi.config.hardware import BmcHardware, Esp8266Hardware

from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.rmcp import is_pong, presence_ping

MAX_ADDRESSES = 65_536
_PING_ROUNDS, _PINGS_AT_ONCE = 2, 256
_RANGE = re.compile(r"((?:[0-9]{1,3}\.){3})([0-9]{1,3})-([0-9]{1,3})")
_NOT_IN_ID = re.compile(r"[^a-z0-9-]+")


class Kind(StrEnum):
    """What was found."""

    BOARD = "esp8266"
    BMC = "bmc"


@dataclass(frozen=True, slots=True)
class Found:
    """One thing on the network."""

    kind: Kind
    host: str
    port: int
    name: str | None = None
    """What a board says that it is; None when it has no name."""
    firmware: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "type": self.kind.value, "host": self.host, "port": self.port, "identification": self.name,
            "firmware": self.firmware or None,
        }  # fmt: skip


def addresses_of(targets: Iterable[str]) -> list[str]:
    """All addresses that the words mean: `192.0.2.0/24`, `192.0.2.10-50`, `192.0.2.7`, a name. Raises `ToolError`."""
    found: dict[str, None] = {}
    for word in targets:
        for address in _addresses(word):
            found[address] = None
            if len(found) > MAX_ADDRESSES:
                raise ToolError(f"more than {MAX_ADDRESSES} addresses; scan a smaller network", Exit.USAGE)
    return list(found)


def _addresses(word: str) -> Iterable[str]:
    match = _RANGE.fullmatch(word)
    if match is not None:
        first, last = int(match[2]), int(match[3])
        if not first <= last <= 255:
            raise ToolError(f"{word}: a range goes up, as in 192.0.2.10-50", Exit.USAGE)
        return [str(ipaddress.ip_address(f"{match[1]}{number}")) for number in range(first, last + 1)]
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        try:
            return [str(socket.getaddrinfo(word, None, type=socket.SOCK_STREAM)[0][4][0])]
        except OSError:
            raise ToolError(
                f"{word}: give a network (192.0.2.0/24), a range (192.0.2.10-50), an address or a name", Exit.USAGE
            ) from None
    if network.num_addresses > MAX_ADDRESSES:
        raise ToolError(f"{word} has more than {MAX_ADDRESSES} addresses; scan a smaller network", Exit.USAGE)
    return map(str, network.hosts())


async def find_boards(
    addresses: list[str], port: int, *, timeout: float, parallel: int, known: frozenset[tuple[str, int]]
) -> list[Found]:
    """Boards whose command port is at `port`. Those in `known` are left alone: a connection would end their agent's."""
    limit = asyncio.Semaphore(parallel)

    async def look(host: str) -> Found | None:
        async with limit:
            return None if (host, port) in known else await _look_at(host, port, timeout)

    found = await asyncio.gather(*(look(host) for host in addresses))
    return [board for board in found if board is not None]


async def _look_at(host: str, port: int, timeout: float) -> Found | None:
    try:
        link = await CommandLink.open(host, port, connect_timeout=timeout, command_timeout=max(timeout, 2.0))
    except LinkError:
        return None
    try:
        await link.resync()
        name = await link.ask(IDENTIFICATION)
        era = await detect_era(link)
    except (LinkError, ReplyError):
        return None
    finally:
        link.abort("looked at")
    return Found(Kind.BOARD, host, port, None if name == UNSET else name, f"Universal I/O bridge {era}")


class _Pongs(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.hosts: dict[str, None] = {}

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if is_pong(data):
            self.hosts[addr[0]] = None


async def find_bmcs(addresses: list[str], port: int, *, timeout: float) -> list[Found]:
    """BMCs that answer an RMCP presence ping at UDP `port` (IPMI 2.0 section 13.2.3)."""
    loop = asyncio.get_running_loop()
    found: dict[str, None] = {}
    for version, bind in ((4, "0.0.0.0"), (6, "::")):
        ours = [address for address in addresses if ipaddress.ip_address(address).version == version]
        if not ours:
            continue
        transport, pongs = await loop.create_datagram_endpoint(_Pongs, local_addr=(bind, 0))
        try:
            for _ in range(_PING_ROUNDS):
                for start in range(0, len(ours), _PINGS_AT_ONCE):
                    for address in ours[start : start + _PINGS_AT_ONCE]:
                        if address not in pongs.hosts:
                            transport.sendto(presence_ping(), (address, port))
                    await asyncio.sleep(0.05)
                await asyncio.sleep(timeout)
        finally:
            transport.close()
        found |= pongs.hosts
    return [Found(Kind.BMC, address, port) for address in addresses if address in found]


async def known_places(fleet: Fleet | None) -> frozenset[tuple[str, int]]:
    """Addresses and ports of the hardware that is in the fleet already."""
    loop = asyncio.get_running_loop()
    places: set[tuple[str, int]] = set()

    async def add(host: str, port: int, kind: socket.SocketKind) -> None:
        try:
            found = await loop.getaddrinfo(host, port, type=kind)
        except OSError:
            return
        places.update((str(item[4][0]), port) for item in found)

    wanted = []
    for node in fleet.nodes if fleet is not None else ():
        if isinstance(node.hardware, Esp8266Hardware):
            wanted.append(add(node.hardware.host, node.hardware.port, socket.SOCK_STREAM))
        elif isinstance(node.hardware, BmcHardware):
            wanted.append(add(node.hardware.host, node.hardware.port, socket.SOCK_DGRAM))
    await asyncio.gather(*wanted)
    return frozenset(places)


def fleet_part(found: list[Found], fleet: Fleet | None, user: str) -> list[dict[str, Any]]:
    """Entries for `nodes` in fleet.yaml: ids and addresses that are free, and the board's name to be sure of it."""
    ids = {node.id for node in fleet.nodes} if fleet is not None else set()
    used = {node.address for node in fleet.nodes if node.channel == 0} if fleet is not None else set()
    free = iter(
        number for number in range(1, 256) if number not in used | {GATEWAY_ADDRESS, REMOTE_CONSOLE_ADDRESS}
    )  # fmt: skip
    entries = []
    for item in found:
        node_id = _free_id(item, ids)
        ids.add(node_id)
        entry: dict[str, Any] = {"id": node_id}
        address = next(free, None)
        if address is not None:
            entry["address"] = address
        hardware: dict[str, Any] = {"type": item.kind.value, "host": item.host}
        if item.kind is Kind.BOARD:
            if item.port != Esp8266Hardware.model_fields["port"].default:
                hardware["port"] = item.port
            if item.name is not None:
                hardware["identification"] = item.name
        else:
            if item.port != BmcHardware.model_fields["port"].default:
                hardware["port"] = item.port
            hardware |= {"user": user, "password": {"file": f"secrets/bmc/{node_id}"}}
        entries.append({**entry, "hardware": hardware})
    return entries


def _free_id(item: Found, ids: set[str]) -> str:
    kind = "board" if item.kind is Kind.BOARD else "bmc"
    wished = _NOT_IN_ID.sub("-", (item.name or "").lower()).strip("-")[:55]
    name = wished or f"{kind}-{_NOT_IN_ID.sub('-', item.host.lower()).strip('-')}"[:55]
    number, node_id = 1, name
    while node_id in ids:
        number += 1
        node_id = f"{name}-{number}"
    return node_id
