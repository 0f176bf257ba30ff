"""A node's rules out of its kernel: iptables of both backends, nftables, and the settings that rules rely on.

Only looks. iptables' legacy tables are not read where nobody uses them, for the look alone would make them.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from netlab.errors import NetlabError, Unsupported
from netlab.inspect import nft_service, service
from netlab.inspect.holding import Holding, with_tables
from netlab.inspect.node_check import SYSCTLS
from netlab.kernel import iptables, link, nft_listing, sysctl
from netlab.kernel.iptables import Iptables
from netlab.kernel.nft_pick import Picker
from netlab.kernel.rtnl import Rtnl
from netlab.netfilter import nft, parse
from netlab.netfilter.model import HOOKS, Ruleset
from netlab.netfilter.terms import comment
from netlab.proxy import names, nft_names
from netlab.proxy.addresses import Family

LONG: Final = 1 << 20
"""Characters of a listing from which on other Services' lines are left out before it is parsed."""
MANY: Final = 3000
"""Chains from which on one Service's rules are picked out instead of reading all."""

_SHARED: Final = (("nat", names.SERVICES), ("nat", names.NODE_PORTS), ("filter", names.SERVICES),
                  ("filter", names.EXTERNAL_SERVICES), ("filter", names.PROXY_FIREWALL), ("filter", names.NODE_PORTS))


def read(node: str, netns: int, *, ipv6: bool = False, both: bool = False, only: str = "") -> Holding:
    """Return what a namespace holds in one family, with counters.

    Args:
        node: what to call it.
        netns: its descriptor.
        ipv6: which family.
        both: the rules of iptables' other backend as well.
        only: a Service, `namespace/name`: on a node of many rules, those of others may be left out.

    Raises:
        KernelError: the kernel refused; Unsupported: a program that is needed is missing.
    """
    tables, nft_mode = _nft_tables(netns, ipv6, only)
    main, second = _iptables(netns, ipv6, both, "" if nft_mode else only)
    absent = [each for each in _own_names(netns, ipv6) if each[1] not in main.tables]
    if absent and not only:  # named as iptables' own, but written by nft: iptables-save passes over them
        tables += nft.parse(_listed(absent, netns))
    return with_tables(main, tables, ipv6=ipv6, node=node, other=second, sysctls=sysctl.read_all(SYSCTLS, netns),
                       bridge=_bridge(netns))


def _nft_tables(netns: int, ipv6: bool, only: str) -> tuple[list[nft.NftTable], bool]:
    family = "ip6" if ipv6 else "ip"
    there = [each for each in nft_listing.names(netns) if each[0] in (family, "inet", "netdev", "bridge")
             and not (each[0] == family and each[1] in HOOKS) and not each[1].startswith("netlab-trace")]
    proxys = (family, nft_names.TABLE) in there
    wanted = [(family, nft_names.TABLE)] if only and proxys else [] if only else there
    if not wanted:
        return [], proxys
    if only:
        with contextlib.suppress(Unsupported):
            return list(nft.parse(_few(netns, ipv6, only))), proxys
    return list(nft.parse(_picked(_listed(wanted, netns), only))), proxys


def _few(netns: int, ipv6: bool, only: str) -> str:
    """Return kube-proxy's table with one Service's chains and elements alone.

    Raises:
        Unsupported: a rule is not one of kube-proxy's own.
    """
    family = "ip6" if ipv6 else "ip"
    picker = Picker(socket.AF_INET6 if ipv6 else socket.AF_INET, nft_names.TABLE, netns)
    lines = [f"table {family} {nft_names.TABLE} {{"]
    try:
        chains: dict[str, list[str]] = {}
        for name in nft_service.MAPS:
            listed = []
            for key, value in picker.elements(name, (f"-{only}/".encode(), only.encode())):
                listed.append(f"{key} : {value}")
                if value:
                    chains.setdefault(value.rpartition(" ")[2], [])
            lines += [f"map {name} {{", "type inet_proto : verdict", f"elements = {{ {', '.join(listed)} }}", "}"]
        todo = [chain for chain in chains if nft_service.port_of(chain)[0]]
        for chain in todo:  # grows
            chains[chain] = picker.rules(chain)
            new = [each for line in chains[chain] for each in nft.rule(chain, line).targets if each not in chains]
            chains |= {each: [] for each in new}
            todo += new
        for chain in todo:
            lines += [f"chain {chain} {{", *chains[chain], "}"]
    finally:
        picker.close()
    return "\n".join((*lines, "}"))


def _listed(tables: Iterable[tuple[str, str]], netns: int) -> str:
    try:
        return nft_listing.listing(tables, netns)
    except Unsupported:
        raise Unsupported("rules of nftables are there, and libnftables to read them is not installed",
                          hint="apt-get install nftables") from None


def _picked(text: str, only: str) -> str:
    """Leave out the chains of other Services: parsing a hundred thousand lines takes longer than dropping them."""
    if not only or len(text) < LONG:
        return text
    kept, keeping = [], True
    for line in text.splitlines():
        if line.startswith(("\tchain ", "\tset ")):
            name = line.split(" ", 2)[1]
            keeping = "/" not in name or f"-{only}/" in name
        if keeping or line == "}":
            kept.append(line)
        elif line == "\t}":
            keeping = True
    return "\n".join(kept)


def _own_names(netns: int, ipv6: bool) -> list[tuple[str, str]]:
    family = "ip6" if ipv6 else "ip"
    return [each for each in nft_listing.names(netns) if each[0] == family and each[1] in HOOKS]


def _iptables(netns: int, ipv6: bool, both: bool, only: str) -> tuple[Ruleset, Ruleset | None]:
    family: Family = "IPv6" if ipv6 else "IPv4"
    try:
        main = iptables.find(family)
    except Unsupported:
        return Ruleset(), None
    legacy = iptables.tables_in_use(netns)[family]
    first = _rules(main, netns, only)
    second: Ruleset | None = None
    if main.backend == "nft" and (legacy if both else "nat" in legacy and not _kubes(first)):
        second = _rules(iptables.find(family, "legacy"), netns, only)
    elif main.backend == "legacy" and (both or not _kubes(first)):
        second = _other(family, netns, only)
    if second is not None and _kubes(second) and not _kubes(first):
        first, second = second, first
    return first, second if both else None


def _other(family: Family, netns: int, only: str) -> Ruleset | None:
    try:
        return _rules(iptables.find(family, "nft"), netns, only)
    except NetlabError:
        return None


def _kubes(rules: Ruleset) -> bool:
    return names.SERVICES in rules.table("nat").chains


def _rules(tool: Iptables, netns: int, only: str) -> Ruleset:
    if only and tool.backend == "nft" and iptables.more_chains(tool, MANY, netns=netns):
        return of_service(tool, netns, only)
    text = iptables.save(tool, netns=netns, counters=True)
    if only and len(text) > LONG:
        text = "\n".join(_of_saved(text, only))
    found = parse.parse(text)
    if found.backend:
        return found
    # The legacy backend's own program does not say which it is.
    kind = "nf_tables" if tool.backend == "nft" else "legacy"
    return replace(found, generator=f"{found.generator or tool.save.rpartition('/')[2]} ({kind})")


def of_service(tool: Iptables, netns: int, only: str) -> Ruleset:
    """Return one Service's rules: the lines of shared chains that speak of it, and the chains that they lead to."""
    kind = "nf_tables" if tool.backend == "nft" else "legacy"
    found: dict[str, dict[str, list[str]]] = {}
    todo: list[tuple[str, str]] = []
    for table, chain in _SHARED:
        lines = iptables.chain_text(tool, table, chain, netns=netns)
        # What is of others stays as an empty rule: places in a chain are counted.
        mine = found.setdefault(table, {})[chain] = [
            line if only in line and _is_of(line, only) else f"-A {chain}" for line in lines]
        todo += [(table, each) for line in mine if (each := _jump(line)).startswith(service.CHAINS)]
    for table, chain in todo:  # grows
        if chain not in found[table]:
            found[table][chain] = iptables.chain_text(tool, table, chain, netns=netns)
            todo += [(table, each) for line in found[table][chain] if (each := _jump(line)).startswith(service.CHAINS)]
    text = [f"# Generated by {tool.save.rpartition('/')[2]} v{'.'.join(map(str, tool.version))} ({kind}) on"]
    for table, chains in found.items():
        text += [f"*{table}", *(f":{chain} - [0:0]" for chain in chains), *(line for listed in chains.values()
                                                                            for line in listed), "COMMIT"]
    return parse.parse("\n".join(text))


def _of_saved(text: str, only: str) -> Iterator[str]:
    """Yield of a long iptables-save text the lines that one Service's rules need, and what is of no Service."""
    lines = text.splitlines()
    by_chain: dict[str, list[str]] = {}
    wanted: dict[str, None] = {}
    for line in lines:
        at = line.find("-A KUBE-S")
        if 0 <= at < 40 and line.startswith(service.CHAINS, at + 3):
            by_chain.setdefault(line[at + 3:].partition(" ")[0], []).append(line)
        elif only in line and _is_of(line, only):
            wanted[_jump(line)] = None
    todo = list(wanted)
    for chain in todo:  # grows
        new = [each for line in by_chain.get(chain, ()) if (each := _jump(line)) not in wanted]
        wanted |= dict.fromkeys(new)
        todo += new
    for line in lines:
        start = 1 if line.startswith(":") else line.find("-A ") + 3 if "-A " in line[:40] else 0
        if start and line.startswith(service.CHAINS, start):
            if line[start:].partition(" ")[0] in wanted:
                yield line
        elif not start or "--comment" not in line or not line.startswith("KUBE-", start) or (
                only in line and _is_of(line, only)):
            yield line
        else:
            yield f"-A {line[start:].partition(' ')[0]}"


def _is_of(line: str, only: str) -> bool:
    port = service.service_of(comment(line))
    return bool(port) and service.belongs(port, only)


def _jump(line: str) -> str:
    return line.rpartition(" -j ")[2].partition(" ")[0]


def _bridge(netns: int) -> bool:
    with Rtnl(netns) as sock:
        return any(each.kind == "bridge" for each in link.links(sock))
