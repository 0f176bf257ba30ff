"""Which object, and which of its fields, a chain or rule comes from: worked out anew from the API and matched.

The kernel keeps no note of who wrote a rule, and a comment can lie. So what kube-proxy would write for the objects is
worked out with the object behind each rule, and a rule of the kernel's comes from those objects when it does the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from netlab.api import meta
from netlab.errors import NotFound, UsageError
from netlab.inspect import makers, older, shares, sources, words
from netlab.inspect.service import service_of
from netlab.inspect.since import since
from netlab.inspect.sources import Source
from netlab.inspect.world import Owner, World, meaning
from netlab.netfilter import parse
from netlab.netfilter.model import HOOKS, Rule, Ruleset, Table
from netlab.netfilter.terms import comment
from netlab.proxy import names

_BUILT_IN = frozenset(hook for hooks in HOOKS.values() for hook in hooks)


@dataclass(frozen=True)
class Origin:
    """Where a chain (`number` 0) or a rule (counting from 1) comes from.

    `maker` is kube-proxy, kubelet, netd, cni, former (kube-proxy would not write it now), kernel, foreign, or the name
    of a program that is known by its chains. `text` is the rule's,
    "" for a chain; `words` what it does, `said` where it comes from, `sources` the objects.
    """

    table: str
    chain: str
    number: int
    maker: str
    text: str
    words: str
    said: str
    sources: tuple[Source, ...] = ()


def why(asked: str, kernel: Ruleset, world: World) -> tuple[Origin, ...]:
    """Return where what was asked for comes from; () when the node has no such chain or rule.

    Args:
        asked: `CHAIN`, `CHAIN:N`, a rule such as `-A CHAIN ... -j TARGET`, or a piece of a rule's text.
        kernel: what the node holds.
        world: what its kube-proxy would write.

    Raises:
        NotFound: the chain has no rule of that number.
        UsageError: nothing was asked for.
    """
    asked = asked.strip()
    if not asked:
        raise UsageError("which chain or rule?", hint="such as KUBE-SERVICES, KUBE-SERVICES:3 or '-A FORWARD -j DROP'")
    chain, colon, digits = asked.rpartition(":")
    if colon and digits.isdigit() and " " not in chain:
        tables = [table for table in kernel.tables.values() if chain in table.chains]
        found = [of_rule(table, chain, int(digits), world) for table in tables
                 if 0 < int(digits) <= len(table.chains[chain].rules)]
        if tables and not found:
            counts = ", ".join(f"{len(table.chains[chain].rules)} in {table.name}" for table in tables)
            raise NotFound(f"{chain} has no rule {digits}", hint=f"its rules: {counts}")
        return tuple(found)
    if " " not in asked:
        named = tuple(of_chain(table, asked, world) for table in kernel.tables.values() if asked in table.chains)
        if named:
            return named
    return tuple(_matching(asked, kernel, world))


def _matching(asked: str, kernel: Ruleset, world: World) -> Iterator[Origin]:
    """Yield the rules that are what was asked for, or whose text holds it."""
    whole = parse.rules([asked.partition("] ")[2] if asked.startswith("[") else asked])
    for table in kernel.tables.values():
        for chain in table.chains.values():
            for number, rule in enumerate(chain.rules, 1):
                same = meaning(rule) == meaning(whole[0]) if whole and rule.chain == whole[0].chain else (
                    not whole and asked in rule.text)
                if same:
                    yield of_rule(table, chain.name, number, world)


def of_rule(table: Table, chain: str, number: int, world: World) -> Origin:
    """Return where a rule comes from; `number` counts from 1."""
    rule = table.chains[chain].rules[number - 1]
    said = words.explain(rule)
    port = world.maker(table.name, rule)
    if port is not None:
        found = tuple(sources.of_rule(world, table.name, rule, port))
        return Origin(table.name, chain, number, "kube-proxy", rule.text, said,
                      f"kube-proxy wrote it for {port.name} {port.protocol}: {sources.purpose(table.name, rule, port)}",
                      found)
    wanted = {meaning(each) for each in world.rules.chain(table.name, chain).rules}
    if meaning(rule) in wanted:
        purpose, fields = sources.fixed(table.name, rule)
        return Origin(table.name, chain, number, "kube-proxy", rule.text, said,
                      f"every kube-proxy writes it, whatever the Services: {purpose}", fields)
    if chain in sources.KUBELETS:
        return Origin(table.name, chain, number, "kubelet", rule.text, said, sources.KUBELETS[chain])
    if chain.startswith("KUBE-"):
        return Origin(table.name, chain, number, "former", rule.text, said, _former(table, rule, world),
                      tuple(sources.of_owner(world, owner)) if (owner := world.owners.get(chain)) else ())
    maker = makers.of_rule(rule)
    if maker is not None:
        return Origin(table.name, chain, number, maker.name, rule.text, said,
                      f"{maker.said}. It stands {_standing(table, chain, number)}", tuple(_pods(world, maker.address)))
    return Origin(table.name, chain, number, "foreign", rule.text, said,
                  f"foreign: no object of the API explains it. It stands {_standing(table, chain, number)}")


def _pods(world: World, address: str) -> Iterator[Source]:
    pod = world.pods.get(address)
    if pod is not None:
        yield Source(f"Pod {meta.key(pod)}", str(pod["metadata"].get("resourceVersion", "")), ("status.podIPs",),
                     address, since(pod, ("status.podIPs",)))


def of_chain(table: Table, chain: str, world: World) -> Origin:
    """Return where a chain comes from."""
    owner = world.owners.get(chain)
    count = len(table.chains[chain].rules)
    size = f"{count} rule{'s' if count != 1 else ''}"
    wanted = chain in world.rules.table(table.name).chains
    if owner is not None:
        here = "" if wanted or owner.role == "older" else "; this node's kube-proxy would not have it now"
        return Origin(table.name, chain, 0, "kube-proxy" if wanted else "former", "", size,
                      f"{sources.ROLES[owner.role]} {owner.port.name} {owner.port.protocol}{_to(owner)}{here}",
                      tuple(sources.of_owner(world, owner)))
    if chain in _BUILT_IN:
        return Origin(table.name, chain, 0, "kernel", "", size, "built into the kernel: packets enter the table by it")
    if chain in sources.CHAINS:
        return Origin(table.name, chain, 0, "kube-proxy", "", size, sources.CHAINS[chain])
    if chain in sources.KUBELETS:
        return Origin(table.name, chain, 0, "kubelet", "", size, sources.KUBELETS[chain])
    if chain.startswith(names.SERVICE_PREFIXES):
        return Origin(table.name, chain, 0, "former", "", size, _orphan(table, chain))
    callers = [f"{rule.chain} rule {number}" for each in table.chains.values()
               for number, rule in enumerate(each.rules, 1) if rule.jump == chain]
    maker = makers.of_chain(chain)
    if maker is not None:
        return Origin(table.name, chain, 0, maker.name, "", size,
                      f"{maker.said}. It is called by {', '.join(callers) or 'no rule'}")
    return Origin(table.name, chain, 0, "foreign", "", size,
                  f"foreign: no object of the API explains it. It is called by {', '.join(callers) or 'no rule'}")


def _to(owner: Owner) -> str:
    return f", {owner.address}" if owner.address else ""


def _former(table: Table, rule: Rule, world: World) -> str:
    owner = world.owners.get(rule.chain)
    port = service_of(comment(rule.match))
    about = owner.port.name if owner else port
    if older.signs(Ruleset({table.name: table})) and (not about or about.partition(":")[0] in world.services):
        return f"an older kube-proxy, from before v1.24, wrote it{f' for {about}' if about else ''}: v1.36 would not"
    if not about:
        return "foreign: it stands in a chain of kube-proxy's, and no object of the API explains it"
    return (f"no object asks for it as it is: left from an earlier state of {about}, or changed by hand"
            if owner or about.partition(":")[0] in world.services else
            f"left from a Service that is gone: there is no {about}")


def _orphan(table: Table, chain: str) -> str:
    """Tell what a chain was whose objects are gone: its hash cannot be undone, but checked against what it says."""
    rules = table.chains[chain].rules
    port = next((found for rule in rules if (found := service_of(comment(rule.match)))), "")
    address = shares.destination(rules)
    for protocol in ("tcp", "udp", "sctp"):
        if port and address and names.endpoint_chain(port, protocol, address) == chain:
            return (f"it was made for the endpoint {address} of {port} {protocol} (the hash agrees), which no "
                    "EndpointSlice has any more")
        if port and chain.endswith(names.digest(port + protocol)):
            return f"it was made for {port} {protocol} (the hash agrees), which no Service has any more"
    about = f" ({port})" if port else ""
    return f"foreign: it is named like a chain of kube-proxy's, but no object gives this hash{about}"


def _standing(table: Table, chain: str, number: int) -> str:
    """Tell where a foreign rule stands relative to kube-proxy's chains."""
    if chain not in _BUILT_IN:
        callers = table.callers().get(chain, [])
        at: Mapping[str, int] = {rule.chain: number for rule in callers if rule.chain in _BUILT_IN
                                 for number, each in enumerate(table.chains[rule.chain].rules, 1) if each is rule}
        if not callers:
            return f"in {chain}, which no rule jumps to: it never applies"
        return f"in {chain}, called by " + ", ".join(f"{hook} rule {place} ({_standing(table, hook, place)})"
                                                     for hook, place in at.items()) if at else (
            f"in {chain}, called by {', '.join(dict.fromkeys(rule.chain for rule in callers))}")
    kubes = [(at, rule.jump) for at, rule in enumerate(table.chains[chain].rules, 1) if rule.jump.startswith("KUBE-")]
    before = [name for at, name in kubes if at < number]
    after = [name for at, name in kubes if at > number]
    if not kubes:
        return f"in {table.name} {chain}, from where nothing goes to kube-proxy's chains"
    return (f"in {table.name} {chain} " + " and ".join(
        [*([f"behind the jump{'s' if len(before) > 1 else ''} to {', '.join(before)}"] if before else []),
         *([f"before the jump{'s' if len(after) > 1 else ''} to {', '.join(after)}"] if after else [])]))
