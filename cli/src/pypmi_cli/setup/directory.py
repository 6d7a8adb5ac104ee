"""A fleet directory: fleet.yaml, secrets, certificates and the broker's configuration, made whole and kept whole.

    fleet.yaml          what there is; edited by people
    secrets/mqtt/       the services' passwords at the broker, each in a file of its own, for its owner only
    secrets/ipmi/       the IPMI accounts' passwords
    secrets/ca.key      the certificate authority's key; may be moved off the machine
    tls/ca.crt          the certificate authority, for everybody who connects to the broker
    mosquitto/          all that the broker needs: configuration, certificate, password file, access rules
    state/              what services keep: journals, event logs, console logs
    .env                for Docker Compose

`prepare` may be run again at any time: it adds what is missing, makes the broker's files anew from fleet.yaml, and
never changes a secret that is there.
"""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from pypmi.config.document import ConfigError
from pypmi.config.load import LoadedFleet, load_fleet

from pypmi_cli.setup import pki
from pypmi_cli.setup.accounts import (
    HOME_ASSISTANT,
    IPMI_PASSWORD_LENGTH,
    OPERATOR,
    keep_secret,
    mosquitto_hash,
    random_password,
    service_accounts,
)
from pypmi_cli.setup.acl import access_rules

ALWAYS_NAMES = ("localhost", "127.0.0.1", "::1", "mosquitto")
"""Names that the broker's certificate is for in any case; `mosquitto` is the Compose service's."""
MQTTS_PORT = 8883
CONTAINER_USER = 10_001
"""User and group of the images, for a fleet directory that root made."""
COMPOSE_SERVICES = ("ipmi-gateway", "esp8266-agent", "sol-relay", "rpi-gpio-agent", "bmc-agent")
"""Those of docker-compose.yml: each has a volume in `state/`, also while its profile is not in use."""

_STARTER = """\
# The fleet: see docs/configuration.md. `pypmi check` says what is wrong with it.
version: 1
fleet: {fleet}

mqtt:
  url: mqtts://{host}:{port}
  ca_file: tls/ca.crt
  username: "{{service}}"
  password: {{file: "secrets/mqtt/{{service}}"}}

gateway:
  listen: ["{listen}"]

users:
  - name: admin
    password: {{file: secrets/ipmi/admin}}
    privilege: administrator

defaults:
  hardware: {{type: esp8266}}

nodes:
  # One entry for each machine: the number behind `ipmitool -t`, and the relay board on its power button.
  # Many alike: id: node[1-30], address: "{{n}}", hardware: {{host: "relay-{{n}}.lan"}}
  - id: node1
    address: 1
    hardware:
      host: 192.0.2.11
    # console: {{type: esp8266}}
"""


_FOLDERS = ("secrets/mqtt", "secrets/ipmi", "secrets/bmc", "tls", "mosquitto", "state/mosquitto")
HEALTH_CHECK = "healthcheck"
"""The broker's own account, with which its container asks whether it serves."""


class InitError(Exception):
    """A fleet directory can't be made; the text says why and what helps."""


@dataclass(slots=True)
class Report:
    """What `prepare` did, for people."""

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    ipmi_users: list[tuple[str, Path]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What `pypmi init` takes."""

    directory: Path
    fleet: str = "pypmi"
    hosts: tuple[str, ...] = ()
    """Further names and addresses of the broker, for its certificate."""
    listen: str = "[::]:623"
    gateways: tuple[str, ...] = ("ipmi-gateway",)


def prepare(options: InitOptions) -> Report:
    """Make or complete a fleet directory. Raises `InitError` or `ConfigError`."""
    report = Report()
    directory = options.directory
    try:
        for name in _FOLDERS:
            (directory / name).mkdir(parents=True, exist_ok=True)
        for name in ("secrets", "secrets/mqtt", "secrets/ipmi", "secrets/bmc", "mosquitto", "state"):
            (directory / name).chmod(0o700)
        _keep_out_of_git(directory)
        _write_starter(options, report)
        loaded = load_fleet(directory / "fleet.yaml")
        _make_certificates(options, loaded, report)
        _make_ipmi_passwords(loaded, report)
        _make_broker_files(options, loaded, report)
        _write_env(options, report)
        if os.getuid() == 0:
            _give_away(directory, CONTAINER_USER)
    except OSError as error:
        raise InitError(f"cannot write {error.filename or directory}: {error.strerror}") from None
    return report


def _keep_out_of_git(directory: Path) -> None:
    """Nothing in here belongs into a repository but fleet.yaml."""
    ignore = directory / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n!.gitignore\n!fleet.yaml\n")


def _write_starter(options: InitOptions, report: Report) -> None:
    path = options.directory / "fleet.yaml"
    if path.exists():
        report.kept.append("fleet.yaml")
        return
    path.write_text(
        _STARTER.format(fleet=options.fleet, host="localhost", port=MQTTS_PORT, listen=options.listen), encoding="utf-8"
    )
    report.made.append("fleet.yaml (a starter: put your machines in)")


def _make_certificates(options: InitOptions, loaded: LoadedFleet, report: Report) -> None:
    tls, secrets = options.directory / "tls", options.directory / "secrets"
    ca, ca_key = tls / "ca.crt", secrets / "ca.key"
    certificate, key = options.directory / "mosquitto" / "broker.crt", options.directory / "mosquitto" / "broker.key"
    if not ca.exists():
        pki.make_ca(loaded.fleet.fleet, ca, ca_key)
        report.made.append("tls/ca.crt (the fleet's certificate authority)")
    else:
        report.kept.append("tls/ca.crt")
    own = loaded.fleet.mqtt.host
    names = list(dict.fromkeys([*ALWAYS_NAMES, socket.gethostname(), own, *options.hosts]))
    if certificate.exists() and not pki.needs_renewal(certificate) and pki.names_of(certificate) >= set(names):
        report.kept.append("mosquitto/broker.crt")
        return
    if certificate.exists():
        names = list(dict.fromkeys([*names, *sorted(pki.names_of(certificate))]))
    if not ca_key.exists():
        raise InitError("secrets/ca.key is not here, and the broker's certificate must be made: put it back for now")
    pki.make_server_certificate(ca, ca_key, names, certificate, key)
    report.made.append(f"mosquitto/broker.crt for {', '.join(names)}")


def _make_ipmi_passwords(loaded: LoadedFleet, report: Report) -> None:
    for user in loaded.fleet.users:
        if user.password.file is None:
            continue
        path = user.password.file if user.password.file.is_absolute() else loaded.base / user.password.file
        path.parent.mkdir(parents=True, exist_ok=True)
        (report.kept if path.exists() else report.made).append(f"{user.password.file} (IPMI password of {user.name})")
        keep_secret(path, random_password(IPMI_PASSWORD_LENGTH))
        report.ipmi_users.append((user.name, path))


def _make_broker_files(options: InitOptions, loaded: LoadedFleet, report: Report) -> None:
    secrets, mosquitto = options.directory / "secrets" / "mqtt", options.directory / "mosquitto"
    services = service_accounts(loaded.fleet, options.gateways)
    accounts = [*services, OPERATOR, HOME_ASSISTANT, HEALTH_CHECK]
    for service in dict.fromkeys([*services, *COMPOSE_SERVICES]):
        (options.directory / "state" / service).mkdir(exist_ok=True)
    hashes = _known_hashes(mosquitto / "passwords")
    lines = []
    for account in accounts:
        path = secrets / account if account != HEALTH_CHECK else mosquitto / "healthcheck-password"
        fresh = not path.exists()
        password = keep_secret(path)
        if fresh or account not in hashes:
            hashes[account] = mosquitto_hash(password)
        lines.append(f"{account}:{hashes[account]}")
    passwords = mosquitto / "passwords"
    passwords.touch(mode=0o600)
    passwords.chmod(0o600)
    passwords.write_text("\n".join(lines) + "\n")
    rules = mosquitto / "acl"
    rules.touch(mode=0o600)
    rules.chmod(0o600)
    rules.write_text(access_rules(loaded.fleet, options.gateways))
    (mosquitto / "ca.crt").write_bytes((options.directory / "tls" / "ca.crt").read_bytes())
    (mosquitto / "mosquitto.conf").write_text(mosquitto_conf("/mosquitto/config", "/mosquitto/data"))
    report.made.append(f"mosquitto/ (configuration, {len(accounts)} accounts, access rules)")


def _known_hashes(path: Path) -> dict[str, str]:
    """Hashes as they are: made anew they would differ at each run, and the broker would have to reload for nothing."""
    if not path.exists():
        return {}
    return dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)


def mosquitto_conf(config: str, data: str | None, *, listener: str = str(MQTTS_PORT), user: str | None = None) -> str:
    """Mosquitto's configuration: TLS only, accounts only.

    `config` is the folder where it finds its files (in a container another than here), `data` the one for retained
    messages; without it they are lost with the broker, and published again by the services.
    """
    lines = [
        "# Made by `pypmi init`.",
        "per_listener_settings false",
        "allow_anonymous false",
        f"password_file {config}/passwords",
        f"acl_file {config}/acl",
        f"listener {listener}",
        f"cafile {config}/ca.crt",
        f"certfile {config}/broker.crt",
        f"keyfile {config}/broker.key",
        "tls_version tlsv1.2",
        # a fleet's retained messages come in one burst at a gateway's start
        "max_queued_messages 200000",
        "max_packet_size 1114112",
        # without it Nagle and delayed acknowledgement cost 40 ms a message
        "set_tcp_nodelay true",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
    ]
    if data is not None:
        lines += ["persistence true", f"persistence_location {data}/", "autosave_interval 60"]
    else:
        lines.append("persistence false")
    if user is not None:
        lines.append(f"user {user}")
    return "\n".join(lines) + "\n"


def _write_env(options: InitOptions, report: Report) -> None:
    path = options.directory / ".env"
    if path.exists():
        report.kept.append(".env")
        return
    # the containers run as whoever owns the secrets, so that the files need no wider modes
    uid, gid = os.getuid() or CONTAINER_USER, os.getgid() or CONTAINER_USER
    path.touch(mode=0o600)
    path.write_text(f"PYPMI_FLEET_DIR={options.directory.resolve()}\nPYPMI_UID={uid}\nPYPMI_GID={gid}\n")
    report.made.append(".env (for Docker Compose)")


def _give_away(directory: Path, user: int) -> None:
    """Containers do not run as root: what root made here becomes theirs. Root itself reads it all the same."""
    for folder, _, files in os.walk(directory):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            if path.stat().st_uid == 0:
                os.chown(path, user, user)


__all__ = ["ConfigError", "InitError", "InitOptions", "Report", "mosquitto_conf", "prepare"]
