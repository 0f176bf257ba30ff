"""Values against a schema, in the words of upstream (k8s.io/kube-openapi/pkg/validation, apiserver/validation)."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson

from netlab.apiserver import regular
from netlab.apiserver.crd.structural import EMBEDDED, INT_OR_STRING, Schema
from netlab.apiserver.validation.errors import FieldError, invalid, required, shown, too_many

_TYPES: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,),
                                       "integer": (int,), "number": (int, float)}
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h|d|w))+\Z")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\Z")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\Z")


def check(value: Any, schema: Schema, path: str = "") -> list[FieldError]:
    """Return what is wrong with a value. `path` is the field's, "" at the root."""
    return list(_value(value, schema, path))


def _value(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    if value is None and schema.get("nullable"):
        return
    kind = "integer,string" if schema.get(INT_OR_STRING) else schema.get("type", "")
    if kind and not _is(value, kind):
        yield invalid(path or "<nil>", _type_of(value) if value is not None else "null",
                      f"{_where(path)} in body must be of type {kind}: \"{_type_of(value)}\"")
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        words = ", ".join(shown(one) for one in schema["enum"])
        yield FieldError("FieldValueNotSupported", path or "<nil>",
                         f"Unsupported value: {shown(value)}: supported values: {words}")
    if isinstance(value, str):
        yield from _string(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, path)
    elif isinstance(value, dict):
        yield from _object(value, schema, path)
    yield from _combined(value, schema, path)


def _is(value: Any, kind: str) -> bool:
    for one in kind.split(","):
        wanted = _TYPES.get(one, (object,))
        if isinstance(value, bool):
            if one == "boolean":
                return True
            continue
        if isinstance(value, wanted) or (one == "integer" and isinstance(value, float) and value.is_integer()):
            return True
    return False


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "integer", float: "number", list: "array", dict: "object"}[type(value)]


def _where(path: str) -> str:
    return path or "<nil>"


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _string(value: str, schema: Schema, path: str) -> Iterator[FieldError]:
    at = _where(path)
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield FieldError("FieldValueTooLong", at, f"Too long: may not be more than {schema['maxLength']} bytes")
    if "minLength" in schema and len(value) < schema["minLength"]:
        yield invalid(at, value, f"{at} in body should be at least {schema['minLength']} chars long")
    if schema.get("pattern") and _pattern(schema["pattern"]).search(value) is None:
        yield invalid(at, value, f"{at} in body should match '{schema['pattern']}'")
    form = schema.get("format", "")
    if form in _FORMATS and not _FORMATS[form](value):
        yield invalid(at, value, f"{at} in body must be of type {form}: {shown(value)}")


def _number(value: float, schema: Schema, path: str) -> Iterator[FieldError]:
    at = _where(path)
    most, least = schema.get("maximum"), schema.get("minimum")
    if most is not None:
        strict = schema.get("exclusiveMaximum")
        if value > most or (strict and value == most):
            yield invalid(at, value,
                          f"{at} in body should be less than {'' if strict else 'or equal to '}{shown(most)}")
    if least is not None:
        strict = schema.get("exclusiveMinimum")
        if value < least or (strict and value == least):
            yield invalid(at, value,
                          f"{at} in body should be greater than {'' if strict else 'or equal to '}{shown(least)}")
    step = schema.get("multipleOf")
    if step and abs(value / step - round(value / step)) > 1e-9:
        yield invalid(at, value, f"{at} in body should be a multiple of {shown(step)}")
    if schema.get("format") == "int32" and not -2**31 <= value < 2**31:
        yield invalid(at, value, f"{at} in body must be of type int32: {shown(str(value))}")
    elif schema.get("format") == "int64" and not -2**63 <= value < 2**63:
        yield invalid(at, value, f"{at} in body must be of type int64: {shown(str(value))}")


def _list(value: list[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    at = _where(path)
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        yield too_many(at, len(value), schema["maxItems"])
    if "minItems" in schema and len(value) < schema["minItems"]:
        yield invalid(at, len(value), f"{at} in body should have at least {schema['minItems']} items")
    yield from _unique(value, schema, path)
    if isinstance(schema.get("items"), dict):
        for number, item in enumerate(value):
            yield from _value(item, schema["items"], f"{path}[{number}]")


def _unique(value: list[Any], schema: Schema, path: str) -> Iterator[FieldError]:
    """Check the items of sets and of maps in list form: each once."""
    style, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if schema.get("uniqueItems") or style == "set":
        seen: set[bytes] = set()
        for number, item in enumerate(value):
            token = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
            if token in seen:
                yield FieldError("FieldValueDuplicate", f"{path}[{number}]", f"Duplicate value: {shown(item)}")
            seen.add(token)
    elif style == "map":
        known: set[bytes] = set()
        fields = (schema.get("items") or {}).get("properties") or {}
        for number, item in enumerate(value):
            if not isinstance(item, dict):
                continue
            key = {name: item.get(name, (fields.get(name) or {}).get("default")) for name in keys}
            token = orjson.dumps(key, option=orjson.OPT_SORT_KEYS)
            if token in known:
                yield FieldError("FieldValueDuplicate", f"{path}[{number}]", f"Duplicate value: {shown(key)}")
            known.add(token)


def _object(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[FieldError]:
    at = _where(path)
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        yield too_many(at, len(value), schema["maxProperties"])
    if "minProperties" in schema and len(value) < schema["minProperties"]:
        yield invalid(at, len(value), f"{at} in body should have at least {schema['minProperties']} properties")
    for name in schema.get("required") or ():
        if name not in value:
            yield required(f"{path}.{name}" if path else name)
    if schema.get(EMBEDDED):
        for name in ("apiVersion", "kind"):
            if not value.get(name):
                yield required(f"{path}.{name}", "must not be empty")
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, inner in value.items():
        below = f"{path}.{name}" if path else name
        if name in properties:
            if not (inner is None and name not in (schema.get("required") or ())
                    and not properties[name].get("nullable") and not properties[name].get("type")):
                yield from _value(inner, properties[name], below)
        elif isinstance(extra, dict):
            yield from _value(inner, extra, f"{path}.{name}" if path else name)


def _combined(value: Any, schema: Schema, path: str) -> Iterator[FieldError]:
    at = _where(path)
    for one in schema.get("allOf") or ():
        yield from _value(value, one, path)
    choices = schema.get("anyOf") or ()
    if choices and not any(not check(value, one, path) for one in choices):
        yield invalid(at, value, f"{at} in body must validate at least one schema (anyOf)")
    choices = schema.get("oneOf") or ()
    if choices:
        fitting = sum(not check(value, one, path) for one in choices)
        if fitting != 1:
            count = f"{fitting} valid alternatives" if fitting else "none valid"
            yield invalid(at, value, f"{at} in body must validate one and only one schema (oneOf). Found {count}")
    if schema.get("not") is not None and not check(value, schema["not"], path):
        yield invalid(at, value, f"{at} in body must not validate the schema (not)")


def _pattern(text: str) -> Any:
    try:
        return regular.compile_(text)
    except ValueError:
        return regular.compile_("")  # stored by another server; the definition's check has said so


def _parses(read: Any) -> Any:
    def test(text: str) -> bool:
        try:
            read(text)
        except (ValueError, TypeError):
            return False
        return True
    return test


def _version(version: int) -> Any:
    def test(text: str) -> bool:
        try:
            return ipaddress.ip_address(text).version == version
        except ValueError:
            return False
    return test


def _date_time(text: str) -> datetime:
    if "T" not in text.upper():
        raise ValueError(text)
    return datetime.fromisoformat(text.replace("Z", "+00:00").replace("z", "+00:00"))


def _uri(text: str) -> str:
    if not urlsplit(text).scheme:
        raise ValueError(text)
    return text


_FORMATS: Mapping[str, Any] = {
    "date-time": _parses(_date_time), "date": _parses(lambda text: datetime.strptime(text, "%Y-%m-%d")),
    "duration": lambda text: bool(_DURATION.match(text.replace(" ", ""))) or text == "0",
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)), "email": lambda text: bool(_EMAIL.match(text)),
    "hostname": lambda text: len(text) <= 255 and bool(_HOST.match(text)), "ipv4": _version(4), "ipv6": _version(6),
    "cidr": _parses(lambda text: ipaddress.ip_network(text, strict=False) if "/" in text else int("no")),
    "uuid": _parses(UUID), "uuid3": _parses(UUID), "uuid4": _parses(UUID), "uuid5": _parses(UUID), "uri": _parses(_uri),
    "mac": lambda text: bool(re.fullmatch(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", text)),
    "hexcolor": lambda text: bool(re.fullmatch(r"#?([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})", text)),
}
"""The formats that are checked; others are words for readers (int32 and int64 are checked with the numbers)."""
