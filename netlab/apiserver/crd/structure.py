"""Is a schema structural, and do its defaults fit it (apiextensions-apiserver/pkg/apiserver/schema).

Structural: every value has one type, outside of allOf, anyOf, oneOf and not, which only add conditions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias

from netlab.apiserver import regular
from netlab.apiserver.crd import embedded, structural, values
from netlab.apiserver.crd.structural import EMBEDDED, INT_OR_STRING, PRESERVE, Schema
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required

_Level: TypeAlias = Literal["root", "item", "field"]
_JUNCTORS: Final = ("anyOf", "allOf", "oneOf")
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
_UNKNOWN: Final = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")
_GENERIC: Final = {"type": "empty", "default": "undefined", "title": "empty", "description": "empty",
                   "nullable": "false", PRESERVE: "false", EMBEDDED: "false", INT_OR_STRING: "false",
                   "x-kubernetes-list-map-keys": "empty", "x-kubernetes-list-type": "undefined",
                   "x-kubernetes-map-type": "undefined", "x-kubernetes-validations": "empty",
                   "additionalProperties": "undefined"}
"""What a condition may not say of a value."""


def convertible(schema: Schema) -> bool:
    """Tell whether a schema has only what a structural one may have: of another nothing more is asked."""
    if any(schema.get(word) for word in _UNKNOWN) or schema.get(PRESERVE) is False:
        return False
    if isinstance(schema.get("items"), list):
        return False
    return all(convertible(inner) for inner in _all_parts(schema))


def _all_parts(schema: Schema) -> Iterator[Schema]:
    for word in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(word), dict):
            yield schema[word]
    yield from (schema.get("properties") or {}).values()
    for word in _JUNCTORS:
        yield from schema.get(word) or ()


def check(schema: Schema, path: str) -> list[FieldError]:
    """Return what keeps a schema from being structural; if nothing does, what is wrong with its defaults."""
    found = [*_invariants(schema, path, "root"), *_complete(schema, schema, path, path)]
    return found or [*_defaults(schema, path)]


def _invariants(schema: Schema, path: str, level: _Level) -> Iterator[FieldError]:
    kind, items, extra = schema.get("type", ""), schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        yield from _invariants(items, f"{path}.items", "item")
    elif kind == "array":
        yield required(f"{path}.items", "must be specified")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _invariants(inner, f"{path}.properties[{name}]", "field")
    if extra is not None and level == "root":
        yield forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(extra, dict):
        yield from _invariants(extra, f"{path}.additionalProperties", "field")
    for word in (PRESERVE, EMBEDDED):
        if schema.get(INT_OR_STRING) and schema.get(word):
            yield invalid(f"{path}.{word}", True, f"must be false if {INT_OR_STRING} is true")
    yield from _conditions(schema, path)
    yield from _typed(schema, path, level)
    yield from _metadata(schema, path, level)
    if schema.get(EMBEDDED) and not schema.get(PRESERVE) and not schema.get("properties"):
        yield required(f"{path}.properties", f"must not be empty if {EMBEDDED} is true without {PRESERVE}")


def _typed(schema: Schema, path: str, level: _Level) -> Iterator[FieldError]:
    kind = schema.get("type", "")
    if schema.get(EMBEDDED) and kind != "object":
        said = f"must be object if {EMBEDDED} is true"
        yield invalid(f"{path}.type", kind, said) if kind else required(f"{path}.type", said)
    elif not kind and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        yield required(f"{path}.type", {"root": "must not be empty at the root",
                                        "item": "must not be empty for specified array items",
                                        "field": "must not be empty for specified object fields"}[level])
    if schema.get(EMBEDDED) and schema.get("additionalProperties") is not None:
        yield forbidden(f"{path}.additionalProperties", f"must not be used if {EMBEDDED} is set")
    if level == "root" and kind and kind != "object":
        yield invalid(f"{path}.type", kind, "must be object at the root")


def _metadata(schema: Schema, path: str, level: _Level) -> Iterator[FieldError]:
    """Check that nothing is said of what every object has, but for its names."""
    properties = schema.get("properties") or {}
    whole = level == "root" or bool(schema.get(EMBEDDED))
    for name in ("kind", "apiVersion"):
        if whole and name in properties and properties[name].get("type") != "string":
            yield invalid(f"{path}.properties[{name}].type", properties[name].get("type", ""), "must be string")
    if "metadata" not in properties:
        return
    metadata, place = properties["metadata"], f"{path}.properties[metadata]"
    if whole and metadata.get("type") != "object":
        yield invalid(f"{place}.type", metadata.get("type", ""), "must be object")
    more = set(metadata.get("properties") or {}) - {"name", "generateName"}
    if level == "root" and (more or any(metadata.get(word) for word in metadata if word not in (
            "type", "default", "properties"))):
        yield forbidden(place, "must not specify anything other than name and generateName, but metadata is implicitly "
                               "specified")


def _conditions(schema: Schema, path: str) -> Iterator[FieldError]:
    """Check the conditions. Two forms of "integer or string" may name types."""
    either = schema.get("anyOf") == _INT_OR_STRING
    first: Schema = next(iter(schema.get("allOf") or ()), {})
    nested_either = first.get("anyOf") == _INT_OR_STRING
    for word in _JUNCTORS:
        for at, inner in enumerate(schema.get(word) or ()):
            if word == "anyOf" and either:
                continue
            yield from _nested(inner, f"{path}.{word}[{at}]", either=word == "allOf" and at == 0 and nested_either)
    if schema.get("not") is not None:
        yield from _nested(schema["not"], f"{path}.not")
    if schema.get("pattern"):
        try:
            regular.compile_(str(schema["pattern"]))
        except ValueError as error:
            said = f"must be a valid regular expression, but isn't: {error}"
            yield invalid(f"{path}.pattern", schema["pattern"], said)


def _nested(part: Schema, path: str, *, either: bool = False) -> Iterator[FieldError]:
    yield from _conditions({**part, "anyOf": ()} if either else part, path)
    if isinstance(part.get("items"), dict):
        yield from _nested(part["items"], f"{path}.items")
    for name, inner in (part.get("properties") or {}).items():
        yield from _nested(inner, f"{path}.properties[{name}]")
    for word, wanted in _GENERIC.items():
        said = part.get(word)
        if said or (word in ("default", "additionalProperties") and word in part):
            yield forbidden(f"{path}.{word}", f"must be {wanted} to be structural")
    if "metadata" in (part.get("properties") or {}):
        yield forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


def _complete(part: Schema, schema: Schema | None, place: str, path: str) -> Iterator[FieldError]:
    """Check that what a condition speaks of is there (`schema` at `place`)."""
    if part.get("not") is not None:
        yield from _counterpart(part["not"], schema, place, f"{path}.not")
    for word in _JUNCTORS:
        for at, one in enumerate(part.get(word) or ()):
            yield from _counterpart(one, schema, place, f"{path}.{word}[{at}]")


def _counterpart(part: Schema, schema: Schema | None, place: str, path: str) -> Iterator[FieldError]:
    if schema is None:
        yield required(place, f"because it is defined in {path}")
        return
    yield from _complete(part, schema, place, path)
    if isinstance(part.get("items"), dict):
        yield from _counterpart(part["items"], schema.get("items"), f"{place}.items", f"{path}.items")
    for name, inner in (part.get("properties") or {}).items():
        yield from _counterpart(inner, (schema.get("properties") or {}).get(name), f"{place}.properties[{name}]",
                                f"{path}.properties[{name}]")


def _defaults(schema: Schema, path: str) -> Iterator[FieldError]:
    """Check the defaults, but for those of maps' values, which nothing has."""
    if "default" in schema and schema["default"] is not None:
        given, where = schema["default"], f"{path}.default"
        if structural.prune(given, schema)[0] != given if isinstance(given, dict) else _pruned(given, schema) != given:
            yield invalid(where, given, "must not have unknown fields")
        wrong = [*embedded.check(given, schema, where)]
        yield from wrong or values.check(given, schema, base=where)
    if isinstance(schema.get("items"), dict):
        yield from _defaults(schema["items"], f"{path}.items")
    for name, inner in (schema.get("properties") or {}).items():
        yield from _defaults(inner, f"{path}.properties[{name}]")


def _pruned(value: Any, schema: Schema) -> Any:
    """Return a value that is no object itself without unknown fields."""
    wrapped: Mapping[str, Any] = {"properties": {"value": schema}}
    return structural.prune({"value": value}, wrapped)[0]["value"]
