"""Random objects of the kinds of the schema table, and what is left of one after a way through protobuf."""

from __future__ import annotations

import base64
from random import Random
from typing import Any

from netlab.api.schema import ARRAY, BOOLEAN, STRINGS, Field, Struct, Type, struct_of, table

_DEEP = 5
_TEXTS = ("", "a", "web", "ünï", "x" * 200, "Exists")
_SCHEMA = ARRAY.removesuffix("OrArray")


def random_object(shape: Struct, dice: Random, depth: int = 0) -> dict[str, Any]:
    """Return an object with some of the fields that protobuf has a number for."""
    found: dict[str, Any] = {}
    for field in shape.by_number.values():
        inner = struct_of(field.type)
        if field.inline and inner is not None:
            found |= random_object(inner, dice, depth + 1)
        elif dice.random() < (0.6 if depth < 2 else 0.3):
            found[field.name] = _value(field.type, dice, depth + 1)
    return found


def _value(kind: Type, dice: Random, depth: int) -> Any:
    if kind.code == "list":
        return [_value(kind.item, dice, depth) for _ in range(dice.randrange(3) if depth < _DEEP else 0)]
    if kind.code == "map":
        return {text or "k": _value(kind.item, dice, depth) for text in dice.sample(_TEXTS, dice.randrange(3))}
    inner = struct_of(kind)
    if inner is not None:
        return random_object(inner, dice, depth) if depth < _DEEP else {}
    if kind.reference in (ARRAY, BOOLEAN, STRINGS):
        schema = Type("struct", struct=_SCHEMA)
        others = {ARRAY: lambda: [_value(schema, dice, depth)], BOOLEAN: lambda: dice.random() < 0.5, STRINGS: lambda: ["a", ""]}
        return _value(schema, dice, depth) if dice.random() < 0.5 else others[kind.reference]()
    return _scalar(kind.code, dice)


def _scalar(code: str, dice: Random) -> Any:
    day = f"{dice.choice((1, 1969, 1970, 2026)):04}-0{dice.randrange(1, 10)}-1{dice.randrange(10)}T03:04:05"
    return {
        "string": lambda: dice.choice(_TEXTS), "boolean": lambda: dice.random() < 0.5,
        "int32": lambda: dice.choice((0, 1, -1, 127, 128, 5000, 2**31 - 1, -2**31)),
        "int64": lambda: dice.choice((0, 1, -1, 300, 2**63 - 1, -2**63)),
        "uint32": lambda: dice.choice((0, 2**32 - 1)), "uint64": lambda: dice.choice((0, 2**64 - 1)),
        "double": lambda: dice.choice((0.0, 1.5, -2.0)), "float": lambda: 0.5,
        "byte": lambda: base64.b64encode(dice.randbytes(dice.randrange(4))).decode(),
        "time": lambda: f"{day}Z", "micro-time": lambda: f"{day}.{dice.randrange(10**6):06}Z",
        "quantity": lambda: dice.choice(("0", "100m", "1Gi", "-5")),
        "int-or-string": lambda: dice.choice((0, 80, -1, "", "http", "25%")),
        "raw": lambda: {"b": [1, None, {"a": "ü"}], "a": dice.randrange(9)},
        "any": lambda: dice.choice(({"x": 1}, [1, "a"], "t", 7, True)), "object": dict,
    }[code]()


def told(shape: Struct, obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object as it is read after it was written: what is no pointer in Go is there, or goes when it is zero."""
    found: dict[str, Any] = {}
    for field in shape.by_number.values():
        inner = struct_of(field.type)
        if field.inline and inner is not None:
            found |= told(inner, obj)
        elif field.name in obj:
            value = _told(field.type, obj[field.name])
            if field.pointer or field.required or value or (inner is not None and field.type.item is None):
                found[field.name] = value
            if field.type.item is not None and not value and not field.pointer:
                found.pop(field.name, None)
        elif not field.pointer and field.type.item is None:
            found |= _zero(field)
    return found


def _told(kind: Type, value: Any) -> Any:
    inner = struct_of(kind)
    if kind.code == "list":
        return [_told(kind.item, one) for one in value]
    if kind.code == "map":
        return {key: _told(kind.item, one) for key, one in value.items()}
    if inner is not None:
        return told(inner, value)
    if kind.reference in (ARRAY, BOOLEAN, STRINGS):
        if isinstance(value, dict):
            return told(table().struct(_SCHEMA), value)
        if kind.reference == ARRAY:
            return [told(table().struct(_SCHEMA), one) for one in value]
    return value


def _zero(field: Field) -> dict[str, Any]:
    inner = struct_of(field.type)
    if inner is not None:
        return {field.name: told(inner, {})}
    zeros = {"string": "", "boolean": False, "int32": 0, "int64": 0, "uint32": 0, "uint64": 0, "double": 0.0,
             "quantity": "0", "int-or-string": 0}
    if field.type.code == "quantity":
        return {field.name: "0"}
    return {field.name: zeros[field.type.code]} if field.required and field.type.code in zeros else {}
