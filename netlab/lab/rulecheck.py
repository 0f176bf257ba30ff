"""Whether a rule is in the kernel of the nodes: iptables' of either family, or nftables' table kube-proxy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Literal

from netlab.errors import Unsupported
from netlab.kernel import iptables, process
from netlab.lab import plan
from netlab.lab.check import RuleCheck
from netlab.lab.places import Places
from netlab.lab.state import LabRecord
from netlab.netfilter import parse

_BLOCK = re.compile(r"\s*(?:chain|map|set) (\S+) \{")


async def run(lab: LabRecord, places: Places, wanted: RuleCheck, family: int) -> tuple[bool, str]:
    """Return whether the rule is on each of the nodes asked about (or on none), and what was found.

    Args:
        family: 4 or 6; 0 is the lab's main family.
    """
    nodes = [wanted.node] if wanted.node else [node.name for node in lab.nodes]
    number: Literal[4, 6] = 6 if (family or plan.version(lab.nodes[0].ip)) == 6 else 4
    found: dict[str, str] = {}
    for node in nodes:
        places.shim(node)  # an unknown name is told as such
        (namespace,) = places.own(f"node/{node}")
        try:
            rules = (await _nftables(namespace.fd, number) if wanted.table == "kube-proxy"
                     else await _iptables(namespace.fd, number, wanted.table))
        finally:
            os.close(namespace.fd)
        for chain, text in rules:
            if re.fullmatch(wanted.chain, chain) and all(part in text for part in wanted.contains):
                found.setdefault(node, text)
    missing = [node for node in nodes if node not in found]
    if wanted.present:
        return not missing, f"no such rule on {', '.join(missing)}" if missing else next(iter(found.values()))
    return not found, "; ".join(f"{node}: {text}" for node, text in found.items()) or "no such rule"


async def _iptables(netns: int, number: Literal[4, 6], table: str) -> list[tuple[str, str]]:
    tool = iptables.find("IPv4" if number == 4 else "IPv6")
    text = await iptables.save_async(tool, netns=netns, tables=(table,))
    return [(rule.chain, rule.text) for rule in parse.parse(text).table(table).rules()]


async def _nftables(netns: int, number: Literal[4, 6]) -> list[tuple[str, str]]:
    """Return every line of the table kube-proxy with the chain, map or set that it is in; nothing without the table."""
    words = ["nft", "list", "table", "ip" if number == 4 else "ip6", "kube-proxy"]
    done = await process.run(words, timeout=60, network=netns)
    if done.code and b"No such file" not in done.stderr:
        raise Unsupported(f"{' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
    return list(lines(done.stdout.decode(errors="replace")))


def lines(listing: str) -> Iterator[tuple[str, str]]:
    """Yield (chain, line) of nft's listing of one table."""
    chain = ""
    for line in listing.splitlines():
        begun = _BLOCK.match(line)
        if begun:
            chain = begun[1]
        elif chain and line.strip() not in ("", "}"):
            yield chain, " ".join(line.split()).rstrip(",")
