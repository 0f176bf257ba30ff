"""Small Services, EndpointSlices and Nodes for tests, with the fields that a test is about given by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from netlab.netfilter.model import Ruleset
from netlab.proxy.plan import whole
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.tracker import wanted_for

GOLDEN = Path(__file__).parent.parent / "golden" / "kube-proxy"
NODE = "node1"
NODE_IP = "172.30.0.11"
CLUSTER = LocalDetector("-s 10.244.0.0/16")


def recorded(name: str) -> str:
    return (GOLDEN / name).read_text()


def recorded_objects() -> list[dict[str, Any]]:
    return json.loads(recorded("objects-as-served.json"))["items"]


def a_settings(**fields: Any) -> Settings:
    return Settings(**{"node": NODE, "node_ip": NODE_IP, "detector": CLUSTER, **fields})


def a_port(number: int = 80, name: str = "http", protocol: str = "TCP", node_port: int = 0) -> dict[str, Any]:
    port = {"port": number, "protocol": protocol}
    return port | ({"name": name} if name else {}) | ({"nodePort": node_port} if node_port else {})


def a_service(name: str = "web", ip: str = "10.96.0.10", ports: list[dict[str, Any]] | None = None, *,
              ingress: list[Any] | None = None, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    service = {"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": name, "namespace": "default", "labels": labels or {}},
               "spec": {"clusterIP": ip, "ports": ports if ports is not None else [a_port()], "type": "ClusterIP", **spec}}
    if ingress:
        service["status"] = {"loadBalancer": {"ingress": [each if isinstance(each, dict) else {"ip": each}
                                                          for each in ingress]}}
    return service


def an_endpoint(ip: str, node: str = NODE, *, zones: tuple[str, ...] = (), nodes: tuple[str, ...] = (),
                **conditions: bool) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"addresses": [ip], "nodeName": node, "conditions": conditions}
    if zones or nodes:
        endpoint["hints"] = {"forZones": [{"name": zone} for zone in zones],
                             "forNodes": [{"name": each} for each in nodes]}
    return endpoint


def a_slice(service: str = "web", endpoints: list[dict[str, Any]] | None = None, *,
            ports: list[dict[str, Any]] | None = None, name: str = "", family: str = "IPv4") -> dict[str, Any]:
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": name or f"{service}-1", "namespace": "default",
                         "labels": {"kubernetes.io/service-name": service}},
            "ports": ports if ports is not None else [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints if endpoints is not None else [an_endpoint("10.244.1.5")]}


def a_node(name: str = NODE, ip: str = NODE_IP, *, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}, "spec": spec,
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}


def rules_for(*objects: dict[str, Any], **settings: Any) -> Ruleset:
    """Return the tables of a node that holds nothing but the rules for these objects."""
    return whole(wanted_for(objects, a_settings(**settings)))


def recorded_with_a_local_one() -> list[dict[str, Any]]:
    """What the recording of v1.20 was given: all of the other recordings' objects, and a Service that stays on the node."""
    return [*recorded_objects(), a_service(
        "stay", ip="10.96.0.60", ports=[a_port(node_port=30060)], type="LoadBalancer", externalTrafficPolicy="Local",
        externalIPs=["203.0.113.60"], ingress=["192.0.2.60"], loadBalancerSourceRanges=["192.0.2.0/24"]),
        a_slice("stay", [an_endpoint("10.244.1.60"), an_endpoint("10.244.2.60", "node2")])]
