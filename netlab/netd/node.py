"""Make this node's network as planned: settings, routes, overlay, rules. Every step looks first and repairs."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Sequence
from typing import Final, Literal

from netlab.errors import KernelError, NotFound
from netlab.kernel import iptables, link, process, route, sysctl
from netlab.kernel.rtnl import Rtnl
from netlab.netd import plan
from netlab.netd.plan import NodeView, Tunnel, Way
from netlab.netfilter import normalise, parse

log = logging.getLogger(__name__)

PROTOCOL: Final = 110  # the number of our routes; `ip route` shows `proto 110`
VXLAN: Final = "netlab.1"
_VNI, _PORT = 1, 8472


class Node:
    """One node's network. `cluster_cidrs` are the Pod ranges of the whole cluster, one or one of each family."""

    def __init__(self, cluster_cidrs: Sequence[str], backend: plan.Backend) -> None:
        self._cidrs, self._backend = tuple(cluster_cidrs), backend
        self._complaints: dict[str, str] = {}

    def apply_settings(self) -> None:
        """Set what makes the node forward; settings that this namespace lacks are named once."""
        for name, before in sysctl.repair(plan.settings(self._cidrs)).items():
            log.info("set %s to 1 (it was %s)", name, before)
        for name, value in plan.bridge_settings(self._cidrs).items():
            if not sysctl.set_if_possible(name, value):
                self._complain(name, f"cannot set {name}: Pods may not reach Services whose Pods share their bridge")

    def mtu(self, me: NodeView) -> int:
        """Return the MTU for Pods: 0 for the kernel's own, less what the overlay needs with vxlan."""
        if self._backend != "vxlan" or not me.ips:
            return 0
        with Rtnl() as sock:
            below = link.get(sock, _interface_of(sock, me.ips[0])).mtu
        return below - plan.VXLAN_OVERHEAD[6 if ":" in me.ips[0] else 4]

    def apply_routes(self, me: NodeView, others: Sequence[NodeView]) -> None:
        """Make the routes to the other nodes' Pods, and the overlay, as they are to be; remove our old ones.

        Raises:
            KernelError: a route was refused, e.g. because another node is not on our link.
        """
        ways = plan.ways(me, others, self._backend)
        with Rtnl() as sock:
            if self._backend == "vxlan":
                index = self._overlay(sock, me, plan.tunnels(me, others))
                wanted = [_route(way, index) for way in ways]
            else:
                link.remove(sock, VXLAN)
                wanted = [_route(way, _interface_of(sock, _like(me, way.gateway))) for way in ways
                          if _like(me, way.gateway)]
            added, removed = route.replace_all(sock, wanted, protocol=PROTOCOL)
        if added or removed:
            log.info("routes to other nodes' Pods: %d added, %d removed, %d in all", added, removed, len(wanted))

    def apply_rules(self) -> None:
        """Make the masquerade rules, and where FORWARD drops by policy the accepting ones, as they are to be.

        Raises:
            NetlabError: iptables is missing or refused.
        """
        for family, number in (("IPv4", 4), ("IPv6", 6)):
            if any((":" in cidr) == (number == 6) for cidr in self._cidrs):
                self._apply_rules(family, number)  # type: ignore[arg-type]

    def _apply_rules(self, family: Literal["IPv4", "IPv6"], number: Literal[4, 6]) -> None:
        tool = iptables.find(family)
        lines = plan.masquerade(self._cidrs, number, random_fully=tool.random_fully)
        _keep_chain(tool, "nat", plan.MASQ_CHAIN, lines, plan.masquerade_jump())
        listed = _list(tool, "filter", "FORWARD")
        if re.search(r"^-P FORWARD DROP", listed, re.MULTILINE):
            _keep_chain(tool, "filter", plan.FORWARD_CHAIN, plan.forward(self._cidrs, number), plan.forward_jump())

    def _overlay(self, sock: Rtnl, me: NodeView, tunnels: Sequence[Tunnel]) -> int:
        """Make the vxlan device, its address, and its permanent neighbour and forwarding entries."""
        index = self._device(sock, me)
        for cidr in me.pod_cidrs:
            own = f"{plan.vtep(cidr)}/{128 if ':' in cidr else 32}"
            sock.send(link.new_address(index, own), ignore=(errno.EEXIST,))
        arp = {route.Neighbor(tunnel.vtep, tunnel.mac, index, PROTOCOL) for tunnel in tunnels}
        fdb = {route.Forward(tunnel.mac, tunnel.underlay, index) for tunnel in tunnels}
        old_arp, old_fdb = set(route.neighbors(sock, index)), set(route.forwards(sock, index))
        sock.send(*(route.delete_neighbor(entry) for entry in old_arp if entry.ip not in {one.ip for one in arp}),
                  *(route.delete_forward(entry) for entry in old_fdb - fdb),
                  *(route.new_neighbor(entry) for entry in arp - old_arp),
                  *(route.new_forward(entry) for entry in fdb - old_fdb), ignore=(errno.ENOENT,))
        return index

    def _device(self, sock: Rtnl, me: NodeView) -> int:
        mac = plan.vtep_mac(me.pod_cidrs)
        local = me.ips[0]
        found = link.find(sock, VXLAN)
        if found is not None and (found.kind != "vxlan" or found.mac != mac):
            link.remove(sock, VXLAN)
            found = None
        if found is None:
            below = link.get(sock, _interface_of(sock, local))
            six = ":" in local
            options = {"IFLA_VXLAN_ID": _VNI, "IFLA_VXLAN_PORT": _PORT, "IFLA_VXLAN_LEARNING": 0,
                       "IFLA_VXLAN_LINK": below.ifindex, "IFLA_VXLAN_LOCAL6" if six else "IFLA_VXLAN_LOCAL": local}
            found = link.add(sock, VXLAN, "vxlan", options, mark="netlab-netd", mac=mac)
            sock.send(link.change(found.ifindex, up=True, mtu=below.mtu - plan.VXLAN_OVERHEAD[6 if six else 4],
                                  address_generation=False))
        elif not found.up:
            sock.send(link.change(found.ifindex, up=True))
        return found.ifindex

    def _complain(self, about: str, words: str) -> None:
        if self._complaints.get(about) != words:
            log.warning("%s", words)
        self._complaints[about] = words


def _route(way: Way, ifindex: int) -> route.Route:
    return route.Route(dst=way.dst, gateway=way.gateway, ifindex=ifindex, protocol=PROTOCOL, onlink=way.onlink)


def _like(me: NodeView, gateway: str) -> str:
    """Return our own address of the gateway's family."""
    return next((ip for ip in me.ips if (":" in ip) == (":" in gateway)), "")


def _interface_of(sock: Rtnl, ip: str) -> int:
    found = next((address.ifindex for address in link.addresses(sock) if address.ip == ip), 0)
    if not found:
        raise NotFound(f"no interface of this node has its address {ip}")
    return found


def _keep_chain(tool: iptables.Iptables, table: str, chain: str, lines: Sequence[str], jump: str) -> None:
    """Make a chain hold exactly these rules, and one jump to it exist."""
    base = jump.split()[1]
    try:
        held = parse.rules(_list(tool, table, chain).splitlines())
    except KernelError:  # there is no such chain yet
        held = ()
    same = [normalise.canonical(rule) for rule in held] == [normalise.canonical(rule) for rule in parse.rules(lines)]
    wanted_jump = normalise.canonical(parse.rules([jump])[0])
    jumps = any(normalise.canonical(rule) == wanted_jump for rule in parse.rules(_list(tool, table, base).splitlines()))
    if same and held and jumps:
        return
    text = [f"*{table}", f":{chain} - [0:0]", *lines, *([] if jumps else [jump]), "COMMIT", ""]
    iptables.restore(tool, "\n".join(text), where="netd")
    log.info("wrote the chain %s of table %s (%s)", chain, table, tool.family)


def _list(tool: iptables.Iptables, table: str, chain: str) -> str:
    """Return `iptables -S CHAIN`: one chain, where the whole table may hold a hundred thousand rules."""
    program = tool.save.removesuffix("-save")
    done = process.run_sync([program, "-w", "5", "-t", table, "-S", chain], timeout=60)
    return done.checked(f"{program} -t {table} -S {chain}").decode(errors="replace")
