"""`defaults` folded into the nodes, and name patterns unfolded, before the models see anything.

Every resulting node remembers which entry of the file it came from, so that a mistake is shown where it was written.
"""

from typing import Any

from pypmi.config.document import Document, Problem, field_name
from pypmi.config.document import Path as FieldPath
from pypmi.config.patterns import PatternError, expand


def unfold_nodes(document: Document, data: dict[str, Any], problems: list[Problem]) -> list[int]:
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


def locate(document: Document, origins: list[int], loc: FieldPath) -> tuple[int, str]:
    """Line and name, in the file as written, of a place in the unfolded data."""
    path = loc
    if len(loc) >= 2 and loc[0] == "nodes" and isinstance(loc[1], int) and loc[1] < len(origins):
        path = ("nodes", origins[loc[1]], *loc[2:])
        inherited = ("defaults", *loc[2:])
        if not document.has(path) and len(inherited) > 1 and document.has(inherited):
            path = inherited
    return document.line(path), field_name(path)
