"""What a user calls a destination, as an address and a port: `svc/web`, `pod/web-1:8080`, `10.96.0.10:53`. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netlab.errors import NotFound, UsageError

Object = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where to send: `label` is what the user called it; port 0 when none is known.

    `name` is a DNS name that is still to be resolved: `address` is then what the API server knows for it, or "".
    `http` tells that the port is known to speak HTTP.
    """

    address: str
    port: int
    label: str
    name: str = ""
    http: bool = False


@dataclass(frozen=True)
class Objects:
    """What the API server knows, as plain objects, and the addresses of places that are no API objects."""

    services: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    nodes: Sequence[Object] = ()
    places: Mapping[str, Sequence[str]] | None = None


def resolve(text: str, known: Objects, *, protocol: str = "tcp", namespace: str = "default",
            ipv6: bool = False) -> Target:
    """Return the target of `TO[:PORT]`.

    TO is `svc/[NS/]NAME`, `lb/[NS/]NAME` (the Service's load balancer address), `externalip/[NS/]NAME`,
    `nodeport/[NS/]NAME` (on the first node), `pod/[NS/]NAME`, `deploy/[NS/]NAME` (its first Pod), `node/NAME`,
    `outside`, an IP address, or a DNS name.
    PORT is a number, or of Services and Pods a port's name. With `ipv6` the IPv6 address of what has both. Without a
    port, a Service's first port of the protocol and a Pod's first container port are taken.

    Raises:
        UsageError: the words are off, a port is missing that nothing gives, or there is no IPv6 address to be had.
        NotFound: there is no such object, or it has no address yet.
    """
    found = replace(_resolved(text, known, protocol, namespace, ipv6=ipv6), label=text)
    if ipv6 and found.address and ":" not in found.address and not found.name:
        raise UsageError(f"{text} has no IPv6 address, only {found.address}", hint="leave out -6")
    return found


def _resolved(text: str, known: Objects, protocol: str, namespace: str, *, ipv6: bool) -> Target:
    unnamed, word = _named_port(text)
    if word:
        return _resolved(f"{unnamed}:{_number(text, unnamed, word, known, protocol, namespace)}", known, protocol,
                         namespace, ipv6=ipv6)
    name, port = split(text)
    kind, _, rest = name.partition("/")
    if kind in ("svc", "service", "services") and rest:
        return _service(text, rest, port, known, protocol, namespace, ipv6=ipv6)
    if kind in ("lb", "externalip", "nodeport") and rest:
        return _service(text, rest, port, known, protocol, namespace, kind, ipv6=ipv6)
    if kind in ("pod", "po", "pods") and rest:
        return _pod(text, rest, port, known.pods, namespace, ipv6=ipv6)
    if kind in ("deploy", "deployment", "deployments") and rest:
        return _pod(text, _pod_of_deployment(rest, known.pods, namespace), port, known.pods, namespace, ipv6=ipv6)
    if kind in ("node", "no", "nodes") and rest:
        found = find(known.nodes, "", rest, "node")
        addresses = [a["address"] for a in found.get("status", {}).get("addresses", []) if a["type"] == "InternalIP"]
        if not addresses:
            raise NotFound(f"node {rest} has no InternalIP yet")
        return Target(_pick(addresses, ipv6=ipv6), port, text)
    if name in (known.places or {}):
        return Target(_pick((known.places or {})[name], ipv6=ipv6), port, text)
    try:
        address = str(ipaddress.ip_address(name))
        return Target(address, port, text, http=_http(address, port, known.services))
    except ValueError:
        pass
    if re.fullmatch(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?", name):
        return _named(text, name, port, known, protocol, namespace, ipv6=ipv6)
    raise UsageError(f"{text}: not a destination",
                     hint="write svc/NAME, pod/NAME, node/NAME, outside or an address, with :PORT where it needs one")


def names(known: Objects) -> dict[str, str]:
    """Return names by IP address: `pod/default/web-1`, `svc/default/web`, `node/worker1`, `outside`."""
    found: dict[str, str] = {address: place for place, several in (known.places or {}).items() for address in several}
    for node in known.nodes:
        for address in node.get("status", {}).get("addresses", []):
            if address["type"] in ("InternalIP", "ExternalIP"):
                found[address["address"]] = f"node/{node['metadata']['name']}"
    for service in known.services:
        label = f"svc/{service['metadata']['namespace']}/{service['metadata']['name']}"
        for address in addresses(service):
            found[address] = label
    for pod in known.pods:
        if not pod.get("spec", {}).get("hostNetwork"):
            for entry in pod.get("status", {}).get("podIPs") or []:
                found[entry["ip"]] = f"pod/{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    return found


def _named(text: str, name: str, port: int, known: Objects, protocol: str, namespace: str, *, ipv6: bool) -> Target:
    """Return a target whose name is to be resolved; the Service that it means, if it does, gives its port."""
    found = re.fullmatch(r"([a-z0-9-]+)(?:\.([a-z0-9-]+))?(?:\.svc(?:\.[a-z0-9.-]+)?)?\.?", name)
    service = next((service for service in known.services if found and service["metadata"]["name"] == found[1] and
                    service["metadata"].get("namespace") == (found[2] or namespace)), None)
    if service is None:
        return Target("", port, text, name)
    spec = service.get("spec", {})
    address = _pick(spec.get("clusterIPs") or [spec.get("clusterIP", "")], ipv6=ipv6)
    if not port and protocol != "icmp":
        port = _first_port(service, protocol, text)
    return Target("" if address == "None" else address, port, text, name, http=_speaks_http(service, port))


def split(text: str) -> tuple[str, int]:
    """Return the name and the port (0 for none) of `NAME[:PORT]` or `[ADDRESS]:PORT`."""
    bracketed = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::(\d+))?", text)
    if bracketed:
        return bracketed[1], _port(bracketed[2] or "0", text)
    if text.count(":") == 1:
        name, _, port = text.partition(":")
        return name, _port(port, text)
    return text, 0


def _named_port(text: str) -> tuple[str, str]:
    """Return the name and the port's name of `NAME:http`; "" for a port that is a number, or none."""
    name, _, word = text.partition(":")
    return (name, word) if re.fullmatch(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", word) and name else (text, "")


def named(text: str, known: Objects, *, namespace: str = "default") -> str:
    """Return `svc/web:http` or `pod/web-1:http` with the number of that port; other words as they are.

    A port's name may stand for several protocols; the number of the first counts here.

    Raises:
        UsageError: there is no such port. NotFound: there is no such object.
    """
    name, word = _named_port(text)
    return f"{name}:{_number(text, name, word, known, '', namespace)}" if word else text


def _number(text: str, name: str, word: str, known: Objects, protocol: str, namespace: str) -> int:
    """Return the number of a port that a Service or a Pod has by name."""
    kind, slash, rest = name.partition("/")
    space, _, short = rest.rpartition("/")
    if kind in ("svc", "service", "services", "lb", "externalip", "nodeport") and rest:
        ports = find(known.services, space or namespace, short, "Service").get("spec", {}).get("ports") or []
    elif kind in ("pod", "po", "pods") and rest:
        pod = find(known.pods, space or namespace, short, "Pod")
        ports = [port | {"port": port["containerPort"]} for each in pod.get("spec", {}).get("containers", [])
                 for port in each.get("ports") or []]
    else:
        first, _, second = name.removesuffix(".").partition(".")
        ports = [port for each in known.services if not slash and each["metadata"]["name"] == first
                 and each["metadata"].get("namespace") == (second.partition(".")[0] or namespace)
                 for port in each.get("spec", {}).get("ports") or []]
    fits = [port for port in ports if port.get("name") == word]
    if not fits:
        there = ", ".join(f"{port['name']} ({port['port']})" for port in ports if port.get("name"))
        raise UsageError(f'{text}: "{word}" is no port', hint=f"it has {there}" if there else
                         "a port is a number from 1 to 65535, or its name in a Service or a Pod")
    mine = [port for port in fits if not protocol or port.get("protocol", "TCP").lower() == protocol]
    if not mine:
        wanted = fits[0].get("protocol", "TCP").lower()
        raise UsageError(f"{text}: this port is {wanted.upper()}", hint=f"add -p {wanted}")
    return int(mine[0]["port"])


def _port(digits: str, text: str) -> int:
    if not digits.isdigit() or int(digits) > 65535:
        raise UsageError(f'{text}: "{digits}" is no port', hint="a port is a number from 1 to 65535")
    return int(digits)


def _service(text: str, rest: str, port: int, known: Objects, protocol: str, namespace: str, kind: str = "", *,
             ipv6: bool = False) -> Target:
    space, _, name = rest.rpartition("/")
    service = find(known.services, space or namespace, name, "Service")
    spec = service.get("spec", {})
    if kind:
        address, port = _way_in(kind, service, port, known, protocol, text, ipv6=ipv6)
        return Target(address, port, text, http=_speaks_http(service, port))
    own = [ip for ip in spec.get("clusterIPs") or [spec.get("clusterIP", "")] if ip and ip != "None"]
    address = _pick(own, ipv6=ipv6) if own else ""
    if not address:
        what = f"type {spec.get('type')}" if spec.get("type") == "ExternalName" else "headless"
        raise UsageError(f"Service {space or namespace}/{name} is {what} and has no address of its own",
                         hint=f"trace to one of its Pods, pod/NAME:PORT, or to its name, {name}.{space or namespace}")
    if not port and protocol != "icmp":
        port = _first_port(service, protocol, text)
    return Target(address, port, text, http=_speaks_http(service, port))


def _way_in(kind: str, service: Object, port: int, known: Objects, protocol: str, text: str, *,
            ipv6: bool) -> tuple[str, int]:
    """Return another address of a Service than its own: load balancer, external IP, node port."""
    meta, spec = service["metadata"], service.get("spec", {})
    name = f"Service {meta.get('namespace', '')}/{meta['name']}"
    if kind == "nodeport":
        ports = [p.get("nodePort", 0) for p in spec.get("ports", []) if p.get("protocol", "TCP").lower() == protocol
                 and port in (0, p["port"], p.get("nodePort"))]
        nodes = [a["address"] for node in known.nodes for a in node.get("status", {}).get("addresses", [])
                 if a["type"] == "InternalIP"]
        if not any(ports) or not nodes:
            raise NotFound(f"{name} has no node port for {protocol}", hint="is its type NodePort or LoadBalancer?")
        return _pick(nodes, ipv6=ipv6), next(p for p in ports if p)
    if kind == "lb":
        found = [entry.get("ip", "") for entry in
                 service.get("status", {}).get("loadBalancer", {}).get("ingress") or []]
        hint = "is its type LoadBalancer, and did something give it an address? kubectl get svc"
    else:
        found, hint = list(spec.get("externalIPs") or []), "spec.externalIPs names none"
    if not any(found):
        raise NotFound(f"{name} has no {'load balancer address' if kind == 'lb' else 'external IP'}", hint=hint)
    return _pick([ip for ip in found if ip], ipv6=ipv6), port or _first_port(service, protocol, text)


def _first_port(service: Object, protocol: str, text: str) -> int:
    ports = [p["port"] for p in service.get("spec", {}).get("ports", [])
             if p.get("protocol", "TCP").lower() == protocol]
    if not ports:
        raise UsageError(f"{text}: this Service has no {protocol} port", hint="choose --protocol, or write :PORT")
    return int(ports[0])


def _http(address: str, port: int, services: Iterable[Object]) -> bool:
    return any(address in addresses(service) and _speaks_http(service, port) for service in services)


def _speaks_http(service: Object, port: int) -> bool:
    """Tell whether a Service's port is said to speak HTTP, by its appProtocol, its name or its well-known number."""
    for entry in service.get("spec", {}).get("ports", []):
        if port in (entry["port"], entry.get("nodePort")) and entry.get("protocol", "TCP") == "TCP":
            said = entry.get("appProtocol") or entry.get("name") or ""
            return said.split("-")[0] == "http" or (not said and entry["port"] in (80, 8080))
    return False


def addresses(service: Object) -> list[str]:
    """Return all addresses that a Service answers at: its own, external ones, its load balancer's."""
    spec = service.get("spec", {})
    found = list(spec.get("clusterIPs") or [spec.get("clusterIP", "")]) + list(spec.get("externalIPs") or [])
    found += [entry.get("ip", "") for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []]
    return [address for address in found if address and address != "None"]


def _pod(text: str, rest: str, port: int, pods: Iterable[Object], namespace: str, *, ipv6: bool) -> Target:
    space, _, name = rest.rpartition("/")
    pod = find(pods, space or namespace, name, "Pod")
    status = pod.get("status", {})
    own = [entry["ip"] for entry in status.get("podIPs") or [{"ip": status.get("podIP", "")}] if entry["ip"]]
    address = _pick(own, ipv6=ipv6) if own else ""
    if not address:
        raise NotFound(f"Pod {space or namespace}/{name} has no address yet",
                       hint=f"it is {pod.get('status', {}).get('phase', 'new')}: kubectl describe pod {name}")
    if not port:
        ports = [p["containerPort"] for c in pod.get("spec", {}).get("containers", []) for p in c.get("ports") or []]
        port = ports[0] if ports else 0
    return Target(address, port, text)


def _pod_of_deployment(rest: str, pods: Iterable[Object], namespace: str) -> str:
    """Return the first running Pod of a Deployment, as `NS/NAME`; its ReplicaSets are called NAME-HASH."""
    space, _, name = rest.rpartition("/")
    mine = sorted(pod["metadata"]["name"] for pod in pods
                  if pod["metadata"].get("namespace") == (space or namespace)
                  and pod.get("status", {}).get("phase", "Running") == "Running"
                  and any(owner.get("kind") == "ReplicaSet" and owner.get("name", "").rpartition("-")[0] == name
                          for owner in pod["metadata"].get("ownerReferences") or []))
    if not mine:
        raise NotFound(f"deploy/{rest} has no running Pod in namespace {space or namespace}",
                       hint="kubectl get deploy,pods")
    return f"{space or namespace}/{mine[0]}"


def _pick(addresses: Sequence[str], *, ipv6: bool) -> str:
    """Return the first address of the family, the first of all when there is none."""
    return next((address for address in addresses if (":" in address) == ipv6), addresses[0])


def find(objects: Iterable[Object], namespace: str, name: str, kind: str) -> Object:
    """Return an object by namespace ("" for none) and name.

    Raises:
        NotFound: there is none; the hint has near names.
    """
    others = []
    for obj in objects:
        meta = obj["metadata"]
        if meta["name"] == name and meta.get("namespace", "") == namespace:
            return obj
        others.append(f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"])
    near = [other for other in others if name in other][:5] or others[:5]
    where = f" in namespace {namespace}" if namespace else ""
    raise NotFound(f"no {kind} {name}{where}", hint=f"there are: {', '.join(near)}" if near else "")
