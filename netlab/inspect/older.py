"""How to tell that an older kube-proxy wrote a node's rules. Pure.

Everything else here compares with what v1.36 writes; held against rules of other shapes, that would say much and find
nothing.
"""

from __future__ import annotations

from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.terms import comment
from netlab.proxy import names


def signs(kernel: Ruleset) -> tuple[str, ...]:
    """Return in words what kube-proxy has not written since v1.24 (kubernetes: pkg/proxy/iptables); () for nothing.

    A sign is what all rules of a kind share: one that somebody added by hand is none.
    """
    services = kernel.chain("nat", names.SERVICES).rules
    entries = [rule for rule in services if comment(rule.match).endswith(" cluster IP")]
    marks = sum(rule.jump == names.MARK_MASQ for rule in entries)
    ways = [rule for rule in kernel.chain("nat", names.NODE_PORTS).rules if rule.jump != names.MARK_MASQ]
    known = [rule for rule in kernel.chain("filter", names.FORWARD).rules if " conntrack pod " in comment(rule.match)]
    found = []
    if 0 < marks == len(entries) / 2:
        found.append(f"{names.SERVICES} itself marks what is to be masqueraded")
    if ways and all(_past_external(rule) for rule in ways):
        found.append("node ports lead past KUBE-EXT chains")
    if len(known) > 1:
        found.append(f"{names.FORWARD} has a rule for known connections each way")
    return tuple(found)


def _past_external(rule: Rule) -> bool:
    return rule.jump.startswith(("KUBE-SVC-", names.FORMER_EXTERNAL))
