"""x-kubernetes-validations: rules in CEL at any place of a schema (apiextensions-apiserver/pkg/apiserver/schema/cel).

`self` is the value at the place, `oldSelf` what it was before the update; a rule that speaks of `oldSelf` is asked only
when there was one, unless it says `optionalOldSelf`. What a list or map held before is found by key, never by position.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from netlab.apiserver.cel import (
    OUT,
    Budget,
    CelError,
    Optional,
    OutOfBudget,
    Patience,
    Program,
    compile_dynamic,
    duration,
    timestamp,
)
from netlab.apiserver.crd.declared import escaped
from netlab.apiserver.crd.rule_checks import RULES
from netlab.apiserver.crd.structural import INT_OR_STRING, PRESERVE, Schema
from netlab.apiserver.crd.values import ABSENT, counterpart
from netlab.apiserver.validation.errors import FieldError, duplicate, forbidden, invalid, required, without_value

_NAMES = ("self", "oldSelf")
_BUDGET, _SECONDS = 10_000_000, 1.0
"""What the rules of one write may cost, as upstream has it, and the processor time that they may take besides."""
_MOST_MESSAGE = 5 * 1024


@dataclass(frozen=True, slots=True)
class _Left:
    """What is left for the rules of one write; what goes on between two evaluations takes its time, too."""

    budget: Budget
    patience: Patience


class _Stopped(Exception):
    """No more rules are asked; the error says why."""

    def __init__(self, error: FieldError) -> None:
        super().__init__(str(error))
        self.error = error


def compiled(text: str) -> Program:
    """Return a rule's program. Raises CelError, its text is no expression."""
    return compile_dynamic(text.strip(), _NAMES)


def has_rules(schema: Schema) -> bool:
    """Tell whether there is a rule anywhere in a schema."""
    if schema.get(RULES):
        return True
    inner = [*(schema.get("properties") or {}).values(), schema.get("items"), schema.get("additionalProperties")]
    return any(has_rules(one) for one in inner if isinstance(one, dict))


def check(value: Any, old: Any, schema: Schema, path: str = "", *, updating: bool) -> list[FieldError]:
    """Ask every rule. `old` is the object before the update, None when it is made (`updating` False)."""
    left = _Left(Budget(_BUDGET, _SECONDS), Patience(_SECONDS))
    errors: list[FieldError] = []
    try:
        for error in _ask(value, old if updating else ABSENT, schema, path, left):
            errors.append(error)  # noqa: PERF402 - those before the budget ran out are told, too
    except _Stopped as stopped:
        errors.append(stopped.error)
    return errors


def _ask(value: Any, old: Any, schema: Schema, path: str, left: _Left) -> Iterator[FieldError]:
    if value is None:
        return
    asked = schema.get(RULES) or ()
    seen = to_cel(value, schema) if asked else None
    before = to_cel(old, schema) if asked and old is not ABSENT else ABSENT
    for rule in asked:
        said = _one(rule, value, seen, before, path, left)
        if said is not None:
            yield said
    if isinstance(value, dict):
        properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, inner in value.items():
            below = properties.get(name) or (extra if isinstance(extra, dict) else None)
            if below is not None:
                before = old.get(name, ABSENT) if isinstance(old, dict) else ABSENT
                place = f"{path}[{name}]" if name not in properties and path else f"{path}.{name}" if path else name
                yield from _ask(inner, before, below, place, left)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for at, item in enumerate(value):
            yield from _ask(item, counterpart(item, old, schema), schema["items"], f"{path}[{at}]", left)


def _one(rule: Mapping[str, Any], value: Any, seen: Any, old: Any, path: str, left: _Left) -> FieldError | None:
    """Ask one rule about a value; `seen` and `old` are what it sees of it, and of what was there before."""
    text, optional = str(rule.get("rule", "")), bool(rule.get("optionalOldSelf"))
    try:
        program = compiled(text)
        if old is ABSENT and not optional and program.uses("oldSelf"):
            return None
        before = None if old is ABSENT else old
        values = {"self": seen, "oldSelf": Optional(before, there=old is not ABSENT) if optional else before}
        if left.patience.spent():
            raise OutOfBudget(OUT)
        if program.evaluate(values, left.budget) is True:
            return None
    except OutOfBudget as error:
        raise _Stopped(invalid(path or "<nil>", _kind(value), str(error))) from None
    except CelError as error:
        return _failed(rule, str(error), value, path)
    return _refusal(rule, value, values, path, left)


def _failed(rule: Mapping[str, Any], said: str, value: Any, path: str) -> FieldError:
    """Say that a rule has no value. Raises _Stopped, it took too much."""
    about = str(rule.get("message") or "").strip() or str(rule.get("rule", "")).strip()
    if said.startswith("no such overload"):
        return invalid(path or "<nil>", _kind(value), f"'{said}': call arguments did not match a supported operator, "
                                                      f"function or macro signature for rule: {about}")
    if said.startswith("operation cancelled"):
        raise _Stopped(invalid(path or "<nil>", _kind(value), f"'{said}': no further validation rules will be run due "
                                                              f"to call cost exceeds limit for rule: {about}"))
    return invalid(path or "<nil>", _kind(value), f"{said} evaluating rule: {about}")


def _kind(value: Any) -> str:
    return {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer",
            float: "number"}.get(type(value), "null")


def _refusal(rule: Mapping[str, Any], value: Any, values: Mapping[str, Any], path: str,
             left: _Left) -> FieldError:
    said = _message(rule, values, left)
    field = path + str(rule.get("fieldPath") or "") if path else str(rule.get("fieldPath") or "").lstrip(".")
    field = field or "<nil>"
    match rule.get("reason"):
        case "FieldValueForbidden":
            return forbidden(field, said)
        case "FieldValueRequired":
            return required(field, said)
        case "FieldValueDuplicate" if isinstance(value, (dict, list)):
            return FieldError("FieldValueDuplicate", field, "Duplicate value")
        case "FieldValueDuplicate":
            return duplicate(field, value)
        case _ if isinstance(value, (dict, list)):
            return without_value(field, said)
        case _:
            return invalid(field, value, said)


def _message(rule: Mapping[str, Any], values: Mapping[str, Any], left: _Left) -> str:
    if rule.get("messageExpression"):
        try:
            found = compiled(str(rule["messageExpression"])).evaluate(values, left.budget)
            if isinstance(found, str) and found.strip() and "\n" not in found and len(found) <= _MOST_MESSAGE:
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


def _text(value: str, form: str) -> Any:
    try:
        if form in ("date-time", "date"):
            return timestamp(value)
        if form == "duration":
            return duration(value)
        if form == "byte":
            return base64.b64decode(value)
    except ValueError:
        return value
    return value
