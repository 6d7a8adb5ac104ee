"""Fill the generated parts of the docs: settings from the configuration's models, payloads from the contract's.

Everything between `<!-- generated: NAME -->` and `<!-- end of NAME -->` in the pages below docs/ is written by this
script; the rest is written by hand. Run it as `make docs`; `--check` says which pages are not current.
"""

import ast
import enum
import inspect
import json
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pypmi.config.base import Section
from pypmi.config.fleet import (
    BootServerSettings,
    Fleet,
    GatewaySettings,
    HomeAssistantSettings,
    NodeSettings,
    ServiceSettings,
    SolSettings,
    UserSettings,
)
from pypmi.config.hardware import (
    BmcHardware,
    BoardPin,
    ConsoleSettings,
    Esp8266Hardware,
    EsphomeHardware,
    GpioHardware,
    GpioLine,
    GpioStatus,
    ProbeSettings,
    StatusPin,
    TasmotaHardware,
    UartSettings,
    WakeSettings,
    WolHardware,
)
from pypmi.config.mqtt import MqttSettings
from pypmi.config.power import PowerSettings
from pypmi.config.secrets import SecretSource
from pypmi.contract import (
    BootDevice,
    BootIntent,
    BootRequest,
    Capability,
    CommandError,
    CommandStatus,
    ConsoleAck,
    ConsoleAction,
    ConsoleReplay,
    ConsoleRequest,
    ConsoleState,
    ErrorCode,
    Event,
    EventType,
    FruFields,
    IdentifyState,
    NodeFault,
    NodeInfo,
    NodeState,
    PowerAction,
    PowerCommand,
    PowerResult,
    PowerState,
    SensorInfo,
    SensorKind,
    ServiceInfo,
    ServiceKind,
    ServiceStats,
    Thresholds,
)
from pypmi_cli.__main__ import app
from pypmi_cli.exits import MEANINGS
from typer.core import TyperGroup

DOCS = Path(__file__).parent
_PART = re.compile(r"<!-- generated: (?P<name>[a-z0-9 -]+) -->\n.*?<!-- end of (?P=name) -->", re.DOTALL)

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", Fleet),
    ("mqtt", MqttSettings),
    ("gateway", GatewaySettings),
    ("gateway.sol", SolSettings),
    ("users", UserSettings),
    ("services", ServiceSettings),
    ("homeassistant", HomeAssistantSettings),
    ("boot", BootServerSettings),
    ("nodes", NodeSettings),
    ("fru", FruFields),
    ("power", PowerSettings),
    ("wake", WakeSettings),
    ("probe", ProbeSettings),
    ("console", ConsoleSettings),
    ("hardware: type esp8266", Esp8266Hardware),
    ("A relay of a board", BoardPin),
    ("The status pin of a board", StatusPin),
    ("uart", UartSettings),
    ("hardware: type tasmota", TasmotaHardware),
    ("hardware: type esphome-mqtt", EsphomeHardware),
    ("hardware: type gpio", GpioHardware),
    ("A GPIO output", GpioLine),
    ("A GPIO status input", GpioStatus),
    ("hardware: type bmc", BmcHardware),
    ("hardware: type wol", WolHardware),
    ("A secret", SecretSource),
)
"""Every part of fleet.yaml, in the order of the page, with its heading."""

PAYLOADS: tuple[type[BaseModel], ...] = (
    PowerCommand, PowerResult, CommandError, NodeState, NodeFault, NodeInfo, SensorInfo, Thresholds, FruFields,
    BootRequest, BootIntent, Event, ConsoleRequest, ConsoleReplay, ConsoleAck, ConsoleState, ServiceInfo, ServiceStats,
)  # fmt: skip
WORDS: tuple[type[enum.StrEnum], ...] = (
    PowerAction, CommandStatus, ErrorCode, PowerState, IdentifyState, Capability, SensorKind, BootDevice, EventType,
    ConsoleAction, ServiceKind,
)  # fmt: skip


def anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def field_docstrings(model: type) -> dict[str, str]:
    """The docstrings that stand behind the fields (or members) of a class, in one line each."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    if not isinstance(tree, ast.ClassDef):
        return {}
    found: dict[str, str] = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
            continue
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
            found[before.target.id] = _one_line(str(after.value.value))
        elif isinstance(before, ast.Assign) and isinstance(before.targets[0], ast.Name):
            found[before.targets[0].id] = _one_line(str(after.value.value))
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


class Describer:
    """Says what a field takes, from its JSON Schema."""

    def __init__(self, model: type[BaseModel], links: dict[str, str]) -> None:
        self._schema = model.model_json_schema()
        self._links = links

    def fields(self) -> dict[str, dict[str, Any]]:
        properties: dict[str, dict[str, Any]] = self._schema.get("properties", {})
        return properties

    def required(self) -> frozenset[str]:
        return frozenset(self._schema.get("required", ()))

    def takes(self, schema: dict[str, Any]) -> str:  # noqa: C901, PLR0912 - one case for each word of JSON Schema
        if "$ref" in schema:
            return self._link(schema["$ref"].rpartition("/")[2])
        if "oneOf" in schema or "anyOf" in schema:
            options = [self.takes(option) for option in schema.get("oneOf", schema.get("anyOf"))]
            return " or ".join(dict.fromkeys(options))
        if "const" in schema:
            return _code(json.dumps(schema["const"]).strip('"'))
        if "enum" in schema:
            return ", ".join(_code(json.dumps(value).strip('"')) for value in schema["enum"])
        match schema.get("type"):
            case "null":
                return "null"
            case "boolean":
                return "true or false"
            case "integer" | "number" as kind:
                return ("whole number" if kind == "integer" else "number") + _range(schema)
            case "array":
                if "prefixItems" in schema:
                    return "list"
                return f"list of {self.takes(schema.get('items', {}))}"
            case "object":
                values = next(iter(schema.get("patternProperties", {}).values()), schema.get("additionalProperties"))
                return f"mapping of names to {self.takes(values)}" if isinstance(values, dict) else "mapping"
            case "string":
                if schema.get("format") in {"date-time", "path", "base64"}:
                    return {"date-time": "time stamp", "path": "path", "base64": "Base64 text"}[schema["format"]]
                if "maxLength" in schema:
                    return f"text, at most {schema['maxLength']}"
                return "text"
            case _:
                return "any"

    def _link(self, name: str) -> str:
        return f"[{self._links[name]}](#{anchor(self._links[name])})" if name in self._links else name


def _range(schema: dict[str, Any]) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    above = "above " if "exclusiveMinimum" in schema else ""
    if low is not None and high is not None:
        return f", {above}{_number(low)} to {_number(high)}"
    if low is not None:
        return f", {above or 'from '}{_number(low)}"
    return ""


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(schema: dict[str, Any], required: bool) -> str:
    if required:
        return "**required**"
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, dict):
        return "" if len(value) > 2 else _code(json.dumps(value))
    if value is None:
        return "null"
    return _code(json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value or '""')


def table(model: type[BaseModel], links: dict[str, str]) -> Iterator[str]:
    """The rows of one model's fields."""
    describer, texts = Describer(model, links), field_docstrings(model)
    yield "| field | takes | default | |"
    yield "|---|---|---|---|"
    for name, schema in describer.fields().items():
        cells = (
            f"`{name}`",
            describer.takes(schema),
            _default(schema, name in describer.required() and issubclass(model, Section)),
            texts.get(name, ""),
        )
        yield "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def settings_part() -> str:
    """All settings of fleet.yaml."""
    links = {model.__name__: heading for heading, model in SECTIONS}
    lines: list[str] = []
    for heading, model in SECTIONS:
        lines += ["", f"### {heading}", "", _first_paragraph(model), "", *table(model, links)]
    return "\n".join(lines)


def payloads_part() -> str:
    """All payloads of the contract."""
    links = {model.__name__: model.__name__ for model in (*PAYLOADS, *WORDS)}
    lines: list[str] = []
    for model in PAYLOADS:
        texts, describer = field_docstrings(model), Describer(model, links)
        lines += ["", f"### {model.__name__}", "", _first_paragraph(model), "", "| field | type | default | |"]
        lines.append("|---|---|---|---|")
        needed = frozenset(name for name, field in model.model_fields.items() if field.is_required())
        for name, schema in describer.fields().items():
            default = "always there" if name in needed else _default(schema, required=False)
            if name == "id" and name not in needed:
                default = "made"
            lines.append("| " + " | ".join(map(_cell, (f"`{name}`", describer.takes(schema), default,
                                                       texts.get(name, "")))) + " |")  # fmt: skip
    return "\n".join(lines)


def words_part() -> str:
    """The closed lists of words."""
    lines: list[str] = []
    for words in WORDS:
        texts = field_docstrings(words)
        lines += ["", f"### {words.__name__}", "", _first_paragraph(words), ""]
        for member in words:
            text = texts.get(member.name, "")
            lines.append(f"- `{member.value}`" + (f": {text}" if text else ""))
    return "\n".join(lines)


def _first_paragraph(model: type) -> str:
    return _one_line(inspect.cleandoc(model.__doc__ or "").replace("``", "`"))


def decisions_part() -> str:
    """The list of decision records, by their titles."""
    rows = []
    for record in sorted((DOCS / "decisions").glob("0*.md")):
        number, _, title = record.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").partition(" ")
        rows.append(f"| [{number}]({record.name}) | {_cell(title)} |")
    return "\n".join(["", "| | |", "|---|---|", *rows])


def commands_part() -> str:
    """Every command of `pypmi`, with its arguments and options."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    context = root.make_context("pypmi", [], resilient_parsing=True)
    lines: list[str] = ["", "### Before every command", "", *_parameters(root)]
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        assert command is not None
        words = [_usage(parameter) for parameter in command.params if parameter.param_type_name == "argument"]
        lines += ["", f"### pypmi {name}", "", f"`{' '.join(['pypmi', name, '[OPTIONS]', *words])}`", ""]
        paragraphs = [_one_line(part) for part in inspect.cleandoc(command.help or "").split("\n\n")]
        lines += ["\n\n".join(paragraphs), "", *_parameters(command)]
    return "\n".join(lines)


def _usage(argument: Any) -> str:
    annotation = argument.type_descriptor.annotation
    kinds = [kind for kind in (annotation, *typing.get_args(annotation)) if inspect.isclass(kind)]
    words = "|".join(member.value for kind in kinds if issubclass(kind, enum.StrEnum) for member in kind)
    shown = str(argument.metavar or words or argument.name.upper())
    return shown if argument.required or shown.startswith("[") else f"[{shown}]"


def _parameters(command: Any) -> Iterator[str]:
    """The rows of a command's arguments and options; nothing where there is none."""
    shown = [parameter for parameter in command.params if getattr(parameter, "help", None)]
    if not shown:
        return
    yield "| option | default | |"
    yield "|---|---|---|"
    for parameter in shown:
        if parameter.param_type_name == "argument":
            name = f"`{_usage(parameter).strip('[]')}`"
        else:
            name = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
        default, flag = parameter.default, getattr(parameter, "is_bool_flag", False)
        plain = default is not None and not callable(default) and not (flag and default is False)
        value = getattr(default, "value", default)
        given = _code(str(value)) if plain and str(value) not in {"", "()", "[]"} else ""
        variable = f" Environment: `{parameter.envvar}`." if getattr(parameter, "envvar", None) else ""
        yield f"| {_cell(name)} | {_cell(given)} | {_cell(parameter.help + variable)} |"


def exit_codes_part() -> str:
    """Exit codes of `pypmi`."""
    rows = [f"| {int(code)} | {_cell(text)} |" for code, text in MEANINGS.items()]
    return "\n".join(["", "| code | |", "|---|---|", *rows])


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands_part,
    "decisions": decisions_part,
    "exit codes": exit_codes_part,
    "settings": settings_part,
    "payloads": payloads_part,
    "words": words_part,
}


def rendered(text: str) -> str:
    """A page with its generated parts made anew."""

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- generated: {name} -->\n{PARTS[name]()}\n\n<!-- end of {name} -->"

    return _PART.sub(fill, text)


def pages() -> Iterator[Path]:
    """All pages below docs/."""
    yield from sorted(DOCS.rglob("*.md"))


def main() -> int:
    """Write the pages, or with `--check` only say which are not current; returns the exit status."""
    stale = []
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = rendered(before)
        if after != before:
            stale.append(page.relative_to(DOCS.parent))
            if "--check" not in sys.argv[1:]:
                page.write_text(after, encoding="utf-8")
    for path in stale:
        print(path, "is not current: run make docs" if "--check" in sys.argv[1:] else "written")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
