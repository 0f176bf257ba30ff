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
    """The rules of one namespace, by what a trace calls them."""

    by_handle: Mapping[tuple[int, str, str, int], RuleText] = field(default_factory=dict)
    by_number: Mapping[tuple[int, str, str, int], RuleText] = field(default_factory=dict)
    hooks: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def text(self, hit: RuleHit, packet: Packet | None = None) -> RuleText:  # noqa: ARG002
        """Return the words of one hit; a rule that is gone by now is named by its number."""
        found: RuleText | None
        if hit.legacy:
            found = self.by_number.get((hit.family, hit.table, hit.chain, hit.rule))
        else:
            found = (self.by_handle.get((hit.family, hit.table, hit.chain, hit.handle))
                     or self.by_handle.get((0, hit.table, hit.chain, hit.handle)))
        number = f"rule {hit.rule}" if hit.legacy else f"handle {hit.handle}"
        return found or RuleText(f"({number}, changed since)")


def load(netns: int, *, legacy: bool = False) -> RuleBook:
    """Read the rules of one namespace. A few ms for an everyday rule set.

    Args:
        legacy: read iptables-legacy's tables too (looking creates them, so only where they were seen at work).
    """
    by_handle: dict[tuple[int, str, str, int], RuleText] = {}
    by_number: dict[tuple[int, str, str, int], RuleText] = {}
    said: set[tuple[str, str]] = set()
    for family, tool in ((socket.AF_INET, "iptables"), (socket.AF_INET6, "ip6tables")):
        handles = nft.rule_handles(netns, family)
        if handles:
            lines = split_save(nft.saved(netns, f"{tool}-nft-save"))
            unsaid = {place[0] for place in handles if len(handles[place]) != len(lines.get(place, ()))}
            name = "ip" if family == socket.AF_INET else "ip6"
            said |= {(name, table) for table, _ in handles if table not in unsaid}
            for place, numbers in handles.items():
                if len(numbers) == len(lines.get(place, ())):
                    by_handle.update(((family, *place, handle), parse_line(line))
                                     for handle, line in zip(numbers, lines[place], strict=True))
        if legacy:
            for (table, chain), rules in split_save(nft.saved(netns, f"{tool}-legacy-save")).items():
                by_number |= {(family, table, chain, n): parse_line(line) for n, line in enumerate(rules, 1)}
    texts, hooks = nft.native_rules(netns, skip=said)
    by_handle |= {(0, table, chain, handle): _native(line) for (table, chain, handle), line in texts.items()}
    return RuleBook(by_handle, by_number, hooks)


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


def _native(line: str) -> RuleText:
    for word in ("dnat", "snat", "masquerade", "redirect", "reject", "drop", "accept"):
        if re.search(rf"\b{word}\b", line):
            return RuleText(line, target=word.upper())
    return RuleText(line)
