"""Userspace mode: what its rules should be, and where they come from. Pure.

The kernel knows no endpoint there: rules turn packets aside to a port of kube-proxy's own, which it chooses by itself
and which is read off the rules. So what is compared are the Service ports that are turned aside, not whereto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from netlab.api import meta
from netlab.api.meta import Object
from netlab.inspect import sources, words
from netlab.inspect.check import Finding
from netlab.inspect.provenance import Origin
from netlab.inspect.service import service_of
from netlab.inspect.world import World, meaning
from netlab.netfilter.model import Rule, Ruleset
from netlab.netfilter.terms import comment, target
from netlab.proxy import user_rules
from netlab.proxy.addresses import Family
from netlab.proxy.services import ServicePort, ignored, service_ports
from netlab.proxy.user_rules import CHAINS, served

_HINT = "kube-proxy writes it again when it starts anew: kubectl -n kube-system delete pod -l k8s-app=kube-proxy"


def is_there(rules: Ruleset) -> bool:
    """Tell whether kube-proxy's rules are those of userspace mode."""
    return user_rules.PORTALS_CONTAINER in rules.table("nat").chains


def check(rules: Ruleset, objects: Iterable[Object], family: Family) -> Iterator[Finding]:
    """Yield Service ports that are not turned aside, and rules of what is no Service port."""
    wanted = _ports(objects, family)
    there = {_key(rule): rule for rule in rules.chain("nat", user_rules.PORTALS_CONTAINER).rules}
    for key, port in wanted.items():
        if key not in there:
            yield Finding("missing-rule", "nat", user_rules.PORTALS_CONTAINER, 0, port.service,
                          f"{port.service}: nothing turns {port.name} {port.protocol} aside to kube-proxy", hint=_HINT)
    for table, chain in CHAINS:
        for number, rule in enumerate(rules.chain(table, chain).rules, 1):
            name, protocol = _key(rule)
            if (name, protocol) not in wanted:
                yield Finding("extra-rule", table, chain, number, name.partition(":")[0],
                              f"rule {number} of {chain} is of {name or 'nothing'} {protocol}, which no Service has: "
                              f"{words.explain(rule)}", rule.text, "kube-proxy removes it when it starts anew")


def explained(origin: Origin, rules: Ruleset, world: World) -> Origin:
    """Return where a chain or rule of this mode comes from; others unchanged."""
    places = {(table, chain) for table, chain in CHAINS}
    if (origin.table, origin.chain) in places and not origin.number:
        return replace(origin, maker="kube-proxy",
                       said="kube-proxy keeps it in userspace mode: it turns what goes to Services aside to itself")
    if origin.number and (origin.table, origin.chain) not in places:
        rule = rules.chain(origin.table, origin.chain).rules[origin.number - 1]
        jumps = {meaning(each) for each in (*user_rules.FIRST_JUMPS.values(), *user_rules.LAST_JUMPS.values())}
        return replace(origin, maker="kube-proxy", said=f"the way from {rule.chain} into {rule.jump}, in userspace mode"
                       ) if meaning(rule) in jumps else origin
    if not origin.number:
        return origin
    rule = rules.chain(origin.table, origin.chain).rules[origin.number - 1]
    port = _ports(world.services.values(), world.settings.family).get(_key(rule))
    if port is None:
        return origin
    aside = target(rule.target).option("--to-ports") or target(rule.target).option("--to-destination") or "itself"
    index = sources.port_field(world, port)
    fields = [f"{index}.nodePort"] if "NODEPORT" in rule.chain else ["spec.clusterIP", f"{index}.port"]
    made = sources.of_service(world, port, [*fields, f"{index}.protocol"])
    return replace(origin, maker="kube-proxy", sources=(made,),
                   said=f"kube-proxy wrote it for {port.name} {port.protocol}: it listens on {aside}, and chooses an "
                        "endpoint by itself")


def _ports(objects: Iterable[Object], family: Family) -> Mapping[tuple[str, str], ServicePort]:
    return {(port.name, port.protocol): port for each in objects
            if each.get("kind") == "Service" and not ignored(each) and meta.name(each)
            for port in service_ports(each, family) if served(port)}


def _key(rule: Rule) -> tuple[str, str]:
    listed = rule.match.split()
    return service_of(comment(rule.match)), listed[listed.index("-p") + 1] if "-p" in listed else ""
