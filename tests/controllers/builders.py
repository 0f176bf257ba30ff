"""Small objects for the controllers' decisions."""

from __future__ import annotations

import itertools
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object

NOW = 1_800_000_000.0
_numbers = itertools.count(1)


def at(seconds: float) -> str:
    """Return NOW plus so many seconds, as a timestamp."""
    return meta.timestamp(NOW + seconds)


def a_pod(name: str = "", *, ready: bool | None = True, phase: str = "Running", node: str = "n1", deleting: bool = False,
          labels: dict[str, str] | None = None, owner: Object | None = None, born: float = -100, ready_at: float = -50,
          restarts: int = 0, ips: tuple[str, ...] = (), annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """Return a Pod; `ready` None is a Pod without conditions."""
    name = name or f"pod-{next(_numbers)}"
    head: Object = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1",
                    "creationTimestamp": at(born), "labels": labels if labels is not None else {"app": "web"}}
    if annotations:
        head["annotations"] = annotations
    if deleting:
        head["deletionTimestamp"] = at(0)
    if owner:
        head["ownerReferences"] = [meta.owner_reference(owner)]
    status: Object = {"phase": phase, "containerStatuses": [{"name": "c", "restartCount": restarts}]}
    if ready is not None:
        status["conditions"] = [{"type": "Ready", "status": "True" if ready else "False",
                                 "lastTransitionTime": at(ready_at)}]
    if ips:
        status |= {"podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": head,
            "spec": {"containers": [{"name": "c", "image": "i"}], **({"nodeName": node} if node else {}), **spec},
            "status": status}


def a_template(image: str = "i:1") -> Object:
    """Return a Pod template."""
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}


def a_deployment(replicas: int = 10, *, image: str = "i:1", surge: int | str = "25%", unavailable: int | str = "25%",
                 strategy: str = "RollingUpdate", **spec: Any) -> Object:
    """Return a Deployment."""
    how: Object = {"type": strategy}
    if strategy == "RollingUpdate":
        how["rollingUpdate"] = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "ns", "uid": "uid-web", "generation": 1, "resourceVersion": "1"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": a_template(image),
                     "strategy": how, **spec}}


def a_replicaset(size: int, *, image: str = "i:1", available: int | None = None, actual: int | None = None,
                 revision: int = 1, desired: int | None = None, maximum: int | None = None, born: float = 0.0,
                 name: str = "") -> Object:
    """Return a ReplicaSet; by default all its Pods are there and available."""
    available = size if available is None else available
    notes = {"deployment.kubernetes.io/revision": str(revision)}
    if desired is not None:
        notes |= {"deployment.kubernetes.io/desired-replicas": str(desired),
                  "deployment.kubernetes.io/max-replicas": str(maximum if maximum is not None else desired)}
    name = name or f"web-{image.replace(':', '-')}"
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}", "annotations": notes, "generation": 1,
                         "creationTimestamp": at(born), "resourceVersion": "1"},
            "spec": {"replicas": size, "selector": {"matchLabels": {"app": "web"}}, "template": a_template(image)},
            "status": {"replicas": size if actual is None else actual, "readyReplicas": available,
                       "availableReplicas": available, "observedGeneration": 1}}


def a_node(name: str, *, taints: list[Object] | None = None, labels: dict[str, str] | None = None,
           conditions: dict[str, str] | None = None, **spec: Any) -> Object:
    """Return a node."""
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels or {}, "creationTimestamp": at(-1000)},
            "spec": {**({"taints": taints} if taints else {}), **spec},
            "status": {"conditions": [{"type": kind, "status": status, "lastTransitionTime": at(-10)}
                                      for kind, status in (conditions or {"Ready": "True"}).items()]}}


def a_daemonset(*, surge: int | str = 0, unavailable: int | str = 1, strategy: str = "RollingUpdate",
                **pod_spec: Any) -> Object:
    """Return a DaemonSet."""
    how: Object = {"type": strategy}
    if strategy == "RollingUpdate":
        how["rollingUpdate"] = {"maxSurge": surge, "maxUnavailable": unavailable}
    template = a_template()
    template["spec"] |= pod_spec
    return {"apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": "ds", "namespace": "ns", "uid": "uid-ds", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template, "updateStrategy": how}}


def a_service(*, ports: list[Object] | None = None, **spec: Any) -> Object:
    """Return a Service."""
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "ns", "uid": "uid-svc", "labels": {"team": "a"}},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
                     "ports": [{"port": 80, "targetPort": 8080}] if ports is None else ports, **spec}}
