"""What the kubelet tells of itself and of its containers: Prometheus text and the stats summary."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet import machine
from netlab.kubelet.node import KUBELET_VERSION

if TYPE_CHECKING:
    from netlab.kubelet.kubelet import Kubelet
    from netlab.runtime.cri import Stats


async def text(kubelet: Kubelet) -> str:
    """Return the metrics, in Prometheus' text format, with upstream's names."""
    containers = [c for uid in kubelet.observer.uids() for c in kubelet.observer.record(uid).containers]
    states = {state: sum(c.state == state for c in containers) for state in ("created", "running", "exited")}
    lines = [
        "# TYPE kubernetes_build_info gauge",
        f'kubernetes_build_info{{git_version="{KUBELET_VERSION}",platform="linux/{kubelet.machine.architecture}"}} 1',
        "# TYPE kubelet_node_name gauge", f'kubelet_node_name{{node="{kubelet.config.node_name}"}} 1',
        "# TYPE kubelet_running_pods gauge",
        f"kubelet_running_pods {sum(bool(kubelet.observer.record(uid).running()) for uid in kubelet.workers)}",
        "# TYPE kubelet_running_containers gauge",
        *(f'kubelet_running_containers{{container_state="{state}"}} {count}' for state, count in states.items()),
        "# TYPE kubelet_desired_pods gauge", f"kubelet_desired_pods {len(kubelet.workers)}",
        "# TYPE process_cpu_seconds_total counter", f"process_cpu_seconds_total {time.process_time():.3f}",
        "# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {_resident()}"]
    by_id = {s.id: s for s in await _stats(kubelet)}
    lines += ["# TYPE container_cpu_usage_seconds_total counter", "# TYPE container_memory_working_set_bytes gauge"]
    for uid in kubelet.observer.uids():
        record = kubelet.observer.record(uid)
        for c in record.containers:
            if c.id in by_id:
                labels = f'{{container="{c.name}",namespace="{record.namespace}",pod="{record.name}"}}'
                lines += [f"container_cpu_usage_seconds_total{labels} {by_id[c.id].cpu_nanoseconds / 1e9:.6f}",
                          f"container_memory_working_set_bytes{labels} {by_id[c.id].memory_working_set}"]
    return "\n".join(lines) + "\n"


async def summary(kubelet: Kubelet) -> Object:
    """Return the summary of k8s.io/kubelet/pkg/apis/stats/v1alpha1: CPU and memory of node, Pods and containers."""
    by_id = {s.id: s for s in await _stats(kubelet)}
    now = meta.timestamp(time.time())
    pods = []
    for uid in kubelet.observer.uids():
        record = kubelet.observer.record(uid)
        rows = [{"name": c.name, "startTime": meta.timestamp(c.started_at), **_usage(by_id[c.id])}
                for c in record.containers if c.id in by_id]
        total = [by_id[c.id] for c in record.containers if c.id in by_id]
        pods.append({"podRef": {"name": record.name, "namespace": record.namespace, "uid": uid},
                     "startTime": meta.timestamp(record.sandboxes[-1].created_at) if record.sandboxes else None,
                     "containers": rows,
                     "cpu": {"time": now, "usageCoreNanoSeconds": sum(s.cpu_nanoseconds for s in total)},
                     "memory": {"time": now, "workingSetBytes": sum(s.memory_working_set for s in total),
                                "usageBytes": sum(s.memory_usage for s in total)}})
    free = machine.available_memory()
    return {"node": {"nodeName": kubelet.config.node_name, "startTime": now,
                     "cpu": {"time": now, "usageCoreNanoSeconds": sum(s.cpu_nanoseconds for s in by_id.values())},
                     "memory": {"time": now, "availableBytes": free,
                                "workingSetBytes": sum(s.memory_working_set for s in by_id.values())}},
            "pods": pods}


def _usage(found: Stats) -> Object:
    at = meta.timestamp(found.at / 1e9)
    return {"cpu": {"time": at, "usageCoreNanoSeconds": found.cpu_nanoseconds},
            "memory": {"time": at, "workingSetBytes": found.memory_working_set, "usageBytes": found.memory_usage}}


async def _stats(kubelet: Kubelet) -> list[Stats]:
    try:
        return await kubelet.shim.list_container_stats()
    except NetlabError:
        return []


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
