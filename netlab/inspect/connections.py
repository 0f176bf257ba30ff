"""The connections that conntrack remembers, by Service: who talks to which endpoint. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from netlab.inspect.names import Names
from netlab.inspect.service import PortRules
from netlab.inspect.state import State
from netlab.kernel import conntrack
from netlab.kernel.conntrack import Flow
from netlab.proxy.addresses import join


@dataclass(frozen=True)
class Connection:
    """One connection to a Service. `endpoint` is where it really goes, `who` and `client_name` what the API calls both.

    `state` is TCP's, or answered/unanswered; `timeout` the seconds that conntrack keeps the entry without a packet;
    `masqueraded` tells that the endpoint sees a node's address, `gone` that the rules have this endpoint no more.
    """

    port: str
    protocol: str
    client: str
    service: str
    reply_from: str
    reply_to: str
    state: str
    timeout: int
    endpoint: str
    who: str = ""
    client_name: str = ""
    masqueraded: bool = False
    assured: bool = False
    gone: bool = False
    packets: int = 0
    bytes: int = 0


def of_service(flows: Iterable[Flow], states: Mapping[str, State], names: Names) -> Iterator[Connection]:
    """Yield the connections to a Service's addresses.

    Args:
        flows: the node's conntrack entries.
        states: the Service's ports as the node's rules have them.
        names: what the API calls addresses.
    """
    by_address: dict[tuple[str, str], str] = {}
    for port, state in states.items():
        protocol = port.rpartition(" ")[2]
        for address in state.addresses:
            by_address[protocol, address.removeprefix("node port ")] = port
    for flow in flows:
        to = join(flow.original.dst, flow.original.dport)
        plain = f"{flow.original.dst}:{flow.original.dport}"
        port = by_address.get((flow.protocol, plain)) or (
            by_address.get((flow.protocol, str(flow.original.dport)), "") if flow.status & conntrack.DST_NAT else "")
        if not port:
            continue
        end = join(flow.reply.src, flow.reply.sport)
        yield Connection(
            port.rpartition(" ")[0], flow.protocol, join(flow.original.src, flow.original.sport), to, end,
            join(flow.reply.dst, flow.reply.dport),
            flow.state or ("answered" if flow.status & conntrack.SEEN_REPLY else "unanswered"), flow.timeout, end,
            names.of_endpoint(end), names.of_endpoint(join(flow.original.src, 0)),
            bool(flow.status & conntrack.SRC_NAT), bool(flow.status & conntrack.ASSURED),
            bool(flow.status & conntrack.DST_NAT) and end not in states[port].endpoints,
            flow.original.packets + flow.reply.packets, flow.original.bytes + flow.reply.bytes)


def counted(ports: Iterable[PortRules], found: Iterable[Connection]) -> tuple[PortRules, ...]:
    """Return a Service's ports with remembered connections as what was observed: where rules have no counters."""
    count = Counter((each.port, each.protocol, each.endpoint) for each in found)
    result = []
    for port in ports:
        taken = {end.address: count[port.name, port.protocol, end.address] for end in port.endpoints}
        total = sum(taken.values())
        result.append(replace(port, endpoints=tuple(
            replace(end, packets=taken[end.address], fresh=taken[end.address],
                    observed=taken[end.address] / total if total else None) for end in port.endpoints)))
    return tuple(result)
