"""Sets of fields, in the form of metav1.FieldsV1: the JSON of managedFields is the data structure itself.

A set is a dict of path elements: `f:name` a field, `k:{"name":"c"}` the list item with that key, `v:"x"` the value in a
list that is a set. The value is the set of what lies below; an element whose value is {} or holds "." is itself a
member. Sets are never changed once made: results share branches with the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

Set: TypeAlias = dict[str, Any]
MEMBER = "."


def is_set(found: object) -> bool:
    """Tell whether something that a client sent is a set: elements of known kinds all the way down."""
    return isinstance(found, dict) and all(
        isinstance(element, str) and _is_element(element) and is_set(inner) for element, inner in found.items())


def _is_element(text: str) -> bool:
    kind, _, rest = text.partition(":")
    if kind in ("k", "v"):
        try:
            value = json.loads(rest)
        except ValueError:
            return False
        return kind == "v" or isinstance(value, dict)
    return text == MEMBER or (kind == "f" and text != "f") or (kind == "i" and rest.removeprefix("-").isdecimal())


def is_member(node: Set) -> bool:
    """Tell whether the element that has this value is itself in the set."""
    return not node or MEMBER in node


def below(node: Set) -> Set:
    """Return what lies below, without the mark of the element itself."""
    return {element: inner for element, inner in node.items() if element != MEMBER} if MEMBER in node else node


def with_member(children: Set) -> Set:
    """Return the value of an element that is a member and has these below it."""
    return {MEMBER: {}, **children} if children else {}


def _node(children: Set, *, member: bool) -> Set | None:
    """Return the value of an element, None if it holds nothing."""
    if member:
        return with_member(children)
    return children or None


def union(left: Set, right: Set) -> Set:
    """Return what is in either."""
    if not left or not right:
        return left or right
    out = dict(left)
    for element, node in right.items():
        if element == MEMBER:
            continue
        mine = left.get(element)
        if mine is None:
            out[element] = node
        elif mine is not node:
            children = union(below(mine), below(node))
            out[element] = with_member(children) if is_member(mine) or is_member(node) else children
    return out


def difference(left: Set, right: Set) -> Set:
    """Return what is in the first and not in the second."""
    return _difference(left, right, deep=False)


def without(left: Set, right: Set) -> Set:
    """Return what is in the first and neither in the second nor below a member of it."""
    return _difference(left, right, deep=True)


def _difference(left: Set, right: Set, *, deep: bool) -> Set:
    if not right:
        return left
    out: Set = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None:
            out[element] = node
            continue
        gone = is_member(other)
        if deep and gone:
            continue
        rest = _node(_difference(below(node), below(other), deep=deep), member=is_member(node) and not gone)
        if rest is not None:
            out[element] = rest
    return out


def intersection(left: Set, right: Set) -> Set:
    """Return what is in both."""
    out: Set = {}
    for element, node in left.items():
        other = right.get(element)
        if other is None or element == MEMBER:
            continue
        both = _node(intersection(below(node), below(other)), member=is_member(node) and is_member(other))
        if both is not None:
            out[element] = both
    return out


def paths(node: Set, prefix: str = "") -> Iterator[str]:
    """Yield the members as error texts print them: `.spec.template.spec.containers[name="c"].image`.

    As upstream's sets are walked: those of a level before those below, fields before items.
    """
    elements = sorted((text for text in node if text != MEMBER), key=lambda text: ("fkvi".index(text[0]), text))
    yield from (prefix + spell(element) for element in elements if is_member(node[element]))
    for element in elements:
        yield from paths(below(node[element]), prefix + spell(element))


def spell(element: str) -> str:
    """Return one path element as error texts print it."""
    kind, _, rest = element.partition(":")
    if kind == "f":
        return f".{rest}"
    if kind == "k":
        return "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in sorted(json.loads(rest).items())) + "]"
    return f"[={rest}]" if kind == "v" else f"[{rest}]"
