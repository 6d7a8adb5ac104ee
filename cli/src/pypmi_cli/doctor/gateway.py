"""The IPMI gateway, as a client sees it: where it is, does it answer, which cipher suites; then the logins."""

import ipaddress
import socket
from dataclasses import dataclass

from pypmi.config.load import LoadedFleet
from pypmi.contract import ServiceInfo, ServiceKind

from pypmi_cli.doctor.findings import Link, Report
from pypmi_cli.doctor.login import GatewayOptions, accounts_to_try, examine_login
from pypmi_cli.rmcp import (
    SUITES,
    RmcpClient,
    RmcpError,
)

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway is."""

    hosts: tuple[str, ...]
    """Only one where it is sure; else those that it may be at, to be tried in this order."""
    port: int


def gateway_places(options: GatewayOptions, loaded: LoadedFleet | None, services: list[ServiceInfo]) -> list[Place]:
    """Where the gateway may be: as given, or fleet.yaml's addresses seen from here.

    A gateway on all addresses of its machine is at that machine; in a container its name says nothing to us.
    """
    if options.address is not None:
        host, _, port = options.address.rpartition(":")
        if host and port.isdigit() and (host.count(":") == 0 or host.startswith("[")):
            return [Place((host.strip("[]"),), int(port))]
        return [Place((options.address.strip("[]"),), 623)]
    if loaded is None:
        return []
    on = [info.host for info in services if info.kind is ServiceKind.GATEWAY]
    guesses = tuple(dict.fromkeys([*on, _LOOPBACK, loaded.fleet.mqtt.host]))
    places = []
    for listen in loaded.fleet.gateway.listen:
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        if not _is_wildcard(host):
            places.append(Place((host,), int(port)))
        else:
            places.append(Place((_LOOPBACK,) if on == [socket.gethostname()] else guesses, int(port)))
    return places


async def _find(report: Report, place: Place, *, announced: bool | None) -> str | None:
    """The host that answers at a place that is not sure; says so where none does. `announced`: None where not known."""
    for host in place.hosts:
        try:
            client = await RmcpClient.open(host, place.port, timeout=0.5)
        except RmcpError:
            continue
        try:
            if await client.ping():
                return host
        except RmcpError:
            continue
        finally:
            client.close()
    tried = f"no gateway answers at UDP port {place.port} of {', '.join(place.hosts)}"
    if announced is False:
        report.fault(
            Link.GATEWAY, "gateway-down", f"{tried}, and none is on the broker",
            "start ipmi-gateway; its log says why it does not come (its port taken? a port below 1024 takes a right)",
        )  # fmt: skip
    else:
        report.note(Link.GATEWAY, "gateway-not-found", tried, "say where it is: --gateway HOST[:PORT]")
    return None


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


async def examine_gateway(
    report: Report,
    options: GatewayOptions,
    loaded: LoadedFleet | None,
    services: list[ServiceInfo],
    nodes: list[str],
    *,
    known_good: bool,
) -> None:
    """Look at the gateway and at what it reaches.

    `known_good`: these nodes were seen to be well; otherwise it is worth knowing whether the gateway reaches them, and
    no fault of the gateway's when it does not.
    """
    places = gateway_places(options, loaded, services)
    if not places:
        report.note(
            Link.GATEWAY, "gateway-not-tried", "no address of the gateway is known here", "give --gateway HOST[:PORT]"
        )
        return
    announced = any(info.kind is ServiceKind.GATEWAY for info in services) if known_good else None
    for place in places:
        host: str | None = place.hosts[0]
        if len(place.hosts) > 1:
            host = await _find(report, place, announced=announced)
        if host is not None:
            await _one(report, options, loaded, (host, place.port), nodes, known_good)


async def _one(
    report: Report,
    options: GatewayOptions,
    loaded: LoadedFleet | None,
    place: tuple[str, int],
    nodes: list[str],
    known_good: bool,
) -> None:
    host, port = place
    try:
        client = await RmcpClient.open(host, port)
    except RmcpError as error:
        report.fault(
            Link.GATEWAY, "gateway-address", f"the gateway's address is not known here: {error}",
            "give --gateway HOST[:PORT], or correct gateway.listen",
        )  # fmt: skip
        return
    try:
        if not await _answers(report, client, host, port):
            return
        suite = await _suites(report, client, loaded, f"{host}:{port}")
    finally:
        client.close()
    logged_in = False
    for account in accounts_to_try(report, options, loaded):
        logged_in |= await examine_login(
            report, account, place, suite, loaded, nodes, known_good, look_at_clock=not logged_in
        )


async def _answers(report: Report, client: RmcpClient, host: str, port: int) -> bool:
    where = f"UDP port {port} of {host}"
    try:
        answered = await client.ping()
    except RmcpError as error:
        report.fault(
            Link.GATEWAY, "gateway-down", f"no gateway at {where}: {error}",
            "start ipmi-gateway there; its log says when its port is taken (`ss -ulnp`) or needs a right (ports below"
            " 1024: AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        )  # fmt: skip
        return False
    if not answered:
        report.fault(
            Link.GATEWAY, "gateway-silent", f"nothing answers an RMCP ping at {where}",
            "is the address right, does a firewall let this UDP port through, does another program hold the port"
            " (`ss -ulnp` on its machine)?",
        )  # fmt: skip
        return False
    report.ok(Link.GATEWAY, f"the gateway answers at {where}")
    return True


async def _suites(report: Report, client: RmcpClient, loaded: LoadedFleet | None, where: str) -> int:
    try:
        offered = await client.cipher_suites()
        modern = await client.speaks_ipmi_2()
    except RmcpError as error:
        report.fault(
            Link.GATEWAY, "gateway-answers", f"what answers at {where} does not talk IPMI 2.0: {error}",
            "is it pypmi's gateway, or another BMC? Correct the address",
        )  # fmt: skip
        return 17
    known = [suite for suite in offered if suite in SUITES]
    wanted = loaded.fleet.gateway.cipher_suites if loaded is not None else ()
    if not modern or not known:
        report.fault(
            Link.GATEWAY, "cipher-suites",
            f"{where} offers cipher suites {_words(offered)}, none that clients here use",
            "set gateway.cipher_suites to [17, 3]",
        )  # fmt: skip
    elif wanted and set(wanted) != set(offered):
        report.warn(
            Link.GATEWAY, "other-suites",
            f"{where} offers cipher suites {_words(offered)}, fleet.yaml says {_words(wanted)}",
            "have the gateway read the present fleet.yaml; or is another one answering?",
        )  # fmt: skip
    else:
        report.ok(Link.GATEWAY, f"cipher suites {_words(offered)}")
    return 17 if 17 in known or not known else known[0]


def _words(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers)) or "none"
