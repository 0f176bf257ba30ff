"""The words by which nft asks a packet for something (nft(8), EXPRESSIONS). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PORTS: Final = frozenset({"sport", "dport", "length", "checksum", "csumcov"})
_NETWORK: Final = frozenset({"saddr", "daddr", "version", "dscp", "ecn", "length"})
_ICMP: Final = frozenset({"type", "code", "id", "sequence", "checksum", "mtu", "gateway", "max-delay",
                          "parameter-problem", "packet-too-big"})
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "ip": _NETWORK | {"protocol", "hdrlength", "id", "frag-off", "ttl", "checksum"},
    "ip6": _NETWORK | {"nexthdr", "flowlabel", "hoplimit"},
    "tcp": _PORTS | {"sequence", "ackseq", "doff", "flags", "window", "urgptr", "reserved"}, "udp": _PORTS,
    "udplite": _PORTS, "sctp": _PORTS | {"vtag"}, "dccp": _PORTS | {"type"}, "th": _PORTS, "icmp": _ICMP,
    "icmpv6": _ICMP, "ether": frozenset({"saddr", "daddr", "type"}), "vlan": frozenset({"id", "cfi", "pcp", "type"}),
    "meta": frozenset({
        "mark", "iif", "iifname", "iiftype", "iifgroup", "iifkind", "oif", "oifname", "oiftype", "oifgroup", "oifkind",
        "l4proto", "nfproto", "protocol", "length", "priority", "random", "skuid", "skgid", "rtclassid", "pkttype",
        "cpu", "cgroup", "time", "day", "hour", "ibrname", "obrname", "nftrace", "secmark", "ipsec", "sdif",
        "sdifname"}),
    "ct": frozenset({"state", "status", "mark", "direction", "expiration", "helper", "label", "l3proto", "protocol",
                     "bytes", "packets", "avgpkt", "zone", "id", "original", "reply", "secmark", "saddr", "daddr",
                     "proto-src", "proto-dst"}),
    "rt": frozenset({"classid", "nexthop", "mtu", "ipsec"}),
    "socket": frozenset({"transparent", "mark", "wildcard", "cgroupv2"})}
"""What can be asked, by the first word; a protocol's name is a value as well."""

BARE: Final = {word: ("meta", word) for word in ("mark", "iif", "oif", "iifname", "oifname", "skuid", "skgid",
                                                 "iifgroup", "oifgroup", "iiftype", "oiftype", "nftrace", "rtclassid")}
"""What `meta` may be left out before."""
