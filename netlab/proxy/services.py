"""What a node's rules need to know of a Service: one small value per port and address family."""

from __future__ import annotations

from typing import Any, NamedTuple

from netlab.api import meta
from netlab.api.meta import Object
from netlab.proxy.addresses import Family, address, is_everything, network, networks_of_family, of_family

_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"
SELECTOR = f"!{_OTHER_PROXY}"
"""The label selector of the Services that a kube-proxy lists: those not left to another proxy."""

DEFAULT_AFFINITY_SECONDS = 10800


class ServicePort(NamedTuple):
    """One port of a Service as one address family sees it.

    `name` is `namespace/service`, with `:port` where the port has a name; it stands in every comment. `protocol` is
    lower case. `affinity_seconds` is 0 without session affinity. `external_local` and `internal_local` are the traffic
    policies. `load_balancer_ips` are those that ask for delivery by the node (ipMode VIP).
    """

    name: str
    service: str
    port_name: str
    protocol: str
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    affinity_seconds: int = 0
    external_local: bool = False
    internal_local: bool = False
    health_check_node_port: int = 0

    @property
    def externally_accessible(self) -> bool:
        """Tell whether it has any address but the cluster's own."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Tell whether some traffic may go to endpoints on other nodes; traffic from Pods to outside addresses may."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Tell whether some traffic must stay on this node."""
        return self.internal_local or (self.external_local and self.externally_accessible)


def ignored(service: Object) -> bool:
    """Tell whether a kube-proxy leaves this Service alone: headless, ExternalName, or given to another proxy."""
    spec = service.get("spec") or {}
    return (_OTHER_PROXY in meta.labels(service) or spec.get("type") == "ExternalName"
            or spec.get("clusterIP", "") in ("", "None"))


def service_ports(service: Object, family: Family) -> tuple[ServicePort, ...]:
    """Return the ports of a Service in one family; () when the family has no cluster address for it."""
    if ignored(service):
        return ()
    spec = service["spec"]
    cluster_ips = of_family(spec.get("clusterIPs") or [spec["clusterIP"]], family)
    if not cluster_ips:
        return ()
    key = meta.key(service)
    shared: dict[str, Any] = {
        "service": key,
        "cluster_ip": cluster_ips[0],
        "external_ips": of_family(spec.get("externalIPs") or (), family),
        "load_balancer_ips": _load_balancer_ips(service, family),
        "source_ranges": _source_ranges(spec, family),
        "affinity_seconds": _affinity(spec),
        "external_local": _external_local(spec),
        "internal_local": spec.get("internalTrafficPolicy") == "Local",
        "health_check_node_port": _health_check_node_port(spec),
    }
    result = []
    for port in spec.get("ports") or ():
        label = port.get("name") or ""
        result.append(ServicePort(name=f"{key}:{label}" if label else key, port_name=label,
                                  protocol=(port.get("protocol") or "TCP").lower(), port=port["port"],
                                  node_port=port.get("nodePort") or 0, **shared))
    return tuple(result)


def bad_addresses(service: Object) -> tuple[str, ...]:
    """Return the addresses and networks of a Service that are none, in order, for the log."""
    spec = service.get("spec") or {}
    every = [*(spec.get("externalIPs") or ()), *[each["ip"] for each in _ingress(service) if each.get("ip")]]
    return tuple([text for text in every if not address(text)]
                 + [text for text in spec.get("loadBalancerSourceRanges") or () if not network(text)])


def _ingress(service: Object) -> list[Object]:
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def _load_balancer_ips(service: Object, family: Family) -> tuple[str, ...]:
    """Return the load balancer's addresses; with ipMode Proxy it delivers to node ports and nodes stay out of it."""
    return of_family([each["ip"] for each in _ingress(service)
                      if each.get("ip") and each.get("ipMode", "VIP") == "VIP"], family)


def _source_ranges(spec: Object, family: Family) -> tuple[str, ...]:
    listed = spec.get("loadBalancerSourceRanges")
    ranges = networks_of_family(listed, family) if listed else ()
    return () if any(map(is_everything, ranges)) else ranges


def _affinity(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    client_ip = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(client_ip.get("timeoutSeconds") or DEFAULT_AFFINITY_SECONDS)


def _external_local(spec: Object) -> bool:
    reachable = spec.get("type") in ("NodePort", "LoadBalancer") or bool(spec.get("externalIPs"))
    return reachable and spec.get("externalTrafficPolicy") == "Local"


def _health_check_node_port(spec: Object) -> int:
    if spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
        return 0
    return int(spec.get("healthCheckNodePort") or 0)
