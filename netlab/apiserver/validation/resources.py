"""Amounts of resources: their names, what containers and Pods may ask for (core/validation, core/helper)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from netlab.api import quantity, quota
from netlab.api.meta import Object
from netlab.api.quantity import ZERO, Quantity
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    forbidden,
    invalid,
    not_found,
    required,
    unsupported,
    wrong,
)

NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
_COUNTED = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_CONTAINER = frozenset({"cpu", "memory", "ephemeral-storage"})
_QUOTA = (
    _COUNTED
    | _CONTAINER
    | {f"{part}.{name}" for part in ("requests", "limits") for name in _CONTAINER}
    | {"requests.storage"}
)
_STANDARD = _QUOTA | {"storage"}
_POD_LEVEL = ("cpu", "hugepages-", "memory")

NameForm = Callable[[str, str], Iterator[FieldError]]


def is_native(name: str) -> bool:
    """Tell whether a resource is Kubernetes' own: it has no prefix, or that of kubernetes.io."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """Tell whether a resource is a device's or other third party's, counted in whole numbers."""
    return not is_native(name) and not name.startswith("requests.") and not names.qualified_name(f"requests.{name}")


def is_huge(name: str) -> bool:
    """Tell whether a resource is memory in large pages."""
    return name.startswith("hugepages-")


def may_overcommit(name: str) -> bool:
    """Tell whether limits may be above requests."""
    return is_native(name) and not is_huge(name)


def is_standard_for_quota(name: str) -> bool:
    """Tell whether a name without prefix may stand in a ResourceQuota."""
    return name in _QUOTA or name.startswith(("hugepages-", "requests.hugepages-"))


def resource_name(name: str, field: str) -> Iterator[FieldError]:
    """Check the name of any resource."""
    complaints = names.qualified_name(name)
    yield from wrong(field, name, complaints)
    if (
        not complaints
        and "/" not in name
        and name not in _STANDARD
        and not name.startswith(("hugepages-", "requests.hugepages-"))
    ):
        yield invalid(field, name, "must be a standard resource type or fully qualified")


def container_resource(name: str, field: str) -> Iterator[FieldError]:
    """Check the name of what a container may ask for."""
    if name in _CONTAINER:
        return
    yield from resource_name(name, field)
    if "/" not in name:
        if not is_huge(name):
            yield invalid(field, name, "must be a standard resource for containers")
    elif not is_native(name) and not is_extended(name):
        yield invalid(field, name, "doesn't follow extended resource name standard")


def pod_resource(name: str, field: str) -> Iterator[FieldError]:
    """Check the name of what a Pod as a whole may ask for."""
    complaints = list(resource_name(name, field))
    yield from complaints
    if not complaints and name not in _POD_LEVEL and not is_huge(name):
        yield unsupported(field, name, _POD_LEVEL)


def quota_resource(name: str, field: str) -> Iterator[FieldError]:
    """Check the name of what a ResourceQuota may limit."""
    yield from resource_name(name, field)
    if "/" not in name and not is_standard_for_quota(name):
        yield invalid(field, name, "must be a standard resource for quota")


def amount(name: str, value: Quantity, field: str) -> Iterator[FieldError]:
    """Check that an amount is not negative, and whole where the resource is counted."""
    if value < ZERO:
        yield invalid(field, str(value), NEGATIVE)
    if value.amount.denominator != 1 and (name in _COUNTED or is_extended(name)):
        yield invalid(field, str(value), "must be an integer")


def basic(value: Quantity, field: str) -> Iterator[FieldError]:
    """Check that an amount, rounded, is not below zero."""
    if value.value() < 0:
        yield invalid(field, value.value(), "must be a valid resource quantity")


def positive(value: Quantity, field: str) -> Iterator[FieldError]:
    """Check that an amount is above zero."""
    if value <= ZERO:
        yield invalid(field, str(value), NOT_POSITIVE)


def requirements(
    found: Object,
    path: str,
    claims: Collection[str] = (),
    *,
    form: NameForm = container_resource,
) -> Iterator[FieldError]:
    """Check requests, limits and claims of a container, or (with `form`) of a Pod."""
    if not found:
        return
    limits, requests = _parsed(found.get("limits")), _parsed(found.get("requests"))
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            field = f"{path}.{part}[{name}]"
            yield from form(name, field)
            yield from amount(name, value, field)
            if part == "requests":
                yield from _within(name, value, limits.get(name), path)
            if is_huge(name) and not _divisible(name, value):
                yield invalid(field, str(value), f"{value} is not positive integer multiple of {name}")
    every = limits.keys() | requests.keys()
    if "cpu" not in every and "memory" not in every and any(is_huge(name) for name in every):
        yield forbidden(path, "HugePages require cpu or memory")
    if found.get("claims"):
        yield from _claims(found["claims"], claims, f"{path}.claims")


def _parsed(amounts: Object | None) -> dict[str, Quantity]:
    return {name: quantity.parse(text) for name, text in amounts.items()} if amounts else {}


def _within(name: str, value: Quantity, limit: Quantity | None, path: str) -> Iterator[FieldError]:
    if limit is None:
        if not may_overcommit(name):
            yield required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    elif value != limit and not may_overcommit(name):
        yield invalid(f"{path}.requests", str(value), f"must be equal to {name} limit of {limit}")
    elif value > limit:
        yield invalid(f"{path}.requests", str(value), f"must be less than or equal to {name} limit of {limit}")


def _divisible(name: str, value: Quantity) -> bool:
    try:
        size = quantity.parse(name.removeprefix("hugepages-"))
    except ValueError:
        return False
    return size > ZERO and size.amount.denominator == 1 and value.value() % size.value() == 0


def _claims(wanted: Sequence[Any], known: Collection[str], path: str) -> Iterator[FieldError]:
    seen: set[str] = set()
    for at, claim in enumerate(wanted):
        field, name, request = f"{path}[{at}]", claim.get("name", ""), claim.get("request", "")
        if not name:
            yield required(field)
            continue
        if name in seen:
            yield duplicate(field, name)
        else:
            key = f"{name}/{request}" if request else name
            if request:
                yield from wrong(f"{field}.request", request, names.dns_label(request))
            if key in seen:
                yield duplicate(field, key)
            elif not request:
                for other in seen:
                    if other.partition("/")[0] == name:
                        yield duplicate(field, name)
            seen.add(key)
        if name not in known:
            yield not_found(
                field,
                name,
                "must be one of the names in pod.spec.resourceClaims"
                + (f": {', '.join(sorted(known))}" if known else " which is empty"),
            )


def pod_level(spec: Object, path: str, claims: Collection[str]) -> Iterator[FieldError]:
    """Check what a Pod asks for as a whole, also against what its containers ask for."""
    found = spec["resources"]
    if (spec.get("os") or {}).get("name") == "windows":
        yield forbidden(path, "may not be set for a windows pod")
        return
    if found.get("claims") is not None:
        yield forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    yield from requirements(found, path, claims, form=pod_resource)
    requests, limits = _parsed(found.get("requests")), _parsed(found.get("limits"))
    for name, value in of_containers(spec, "requests").items():
        if name in requests and value > requests[name]:
            yield invalid(
                f"{path}.requests[{name}]",
                str(requests[name]),
                f"must be greater than or equal to aggregate container requests of {value}",
            )
    for name, value in of_containers(spec, "limits").items():
        if is_huge(name) and name in limits and value > limits[name]:
            yield invalid(
                f"{path}.limits[{name}]",
                str(limits[name]),
                f"must be greater than or equal to aggregate container limits of {value}",
            )
    for at, container in enumerate(spec.get("containers") or ()):
        for name, value in _parsed((container.get("resources") or {}).get("limits")).items():
            if name in limits and value > limits[name]:
                yield invalid(
                    f"{path}.containers[{at}][{name}].limits",
                    str(value),
                    f"must be less than or equal to pod limits of {limits[name]}",
                )


def of_containers(spec: Object, part: str) -> dict[str, Quantity]:
    """Return what a Pod's containers ask for together (`requests` or `limits`), without the Pod's overhead."""
    return quota.total({name: spec.get(name) or [] for name in ("containers", "initContainers")}, part)
