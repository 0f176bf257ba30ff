"""What a change of a Service keeps of what the server chose before, and what falls away with a change of type."""

from __future__ import annotations

from typing import Any

from netlab.api.meta import Object

WITH_PORTS = ("NodePort", "LoadBalancer")


def needs_ports(spec: Object) -> bool:
    """Tell whether a Service has node ports."""
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True))


def carry_over(spec: Object, before: Object) -> None:
    """Keep addresses and ports that a client left out, as someone who replaces a Service from a file does."""
    if spec.get("type") != "ExternalName" and before.get("type") != "ExternalName":
        if not spec.get("clusterIP") and not spec.get("clusterIPs") and before.get("clusterIP"):
            spec["clusterIP"], spec["clusterIPs"] = before["clusterIP"], list(before.get("clusterIPs") or [])
        elif spec.get("clusterIP") == before.get("clusterIP") and not spec.get("clusterIPs") \
                and before.get("clusterIPs"):
            spec["clusterIPs"] = list(before["clusterIPs"])
        elif spec.get("clusterIP") and spec.get("clusterIPs") == before.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"], *spec["clusterIPs"][1:]]  # the client knows the older field only
        for part in ("ipFamilies", "ipFamilyPolicy"):
            if not spec.get(part) and before.get(part):
                spec[part] = before[part]
    if needs_ports(spec) and before.get("type") in WITH_PORTS:
        by_key: dict[Any, int] = {(port.get("protocol"), port.get("port")): port["nodePort"]
                                  for port in before.get("ports") or [] if port.get("nodePort")}
        used = {(port.get("protocol"), port.get("nodePort")) for port in spec.get("ports") or []
                if port.get("nodePort")}
        for port in spec.get("ports") or []:
            known = by_key.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and known and (port.get("protocol"), known) not in used:
                port["nodePort"] = known
    if spec.get("type") == before.get("type") == "LoadBalancer" and before.get("healthCheckNodePort") \
            and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before["healthCheckNodePort"]


def drop_unneeded(spec: Object, before: Object) -> None:
    """Drop what the new type does not have, where the client only left it as it was (dropTypeDependentFields)."""
    if needs_ports(before) and not needs_ports(spec) and _node_ports(spec) <= _node_ports(before):
        for port in spec.get("ports") or []:
            port.pop("nodePort", None)
    gone = []
    if not _facing(spec) and _facing(before):
        gone.append("externalTrafficPolicy")
    if spec.get("type") != "LoadBalancer" and before.get("type") == "LoadBalancer":
        gone += ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"]
    if spec.get("externalTrafficPolicy") != "Local":
        gone.append("healthCheckNodePort")
    if spec.get("type") == "ExternalName" and before.get("type") != "ExternalName":
        gone.append("internalTrafficPolicy")
    for part in gone:
        if spec.get(part) == before.get(part):
            spec.pop(part, None)


def _facing(spec: Object) -> bool:
    return spec.get("type") in WITH_PORTS or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def _node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or [] if port.get("nodePort")}
