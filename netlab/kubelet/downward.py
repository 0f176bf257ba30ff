"""The downward API: fields of a Pod and resources of its containers as text, for variables and files; pure.

https://kubernetes.io/docs/concepts/workloads/pods/downward-api/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab.api import meta, quantity
from netlab.api.meta import Object
from netlab.kubelet import spec

_SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")


@dataclass(frozen=True)
class Surroundings:
    """What a Pod may ask of its node: addresses (its own are empty before its sandbox exists), what a node gives."""

    node_name: str
    host_ips: tuple[str, ...] = ()
    pod_ips: tuple[str, ...] = ()
    allocatable: Mapping[str, str] = field(default_factory=dict)


def field_text(pod: Object, path: str, around: Surroundings) -> str:
    """Return the text of a fieldRef.

    Raises:
        ValueError: no such field.
    """
    subscript = _SUBSCRIPT.match(path)
    if subscript:
        found = meta.labels(pod) if subscript[1] == "labels" else meta.annotations(pod)
        return found.get(subscript[2], "")
    simple = {
        "metadata.name": meta.name(pod), "metadata.namespace": meta.namespace(pod), "metadata.uid": meta.uid(pod),
        "spec.nodeName": around.node_name,
        "spec.serviceAccountName": str(spec.spec(pod).get("serviceAccountName", "")),
        "status.hostIP": next(iter(around.host_ips), ""), "status.hostIPs": ",".join(around.host_ips),
        "status.podIP": next(iter(around.pod_ips), ""), "status.podIPs": ",".join(around.pod_ips)}
    if path in simple:
        return simple[path]
    if path in ("metadata.labels", "metadata.annotations"):
        found = meta.labels(pod) if path.endswith("labels") else meta.annotations(pod)
        return "\n".join(f"{key}={_quoted(found[key])}" for key in sorted(found))
    raise ValueError(f'unsupported fieldPath: "{path}"')


def resource_text(pod: Object, reference: Object, around: Surroundings, *, default_container: str = "") -> str:
    """Return the text of a resourceFieldRef: a whole number of divisors, rounded up.

    A limit that is not set counts as all that the node can give.

    Raises:
        ValueError: no such container or resource.
    """
    name = reference.get("containerName") or default_container
    wanted = spec.container(pod, name)
    if wanted is None:
        raise ValueError(f"container {name} not found")
    sort, _, resource = str(reference.get("resource", "")).partition(".")
    if sort not in ("limits", "requests") or not resource:
        raise ValueError(f'unsupported container resource : {reference.get("resource")}')
    declared = (wanted.get("resources") or {}).get(sort) or {}
    text = declared.get(resource)
    if text is None:
        text = around.allocatable.get(resource, "0") if sort == "limits" and resource in ("cpu", "memory") else "0"
    divisor = quantity.parse(reference.get("divisor") or "1")
    if divisor.milli() == 0:
        divisor = quantity.parse("1")
    return str(-(-quantity.parse(text).milli() // divisor.milli()))


def _quoted(text: str) -> str:
    """Quote as Go's strconv.Quote does for what labels and annotations hold."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text) + '"'
