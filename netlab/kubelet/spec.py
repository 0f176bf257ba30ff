"""Small readings of a Pod's spec, pure; defaults are those that the API server fills in (static Pods lack them)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from netlab.api import meta
from netlab.api.meta import Object

CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_MIRROR = "kubernetes.io/config.mirror"
CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SEEN = "kubernetes.io/config.seen"

DEFAULT_GRACE = 30
"""Seconds, where a Pod says nothing (core/v1 PodSpec.terminationGracePeriodSeconds)."""


def spec(pod: Object) -> Object:
    """Return the spec, {} when absent."""
    return pod.get("spec") or {}


def containers(pod: Object) -> list[Object]:
    """Return the ordinary containers."""
    return spec(pod).get("containers") or []


def init_containers(pod: Object) -> list[Object]:
    """Return the init containers, sidecars included, in their order."""
    return spec(pod).get("initContainers") or []


def ephemeral_containers(pod: Object) -> list[Object]:
    """Return the containers that `kubectl debug` has added."""
    return spec(pod).get("ephemeralContainers") or []


def all_containers(pod: Object) -> Iterator[Object]:
    """Yield init, ordinary and ephemeral containers."""
    yield from init_containers(pod)
    yield from containers(pod)
    yield from ephemeral_containers(pod)


def container(pod: Object, name: str) -> Object | None:
    """Return the container of that name, of whichever sort."""
    return next((c for c in all_containers(pod) if c.get("name") == name), None)


def field_path(pod: Object, name: str) -> str:
    """Return where events about a container point: `spec.containers{web}`."""
    for field in ("initContainers", "containers", "ephemeralContainers"):
        if any(c.get("name") == name for c in spec(pod).get(field) or []):
            return f"spec.{field}{{{name}}}"
    return ""


def is_sidecar(init: Object) -> bool:
    """Tell whether an init container goes on running beside the others (KEP-753)."""
    return init.get("restartPolicy") == "Always"


def restart_policy(pod: Object) -> str:
    """Return Always, OnFailure or Never."""
    return str(spec(pod).get("restartPolicy") or "Always")


def host_network(pod: Object) -> bool:
    """Tell whether the Pod lives in its node's network namespace."""
    return bool(spec(pod).get("hostNetwork"))


def grace_period(pod: Object) -> int:
    """Return the seconds from SIGTERM to SIGKILL: of the deletion that is under way, else of the spec."""
    deletion = pod.get("metadata", {}).get("deletionGracePeriodSeconds")
    if meta.deleting(pod) and deletion is not None:
        return int(deletion)
    value = spec(pod).get("terminationGracePeriodSeconds")
    return DEFAULT_GRACE if value is None else int(value)


def is_static(pod: Object) -> bool:
    """Tell whether the Pod comes from a file of this node (not: its mirror)."""
    source = meta.annotations(pod).get(CONFIG_SOURCE)
    return source not in (None, "api") and CONFIG_MIRROR not in meta.annotations(pod)


def is_mirror(pod: Object) -> bool:
    """Tell whether this API object only shows a static Pod."""
    return CONFIG_MIRROR in meta.annotations(pod)


def full_name(pod: Object) -> str:
    """Return `name_namespace`, which a static Pod shares with its mirror."""
    return f"{meta.name(pod)}_{meta.namespace(pod)}"


def shown(pod: Object) -> str:
    """Return `name_namespace(uid)`, as upstream's messages name a Pod."""
    return f"{full_name(pod)}({meta.uid(pod)})"


def finished(pod: Object) -> bool:
    """Tell whether the API holds the Pod's end: phase Succeeded or Failed."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def runs_before(pod: Object, name: str) -> int:
    """Return how often the API has seen a container run: what counts when the node has lost its own memory."""
    status = pod.get("status") or {}
    for row in (*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])):
        if row.get("name") == name:
            ran = any(kind in (row.get("state") or {}) for kind in ("running", "terminated"))
            return int(row.get("restartCount") or 0) + ran
    return 0


def container_hash(wanted: Object) -> str:
    """Return a hash of what, when changed, needs a new container: its name and image, as upstream since 1.31."""
    picked = {"name": wanted.get("name"), "image": wanted.get("image")}
    return hashlib.sha256(orjson.dumps(picked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]


def should_restart(pod: Object, wanted: Object, exit_code: int, *, init: bool = False) -> bool:
    """Tell whether a container that ended is to run again.

    A container's own restartPolicyRules and restartPolicy (KEP-5307) go before the Pod's policy.
    """
    for rule in wanted.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        inside = exit_code in (codes.get("values") or [])
        if inside == (codes.get("operator") == "In"):
            return bool(rule.get("action") == "Restart")
    policy = wanted.get("restartPolicy") or restart_policy(pod)
    if policy == "Always":
        return not init or exit_code != 0 or is_sidecar(wanted)
    return policy == "OnFailure" and exit_code != 0


def port_number(wanted: Object, port: Any) -> int:
    """Return the number behind a probe's or hook's port, which may be a container port's name.

    Raises:
        ValueError: no port of that name, or not between 1 and 65535; worded as upstream's events.
    """
    if isinstance(port, str) and not port.isdigit():
        for declared in wanted.get("ports") or []:
            if declared.get("name") == port:
                return int(declared["containerPort"])
        raise ValueError(f'strconv.Atoi: parsing "{port}": invalid syntax')
    number = int(port)
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number


def security(pod: Object, wanted: Object, name: str, default: Any = None) -> Any:
    """Return a security setting: the container's, else the Pod's, else `default`."""
    for place in (wanted, spec(pod)):
        context: Mapping[str, Any] = place.get("securityContext") or {}
        if context.get(name) is not None:
            return context[name]
    return default
