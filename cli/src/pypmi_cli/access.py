"""Which broker the tool talks to, and as whom: options, environment, fleet.yaml, the user's own file.

The first of these that is there counts: `--config`, `--mqtt`, a fleet.yaml in the present folder, the user's
`pypmi/config.yaml`, a broker on this machine (where `pypmi demo` has one). Single options override what a file says.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from pypmi.config.base import Section
from pypmi.config.document import ConfigError, Document
from pypmi.config.load import LoadedFleet, load_fleet
from pypmi.config.mqtt import MqttSettings
from pypmi.config.secrets import SecretSource

from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.setup.accounts import OPERATOR

FLEET_FILE = "fleet.yaml"
PASSWORD_VARIABLE = "PYPMI_MQTT_PASSWORD"  # noqa: S105 - the variable's name


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """What was said on the command line or in the environment; None: nothing."""

    mqtt: str | None = None
    config: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    prefix: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the broker, and what is known of the fleet from its file."""

    mqtt: MqttSettings
    base: Path | None
    """Folder that relative secret and certificate files start at."""
    loaded: LoadedFleet | None
    """The fleet, where its file is at hand."""
    source: str
    """Where the settings come from, for people."""
    guess_protocol: bool = False
    """Nobody has said which MQTT version the broker speaks: where it does not answer to 5, 3.1.1 is tried."""


class UserFile(Section):
    """`~/.config/pypmi/config.yaml`: a fleet.yaml to use everywhere, or the broker itself."""

    config: Path | None = None
    """A fleet.yaml; relative paths start at this file's folder."""
    mqtt: MqttSettings | None = None
    """The broker, as in fleet.yaml. Its relative paths start at this file's folder."""


def user_file() -> Path:
    """The user's own settings file, whether or not it is there."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "pypmi" / "config.yaml"


def resolve(options: AccessOptions) -> Access:
    """Put the settings together. Raises `ToolError` that says what is wrong."""
    access = _from_files(options)
    if access.base is None and options.protocol is None:
        access = replace(access, guess_protocol=True)
    changes = _changes(options, access.mqtt)
    if not changes:
        return access
    # what was given here counts from here, not from the file's folder
    try:
        mqtt = MqttSettings.model_validate({**access.mqtt.model_dump(), **changes})
    except ValidationError as error:
        raise ToolError(f"broker settings: {_explain(error)}", Exit.USAGE) from None
    return replace(access, mqtt=mqtt, source=access.source if options.mqtt is None else options.mqtt)


def _from_files(options: AccessOptions) -> Access:
    if options.config is not None:
        return _fleet_access(options.config)
    if options.mqtt is not None:
        return Access(MqttSettings(), None, None, options.mqtt)
    if Path(FLEET_FILE).exists():
        return _fleet_access(Path(FLEET_FILE))
    own = user_file()
    if own.exists():
        return _user_access(own)
    return Access(MqttSettings(), None, None, "no configuration: a broker on this machine")


def _fleet_access(path: Path) -> Access:
    try:
        loaded = load_fleet(path)
    except ConfigError as error:
        lines = "\n".join(f"{path}: {problem}" for problem in error.problems)
        fix = f"put it right (`pypmi check {path}` says when), or use --mqtt"
        raise ToolError(f"{lines}\n{fix}", Exit.NO_BROKER) from None
    return Access(loaded.fleet.broker_for(OPERATOR), loaded.base, loaded, str(path))


def _user_access(path: Path) -> Access:
    try:
        data: Any = Document(path.read_text(encoding="utf-8")).data
        own = UserFile.model_validate(data or {})
    except ConfigError as error:
        raise ToolError(f"{path}: {error}", Exit.NO_BROKER) from None
    except ValidationError as error:
        raise ToolError(f"{path}: {_explain(error)}", Exit.NO_BROKER) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(f"cannot read {path}: {error}", Exit.NO_BROKER) from None
    if own.config is not None:
        access = _fleet_access(path.parent / own.config.expanduser())
        return access if own.mqtt is None else Access(own.mqtt, path.parent, access.loaded, str(path))
    return Access(own.mqtt or MqttSettings(), path.parent, None, str(path))


def _changes(options: AccessOptions, mqtt: MqttSettings) -> dict[str, object]:
    changes: dict[str, object] = {}
    if options.mqtt is not None:
        changes["url"] = options.mqtt
        if urlsplit(options.mqtt).scheme in {"mqtt", "ws"}:
            changes |= {"ca_file": None, "cert_file": None, "key_file": None}
    if options.user is not None:
        changes["username"] = options.user
    if options.password_file is not None:
        changes["password"] = SecretSource(file=options.password_file.resolve()).model_dump()
    elif os.environ.get(PASSWORD_VARIABLE):
        changes["password"] = SecretSource(env=PASSWORD_VARIABLE).model_dump()
    if "password" in changes and options.user is None and mqtt.username is None:
        changes["username"] = OPERATOR
    if options.ca_file is not None:
        changes["ca_file"] = options.ca_file.resolve()
    if options.prefix is not None:
        changes["prefix"] = options.prefix
    if options.protocol is not None:
        changes["protocol"] = options.protocol
    return changes


def _explain(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )
