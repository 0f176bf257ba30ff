"""Values against a schema, in the words of upstream (k8s.io/kube-openapi/pkg/validation, apiserver/validation).

An update is let be with what was wrong before and has not changed since (ratcheting, KEP-4008): a part that is equal to
what stood in its place before has no errors. A list's items have a place only in lists that are maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from netlab.apiserver import regular
from netlab.apiserver.crd.formats import FORMATS
from netlab.apiserver.crd.structural import INT_OR_STRING, Schema
from netlab.apiserver.validation.errors import (
    FieldError,
    invalid,
    required,
    shown,
    too_long,
    too_many,
    type_invalid,
    unsupported,
)

ABSENT: Any = object()
"""What stood in a place before when nothing did, or nobody can tell."""

_TYPES: dict[str, tuple[type, ...]] = {"object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,),
                                       "integer": (int,), "number": (int, float)}
_INTEGERS = {"int32": 31, "int64": 63, "": 63}


@dataclass
class _Result:
    """What a part has wrong, and how many checks were made of it (counted as upstream counts, which tells of several
    alternatives the one with the most).
    """

    errors: list[FieldError] = field(default_factory=list)
    checks: int = 0

    def merge(self, other: _Result) -> None:
        self.errors += other.errors
        self.checks += other.checks


@dataclass(frozen=True)
class _Place:
    """Where a value is: `base` is the path of the schema's root (a status has one of its own), `path` goes on there."""

    base: str
    path: str

    def field(self) -> str:
        return ".".join(part for part in (self.base, self.path) if part) or "<nil>"


def check(value: Any, schema: Schema, *, base: str = "", old: Any = ABSENT) -> list[FieldError]:
    """Return what is wrong with a value.

    Args:
        value: as in JSON.
        base: the path of the field that the schema is of, "" for a whole object.
        old: what the value was before an update.
    """
    return _part(value, schema, _Place(base, ""), old).errors


def _part(value: Any, schema: Schema, at: _Place, old: Any) -> _Result:
    """Check one value, and let be what was there before."""
    found = _value(value, schema, at, old)
    if found.errors and old is not ABSENT and _same(value, old):
        found.errors = []
    return found


def _value(value: Any, schema: Schema, at: _Place, old: Any) -> _Result:
    kind, form = "integer,string" if schema.get(INT_OR_STRING) else schema.get("type", ""), schema.get("format", "")
    found = _Result([*_type(value, kind, form, at, nullable=bool(schema.get("nullable")))], 6 if kind or form else 4)
    if "enum" in schema and not any(one is not None and _same(value, one) for one in schema["enum"]):
        words = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in schema["enum"]]
        found.errors.append(unsupported(at.field(), value, words))
    if value is None:
        return found
    found.merge(_combined(value, schema, at, old))
    if isinstance(value, str):
        found.errors += _string(value, schema, at)
        found.errors += _format(value, form, at)
        found.checks += 1 + (form.replace("-", "") in FORMATS)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        found.errors += _number(value, schema, kind, form, at)
        found.checks += 2
    elif isinstance(value, list):
        found.merge(_list(value, schema, at, old))
    elif isinstance(value, dict):
        found.merge(_object(value, schema, at, old))
    return found


def _type(value: Any, kind: str, form: str, at: _Place, *, nullable: bool) -> Iterator[FieldError]:
    """Check the type; a format tells it as well, so that a number where a date should be is told to be no date."""
    if value is None:
        if kind and not nullable:
            yield type_invalid(at.field(), "null", f"{at.path} in body must be of type {kind}: \"null\"")
        return
    fits = any(_is(value, one) for one in kind.split(",")) if kind else not form
    if fits or (form and isinstance(value, list) and not _numeric(kind)):
        return
    has = _type_of(value)
    if form and not isinstance(value, (str, list)):
        kind, has = form, {"integer": "int64", "number": "float64"}.get(has, "")
        if form == has:
            return
    elif form and not _numeric(kind):
        return
    yield type_invalid(at.field(), has, f"{at.path} in body must be of type {kind}: {shown(has)}")


def _numeric(kind: str) -> bool:
    return "integer" in kind or "number" in kind


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    whole = kind == "integer" and isinstance(value, float) and value.is_integer()
    return whole or isinstance(value, _TYPES.get(kind, ()))


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return {str: "string", int: "integer", float: "number", list: "array", dict: "object"}[type(value)]


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _string(value: str, schema: Schema, at: _Place) -> Iterator[FieldError]:
    """Check a text: the first thing that is wrong is told."""
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        yield too_long(at.field(), schema["maxLength"])
    elif "minLength" in schema and len(value) < schema["minLength"]:
        yield invalid(at.field(), value, f"{at.path} in body should be at least {schema['minLength']} chars long")
    elif schema.get("pattern") and _pattern(schema["pattern"]).search(value) is None:
        yield invalid(at.field(), value, f"{at.path} in body should match '{schema['pattern']}'")


def _format(value: str, form: str, at: _Place) -> Iterator[FieldError]:
    test = FORMATS.get(form.replace("-", ""))
    if test is not None and not test(value):
        yield type_invalid(at.field(), value, f"{at.path} in body must be of type {form}: {shown(value)}")


def _number(value: float, schema: Schema, kind: str, form: str, at: _Place) -> Iterator[FieldError]:
    if kind == "integer":
        form = form if form in _INTEGERS else ""
        yield from _range(value, form, "Checked", at)
    for word, name in (("multipleOf", "MultipleOf"), ("minimum", "Minimum boundary"), ("maximum", "Maximum boundary")):
        limit = schema.get(word)
        if limit is None:
            continue
        whole = isinstance(value, int)
        if kind == "integer" and (said := [*_range(limit, form, name, at)]):
            yield from said
            whole = False
        if whole:  # an integer is held against the whole part of a limit
            limit = int(limit)
        if said_ := _limit(value, word, limit, strict=bool(schema.get(f"exclusive{word.title()}"))):
            yield invalid(at.field(), value, f"{at.path} in body should be {said_}")


def _range(value: float, form: str, name: str, at: _Place) -> Iterator[FieldError]:
    """Check that a number is an integer of its format. The error names no field but in its text, as upstream's."""
    bits = _INTEGERS[form]
    if not float(value).is_integer() or not -2**bits <= value < 2**bits:
        written = f"with format {form}" if form else "(default format)"
        yield invalid(at.base or "<nil>", "", f"{name} value must be of type integer {written} in {at.path}")


def _limit(value: float, word: str, limit: float, *, strict: bool) -> str:
    """Return what a number should be, "" where it is."""
    if word == "multipleOf":
        times = value / limit if limit else 0.5
        return "" if abs(times - round(times)) < 1e-9 else f"a multiple of {shown(limit)}"
    beyond = value > limit if word == "maximum" else value < limit
    if not beyond and not (strict and value == limit):
        return ""
    return f"{'less' if word == 'maximum' else 'greater'} than {'' if strict else 'or equal to '}{shown(limit)}"


def _list(value: list[Any], schema: Schema, at: _Place, old: Any) -> _Result:
    found, items = _Result(checks=2), schema.get("items")
    if isinstance(items, dict):
        for number, item in enumerate(value):
            found.merge(_part(item, items, _Place(at.base, f"{at.path}[{number}]"), counterpart(item, old, schema)))
    if "minItems" in schema and len(value) < schema["minItems"]:
        found.errors.append(invalid(at.field(), len(value),
                                    f"{at.path} in body should have at least {schema['minItems']} items"))
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        found.errors.append(too_many(at.field(), len(value), schema["maxItems"]))
    return found


def counterpart(item: Any, old: Any, schema: Schema) -> Any:
    """Return what a list's item was before: only lists that are maps say which one that is."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not isinstance(item, dict):
        return ABSENT
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    return next((one for one in old if isinstance(one, dict)
                 and all(one.get(key) == item.get(key) for key in keys)), ABSENT)


def _object(value: Mapping[str, Any], schema: Schema, at: _Place, old: Any) -> _Result:
    found = _Result(checks=1)
    if "minProperties" in schema and len(value) < schema["minProperties"]:
        found.errors.append(invalid(at.field(), len(value),
                                    f"{at.path} in body should have at least {schema['minProperties']} properties"))
    if "maxProperties" in schema and len(value) > schema["maxProperties"]:
        found.errors.append(too_many(at.field(), len(value), schema["maxProperties"]))
    properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, inner in value.items():
        part = properties.get(name, extra)
        if isinstance(part, dict):
            before = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
            found.merge(_part(inner, part, _Place(at.base, f"{at.path}.{name}" if at.path else name), before))
    for name in schema.get("required") or ():
        if name not in value:
            found.errors.append(required(_Place(at.base, f"{at.path}.{name}" if at.path else name).field()))
    return found


def _combined(value: Any, schema: Schema, at: _Place, old: Any) -> _Result:
    """Check alternatives. That none fits is told without a field; beside it, what the one that got furthest lacks."""
    found = _Result()

    def tell(said: str) -> None:
        found.errors.append(invalid(at.base or "<nil>", "", f"{shown(at.path)} must {said}"))

    if choices := schema.get("anyOf"):
        tried = [_value(value, one, at, old) for one in choices]
        fitting = next((one for one in tried if not one.errors), None)
        if fitting is None:
            tell("validate at least one schema (anyOf)")
        found.merge(fitting or _furthest(tried))
    if choices := schema.get("oneOf"):
        tried = [_value(value, one, at, old) for one in choices]
        count = sum(not one.errors for one in tried)
        if count == 1:
            found.merge(next(one for one in tried if not one.errors))
        else:
            how_many = f"{count} valid alternatives" if count else "none valid"
            tell(f"validate one and only one schema (oneOf). Found {how_many}")
            if not count:
                found.merge(_furthest(tried))
    if every := schema.get("allOf"):
        tried = [_value(value, one, at, old) for one in every]
        for one in tried:
            found.merge(one)
        count = sum(not one.errors for one in tried)
        if count != len(tried):
            tell("validate all the schemas (allOf)" + ("" if count else ". None validated"))
    if schema.get("not") is not None and not _value(value, schema["not"], at, old).errors:
        tell("not validate the schema (not)")
    return found


def _furthest(tried: Sequence[_Result]) -> _Result:
    return max(tried, key=lambda one: one.checks)


def _pattern(text: str) -> Any:
    try:
        return regular.compile_(text)
    except ValueError:
        return regular.compile_("")  # stored by another server; the definition's check has said so
