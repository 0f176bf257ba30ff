"""Selectors of labels and of nodes (apimachinery's meta/v1/validation, and core/validation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import meta, names
from netlab.apiserver.validation.errors import FieldError, forbidden, invalid, required, wrong

_SET = ("In", "NotIn")
_EXISTENCE = ("Exists", "DoesNotExist")
_NO_OPERATOR = "not a valid selector operator"


def label_selector(found: Object | None, path: str) -> Iterator[FieldError]:
    """Check a LabelSelector; an absent one is fine."""
    if not found:
        return
    yield from meta.check_labels(found.get("matchLabels"), f"{path}.matchLabels")
    for at, rule in enumerate(found.get("matchExpressions") or ()):
        field = f"{path}.matchExpressions[{at}]"
        yield from _operator(rule, field)
        yield from _key_and_values(rule, field)


def node_selector(found: Object, path: str) -> Iterator[FieldError]:
    """Check a NodeSelector: at least one term, each of labels and of the node's name."""
    terms = found.get("nodeSelectorTerms") or ()
    if not terms:
        yield required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for at, term in enumerate(terms):
        yield from node_term(term, f"{path}.nodeSelectorTerms[{at}]")


def node_term(term: Object, path: str, *, any_value: bool = False) -> Iterator[FieldError]:
    """Check one term. `any_value`: what is no value of a label is allowed (a mere wish matches nothing then)."""
    for at, rule in enumerate(term.get("matchExpressions") or ()):
        field = f"{path}.matchExpressions[{at}]"
        if rule.get("operator") in ("Gt", "Lt"):
            if len(rule.get("values") or ()) != 1:
                yield required(f"{field}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
        else:
            yield from _operator(rule, field)
        yield from _key_and_values(rule, field, any_value=any_value)
    for at, rule in enumerate(term.get("matchFields") or ()):
        yield from _node_field(rule, f"{path}.matchFields[{at}]")


def _operator(rule: Object, field: str) -> Iterator[FieldError]:
    operator, values = rule.get("operator", ""), rule.get("values")
    if operator in _SET:
        if not values:
            yield required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in _EXISTENCE:
        if values:
            yield forbidden(f"{field}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    else:
        yield invalid(f"{field}.operator", operator, _NO_OPERATOR)


def _key_and_values(rule: Object, field: str, *, any_value: bool = False) -> Iterator[FieldError]:
    key: str = rule.get("key", "")
    yield from wrong(f"{field}.key", key, names.qualified_name(key))
    if not any_value:
        for at, value in enumerate(rule.get("values") or ()):
            yield from wrong(f"{field}.values[{at}]", value, names.label_value(value))


def _node_field(rule: Object, field: str) -> Iterator[FieldError]:
    values: list[Any] = rule.get("values") or []
    if rule.get("operator") not in _SET:
        yield invalid(f"{field}.operator", rule.get("operator", ""), _NO_OPERATOR)
    elif len(values) != 1:
        yield required(
            f"{field}.values", "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        )
    if rule.get("key") != "metadata.name":
        yield invalid(f"{field}.key", rule.get("key", ""), "not a valid field selector key")
        return
    for at, value in enumerate(values):
        yield from wrong(f"{field}.values[{at}]", value, names.dns_subdomain(value))
