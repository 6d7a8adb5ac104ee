"""Read fleet.yaml: defaults and patterns unfolded, everything checked, each mistake named with line, field and fix."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pypmi.config import fleet as fleet_models
from pypmi.config.document import ConfigError, Document, Problem, field_name
from pypmi.config.document import Path as FieldPath
from pypmi.config.fleet import REMOTE_CONSOLE_ADDRESS, Fleet
from pypmi.config.patterns import PatternError, expand

MAX_FILE = 64 * 1024 * 1024
MAX_PROBLEMS = 50


@dataclass(frozen=True, slots=True)
class LoadedFleet:
    """A configuration that holds, with the folder its relative paths start at."""

    fleet: Fleet
    base: Path
    warnings: tuple[Problem, ...]


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
    origins = _unfold_nodes(document, data, problems)
    fleet = None
    try:
        fleet = Fleet.model_validate(data)
    except ValidationError as error:
        problems += [_explain(document, origins, item) for item in error.errors(include_url=False)]
    if fleet is None or problems:
        raise ConfigError(_unique(problems)[:MAX_PROBLEMS])
    problems = _cross_check(document, origins, fleet)
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


# -- defaults and patterns -----------------------------------------------------------------------------------------


def _unfold_nodes(document: Document, data: dict[str, Any], problems: list[Problem]) -> list[int]:
    """Fold `defaults` into the nodes and unfold patterns, in place.

    Returns for each resulting node the index of the entry in the file that it came from.
    """
    defaults = data.pop("defaults", None) or {}
    if not isinstance(defaults, dict):
        problems.append(Problem(document.line(("defaults",)), "defaults", "must be a mapping of a node's fields"))
        defaults = {}
    for name in ("id", "address", "listen"):
        if name in defaults:
            line = document.line(("defaults", name))
            problems.append(Problem(line, f"defaults.{name}", "can't be the same for all nodes; give it in each node"))
    entries = data.get("nodes")
    if not isinstance(entries, list):
        return []
    nodes: list[Any] = []
    origins: list[int] = []
    for index, entry in enumerate(entries):
        unfolded = [entry]
        if isinstance(entry, dict):
            try:
                unfolded = expand(_fold(defaults, entry))
            except PatternError as error:
                problems.append(Problem(document.line(("nodes", index, "id")), f"nodes[{index}].id", str(error)))
                continue
        nodes += unfolded
        origins += [index] * len(unfolded)
    data["nodes"] = nodes
    return origins


def _fold(defaults: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """`entry` with what it lacks from `defaults`, part by part. Parts of another `type` are left alone."""
    result = dict(entry)
    for key, value in defaults.items():
        own = result.get(key)
        if key not in result:
            result[key] = value
        elif (
            isinstance(value, dict)
            and isinstance(own, dict)
            and own.get("type", value.get("type")) == value.get("type", own.get("type"))
        ):
            result[key] = _fold(value, own)
    return result


# -- saying what is wrong --------------------------------------------------------------------------------------------


def _locate(document: Document, origins: list[int], loc: FieldPath) -> tuple[int, str]:
    """Line and name, in the file as written, of a place in the unfolded data."""
    path = loc
    if len(loc) >= 2 and loc[0] == "nodes" and isinstance(loc[1], int) and loc[1] < len(origins):
        path = ("nodes", origins[loc[1]], *loc[2:])
        inherited = ("defaults", *loc[2:])
        if not document.has(path) and len(inherited) > 1 and document.has(inherited):
            path = inherited
    return document.line(path), field_name(path)


def _clean(loc: FieldPath) -> FieldPath:
    """Without the parts that pydantic puts in for the branch of a union (`hardware.esp8266.host`)."""
    result: list[str | int] = []
    for index, part in enumerate(loc):
        if index and loc[index - 1] == "hardware" and part in _HARDWARE_TYPES:
            continue
        if isinstance(part, str) and (part.startswith("function-") or part in {"int", "str"} or "[" in part):
            continue
        result.append(part)
    return tuple(result)


_HARDWARE_TYPES = frozenset(fleet_models.DEFAULT_AGENTS)


def _explain(document: Document, origins: list[int], item: ErrorDetails) -> Problem:
    loc = _clean(item["loc"])
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    shown = _show(value, loc)
    match kind:
        case "missing":
            message = "is missing; " + _example(str(loc[-1]))
        case "extra_forbidden":
            message = "is no field here; " + _suggest(loc)
        case "union_tag_not_found":
            message = f"needs a type, one of {', '.join(sorted(_HARDWARE_TYPES))}"
        case "union_tag_invalid":
            message = f"type {_show(context.get('tag'), ())} is not known; {_nearest(str(context.get('tag')), _HARDWARE_TYPES)}"
        case "literal_error" | "enum":
            message = f"can't be {shown}; write {context.get('expected')}"
        case "int_parsing" | "int_type" | "int_from_float":
            message = f"takes a whole number, not {shown}"
        case "float_parsing" | "float_type":
            message = f"takes a number, not {shown}"
        case "bool_parsing" | "bool_type":
            message = f"takes true or false, not {shown}"
        case "string_type":
            message = f"takes text, not {shown}; put quotes around it"
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            limit = context.get("ge", context.get("gt", context.get("le", context.get("lt"))))
            words = {
                "greater_than_equal": "at least",
                "greater_than": "more than",
                "less_than_equal": "at most",
                "less_than": "less than",
            }
            message = f"must be {words[kind]} {limit}, not {shown}"
        case "string_pattern_mismatch":
            message = f"{shown} does not fit; {_form(str(loc[-1]) if loc else '')}"
        case "string_too_long" | "string_too_short":
            limit = context.get("max_length", context.get("min_length"))
            message = f"must have {'at most' if kind == 'string_too_long' else 'at least'} {limit} characters"
        case "tuple_type" | "list_type":
            message = f"takes a list, as in [a, b], not {shown}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = f"takes a mapping of fields, not {shown}"
        case "too_short":
            message = "must not be empty"
        case "value_error":
            message = str(context.get("error", item["msg"]))
        case _:
            message = f"{item['msg']}, not {shown}"
    line, name = _locate(document, origins, loc)
    return Problem(line, name, message)


def _show(value: Any, loc: FieldPath) -> str:
    """The value for the message; never one that might be a secret typed into the wrong place."""
    if any("password" in str(part) or "kg" in str(part) or "secret" in str(part) for part in loc):
        return "what stands there"
    if value is None:
        return "nothing (null)"
    text = json.dumps(value, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_EXAMPLES = {
    "id": "write id: node1",
    "hardware": "write hardware: {type: esp8266, host: 192.0.2.11}",
    "host": "write host: 192.0.2.11",
    "mac": "write mac: 52:54:00:12:34:56",
    "line": "write line: 17",
    "topic": "write the device's topic",
    "password": "write password: {file: secrets/NAME} or {env: NAME}",
}

_FORMS = {
    "id": "use 1-63 of a-z, 0-9 and -, starting with a letter or digit; many alike: node[1-40]",
    "fleet": "use 1-63 of a-z, 0-9 and -, starting with a letter or digit",
    "agent": "use a service's name: 1-63 of a-z, 0-9 and -",
    "relay": "use a service's name: 1-63 of a-z, 0-9 and -",
    "mac": "write it as 52:54:00:12:34:56",
    "host": "write a host name or address without scheme and port",
    "broadcast": "write an address such as 192.0.2.255",
    "listen": "write HOST:PORT, an IPv6 address in brackets: [::]:623",
    "health": "write HOST:PORT, as in 127.0.0.1:9623",
    "url": "write a URL that starts with http:// or https://",
    "prefix": "use letters, digits, - and _, with / between",
    "topic": "a topic without + and #",
}


def _example(name: str) -> str:
    return _EXAMPLES.get(name, f"write {name}: ...")


def _form(name: str) -> str:
    return _FORMS.get(name, "see the docs of this field")


def _suggest(loc: FieldPath) -> str:
    model = _model_at(loc[:-1])
    if model is None:
        return "remove it"
    names = sorted(model.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), names, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _nearest(word: str, words: frozenset[str]) -> str:
    near = difflib.get_close_matches(word, sorted(words), 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(words))}"


def _model_at(loc: FieldPath) -> type[BaseModel] | None:
    """The model that a path leads to; None when that can't be told (a union of several)."""
    model: type[BaseModel] | None = Fleet
    for part in loc:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        if field is None:  # the name of a service in `services`
            continue
        found = _models_in(field.annotation)
        model = found[0] if len(found) == 1 else None
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _unique(problems: list[Problem]) -> list[Problem]:
    """Without repeats: a mistake in a pattern or in `defaults` would show once for each node."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line)


# -- what one field alone can't tell ---------------------------------------------------------------------------------


def _cross_check(document: Document, origins: list[int], fleet: Fleet) -> list[Problem]:
    problems: list[Problem] = []

    def say(loc: FieldPath, message: str, *, warning: bool = False) -> None:
        line, name = _locate(document, origins, loc)
        problems.append(Problem(line, name, message, warning))

    ids: dict[str, int] = {}
    addresses: dict[tuple[int, int], str] = {}
    listeners = dict.fromkeys(fleet.gateway.listen, "the gateway")
    for index, node in enumerate(fleet.nodes):
        if node.id in ids:
            say(("nodes", index, "id"), f"{node.id} is there twice (the other is nodes[{origins[ids[node.id]]}])")
        ids[node.id] = index
        if node.address is not None:
            other = addresses.setdefault((node.channel, node.address), node.id)
            if other != node.id:
                say(
                    ("nodes", index, "address"),
                    f"{node.address} on channel {node.channel} is {other}'s already; take a free one from 1 to 255",
                )
            if node.address == REMOTE_CONSOLE_ADDRESS:
                say(
                    ("nodes", index, "address"),
                    "129 (0x81) is what clients call themselves; better take another",
                    warning=True,
                )
        if node.listen is not None:
            other = listeners.setdefault(node.listen, node.id)
            if other != node.id:
                say(("nodes", index, "listen"), f"{node.listen} is {other}'s already")
        if node.hardware.type == "wol" and node.probe is None:
            say(("nodes", index), f"{node.id}: without probe its power is always unknown", warning=True)
    names: set[str] = set()
    for index, user in enumerate(fleet.users):
        if user.name in names:
            say(("users", index, "name"), f"{user.name} is there twice")
        names.add(user.name)
        for place, pattern in enumerate(user.nodes):
            if not any(user_matches(pattern, node_id) for node_id in ids):
                say(("users", index, "nodes", place), f"{pattern} fits no node", warning=bool(pattern))
    if not fleet.users:
        say(("users",), "no users: nobody can log in to the gateway", warning=True)
    return problems


def user_matches(pattern: str, node_id: str) -> bool:
    """Whether a user's node pattern names a node."""
    from fnmatch import fnmatchcase

    return fnmatchcase(node_id, pattern)
