"""What a user calls a destination, as an address and a port: `svc/web`, `pod/web-1:8080`, `10.96.0.10:53`. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netlab.errors import NotFound, UsageError

Object = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where to send: `label` is what the user called it; port 0 when none is known."""

    address: str
    port: int
    label: str


@dataclass(frozen=True)
class Objects:
    """What the API server knows, as plain objects, and the addresses of places that are no API objects."""

    services: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    nodes: Sequence[Object] = ()
    places: Mapping[str, str] | None = None


def resolve(text: str, known: Objects, *, protocol: str = "tcp", namespace: str = "default") -> Target:
    """Return the target of `TO[:PORT]`.

    TO is `svc/[NS/]NAME`, `pod/[NS/]NAME`, `node/NAME`, `outside`, an IP address, or a Service's DNS name. Without a
    port, a Service's first port of the protocol and a Pod's first container port are taken.

    Raises:
        UsageError: the words are off, or a port is missing that nothing gives.
        NotFound: there is no such object, or it has no address yet.
    """
    name, port = _split(text)
    kind, _, rest = name.partition("/")
    if kind in ("svc", "service", "services") and rest:
        return _service(text, rest, port, known.services, protocol, namespace)
    if kind in ("pod", "po", "pods") and rest:
        return _pod(text, rest, port, known.pods, namespace)
    if kind in ("node", "no", "nodes") and rest:
        found = _find(known.nodes, "", rest, "node")
        addresses = [a["address"] for a in found.get("status", {}).get("addresses", []) if a["type"] == "InternalIP"]
        if not addresses:
            raise NotFound(f"node {rest} has no InternalIP yet")
        return Target(addresses[0], port, text)
    if name in (known.places or {}):
        return Target((known.places or {})[name], port, text)
    try:
        return Target(str(ipaddress.ip_address(name)), port, text)
    except ValueError:
        pass
    if found_name := re.fullmatch(r"([a-z0-9-]+)(?:\.([a-z0-9-]+))?(?:\.svc(?:\.[a-z0-9.-]+)?)?\.?", name):
        space = found_name[2] or namespace
        return _service(text, f"{space}/{found_name[1]}", port, known.services, protocol, namespace)
    raise UsageError(f"{text}: not a destination",
                     hint="write svc/NAME, pod/NAME, node/NAME, outside or an address, with :PORT where it needs one")


def names(known: Objects) -> dict[str, str]:
    """Return names by IP address: `pod/default/web-1`, `svc/default/web`, `node/worker1`, `outside`."""
    found: dict[str, str] = {address: place for place, address in (known.places or {}).items()}
    for node in known.nodes:
        for address in node.get("status", {}).get("addresses", []):
            if address["type"] in ("InternalIP", "ExternalIP"):
                found[address["address"]] = f"node/{node['metadata']['name']}"
    for service in known.services:
        label = f"svc/{service['metadata']['namespace']}/{service['metadata']['name']}"
        for address in service.get("spec", {}).get("clusterIPs") or [service.get("spec", {}).get("clusterIP")]:
            if address and address != "None":
                found[address] = label
    for pod in known.pods:
        if not pod.get("spec", {}).get("hostNetwork"):
            for entry in pod.get("status", {}).get("podIPs") or []:
                found[entry["ip"]] = f"pod/{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    return found


def _split(text: str) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::(\d+))?", text)
    if bracketed:
        return bracketed[1], _port(bracketed[2] or "0", text)
    if text.count(":") == 1:
        name, _, port = text.partition(":")
        return name, _port(port, text)
    return text, 0


def _port(digits: str, text: str) -> int:
    if not digits.isdigit() or int(digits) > 65535:
        raise UsageError(f'{text}: "{digits}" is no port', hint="a port is a number from 1 to 65535")
    return int(digits)


def _service(text: str, rest: str, port: int, services: Iterable[Object], protocol: str, namespace: str) -> Target:
    space, _, name = rest.rpartition("/")
    service = _find(services, space or namespace, name, "Service")
    spec = service.get("spec", {})
    address = spec.get("clusterIP", "")
    if not address or address == "None":
        what = f"type {spec.get('type')}" if spec.get("type") == "ExternalName" else "headless"
        raise UsageError(f"Service {space or namespace}/{name} is {what} and has no address of its own",
                         hint="trace to one of its Pods: pod/NAME:PORT")
    if not port and protocol in ("tcp", "udp"):
        ports = [p["port"] for p in spec.get("ports", []) if p.get("protocol", "TCP").lower() == protocol]
        if not ports:
            raise UsageError(f"Service {space or namespace}/{name} has no {protocol} port", hint="choose --protocol")
        port = ports[0]
    return Target(address, port, text)


def _pod(text: str, rest: str, port: int, pods: Iterable[Object], namespace: str) -> Target:
    space, _, name = rest.rpartition("/")
    pod = _find(pods, space or namespace, name, "Pod")
    address = pod.get("status", {}).get("podIP", "")
    if not address:
        raise NotFound(f"Pod {space or namespace}/{name} has no address yet",
                       hint=f"it is {pod.get('status', {}).get('phase', 'new')}: kubectl describe pod {name}")
    if not port:
        ports = [p["containerPort"] for c in pod.get("spec", {}).get("containers", []) for p in c.get("ports") or []]
        port = ports[0] if ports else 0
    return Target(address, port, text)


def _find(objects: Iterable[Object], namespace: str, name: str, kind: str) -> Object:
    others = []
    for obj in objects:
        meta = obj["metadata"]
        if meta["name"] == name and meta.get("namespace", "") == namespace:
            return obj
        others.append(f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"])
    near = [other for other in others if name in other][:5] or others[:5]
    where = f" in namespace {namespace}" if namespace else ""
    raise NotFound(f"no {kind} {name}{where}", hint=f"there are: {', '.join(near)}" if near else "")
