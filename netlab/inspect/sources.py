"""The objects and fields behind a rule of kube-proxy's, and what the rule is for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from netlab.api import meta
from netlab.api.meta import Object
from netlab.inspect.shares import dice
from netlab.inspect.since import since
from netlab.inspect.world import Owner, Place, World
from netlab.netfilter.model import Rule
from netlab.netfilter.normalise import network
from netlab.netfilter.terms import terms
from netlab.proxy import layout, names
from netlab.proxy.services import ServicePort


@dataclass(frozen=True)
class Source:
    """An object and those of its fields that a rule or chain is made from; `note` says what they hold.

    `object` is such as `Service default/web`, `revision` its resourceVersion, "" when it is none of the API's; `since`
    is when and by whom these fields were last written, as far as the object tells.
    """

    object: str
    revision: str
    fields: tuple[str, ...]
    note: str = ""
    since: str = ""

    def __str__(self) -> str:
        version = f" (resourceVersion {self.revision})" if self.revision else ""
        said = f"{self.object}{version} {', '.join(self.fields)}{f': {self.note}' if self.note else ''}"
        return f"{said}, since {self.since}" if self.since else said


class Known(Protocol):
    """What a world of either mode knows of the API."""

    @property
    def services(self) -> Mapping[str, Object]:
        """Return the Services by `namespace/name`."""
        ...

    @property
    def slices(self) -> Mapping[str, tuple[Object, ...]]:
        """Return the EndpointSlices by their Service."""
        ...


ROLES: Mapping[str, str] = {
    "cluster": "kube-proxy made it to spread connections over all endpoints of",
    "local": "kube-proxy made it to spread connections over this node's endpoints of",
    "external": "kube-proxy made it for what comes from outside the cluster to",
    "firewall": "kube-proxy made it to let only some sources to the load balancer addresses of",
    "endpoint": "kube-proxy made it for one endpoint of",
    "older": "a kube-proxy before v1.24 made it for what comes from outside the cluster, to stay on this node, to",
}
CHAINS: Mapping[str, str] = {
    names.SERVICES: "every kube-proxy has it: one rule for each address of each Service",
    names.EXTERNAL_SERVICES: "every kube-proxy has it: it refuses outside addresses of Services without endpoints",
    names.NODE_PORTS: "every kube-proxy has it: one rule for each node port (nat) or health check port (filter)",
    names.POSTROUTING: "every kube-proxy has it: it masquerades what was marked",
    names.MARK_MASQ: "every kube-proxy has it: it marks packets to be masqueraded",
    names.FORWARD: "every kube-proxy has it: it lets through what Services rewrote",
    names.PROXY_FIREWALL: "every kube-proxy has it: it drops what loadBalancerSourceRanges do not allow",
    names.CANARY: "every kube-proxy has it, empty: when it is gone, somebody flushed the table",
    names.KUBELET_FIREWALL: "kubelet and kube-proxy both keep it: it guards 127.0.0.0/8 (CVE-2020-8558)",
}
KUBELETS: Mapping[str, str] = {
    "KUBE-KUBELET-CANARY": "the kubelet has it, empty: when it is gone, somebody flushed the table",
    "KUBE-IPTABLES-HINT": "the kubelet has it, empty: it tells other programs which backend is in use",
    "KUBE-MARK-DROP": "an older kubelet made it", names.KUBELET_FIREWALL: "the kubelet wrote it: it guards 127.0.0.0/8",
}
_FIXED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    names.POSTROUTING: ("it masquerades what was marked", ("iptables.masqueradeBit",)),
    names.MARK_MASQ: ("it sets the mark that asks for masquerade", ("iptables.masqueradeBit",)),
    names.FORWARD: ("it lets through what Services rewrote", ("iptables.masqueradeBit", "conntrack.tcpBeLiberal")),
    names.KUBELET_FIREWALL: ("it guards 127.0.0.0/8 (CVE-2020-8558)", ("iptables.localhostNodePorts",)),
    names.SERVICES: ("what is for this node itself may be for a node port; it stays the last rule",
                     ("nodePortAddresses", "iptables.localhostNodePorts")),
}


def fixed(table: str, rule: Rule) -> tuple[str, tuple[Source, ...]]:
    """Return the purpose of a rule that depends on no Service, and the settings that it depends on."""
    if (table, rule.chain) in layout.JUMPS:
        return f"the way from {rule.chain} into {rule.jump}", ()
    purpose, fields = _FIXED.get(rule.chain, ("", ()))
    return purpose, (Source("KubeProxyConfiguration", "", fields),) if fields else ()


def purpose(table: str, rule: Rule, port: ServicePort) -> str:
    """Return in words what a rule of a Service port is for."""
    chain, kind = rule.chain, rule.chain[:9].rstrip("-")
    if chain in (names.SERVICES, names.EXTERNAL_SERVICES, names.PROXY_FIREWALL):
        to = f"what comes to its {_address(rule, port)[0]}"
        if chain == names.PROXY_FIREWALL:
            return f"{to} and was not let through is dropped"
        return f"{to} is refused: no endpoint" if rule.jump in ("REJECT", "DROP") else f"{to} goes to its endpoints"
    if chain == names.NODE_PORTS:
        return "what comes to its health check port is accepted" if table == "filter" else "what comes to its node port"
    if rule.jump == names.MARK_MASQ:
        return {"KUBE-SEP": "an endpoint that calls its own Service is masqueraded, so that the answer comes back",
                "KUBE-EXT": "what comes from outside is masqueraded, so that the answer returns through this node",
                }.get(kind, "what is not from a Pod is masqueraded, so that the answer returns through this node")
    if kind == "KUBE-SEP":
        return "the destination becomes the endpoint"
    if kind in ("KUBE-SVC", "KUBE-SVL"):
        if "--rcheck" in rule.match:
            return "a client that was sent to this endpoint before is sent there again"
        share = dice(rule)
        return f"one in {round(1 / share)} of what comes here" if share else "a part of what comes here"
    return {"KUBE-EXT": "the way from outside to the endpoints", "KUBE-FW-": "which sources may come in",
            "KUBE-FW": "which sources may come in"}.get(kind, "its own")


def of_rule(world: World, table: str, rule: Rule, port: ServicePort) -> Iterator[Source]:
    """Yield the objects that a rule of a Service port comes from, the Service first."""
    fields = tuple(dict.fromkeys(_service_fields(world, table, rule, port)))
    yield of_service(world, port, fields, _note(table, rule, port))
    owner = world.owners.get(rule.chain)
    endpoint = world.owners.get(rule.jump)
    chain = rule.chain if owner and owner.role == "endpoint" else rule.jump
    if (owner and owner.role == "endpoint") or (endpoint and endpoint.role == "endpoint"):
        yield from of_slices(world.places.get(chain, ()))
    elif rule.jump in ("REJECT", "DROP") and rule.chain != names.PROXY_FIREWALL:
        yield from of_unready(world, port)
    if rule.jump == names.MARK_MASQ and rule.chain.startswith(("KUBE-SVC-", "KUBE-SVL-")):
        yield Source("KubeProxyConfiguration", "", ("iptables.masqueradeAll",) if world.settings.masquerade_all else
                     ("clusterCIDR", "detectLocalMode"), world.settings.detector.match)
    if rule.chain.startswith("KUBE-FW-") and any(ip in rule.match for ip in port.load_balancer_ips) and world.node:
        yield Source(f"Node {meta.name(world.node)}", _version(world.node), ("status.addresses",),
                     f"{world.settings.own_ip} is among the allowed sources")


def of_owner(world: World, owner: Owner) -> Iterator[Source]:
    """Yield the objects that a chain comes from: the hash in its name is made of these fields."""
    port = owner.port
    index = port_field(world, port)
    fields = ["metadata.namespace", "metadata.name", f"{index}.name", f"{index}.protocol"]
    fields += {"local": ["spec.internalTrafficPolicy", "spec.externalTrafficPolicy"],
               "external": ["spec.type", f"{index}.nodePort", "spec.externalIPs", "status.loadBalancer.ingress"],
               "firewall": ["spec.loadBalancerSourceRanges"]}.get(owner.role, [])
    yield of_service(world, port, fields)
    if owner.role == "endpoint":
        code = names.endpoint_chain(port.name, port.protocol, owner.address)
        yield from of_slices(world.places.get(code, ()))
    elif owner.role in ("cluster", "local"):
        chains = [rule.jump for rule in world.rules.chain("nat", (
            "KUBE-SVC-" if owner.role == "cluster" else "KUBE-SVL-") + names.digest(port.name + port.protocol)).rules]
        yield from of_slices(place for chain in dict.fromkeys(chains) for place in world.places.get(chain, ()))


def of_service(world: Known, port: ServicePort, fields: Iterable[str], note: str = "") -> Source:
    service = world.services[port.service]
    listed = tuple(_own_address(service, port) if each == "spec.clusterIP" else each for each in fields)
    return Source(f"Service {port.service}", _version(service), listed, note, since(service, listed))


def _own_address(service: Object, port: ServicePort) -> str:
    """Return the field of a port's cluster address: a Service of two families has a second one."""
    others = (service.get("spec") or {}).get("clusterIPs") or ()
    if port.cluster_ip in others[1:]:
        return f"spec.clusterIPs[{list(others).index(port.cluster_ip)}]"
    return "spec.clusterIP"


def port_field(world: Known, port: ServicePort) -> str:
    listed = (world.services[port.service].get("spec") or {}).get("ports") or ()
    for index, each in enumerate(listed):
        if (each.get("name") or "") == port.port_name and (each.get("protocol") or "TCP").lower() == port.protocol:
            return f"spec.ports[{index}]"
    return "spec.ports"


def _service_fields(world: World, table: str, rule: Rule, port: ServicePort) -> Iterator[str]:
    index = port_field(world, port)
    kind = rule.chain[:9].rstrip("-")
    if rule.chain in (names.SERVICES, names.EXTERNAL_SERVICES, names.PROXY_FIREWALL):
        _, field = _address(rule, port)
        yield field or f"{index}.nodePort"
        if field:
            yield f"{index}.port"
        yield f"{index}.protocol"
        if rule.jump.startswith("KUBE-SVL-") or rule.jump == "DROP":
            yield "spec.internalTrafficPolicy" if rule.chain == names.SERVICES else "spec.externalTrafficPolicy"
        if rule.jump.startswith("KUBE-FW-") or rule.chain == names.PROXY_FIREWALL:
            yield "spec.loadBalancerSourceRanges"
    elif rule.chain == names.NODE_PORTS:
        yield f"{index}.nodePort" if table == "nat" else "spec.healthCheckNodePort"
    elif kind in ("KUBE-SVC", "KUBE-SVL"):
        if rule.jump == names.MARK_MASQ:
            yield from ("spec.clusterIP", f"{index}.port")
        elif "--rcheck" in rule.match:
            yield from ("spec.sessionAffinity", "spec.sessionAffinityConfig.clientIP.timeoutSeconds")
        else:
            yield f"{index}.name"
            yield "spec.selector"
    elif kind == "KUBE-SEP":
        yield f"{index}.targetPort"
        if "--set" in rule.match:
            yield "spec.sessionAffinity"
    elif kind == "KUBE-EXT":
        yield "spec.externalTrafficPolicy"
    else:
        yield from _ranges(rule, port)


def _ranges(rule: Rule, port: ServicePort) -> Iterator[str]:
    for term in terms(rule.match):
        if term.option == "-s":
            found = [at for at, each in enumerate(port.source_ranges) if network(each) == network(term.value)]
            yield f"spec.loadBalancerSourceRanges[{found[0]}]" if found else "status.loadBalancer.ingress"
            return
    yield "spec.loadBalancerSourceRanges"


def _address(rule: Rule, port: ServicePort) -> tuple[str, str]:
    to = next((network(term.value) for term in terms(rule.match) if term.option == "-d" and not term.negated), "")
    return address_field(to, port, balanced="loadbalancer" in rule.match)


def address_field(to: str, port: ServicePort, *, balanced: bool = False) -> tuple[str, str]:
    """Return which address of a Service `to` is, in words and as a field; "" is a node port, which has no field.

    `balanced`: that it is a load balancer's, for one that is also among the externalIPs.
    """
    if to == port.cluster_ip:
        return f"cluster address {to}:{port.port}", "spec.clusterIP"
    for at, ip in enumerate(port.load_balancer_ips):
        if ip == to and (balanced or to not in port.external_ips):
            return f"load balancer address {to}:{port.port}", f"status.loadBalancer.ingress[{at}].ip"
    for at, ip in enumerate(port.external_ips):
        if ip == to:
            return f"external address {to}:{port.port}", f"spec.externalIPs[{at}]"
    return f"node port {port.node_port}", ""


def _note(table: str, rule: Rule, port: ServicePort) -> str:
    if rule.chain in (names.SERVICES, names.EXTERNAL_SERVICES, names.PROXY_FIREWALL):
        return _address(rule, port)[0]
    if rule.chain == names.NODE_PORTS:
        return str(port.node_port if table == "nat" else port.health_check_node_port)
    return ""


def of_slices(places: Iterable[Place]) -> Iterator[Source]:
    """Yield the slices of some endpoints, each once with all their entries."""
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(meta.key(place.slice), []).append(place)
    for key, listed in found.items():
        fields = [f"endpoints[{place.index}].addresses[0]" for place in listed]
        yield Source(f"EndpointSlice {key}", _version(listed[0].slice), tuple(dict.fromkeys(fields)),
                     ", ".join(dict.fromkeys(_who(place) for place in listed)), since(listed[0].slice, fields))


def _who(place: Place) -> str:
    target = place.entry.get("targetRef") or {}
    name = f"{target.get('namespace', '')}/{target.get('name', '')}"
    who = f" of {target.get('kind', 'Pod')} {name}" if target.get("name") else ""
    conditions = place.entry.get("conditions") or {}
    state = ", terminating" if conditions.get("terminating") else (
        ", not ready" if conditions.get("ready") is False else "")
    return f"{place.endpoint.text}{who}{state}"


def of_unready(world: Known, port: ServicePort) -> Iterator[Source]:
    listed = world.slices.get(port.service, ())
    for each in listed:
        count = len(each.get("endpoints") or ())
        yield Source(f"EndpointSlice {meta.key(each)}", _version(each), ("endpoints",),
                     "none" if not count else f"none of its {count} serves {port.name} here",
                     since(each, ("endpoints",)))
    if not listed:
        yield Source("EndpointSlice", "", ("metadata.labels[kubernetes.io/service-name]",), "none names the Service")


def _version(each: Object) -> str:
    return str((each.get("metadata") or {}).get("resourceVersion", ""))
