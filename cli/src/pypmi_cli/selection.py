"""Which nodes a command is about: names, `*` patterns, ranges, several with commas."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from pypmi.config.patterns import PatternError, expand

from pypmi_cli.exits import Exit, ToolError
from pypmi_cli.session import Session

_WILD = frozenset("*?[")


def known_nodes(session: Session) -> list[str]:
    """Ids of all nodes: those on the bus, and those that fleet.yaml has besides."""
    loaded = session.access.loaded
    configured = [node.id for node in loaded.fleet.nodes] if loaded is not None else []
    seen = [node_id for node_id, view in session.view.nodes.items() if not view.empty]
    return sorted(dict.fromkeys([*configured, *seen]), key=natural_key)


def natural_key(text: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts node10 behind node9."""
    parts: list[tuple[int, int | str]] = []
    digits = ""
    for char in [*text, ""]:
        if char and char in "0123456789":
            digits += char
            continue
        if digits:
            parts.append((0, int(digits)))
            digits = ""
        if char:
            parts.append((1, char))
    return tuple(parts)


def is_pattern(text: str) -> bool:
    """Whether this may mean more than one node."""
    return "," in text or bool(_WILD & set(text))


def choose(text: str, known: Iterable[str]) -> list[str]:
    """The nodes that `text` means: `node1`, `node*`, `node[1-40]`, `rack1-*,node7`.

    Raises `ToolError` for a name or pattern that fits none.
    """
    nodes = list(known)
    chosen: list[str] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        wanted = _unfold(word)
        found = [name for name in nodes if any(fnmatchcase(name, pattern) for pattern in wanted)]
        if not found:
            raise ToolError(_none(word, nodes), Exit.NO_SUCH_NODE)
        chosen += found
    if not chosen:
        raise ToolError("no node named", Exit.USAGE)
    return list(dict.fromkeys(chosen))


def _unfold(word: str) -> list[str]:
    """`node[1-40]` means numbers, as in fleet.yaml; everything else is for `fnmatch`."""
    try:
        return [entry["id"] for entry in expand({"id": word})]
    except PatternError:
        return [word]


def _none(word: str, nodes: list[str]) -> str:
    if not nodes:
        return f"no node {word!r}: there are no nodes on this broker (`pypmi doctor` finds out why)"
    kind = "fits no node" if is_pattern(word) else "is no node"
    shown = ", ".join(nodes[:8]) + (f" and {len(nodes) - 8} more" if len(nodes) > 8 else "")
    return f"{word!r} {kind} of this fleet; there are {shown}"
