"""Nodes (core/validation)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any

from netlab.api import quantity
from netlab.api.meta import Object
from netlab.apiserver.validation import names, resources
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.scheduling import EFFECTS

_TAINT = {"Key": "", "Value": "", "Effect": "", "TimeAdded": None}
_ADDRESS = {"Type": "", "Address": ""}
_FAMILIES = "may specify no more than one CIDR for each IP family"
_SOURCE_PARTS = ("namespace", "name", "kubeletConfigKey")
_FORMS = {"namespace": names.dns_label, "name": names.dns_subdomain, "kubeletConfigKey": names.config_key}


def node(obj: Object) -> Iterator[FieldError]:
    """Check a Node's taints, amounts and Pod networks. (Upstream's path of a taint is in the metadata.)"""
    spec = obj.get("spec") or {}
    yield from taints(spec.get("taints") or (), "metadata.taints")
    yield from amounts(obj.get("status") or {})
    networks = spec.get("podCIDRs") or []
    families = set()
    for at, network in enumerate(networks):
        complaints = names.cidr(network)
        yield from wrong(f"spec.podCIDRs[{at}]", network, complaints)
        if not complaints:
            families.add(ipaddress.ip_network(network, strict=False).version)
    if len(networks) > 1 and len(families) != len(networks):
        yield invalid("spec.podCIDRs", networks, _FAMILIES)


def taints(found: Sequence[Any], path: str) -> Iterator[FieldError]:
    """Check taints."""
    seen: set[tuple[str, str]] = set()
    for at, taint in enumerate(found):
        field, (key, value, effect) = f"{path}[{at}]", (taint.get(part, "") for part in ("key", "value", "effect"))
        yield from wrong(f"{field}.key", key, names.qualified_name(key))
        complaints = names.label_value(value)
        if complaints:
            yield invalid(f"{field}.value", value, ";".join(complaints))
        if effect not in EFFECTS:
            yield unsupported(f"{field}.effect", effect, EFFECTS) if effect else required(f"{field}.effect")
        if (key, effect) in seen:
            yield duplicate(field, as_struct(taint, _TAINT), "taints must be unique by key and effect pair")
        seen.add((key, effect))


def amounts(status: Object) -> Iterator[FieldError]:
    """Check what a Node has, and what of it Pods may have."""
    for part in ("capacity", "allocatable"):
        for name, text in (status.get(part) or {}).items():
            yield from resources.amount(name, quantity.parse(text), f"status.{part}.{name}")


def node_update(obj: Object, old: Object) -> Iterator[FieldError]:
    """Check that a Node's Pod networks and provider stay once they are set."""
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    yield from _state(obj.get("status") or {})
    had, now = before.get("podCIDRs") or [], spec.get("podCIDRs") or []
    if had and now != had:
        yield forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        yield forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')
    source = spec.get("configSource")
    if source is not None:
        yield from _config_source(source, "spec.configSource", of_status=False)
    if spec.get("externalID", "") != before.get("externalID", ""):
        yield forbidden("spec.externalID", "may not be updated")


def node_status(obj: Object) -> Iterator[FieldError]:
    """Check a written status."""
    status = obj.get("status") or {}
    yield from amounts(status)
    yield from _state(status)


def _state(status: Object) -> Iterator[FieldError]:
    seen: list[Object] = []
    for at, address in enumerate(status.get("addresses") or ()):
        if address in seen:
            yield duplicate(f"status.addresses[{at}]", as_struct(address, _ADDRESS))
        seen.append(address)
    for part in ("assigned", "active", "lastKnownGood"):
        source = (status.get("config") or {}).get(part)
        if source is not None:
            yield from _config_source(source, f"status.config.{part}", of_status=True)


def _config_source(source: Object, path: str, *, of_status: bool) -> Iterator[FieldError]:
    found = source.get("configMap")
    if found is None:
        yield invalid(path, {"ConfigMap": None}, "exactly one reference subfield must be non-nil")
        return
    field = f"{path}.configMap"
    for part in ("uid", "resourceVersion"):
        if of_status and not found.get(part):
            yield required(f"{field}.{part}")
        elif not of_status and found.get(part):
            yield forbidden(f"{field}.{part}", f"{part} must not be set in spec")
    for part in _SOURCE_PARTS:
        value = found.get(part, "")
        if not value:
            yield required(f"{field}.{part}")
        else:
            yield from wrong(f"{field}.{part}", value, _FORMS[part](value))
