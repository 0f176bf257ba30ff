"""What the documentation promises about a packet to a Service, without a word of rules.

https://kubernetes.io/docs/reference/networking/virtual-ips/, .../concepts/services-networking/service/ and
.../service-traffic-policy/, .../topology-aware-routing/, .../tutorials/services/source-ip/; KEP-1669 (terminating
endpoints), KEP-2450 (who is local), KEP-3015 (traffic distribution), KEP-1860 (ipMode).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from netlab.proxy.addresses import join
from netlab.proxy.settings import Settings

Answer = tuple[str, bool]
"""An endpoint, `ip:port`, and whether the source is masqueraded; or a verdict and False."""

REJECT, DROP, UNTOUCHED = ("REJECT", False), ("DROP", False), ("UNTOUCHED", False)


@dataclass(frozen=True)
class Question:
    """A packet: from which kind of place (`pod`, `node`, `outside`), its source, its destination."""

    place: str
    source: str
    to: str
    port: int
    protocol: str


def ask(objects: list[dict[str, Any]], settings: Settings, question: Question, local: tuple[str, ...],
        mode: str = "iptables") -> set[Answer]:
    """Return everything that may become of a packet. `local` are the node's addresses, loopback's included.

    One thing in it no document promises: iptables mode refuses the node port of a Service without usable endpoints on
    every address of the node, also on those where node ports are not served.
    """
    for service in (each for each in objects if each["kind"] == "Service" and not _others(each)):
        spec = service["spec"]
        for port in spec["ports"]:
            if port["protocol"].lower() != question.protocol:
                continue
            way = _way(service, port, settings, question, local)
            if way == "unserved node port":
                found = _reached(objects, service, port, settings, question, "node port")
                external = _reached(objects, service, port, settings, Question("outside", "0.0.0.0", "", 0, ""), "node port")
                refused = found if found == {REJECT} else external
                return refused if mode == "iptables" and refused in ({REJECT}, {DROP}) else {UNTOUCHED}
            if way:
                if mode == "nftables" and way == "balancer" and not _admitted(service, settings, question):
                    return {DROP}  # it asks who comes before it asks whether anybody is there
                return _reached(objects, service, port, settings, question, way)
    return {UNTOUCHED}


def _others(service: dict[str, Any]) -> bool:
    return "service.kubernetes.io/service-proxy-name" in service["metadata"]["labels"] or service["spec"]["clusterIP"] in ("", "None")


def _way(service: dict[str, Any], port: dict[str, Any], settings: Settings, question: Question, local: tuple[str, ...]) -> str:
    """Return by which of its addresses a packet comes to a Service port, "" when it does not."""
    spec, to = service["spec"], question.to
    if question.port == port["port"]:
        if to == spec["clusterIP"]:
            return "cluster"
        if to in spec.get("externalIPs", ()):
            return "external"
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        if any(each.get("ip") == to and each.get("ipMode", "VIP") == "VIP" for each in ingress):
            return "balancer"
    if port.get("nodePort") == question.port and to in local:
        if to.startswith("127."):
            allowed = settings.localhost_node_ports
        else:
            networks = settings.node_port_addresses
            allowed = not networks or any(_in(to, each) for each in networks)
        return "node port" if allowed else "unserved node port"
    return ""


def _reached(objects: list[dict[str, Any]], service: dict[str, Any], port: dict[str, Any], settings: Settings, question: Question,
             way: str) -> set[Answer]:
    spec = service["spec"]
    every = _endpoints(objects, service, port)
    here = _usable([each for each in every if each["node"] == settings.node])
    anywhere = _usable(every)
    cluster = _usable(_near(every, settings))
    pod = _is_pod(settings, question)
    outer = bool(port.get("nodePort") or (spec.get("externalIPs") and spec["externalIPs"] != ["bogus"]) or _vips(service))
    if not anywhere and not here:
        # A node's own packets to outside addresses leave it as any other packet does.
        return {UNTOUCHED} if question.place == "node" and way in ("external", "balancer") else {REJECT}
    if way == "cluster":
        chosen = here if spec.get("internalTrafficPolicy") == "Local" else cluster
        if not chosen:
            return {DROP}
        masquerade = settings.masquerade_all or (bool(settings.detector.match) and not pod)
        return _answers(chosen, question, masquerade)
    assert outer
    if way == "balancer" and not _admitted(service, settings, question):
        return {DROP}
    if spec.get("externalTrafficPolicy") != "Local":
        return _answers(cluster, question, True)
    if pod:
        return _answers(cluster, question, False)
    if question.place == "node":
        return _answers(cluster, question, True)
    return _answers(here, question, False) if here else {DROP}


def _answers(endpoints: list[dict[str, Any]], question: Question, masquerade: bool) -> set[Answer]:
    """A Pod that reaches itself is masqueraded in any case: its answer has to come back through the node."""
    return {(join(each["ip"], each["port"]), masquerade or each["ip"] == question.source) for each in endpoints}


def _is_pod(settings: Settings, question: Question) -> bool:
    option, _, value = settings.detector.match.partition(" ")
    if option == "-s":
        return _in(question.source, value)
    return option == "-i" and question.place == "pod" and value == "cni0"


def _admitted(service: dict[str, Any], settings: Settings, question: Question) -> bool:
    ranges = [_tidy(each) for each in service["spec"].get("loadBalancerSourceRanges", ())]
    if not ranges or "0.0.0.0/0" in ranges:
        return True
    sources = [question.source]
    if question.source in _vips(service) and any(_in(settings.node_ip, each) for each in ranges):
        return True  # the node, which talks to the balancer from the balancer's address
    return any(_in(source, each) for source in sources for each in ranges)


def _vips(service: dict[str, Any]) -> list[str]:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", ())
    return [each["ip"] for each in ingress if each.get("ipMode", "VIP") == "VIP"]


def _tidy(text: str) -> str:
    head, _, bits = text.strip().partition("/")
    if ":" in head:
        return text.strip()
    return ".".join(str(int(part)) for part in head.split(".")) + f"/{int(bits)}"


def _endpoints(objects: list[dict[str, Any]], service: dict[str, Any], port: dict[str, Any]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for each in objects:
        if each["kind"] != "EndpointSlice" or each["metadata"]["labels"]["kubernetes.io/service-name"] != service["metadata"]["name"]:
            continue
        for number in (p["port"] for p in each["ports"] if (p["name"], p["protocol"]) == (port["name"], port["protocol"])):
            for host in each["endpoints"]:
                conditions, hints = host["conditions"], host.get("hints", {})
                new = {"ip": host["addresses"][0], "port": number, "node": host["nodeName"], **conditions,
                       "zones": {zone["name"] for zone in hints.get("forZones", ())},
                       "nodes": {node["name"] for node in hints.get("forNodes", ())}}
                key = f"{new['ip']}:{number}"
                if key not in found or _rank(new) > _rank(found[key]):
                    found[key] = new
    return list(found.values())


def _rank(endpoint: dict[str, Any]) -> tuple[object, ...]:
    """The liveliest of two entries for one address counts; what they differ in besides is anybody's choice."""
    return (not endpoint["terminating"], endpoint["ready"], endpoint["serving"], endpoint["node"], sorted(endpoint["zones"]),
            sorted(endpoint["nodes"]))


def _usable(endpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return ([each for each in endpoints if each["ready"]]
            or [each for each in endpoints if each["serving"] and each["terminating"]])


def _near(endpoints: list[dict[str, Any]], settings: Settings) -> list[dict[str, Any]]:
    """Keep what hints ask for, if every ready endpoint has one and somebody is hinted for us."""
    ready = [each for each in endpoints if each["ready"]]
    for kind, own in (("nodes", settings.node), ("zones", settings.zone)):
        if ready and all(each[kind] for each in ready):
            near = [each for each in ready if own in each[kind]]
            if near:
                return near
    return endpoints


def _in(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)
