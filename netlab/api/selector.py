"""Label selectors: the string of `kubectl get -l` and the LabelSelector object (apimachinery/pkg/labels)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from netlab.api import names
from netlab.api.meta import Object

_TOKEN = re.compile(r"==|!=|[=!<>,()]|[^\s=!<>,()]+")
_SIGNS = frozenset({"=", "==", "!=", "!", "<", ">", ",", "(", ")"})
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


@dataclass(frozen=True)
class Requirement:
    """One condition. `operator` is in, notin, =, !=, exists, !, gt or lt; `=` and `in` of one value are the same."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet it. A missing key meets notin, != and `!`."""
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        limit = next(iter(self.values))
        if value is None or not _is_number(value):
            return False
        return int(value) > int(limit) if self.operator == "gt" else int(value) < int(limit)

    def __str__(self) -> str:
        values = sorted(self.values)
        match self.operator:
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(values)})"
            case "=" | "!=":
                return f"{self.key}{self.operator}{values[0]}"
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
        return f"{self.key}{'>' if self.operator == 'gt' else '<'}{values[0]}"


@dataclass(frozen=True)
class Selector:
    """All requirements must hold; with `nothing` set none ever does."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels are selected."""
        return not self.nothing and all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Tell whether everything is selected."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


@lru_cache(maxsize=512)
def parse(text: str) -> Selector:
    """Return the selector of a text such as `app=web,tier in (a,b),!old`; "" selects everything.

    Raises:
        ValueError: it can't be read; the message is Kubernetes' own.
    """
    tokens = _TOKEN.findall(text)
    found: list[Requirement] = []
    at = 0
    while at < len(tokens):
        if tokens[at] != "!" and tokens[at] in _SIGNS:
            raise ValueError(f"found '{tokens[at]}', expected: !, identifier, or 'end of string'")
        requirement, at = _requirement([*tokens, ""], at)
        found.append(requirement)
        if at < len(tokens):
            if tokens[at] != ",":
                raise ValueError(f"found '{tokens[at]}', expected: ',' or 'end of string'")
            at += 1
            follows = tokens[at] if at < len(tokens) else ""
            if not follows or (follows != "!" and follows in _SIGNS):
                raise ValueError(f"found '{follows}', expected: identifier after ','")
    return Selector(tuple(sorted(found, key=lambda requirement: requirement.key)))


def _unparsable(message: str) -> ValueError:
    return ValueError(f"unable to parse requirement: {message}")


def _requirement(tokens: list[str], at: int) -> tuple[Requirement, int]:
    """Read one requirement; `tokens` end with an empty one. Returns it and the place behind it."""
    if tokens[at] == "!":
        return Requirement(_key(tokens[at + 1]), "!"), at + 2
    key, operator = _key(tokens[at]), tokens[at + 1]
    if operator in {"", ","}:
        return Requirement(key, "exists"), at + 1
    if operator in {"=", "==", "!="}:
        value = tokens[at + 2]
        empty = value in {"", ","}
        if value in _SIGNS and not empty:
            raise _unparsable(f"found '{value}', expected: identifier")
        return (Requirement(key, "!=" if operator == "!=" else "=", frozenset({_value(key, "" if empty else value)})),
                at + 2 if empty else at + 3)
    if operator in {"in", "notin"}:
        values, at = _values(tokens, at + 2)
        for place, value in enumerate(sorted(values)):
            _value(key, value, place)
        return Requirement(key, operator, frozenset(values)), at
    if operator in {">", "<"}:
        value = tokens[at + 2]
        if not _is_number(value):
            raise _unparsable(f'values[0]: Invalid value: "{value}": for \'Gt\', \'Lt\' operators, the value must be '
                              "an integer")
        return Requirement(key, "gt" if operator == ">" else "lt", frozenset({value})), at + 3
    raise _unparsable(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")


def _values(tokens: list[str], at: int) -> tuple[set[str], int]:
    """Read `(a, b)`; returns the values and the place behind the closing parenthesis."""
    if tokens[at] != "(":
        raise _unparsable(f"found '{tokens[at]}' expected: '('")
    values, at, expected = set[str](), at + 1, True
    while (token := tokens[at]) != ")":
        if token == ",":
            if expected:
                values.add("")
            expected = True
        elif not expected:
            raise _unparsable(f"found '{token}', expected: ',' or ')'")
        elif not token or token in _SIGNS:
            raise _unparsable(f"found '{token}', expected: ',', ')' or identifier")
        else:
            values.add(token)
            expected = False
        at += 1
    if expected:
        values.add("")
    return values, at + 1


def _key(text: str) -> str:
    if not text or text in _SIGNS:
        raise _unparsable(f"found '{text}', expected: identifier")
    if problems := names.qualified_name(text):
        raise _unparsable(f'<nil>: Invalid value: "{text}": {"; ".join(problems)}')
    return text


def _value(key: str, text: str, place: int = 0) -> str:
    if problems := names.label_value(text):
        raise _unparsable(f'values[{place}][{key}]: Invalid value: "{text}": {"; ".join(problems)}')
    return text


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?\d{1,19}", text) is not None


def from_object(obj: Object | None) -> Selector:
    """Return the selector of a metav1.LabelSelector: {} selects everything, None nothing.

    Raises:
        ValueError: an operator is unknown or its values do not fit it.
    """
    if obj is None:
        return NOTHING
    found = [Requirement(key, "=", frozenset({value})) for key, value in (obj.get("matchLabels") or {}).items()]
    for expression in obj.get("matchExpressions") or ():
        name, values = expression.get("operator"), expression.get("values") or ()
        if name not in _OPERATORS:
            raise ValueError(f'"{name}" is not a valid label selector operator')
        if name in {"In", "NotIn"} and not values:
            raise ValueError("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
        if name in {"Exists", "DoesNotExist"} and values:
            raise ValueError("values: Invalid value: values set must be empty for exists and does not exist")
        found.append(Requirement(expression["key"], _OPERATORS[name], frozenset(values)))
    return Selector(tuple(sorted(found, key=lambda requirement: requirement.key)))


def from_labels(labels: Mapping[str, str]) -> Selector:
    """Return the selector for objects that carry all these labels (Service.spec.selector)."""
    return Selector(tuple(Requirement(key, "=", frozenset({value})) for key, value in sorted(labels.items())))
