"""All that is wrong on one node, in whatever mode: its tables, what stands beside them, and the kernel's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from netlab.inspect import check, nft_check, user_mode
from netlab.inspect.check import Finding
from netlab.inspect.holding import IPTABLES, NFTABLES, USERSPACE, Holding
from netlab.inspect.nft_world import NftWorld
from netlab.inspect.world import World
from netlab.netfilter.model import Ruleset
from netlab.proxy import host, names
from netlab.proxy.addresses import family

IP_FORWARD: Final = {False: "net.ipv4.ip_forward", True: "net.ipv6.conf.all.forwarding"}
BRIDGE: Final = {False: "net.bridge.bridge-nf-call-iptables", True: "net.bridge.bridge-nf-call-ip6tables"}
_BESIDE: Final = "beside kube-proxy's table"
_TOOLS: Final = {"nf_tables": "iptables-nft", "legacy": "iptables-legacy"}
_CANARY: Final = "KUBE-KUBELET-CANARY"
_CANARY_TABLES: Final = ("mangle", "nat", "filter")
SYSCTLS: Final = (*IP_FORWARD.values(), *BRIDGE.values(), "net.netfilter.nf_conntrack_tcp_be_liberal")


def findings(held: Holding, world: World | None, nft_world: NftWorld | None, *, masquerade: bool = True,
             ) -> tuple[Finding, ...]:
    """Return what is wrong on a node, what is of Services first.

    Args:
        held: what the node holds.
        world: what its kube-proxy would write in iptables mode; None where the API could not be asked.
        nft_world: and in nftables mode.
        masquerade: whether somebody has to hide Pods behind the node's address (the lab's netd does).
    """
    found: list[Finding] = []
    if held.mode == NFTABLES and held.nft is not None:
        if nft_world is not None:
            found += nft_check.check(held.nft, nft_world)
        found += [*check.foreign_drops(held.rules, everywhere=_BESIDE), *check.policies(held.rules)]
        found += _leftovers(held)
    elif held.mode == USERSPACE and world is not None:
        found += user_mode.check(held.rules, world.services.values(), world.settings.family)
        found += [*check.foreign_drops(held.rules, everywhere=_BESIDE), *check.policies(held.rules)]
    elif world is not None:
        found += check.check(held.rules, world, other=held.other)
    elif held.mode == IPTABLES:
        found += [*check.foreign_drops(held.rules, everywhere=_BESIDE), *check.policies(held.rules)]
    found += [*nft_check.foreign_drops(held.native), *_canaries(held.rules), *_second_backend(held)]
    if held.other is not None and not held.in_iptables and held.mode == NFTABLES and (
            names.SERVICES in held.other.table("nat").chains):
        found.append(_both(check.backends(held.rules, held.other)[1]))
    found += _settings(held)
    if masquerade and held.mode and not held.ipv6 and not _ipv6_only(world):
        found += _masquerade(held)
    if held.ipv6:
        found = [replace(each, hint=f"ip6{each.hint.removeprefix('ip')}") if each.hint.startswith("iptables") else each
                 for each in found]
    unique = {(each.kind, each.table, each.chain, each.number, each.text, each.words): each for each in found}
    return tuple(sorted(unique.values(), key=lambda each: (not each.service, each.service)))


def _second_backend(held: Holding) -> Iterator[Finding]:
    """Yield what refuses packets among the rules of the other backend: the kernel asks both."""
    if held.other is not None:
        tool = _TOOLS[check.backends(held.rules, held.other)[1]]
        if held.ipv6:
            tool = tool.replace("iptables", "ip6tables")
        yield from check.foreign_drops(held.other, everywhere=f"among the rules of {tool}", tool=tool)
        yield from check.policies(held.other, tool=tool)


def _ipv6_only(world: World | None) -> bool:
    """Tell whether the node is known to have no IPv4 address, so that no Pod has one."""
    known = host.node_ips(world.node) if world is not None else ()
    return bool(known) and not any(family(each) == "IPv4" for each in known)


def _leftovers(held: Holding) -> Iterator[Finding]:
    if held.in_iptables:
        yield _both(held.rules.backend or "nf_tables")


def _both(backend: str) -> Finding:
    return Finding("mixed-modes", "nat", names.SERVICES, 0, "",
                   f"kube-proxy's table of nftables mode and chains of its iptables mode ({backend}) are both there: "
                   "packets go through both, and nobody looks after the older ones",
                   hint="remove iptables mode's rules: kube-proxy --cleanup, or restart the node")


def _canaries(rules: Ruleset) -> Iterator[Finding]:
    """Yield the tables in which the kubelet's canary is gone while others still have it: somebody flushed them."""
    there = [name for name in _CANARY_TABLES if _CANARY in rules.table(name).chains]
    for name in _CANARY_TABLES if there else ():
        if name not in there:
            yield Finding("missing-canary", name, _CANARY, 0, "",
                          f"{_CANARY} is gone from {name}, while {', '.join(there)} still "
                          f"{'have' if len(there) > 1 else 'has'} it: somebody flushed the table",
                          hint="the kubelet writes it again within a minute")


def _settings(held: Holding) -> Iterator[Finding]:
    forward, bridge = IP_FORWARD[held.ipv6], BRIDGE[held.ipv6]
    if held.sysctls.get(forward) == "0":
        yield Finding("ip-forward-off", "", "", 0, "",
                      f"{forward} is 0: the kernel forwards nothing, so nothing reaches a Pod or leaves one",
                      hint=f"sysctl -w {forward}=1")
    if held.sysctls.get(bridge) == "0" and held.bridge:
        yield Finding("bridge-nf-off", "", "", 0, "",
                      f"{bridge} is 0: what goes from Pod to Pod over the bridge meets no rule; a Service whose "
                      "endpoint is on the client's own node answers from the wrong address",
                      hint=f"sysctl -w {bridge}=1")


def _masquerade(held: Holding) -> Iterator[Finding]:
    """Yield that nobody masquerades what leaves the cluster; kube-proxy does so for what it marked only."""
    for rule in held.rules.table("nat").rules():
        if rule.jump in ("MASQUERADE", "SNAT") and rule.chain != names.POSTROUTING:
            return
    for table in held.native:
        if any("masquerade" in rule.text or "snat" in rule.text for rule in table.rules()):
            return
    yield Finding("no-masquerade", "nat", "POSTROUTING", 0, "",
                  "no rule masquerades what Pods send to the world outside: answers do not find the way back, unless "
                  "Pod addresses are routed there",
                  hint="netd (in a lab) or the CNI plugin's ipMasq writes it: kubectl -n kube-system get pods -o wide")
