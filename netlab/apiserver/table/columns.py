"""Columns of a table, and the forms that many cells share (k8s.io/kubernetes/pkg/printers/internalversion)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object

Cell = str | int | float | bool | None
Cells = Callable[[Object, float], list[Cell]]
"""(object, now in Unix seconds) → one cell per column, wide ones included."""

NONE, UNKNOWN, UNSET = "<none>", "<unknown>", "<unset>"


@dataclass(frozen=True, slots=True)
class Columns:
    """A kind's columns. `definitions` are meta.k8s.io TableColumnDefinitions."""

    definitions: list[Object]
    cells: Cells


def table(spec: str, cells: Cells) -> Columns:
    """Return columns from words: `Name Ready Age | IP "Nominated Node"`; those behind the bar are wide ones (-o wide).

    A word may carry its type (`Restarts:integer`, default string); underscores stand for spaces.
    """
    plain, _, wide = spec.partition("|")
    definitions: list[Object] = []
    for priority, words in ((0, plain.split()), (1, wide.split())):
        for word in words:
            name, _, kind = word.partition(":")
            definitions.append({"name": name.replace("_", " "), "type": kind or "string",
                                "format": "name" if name == "Name" else "", "description": "", "priority": priority})
    return Columns(definitions, cells)


def ordered(columns: Columns, wide: str) -> Columns:
    """Return the same columns with those named in `wide` shown only by -o wide, wherever they stand."""
    names = {word.replace("_", " ") for word in wide.split()}
    return Columns([definition | {"priority": int(definition["name"] in names)} for definition in columns.definitions],
                   columns.cells)


def age(obj: Object, now: float) -> str:
    """Return how long ago an object was made."""
    return since((obj.get("metadata") or {}).get("creationTimestamp"), now)


def since(text: Any, now: float) -> str:
    """Return how long ago a timestamp was, "<unknown>" for none."""
    if not text:
        return UNKNOWN
    try:
        return human_duration(now - meta.parse_timestamp(text))
    except (ValueError, TypeError):
        return UNKNOWN


def human_duration(seconds: float) -> str:
    """Return a duration as kubectl shows ages (k8s.io/apimachinery/pkg/util/duration.HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _pair(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _pair(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _pair(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def name(obj: Object) -> str:
    """Return an object's name."""
    return str((obj.get("metadata") or {}).get("name", ""))


def pairs(labels: Any) -> str:
    """Return a map as `a=b,c=d`, "<none>" when empty."""
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or NONE


def label_selector(found: Any) -> str:
    """Return a LabelSelector as text (metav1.FormatLabelSelector)."""
    if not found:
        return NONE
    parts = [(key, f"{key}={value}") for key, value in (found.get("matchLabels") or {}).items()]
    for rule in found.get("matchExpressions") or []:
        key, operator = rule.get("key", ""), rule.get("operator")
        values = ",".join(sorted(rule.get("values") or []))
        text = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key,
                "DoesNotExist": f"!{key}"}.get(str(operator))
        if text is None:
            return "<error>"
        parts.append((key, text))
    return ",".join(text for _, text in sorted(parts)) or NONE


def containers(template: Any) -> tuple[str, str]:
    """Return the names and the images of a PodSpec's containers."""
    found = (template or {}).get("containers") or []
    return ",".join(item.get("name", "") for item in found), ",".join(item.get("image", "") for item in found)


def some(texts: Iterable[str], limit: int = 3) -> str:
    """Return the first few, and how many more there are."""
    every = list(texts)
    shown = ",".join(every[:limit])
    return f"{shown} + {len(every) - limit} more..." if len(every) > limit else shown


def default_cells(obj: Object, now: float) -> list[Cell]:
    """Return name and age."""
    return [name(obj), age(obj, now)]


def created_cells(obj: Object, _now: float) -> list[Cell]:
    """Return name and time of creation."""
    return [name(obj), (obj.get("metadata") or {}).get("creationTimestamp") or UNKNOWN]
