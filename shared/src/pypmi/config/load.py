"""Read fleet.yaml: defaults and patterns unfolded, everything checked, each mistake named with line, field and fix."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from pypmi.config.crosscheck import cross_check
from pypmi.config.document import ConfigError, Document, Problem
from pypmi.config.explain import explain
from pypmi.config.fleet import Fleet
from pypmi.config.mqtt import MqttSettings
from pypmi.config.unfold import unfold_nodes

MAX_FILE = 64 * 1024 * 1024
MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class LoadedFleet:
    """A configuration that holds, with the folder its relative paths start at."""

    fleet: Fleet
    base: Path
    warnings: tuple[Problem, ...]

    def with_broker(self, url: str) -> "LoadedFleet":
        """The same with another broker URL: in a container the broker has another name. Raises `ConfigError`."""
        try:
            mqtt = MqttSettings.model_validate({**self.fleet.mqtt.model_dump(), "url": url})
        except ValidationError as error:
            raise ConfigError([Problem(0, "PYPMI_MQTT_URL", error.errors()[0]["msg"])]) from None
        return replace(self, fleet=self.fleet.model_copy(update={"mqtt": mqtt}))


def load_fleet(path: Path) -> LoadedFleet:
    """Read and check a fleet.yaml. Raises `ConfigError` with every mistake that was found."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigError([Problem(0, "", f"cannot read {path}: {error.strerror}")]) from None
    if len(raw) > MAX_FILE:
        raise ConfigError([Problem(0, "", f"{path} is larger than {MAX_FILE} octets")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(line, "", "this is not UTF-8 text; save the file as UTF-8")]) from None
    fleet, warnings = parse_fleet(text)
    return LoadedFleet(fleet, path.resolve().parent, tuple(warnings))


def parse_fleet(text: str) -> tuple[Fleet, list[Problem]]:
    """Check the text of a fleet.yaml; return it with warnings. Raises `ConfigError`."""
    document = Document(text)
    data = document.data
    if data is None:
        raise ConfigError([Problem(0, "", "the file is empty; `pypmi init` writes one to start from")])
    if not isinstance(data, dict):
        raise ConfigError([Problem(1, "", "the file must be a mapping of fields, as in `nodes:`")])
    problems: list[Problem] = []
    origins = unfold_nodes(document, data, problems)
    fleet = None
    try:
        fleet = Fleet.model_validate(data)
    except ValidationError as error:
        problems += [explain(document, origins, item) for item in error.errors(include_url=False)]
    if fleet is None or problems:
        raise ConfigError(_unique(problems)[:MAX_PROBLEMS])
    problems = cross_check(document, origins, fleet)
    errors = [problem for problem in problems if not problem.warning]
    if errors:
        raise ConfigError(errors[:MAX_PROBLEMS])
    return fleet, problems


def json_schema() -> str:
    """JSON Schema of fleet.yaml, for editors."""
    schema = Fleet.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "pypmi fleet.yaml"
    # `defaults` is folded into the nodes before the models see them
    schema["properties"]["defaults"] = {
        "type": "object",
        "description": "Fields that every node has unless it gives its own.",
    }
    return json.dumps(schema, indent=2) + "\n"


def _unique(problems: list[Problem]) -> list[Problem]:
    """Without repeats: a mistake in a pattern or in `defaults` would show once for each node."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line)
