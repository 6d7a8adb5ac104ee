"""YAML with positions: plain Python data, and the line of every field, so that a mistake can be shown where it is."""

from dataclasses import dataclass
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml: slower, the same
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

Path = tuple[str | int, ...]

MAX_NODES = 2_000_000
"""Of the YAML tree, aliases counted each time: a small file must not unfold to gigabytes."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration."""

    line: int
    """From 1; 0 when there is no line to name."""
    field: str
    """As in `nodes[3].hardware.host`; empty for the file as a whole."""
    message: str
    """What is wrong, and what to write instead."""
    warning: bool = False
    """It works, but probably not as meant."""

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        what = f"{self.field}: " if self.field else ""
        return f"{where}{what}{self.message}"


class ConfigError(Exception):
    """The configuration can't be used. `problems` has each mistake; nothing of it was applied."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def field_name(path: Path) -> str:
    """A path as people write it: `nodes[3].hardware.host`.

    A name is shown up to a colon in it: in `{password:hunter2}` the space is missing, and what follows is a secret.
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name, colon, _ = part.partition(":")
        shown = name[:_LONGEST_NAME] + ("…" if colon or len(name) > _LONGEST_NAME else "")
        text += f".{shown}" if text else shown
    return text


_LONGEST_NAME = 100


class Document:
    """A parsed YAML file: `data`, and the line of each path in it."""

    def __init__(self, text: str) -> None:
        self.data: Any = None
        self._lines: dict[Path, int] = {}
        self._count = 0
        problems: list[Problem] = []
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
                if node is not None:
                    self.data = self._convert(loader, node, (), problems)
            finally:
                loader.dispose()
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            hint = "; indent with spaces" if "\\t" in str(error.problem) else ""
            problems.append(Problem(line, "", f"this is not valid YAML: {error.problem or error.context}{hint}"))
        except yaml.YAMLError as error:
            problems.append(Problem(0, "", f"this is not valid YAML: {error}"))
        except RecursionError:
            problems.append(Problem(0, "", "this is nested too deeply"))
        if problems:
            raise ConfigError(problems)

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return 0

    def has(self, path: Path) -> bool:
        """Whether `path` stands in the file."""
        return path in self._lines

    def _convert(self, loader: Any, node: yaml.Node, path: Path, problems: list[Problem]) -> Any:
        self._count += 1
        if self._count > MAX_NODES:
            raise yaml.YAMLError("it unfolds to too many values (aliases within aliases?)")
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
                line = key_node.start_mark.line + 1
                if key is None:
                    problems.append(Problem(line, field_name(path), "a field's name must be plain text"))
                    continue
                if key in result and not _is_merged(node, key):
                    problems.append(Problem(line, field_name((*path, key)), "is given twice; remove one"))
                    continue
                self._lines[(*path, key)] = line
                result[key] = self._convert(loader, value_node, (*path, key), problems)
            return result
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(loader, child, (*path, index), problems) for index, child in enumerate(node.value)]
        return loader.construct_object(node)


def _is_merged(node: yaml.MappingNode, key: str) -> bool:
    """Whether a second `key` came in by `<<`: flattening puts the merged ones first, the node's own override them."""
    marks = [key_node.start_mark.line for key_node, _ in node.value if key_node.value == key]
    return not all(node.start_mark.line <= mark <= node.end_mark.line for mark in marks)
