"""The IPMI gateway, as a client sees it: does it answer, which suites, can one log in, does it reach the nodes."""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from pypmi.config.fleet import UserSettings
from pypmi.config.load import LoadedFleet
from pypmi.config.secrets import SecretError
from pypmi.contract import ServiceInfo, ServiceKind

from pypmi_cli.doctor.findings import Link, Report
from pypmi_cli.rmcp import (
    NO_SUITE,
    SUITES,
    UNAUTHORIZED_ROLE,
    CompletionError,
    LoginRefusedError,
    LoginStep,
    NoAnswerError,
    Privilege,
    RmcpClient,
    RmcpError,
)

_LOOPBACK = "127.0.0.1"
_MAX_USERS, _MAX_NODES = 5, 20
_UNREACHABLE, _NOT_ALLOWED, _UNKNOWN_POWER = 0xD3, 0xD4, 0xD5


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What was said about the gateway on the command line."""

    address: str | None = None
    """HOST or HOST:PORT; None: from fleet.yaml."""
    user: str | None = None
    password_file: Path | None = None


def gateway_places(
    options: GatewayOptions, loaded: LoadedFleet | None, services: list[ServiceInfo]
) -> list[tuple[str, int]]:
    """Where the gateway may be: as given, or fleet.yaml's addresses seen from here."""
    if options.address is not None:
        host, _, port = options.address.rpartition(":")
        if host and port.isdigit() and (host.count(":") == 0 or host.startswith("[")):
            return [(host.strip("[]"), int(port))]
        return [(options.address.strip("[]"), 623)]
    if loaded is None:
        return []
    hosts = [info.host for info in services if info.kind is ServiceKind.GATEWAY]
    elsewhere = [host for host in hosts if host != socket.gethostname()]
    places = []
    for listen in loaded.fleet.gateway.listen:
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        if _is_wildcard(host):
            host = elsewhere[0] if elsewhere else _LOOPBACK
        places.append((host, int(port)))
    return places


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
    for host, port in places:
        await _one(report, options, loaded, (host, port), nodes, known_good)


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
    for account in _accounts(report, options, loaded):
        await _log_in(report, account, place, suite, loaded, nodes, known_good)


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


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    password: str
    privilege: Privilege
    settings: UserSettings | None
    kg: bytes


def _accounts(report: Report, options: GatewayOptions, loaded: LoadedFleet | None) -> list[_Account]:
    kg = _kg(loaded)
    if options.user is not None:
        if options.password_file is None:
            report.note(Link.IPMI_LOGIN, "no-password", "no login tried", "give --ipmi-password-file too")
            return []
        try:
            password = options.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            report.fault(
                Link.IPMI_LOGIN,
                "secret-unreadable",
                f"cannot read {options.password_file}: {error}",
                "correct the path",
            )
            return []
        named = [user for user in loaded.fleet.users if user.name == options.user] if loaded else []
        privilege = Privilege[named[0].privilege.upper()] if named else Privilege.ADMINISTRATOR
        return [_Account(options.user, password, privilege, named[0] if named else None, kg)]
    if loaded is None:
        return []
    if not loaded.fleet.users:
        report.fault(
            Link.IPMI_LOGIN, "no-users", "fleet.yaml has no users: nobody can log in to the gateway",
            "add users with a name and a password file, then `pypmi init`",
        )  # fmt: skip
    found = []
    for user in loaded.fleet.users[:_MAX_USERS]:
        try:
            password = user.password.read(loaded.base)
        except SecretError as error:
            report.fault(
                Link.IPMI_LOGIN, "secret-unreadable", f"the password of {user.name}: {error}",
                "`pypmi init` makes one that is missing",
            )  # fmt: skip
            continue
        if len(password.encode()) > 20:
            report.fault(
                Link.IPMI_LOGIN, "password-length", f"the password of {user.name} is longer than 20 octets",
                "IPMI takes 20 at the most: shorten it",
            )  # fmt: skip
            continue
        found.append(_Account(user.name, password, Privilege[user.privilege.upper()], user, kg))
    return found


def _kg(loaded: LoadedFleet | None) -> bytes:
    if loaded is None or loaded.fleet.gateway.kg is None:
        return b""
    try:
        text = loaded.fleet.gateway.kg.read(loaded.base)
    except SecretError:
        return b""
    if text.lower().startswith("0x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError:
            return b""
    return text.encode()


async def _log_in(
    report: Report,
    account: _Account,
    place: tuple[str, int],
    suite: int,
    loaded: LoadedFleet | None,
    nodes: list[str],
    known_good: bool,
) -> None:
    client = await RmcpClient.open(*place)
    try:
        await client.login(account.name, account.password, privilege=account.privilege, suite=suite, kg=account.kg)
    except LoginRefusedError as error:
        _explain_login(report, account, error)
    except RmcpError as error:
        report.fault(
            Link.IPMI_LOGIN, "login", f"the login of {account.name} ended without an answer: {error}",
            "does the network lose packets? Else the gateway's log has the reason",
        )  # fmt: skip
    else:
        level = account.privilege.name.lower()
        report.ok(Link.IPMI_LOGIN, f"{account.name} can log in as {level} with cipher suite {suite}")
        await _bridge(report, client, account, loaded, nodes, known_good)
        await client.logout()
    finally:
        client.close()


def _explain_login(report: Report, account: _Account, error: LoginRefusedError) -> None:
    if error.status == UNAUTHORIZED_ROLE:
        code, fix = "ipmi-privilege", f"ask for less (-L), or raise users[].privilege of {account.name}"
    elif error.status == NO_SUITE:
        code, fix = "cipher-suites", "set gateway.cipher_suites to [17, 3], or use -C with what it offers"
    elif error.step is LoginStep.PASSWORD:
        code = "ipmi-password"
        fix = (
            f"use the password in the file of {account.name} (users[].password); if that was changed, have the gateway"
            " read it: SIGHUP or restart"
        )
    elif error.step is LoginStep.USER:
        code = "ipmi-user"
        fix = f"correct the name, or add {account.name} to users in fleet.yaml and have the gateway read it"
    else:
        code, fix = "ipmi-session", "the gateway's log has the reason (gateway.max_sessions?)"
    report.fault(Link.IPMI_LOGIN, code, f"the gateway refuses the login of {account.name}: {error}", fix)


async def _bridge(
    report: Report,
    client: RmcpClient,
    account: _Account,
    loaded: LoadedFleet | None,
    nodes: list[str],
    known_good: bool,
) -> None:
    if loaded is None:
        return
    chosen = [node for node in loaded.fleet.nodes if node.id in nodes and node.address is not None][:_MAX_NODES]
    reached = 0
    for node in chosen:
        place = f"-b {node.channel} -t {node.address}" if node.channel else f"-t {node.address}"
        if account.settings is not None and not account.settings.may_reach(node.id):
            report.note(
                Link.BRIDGE,
                "not-in-list",
                f"{account.name} may not reach {node.id}: it is not in its `nodes`",
                node=node.id,
            )
            continue
        try:
            await client.chassis_power(node.channel, node.address or 0)
        except CompletionError as error:
            _explain_code(report, node.id, place, account.name, error, known_good)
        except NoAnswerError:
            report.fault(
                Link.BRIDGE, "bridge-silent", f"the gateway does not answer for {node.id} ({place})",
                "look at the gateway's log", node.id,
            )  # fmt: skip
        else:
            reached += 1
    if reached:
        report.ok(Link.BRIDGE, f"the gateway reaches {reached} of {len(chosen)} nodes")


def _explain_code(
    report: Report, node_id: str, place: str, user: str, error: CompletionError, known_good: bool
) -> None:
    if error.code == _UNREACHABLE and not known_good:
        report.note(
            Link.BRIDGE, "bridge-unreachable", f"the gateway can't reach {node_id} either ({place})", node=node_id
        )
    elif error.code == _UNREACHABLE:
        report.fault(
            Link.BRIDGE, "bridge-unreachable", f"the gateway has nobody to ask for {node_id} ({place})",
            "if the node is well above: the gateway works with an older fleet.yaml, or uses another broker;"
            " restart it, and look at its log", node_id,
        )  # fmt: skip
    elif error.code == _NOT_ALLOWED:
        report.fault(
            Link.BRIDGE, "bridge-refused", f"the gateway does not let {user} reach {node_id} ({place})",
            f"add {node_id} to users[].nodes of {user}, and have the gateway read it", node_id,
        )  # fmt: skip
    elif error.code == _UNKNOWN_POWER:
        report.warn(
            Link.BRIDGE, "bridge-unknown", f"the gateway can't tell the power of {node_id}: it is unknown",
            "see what is said of its status above", node_id,
        )  # fmt: skip
    else:
        report.fault(
            Link.BRIDGE, "bridge-error", f"the gateway answers for {node_id} ({place}): {error}",
            "docs/integrations/ipmitool.md lists the codes", node_id,
        )  # fmt: skip
