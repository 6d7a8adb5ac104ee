"""pydantic's errors in the words of somebody who edits fleet.yaml: what is wrong, and what to write instead."""

import difflib
import json
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pypmi.config.document import Document, Problem
from pypmi.config.document import Path as FieldPath
from pypmi.config.fleet import Fleet
from pypmi.config.hardware import DEFAULT_AGENTS
from pypmi.config.unfold import locate


def _clean(loc: FieldPath, *, names_field: bool) -> FieldPath:
    """Without the parts that pydantic puts in for the branch of a union (`hardware.esp8266.host`)."""
    result: list[str | int] = []
    for index, part in enumerate(loc):
        if index and loc[index - 1] == "hardware" and part in _HARDWARE_TYPES:
            continue
        if names_field and index == len(loc) - 1:
            result.append(part)  # whatever somebody called it, in the file
            continue
        if isinstance(part, str) and (part.startswith("function-") or part in {"int", "str"} or "[" in part):
            continue
        result.append(part)
    return tuple(result)


_HARDWARE_TYPES = frozenset(DEFAULT_AGENTS)


def explain(document: Document, origins: list[int], item: ErrorDetails) -> Problem:
    """Turn one of pydantic's errors into a problem with line, field, what is wrong and what to write."""
    loc = _clean(item["loc"], names_field=item["type"] in {"missing", "extra_forbidden"})
    line, name = locate(document, origins, loc)
    return Problem(line, name, _message(loc, item))


def _message(loc: FieldPath, item: ErrorDetails) -> str:  # noqa: C901, PLR0912 - one case for each kind of error
    kind, context = item["type"], item.get("ctx", {})
    shown = _show(item["input"], loc)
    if kind in _TAKES:
        return f"takes {_TAKES[kind]}, not {shown}"
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        limit = context[key]
        return f"must be {words} {limit if isinstance(limit, int) else f'{limit:g}'}, not {shown}"
    match kind:
        case "missing":
            return "is missing; " + _EXAMPLES.get(str(loc[-1]), f"write {loc[-1]}: ...")
        case "extra_forbidden":
            return "is no field here; " + _suggest(loc)
        case "union_tag_not_found":
            return f"needs a type, one of {', '.join(sorted(_HARDWARE_TYPES))}"
        case "union_tag_invalid":
            tag = str(context.get("tag"))
            return f"type {tag!r} is not known; {_nearest(tag, _HARDWARE_TYPES)}"
        case "literal_error" | "enum":
            return f"can't be {shown}; write {context.get('expected')}"
        case "string_type":
            return f"takes text, not {shown}; put quotes around it"
        case "string_pattern_mismatch":
            return f"{shown} does not fit; {_FORMS.get(str(loc[-1]) if loc else '', 'see the docs of this field')}"
        case "string_too_long":
            return f"must have at most {context['max_length']} characters"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case "too_short":
            return "must not be empty"
        case "too_long":
            return f"must have at most {context['max_length']} entries"
        case "value_error":
            return str(context.get("error", item["msg"]))
        case _:
            return f"{item['msg']}, not {shown}"


_TAKES = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "tuple_type": "a list, as in [a, b]",
    "list_type": "a list, as in [a, b]",
    "model_type": "a mapping of fields",
    "model_attributes_type": "a mapping of fields",
    "dict_type": "a mapping of fields",
}
"""pydantic's kinds of errors that say what a field takes."""

_LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
}


def _show(value: Any, loc: FieldPath) -> str:
    """The value for the message; never one that might be a secret typed into the wrong place."""
    if any("password" in str(part) or "kg" in str(part) or "secret" in str(part) for part in loc):
        return "what stands there"
    if value is None:
        return "nothing (null)"
    text = json.dumps(value, default=str) if not isinstance(value, str) else repr(value)
    if "password" in text or "secret" in text:
        return "what stands there"
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
