"""What is wrong with the schema of a definition's version (pkg/apis/apiextensions/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from netlab.apiserver.crd import rule_checks, structure
from netlab.apiserver.crd.structural import PRESERVE, Schema
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, not_supported, required, unsupported

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_FORBIDDEN = ("definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties", "readOnly",
              "writeOnly", "xml", "$ref")
_LISTS = ("atomic", "set", "map")


def check(schema: Schema, path: str) -> Iterator[FieldError]:
    """Check that a schema is structural, that its defaults fit it, and that its rules compile."""
    if schema.get("nullable"):
        yield forbidden(f"{path}.nullable", "nullable cannot be true at the root")
    sound = structure.convertible(schema)
    wrong = [*(structure.check(schema, path) if sound else ()), *_parts(schema, path)]
    yield from wrong
    if sound and not wrong:
        yield from rule_checks.check(schema, path)


def _parts(schema: Schema, path: str) -> Iterator[FieldError]:
    """Check what every part says, those of conditions as well."""
    yield from _part(schema, path)
    for word in ("additionalProperties", "not", "items"):
        if isinstance(schema.get(word), dict):
            yield from _parts(schema[word], f"{path}.{word}")
    for word in ("properties", "definitions"):
        for name, inner in (schema.get(word) or {}).items():
            yield from _parts(inner, f"{path}.{word}[{name}]")
    for word in ("allOf", "oneOf", "anyOf"):
        for at, inner in enumerate(schema.get(word) or ()):
            yield from _parts(inner, f"{path}.{word}[{at}]")


def _part(part: Schema, path: str) -> Iterator[FieldError]:
    kind, extra, style = part.get("type", ""), part.get("additionalProperties"), part.get("x-kubernetes-map-type")
    if kind and kind not in _TYPES:
        yield not_supported(f"{path}.type", kind, _TYPES)
    if kind == "null":
        yield forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    yield from (forbidden(f"{path}.{word}", f"{word} is not supported") for word in _FORBIDDEN if part.get(word))
    if isinstance(part.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    elif not isinstance(part.get("items") or {}, dict):
        yield invalid(f"{path}.items", part["items"], "must be a schema object")
    if extra is not None and extra is not True and part.get("properties"):
        yield forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
    if not isinstance(extra or False, (bool, dict)):
        yield invalid(f"{path}.additionalProperties", extra, "must be true, false or a schema object")
    if part.get("uniqueItems"):
        yield forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the runtime complexity becomes "
                                               "quadratic")
    if part.get(PRESERVE) is False:
        yield invalid(f"{path}.{PRESERVE}", False, "must be true or undefined")
    if style is not None and kind != "object":
        said = "must be object if x-kubernetes-map-type is specified"
        yield invalid(f"{path}.type", kind, said) if kind else required(f"{path}.type", said)
    if style not in (None, "atomic", "granular"):
        yield unsupported(f"{path}.x-kubernetes-map-type", style, ("atomic", "granular"))
    yield from _list(part, path)
    yield from rule_checks.texts(part, path, convertible=structure.convertible(part))


def _list(part: Schema, path: str) -> Iterator[FieldError]:
    style, keys = part.get("x-kubernetes-list-type"), part.get("x-kubernetes-list-map-keys") or []
    if style is not None and part.get("type") != "array":
        said = "must be array if x-kubernetes-list-type is specified"
        yield invalid(f"{path}.type", part["type"], said) if part.get("type") else required(f"{path}.type", said)
    if style is not None and style not in _LISTS:
        yield unsupported(f"{path}.x-kubernetes-list-type", style, _LISTS)
    items = part.get("items")
    if style in ("set", "map") and isinstance(items, dict) and items.get("nullable"):
        yield forbidden(f"{path}.items.nullable", f"cannot be nullable when x-kubernetes-list-type is {style}")
    if style == "set" and isinstance(items, dict) and part.get("type") == "array":
        yield from _set(items, f"{path}.items")
    if keys and style != "map":
        said = "must be map if x-kubernetes-list-map-keys is non-empty"
        yield required(f"{path}.x-kubernetes-list-type", said) if style is None else \
            invalid(f"{path}.x-kubernetes-list-type", style, said)
    if style == "map":
        yield from _map(part.get("items"), keys, path)


def _set(items: Schema, path: str) -> Iterator[FieldError]:
    """Check that a set's items are compared as wholes."""
    said = "must be atomic as item of a list with x-kubernetes-list-type=set"
    inner = items.get("x-kubernetes-list-type")
    if items.get("type") == "array" and inner not in (None, "atomic"):
        yield invalid(f"{path}.x-kubernetes-list-type", inner, said)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield invalid(f"{path}.x-kubernetes-map-type", inner, said)


def _map(items: Any, keys: list[str], path: str) -> Iterator[FieldError]:
    """Check a list that is a map: of objects, by fields that each of them has."""
    if not keys:
        yield required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        yield required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
        return
    if not isinstance(items, dict):
        yield invalid(f"{path}.items", items, "must only have a single schema if x-kubernetes-list-type is map")
        return
    if items.get("type") != "object":
        yield invalid(f"{path}.items.type", items.get("type", ""),
                      "must be object if parent array's x-kubernetes-list-type is map")
        return
    fields: Mapping[str, Any] = items.get("properties") or {}
    for at, key in enumerate(keys):
        field = f"{path}.items.properties[{key}]"
        if key in keys[:at]:
            yield invalid(f"{path}.x-kubernetes-list-map-keys", keys, "must not contain duplicate entries")
        if key not in fields:
            yield invalid(f"{path}.x-kubernetes-list-map-keys", keys, "entries must all be names of item properties")
            continue
        if fields[key].get("type") in ("array", "object"):
            yield invalid(f"{field}.type", items["type"],
                          "must be a scalar type if parent array's x-kubernetes-list-type is map")
        if key not in (items.get("required") or ()) and fields[key].get("default") is None:
            yield required(f"{field}.default", "this property is in x-kubernetes-list-map-keys, so it must have a "
                                               "default or be a required property")
        if fields[key].get("nullable"):
            yield forbidden(f"{field}.nullable", "this property is in x-kubernetes-list-map-keys, so it cannot be "
                                                 "nullable")
