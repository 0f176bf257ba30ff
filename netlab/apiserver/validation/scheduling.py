"""Where a Pod may run: affinity, spreading, tolerations (core/validation)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.resources import NOT_POSITIVE
from netlab.apiserver.validation.selectors import label_selector, node_selector, node_term

EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_UNSATISFIABLE = ("DoNotSchedule", "ScheduleAnyway")
_INCLUSION = ("Honor", "Ignore")
_OPERATORS = ("Equal", "Exists")
_NUMERIC = ("Lt", "Gt")  # known, and behind a feature gate that is off
_WEIGHT = "must be in the range 1-100"
_NO_SELECTOR = "must not be specified when labelSelector is not set"


def affinity(found: Object, path: str) -> Iterator[FieldError]:
    """Check what draws a Pod to nodes and to other Pods, or keeps it off."""
    nodes = found.get("nodeAffinity")
    if nodes is not None:
        field = f"{path}.nodeAffinity"
        if nodes.get(_REQUIRED) is not None:
            yield from node_selector(nodes[_REQUIRED], f"{field}.{_REQUIRED}")
        for at, term in enumerate(nodes.get(_PREFERRED) or ()):
            yield from _weight(term, f"{field}.{_PREFERRED}[{at}]")
            yield from node_term(term.get("preference") or {}, f"{field}.{_PREFERRED}[{at}].preference", any_value=True)
    for part in ("podAffinity", "podAntiAffinity"):
        pods = found.get(part)
        if pods is None:
            continue
        for at, term in enumerate(pods.get(_REQUIRED) or ()):
            yield from _pod_term(term, f"{path}.{part}.{_REQUIRED}[{at}]")
        for at, term in enumerate(pods.get(_PREFERRED) or ()):
            field = f"{path}.{part}.{_PREFERRED}[{at}]"
            yield from _weight(term, field)
            yield from _pod_term(term.get("podAffinityTerm") or {}, f"{field}.podAffinityTerm")


def _weight(term: Object, path: str) -> Iterator[FieldError]:
    if not 1 <= term.get("weight", 0) <= 100:
        yield invalid(f"{path}.weight", term.get("weight", 0), _WEIGHT)


def _pod_term(term: Object, path: str) -> Iterator[FieldError]:
    yield from label_selector(term.get("labelSelector"), f"{path}.labelSelector")
    yield from label_selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    for name in term.get("namespaces") or ():
        yield from wrong(f"{path}.namespace", name, names.dns_label(name))
    yield from _label_keys(term, path)
    key = term.get("topologyKey", "")
    if not key:
        yield required(f"{path}.topologyKey", "can not be empty")
    yield from wrong(f"{path}.topologyKey", key, names.qualified_name(key))


def _label_keys(term: Object, path: str) -> Iterator[FieldError]:
    """Check matchLabelKeys and mismatchLabelKeys (what they stand for is in the selector already)."""
    match, mismatch, selector = (term.get(part) for part in ("matchLabelKeys", "mismatchLabelKeys", "labelSelector"))
    for part, keys in (("matchLabelKeys", match), ("mismatchLabelKeys", mismatch)):
        if keys and selector is None:
            yield forbidden(f"{path}.{part}", _NO_SELECTOR)
        elif keys:
            for at, key in enumerate(keys):
                yield from wrong(f"{path}.{part}[{at}]", key, names.qualified_name(key))
    if not match:
        return
    places = {key: at for at, key in enumerate(match)}
    seen = set((selector or {}).get("matchLabels") or ())
    for rule in (selector or {}).get("matchExpressions") or ():  # the last are made of matchLabelKeys
        key = rule.get("key", "")
        if key in places and key in seen:
            yield invalid(f"{path}[{places[key]}]", key, "exists in both matchLabelKeys and labelSelector")
        seen.add(key)
    for at, key in enumerate(match):
        if key in (mismatch or ()):
            yield invalid(f"{path}.matchLabelKeys[{at}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")


def spreading(found: Sequence[Any], path: str) -> Iterator[FieldError]:
    """Check topologySpreadConstraints."""
    pairs = [(one.get("topologyKey", ""), one.get("whenUnsatisfiable", "")) for one in found]
    for at, constraint in enumerate(found):
        field, (key, action) = f"{path}[{at}]", pairs[at]
        if constraint.get("maxSkew", 0) <= 0:
            yield invalid(f"{field}.maxSkew", constraint.get("maxSkew", 0), NOT_POSITIVE)
        if not key:
            yield required(f"{field}.topologyKey", "can not be empty")
        if action not in _UNSATISFIABLE:
            yield not_supported(f"{field}.whenUnsatisfiable", action, _UNSATISFIABLE)
        if pairs[at] in pairs[at + 1 :]:
            yield duplicate(f"{field}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}")
        domains = constraint.get("minDomains")
        if domains is not None:
            if domains <= 0:
                yield invalid(f"{field}.minDomains", domains, NOT_POSITIVE)
            if action != "DoNotSchedule":
                yield invalid(
                    f"{field}.minDomains",
                    domains,
                    f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}",
                )
        for part in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if constraint.get(part) is not None and constraint[part] not in _INCLUSION:
                yield not_supported(f"{field}.{part}", constraint[part], _INCLUSION)
        yield from _label_keys(constraint, field)
        yield from label_selector(constraint.get("labelSelector"), f"{field}.labelSelector")


def tolerations(found: Sequence[Any], path: str) -> Iterator[FieldError]:
    """Check tolerations."""
    for at, toleration in enumerate(found):
        field, key = f"{path}[{at}]", toleration.get("key", "")
        operator, value, effect = (toleration.get(part, "") for part in ("operator", "value", "effect"))
        if key:
            yield from wrong(f"{field}.key", key, names.qualified_name(key))
        elif operator != "Exists":
            yield invalid(
                f"{field}.operator",
                operator,
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            yield invalid(f"{field}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
        if operator in ("", "Equal"):
            complaints = names.label_value(value)
            if complaints:
                yield invalid(f"{field}.operator", value, ";".join(complaints))
        elif operator == "Exists":
            if value:
                yield invalid(f"{field}.operator", value, "value must be empty when `operator` is 'Exists'")
        else:
            yield unsupported(
                f"{field}.operator", operator, _OPERATORS + _NUMERIC if operator in _NUMERIC else _OPERATORS
            )
        if effect and effect not in EFFECTS:
            yield unsupported(f"{field}.effect", effect, EFFECTS)
