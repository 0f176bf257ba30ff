"""additionalPrinterColumns: a custom resource's columns, found by JSONPath; without any, name and age."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.table.columns import Cell, Columns, age, name, since

_STEP = re.compile(r"\.([A-Za-z0-9_$@\0\-/]*?)(?=[.\[]|\Z)|\['((?:[^'\\]|\\.)*)'\]|\[(\*|-?\d+)\]|"
                   r"\[\?\(@\.([\w.]+)\s*==\s*[\"']([^\"']*)[\"']\)\]")
_DESCRIPTION = "Custom resource definition column (in JSONPath format): "
_TYPES = {"integer": int, "number": float, "boolean": bool}


class BadPath(ValueError):
    """A text is no JSONPath of the simple kind that columns use."""


def parse(path: str) -> list[tuple[str, Any]]:
    """Return a path's steps: ("field", name), ("index", number), ("all", None), ("where", (field, value)).

    Raises:
        BadPath: it cannot be read.
    """
    steps: list[tuple[str, Any]] = []
    at = 0
    text = re.sub(r"\\\.", "\0", path)
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or match.end() == at:
            raise BadPath(f'"{path}" is not a valid JSONPath')
        field, quoted, index, where, value = match.groups()
        if where is not None:
            steps.append(("where", (where.split("."), value)))
        elif index is not None:
            steps.append(("all", None) if index == "*" else ("index", int(index)))
        else:
            steps.append(("field", (quoted if quoted is not None else field).replace("\0", ".")))
        at = match.end()
    return steps


def find(obj: Any, steps: Sequence[tuple[str, Any]]) -> list[Any]:
    """Return all values that a path leads to."""
    found = [obj]
    for kind, what in steps:
        following: list[Any] = []
        for value in found:
            if kind == "field" and isinstance(value, dict):
                following += [value[what]] if what in value else []
            elif kind == "index" and isinstance(value, list):
                following += [value[what]] if -len(value) <= what < len(value) else []
            elif kind == "all":
                following += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            elif kind == "where" and isinstance(value, list):
                following += [item for item in value if _at(item, what[0]) == what[1]]
        found = following
    return found


def _at(value: Any, names: Sequence[str]) -> Any:
    for one in names:
        value = value.get(one) if isinstance(value, dict) else None
    return value


def columns(version: Mapping[str, Any]) -> Columns:
    """Return the columns of one version of a definition."""
    given = version.get("additionalPrinterColumns") or []
    if not given:
        given = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    definitions: list[Object] = [{"name": "Name", "type": "string", "format": "name", "priority": 0,
                                  "description": "Name must be unique within a namespace."}]
    readers = []
    for column in given:
        try:
            steps = parse(column["jsonPath"])
        except BadPath:  # as upstream: those before it are shown
            break
        definitions.append({"name": column["name"], "type": column["type"], "format": column.get("format", ""),
                            "description": column.get("description") or _DESCRIPTION + column["jsonPath"],
                            "priority": column.get("priority", 0)})
        readers.append((column["type"], steps, column["jsonPath"]))

    def cells(obj: Object, now: float) -> list[Cell]:
        return [name(obj), *(_cell(obj, kind, steps, path, now) for kind, steps, path in readers)]

    return Columns(definitions, cells)


def _cell(obj: Object, kind: str, steps: Sequence[tuple[str, Any]], path: str, now: float) -> Cell:
    if path == ".metadata.creationTimestamp":
        return age(obj, now)
    found = find(obj, steps)
    if not found:
        return None
    value = found[0]
    if kind == "date":
        return since(value, now)
    if kind == "string":
        return _one(value)
    wanted = _TYPES.get(kind)
    if wanted in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if wanted is int or float(value).is_integer() else value
    fits: bool = wanted is not None and type(value) is wanted
    cell: Cell = value if fits else None
    return cell


def _one(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{','.join(_quoted(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_quoted(key)}:{_quoted(inner)}' for key, inner in value.items())}}}"
    return "" if value is None else str(value)


def _quoted(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else _one(value)


