"""EndpointSlices as endpoints of Service ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from netlab.api import meta
from netlab.api.meta import Object
from netlab.proxy.addresses import Family, address

SERVICE_LABEL = "kubernetes.io/service-name"
_HEADLESS = "service.kubernetes.io/headless"
SELECTOR = f"!{_HEADLESS}"
"""The label selector of the slices that a kube-proxy lists: their controller labels those of headless Services."""

_NOBODY: frozenset[str] = frozenset()


class Endpoint(NamedTuple):
    """One backend of a Service port. `text` is `ip:port`, by which endpoints are told apart and sorted."""

    ip: str
    port: int
    text: str
    node: str = ""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: frozenset[str] = _NOBODY
    node_hints: frozenset[str] = _NOBODY


PortKey = tuple[str, str]
"""A port's name ("" without one) and its protocol in lower case: unique within a Service."""


def service_of(slice_: Object) -> str:
    """Return the key of the Service that a slice belongs to, "" for a slice of nobody's or of a headless one."""
    labels = meta.labels(slice_)
    service = labels.get(SERVICE_LABEL, "")
    return f"{meta.namespace(slice_)}/{service}" if service and _HEADLESS not in labels else ""


def slice_endpoints(slice_: Object, wanted: Family) -> dict[PortKey, tuple[Endpoint, ...]]:
    """Return the endpoints of one slice by port; {} for a slice of another family.

    Only an endpoint's first address counts; ports without a number are for readers of names only.
    """
    if slice_.get("addressType") != wanted:
        return {}
    result: dict[PortKey, tuple[Endpoint, ...]] = {}
    hosts = slice_.get("endpoints") or ()
    for port in slice_.get("ports") or ():
        number = port.get("port")
        if number:
            key = (port.get("name") or "", (port.get("protocol") or "TCP").lower())
            result[key] = tuple(_endpoints(hosts, number, wanted))
    return result


def _endpoints(hosts: Iterable[Object], port: int, wanted: Family) -> Iterator[Endpoint]:
    v6 = wanted == "IPv6"
    for host in hosts:
        ip = address((host.get("addresses") or [""])[0])
        if not ip or (":" in ip) != v6:
            continue
        get, hints = (host.get("conditions") or {}).get, host.get("hints")
        yield Endpoint(ip, port, f"[{ip}]:{port}" if v6 else f"{ip}:{port}", host.get("nodeName") or "",
                       get("ready") is not False, get("serving") is not False, bool(get("terminating")),
                       _named(hints.get("forZones")) if hints else _NOBODY,
                       _named(hints.get("forNodes")) if hints else _NOBODY)


def _named(hints: Iterable[Object] | None) -> frozenset[str]:
    return frozenset(each["name"] for each in hints or ())


def merged(slices: Iterable[Mapping[PortKey, tuple[Endpoint, ...]]], port: PortKey) -> tuple[Endpoint, ...]:
    """Return the endpoints of a port from all slices of its Service, sorted by their text.

    A Pod that moves from one slice to another is in both for a moment, and an address may belong to a new Pod while the
    old one still ends: the entry that is not terminating counts. Whatever the order of slices, the same one is taken.
    """
    listed = [endpoint for each in slices for endpoint in each.get(port, ())]
    found = {endpoint.text: endpoint for endpoint in listed}
    if len(found) < len(listed):
        for endpoint in listed:
            if _rank(endpoint) > _rank(found[endpoint.text]):
                found[endpoint.text] = endpoint
    return tuple([found[text] for text in sorted(found)])


def _rank(endpoint: Endpoint) -> tuple[object, ...]:
    return (not endpoint.terminating, endpoint.ready, endpoint.serving, endpoint.node, sorted(endpoint.zone_hints),
            sorted(endpoint.node_hints))
