"""What is wrong with a node's rules: drift from what kube-proxy would write, and what keeps packets from its rules.

Every finding names its place, says in words what is wrong, and what would mend it. Pure: rules and objects in, findings
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from netlab.inspect import older, shadow, shares, words
from netlab.inspect.service import service_of
from netlab.inspect.world import Meaning, World, meaning
from netlab.netfilter.model import Chain, Rule, Ruleset, Table
from netlab.netfilter.terms import comment
from netlab.proxy import layout, names

_FREE = frozenset({names.SERVICES, names.NODE_PORTS, names.EXTERNAL_SERVICES, names.PROXY_FIREWALL})
"""Chains in which the order of rules says nothing, but for the last rule of nat's KUBE-SERVICES."""

_NOT_THE_PROXYS = frozenset({"KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT", names.MARK_DROP, names.KUBELET_FIREWALL})
"""Chains that the kubelet makes, or made in older versions."""

_HOOKS = (("raw", "PREROUTING"), ("mangle", "PREROUTING"), ("nat", "PREROUTING"), ("filter", "INPUT"),
          ("filter", "FORWARD"), ("filter", "OUTPUT"))
_LASTING = ("KUBE-SVC-", "KUBE-SEP-")
_LEFT_OUT = "a traffic policy or topology hints leave it out"
_REFUSING = frozenset({"DROP", "REJECT"})
_REWRITES = ("kube-proxy writes it again at its next full sync, at once when it starts anew: "
             "kubectl -n kube-system delete pod -l k8s-app=kube-proxy")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    `kind` is one of: no-rules, missing-chain, missing-rule, extra-chain, extra-rule, changed-rule, order,
    other-version, stale-endpoint, unreached-chain, unreachable-rule, repeated-rule, foreign-drop, policy-drop,
    mixed-backends; in
    nftables mode also changed-hook, missing-set, missing-element, changed-element, extra-element; of the node
    mixed-modes, ip-forward-off, bridge-nf-off, no-masquerade; of users' files refused-rule.
    `service` is namespace/name, "" for what belongs to none. `number` counts from 1 in the chain; 0 for a whole chain
    or table, and for what is missing.
    """

    kind: str
    table: str
    chain: str
    number: int
    service: str
    words: str
    text: str = ""
    hint: str = ""


def check(kernel: Ruleset, world: World, *, other: Ruleset | None = None) -> tuple[Finding, ...]:
    """Return what is wrong on a node, what is of Services first.

    Args:
        kernel: what the node holds, by the backend that kube-proxy's rules are in.
        world: what its kube-proxy would write.
        other: what it holds by the other backend.
    """
    if not any(chain.startswith("KUBE-") for table in kernel.tables.values() for chain in table.chains):
        return (Finding("no-rules", "nat", names.SERVICES, 0, "",
                        "there is no rule of kube-proxy in iptables' tables",
                        hint="does kube-proxy run here, in iptables mode? kubectl -n kube-system get pods -o wide"),)
    signs = older.signs(kernel)
    stale = tuple(_stale_endpoints(kernel, world, policies=not signs))
    drift = tuple(_drift(kernel, world, {each.chain for each in stale}))
    found = [*(_of_any_version(drift, world, signs) if signs else drift), *stale]
    extra = {(each.table, each.chain) for each in found if each.kind in ("extra-chain", "stale-endpoint")}
    found += [each for each in _unreached(kernel, world) if (each.table, each.chain) not in extra]
    for table in kernel.tables.values():
        for chain in table.chains.values():
            if not (signs and chain.name == names.FORWARD):  # it said the same of Pods as source and as destination
                found += [_unreachable(table, each, world) for each in shadow.hidden(table, chain)]
    found += [*foreign_drops(kernel), *policies(kernel), *_mixed(kernel, other)]
    return tuple(sorted(found, key=lambda each: (not each.service, each.service)))


def _of_any_version(drift: Sequence[Finding], world: World, signs: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong whichever kube-proxy wrote the rules, and one finding for what differs otherwise.

    Chains of endpoints and those that spread over all of them have had their names and their sense since v1.1.
    """
    kept = [each for each in drift if each.chain.startswith(_LASTING)
            and (each.kind == "missing-chain" or (each.kind == "extra-chain" and each.chain not in world.owners))]
    yield from kept
    yield Finding("other-version", "nat", names.SERVICES, 0, "",
                  f"an older kube-proxy wrote these rules, before v1.24: {'; '.join(signs)}. In "
                  f"{len(drift) - len(kept)} places they are not what v1.36 would write, which is no fault",
                  hint="what such a kube-proxy does not know has no rules: internalTrafficPolicy, Pods that terminate")


def _drift(kernel: Ruleset, world: World, stale: set[str]) -> Iterator[Finding]:
    for name, table in world.rules.tables.items():
        there = kernel.table(name)
        for chain in table.chains.values():
            if chain.name in there.chains:
                yield from _chain_drift(name, chain, there.chains[chain.name], world)
            elif chain.policy == "" and (chain.rules or chain.name == names.CANARY):
                owner = world.owners.get(chain.name)
                service = owner.port.service if owner else ""
                yield Finding("missing-chain", name, chain.name, 0, service,
                              f"{_about(service)}chain {chain.name} is missing, with {_rules(len(chain.rules))}",
                              hint=_REWRITES)
            else:
                yield from _chain_drift(name, chain, Chain(chain.name), world)
        for found in there.chains.values():
            if (found.name.startswith("KUBE-") and found.name not in table.chains
                    and found.name not in _NOT_THE_PROXYS and found.name not in stale):
                yield _extra_chain(name, found, world)


def _extra_chain(table: str, chain: Chain, world: World) -> Finding:
    owner = world.owners.get(chain.name)
    service = owner.port.service if owner else next(
        (found.partition(":")[0] for rule in chain.rules if (found := service_of(comment(rule.match)))), "")
    why = "its Service exists, but this node needs no such chain" if owner else (
        "there is no such Service or port" if service and service not in world.services else "no object asks for it")
    return Finding("extra-chain", table, chain.name, 0, service,
                   f"{_about(service)}chain {chain.name} is one too many: {why}",
                   hint="kube-proxy removes it at its next full sync" if chain.name.startswith(names.SERVICE_PREFIXES)
                   else "")


def _chain_drift(table: str, wanted: Chain, found: Chain, world: World) -> Iterator[Finding]:
    ours = [meaning(rule) for rule in wanted.rules]
    theirs = [meaning(rule) for rule in found.rules]
    hook = bool(wanted.policy)
    missing = _beyond(wanted.rules, ours, theirs)
    extra = [] if hook or wanted.name in _NOT_THE_PROXYS else _beyond(found.rules, theirs, ours)
    for number, rule in extra:
        pair = next((each for each in missing if each[1].jump == rule.jump and _near(each[1], rule)), None)
        service = world.service_of(table, rule) or service_of(comment(rule.match)).partition(":")[0]
        if pair:
            missing.remove(pair)
            yield Finding("changed-rule", table, found.name, number, service,
                          f"{_about(service)}rule {number} of {found.name} says “{words.explain(rule)}”, where "
                          f"kube-proxy would say “{words.explain(pair[1])}”", rule.text,
                          f"it would be: {pair[1].text}")
        else:
            yield Finding("extra-rule", table, found.name, number, service,
                          f"{_about(service)}rule {number} of {found.name} is not kube-proxy's: {words.explain(rule)}",
                          rule.text, "no object asks for it")
    for _, rule in missing:
        service = world.service_of(table, rule)
        yield Finding("missing-rule", table, found.name, 0, service,
                      f"{_about(service)}{found.name} lacks a rule: {words.explain(rule)}", rule.text, _REWRITES)
    if not hook and not missing and not extra and ours != theirs and wanted.name not in _NOT_THE_PROXYS and (
            wanted.name not in _FREE or (world.maker(table, wanted.rules[-1]) is None and theirs[-1] != ours[-1])):
        owner = world.owners.get(wanted.name)
        service = owner.port.service if owner else ""
        yield Finding("order", table, found.name, 0, service,
                      f"{_about(service)}the rules of {found.name} are all there, but in another order", hint=_REWRITES)


def _beyond(rules: Sequence[Rule], meanings: Sequence[Meaning], others: Sequence[Meaning]) -> list[tuple[int, Rule]]:
    """Return the rules, with their numbers, that the other side has not or not as often."""
    left = Counter(others)
    result = []
    for number, (rule, said) in enumerate(zip(rules, meanings, strict=True), 1):
        if left[said]:
            left[said] -= 1
        else:
            result.append((number, rule))
    return result


def _near(one: Rule, other: Rule) -> bool:
    """Tell whether two rules of a chain with the same jump are about the same: one may be the other, edited."""
    return one.chain not in _FREE or service_of(comment(one.match)) == service_of(comment(other.match))


def _stale_endpoints(kernel: Ruleset, world: World, *, policies: bool) -> Iterator[Finding]:
    """Yield chains of endpoints that are of no use here; with `policies`, also of those that a policy leaves out."""
    ready = {world.owners[chain].address for chain in world.used}
    for chain in kernel.table("nat").chains.values():
        address = shares.destination(chain.rules)
        if not chain.name.startswith(shares.ENDPOINT_PREFIX) or (chain.name in world.used and address in ready):
            continue
        owner = world.owners.get(chain.name)
        port = owner.port.name if owner else next((service_of(comment(rule.match)) for rule in chain.rules), "")
        places = world.places.get(chain.name, ()) if owner and owner.address == address else ()
        if not address or (not policies and any(_condition(place.entry) == _LEFT_OUT for place in places)):
            continue
        why = "no EndpointSlice has it" if not places else ", ".join(dict.fromkeys(
            _condition(place.entry) for place in places))
        yield Finding("stale-endpoint", "nat", chain.name, 0, port.partition(":")[0],
                      f"{_about(port)}{chain.name} sends to {address}, which is no "
                      f"{'endpoint for this node' if why == _LEFT_OUT else 'ready endpoint'}: {why}",
                      hint="kube-proxy should have removed it" if why == _LEFT_OUT else
                      "connections that go there fail or meet a stranger; kube-proxy should have removed it")


def _condition(entry: dict[str, object]) -> str:
    conditions = entry.get("conditions") or {}
    assert isinstance(conditions, dict)
    if conditions.get("terminating"):
        return "it is terminating"
    return "it is not ready" if conditions.get("ready") is False else _LEFT_OUT


def _unreached(kernel: Ruleset, world: World) -> Iterator[Finding]:
    for name, table in kernel.tables.items():
        callers = table.callers()
        expected = world.rules.table(name)
        expected_callers = expected.callers()
        for chain in table.chains.values():
            wanted_so = chain.name in expected.chains and chain.name not in expected_callers
            if chain.policy or not chain.rules or chain.name in callers or wanted_so:
                continue
            owner = world.owners.get(chain.name)
            service = owner.port.service if owner else ""
            yield Finding("unreached-chain", name, chain.name, 0, service,
                          f"{_about(service)}no rule jumps to {chain.name}: what is in it never applies")


def _unreachable(table: Table, found: shadow.Hidden, world: World) -> Finding:
    service = world.service_of(table.name, found.rule)
    kind = "repeated-rule" if found.repeated else "unreachable-rule"
    if found.repeated:
        said = f"rule {found.number} of {found.rule.chain} says again what rule {found.by} says"
    else:
        first = table.chains[found.rule.chain].rules[found.by - 1]
        said = (f"rule {found.number} of {found.rule.chain} never applies ({words.explain(found.rule)}): rule "
                f"{found.by} takes all of it before ({words.explain(first)})")
    return Finding(kind, table.name, found.rule.chain, found.number, service, f"{_about(service)}{said}",
                   found.rule.text)


def foreign_drops(kernel: Ruleset, *, everywhere: str = "", tool: str = "iptables") -> Iterator[Finding]:
    """Yield foreign rules that refuse packets before those of kube-proxy.

    Args:
        kernel: the rules.
        everywhere: kube-proxy's are not among these rules; in words where these are.
        tool: the program that removes a rule.
    """
    for name, hook in _HOOKS:
        table = kernel.table(name)
        chain = kernel.chain(name, hook)
        if everywhere:
            last, before = len(chain.rules), everywhere
        elif (name, hook) in layout.JUMPS:
            last = max((at for at, rule in enumerate(chain.rules) if rule.jump.startswith("KUBE-")), default=-1)
            before = "before the rules of kube-proxy below it"
        else:
            last, before = len(chain.rules), "before any rule of kube-proxy"
        for number, rule in enumerate(chain.rules[:max(last, 0)], 1):
            for place, at, refusing in _refusals(table, rule, number, frozenset()):
                through = "" if place == hook else f", called by {hook} rule {number}"
                yield Finding("foreign-drop", name, place, at, "",
                              f"a foreign rule refuses packets {before}: {name} {place} rule {at}{through}: "
                              f"{words.explain(refusing)}", refusing.text,
                              f"{tool} -t {name} -D {refusing.text.removeprefix('-A ')}")


def _refusals(table: Table, rule: Rule, number: int, seen: frozenset[str]) -> Iterator[tuple[str, int, Rule]]:
    """Yield the rules that drop or reject, of a foreign rule and the foreign chains that it leads to."""
    if rule.jump in _REFUSING:
        yield rule.chain, number, rule
    elif rule.jump in table.chains and not rule.jump.startswith("KUBE-") and rule.jump not in seen:
        for at, inner in enumerate(table.chains[rule.jump].rules, 1):
            yield from _refusals(table, inner, at, seen | {rule.jump})


def policies(kernel: Ruleset, *, tool: str = "iptables") -> Iterator[Finding]:
    """Yield the built-in chains that drop by their policy. `tool` is the program that shows them."""
    of = "" if tool == "iptables" else f"{tool} has more rules, and their "
    for name, table in kernel.tables.items():
        for chain in table.chains.values():
            if chain.policy == "DROP":
                what = "what is forwarded to and from Pods" if chain.name == "FORWARD" else "packets"
                yield Finding("policy-drop", name, chain.name, 0, "",
                              f"{of}{name} {chain.name} has policy DROP: {what} passes only where a rule accepts it",
                              hint=f"{tool} -t {name} -P {chain.name} ACCEPT, or rules that accept the Pods' traffic")


def _mixed(kernel: Ruleset, other: Ruleset | None) -> Iterator[Finding]:
    if other is None or names.SERVICES not in other.table("nat").chains:
        return
    here, there = backends(kernel, other)
    if names.SERVICES in kernel.table("nat").chains:
        yield Finding("mixed-backends", "nat", names.SERVICES, 0, "",
                      f"both backends hold chains of kube-proxy's, {here} and {there}: packets go through both, and "
                      "nobody looks after the older ones",
                      hint="kube-proxy keeps one backend; remove the other's chains, or restart the node")


def backends(kernel: Ruleset, other: Ruleset) -> tuple[str, str]:
    """Return the names of two sets' backends, nf_tables and legacy."""
    here = kernel.backend or "nf_tables"
    return here, other.backend or ("legacy" if here == "nf_tables" else "nf_tables")


def _about(service: str) -> str:
    return f"{service}: " if service else ""


def _rules(count: int) -> str:
    return f"{count} rule{'s' if count != 1 else ''}"
