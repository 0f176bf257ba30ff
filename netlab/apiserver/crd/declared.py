"""The types that rules see in a schema, with the sizes that costs are estimated by (pkg/cel/common/schemas.go).

Only what the schema describes is there: unknown fields that are preserved are not, and of an object's metadata only the
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from netlab.apiserver.cel import types
from netlab.apiserver.cel.types import STRING, Type, list_of, map_of
from netlab.apiserver.crd.structural import EMBEDDED, INT_OR_STRING, Schema

REQUEST_BYTES = 3 << 20
_TIMES = {"duration": (types.DURATION, 32, 3), "date": (types.TIMESTAMP, 12, 12),
          "date-time": (types.TIMESTAMP, 32, 21)}
"""Format → type, longest text, shortest in JSON."""
_PLAIN = {"boolean": (types.BOOL, 4), "number": (types.DOUBLE, 1), "integer": (types.INT, 1)}
_TEXT = {"type": "string"}
_META: Mapping[str, Schema] = {"kind": _TEXT, "apiVersion": _TEXT, "metadata": {
    "type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}}
_RESERVED = frozenset(("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function",
                       "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"))
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")


def escaped(name: str) -> str:
    """Return a property's name as an identifier of the language."""
    if name in _RESERVED:
        return f"__{name}__"
    for text, word in _ESCAPES:
        name = name.replace(text, word)
    return name


def declared(schema: Schema, *, root: bool = False) -> Type | None:
    """Return the type of a schema's values, None for what rules can't see. `root`: of whole objects."""
    return _declared(schema, "selfType", root)


def cardinality(found: Type) -> int:
    """Return how many values of a type fit into one request."""
    return REQUEST_BYTES // (found.least_bytes + 1)


def _declared(schema: Schema, name: str, root: bool) -> Type | None:
    if schema.get(INT_OR_STRING):
        return replace(types.DYN, most=_characters(schema), least_bytes=1)
    kind = schema.get("type")
    if kind == "array" and isinstance(schema.get("items"), dict):
        return _list(schema, name)
    if kind == "object" or root:
        extra = schema.get("additionalProperties")
        return _map(schema, extra, name) if isinstance(extra, dict) else _object(schema, name, root)
    if kind == "string":
        return _string(schema)
    plain = _PLAIN.get(str(kind))
    return replace(plain[0], most=0, least_bytes=plain[1]) if plain is not None else None


def _list(schema: Schema, name: str) -> Type | None:
    item = _declared(schema["items"], f"{name}.@elem", bool(schema["items"].get(EMBEDDED)))
    if item is None:
        return None
    return list_of(item, _limit(schema, "maxItems", (REQUEST_BYTES - 2) // (item.least_bytes + 1)))


def _map(schema: Schema, extra: Schema, name: str) -> Type | None:
    value = _declared(extra, f"{name}.@elem", bool(extra.get(EMBEDDED)))
    if value is None:
        return None
    return map_of(replace(STRING, most=0, least_bytes=2), value,
                  _limit(schema, "maxProperties", (REQUEST_BYTES - 2) // (value.least_bytes + 6)))


def _object(schema: Schema, name: str, root: bool) -> Type:
    fields: dict[str, Type] = {}
    needed, least = schema.get("required") or (), 2
    properties = {**(schema.get("properties") or {}), **(_META if root else {})}
    for key, part in properties.items():
        found = _declared(part, f"{name}.{key}", bool(part.get(EMBEDDED)))
        if found is None or _NAME.match(key) is None:
            continue
        fields[escaped(key)] = found
        if key in needed and "default" not in part:
            least += len(key) + found.least_bytes + 4
    return Type(name, fields=fields, most=0, least_bytes=least)


def _string(schema: Schema) -> Type:
    form = schema.get("format")
    if form in _TIMES:
        kind, most, least = _TIMES[form]
        return replace(kind, most=most, least_bytes=least)
    if form == "byte":
        return replace(types.BYTES, most=_limit(schema, "maxLength", REQUEST_BYTES - 2), least_bytes=2)
    return replace(STRING, most=_characters(schema), least_bytes=2)


def _characters(schema: Schema) -> int:
    """Return how many bytes a text has at most: up to four for each character that the schema allows."""
    if isinstance(schema.get("maxLength"), int):
        return max(0, int(schema["maxLength"])) * 4
    words = [len(word.encode()) for word in schema.get("enum") or () if isinstance(word, str)]
    return max(words) if words and not schema.get(INT_OR_STRING) else REQUEST_BYTES - 2


def _limit(schema: Schema, field: str, otherwise: int) -> int:
    found = schema.get(field)
    return max(0, found) if isinstance(found, int) else otherwise
