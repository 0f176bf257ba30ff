"""Services, endpoints, ingresses, network policies."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.apiserver.table.columns import NONE, UNSET, Cell, age, label_selector, name, pairs, some, table

_LB_WIDTH = 16


def _service(obj: Object, now: float) -> list[Cell]:
    spec = obj.get("spec") or {}
    ips = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [name(obj), spec.get("type", ""), ips[0] if ips else NONE, _external(obj), _ports(spec.get("ports") or [])
            or NONE,
            age(obj, now), pairs(spec.get("selector"))]


def _external(obj: Object) -> str:
    spec = obj.get("spec") or {}
    kind, extra = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind == "LoadBalancer":
        found = _balancer(obj)
        if extra:
            return ",".join([found, *extra] if found else extra)
        return found or "<pending>"
    return ",".join(extra) or NONE


def _balancer(obj: Object) -> str:
    entries = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    found = ",".join(sorted({entry.get("ip") or entry.get("hostname") or "" for entry in entries} - {""}))
    return f"{found[:_LB_WIDTH - 3]}..." if len(found) > _LB_WIDTH else found


def _ports(ports: list[Any]) -> str:
    return ",".join(f"{port.get('port')}:{port['nodePort']}/{port.get('protocol')}" if port.get("nodePort") else
                    f"{port.get('port')}/{port.get('protocol')}" for port in ports)


def _endpoints(obj: Object, now: float) -> list[Cell]:
    texts = []
    for subset in obj.get("subsets") or []:
        addresses, ports = subset.get("addresses") or [], subset.get("ports") or []
        if not ports:
            texts += [address.get("ip", "") for address in addresses]
        texts += [_joined(address.get("ip", ""), port.get("port")) for port in ports for address in addresses]
    return [name(obj), some(texts) or NONE, age(obj, now)]


def _joined(address: str, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _slice(obj: Object, now: float) -> list[Cell]:
    ports = some(str(port["port"]) if port.get("port") is not None else "*" for port in obj.get("ports") or [])
    addresses = some(address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or [])
    return [name(obj), obj.get("addressType", ""), ports or UNSET, addresses or UNSET, age(obj, now)]


def _ingress(obj: Object, now: float) -> list[Cell]:
    spec = obj.get("spec") or {}
    hosts = [rule["host"] for rule in spec.get("rules") or [] if rule.get("host")]
    return [name(obj), spec.get("ingressClassName") or NONE, some(hosts) or "*", _balancer(obj),
            "80, 443" if spec.get("tls") else "80", age(obj, now)]


def _ingress_class(obj: Object, now: float) -> list[Cell]:
    spec = obj.get("spec") or {}
    found = spec.get("parameters")
    parameters = NONE
    if found:
        group = f".{found['apiGroup']}" if found.get("apiGroup") else ""
        parameters = f"{found.get('kind')}{group}/{found.get('name')}"
    return [name(obj), spec.get("controller", ""), parameters, age(obj, now)]


def _policy(obj: Object, now: float) -> list[Cell]:
    return [name(obj), label_selector((obj.get("spec") or {}).get("podSelector")), age(obj, now)]


def _range(obj: Object, now: float) -> list[Cell]:
    return [name(obj), ",".join((obj.get("spec") or {}).get("cidrs") or []), age(obj, now)]


def _address(obj: Object, now: float) -> list[Cell]:
    parent = (obj.get("spec") or {}).get("parentRef")
    shown = NONE
    if parent:
        shown = "/".join(part for part in (f"{parent.get('resource', '')}"
                                           + (f".{parent['group']}" if parent.get("group") else ""),
                                           parent.get("namespace", ""), parent.get("name", "")) if part)
    return [name(obj), shown, age(obj, now)]


SERVICES = table("Name Type Cluster-IP External-IP Port(s) Age | Selector", _service)
ENDPOINTS = table("Name Endpoints Age", _endpoints)
ENDPOINT_SLICES = table("Name AddressType Ports Endpoints Age", _slice)
INGRESSES = table("Name Class Hosts Address Ports Age", _ingress)
INGRESS_CLASSES = table("Name Controller Parameters Age", _ingress_class)
NETWORK_POLICIES = table("Name Pod-Selector Age", _policy)
SERVICE_RANGES = table("Name CIDRs Age", _range)
ADDRESSES = table("Name ParentRef Age", _address)
