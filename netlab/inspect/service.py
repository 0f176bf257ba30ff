"""The rules of one Service as a tree, found in what a node's kernel holds.

Nothing is taken from the API but names: the tree is there when the API server is down, and shows what really is, be it
written by netlab's kube-proxy, by upstream's or by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from netlab.api.meta import split_key
from netlab.inspect import shares, words
from netlab.inspect.names import Names
from netlab.netfilter.model import Chain, Rule, Ruleset
from netlab.netfilter.terms import comment

CHAINS = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-")
CHAINS_OF_USERSPACE = (("nat", "KUBE-PORTALS-CONTAINER"), ("nat", "KUBE-PORTALS-HOST"),
                       ("nat", "KUBE-NODEPORT-CONTAINER"), ("nat", "KUBE-NODEPORT-HOST"))
_SHARED = (("nat", "KUBE-SERVICES"), ("nat", "KUBE-NODEPORTS"), ("filter", "KUBE-SERVICES"),
           ("filter", "KUBE-EXTERNAL-SERVICES"), ("filter", "KUBE-PROXY-FIREWALL"), ("filter", "KUBE-NODEPORTS"),
           *(place for place in CHAINS_OF_USERSPACE))


@dataclass(frozen=True)
class Branch:
    """A rule in the tree, or an element of a map (`number` 0).

    `number` counts from 1 in its chain; `rules` are those of the chain that it jumps to.

    `endpoint` is the address that its chain rewrites to and `who` that address' name; `share` its part of new
    connections from 0 to 1, `observed` what the counters saw. `repeated` tells that the chain is shown above already,
    `counted` whether the rule has a counter at all (nftables' have one only where somebody wrote it).
    """

    table: str
    chain: str
    number: int
    text: str
    words: str
    packets: int
    bytes: int
    rules: tuple[Branch, ...] = ()
    endpoint: str = ""
    who: str = ""
    share: float | None = None
    observed: float | None = None
    repeated: bool = False
    counted: bool = True


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of a Service port as the rules have it. `fresh` of the `packets` came by the dice, not by memory."""

    address: str
    who: str
    share: float
    packets: int
    observed: float | None
    fresh: int = 0


@dataclass(frozen=True)
class PortRules:
    """All rules of one port of a Service. `name` is `namespace/service:port`, `protocol` such as tcp."""

    name: str
    protocol: str
    entries: tuple[Branch, ...]
    endpoints: tuple[Endpoint, ...]
    chains: tuple[str, ...] = field(default=())


def service_of(text: str) -> str:
    """Return the Service port that a comment of kube-proxy's is about, "" when it is about none.

    >>> service_of("masquerade traffic for default/web:http external destinations")
    'default/web:http'
    """
    for word in text.split():
        if "/" in word and not word.startswith("/"):
            return word.rstrip(":;,")
    return ""


def belongs(port_name: str, service: str) -> bool:
    """Tell whether `default/web:http` is a port of the Service `default/web`."""
    return port_name == service or port_name.startswith(f"{service}:")


def ports(rules: Ruleset, service: str, names: Names | None = None) -> tuple[PortRules, ...]:
    """Return the rules of a Service by port, in the order in which the kernel would come to them; () when it has none.

    Args:
        rules: what the node holds, with counters where they are wanted.
        service: namespace/name.
        names: what the API calls the addresses.
    """
    found: dict[tuple[str, str], list[Branch]] = {}
    chains: dict[tuple[str, str], dict[str, Chain]] = {}
    for table, chain in _SHARED:
        for number, rule in enumerate(rules.chain(table, chain).rules, 1):
            name = service_of(comment(rule.match))
            if name and belongs(name, service):
                key = (name, _protocol(rule))
                seen = chains.setdefault(key, {})
                found.setdefault(key, []).append(_branch(rules, table, number, rule, names or Names(), seen))
    return tuple(PortRules(name, protocol, tuple(entries), _endpoints(rules, chains[name, protocol], names or Names()),
                           tuple(chains[name, protocol]))
                 for (name, protocol), entries in found.items())


def known(rules: Ruleset) -> Mapping[str, None]:
    """Return the Services, `namespace/name`, that the shared chains speak of, in order."""
    result: dict[str, None] = {}
    for table, chain in _SHARED:
        for rule in rules.chain(table, chain).rules:
            name = service_of(comment(rule.match))
            if name:
                result[name.partition(":")[0]] = None
    return result


def full_name(text: str) -> str:
    """Return `namespace/name` for `svc/web`, `svc/ns/web`, `service/web`, `ns/web` or `web`."""
    kind, slash, rest = text.partition("/")
    if slash and kind in ("svc", "service", "services"):
        text = rest
    namespace, name = split_key(text)
    return f"{namespace or 'default'}/{name}"


def _protocol(rule: Rule) -> str:
    return next((after for before, after in pairwise(rule.match.split()) if before == "-p"), "")


def _branch(rules: Ruleset, table: str, number: int, rule: Rule, names: Names, seen: dict[str, Chain]) -> Branch:
    own = rule.jump.startswith(CHAINS)
    repeated = own and rule.jump in seen
    inner: tuple[Branch, ...] = ()
    endpoint = shares.destination(rules.chain(table, rule.jump).rules) if own else ""
    if own and not repeated:
        chain = rules.chain(table, rule.jump)
        seen[rule.jump] = chain
        parts = {share.chain: share for share in shares.of_chain(chain)}
        inner = tuple(_with_share(_branch(rules, table, at, each, names, seen), each, parts)
                      for at, each in enumerate(chain.rules, 1))
    return Branch(table, rule.chain, number, rule.text, words.explain(rule), rule.packets, rule.bytes, inner,
                  endpoint, names.of_endpoint(endpoint) if endpoint else "", repeated=repeated)


def _with_share(branch: Branch, rule: Rule, parts: Mapping[str, shares.Share]) -> Branch:
    share = parts.get(rule.jump)
    if share is None or shares.dice(rule) is None:
        return branch
    return Branch(branch.table, branch.chain, branch.number, branch.text, branch.words, branch.packets, branch.bytes,
                  branch.rules, branch.endpoint, branch.who, share.nominal, share.observed, branch.repeated)


def _endpoints(rules: Ruleset, seen: Mapping[str, Chain], names: Names) -> tuple[Endpoint, ...]:
    """Return the endpoints of the chain that new connections to the cluster address take."""
    spreading = [chain for name, chain in seen.items() if name.startswith(("KUBE-SVC-", "KUBE-SVL-"))]
    result: dict[str, Endpoint] = {}
    for chain in spreading:
        ways: dict[str, list[shares.Share]] = {}
        for share in shares.of_chain(chain):
            address = shares.destination(rules.chain("nat", share.chain).rules)
            if address and address not in result:
                ways.setdefault(address, []).append(share)
        for address, found in ways.items():  # several ways to one address: by hand, kube-proxy writes one each
            observed = [share.observed for share in found if share.observed is not None]
            result[address] = Endpoint(address, names.of_endpoint(address), sum(share.nominal for share in found),
                                       sum(share.packets for share in found), sum(observed) if observed else None,
                                       sum(share.fresh for share in found))
    return tuple(result.values())
