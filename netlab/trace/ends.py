"""What a user calls the ends of flows to follow, as addresses: `svc/web`, `pod/client`, `10.0.0.1:80`. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from netlab.api.selector import parse as parse_selector
from netlab.errors import NotFound, UsageError
from netlab.trace.target import Object, Objects, addresses, find, named, split
from netlab.trace.watch import End


def ends(text: str, known: Objects, *, namespace: str = "default") -> tuple[End, ...]:
    """Return the ends that one word means; a flow has to have one of them.

    `svc/[NS/]NAME[:PORT]`, `pod/[NS/]NAME[:PORT]`, `node/NAME[:PORT]`, `outside`, `ADDRESS[:PORT]` or `:PORT`. PORT is
    a number, or of Services and Pods a port's name.

    Raises:
        UsageError: the word is none of these.
        NotFound: there is no such object, or it has no address.
    """
    if text.startswith(":"):
        return (End("", split(f"x{text}")[1]),)
    name, port = split(named(text, known, namespace=namespace))
    kind, _, rest = name.partition("/")
    space, _, short = rest.rpartition("/")
    if kind in ("svc", "service", "services") and rest:
        return _service(find(known.services, space or namespace, short, "Service"), port, known)
    if kind in ("pod", "po", "pods") and rest:
        return tuple(End(ip, port) for ip in _addresses(find(known.pods, space or namespace, short, "Pod"), text))
    if kind in ("node", "no", "nodes") and rest:
        node = find(known.nodes, "", rest, "node")
        told = [a["address"] for a in node.get("status", {}).get("addresses", [])
                if a["type"] in ("InternalIP", "ExternalIP")]
        own = (known.places or {}).get(f"node/{rest}", ())  # it talks to its Pods from its bridge's address
        return tuple(End(ip, port) for ip in dict.fromkeys((*told, *own)))
    if name in (known.places or {}):
        return tuple(End(address, port) for address in (known.places or {})[name])
    try:
        return (End(str(ipaddress.ip_address(name)), port),)
    except ValueError:
        raise UsageError(f"{text}: nothing that can be followed",
                         hint="write svc/NAME, pod/NAME, node/NAME, outside, an address or :PORT") from None


def selected(selector: str, known: Objects) -> tuple[End, ...]:
    """Return the addresses of the Pods that a label selector chooses.

    Raises:
        NotFound: it chooses none.
    """
    try:
        wanted = parse_selector(selector)
    except ValueError as error:
        raise UsageError(f"--selector: {error}") from None
    found = [End(ip) for pod in known.pods if wanted.matches(pod["metadata"].get("labels") or {})
             for ip in _of_pod(pod)]
    if not found:
        raise NotFound(f"no Pod with an address has the labels {selector}", hint="kubectl get pods -A --show-labels")
    return tuple(found)


def near(text: str, slices: Iterable[Object], *, namespace: str = "default") -> frozenset[str]:
    """Return the addresses of a Service's endpoints; nothing for other words."""
    kind, _, rest = text.partition(":")[0].partition("/")
    if kind not in ("svc", "service", "services"):
        return frozenset()
    space, _, short = rest.rpartition("/")
    return frozenset(ip for piece in slices if piece["metadata"].get("namespace") == (space or namespace)
                     and (piece["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == short
                     for endpoint in piece.get("endpoints") or [] for ip in endpoint.get("addresses") or [])


def _service(service: Object, port: int, known: Objects) -> tuple[End, ...]:
    found: list[End] = []
    nodes = [a["address"] for node in known.nodes for a in node.get("status", {}).get("addresses", [])
             if a["type"] in ("InternalIP", "ExternalIP")]
    for entry in service.get("spec", {}).get("ports", []):
        if port in (0, entry["port"]):
            found += [End(ip, entry["port"], "destination") for ip in addresses(service)]
        if entry.get("nodePort") and port in (0, entry["port"], entry["nodePort"]):
            found += [End(ip, entry["nodePort"], "destination") for ip in nodes]
    if not found:
        meta = service["metadata"]
        raise NotFound(f"Service {meta.get('namespace')}/{meta['name']} has no address to follow" +
                       (f" for port {port}" if port else ""), hint="follow its Pods: -l SELECTOR")
    return tuple(found)


def _addresses(pod: Object, text: str) -> Sequence[str]:
    found = _of_pod(pod)
    if not found:
        raise NotFound(f"{text} has no address yet")
    return found


def _of_pod(pod: Object) -> list[str]:
    return [entry["ip"] for entry in pod.get("status", {}).get("podIPs") or [] if entry.get("ip")]
