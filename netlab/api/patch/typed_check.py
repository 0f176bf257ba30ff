"""What is wrong with an object that is to be applied (sigs.k8s.io/structured-merge-diff/v6/typed/validate.go).

Values of a type that is not theirs, unknown fields, and items of lists that have no key or one that is taken. Values
are shown as Go shows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api import gotext
from netlab.api.patch.fieldset import spell
from netlab.api.patch.shape import LEAF, Form, Shape, element
from netlab.api.patch.typed import shown

_CONTAINERS = (dict, list)


def problems(value: Any, shape: Shape) -> list[str]:
    """Return a text for each thing that is wrong, with its path. A null is of every type."""
    if shape.struct is not None and _sound(value, shape):
        return []
    return list(_check(value, shape, ""))


def _sound(value: Any, shape: Shape) -> bool:
    """Tell whether nothing is wrong with an object of a built-in kind, as nearly always: no path is spelled for it."""
    kind = shown(value, shape)
    if kind == "struct":
        closed = shape.closed
        for name, inner in value.items():
            if closed and not shape.declares(name):
                return False
            if isinstance(inner, _CONTAINERS) and not _sound(inner, shape.entry(name)[1]):
                return False
    elif kind == "map":
        item = shape.item
        return item is None or item is LEAF or all(_sound(inner, item) for inner in value.values())
    elif kind in {"keyed", "set"}:
        elements = [element(item, shape) for item in value]
        if len(set(elements)) != len(elements) or any(map(_unlisted, value, elements, [shape] * len(value))):
            return False
        return shape.item is None or all(_sound(item, shape.item) for item in value)
    return True


def _check(value: Any, shape: Shape, path: str) -> Iterator[str]:
    if value is None:
        return
    if said := _unfit(value, shape.form):
        yield f"{path}: {said}"
        return
    inner = shape.inner or shape
    kind = shown(value, inner)
    if kind in {"struct", "map"}:
        for name, part in value.items():
            if inner.closed and not inner.declares(name):
                yield f"{path}.{name}: field not declared in schema"
            yield from _check(part, inner.child(name), f"{path}.{name}")
    elif kind in {"keyed", "set"}:
        yield from _associative(value, inner, path)
    elif shape.form == "list" and shape.item is not None:
        for at, item in enumerate(value):
            yield from _check(item, shape.item, f"{path}[{at}]")


def _associative(value: list[Any], shape: Shape, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for at, item in enumerate(value):
        pe = element(item, shape)
        if problem := _unlisted(item, pe, shape):
            yield f"{path}: element {at}: {problem}"
            return  # without a key there is no place to speak of what is in it, or behind it
        if pe in seen:
            yield f"{path}: duplicate entries for key {spell(pe)}"
        seen.add(pe)
        if shape.item is not None:
            yield from _check(item, shape.item, f"{path}{spell(pe)}")


def _unfit(value: Any, form: Form) -> str:
    """Return why a value is not of its type, "" where it is."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match form:
        case "numeric" if not number:
            return f"expected numeric (int or float), got {gotext.type_name(value)}"
        case "string" if not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{gotext.syntax(value)}}}"
        case "boolean" if not isinstance(value, bool):
            return f"expected boolean, got &{{{gotext.plain(value)}}}"
        case "scalar" if isinstance(value, (dict, list)):
            return f"expected any scalar, got &{{{gotext.plain(value)}}}"
        case "list" if not isinstance(value, list):
            return f"expected list, got &{{{gotext.plain(value)}}}"
        case "map" if not isinstance(value, dict):
            return f"expected map, got &{{{gotext.plain(value)}}}"
    return ""


def _unlisted(item: Any, pe: str, shape: Shape) -> str:
    """Return why something can't be an item of a list whose items have owners; "" if it can."""
    if shape.kind == "set":
        if isinstance(item, dict):
            return "associative list without keys has an element that's a map type"
        if isinstance(item, list):
            return "not supported: associative list with lists as elements"
        return "associative list without keys has an element that's an explicit null" if item is None else ""
    if not isinstance(item, dict):
        return f"associative list with keys may not have {'a null element' if item is None else 'non-map elements'}"
    if pe != "k:{}":
        return ""
    names = " ".join(f'"{name}"' for name in shape.keys)
    return (f"associative list with keys has an element that omits all key fields [{names}] (and doesn't have default "
            "values for any key fields)")
