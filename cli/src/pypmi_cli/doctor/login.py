"""Logins to the gateway, and what can be reached through it: with the accounts of fleet.yaml, or one that was named."""

import time
from dataclasses import dataclass
from pathlib import Path

from pypmi.config.fleet import UserSettings
from pypmi.config.load import LoadedFleet
from pypmi.config.secrets import SecretError

from pypmi_cli.doctor.findings import Link, Report, clock_differs
from pypmi_cli.rmcp import (
    NO_SUITE,
    UNAUTHORIZED_ROLE,
    CompletionError,
    LoginRefusedError,
    LoginStep,
    NoAnswerError,
    Privilege,
    RmcpClient,
    RmcpError,
)

_MAX_USERS, _MAX_NODES = 5, 20
_CLOCK_FAULT = 3.0
"""Seconds by which the gateway's clock may differ: its commands live for 3.5 s, and the clock is read in seconds."""
_UNREACHABLE, _NOT_ALLOWED, _UNKNOWN_POWER = 0xD3, 0xD4, 0xD5


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What was said about the gateway on the command line."""

    address: str | None = None
    """HOST or HOST:PORT; None: from fleet.yaml."""
    user: str | None = None
    password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An IPMI account to try."""

    name: str
    password: str
    privilege: Privilege
    settings: UserSettings | None
    kg: bytes


def accounts_to_try(report: Report, options: GatewayOptions, loaded: LoadedFleet | None) -> list[Account]:
    """The account that was named, or those of fleet.yaml whose password can be read here; says which can't."""
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
        return [Account(options.user, password, privilege, named[0] if named else None, kg)]
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
        found.append(Account(user.name, password, Privilege[user.privilege.upper()], user, kg))
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


async def examine_login(
    report: Report,
    account: Account,
    place: tuple[str, int],
    suite: int,
    loaded: LoadedFleet | None,
    nodes: list[str],
    known_good: bool,
    look_at_clock: bool,
) -> bool:
    """Log in at `place` with a cipher suite, read the power of nodes through the session, and log out.

    Tells whether the login went well; the gateway's clock has been looked at then.
    """
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
        if look_at_clock:
            await _clock(report, client)
        await _bridge(report, client, account, loaded, nodes, known_good)
        await client.logout()
        return True
    finally:
        client.close()
    return False


async def _clock(report: Report, client: RmcpClient) -> None:
    """Agents refuse the commands of a gateway whose clock is wrong: they look old, or not issued yet."""
    try:
        ahead = await client.log_time() - time.time()
    except RmcpError:
        return  # that it does not answer is found by what is asked next
    if abs(ahead) <= _CLOCK_FAULT:
        report.ok(Link.CLOCK, "the clocks of the gateway and of this machine agree")
        return
    report.fault(
        Link.CLOCK, "gateway-clock",
        f"{clock_differs('the gateway', ahead)}: agents refuse its commands as late or too early",
        "run NTP on both: `timedatectl` shows whether it is synchronised. Or was only the event log's clock set"
        " (`ipmitool sel time get`)? `ipmitool sel time set now` sets it right",
    )  # fmt: skip


def _explain_login(report: Report, account: Account, error: LoginRefusedError) -> None:
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
    account: Account,
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
