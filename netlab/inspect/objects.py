"""Kubernetes objects from files, checked as far as rules are made from them, with errors that name the place."""

from __future__ import annotations

import ipaddress
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import ManifestError


def read(text: str, file: str) -> list[Object]:
    """Return the objects of a YAML or JSON text: documents, Lists and plain arrays are taken apart.

    Args:
        text: what the file holds.
        file: its name, for errors.

    Raises:
        ManifestError: it is not YAML, a document is no object, or a field that rules depend on has a wrong value.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    objects: list[Object] = []
    number = 0
    try:
        while loader.check_node():
            number += 1
            node = loader.get_node()
            if node is None:
                continue
            document = loader.construct_document(node)
            for value, place in _items(document, node):
                objects.append(_checked(value, place, f"document {number}", file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or str(error)
        raise ManifestError(f"not YAML: {why}", file=file, line=mark.line + 1 if mark else 0) from None
    finally:
        loader.dispose()
    return objects


def _items(document: Any, node: yaml.Node) -> Iterator[tuple[Any, yaml.Node]]:
    """Yield each object of a document with the node it came from."""
    if document is None:
        return
    items: Any = None
    where: yaml.Node | None = node
    if isinstance(document, list):
        items = document
    elif isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and "items" in document:
        items, where = document["items"] or [], _child(node, "items")
    if not isinstance(items, list):
        yield document, node
        return
    for at, item in enumerate(items):
        yield item, (_child(where, at) if where is not None else None) or node


def _checked(value: Any, node: yaml.Node, where: str, file: str) -> Object:
    line = node.start_mark.line + 1
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: want an object, got {_said(value)}", file=file, line=line)
    kind = value.get("kind")
    if not kind or not isinstance(kind, str):
        raise ManifestError(f"{where}: an object needs apiVersion and kind", file=file, line=line, field="kind")
    if not isinstance(value.get("metadata"), dict) or not value["metadata"].get("name"):
        raise ManifestError(f"{where}: {kind} without a name", file=file, line=line, field="metadata.name")
    if kind in NAMESPACED:
        value["metadata"].setdefault("namespace", "default")
    who = f"{where}: {kind} {meta.key(value)}"
    for path, test in FIELDS.get(kind, {}).items():
        for found, at in _values(value, path.split("."), ()):
            wrong = test(found)
            if wrong:
                field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).lstrip(".")
                raise ManifestError(f"{who}: {wrong}, got {_said(found)}", file=file, line=_line(node, at), field=field)
    return value


def _values(value: Any, path: list[str], at: tuple[str | int, ...]) -> Iterator[tuple[Any, tuple[str | int, ...]]]:
    """Yield what stands at a path such as `spec.ports[].port`; absent and null fields are passed over."""
    if value is None:
        return
    if not path:
        yield value, at
        return
    name, *rest = path
    each = name.endswith("[]")
    if not isinstance(value, dict):
        return  # the row of the parent says what is wrong
    inner = value.get(name.removesuffix("[]"))
    here = (*at, name.removesuffix("[]"))
    if not each:
        yield from _values(inner, rest, here)
    elif isinstance(inner, list):
        for number, item in enumerate(inner):
            yield from _values(item, rest, (*here, number))


def _child(node: yaml.Node | None, step: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if getattr(key, "value", None) == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        found: yaml.Node = node.value[step]
        return found
    return None


def _line(node: yaml.Node, path: tuple[str | int, ...]) -> int:
    here = node
    for step in path:
        deeper = _child(here, step)
        if deeper is None:
            break
        here = deeper
    line: int = here.start_mark.line + 1
    return line


def _said(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "nothing"}
    return names.get(type(value)) or reprlib.repr(value)


def _is(kind: type, words: str) -> Callable[[Any], str]:
    return lambda value: "" if isinstance(value, kind) and not isinstance(value, bool) else f"want {words}"


def _port(value: Any) -> str:
    ok = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
    return "" if ok else "want a port from 1 to 65535"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "want true or false"


def _one_of(*words: str) -> Callable[[Any], str]:
    return lambda value: "" if value in words else f"want one of {', '.join(words)}"


def _address(value: Any) -> str:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return "want an IP address"
    return ""


def _cluster_ip(value: Any) -> str:
    return "" if value in ("", "None") else _address(value)


_text, _list, _object = _is(str, "a text"), _is(list, "a list"), _is(dict, "an object")

NAMESPACED = frozenset({"Service", "EndpointSlice", "Endpoints", "Pod", "Deployment"})
FIELDS: Mapping[str, Mapping[str, Callable[[Any], str]]] = {
    "Service": {
        "spec": _object, "spec.clusterIP": _cluster_ip, "spec.clusterIPs": _list, "spec.clusterIPs[]": _cluster_ip,
        "spec.type": _one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "spec.ports": _list, "spec.ports[]": _object, "spec.ports[].name": _text, "spec.ports[].port": _port,
        "spec.ports[].nodePort": _port, "spec.ports[].protocol": _one_of("TCP", "UDP", "SCTP"),
        "spec.externalIPs": _list, "spec.externalIPs[]": _text,
        "spec.loadBalancerSourceRanges": _list, "spec.loadBalancerSourceRanges[]": _text,
        "spec.sessionAffinity": _one_of("None", "ClientIP"), "spec.sessionAffinityConfig": _object,
        "spec.sessionAffinityConfig.clientIP": _object,
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds": _is(int, "a number of seconds"),
        "spec.externalTrafficPolicy": _one_of("Cluster", "Local"),
        "spec.internalTrafficPolicy": _one_of("Cluster", "Local"), "spec.healthCheckNodePort": _port,
        "status": _object, "status.loadBalancer": _object, "status.loadBalancer.ingress": _list,
        "status.loadBalancer.ingress[]": _object, "status.loadBalancer.ingress[].ip": _text,
    },
    "EndpointSlice": {
        "metadata.labels": _object, "addressType": _one_of("IPv4", "IPv6", "FQDN"),
        "ports": _list, "ports[]": _object, "ports[].name": _text, "ports[].port": _port,
        "ports[].protocol": _one_of("TCP", "UDP", "SCTP"),
        "endpoints": _list, "endpoints[]": _object, "endpoints[].addresses": _list,
        "endpoints[].addresses[]": _text, "endpoints[].nodeName": _text, "endpoints[].conditions": _object,
        "endpoints[].conditions.ready": _flag, "endpoints[].conditions.serving": _flag,
        "endpoints[].conditions.terminating": _flag, "endpoints[].hints": _object,
        "endpoints[].hints.forZones": _list, "endpoints[].hints.forZones[]": _object,
        "endpoints[].hints.forNodes": _list, "endpoints[].hints.forNodes[]": _object,
    },
    "Node": {
        "metadata.labels": _object, "spec": _object, "spec.podCIDRs": _list, "spec.podCIDRs[]": _text,
        "status": _object, "status.addresses": _list, "status.addresses[]": _object,
        "status.addresses[].address": _text,
    },
}
"""Which fields rules are made from, and what may stand in them. A row comes after those of its parents."""
