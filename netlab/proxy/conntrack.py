"""UDP flows that a change of endpoints left behind (kubernetes: pkg/proxy/conntrack/cleanup.go).

nat looks at a flow's first packet only, and a UDP client that keeps talking keeps its flow alive: without help it
would speak to an endpoint that is gone, or to none, for ever.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator

from netlab.kernel.conntrack import Flow
from netlab.proxy.addresses import join
from netlab.proxy.endpoints import Endpoint
from netlab.proxy.services import ServicePort


def sought(ports: Iterable[ServicePort]) -> Callable[[bytes, int], bool]:
    """Return the test of a flow's destination (a packed address, a port) for those that may be to one of these."""
    ports = list(ports)
    places = {(ipaddress.ip_address(ip).packed, port.port) for port in ports
              for ip in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips)}
    node_ports = {port.node_port for port in ports if port.node_port}
    return lambda ip, number: number in node_ports or (ip, number) in places


def stale(flows: Iterable[Flow], ports: Iterable[tuple[ServicePort, tuple[Endpoint, ...]]]) -> Iterator[Flow]:
    """Yield the UDP flows to a Service that are answered by no endpoint of it that serves.

    Args:
        flows: the node's table.
        ports: every port with all its endpoints. A port without a serving endpoint is left alone: its traffic is
            refused by the filter table, whatever conntrack holds.
    """
    by_address: dict[str, set[str]] = {}
    by_node_port: dict[int, set[str]] = {}
    for port, endpoints in ports:
        serving = {each.text for each in endpoints if each.serving}
        if port.protocol != "udp" or not serving:
            continue
        for ip in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
            by_address[join(ip, port.port)] = serving
        if port.node_port:
            by_node_port[port.node_port] = serving
    for flow in flows:
        if flow.protocol != "udp":
            continue
        serving = by_address.get(join(flow.original.dst, flow.original.dport)) or by_node_port.get(
            flow.original.dport, set())
        if serving and join(flow.reply.src, flow.reply.sport) not in serving:
            yield flow
