"""The Node object: what a node says of itself when it registers, and of its health afterwards; pure.

After k8s:pkg/kubelet/kubelet_node_status.go and nodestatus/setters.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import netlab
from netlab.api import meta
from netlab.api.meta import Object
from netlab.kubelet.config import Config
from netlab.kubelet.machine import Machine

KUBELET_VERSION = "v1.36.0"
_PRESSURES = (("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
              ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
              ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"))
_OWNED = (*(kind for kind, _, _ in _PRESSURES), "Ready")


@dataclass(frozen=True)
class Health:
    """How the node is. `troubles`: why it is not ready, none when it is."""

    now: float
    troubles: tuple[str, ...] = ()
    images: tuple[Object, ...] = ()
    port: int = 10250


def make(config: Config, machine: Machine, addresses: Sequence[str], health: Health) -> Object:
    """Return the Node to register."""
    spec: Object = {}
    if config.taints:
        spec["taints"] = [dict(taint) for taint in config.taints]
    if not config.schedulable:
        spec["unschedulable"] = True
    return {"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": config.node_name, "labels": labels(config, machine),
                         "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}},
            "spec": spec, "status": status(config, machine, addresses, {}, health)}


def labels(config: Config, machine: Machine) -> dict[str, str]:
    """Return the labels that the kubelet owns, with those of --node-labels."""
    return {"beta.kubernetes.io/arch": machine.architecture, "beta.kubernetes.io/os": "linux",
            "kubernetes.io/arch": machine.architecture, "kubernetes.io/hostname": config.node_name,
            "kubernetes.io/os": "linux", **config.node_labels}


def status(config: Config, machine: Machine, addresses: Sequence[str], old: Object, health: Health) -> Object:
    """Return the whole status; conditions that others own, and times of unchanged ones, are taken from `old`."""
    return {"addresses": [*({"type": "InternalIP", "address": ip} for ip in addresses),
                          {"type": "Hostname", "address": config.node_name}],
            "allocatable": machine.allocatable(config.reserved), "capacity": machine.capacity(),
            "conditions": conditions(old.get("conditions") or [], health),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": health.port}}, "images": list(health.images),
            "nodeInfo": {"architecture": machine.architecture, "bootID": machine.boot_id,
                         "containerRuntimeVersion": f"netlab://{netlab.__version__}",
                         "kernelVersion": machine.kernel, "kubeProxyVersion": "", "kubeletVersion": KUBELET_VERSION,
                         "machineID": machine.machine_id, "operatingSystem": "linux", "osImage": machine.os_image,
                         "systemUUID": _dashed(machine.machine_id)}}


def conditions(old: Sequence[Object], health: Health) -> list[Object]:
    """Return the four conditions of a kubelet after those of others."""
    made = [{"type": kind, "status": "False", "reason": reason, "message": message}
            for kind, reason, message in _PRESSURES]
    if health.troubles:
        message = health.troubles[0] if len(health.troubles) == 1 else f"[{', '.join(health.troubles)}]"
        made.append({"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": message})
    else:
        made.append({"type": "Ready", "status": "True", "reason": "KubeletReady",
                     "message": "kubelet is posting ready status"})
    before: Mapping[str, Object] = {c["type"]: c for c in old}
    stamp = meta.timestamp(health.now)
    for condition in made:
        was = before.get(condition["type"], {})
        same = was.get("status") == condition["status"] and was.get("lastTransitionTime")
        condition["lastHeartbeatTime"] = stamp
        condition["lastTransitionTime"] = was["lastTransitionTime"] if same else stamp
    mine = {c["type"] for c in made}
    return [dict(c) for c in old if c["type"] not in mine] + made


def differs(old: Object, new: Object) -> bool:
    """Tell whether a status says something new; heartbeats alone are not new."""
    def bare(found: Object) -> Object:
        rows = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in found.get("conditions") or []]
        return {**{k: found.get(k) for k in new if k != "conditions"},
                "conditions": sorted(rows, key=lambda c: str(c.get("type")))}

    return bare(old) != bare(new)


def patch(old: Object, new: Object) -> Object:
    """Return the strategic merge patch of the status. Addresses go as a whole: their merge key, the type, repeats."""
    body = {key: value for key, value in new.items() if old.get(key) != value}
    if "conditions" in body:
        body["conditions"] = [c for c in new["conditions"] if c["type"] in _OWNED]
    if "addresses" in body:
        body["addresses"] = [*new["addresses"], {"$patch": "replace"}]
    return {"status": body}


def lease(config: Config, node: Object | None, now: float) -> Object:
    """Return the Lease by which the node tells that it is alive."""
    made: Object = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": config.node_name, "namespace": "kube-node-lease"},
                    "spec": {"holderIdentity": config.node_name, "leaseDurationSeconds": config.lease_seconds,
                             "renewTime": meta.micro_timestamp(now)}}
    if node is not None:
        made["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": meta.name(node),
                                                "uid": meta.uid(node)}]
    return made


def _dashed(text: str) -> str:
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
