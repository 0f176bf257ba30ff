"""The rules of one Service in nftables mode as a tree, found in what a node's kernel holds.

As in iptables mode nothing is taken from the API but names. The names of chains say in full which port they are of;
where an element leads to a chain that all share (reject-chain), its comment does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from netlab.inspect import nft_words
from netlab.inspect.names import Names
from netlab.inspect.service import Branch, Endpoint, PortRules, belongs
from netlab.netfilter import nft
from netlab.netfilter.nft import NftElement, NftRule, NftTable
from netlab.proxy import nft_names as names

MAPS = (names.SERVICE_IPS, names.SERVICE_NODEPORTS, names.FIREWALL_IPS, names.NO_ENDPOINT_SERVICES,
        names.NO_ENDPOINT_NODEPORTS)
PREFIXES = ("service-", "local-", "external-", "firewall-", "endpoint-", "affinity-")
_PORT = re.compile(r"(?:service|local|external|firewall|endpoint|affinity)-[A-Z2-7]{8}-"
                   r"([^/]+)/([^/]+)/([a-z0-9]+)/(.*)")
_END = re.compile(r"__([0-9a-f.]+)/(\d+)$")


def port_of(chain: str) -> tuple[str, str]:
    """Return the Service port and protocol that a chain or affinity set is named for; "" twice for another's.

    >>> port_of("external-TUKLMWCC-default/nodeport/tcp/http")
    ('default/nodeport:http', 'tcp')
    """
    found = _PORT.fullmatch(chain)
    if found is None:
        return "", ""
    port = _END.sub("", found[4])
    return f"{found[1]}/{found[2]}{f':{port}' if port else ''}", found[3]


def address_of(chain: str) -> str:
    """Return the endpoint that a chain or affinity set is named for, `10.244.1.5:8080`; "" for none."""
    found = _END.search(chain) if chain.startswith(("endpoint-", "affinity-")) else None
    if found is None:
        return ""
    ip = found[1]
    if ip.count(".") != 3 or not all(part.isdigit() for part in ip.split(".")):
        return f"[{ip.replace('.', ':')}]:{found[2]}"
    return f"{ip}:{found[2]}"


def owner_of(name: str, each: NftElement) -> tuple[str, str]:
    """Return the Service port and the protocol of an element of one of kube-proxy's maps."""
    port, protocol = port_of(each.target)
    if port:
        return port, protocol
    parts = each.key.split(" . ")
    return each.comment, parts[-2] if name in MAPS and len(parts) > 1 else ""


def ports(table: NftTable, service: str, called: Names | None = None) -> tuple[PortRules, ...]:
    """Return the rules of a Service by port; () when the table has none.

    Args:
        table: kube-proxy's table as the node holds it.
        service: namespace/name.
        called: what the API calls the addresses.
    """
    found: dict[tuple[str, str], list[Branch]] = {}
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for name in MAPS:
        for _, each in sorted(table.elements(name).items()):  # nft prints another order than the kernel tells
            key = owner_of(name, each)
            if key[0] and belongs(key[0], service):
                reached = seen.setdefault(key, {})
                found.setdefault(key, []).append(_entry(table, name, each, called or Names(), reached))
    return tuple(PortRules(name, protocol, tuple(entries),
                           endpoints(table, seen[name, protocol], called or Names()), tuple(seen[name, protocol]))
                 for (name, protocol), entries in sorted(found.items()))


def known(table: NftTable) -> Mapping[str, None]:
    """Return the Services, `namespace/name`, that the maps speak of, in order."""
    return dict.fromkeys(port.partition(":")[0] for name in MAPS for each in table.elements(name).values()
                         if (port := owner_of(name, each)[0]))


def _entry(table: NftTable, name: str, each: NftElement, called: Names, seen: dict[str, None]) -> Branch:
    chain = each.target if port_of(each.target)[0] else ""
    repeated = chain in seen
    inner = () if repeated or not chain else tuple(_inside(table, chain, called, seen))
    text = f"{each.key} : {each.value}" if each.value else each.key
    return Branch(table.name, f"@{name}", 0, text, nft_words.element(name, each), each.packets or 0, 0, inner,
                  repeated=repeated, counted=each.packets is not None)


def _inside(table: NftTable, chain: str, called: Names, seen: dict[str, None]) -> Iterator[Branch]:
    seen[chain] = None
    for number, rule in enumerate(table.chain(chain).rules, 1):
        yield _branch(table, rule, number, called, seen)


def _branch(table: NftTable, rule: NftRule, number: int, called: Names, seen: dict[str, None]) -> Branch:
    branch = Branch(table.name, rule.chain, number, rule.text, nft_words.explain(rule.text), rule.packets or 0,
                    rule.bytes, counted=rule.packets is not None)
    dice = nft.dice(rule.text)
    if dice:
        return replace(branch, rules=tuple(_choice(table, rule, number, each, share, called, seen)
                                           for each, share in dice))
    targets = [each for each in rule.targets if each in table.chains]
    if not targets:
        return branch
    chain = targets[0]
    address = destination(table, chain)
    if chain in seen:
        return replace(branch, repeated=True, endpoint=address, who=called.of_endpoint(address) if address else "")
    return replace(branch, rules=tuple(_inside(table, chain, called, seen)), endpoint=address,
                   who=called.of_endpoint(address) if address else "")


def _choice(table: NftTable, rule: NftRule, number: int, name: str, share: float, called: Names,
            seen: dict[str, None]) -> Branch:
    """Return one of the ways that the dice may choose."""
    chain = name if name in table.chains else ""
    address = destination(table, chain) if chain else nft.joined(name)
    who = called.of_endpoint(address)
    words = f"continue in {chain}" if chain else f"rewrite the destination to {address}"
    repeated = chain in seen
    inner = tuple(_inside(table, chain, called, seen)) if chain and not repeated else ()
    return Branch(table.name, rule.chain, number, name, words, 0, 0, inner, address, who, share, repeated=repeated,
                  counted=False)


def destination(table: NftTable, chain: str) -> str:
    """Return where an endpoint's chain sends packets; "" when it has no DNAT of its own."""
    for rule in table.chain(chain).rules:
        found = re.search(r"dnat (?:ip6? )?to (?!numgen)(\S+)(?: \. (\d+))?", rule.text)
        if found:
            return nft.joined(f"{found[1]} . {found[2]}") if found[2] else found[1]
    return ""


def shares(table: NftTable, chain: str) -> dict[str, float]:
    """Return the endpoints that a service-* or local-* chain spreads over, with their parts."""
    found: dict[str, float] = {}
    for rule in table.chain(chain).rules:
        for name, share in nft.dice(rule.text):
            address = destination(table, name) if name in table.chains else nft.joined(name)
            found[address or name] = found.get(address or name, 0.0) + share
    return found


def affine(table: NftTable, chain: str) -> bool:
    """Tell whether a chain sends clients to the endpoint they had before."""
    return any("@affinity-" in rule.text for rule in table.chain(chain).rules)


def counted(table: NftTable, chain: str) -> int | None:
    """Return how many packets the rules of an endpoint's chain counted; None when none of them counts."""
    found = [rule.packets for rule in table.chain(chain).rules if rule.packets is not None]
    return found[-1] if found else None


def endpoints(table: NftTable, seen: Mapping[str, None], called: Names) -> tuple[Endpoint, ...]:
    """Return the endpoints of the chains that spread, as the table has them. kube-proxy's rules do not count."""
    result: dict[str, Endpoint] = {}
    for chain in seen:
        if chain.startswith(("service-", "local-")):
            for address, share in shares(table, chain).items():
                result.setdefault(address, Endpoint(address, called.of_endpoint(address), share, 0, None))
    return tuple(result.values())
