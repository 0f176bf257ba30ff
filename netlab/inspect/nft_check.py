"""What is wrong with a node's table of nftables mode: drift, stale endpoints, chains nobody leads to, foreign drops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from netlab.inspect import nft_service, nft_words
from netlab.inspect.check import Finding
from netlab.inspect.nft_world import NftWorld
from netlab.netfilter import nft
from netlab.netfilter.nft import NftChain, NftRule, NftTable
from netlab.proxy import nft_names as names

_REWRITES = ("kube-proxy writes it again at its next full sync, at once when it starts anew: "
             "kubectl -n kube-system delete pod -l k8s-app=kube-proxy")
_ENDS = re.compile(r"\b(?:drop|accept|return|reject(?: with .*)?|(?:goto|masquerade|redirect|dnat|snat)\b.*)$")
_REFUSES = re.compile(r"\b(?:drop|reject(?: with .*)?)$")
_FICKLE = re.compile(r"\b(?:numgen|limit|quota|jhash|ct count|update @|add @|meta mark|mark)\b")


def check(table: NftTable, world: NftWorld) -> Iterator[Finding]:
    """Yield what is wrong with kube-proxy's table."""
    yield from _chains(table, world)
    yield from _elements(table, world)
    yield from _stale(table, world)
    yield from _unreached(table, world)
    for chain in table.chains.values():
        yield from _hidden(table, chain)


def _service(world: NftWorld, chain: str) -> str:
    owner = world.owners.get(chain)
    return owner.port.service if owner else nft_service.port_of(chain)[0].partition(":")[0]


def _about(service: str) -> str:
    return f"{service}: " if service else ""


def _chains(table: NftTable, world: NftWorld) -> Iterator[Finding]:
    for name, wanted in world.table.chains.items():
        service = _service(world, name)
        if name not in table.chains:
            yield Finding("missing-chain", table.name, name, 0, service,
                          f"{_about(service)}chain {name} is missing, with {len(wanted.rules)} rules", hint=_REWRITES)
            continue
        found = table.chains[name]
        if wanted.hook and (found.hook, found.policy) != (wanted.hook, wanted.policy):
            yield Finding("changed-hook", table.name, name, 0, "",
                          f"{name} hangs at {found.hook or 'no hook'} with policy {found.policy or '-'}, where "
                          f"kube-proxy would hang it at {wanted.hook}", hint=_REWRITES)
        yield from _rules(table, found, wanted, service)
    for name, found in table.chains.items():
        if name in world.table.chains or (not found.rules and nft_service.port_of(name)[0]):
            continue  # an empty chain waits for its deletion, a second or so
        service = _service(world, name)
        why = "its Service exists, but this node needs no such chain" if name in world.owners else (
            "there is no such Service or port" if service else "no object asks for it")
        yield Finding("extra-chain", table.name, name, 0, service,
                      f"{_about(service)}chain {name} is one too many: {why}",
                      hint="kube-proxy removes it at its next full sync")


def _rules(table: NftTable, found: NftChain, wanted: NftChain, service: str) -> Iterator[Finding]:
    ours, theirs = ([nft.meaning(rule.text) for rule in each.rules] for each in (wanted, found))
    missing = list(_beyond(wanted, theirs))
    for number, rule in _beyond(found, ours):
        if missing and (len(missing) == 1 or (nft.dice(rule.text) and nft.dice(missing[0][1].text))) and (
                bool(nft.dice(rule.text)) == bool(nft.dice(missing[0][1].text))) and (
                missing[0][1].targets == rule.targets or nft.dice(rule.text)):
            _, other = missing.pop(0)
            yield Finding("changed-rule", table.name, found.name, number, service,
                          f"{_about(service)}rule {number} of {found.name} is “{rule.text}”, where kube-proxy would "
                          f"say “{other.text}”", rule.line, f"it would be: {other.line}")
        else:
            yield Finding("extra-rule", table.name, found.name, number, service,
                          f"{_about(service)}rule {number} of {found.name} is not kube-proxy's: "
                          f"{nft_words.explain(rule.text)}", rule.line, _deletion(table, found.name, rule))
    for _, rule in missing:
        yield Finding("missing-rule", table.name, found.name, 0, service,
                      f"{_about(service)}{found.name} lacks a rule: {nft_words.explain(rule.text)}", rule.line,
                      _REWRITES)
    if sorted(ours) == sorted(theirs) and ours != theirs:
        yield Finding("order", table.name, found.name, 0, service,
                      f"{_about(service)}the rules of {found.name} come in another order than kube-proxy's",
                      hint=_REWRITES)


def _beyond(chain: NftChain, others: list[str]) -> Iterator[tuple[int, NftRule]]:
    left = Counter(others)
    for number, rule in enumerate(chain.rules, 1):
        said = nft.meaning(rule.text)
        if left[said]:
            left[said] -= 1
        else:
            yield number, rule


def _deletion(table: NftTable, chain: str, rule: NftRule) -> str:
    handle = str(rule.handle) if rule.handle else "N  (nft -a list chain tells its handle)"
    return f"nft delete rule {table.family} {table.name} {chain} handle {handle}"


def _elements(table: NftTable, world: NftWorld) -> Iterator[Finding]:
    for name, wanted in world.table.sets.items():
        if name not in table.sets:
            service = _service(world, name)
            yield Finding("missing-set", table.name, f"@{name}", 0, service,
                          f"{_about(service)}{wanted.word} {name} is missing", hint=_REWRITES)
            continue
        if name.startswith("affinity-"):
            continue
        there = table.elements(name)
        for key, each in wanted.elements.items():
            service = _owner(world, name, key)
            if key not in there:
                yield Finding("missing-element", table.name, f"@{name}", 0, service,
                              f"{_about(service)}@{name} lacks an element: {nft_words.element(name, each)}",
                              f"{key} : {each.value}" if each.value else key, _REWRITES)
            elif there[key].value != each.value:
                yield Finding("changed-element", table.name, f"@{name}", 0, service,
                              f"{_about(service)}@{name} says “{nft_words.element(name, there[key])}”, "
                              f"where kube-proxy would say “{nft_words.verdict(each.value)}”",
                              f"{key} : {there[key].value}", _REWRITES)
        for number, (key, each) in enumerate(there.items(), 1):
            if key not in wanted.elements:
                service = nft_service.owner_of(name, each)[0].partition(":")[0]
                yield Finding("extra-element", table.name, f"@{name}", number, service,
                              f"{_about(service)}@{name} has an element that no object asks for: "
                              f"{nft_words.element(name, each)}", f"{key} : {each.value}" if each.value else key,
                              f"nft delete element {table.family} {table.name} {name} '{{ {key} }}'")


def _owner(world: NftWorld, name: str, key: str) -> str:
    found = world.elements.get((name, key), ())
    return found[0].service if found else ""


def _stale(table: NftTable, world: NftWorld) -> Iterator[Finding]:
    """Yield endpoints that rules send to and no ready endpoint stands behind."""
    for chain in table.chains:
        owner = world.owners.get(chain)
        if owner is None or not chain.startswith(("service-", "local-")):
            continue
        port = owner.port
        wanted = nft_service.shares(world.table, chain)
        for address in nft_service.shares(table, chain):
            if address in wanted:
                continue
            found = world.places.get((port.name, port.protocol, address), ())
            why = "no EndpointSlice has it" if not found else "it is not ready, terminating, or not for this node"
            yield Finding("stale-endpoint", table.name, chain, 0, port.service,
                          f"{port.service}: {chain} sends to {address}, which is no ready endpoint: {why}",
                          hint="connections that go there fail or meet a stranger; kube-proxy should have removed it")


def _unreached(table: NftTable, world: NftWorld) -> Iterator[Finding]:
    callers, expected = table.callers(), world.table.callers()
    for chain in table.chains.values():
        alike = chain.name in world.table.chains and chain.name not in expected
        if chain.hook or not chain.rules or chain.name in callers or alike:
            continue
        service = _service(world, chain.name)
        yield Finding("unreached-chain", table.name, chain.name, 0, service,
                      f"{_about(service)}no rule or map leads to {chain.name}: what is in it never applies",
                      hint=_REWRITES if chain.name in world.table.chains else "")


def _hidden(table: NftTable, chain: NftChain) -> Iterator[Finding]:
    """Yield rules behind one that takes every packet, and those that are there twice."""
    seen: dict[str, int] = {}
    closed = 0
    service = nft_service.port_of(chain.name)[0].partition(":")[0]
    for number, rule in enumerate(chain.rules, 1):
        said = nft.meaning(rule.text)
        if closed:
            yield Finding("unreachable-rule", table.name, chain.name, number, service,
                          f"{_about(service)}rule {number} of {chain.name} never applies "
                          f"({nft_words.explain(rule.text)}): rule {closed} takes all before", rule.line,
                          _deletion(table, chain.name, chain.rules[closed - 1]))
        elif said in seen and not _FICKLE.search(said):
            yield Finding("repeated-rule", table.name, chain.name, number, service,
                          f"{_about(service)}rule {number} of {chain.name} says again what rule {seen[said]} says",
                          rule.line, _deletion(table, chain.name, rule))
        seen.setdefault(said, number)
        if re.fullmatch(r"drop|accept|return|reject(?: with .*)?|goto \S+", said):
            closed = closed or number


def foreign_drops(tables: tuple[NftTable, ...]) -> Iterator[Finding]:
    """Yield what refuses packets in tables that are neither kube-proxy's nor iptables'."""
    for table in tables:
        place = f"{table.family} {table.name}"
        callers = table.callers()
        for chain in table.chains.values():
            if chain.hook and chain.policy == "drop":
                yield Finding("policy-drop", place, chain.name, 0, "",
                              f"foreign table {place}: {chain.name} (hook {chain.hook}, priority {chain.priority}) has "
                              "policy drop: packets pass only where a rule accepts them",
                              hint=f"nft chain {place} {chain.name} '{{ policy accept ; }}', or rules that accept the "
                                   "Pods' traffic")
            if not chain.hook and chain.name not in callers:
                continue
            for number, rule in enumerate(chain.rules, 1):
                if _REFUSES.search(rule.text):
                    where = f"hook {chain.hook}, priority {chain.priority}" if chain.hook else (
                        f"called by {', '.join(callers[chain.name])}")
                    yield Finding("foreign-drop", place, chain.name, number, "",
                                  f"a foreign table refuses packets: {place} {chain.name} rule {number} ({where}): "
                                  f"{nft_words.explain(rule.text)}", rule.line, _deletion(table, chain.name, rule))


def has_table(table: NftTable | None) -> bool:
    """Tell whether a table holds the maps of nftables mode."""
    return table is not None and names.SERVICE_IPS in table.sets
