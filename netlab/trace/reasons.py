"""The kernel's drop reasons (<net/dropreason-core.h>) in words, and what would mend each. Pure.

Most drops are told better by the hops before them; these words serve where the hops alone say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netlab.kernel.drops import function_at
from netlab.trace.packet import Packet


@dataclass(frozen=True)
class Death:
    """A packet's end as BPF told it: the kernel's `reason`, the address of its code, at an interface of a place."""

    at: int
    place: str
    interface: str
    reason: str
    location: int
    packet: Packet

    @property
    def function(self) -> str:
        """Return the kernel function that dropped it, "" when symbols are hidden."""
        return function_at(self.location)


@dataclass(frozen=True)
class Cause:
    """Why a packet died, and what would mend it; `reason` and `function` are the kernel's own words, if it told."""

    why: str
    fix: str
    reason: str = ""
    function: str = ""


_CHECKSUM: Final = ("its checksum is wrong", "who made it computed no checksum, or something changed it on the way")
_QUEUE: Final = ("a queue (tc) dropped it", "tc -s qdisc shows the queue and its limits")
_SLOW: Final = ("the program there reads too slowly: its socket's buffer is full",
                "look at that program; ss -ulnm, ss -tlnm")
_STATE: Final = ("its TCP state has no use for it", "look at the packets before it: flags and sequence numbers")

REASONS: Final[dict[str, tuple[str, str]]] = {
    "NO_SOCKET": ("no program there has a socket for it",
                  "start the program, or mend the port (a Service's targetPort)"),
    "NETFILTER_DROP": ("a netfilter rule dropped it", "netlab rules shows the rules there"),
    "IP_RPFILTER": ("the reverse path filter dropped it: the route back to its source leads out of another interface",
                    "mend the route to the source, or set net.ipv4.conf.all.rp_filter to 2 (loose) there"),
    "IP_INNOROUTES": ("it has no route for it", "ip route get shows what it knows; add the route"),
    "IP_OUTNOROUTES": ("it has no route for it", "ip route get shows what it knows; add the route"),
    "IP_INADDRERRORS": ("its destination is none of its own, and it does not forward", "net.ipv4.ip_forward there"),
    "NEIGH_FAILED": ("nobody answered who has the next hop's address", "is the Pod gone, or the node down?"),
    "NEIGH_CREATEFAIL": ("the neighbour table is full", "raise net.ipv4.neigh.default.gc_thresh3"),
    "NEIGH_QUEUEFULL": ("too many packets wait for one neighbour's answer", "who has the next hop's address?"),
    "NEIGH_DEAD": ("the neighbour entry was taken away under it", "is an interface going down there?"),
    "PKT_TOO_BIG": ("it is longer than the next link takes, and may not be fragmented (DF)",
                    "lower the sender's MTU, or let it do path MTU discovery"),
    "IP_INHDR": ("its IP header is wrong, or its time to live ran out", "look at the TTL, and for a routing loop"),
    "IP_CSUM": _CHECKSUM, "TCP_CSUM": _CHECKSUM, "UDP_CSUM": _CHECKSUM, "ICMP_CSUM": _CHECKSUM,
    "IP_NOPROTO": ("no program and no kernel part there takes its protocol", "is the protocol's module loaded?"),
    "UNHANDLED_PROTO": ("no kernel part there takes such frames", "is IPv4 or IPv6 switched on there?"),
    "OTHERHOST": ("its link-layer address is another host's", "a stale neighbour entry: ip neigh"),
    "SOCKET_RCVBUFF": _SLOW, "SOCKET_BACKLOG": _SLOW, "PROTO_MEM": _SLOW,
    "SOCKET_FILTER": ("a filter on the program's socket dropped it", "the program attached it: SO_ATTACH_FILTER"),
    "TCP_FLAGS": ("its TCP flags make no sense in that state", "look at the packets before it"),
    "TCP_INVALID_SYN": ("no SYN was expected there", "is the same pair of ports still in use?"),
    "TCP_OLD_DATA": _STATE, "TCP_OVERWINDOW": _STATE, "TCP_OFOMERGE": _STATE, "TCP_RFC7323_PAWS": _STATE,
    "TCP_INVALID_SEQUENCE": _STATE, "TCP_INVALID_ACK_SEQUENCE": _STATE, "TCP_RESET": _STATE, "TCP_CLOSE": _STATE,
    "TCP_ACK_UNSENT_DATA": _STATE, "TCP_TOO_OLD_ACK": _STATE,
    "TCP_LISTEN_OVERFLOW": ("the program there accepts too slowly: its queue of connections is full",
                            "ss -tln shows it"),
    "QDISC_DROP": _QUEUE, "QDISC_OVERLIMIT": _QUEUE, "QDISC_CONGESTED": _QUEUE,
    "TC_EGRESS": ("a filter (tc) dropped it", "tc filter show dev INTERFACE egress tells the filters"),
    "TC_INGRESS": ("a filter (tc) dropped it", "tc filter show dev INTERFACE ingress tells the filters"),
    "XDP": ("an XDP program dropped it", "ip link shows the program: prog/xdp"),
    "BPF_CGROUP_EGRESS": ("a BPF program of its cgroup dropped it", "bpftool cgroup tree"),
    "CPU_BACKLOG": ("the machine was too busy to take it", "raise net.core.netdev_max_backlog"),
    "DEV_READY": ("the interface is down", "ip link set ... up"),
    "DEV_HDR": ("its link-layer header is cut short", "who made it?"),
    "FULL_RING": ("the interface's queue is full", "the reader of a tap or tunnel is too slow"),
    "NOMEM": ("the kernel had no memory for it", "free -m"),
    "IP_INVALID_SOURCE": ("its source address may not be one",
                          "the sender uses 0.0.0.0, a broadcast or multicast source"),
    "IP_INVALID_DEST": ("its destination may not be one", "look at the address"),
    "IP_LOCALNET": ("127.0.0.0/8 does not travel", "send to another address, or set net.ipv4.conf.all.route_localnet"),
    "IP_LOCAL_SOURCE": ("its source is an address of this very place", "two places have the same address"),
    "NO_TX_TARGET": ("the bridge had no port to send it by", "is the port, or the cable behind it, down? bridge link"),
    "BRIDGE_INGRESS_STP_STATE": ("the bridge's port is not forwarding", "bridge link shows its state"),
    "FRAG_REASM_TIMEOUT": ("not all of its fragments came in time", "where did the others end?"),
    "DUP_FRAG": ("that fragment was there already", "a copy; nothing is lost"),
    "FRAG_TOO_FAR": ("its fragments came too far apart", "look at net.ipv4.ipfrag_max_dist"),
    "VXLAN_VNI_NOT_FOUND": ("no VXLAN device there has that VNI", "the two ends disagree about the VNI"),
    "VXLAN_INVALID_HDR": ("its VXLAN header is wrong", "do both ends speak the same dialect?"),
    "VXLAN_ENTRY_EXISTS": ("its link-layer address is known behind another VXLAN end", "bridge fdb show"),
    "IPV6DISABLED": ("IPv6 is switched off there", "sysctl net.ipv6.conf.all.disable_ipv6"),
    "IPV6_NDISC_BAD_CODE": ("its neighbour discovery message is wrong", "who made it?"),
}

NOT_A_DEATH: Final = frozenset({"NOT_DROPPED_YET", "CONSUMED", "DUP_FRAG"})
"""Reasons under which nothing is lost."""

FATAL: Final = frozenset({"NETFILTER_DROP", "IP_RPFILTER", "IP_INNOROUTES", "IP_OUTNOROUTES", "NEIGH_FAILED", "IP_CSUM",
                          "QDISC_DROP", "XDP", "TCP_CSUM", "UDP_CSUM", "TC_INGRESS", "TC_EGRESS"})
"""Reasons after which no answer is to be waited for (others happen to copies, or are answered)."""


def words(death: Death) -> Cause:
    """Return a death in words, from the kernel's reason alone."""
    what = REASONS.get(death.reason)
    where = f" at {death.interface}" if death.interface else ""
    if what is None:
        told = death.reason.lower().replace("_", " ")
        what = f"the kernel dropped it ({told}{f' in {death.function}' if death.function else ''})", \
            f"the kernel's name for it is SKB_DROP_REASON_{death.reason}"
    return Cause(f"{death.place}{where}: {what[0]}", what[1], death.reason, death.function)
