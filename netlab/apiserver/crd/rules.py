"""x-kubernetes-validations: rules in CEL at any place of a schema (apiextensions-apiserver/pkg/apiserver/schema/cel).

`self` is the value at the place, `oldSelf` what it was before the update; a rule that speaks of `oldSelf` is asked only
when there was one, unless it says `optionalOldSelf`. What a list or map held before is found by key, never by position.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from netlab.apiserver.cel import CelError, Program, compile_, duration, timestamp
from netlab.apiserver.crd.structural import INT_OR_STRING, PRESERVE, Schema
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required, shown

RULES = "x-kubernetes-validations"
_NAMES = ("self", "oldSelf")
_OLD = re.compile(r"\boldSelf\b")
_RESERVED = frozenset(("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function",
                       "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"))
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9.]+)(ms|us|µs|ns|h|m|s)")
_NOTHING: Any = object()
_BUDGET_SECONDS = 1.0
"""Processor time that the rules of one write may take; upstream counts the steps of their evaluation instead."""


class _OutOfBudget(Exception):
    """The rules take too long; the text is the path of the value that was being looked at."""


def compiled(rule: Mapping[str, Any]) -> Program:
    """Return a rule's program.

    Raises:
        CelError: its text is no expression.
    """
    return compile_(str(rule.get("rule", "")).strip(), _NAMES)


def has_rules(schema: Schema) -> bool:
    """Tell whether there is a rule anywhere in a schema."""
    if schema.get(RULES):
        return True
    inner = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(has_rules(one) for one in inner if isinstance(one, dict))


def check(value: Any, old: Any, schema: Schema, path: str = "", *, updating: bool) -> list[FieldError]:
    """Ask every rule. `old` is the object before the update, None when it is made (`updating` False)."""
    until = time.thread_time() + _BUDGET_SECONDS
    errors: list[FieldError] = []
    try:
        for error in _ask(value, old if updating else _NOTHING, schema, path, until):
            errors.append(error)  # noqa: PERF402 - those before the budget ran out are told, too
    except _OutOfBudget as place:
        errors.append(invalid(str(place) or "<nil>", "object", "validation failed due to running out of cost budget, "
                              "no further validation rules will be run"))
    return errors


def _ask(value: Any, old: Any, schema: Schema, path: str, until: float) -> Iterator[FieldError]:
    if value is None:
        return
    for rule in schema.get(RULES) or ():
        if time.thread_time() > until:
            raise _OutOfBudget(path)
        said = _one(rule, value, old, schema, path)
        if said is not None:
            yield said
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            below = properties.get(name) or (extra if isinstance(extra, dict) else None)
            if below is not None:
                before = old.get(name, _NOTHING) if isinstance(old, dict) else _NOTHING
                place = f"{path}[{name}]" if name not in properties and path else f"{path}.{name}" if path else name
                yield from _ask(inner, before, below, place, until)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for at, item in enumerate(value):
            yield from _ask(item, _counterpart(item, old, schema), schema["items"], f"{path}[{at}]", until)


def _counterpart(item: Any, old: Any, schema: Schema) -> Any:
    """Return what a list's item was before: only lists that are maps say which one that is."""
    if schema.get("x-kubernetes-list-type") != "map" or not isinstance(old, list) or not isinstance(item, dict):
        return _NOTHING
    keys = schema.get("x-kubernetes-list-map-keys") or ()
    return next((one for one in old if isinstance(one, dict)
                 and all(one.get(key) == item.get(key) for key in keys)), _NOTHING)


def _one(rule: Mapping[str, Any], value: Any, old: Any, schema: Schema, path: str) -> FieldError | None:
    text = str(rule.get("rule", ""))
    transition, optional = bool(_OLD.search(text)), bool(rule.get("optionalOldSelf"))
    if transition and old is _NOTHING and not optional:
        return None
    values: dict[str, Any] = {"self": to_cel(value, schema), "oldSelf": None}
    if optional:
        values["oldSelf"] = [] if old is _NOTHING else [to_cel(old, schema)]
        text = _OLD.sub("__optional__", text)
    elif old is not _NOTHING:
        values["oldSelf"] = to_cel(old, schema)
    try:
        if optional:
            bound = f"cel.bind(__optional__, oldSelf.size() == 0 ? optional.none() : optional.of(oldSelf[0]), {text})"
            holds = compile_(bound, _NAMES).evaluate(values)
        else:
            holds = compiled(rule).evaluate(values)
    except CelError as error:
        return invalid(path or "<nil>", _kind(value), f"rule evaluation error: {error}")
    if holds is True:
        return None
    return _refusal(rule, value, values, path)


def _kind(value: Any) -> str:
    return {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer",
            float: "number"}.get(type(value), "null")


def _refusal(rule: Mapping[str, Any], value: Any, values: Mapping[str, Any], path: str) -> FieldError:
    said = _message(rule, values)
    field = path + str(rule.get("fieldPath") or "") if path else str(rule.get("fieldPath") or "").lstrip(".")
    field = field or "<nil>"
    plain = _kind(value) if isinstance(value, (dict, list)) else value
    match rule.get("reason"):
        case "FieldValueForbidden":
            return forbidden(field, said)
        case "FieldValueRequired":
            return required(field, said)
        case "FieldValueDuplicate":
            return FieldError("FieldValueDuplicate", field, f"Duplicate value: {shown(plain)}")
        case _:
            return invalid(field, plain, said)


def _message(rule: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    if rule.get("messageExpression"):
        try:
            found = compile_(str(rule["messageExpression"]), _NAMES).evaluate(values)
            if isinstance(found, str) and found.strip() and "\n" not in found:
                return found
        except CelError:
            pass  # as upstream: the message or the rule stands in
    if rule.get("message"):
        return str(rule["message"])
    return "failed rule: " + str(rule.get("rule", "")).strip()


def to_cel(value: Any, schema: Schema) -> Any:
    """Return a value as expressions see it: times and durations are such, properties have escaped names."""
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        if isinstance(extra, dict):
            return {name: to_cel(inner, extra) for name, inner in value.items()}
        unknown = bool(schema.get(PRESERVE)) and not properties
        return {name if unknown else escaped(name): to_cel(inner, properties.get(name) or {})
                for name, inner in value.items()}
    if isinstance(value, list):
        items = schema.get("items")
        return [to_cel(item, items if isinstance(items, dict) else {}) for item in value]
    if isinstance(value, str) and not schema.get(INT_OR_STRING):
        return _text(value, str(schema.get("format", "")))
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def escaped(name: str) -> str:
    """Return a property's name as an identifier of the language."""
    if name in _RESERVED:
        return f"__{name}__"
    for text, word in _ESCAPES:
        name = name.replace(text, word)
    return name


def _text(value: str, form: str) -> Any:
    try:
        if form in ("date-time", "date"):
            return timestamp(value)
        if form == "duration":
            return duration(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value)))
        if form == "byte":
            return base64.b64decode(value)
    except ValueError:
        return value
    return value
