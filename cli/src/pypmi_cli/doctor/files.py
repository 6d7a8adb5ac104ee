"""The configuration at hand: secrets that can't be read or that everybody can read, and nodes that share a board."""

import contextlib
import stat
from pathlib import Path

from pypmi.config.hardware import BmcHardware, Esp8266Hardware
from pypmi.config.load import LoadedFleet
from pypmi.config.mqtt import MqttSettings
from pypmi.config.secrets import SecretError, SecretSource

from pypmi_cli.access import Access
from pypmi_cli.doctor.findings import Link, Report

_OTHERS = stat.S_IRWXO
_GROUP = stat.S_IRGRP | stat.S_IWGRP


def examine_files(report: Report, access: Access) -> bool:
    """Look at what lies on this machine; returns whether the broker can be tried with it."""
    usable = _broker_secret(report, access.mqtt, access.base)
    usable = _certificates(report, access.mqtt, access.base) and usable
    loaded = access.loaded
    if loaded is None:
        report.note(
            Link.CONFIGURATION, "no-fleet", f"no fleet.yaml ({access.source}): board and logins can't be tried",
            "run it where fleet.yaml is, or give --config",
        )  # fmt: skip
        return usable
    for problem in loaded.warnings:
        if problem.field.endswith("hardware.host"):
            continue  # a board that two nodes share: below, for it does not work
        report.warn(Link.CONFIGURATION, "configuration-warning", str(problem), f"change it in {access.source}")
    modes = [path for path in _secret_files(loaded) if path.exists() and _open_to_others(path)]
    for path in modes:
        report.warn(
            Link.CONFIGURATION, "secret-readable", f"{path} can be read by other users of this machine",
            f"chmod 600 {path}, and put a new secret in: this one may be known",
        )  # fmt: skip
    shared = _shared_boards(report, loaded)
    if usable and not modes and not shared:
        report.ok(Link.CONFIGURATION, f"{access.source}: {len(loaded.fleet.nodes)} nodes, secrets are private")
    return usable


def _broker_secret(report: Report, mqtt: MqttSettings, base: Path | None) -> bool:
    if mqtt.password is None:
        return True
    try:
        mqtt.password.read(base)
    except SecretError as error:
        report.fault(
            Link.CONFIGURATION, "secret-unreadable", str(error),
            "`pypmi init` makes the fleet's secrets; on another machine copy secrets/mqtt/operator there, or set"
            " PYPMI_MQTT_PASSWORD",
        )  # fmt: skip
        return False
    return True


def _certificates(report: Report, mqtt: MqttSettings, base: Path | None) -> bool:
    for path in filter(None, (mqtt.ca_file, mqtt.cert_file, mqtt.key_file)):
        full = (base or Path()) / path
        try:
            with full.open("rb"):
                pass
        except OSError as error:
            report.fault(
                Link.CONFIGURATION, "certificate-unreadable", f"cannot read {full}: {error.strerror}",
                "copy tls/ca.crt of the fleet there, or give --ca-file",
            )  # fmt: skip
            return False
    return True


def _secret_files(loaded: LoadedFleet) -> list[Path]:
    """Files of all secrets that fleet.yaml names, and those that `pypmi init` makes beside it."""
    fleet, base = loaded.fleet, loaded.base
    sources: list[SecretSource | None] = [user.password for user in fleet.users]
    sources.append(fleet.gateway.kg)
    for node in fleet.nodes:
        if isinstance(node.hardware, BmcHardware):
            sources += [node.hardware.password, node.hardware.kg]
    named = {base / source.file for source in sources if source is not None and source.file is not None}
    made = base / "secrets"
    if made.is_dir():
        with contextlib.suppress(OSError):  # not readable to us: then private
            named |= {path for path in made.rglob("*") if path.is_file()}
    if fleet.mqtt.key_file is not None:
        named.add(base / fleet.mqtt.key_file)
    return sorted(named)


def _open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (_OTHERS | _GROUP))
    except OSError:
        return False


def _shared_boards(report: Report, loaded: LoadedFleet) -> bool:
    """Two nodes on one board: each connection throws the other out, and both press the same relay."""
    owners: dict[tuple[str, int], str] = {}
    found = False
    for node in loaded.fleet.nodes:
        if not isinstance(node.hardware, Esp8266Hardware):
            continue
        place = (node.hardware.host.lower(), node.hardware.port)
        other = owners.setdefault(place, node.id)
        if other != node.id:
            found = True
            report.fault(
                Link.CONFIGURATION, "shared-board",
                f"{node.id} and {other} are on one board, {place[0]}:{place[1]}: it takes one connection, the newest",
                f"give {node.id} its own board in fleet.yaml", node.id,
            )  # fmt: skip
    return found
