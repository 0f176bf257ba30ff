"""What is wrong with a schema's rules: texts, types, and what they may cost (pkg/apis/apiextensions/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from netlab.apiserver.cel import CelError, Environment, Patience, WrongType, types
from netlab.apiserver.cel.types import Type
from netlab.apiserver.crd import places
from netlab.apiserver.crd.declared import cardinality, declared
from netlab.apiserver.crd.structural import EMBEDDED, Schema
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)

RULES = "x-kubernetes-validations"
_PER_RULE, _PER_SCHEMA = 10_000_000, 100_000_000
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
_MOST_NAMED = 4
_RULE = {"Rule": "", "Message": "", "MessageExpression": "", "Reason": None, "FieldPath": "", "OptionalOldSelf": None}
_MANY = 2**64 - 1


@dataclass
class _Total:
    """What all rules of a schema cost."""

    cost: int = 0
    parts: list[tuple[int, str]] = field(default_factory=list)
    patience: Patience = field(default_factory=Patience)

    def add(self, path: str, cost: int) -> None:
        self.cost = min(_MANY, self.cost + cost)
        if cost > _PER_SCHEMA // 100:
            self.parts.append((cost, path))

    def errors(self, path: str) -> Iterator[FieldError]:
        if self.cost <= _PER_SCHEMA:
            return
        for _, place in sorted(self.parts, key=lambda one: -one[0])[:_MOST_NAMED]:
            yield forbidden(place, "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 "
                                   "schema")
        yield forbidden(path, _exceeded(f"{RULES} estimated rule cost total for entire OpenAPIv3 schema", self.cost,
                                        _PER_SCHEMA))


def check(schema: Schema, path: str, patience: Patience | None = None) -> Iterator[FieldError]:
    """Yield what is wrong with the rules of a whole structural schema, until patience is spent."""
    total = _Total(patience=patience or Patience())
    yield from _walk(schema, path, 1, total, root=True, known="")
    yield from total.errors(path)


def _walk(schema: Schema, path: str, times: int | None, total: _Total, *, root: bool, known: str | None,
          ) -> Iterator[FieldError]:
    """Check a part and what is in it.

    Args:
        times: how often there is one in an object at most; None: as often as fits into a request.
        known: "" where an update's old value is found; else where that ends, the path.
    """
    if schema.get(RULES):
        yield from _part(schema, path, times, total, root=root, known=known)
    for name, inner in (schema.get("properties") or {}).items():
        yield from _walk(inner, f"{path}.properties[{name}]", times, total, root=bool(inner.get(EMBEDDED)), known=known)
    for word, limit in (("items", "maxItems"), ("additionalProperties", "maxProperties")):
        inner = schema.get(word)
        if isinstance(inner, dict):
            most = schema.get(limit)
            inside = min(_MANY, times * max(0, most)) if isinstance(most, int) and times is not None else None
            correlated = word != "items" or schema.get("x-kubernetes-list-type") == "map"
            yield from _walk(inner, f"{path}.{word}", inside, total, root=bool(inner.get(EMBEDDED)),
                             known=known if correlated else known or path)


def _part(schema: Schema, path: str, times: int | None, total: _Total, *, root: bool, known: str | None,
          ) -> Iterator[FieldError]:
    found = declared(schema, root=root)
    seen: set[str] = set()
    for at, rule in enumerate(schema[RULES]):
        if said := total.patience.spent():
            yield forbidden(f"{path}.{RULES}[{at}]", said)
            return
        place, text = f"{path}.{RULES}[{at}]", str(rule.get("rule", "")).strip()
        if not text:
            continue
        if text in seen:
            yield duplicate(f"{place}.rule", text)
        seen.add(text)
        if found is None:
            yield invalid(f"{place}.rule", rule["rule"], "rule declared on schema that does not support validation "
                                                         f"rules type: '{schema.get('type', '')}'")
            continue
        optional = bool(rule.get("optionalOldSelf"))
        variables = {"self": found, "oldSelf": Type("optional_type", (found,)) if optional else found}
        count = cardinality(found) if times is None else times
        for word, wanted, said in (("rule", types.BOOL, "cel expression must evaluate to a bool"),
                                   ("messageExpression", types.STRING, "messageExpression must evaluate to a string")):
            if str(rule.get(word) or "").strip():
                yield from _expression(rule, word, wanted, said, variables, place, count, total, known)


def _expression(rule: Mapping[str, Any], word: str, wanted: Type, said: str, variables: Mapping[str, Type], place: str,
                count: int, total: _Total, known: str | None) -> Iterator[FieldError]:
    path, text, whole = f"{place}.{word}", str(rule[word]), as_struct(dict(rule), _RULE)
    try:
        program = Environment(variables).compile(text.strip(), wanted=(wanted,))
    except WrongType:
        yield invalid(path, whole, said)
        return
    except CelError as error:
        prefix = "messageExpression " if word == "messageExpression" else ""
        yield invalid(path, whole, f"{prefix}compilation failed: {error}")
        return
    if word == "rule" and program.uses("oldSelf") and known and not rule.get("optionalOldSelf"):
        yield invalid(path, text, f"oldSelf cannot be used on the uncorrelatable portion of the schema within {known}")
    elif word == "rule" and rule.get("optionalOldSelf") is not None and not program.uses("oldSelf"):
        yield invalid(f"{place}.optionalOldSelf", rule["optionalOldSelf"],
                      "may not be set if oldSelf is not used in rule")
    cost = min(_MANY, program.cost() * (count if word == "rule" else 1))  # a message is made once
    if cost > _PER_RULE:
        yield forbidden(path, _exceeded(f"estimated {word} cost", cost, _PER_RULE))
    total.add(path, cost)


def texts(schema: Schema, path: str, *, convertible: bool) -> Iterator[FieldError]:
    """Yield what is wrong with the texts of a part's rules; their places are looked up if the schema can be."""
    for at, rule in enumerate(schema.get(RULES) or ()):
        place, text = f"{path}.{RULES}[{at}]", str(rule.get("rule", "")).strip()
        message, where = rule.get("message"), str(rule.get("fieldPath") or "")
        if not text:
            yield required(f"{place}.rule", "rule is not specified")
        elif message and not str(message).strip():
            yield invalid(f"{place}.message", message, "must be non-empty if specified")
        elif message and _broken(str(message).strip()):
            yield invalid(f"{place}.message", message, "must not contain line breaks")
        elif not message and _broken(text):
            yield required(f"{place}.message", "message must be specified if rule contains line breaks")
        if rule.get("messageExpression") and not str(rule["messageExpression"]).strip():
            yield required(f"{place}.messageExpression", "messageExpression must be non-empty if specified")
        if rule.get("reason") is not None and rule["reason"] not in _REASONS:
            yield not_supported(f"{place}.reason", rule["reason"], _REASONS)
        if where and not where.strip():
            yield invalid(f"{place}.fieldPath", where, "must be non-empty if specified")
        if _broken(where):
            yield invalid(f"{place}.fieldPath", where, "must not contain line breaks")
        if where and convertible:
            try:
                places.find(where, schema)
            except places.NoPlace:
                yield invalid(f"{place}.fieldPath", where, "must be a valid path")


def _broken(text: str) -> bool:
    return "\n" in text or "\r" in text


def _exceeded(what: str, cost: int, limit: int) -> str:
    times = cost / limit
    factor = "more than 100x" if times > 100 else f"{times:f}x" if times < 1.5 else f"{times:.1f}x"
    return (f"{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, "
            "maxProperties, and maxLength where arrays, maps, and strings are declared)")


