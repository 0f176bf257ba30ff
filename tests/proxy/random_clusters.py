"""Random clusters with all features of Services mixed, on the addresses of `network`."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from netlab.proxy.settings import LocalDetector
from tests.proxy.builders import NODE_IP, a_port, a_service, a_slice, an_endpoint
from tests.proxy.network import BRIDGE_IP, BRIDGE_IP6, FAR, FAR6, NODE_IP6, PODS, PODS6

ENDPOINTS = (PODS["web-1"], PODS["web-2"], *FAR)
SECOND = dict(zip(ENDPOINTS, (PODS6["web-1"], PODS6["web-2"], *FAR6), strict=True))
"""The same places' addresses of the other family."""
TARGETS = {"TCP": (8080, 8443), "UDP": (5353,)}
RANGES = ("192.0.2.0/24", "203.0.113.000/025", "172.30.0.0/24", " 10.244.1.9/32", "10.244.0.0/16", "198.51.100.0/30", "0.0.0.0/0")
RANGES6 = ("2001:db8::/32", "fd00:172::/64", " fd00:10:244:1::9/128", "fd00:10:244::/48", "2001:db8:5::/48")
DETECTORS = ("-s 10.244.0.0/16", "-s 10.244.0.0/16", "-i cni0", "-i to-+", "")
ZONES = ("a", "b")


@dataclass
class Cluster:
    """Objects by kind and key, and the node's settings."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def all(self) -> list[dict[str, Any]]:
        return list(self.objects.values())


def cluster(dice: random.Random, services: int = 4, *, ipv6: bool = False) -> Cluster:
    made = Cluster(settings=settings(dice))
    if ipv6:
        made.settings |= {"family": "IPv6", "node_ip": NODE_IP6, "detector": LocalDetector(dice.choice(["-s fd00:10::/32", "-i cni0", ""])),
                          "node_port_addresses": (), "node_addresses": ("::1", NODE_IP6, BRIDGE_IP6), "localhost_node_ports": False}
    for n in range(1, services + 1):
        for each in application(dice, n, ipv6=ipv6):
            made.objects[each["kind"], f"default/{each['metadata']['name']}"] = each
    return made


def settings(dice: random.Random) -> dict[str, Any]:
    limited = dice.random() < 0.3
    return {"detector": LocalDetector(dice.choice(DETECTORS)), "masquerade_all": dice.random() < 0.25, "zone": dice.choice(["", "a"]),
            "node_port_addresses": ("172.30.0.0/24", "127.0.0.0/8") if limited else (), "masquerade_bit": dice.choice([14, 14, 3]),
            "node_addresses": ("127.0.0.1", NODE_IP, BRIDGE_IP), "localhost_node_ports": dice.random() < 0.7}


def application(dice: random.Random, n: int, *, ipv6: bool = False) -> list[dict[str, Any]]:
    """Return a Service and its slices; what it is called tells its addresses."""
    name = f"s{n}"
    kind = dice.choice(["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"])
    ports = []
    for number, label, protocol in ((80, "http", "TCP"), (443, "https", "TCP"), (53, "dns", "UDP"), (53, "dns-tcp", "TCP")):
        if label == "http" or dice.random() < 0.35:
            ports.append(a_port(number, label, protocol, 30000 + 100 * n + len(ports) if kind != "ClusterIP" else 0))
    spec: dict[str, Any] = {"type": kind, "internalTrafficPolicy": dice.choice(["Cluster", "Cluster", "Local"])}
    if dice.random() < 0.3:
        spec["externalIPs"] = [f"2001:db8:99::{100 + n}" if ipv6 else f"198.51.100.{100 + n}", "bogus"]
    if kind != "ClusterIP" or "externalIPs" in spec:
        spec["externalTrafficPolicy"] = dice.choice(["Cluster", "Local"])
    if kind == "LoadBalancer":
        spec["ingress"] = [{"ip": f"2001:db8:99::{200 + n}" if ipv6 else f"198.51.100.{200 + n}"} | dice.choice([{}, {"ipMode": "VIP"}, {"ipMode": "Proxy"}])]
        if dice.random() < 0.5:
            spec["loadBalancerSourceRanges"] = dice.sample(RANGES6 if ipv6 else RANGES, dice.randint(1, 2))
        if spec["externalTrafficPolicy"] == "Local":
            spec["healthCheckNodePort"] = 32000 + n
    if dice.random() < 0.2:
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": dice.choice([60, 10800])}}}
    ip = f"fd00:96::{n}" if ipv6 else f"10.96.0.{n}"
    labels = {"service.kubernetes.io/service-proxy-name": "other"} if dice.random() < 0.05 else {}
    result = [a_service(name, ip=ip, ports=ports, labels=labels, **spec)]
    for part in range(dice.choice([0, 1, 1, 1, 2])):
        result.append(slice_of(dice, name, part + 1, ports, ipv6=ipv6))
    return result


def slice_of(dice: random.Random, service: str, part: int, ports: list[dict[str, Any]], *, ipv6: bool) -> dict[str, Any]:
    hinted = dice.random() < 0.3
    hosts = []
    for ip in dice.sample(ENDPOINTS, dice.randint(0, len(ENDPOINTS))):
        state = dice.choice(["ready"] * 5 + ["dying", "dying", "dead", "not yet"])
        hosts.append(an_endpoint(
            SECOND[ip] if ipv6 else ip, "node2" if ip in FAR else "node1",
            ready=state == "ready", serving=state in ("ready", "dying"), terminating=state in ("dying", "dead"),
            zones=(dice.choice(ZONES),) if hinted else (), nodes=(("node2" if ip in FAR else "node1"),) if hinted and dice.random() < 0.7 else ()))
    named = [{"name": port["name"], "port": TARGETS[port["protocol"]][len(port["name"]) % len(TARGETS[port["protocol"]])],
              "protocol": port["protocol"]} for port in ports if dice.random() < 0.95]
    return a_slice(service, hosts, name=f"{service}-{part}", ports=named, family="IPv6" if ipv6 else "IPv4")


def change(dice: random.Random, made: Cluster, *, ipv6: bool = False) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Change some applications; return (kind, key, object or None)."""
    result: list[tuple[str, str, dict[str, Any] | None]] = []
    for n in dice.sample(range(1, 6), dice.randint(1, 2)):
        gone = [key for key in made.objects if key[1] == f"default/s{n}" or key[1].startswith(f"default/s{n}-")]
        wanted = {} if dice.random() < 0.2 else {(each["kind"], f"default/{each['metadata']['name']}"): each
                                                 for each in application(dice, n, ipv6=ipv6)}
        for key in gone:
            if key not in wanted:
                result.append((*key, None))
                del made.objects[key]
        for key, each in wanted.items():
            result.append((*key, each))
            made.objects[key] = each
    dice.shuffle(result)  # a Service may come before its slices, or behind them
    return result
