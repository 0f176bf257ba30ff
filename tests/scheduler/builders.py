"""Small clusters for the scheduler's decisions."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object
from netlab.scheduler.config import default_profile
from netlab.scheduler.cycle import Verdict, schedule
from netlab.scheduler.model import Cluster, Pod, pod


def a_node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: int = 110, labels: dict[str, str] | None = None,
           images: list[Object] | None = None, **spec: Any) -> Object:
    """Return a node."""
    room = {"cpu": cpu, "memory": memory, "pods": str(pods)}
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
            "spec": spec, "status": {"allocatable": room, "images": images or []}}


def a_pod(name: str, *, cpu: str = "", memory: str = "", node: str = "", labels: dict[str, str] | None = None,
          namespace: str = "ns", priority: int = 0, ports: list[Object] | None = None, started: str = "",
          metadata: Object | None = None, status: Object | None = None, **spec: Any) -> Object:
    """Return a Pod."""
    wish = ({"cpu": cpu} if cpu else {}) | ({"memory": memory} if memory else {})
    container: Object = {"name": "c", "image": "web:1", "resources": {"requests": wish}, "ports": ports or []}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels or {}, **(metadata or {})},
            "spec": {"containers": [container], "priority": priority, **({"nodeName": node} if node else {}), **spec},
            "status": {**({"startTime": started} if started else {}), **(status or {})}}


def a_cluster(nodes: list[Object], pods: list[Object] | None = None) -> Cluster:
    """Return a cluster; each Pod counts on its spec.nodeName."""
    cluster = Cluster()
    for node in nodes:
        cluster.set_node(node)
    for obj in pods or []:
        cluster.put(pod(obj), obj["spec"]["nodeName"])
    return cluster


def choose(obj: Object | Pod, cluster: Cluster, *, last: str = "", **more: Any) -> Verdict:
    """Run one cycle with the default plugins."""
    one = obj if isinstance(obj, Pod) else pod(obj)
    return schedule(one, cluster, default_profile(), last=last, **more)
