"""Paths such as .spec.ports['http'] into a schema, which name fields that it has."""

from __future__ import annotations

import re
from typing import Final

from netlab.apiserver.crd.structural import Schema

_TOKEN: Final = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]]+")


class NoPlace(ValueError):
    """A path leads nowhere, or is none; the text says why."""


def find(path: str, schema: Schema, *, brackets: bool = True) -> tuple[tuple[str, ...], Schema]:
    """Return the names on a path, and the schema of what it leads to.

    Raises:
        NoPlace: the schema does not have it.
    """
    tokens, names = _TOKEN.findall(path), []
    while tokens:
        match tokens.pop(0):
            case "[" if not brackets:
                raise NoPlace("array notation is not allowed")
            case "[":
                name = tokens.pop(0) if tokens else ""
                if not name:
                    raise NoPlace("unexpected end of JSON path")
                if len(name) < 2 or name[0] != "'" or name[-1] != "'":
                    raise NoPlace(f"expected single quoted string but got {name}")
                names.append(re.sub(r"\\(.)", r"\1", name[1:-1]))
                if not tokens or tokens.pop(0) != "]":
                    raise NoPlace("unexpected end of JSON path")
            case ".":
                if not tokens:
                    raise NoPlace("unexpected end of JSON path")
                names.append(tokens.pop(0))
            case other:
                raise NoPlace(f"expected [ or . but got: {other}")
        schema = _inner(schema, names[-1])
    return tuple(names), schema


def _inner(schema: Schema, name: str) -> Schema:
    properties, extra = schema.get("properties"), schema.get("additionalProperties")
    found = properties.get(name) if properties else extra
    if not isinstance(found, dict):
        raise NoPlace("does not refer to a valid field")
    return found
