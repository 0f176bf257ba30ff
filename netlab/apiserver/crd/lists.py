"""Sets, and maps in the form of lists: each item once (apiextensions-apiserver/pkg/apiserver/schema/listtype)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from netlab.apiserver.crd.structural import Schema
from netlab.apiserver.validation.errors import FieldError, duplicate


def check(value: Any, schema: Schema, path: str = "") -> Iterator[FieldError]:
    """Yield which items there are a second time."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            if isinstance(part := properties.get(name, extra), dict):
                place = f"{path}.{name}" if name in properties else f"{path}[{name}]"
                yield from check(inner, part, place if path else name)
    elif isinstance(value, list):
        yield from _each_once(value, schema, path)
        if isinstance(items := schema.get("items"), dict):
            for number, item in enumerate(value):
                yield from check(item, items, f"{path}[{number}]")


def _each_once(value: list[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    style, seen, told = schema.get("x-kubernetes-list-type"), set[bytes](), set[bytes]()
    if style not in ("set", "map"):
        return
    keys = schema.get("x-kubernetes-list-map-keys") or []
    for number, item in enumerate(value):
        if style == "map":
            if not isinstance(item, dict):
                continue
            item = {name: item[name] for name in keys if name in item}
        token = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
        if token in seen and token not in told:
            yield duplicate(f"{path}[{number}]", item)
            told.add(token)
        seen.add(token)
