"""All that routing and bridging in one network namespace depend on, read by one rtnetlink socket in a millisecond.

https://docs.kernel.org/networking/ip-sysctl.html says what the settings mean; rtnetlink(7), RTM_GETNETCONF has them all
in one dump.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from netlab.errors import KernelError
from netlab.kernel import link, nfnetlink, rtnl
from netlab.kernel.fib import Entry, routing_table
from netlab.kernel.netns import inside
from netlab.kernel.rtnl import Message, Rtnl, attributes

_GETRULE, _GETNETCONF, _GETNSID = 34, 82, 90
_IFINFO = struct.Struct("=BxHiII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_LINK_NETNSID, _LINKINFO, _SLAVE_DATA, _PORT_HAIRPIN = 37, 18, 5, 4
_NETCONF_IFINDEX, _NETCONF_FORWARDING, _NETCONF_RP_FILTER = 1, 2, 3
_ALL: Final = -1
_AF_SPEC, _INET_CONF, _INET6_CONF = 26, 1, 2
_ROUTE_LOCALNET, _FORCE_FORWARDING = 25, 59  # in a link, see <linux/ip.h> and <linux/ipv6.h>
_LISTEN: Final = "0A"
_SCTP: Final = "/proc/thread-self/net/sctp"
_SCTP_LISTENING: Final = "10"
_ACTIONS: Final = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_INVERTED: Final = 2
_RULE_IIF, _RULE_GOTO, _RULE_PRIORITY, _RULE_MARK, _RULE_SUPPRESS_GROUP, _RULE_SUPPRESS = 3, 4, 6, 10, 13, 14
_RULE_TABLE, _RULE_MASK, _RULE_OIF, _RULE_PROTOCOL, _RULE_SPORT, _RULE_DPORT, _RULE_DSCP = 15, 16, 17, 22, 23, 24, 25
_RULE_STRANGE: Final = {12: "tun_id", 13: "suppress_ifgroup", 19: "l3mdev", 20: "uidrange", 26: "flowlabel",
                        28: "a mask of sport", 29: "a mask of dport", 30: "a mask of dscp"}
_NFT_GETTABLE: Final = 1


class Port(NamedTuple):
    """An interface: what `link.Link` says, whether it is a hairpin port, its peer's namespace by number (-1 none).

    `forced`: IPv6 forwards what comes in by it whatever the namespace does (force_forwarding, Linux 6.17). `localnet`:
    127.0.0.0/8 may come in and leave by it (its own route_localnet).
    """

    link: link.Link
    hairpin: bool
    peer_nsid: int
    forced: bool = False
    localnet: bool = False


class Policy(NamedTuple):
    """One routing rule (ip-rule(8)). `mark` is value and mask, ports are from and to; "", 0 and None ask for nothing.

    `action` is lookup, goto, nop, blackhole, unreachable or prohibit, `suppress` -1 where no answer is. `strange` are
    the names of conditions that are not read here.
    """

    priority: int
    action: str
    table: int
    target: int
    source: str
    destination: str
    mark: tuple[int, int] | None
    iif: str
    oif: str
    tos: int
    protocol: int
    sport: tuple[int, int] | None
    dport: tuple[int, int] | None
    suppress: int
    inverted: bool
    strange: tuple[str, ...]


class Survey(NamedTuple):
    """One namespace. `rp_filter` is by ifindex, the stricter of the interface's and that of all.

    `forwards` names the families (4, 6) in which packets that come in by an interface are forwarded, by ifindex;
    `localnet` are the interfaces by which 127.0.0.0/8 may come in and leave.
    `policies` are the routing rules by family (4, 6), in order.
    """

    ports: tuple[Port, ...]
    addresses: tuple[link.Address, ...]
    routes: tuple[Entry, ...]
    rp_filter: Mapping[int, int]
    forwards: Mapping[int, frozenset[int]]
    bridge_calls: frozenset[int]
    policies: Mapping[int, tuple[Policy, ...]]
    localnet: frozenset[int] = frozenset()


def survey(netns: int) -> Survey:
    """Read a namespace.

    Raises:
        KernelError: the kernel refused; NetnsGone: there is no such namespace.
    """
    with Rtnl(netns) as sock:
        ports = tuple(_port(answer) for answer in sock.ask(
            Message(rtnl.GETLINK, rtnl.DUMP, _IFINFO.pack(0, 0, 0, 0, 0), "list the links")))
        addresses = tuple(link.addresses(sock))
        routes = tuple(routing_table(sock))
        conf = {family: _netconf(sock, family) for family in (socket.AF_INET, socket.AF_INET6)}
        policies = {version: tuple(policy(answer) for answer in sock.ask(Message(
            _GETRULE, rtnl.DUMP, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "list the routing rules")))
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))}
    four = conf[socket.AF_INET]
    strictest = four.get(_ALL, {}).get(_NETCONF_RP_FILTER, 0)
    rp_filter = {index: max(strictest, values.get(_NETCONF_RP_FILTER, 0)) for index, values in four.items()
                 if index > 0}
    six = conf[socket.AF_INET6].get(_ALL, {}).get(_NETCONF_FORWARDING, 0)  # the interfaces' own say what is a router
    forwards = {at: frozenset(family for family, yes in (
        (4, four.get(at, {}).get(_NETCONF_FORWARDING, 0)), (6, six or port.forced)) if yes)
        for port in ports if (at := port.link.ifindex)}
    bridges = any(port.link.kind == "bridge" for port in ports)
    everywhere = _setting(netns, "ipv4/conf/all/route_localnet")
    localnet = frozenset(port.link.ifindex for port in ports if port.localnet or everywhere)
    return Survey(ports, addresses, routes, rp_filter, forwards, _bridge_calls(netns) if bridges else frozenset(),
                  policies, localnet)


def names_of(netns: int, others: Mapping[str, int]) -> dict[int, str]:
    """Return the numbers by which a namespace knows others (RTM_GETNSID); those that it does not know are left out."""
    found: dict[int, str] = {}
    with Rtnl(netns) as sock:
        for name, fd in others.items():
            try:
                answers = sock.ask(Message(_GETNSID, 0, b"\0\0\0\0" + rtnl.attribute(3, fd), f"number {name}"))
            except KernelError:
                continue
            for answer in answers:
                number = struct.unpack("=i", attributes(answer, 4).get(1, b"\xff\xff\xff\xff"))[0]
                if number >= 0:
                    found[number] = name
    return found


def listeners(netns: int) -> frozenset[tuple[str, int]]:
    """Return (protocol, port) of the sockets of a namespace that take what comes from anybody."""
    found: set[tuple[str, int]] = set()
    with inside(netns):
        for protocol, file in (("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")):
            try:
                with open(f"/proc/thread-self/net/{file}", encoding="ascii") as lines:
                    found |= set(_sockets(protocol, lines))
            except OSError:
                continue
        with contextlib.suppress(OSError), open(f"{_SCTP}/eps", encoding="ascii") as lines:
            found |= {("sctp", int(words[5])) for line in lines if (words := line.split())[3:4] == [_SCTP_LISTENING]}
    return frozenset(found)


def lacks(netns: int) -> frozenset[str]:
    """Return the transport protocols that the kernel cannot hand to anybody in this namespace: SCTP may be absent."""
    with inside(netns):
        return frozenset() if os.path.isdir(_SCTP) else frozenset({"sctp"})


def recent(netns: int) -> frozenset[tuple[str, str]]:
    """Return the entries of the `recent` match's lists, (list, address): where sessions with affinity go."""
    found: set[tuple[str, str]] = set()
    with inside(netns):
        folder = "/proc/thread-self/net/xt_recent"
        try:
            names = os.listdir(folder)
        except OSError:  # the match is not in use
            return frozenset()
        for name in names:
            with contextlib.suppress(OSError), open(f"{folder}/{name}", encoding="ascii") as lines:
                found |= {(name, line.split()[0].removeprefix("src=")) for line in lines if line.startswith("src=")}
    return frozenset(found)


def _sockets(protocol: str, lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        words = line.split()
        if len(words) > 3 and words[0][:-1].isdigit() and words[2].endswith(":0000") and (
                protocol == "udp" or words[3] == _LISTEN):
            yield protocol, int(words[1].rpartition(":")[2], 16)


def _port(answer: bytes) -> Port:
    parts = attributes(answer, _IFINFO.size)
    slave = attributes(attributes(parts.get(_LINKINFO, b"")).get(_SLAVE_DATA, b""))
    number = struct.unpack("=i", parts[_LINK_NETNSID])[0] if _LINK_NETNSID in parts else -1
    spec = attributes(parts.get(_AF_SPEC, b""))

    def has(family: int, kind: int, at: int) -> bool:
        return any(attributes(spec.get(family, b"")).get(kind, b"")[4 * at:4 * at + 4])

    return Port(link.parse_link(answer), bool(slave.get(_PORT_HAIRPIN, b"\0")[0]), number,
                has(socket.AF_INET6, _INET6_CONF, _FORCE_FORWARDING), has(socket.AF_INET, _INET_CONF, _ROUTE_LOCALNET))


def policy(answer: bytes) -> Policy:
    """Return one routing rule of a dump (<linux/fib_rules.h>)."""
    family, to_bits, from_bits, tos, table, _, _, action, flags = _RTMSG.unpack_from(answer)
    parts = attributes(answer, _RTMSG.size)

    def number(kind: int, otherwise: int = 0) -> int:
        return int.from_bytes(parts[kind], sys.byteorder) if kind in parts else otherwise

    def network(kind: int, bits: int) -> str:
        return f"{socket.inet_ntop(family, parts[kind])}/{bits}" if kind in parts else ""

    def span(kind: int) -> tuple[int, int] | None:
        return struct.unpack("=HH", parts[kind]) if kind in parts else None

    def name(kind: int) -> str:
        return parts.get(kind, b"").rstrip(b"\0").decode(errors="replace")

    mark = (number(_RULE_MARK), number(_RULE_MASK, 0xFFFFFFFF)) if number(_RULE_MARK) or number(_RULE_MASK) else None
    limit = number(_RULE_SUPPRESS, 0xFFFFFFFF)
    strange = [word for kind, word in _RULE_STRANGE.items() if kind in parts and any(parts[kind]) and not (
        kind == _RULE_SUPPRESS_GROUP and number(kind) == 0xFFFFFFFF)]
    return Policy(number(_RULE_PRIORITY), _ACTIONS.get(action, str(action)), number(_RULE_TABLE, table),
                  number(_RULE_GOTO), network(2, from_bits), network(1, to_bits), mark, name(_RULE_IIF),
                  name(_RULE_OIF),
                  number(_RULE_DSCP) << 2 if _RULE_DSCP in parts else tos, number(_RULE_PROTOCOL), span(_RULE_SPORT),
                  span(_RULE_DPORT), -1 if limit == 0xFFFFFFFF else limit, bool(flags & _INVERTED), tuple(strange))


def _netconf(sock: Rtnl, family: int) -> dict[int, dict[int, int]]:
    found: dict[int, dict[int, int]] = {}
    for answer in sock.ask(Message(_GETNETCONF, rtnl.DUMP, struct.pack("=Bxxx", family), "read the network settings")):
        values = {kind: struct.unpack("=i", raw)[0] for kind, raw in attributes(answer, 4).items() if len(raw) == 4}
        found[values.get(_NETCONF_IFINDEX, 0)] = values
    return found


def _bridge_calls(netns: int) -> frozenset[int]:
    return frozenset(number for number, name in ((4, "iptables"), (6, "ip6tables"))
                     if _setting(netns, f"bridge/bridge-nf-call-{name}"))


def _setting(netns: int, name: str) -> bool:
    """Tell whether a setting under net/ is 1 there; one that there is not is none."""
    with inside(netns), contextlib.suppress(OSError), open(f"/proc/sys/net/{name}", encoding="ascii") as file:
        return file.read().strip() == "1"
    return False


def nft_tables(netns: int) -> list[tuple[int, str]]:
    """Return the nf_tables tables of a namespace as (family, name); iptables-nft's own are among them."""
    with inside(netns):
        sock = nfnetlink.open_socket()
    found: list[tuple[int, str]] = []
    with sock:
        sock.setblocking(True)
        sock.send(nfnetlink.request(nfnetlink.SUBSYS_NFTABLES, _NFT_GETTABLE, flags=nfnetlink.NLM_F_DUMP))
        while True:
            for kind, _, _, payload in nfnetlink.messages(sock.recv(1 << 20)):
                if kind in (nfnetlink.NLMSG_DONE, nfnetlink.NLMSG_ERROR):
                    return found
                name = dict(nfnetlink.attributes(payload[4:])).get(1, b"").rstrip(b"\0").decode(errors="replace")
                found.append((payload[0], name))
