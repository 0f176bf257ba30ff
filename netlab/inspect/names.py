"""What the API calls an address: Pods, Services and nodes by IP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netlab.api import meta
from netlab.api.meta import Object


@dataclass(frozen=True)
class Names:
    """Names by address; empty when the API could not be asked. `nodes` tells where a Pod's address is."""

    pods: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Object] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Iterable[Object]) -> Names:
        """Read the names out of Pods (running ones), Nodes and Services."""
        pods: dict[str, str] = {}
        nodes: dict[str, str] = {}
        services: dict[str, Object] = {}
        for each in objects:
            status, spec = each.get("status") or {}, each.get("spec") or {}
            if each.get("kind") == "Service":
                services[meta.key(each)] = each
            elif each.get("kind") == "Node":
                for address in status.get("addresses") or ():
                    if address.get("type") != "Hostname":
                        nodes[address["address"]] = meta.name(each)
            elif each.get("kind") == "Pod" and status.get("phase") not in ("Succeeded", "Failed"):
                for ip in [entry["ip"] for entry in status.get("podIPs") or ()] or [status.get("podIP")]:
                    if ip and not spec.get("hostNetwork"):
                        pods[ip] = f"pod/{meta.key(each)}"
                        nodes.setdefault(ip, spec.get("nodeName", ""))
        return cls(pods, nodes, services)

    def with_endpoints(self, slices: Iterable[Object]) -> Names:
        """Return these names and those of Pods that EndpointSlices tell."""
        pods, nodes = dict(self.pods), dict(self.nodes)
        for each in slices:
            for entry in each.get("endpoints") or ():
                target = entry.get("targetRef") or {}
                for ip in entry.get("addresses") or ():
                    if target.get("kind") == "Pod" and ip not in nodes:  # one on its node's network has its address
                        pods[ip] = f"pod/{target.get('namespace', '')}/{target.get('name', '')}"
                        nodes[ip] = entry.get("nodeName") or ""
        return Names(pods, nodes, self.services)

    def of_endpoint(self, text: str) -> str:
        """Return `pod/default/web-1 on worker1` for `10.244.1.5:8080`, "node worker1" for a node's own, or ""."""
        ip = text.rpartition(":")[0].strip("[]")
        node = self.nodes.get(ip, "")
        pod = self.pods.get(ip, "")
        if pod:
            return f"{pod} on {node}" if node else pod
        return f"node/{node}" if node else ""
