"""What an object uses of a ResourceQuota, and which quotas it counts against (k8s.io/kubernetes/pkg/quota/v1).

The API server's admission and the controller that counts anew both ask here, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netlab.api import quantity
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.api.quantity import Quantity

Usage = dict[str, Quantity]
ONE = quantity.parse("1")
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_SPOKEN = ("cpu", "memory")
_OLD_COUNTS = {"pods": "pods", "services": "services", "replicationcontrollers": "replicationcontrollers",
               "resourcequotas": "resourcequotas", "secrets": "secrets", "configmaps": "configmaps",
               "persistentvolumeclaims": "persistentvolumeclaims"}
_CLASS = ".storageclass.storage.k8s.io/"


def used(resource: Resource, obj: Object) -> Usage:
    """Return what an object uses, by the names that quotas have for it; a Pod that has ended is an object still."""
    found: Usage = {f"count/{resource.group_resource}": ONE}
    if resource.group_resource == "pods":
        return _pod(obj, found)
    if not resource.group and resource.plural in _OLD_COUNTS:
        found[_OLD_COUNTS[resource.plural]] = ONE
    if resource.group_resource == "services":
        found |= _service(obj)
    elif resource.group_resource == "persistentvolumeclaims":
        found |= _claim(obj)
    return found


def _pod(pod: Object, found: Usage) -> Usage:
    if (pod.get("status") or {}).get("phase") in ("Failed", "Succeeded"):
        return found
    found["pods"] = ONE
    spec = pod.get("spec") or {}
    for part in ("requests", "limits"):
        for name, amount in total(spec, part).items():
            if name in _COMPUTE or name.startswith("hugepages-"):
                found[f"{part}.{name}"] = amount
                if part == "requests":
                    found[name] = amount
            elif part == "requests":
                found[f"requests.{name}"] = amount
    return found


def total(spec: Object, part: str) -> Usage:
    """Return what a Pod asks for (`requests` or `limits`): containers and sidecars, or a larger init container.

    What the Pod as a whole asks for (`spec.resources`) stands for what its containers do.
    """
    running: Usage = {}
    for container in spec.get("containers") or ():
        _add(running, container, part)
    sidecars: Usage = {}
    peak: Usage = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            _add(running, container, part)
            _add(sidecars, container, part)
            continue
        alone: Usage = dict(sidecars)
        _add(alone, container, part)
        for name, amount in alone.items():
            peak[name] = max(peak.get(name, quantity.ZERO), amount)
    for name, amount in peak.items():
        running[name] = max(running.get(name, quantity.ZERO), amount)
    for name, text in ((spec.get("resources") or {}).get(part) or {}).items():
        if name in _SPOKEN or name.startswith("hugepages-"):
            running[name] = quantity.parse(text)
    for name, text in (spec.get("overhead") or {}).items():
        if part == "requests" or name in running:
            running[name] = running.get(name, quantity.ZERO) + quantity.parse(text)
    return running


def _add(sums: Usage, container: Object, part: str) -> None:
    for name, text in ((container.get("resources") or {}).get(part) or {}).items():
        sums[name] = sums.get(name, quantity.ZERO) + quantity.parse(text)


def _service(service: Object) -> Usage:
    spec = service.get("spec") or {}
    ports, found = spec.get("ports") or [], Usage()
    if spec.get("type") == "NodePort":
        found["services.nodeports"] = quantity.parse(str(len(ports)))
    elif spec.get("type") == "LoadBalancer":
        found["services.loadbalancers"] = ONE
        if spec.get("allocateLoadBalancerNodePorts", True):
            found["services.nodeports"] = quantity.parse(str(len(ports)))
    return found


def _claim(claim: Object) -> Usage:
    spec, found = claim.get("spec") or {}, Usage()
    name = spec.get("storageClassName") or ""
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if name:
        found[f"{name}{_CLASS}persistentvolumeclaims"] = ONE
    if asked:
        found["requests.storage"] = quantity.parse(asked)
        if name:
            found[f"{name}{_CLASS}requests.storage"] = quantity.parse(asked)
    return found


def concerns(quota: Object, resource: Resource, obj: Object) -> bool:
    """Tell whether an object counts against a quota: all of the quota's scopes must hold for it."""
    spec = quota.get("spec") or {}
    scopes: list[Mapping[str, Any]] = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes") or ()]
    scopes += (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return not scopes or (resource.group_resource == "pods" and all(_scope(scope, obj) for scope in scopes))


def _scope(scope: Mapping[str, Any], pod: Object) -> bool:
    name, spec = scope.get("scopeName"), pod.get("spec") or {}
    if name == "Terminating":
        return bool((spec.get("activeDeadlineSeconds") or -1) >= 0)
    if name == "NotTerminating":
        return bool((spec.get("activeDeadlineSeconds") or -1) < 0)
    if name in ("BestEffort", "NotBestEffort"):
        effort = not any(amount for part in ("requests", "limits") for resource, amount in total(spec, part).items()
                         if resource in ("cpu", "memory"))
        return bool(effort == (name == "BestEffort"))
    if name == "CrossNamespacePodAffinity":
        return _crosses(spec)
    if name == "PriorityClass":
        own, values = spec.get("priorityClassName") or "", scope.get("values") or ()
        match scope.get("operator"):
            case "In":
                return own in values
            case "NotIn":
                return own not in values
            case "DoesNotExist":
                return not own
            case _:
                return bool(own)
    return False


def _crosses(spec: Object) -> bool:
    affinity = spec.get("affinity") or {}
    for part in ("podAffinity", "podAntiAffinity"):
        for field in ("requiredDuringSchedulingIgnoredDuringExecution",
                      "preferredDuringSchedulingIgnoredDuringExecution"):
            for term in (affinity.get(part) or {}).get(field) or ():
                inner = term.get("podAffinityTerm", term)
                if inner.get("namespaces") or inner.get("namespaceSelector") is not None:
                    return True
    return False


def names(quota: Object) -> tuple[str, ...]:
    """Return what a quota limits."""
    return tuple((quota.get("spec") or {}).get("hard") or {})


def missing(hard: Iterable[str], pod: Object) -> dict[str, list[str]]:
    """Return the limited resources of which containers of a new Pod must say what they use, and those that do not.

    Only processor and memory must be spoken of, and not where the Pod as a whole does.
    """
    spec = pod.get("spec") or {}
    if any((spec.get("resources") or {}).get(part) for part in ("requests", "limits")):
        return {}
    containers = (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
    lacking = {}
    for limited in sorted(hard):
        part, _, name = limited.rpartition(".")
        if name not in _SPOKEN or part not in ("", "requests", "limits"):
            continue
        silent = {container.get("name", "") for container in containers
                  if not _speaks(container.get("resources") or {}, part or "requests", name)}
        if silent:
            lacking[limited] = sorted(silent)
    return lacking


def _speaks(resources: Object, part: str, name: str) -> bool:
    return name in (resources.get(part) or {}) or (part == "requests" and name in (resources.get("limits") or {}))
