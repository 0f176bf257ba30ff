"""The text of a rule that a trace names by number: the iptables-save line that anyone can find again.

The kernel dumps the handles of a chain's rules in their order, `iptables-save` prints the lines in the same order;
laid side by side they give each handle its line. When the counts differ (a rule that only nft can say), nft's own
words serve.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab.kernel import nft
from netlab.kernel.taps import RuleHit
from netlab.trace import nftwords
from netlab.trace.packet import Packet


@dataclass(frozen=True)
class RuleText:
    """A rule in words: its line without `-A CHAIN`, its comment, its target's name ("" for none).

    `element` is the element of its map that a packet met, as nft prints it.
    """

    line: str
    comment: str = ""
    target: str = ""
    element: str = ""


@dataclass
class RuleBook:
    """The rules of one namespace, by what a trace calls them; chains of native nftables are read when asked for."""

    netns: int
    by_handle: Mapping[tuple[int, str, str, int], RuleText] = field(default_factory=dict)
    by_number: Mapping[tuple[int, str, str, int], RuleText] = field(default_factory=dict)
    hooks: Mapping[tuple[str, str], str] = field(default_factory=dict)
    policies: Mapping[tuple[int, str, str], str] = field(default_factory=dict)
    _native: dict[tuple[int, str, str], dict[int, str]] = field(default_factory=dict)
    _elements: dict[tuple[int, str, str, str], str] = field(default_factory=dict)

    def text(self, hit: RuleHit, packet: Packet) -> RuleText:
        """Return the words of one hit; a rule that is gone by now is named by its number."""
        if hit.legacy:
            return self.by_number.get((hit.family, hit.table, hit.chain, hit.rule)) or \
                RuleText(f"(rule {hit.rule}, changed since)")
        known = self.by_handle.get((hit.family, hit.table, hit.chain, hit.handle))
        if known is not None:
            return known
        chain = hit.family, hit.table, hit.chain
        if chain not in self._native:
            self._native[chain] = nft.chain_rules(self.netns, *chain)
        line = self._native[chain].get(hit.handle)
        if line is None:
            return RuleText(f"(handle {hit.handle}, changed since)")
        return self._in_words(hit, line, packet)

    def policy(self, hit: RuleHit) -> str:
        """Return the verdict of a base chain's policy: iptables-legacy's trace does not tell it."""
        return hit.verdict or self.policies.get((hit.family, hit.table, hit.chain), "ACCEPT")

    def _in_words(self, hit: RuleHit, line: str, packet: Packet) -> RuleText:
        """Return a native rule with the element that the packet met, and what chain names say of it."""
        element = ""
        asked = nftwords.looked_up(line, packet)
        if asked is not None:
            key = (hit.family, hit.table, *asked)
            if key not in self._elements:
                self._elements[key] = nft.element(self.netns, *key)
            element = self._elements[key]
        said = nftwords.said(element, line, hit.target, hit.chain)
        target = next((word.upper() for word in ("dnat", "snat", "masquerade", "redirect", "reject", "drop", "accept")
                       if re.search(rf"\b{word}\b", line.partition(" comment ")[0])), "")
        return RuleText(line, said, target, element)


def load(netns: int, *, legacy: bool = False) -> RuleBook:
    """Read the rules of one namespace. A few ms for an everyday rule set.

    Args:
        netns: which.
        legacy: read iptables-legacy's tables too (looking creates them, so only where they were seen at work).
    """
    by_handle: dict[tuple[int, str, str, int], RuleText] = {}
    by_number: dict[tuple[int, str, str, int], RuleText] = {}
    policies: dict[tuple[int, str, str], str] = {}
    for family, tool in ((socket.AF_INET, "iptables"), (socket.AF_INET6, "ip6tables")):
        handles = {place: numbers for place, numbers in nft.rule_handles(netns, family).items()
                   if place[0] in ("raw", "mangle", "nat", "filter", "security")}
        if handles:
            lines = split_save(nft.saved(netns, f"{tool}-nft-save"))
            for place, numbers in handles.items():
                if len(numbers) == len(lines.get(place, ())):
                    by_handle.update(((family, *place, handle), parse_line(line))
                                     for handle, line in zip(numbers, lines[place], strict=True))
        if legacy:
            saved = nft.saved(netns, f"{tool}-legacy-save")
            for (table, chain), rules in split_save(saved).items():
                by_number |= {(family, table, chain, n): parse_line(line) for n, line in enumerate(rules, 1)}
            policies |= {(family, *chain): policy for chain, policy in split_policies(saved).items()}
    return RuleBook(netns, by_handle, by_number, nft.base_chains(netns), policies)


def split_save(text: str) -> dict[tuple[str, str], list[str]]:
    """Return the rule lines of iptables-save output, without `-A CHAIN`, by (table, chain)."""
    rules: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A "):
            _, chain, rest = (line + " ").split(" ", 2)
            rules.setdefault((table, chain), []).append(rest.strip())
    return rules


def split_policies(text: str) -> dict[tuple[str, str], str]:
    """Return the policies of base chains in iptables-save output, by (table, chain)."""
    found = {}
    for part in re.split(r"^\*", text, flags=re.MULTILINE)[1:]:
        table = part.split(maxsplit=1)[0]
        found.update({(table, chain): policy for chain, policy in re.findall(r"^:(\S+) ([A-Z]+) ", part, re.MULTILINE)})
    return found


_TARGET = re.compile(r"(?:^|\s)-[jg] (\S+)")


def parse_line(line: str) -> RuleText:
    """Pick a rule line's comment and target."""
    comment = ""
    if "--comment " in line:
        try:
            words = shlex.split(line)
            comment = words[words.index("--comment") + 1]
        except (ValueError, IndexError):
            comment = ""
    found = _TARGET.search(line)
    return RuleText(line, comment, found[1] if found else "")
