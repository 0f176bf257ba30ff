"""A kube-proxy's settings, read off the rules that it wrote: so a foreign one can be checked without its flags.

Where many rules tell the same setting, most of them count, so that one rule changed by hand does not change the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from netlab.api.meta import Object, labels
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.normalise import network, xmark
from netlab.netfilter.terms import comment, target, terms
from netlab.proxy import host, names
from netlab.proxy.addresses import Family, of_family
from netlab.proxy.settings import LocalDetector, Settings
from netlab.proxy.topology import ZONE_LABEL

_DEFAULT_BIT = 14


def settings(kernel: Ruleset, family: Family, *, name: str, node: Object | None = None,
             liberal: bool = False) -> Settings:
    """Return the settings that these rules follow.

    Args:
        kernel: what the node holds.
        family: of which addresses.
        name: the node's.
        node: its Node object.
        liberal: whether its sysctl nf_conntrack_tcp_be_liberal is set.
    """
    ips = of_family(host.node_ips(node), family)
    heads = list(_masquerade_heads(kernel))
    detector = _detector(heads)
    everywhere, addresses = _node_ports(kernel)
    loopback = any(ip.startswith("127.") for ip in addresses)
    return Settings(
        family=family, node=name, node_ip=ips[0] if ips else "", zone=labels(node or {}).get(ZONE_LABEL, ""),
        detector=detector, masquerade_all=bool(heads) and not detector.match, masquerade_bit=_bit(kernel),
        random_fully=_random_fully(kernel), localhost_node_ports=family == "IPv4" and (
            loopback if addresses else everywhere),
        node_port_addresses=tuple(f"{ip}/{128 if ':' in ip else 32}" for ip in addresses), node_addresses=addresses,
        counters=frozenset(term.value for rule in _kube_rules(kernel) if "--nfacct-name" in rule.match
                           for term in terms(rule.match) if term.option == "--nfacct-name"),
        conntrack_liberal=liberal)


def _kube_rules(kernel: Ruleset) -> Iterator[Rule]:
    for table in ("filter", "nat"):
        for chain in (names.FORWARD, names.NODE_PORTS):
            yield from kernel.chain(table, chain).rules


def _masquerade_heads(kernel: Ruleset) -> Iterator[Rule]:
    """Yield the rules that mark what comes to a cluster address from elsewhere than from a Pod.

    An older kube-proxy has them in KUBE-SERVICES.
    """
    for rule in kernel.chain("nat", names.SERVICES).rules:
        if rule.jump == names.MARK_MASQ and comment(rule.match).endswith(" cluster IP"):
            yield rule
    for chain in kernel.table("nat").chains.values():
        if chain.name.startswith(("KUBE-SVC-", "KUBE-SVL-")) and chain.rules:
            rule = chain.rules[0]
            if rule.jump == names.MARK_MASQ:
                yield rule


def _detector(heads: list[Rule]) -> LocalDetector:
    seen = Counter(f"{term.option} {network(term.value) if term.option == '-s' else term.value}"
                   for rule in heads for term in terms(rule.match) if term.negated and term.option in ("-s", "-i"))
    return LocalDetector(seen.most_common(1)[0][0] if seen else "")


def _bit(kernel: Ruleset) -> int:
    for rule in kernel.chain("nat", names.MARK_MASQ).rules:
        value, _ = xmark(target(rule.target).options)
        if value:
            return value.bit_length() - 1
    return _DEFAULT_BIT


def _random_fully(kernel: Ruleset) -> bool:
    found = [rule.target for rule in kernel.chain("nat", names.POSTROUTING).rules if rule.jump == "MASQUERADE"]
    return not found or "--random-fully" in found[0]


def _node_ports(kernel: Ruleset) -> tuple[bool, tuple[str, ...]]:
    """Return whether node ports are served on 127.0.0.1 as well, and the addresses when only some serve them."""
    tail = [rule for rule in kernel.chain("nat", names.SERVICES).rules if rule.jump == names.NODE_PORTS]
    to = [term for rule in tail for term in terms(rule.match) if term.option == "-d"]
    return not any(term.negated for term in to), tuple(network(term.value) for term in to if not term.negated)
