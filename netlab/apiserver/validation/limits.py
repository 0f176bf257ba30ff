"""LimitRanges and ResourceQuotas (core/validation)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.api.quantity import Quantity
from netlab.apiserver.validation import names, resources
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    duplicate,
    forbidden,
    invalid,
    listed,
    required,
    wrong,
)
from netlab.apiserver.validation.meta import IMMUTABLE

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
PARTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_ONE = quantity.parse(1)
_PLAIN_SCOPES = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity")
_SCOPES = (*_PLAIN_SCOPES, "PriorityClass", "VolumeAttributesClass")
_PODS = frozenset({"pods"})
_COMPUTE = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_STORAGE = frozenset({"persistentvolumeclaims", "requests.storage"})
_COUNTS = {"BestEffort": _PODS, "VolumeAttributesClass": _STORAGE}  # all others: Pods and their computing
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_ONLY_EXISTS = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
    "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
    "ResourceQuotaScopeCrossNamespacePodAffinity"
)
_TERM = {"ScopeName": "", "Operator": "", "Values": None}

Amounts = dict[str, Quantity]


def limit_range(spec: Object) -> Iterator[FieldError]:
    """Check a LimitRange: each type once, and its numbers in order."""
    seen: set[str] = set()
    for at, item in enumerate(spec.get("limits") or ()):
        field, kind = f"spec.limits[{at}]", item.get("type", "")
        complaints = names.qualified_name(kind)
        yield from wrong(f"{field}.type", kind, complaints)
        if not complaints and "/" not in kind and kind not in _TYPES:
            yield invalid(f"{field}.type", kind, "must be a standard limit type or fully qualified")
        if kind in seen:
            yield duplicate(f"{field}.type", kind)
        seen.add(kind)
        yield from _limit(item, field, kind)


def _limit(item: Object, path: str, kind: str) -> Iterator[FieldError]:
    form = resources.container_resource if kind in ("Pod", "Container") else resources.resource_name
    parsed: dict[str, Amounts] = {}
    for part in PARTS:
        found: dict[str, Any] = item.get(part) or {}
        parsed[part] = {}
        if (
            part == "maxLimitRequestRatio"
            and kind == "PersistentVolumeClaim"
            and "storage" not in parsed["min"]
            and "storage" not in parsed["max"]
        ):
            yield required(
                f"{path}.limits", "either minimum or maximum storage value is required, but neither was provided"
            )
        if kind == "Pod" and part.startswith("default"):
            if found:
                yield forbidden(f"{path}.{part}", "may not be specified when `type` is 'Pod'")
            continue
        for name, text in found.items():
            yield from form(name, f"{path}.{part}[{name}]")
            parsed[part][name] = quantity.parse(text)
    for name in dict.fromkeys(name for amounts in parsed.values() for name in amounts):
        yield from _order(name, path, *(parsed[part].get(name) for part in PARTS))


def _order(
    name: str,
    path: str,
    most: Quantity | None,
    least: Quantity | None,
    usual: Quantity | None,
    asked: Quantity | None,
    ratio: Quantity | None,
) -> Iterator[FieldError]:
    """Check one resource's numbers against each other."""

    def said(part: str, value: Quantity, text: str) -> FieldError:
        return invalid(f"{path}.{part}[{name}]", str(value), text)

    if least is not None and most is not None and least > most:
        yield said("min", least, f"min value {least} is greater than max value {most}")
    if asked is not None:
        if least is not None and least > asked:
            yield said("defaultRequest", asked, f"min value {least} is greater than default request value {asked}")
        if most is not None and asked > most:
            yield said("defaultRequest", asked, f"default request value {asked} is greater than max value {most}")
        if usual is not None and asked > usual:
            yield said(
                "defaultRequest", asked, f"default request value {asked} is greater than default limit value {usual}"
            )
    if usual is not None:
        if least is not None and least > usual:
            yield said("default", least, f"min value {least} is greater than default value {usual}")
        if most is not None and usual > most:
            yield said("default", most, f"default value {usual} is greater than max value {most}")
    if ratio is not None:
        if ratio < _ONE:
            yield said("maxLimitRequestRatio", ratio, f"ratio {ratio} is less than 1")
        if least is not None and most is not None:
            bound = _ratio(most, least)
            if float(ratio.amount) > bound:
                yield said("maxLimitRequestRatio", ratio, f"ratio {ratio} is greater than max/min = {bound:f}")
    if usual is not None and asked is not None and usual != asked and not resources.may_overcommit(name):
        yield said(
            "defaultRequest", asked, f"default value {usual} must equal to defaultRequest value {asked} in {name}"
        )


def _ratio(most: Quantity, least: Quantity) -> float:
    """Return max/min; without a minimum anything goes, as Go's division by zero says."""
    return float(most.amount / least.amount) if least else float("inf")


def quota(obj: Object) -> Iterator[FieldError]:
    """Check a ResourceQuota's limits and scopes."""
    spec = obj.get("spec") or {}
    hard = spec.get("hard") or {}
    yield from _quota_amounts(hard, "spec.hard")
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in _SCOPES:
            yield invalid("spec.scopes", scopes, "unsupported scope")
        yield from _applied(scope, hard, "spec.scopes", scopes)
    yield from _conflicting(scopes, scopes, "spec.scopes")
    selector = spec.get("scopeSelector")
    if selector is not None:
        yield from _scope_selector(selector, hard, scopes)


def quota_status(obj: Object) -> Iterator[FieldError]:
    """Check what a quota's status says is limited and used."""
    status = obj.get("status") or {}
    for part in ("hard", "used"):
        yield from _quota_amounts(status.get(part) or {}, f"status.{part}")


def quota_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check that the scopes stay."""
    new, before = ((one.get("spec") or {}).get("scopes") for one in (obj, old))
    if set(new or ()) != set(before or ()):
        yield invalid("spec.scopes", listed(new), IMMUTABLE)


def _quota_amounts(found: Object, path: str) -> Iterator[FieldError]:
    for name, text in found.items():
        yield from resources.quota_resource(name, f"{path}[{name}]")
        yield from resources.amount(name, quantity.parse(text), f"{path}[{name}]")


def _applied(scope: str, hard: Object, path: str, shown: Any) -> Iterator[FieldError]:
    if scope not in _SCOPES:
        return
    for name in sorted(hard):
        if resources.is_standard_for_quota(name) and name not in _COUNTS.get(scope, _PODS | _COMPUTE):
            yield invalid(path, shown, "unsupported scope applied to resource")


def _conflicting(scopes: list[str], shown: Any, path: str) -> Iterator[FieldError]:
    for pair in _CONFLICTS:
        if pair <= set(scopes):
            yield invalid(path, shown, "conflicting scopes")


def _scope_selector(selector: Object, hard: Object, scopes: list[str]) -> Iterator[FieldError]:
    path = "spec.scopeSelector.matchExpressions"
    terms = selector.get("matchExpressions") or []
    whole = {"MatchExpressions": [as_struct(term, _TERM) for term in terms]}
    for term in terms:
        name, operator, values = term.get("scopeName", ""), term.get("operator", ""), term.get("values") or []
        if name not in _SCOPES:
            yield invalid(f"{path}.scopeName", name, "unsupported scope")
        yield from _applied(name, hard, path, whole)
        if name in _PLAIN_SCOPES and operator != "Exists":
            yield invalid(f"{path}.operator", operator, _ONLY_EXISTS)
        if operator in ("In", "NotIn"):
            if not values:
                yield required(
                    f"{path}.values", "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                )
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                yield invalid(
                    f"{path}.values",
                    values,
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                )
        else:
            yield invalid(f"{path}.operator", operator, "not a valid selector operator")
    yield from _conflicting([term.get("scopeName", "") for term in terms], scopes, path)
