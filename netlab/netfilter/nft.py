"""nftables tables as values, read from the text that `nft list` prints and `nft -f` reads. Pure.

Only blocks are taken apart: tables, chains with their rules, sets and maps with their elements. A rule stays in nft's
words, without what changes by itself (counters, handles) and without its comment, which are fields of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from netlab.errors import UsageError

_COUNTER = re.compile(r"\bcounter packets (\d+) bytes (\d+)")
_COMMENT = re.compile(r' ?comment "((?:[^"\\]|\\.)*)"')
_HANDLE = re.compile(r" # handle (\d+)$")
_TIMES = re.compile(r" (?:timeout|expires) \S+")
_VERDICT = re.compile(r"\b(?:goto|jump) (\S+?)(?=[,\s}]|$)")
_HOOK = re.compile(r"type (\S+) hook (\S+)(?: devices? (?:= \{[^}]*\}|\S+))? priority ([^;]+);(?: policy (\w+);)?")
_HEAD = re.compile(r"(table|chain|set|map) (?:(ip|ip6|inet|arp|bridge|netdev) )?(\S+) \{(?: # handle \d+)?$")
_HEX = re.compile(r"\b0x0*([0-9a-f]+)\b")


class NotNft(UsageError):
    """The text is not what `nft list` prints. `line` counts from 1."""

    def __init__(self, line: int, text: str, why: str) -> None:
        super().__init__(f"line {line} is not text of nft list: {why}: {text!r}")
        self.line = line


@dataclass(frozen=True, slots=True)
class NftRule:
    """One rule in nft's words. `packets` is None where the rule has no counter; `handle` 0 where the text told none."""

    chain: str
    text: str
    comment: str = ""
    handle: int = 0
    packets: int | None = None
    bytes: int = 0

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the chains that the rule itself leads to; those behind a named map are that map's."""
        return tuple(dict.fromkeys(_VERDICT.findall(self.text)))

    @property
    def line(self) -> str:
        """Return the rule as one would write it, comment included."""
        return f'{self.text} comment "{self.comment}"' if self.comment else self.text


@dataclass(frozen=True, slots=True)
class NftChain:
    """A chain. `hook` is such as prerouting, "" for one that is only jumped to; `priority` in nft's words."""

    name: str
    rules: tuple[NftRule, ...] = ()
    type: str = ""
    hook: str = ""
    priority: str = ""
    policy: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class NftElement:
    """One element. `value` is what a map says of the key: a verdict such as `goto X`, or data; "" in a set."""

    key: str
    value: str = ""
    comment: str = ""
    packets: int | None = None

    @property
    def target(self) -> str:
        """Return the chain that it leads to, "" for another verdict."""
        verb, _, chain = self.value.partition(" ")
        return chain if verb in ("goto", "jump") else ""


@dataclass(frozen=True, slots=True)
class NftSet:
    """A named set (`word` is set) or map (map), with its elements by key in the text's order."""

    name: str
    word: str
    type: str = ""
    elements: Mapping[str, NftElement] = field(default_factory=dict)
    comment: str = ""


@dataclass(frozen=True)
class NftTable:
    """One table of one family (`ip`, `ip6`, `inet`, ...)."""

    family: str
    name: str
    chains: Mapping[str, NftChain] = field(default_factory=dict)
    sets: Mapping[str, NftSet] = field(default_factory=dict)

    def chain(self, name: str) -> NftChain:
        """Return a chain, an empty one when it is not there."""
        return self.chains.get(name) or NftChain(name)

    def elements(self, name: str) -> Mapping[str, NftElement]:
        """Return the elements of a set or map, none when it is not there."""
        found = self.sets.get(name)
        return found.elements if found else {}

    def rules(self) -> Iterator[NftRule]:
        """Yield every rule, chain after chain."""
        for chain in self.chains.values():
            yield from chain.rules

    def callers(self) -> dict[str, list[str]]:
        """Return for each chain who leads to it: `chain X rule 2`, or `map M` once however many elements do."""
        found: dict[str, dict[str, None]] = {}
        for chain in self.chains.values():
            for number, rule in enumerate(chain.rules, 1):
                for target in rule.targets:
                    found.setdefault(target, {})[f"chain {chain.name} rule {number}"] = None
        for each in self.sets.values():
            for element in each.elements.values():
                if element.target:
                    found.setdefault(element.target, {})[f"map {each.name}"] = None
        return {name: list(listed) for name, listed in found.items()}


def looks_like(text: str) -> bool:
    """Tell whether a text is nft's rather than iptables-save's."""
    return bool(re.search(r"^table (?:(?:ip|ip6|inet|arp|bridge|netdev) )?\S+ \{", text, re.MULTILINE))


def parse(text: str) -> tuple[NftTable, ...]:
    """Return the tables of a listing.

    Raises:
        NotNft: a line stands where none can, or a block does not end.
    """
    found: list[NftTable] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        said = line.strip()
        if not said or said.startswith(("#", "add table", "delete table", "destroy table", "flush ruleset")):
            continue
        head = _HEAD.fullmatch(said)
        if head is None or head[1] != "table":
            raise NotNft(number, said, "want a table")
        found.append(_table(head[2] or "ip", head[3], number, lines))
    return tuple(found)


def _table(family: str, name: str, start: int, lines: Iterator[tuple[int, str]]) -> NftTable:
    chains: dict[str, NftChain] = {}
    sets: dict[str, NftSet] = {}
    for _, line in lines:
        said = line.strip()
        if said == "}":
            return NftTable(family, name, chains, sets)
        head = _HEAD.fullmatch(said)
        if head and head[1] == "chain":
            chains[head[3]] = _chain(head[3], start, lines)
        elif head and head[1] in ("set", "map"):
            sets[head[3]] = _set(head[3], head[1], start, lines)
        elif said.endswith("{"):  # a flowtable, a counter, a helper: no way of a packet is decided there
            _skip(start, lines)
    raise NotNft(start, f"table {family} {name}", "its block does not end")


def _skip(start: int, lines: Iterator[tuple[int, str]]) -> None:
    depth = 1
    for _, line in lines:
        depth += line.count("{") - line.count("}")
        if depth <= 0:
            return
    raise NotNft(start, "", "a block does not end")


def _chain(name: str, start: int, lines: Iterator[tuple[int, str]]) -> NftChain:
    rules: list[NftRule] = []
    kind = hook = priority = policy = said = ""
    for _, line in lines:
        text = line.strip()
        if text == "}":
            return NftChain(name, tuple(rules), kind, hook, priority, policy, said)
        if base := _HOOK.match(text):
            kind, hook, priority, policy = base[1], base[2], base[3], base[4] or "accept"
        elif text.startswith('comment "') and not rules:
            said = text.removeprefix('comment "').rstrip('";')
        elif text and not text.startswith("#"):
            rules.append(rule(name, text))
    raise NotNft(start, f"chain {name}", "its block does not end")


def rule(chain: str, text: str) -> NftRule:
    """Return a rule from its line in a listing."""
    handle, packets, count, comment = 0, None, 0, ""
    if "# handle" in text and (found := _HANDLE.search(text)):
        handle, text = int(found[1]), text[:found.start()]
    if "counter packets" in text and (found := _COUNTER.search(text)):
        packets, count = int(found[1]), int(found[2])
        text = text[:found.start()] + "counter" + text[found.end():]
    if 'comment "' in text and (found := _COMMENT.search(text)):
        comment, text = found[1], text[:found.start()] + text[found.end():]
    return NftRule(chain, text.strip(), comment, handle, packets, count)


def _set(name: str, word: str, start: int, lines: Iterator[tuple[int, str]]) -> NftSet:
    kind = comment = ""
    found: Mapping[str, NftElement] = {}
    for _, line in lines:
        text = line.strip()
        if text == "}":
            return NftSet(name, word, kind, found, comment)
        if text.startswith("type "):
            kind = text.removeprefix("type ").rstrip(";").strip()
        elif text.startswith("comment "):
            comment = text.removeprefix('comment "').rstrip('";')
        elif text.startswith("elements = {"):
            body = [text.removeprefix("elements = {")]
            while not body[-1].endswith("}"):
                _, more = next(lines, (0, "}"))
                body.append(more.strip())
            found = elements(" ".join(body)[:-1])
    raise NotNft(start, f"{word} {name}", "its block does not end")


def elements(text: str) -> dict[str, NftElement]:
    """Return what stands between the braces of a set or map, by key."""
    return {each.key: each for part in _parts(text) if (each := _element(part)).key}


def _parts(text: str) -> Sequence[str]:
    """Part a list at its commas; those in quotes and braces are none."""
    if '"' not in text and "{" not in text:
        return [part.strip() for part in text.split(",")]
    parts, depth, quoted, begin = [], 0, False, 0
    for at, sign in enumerate(text):
        if sign == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif sign in "{}":
            depth += 1 if sign == "{" else -1
        elif sign == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [*parts, text[begin:].strip()]


def _element(text: str) -> NftElement:
    comment, packets = "", None
    if 'comment "' in text and (found := _COMMENT.search(text)):
        comment, text = found[1], text[:found.start()] + text[found.end():]
    if "counter packets" in text and (found := _COUNTER.search(text)):
        packets, text = int(found[1]), (text[:found.start()] + text[found.end():]).replace("  ", " ")
    if "timeout" in text or "expires" in text:
        text = _TIMES.sub("", text)
    key, _, value = text.partition(" : ")
    return NftElement(key.strip(), value.strip(), comment, packets)


@lru_cache(maxsize=65536)
def meaning(text: str) -> str:
    """Return what a rule does in one spelling: versions of nft differ in numbers and in the words around marks.

    Comments and counters are no part of it.
    """
    said = _HEX.sub(lambda found: f"0x{found[1]}", _COMMENT.sub("", text))
    said = re.sub(r"\bcounter(?: packets \d+ bytes \d+)?\s*", "", said)
    said = re.sub(r"(?<!meta )\bmark (?=set|and|or|xor|[&|^!=]|0x)", "meta mark ", said)
    for old, new in ((" and ", " & "), (" or ", " | "), (" xor ", " ^ ")):
        said = said.replace(old, new)
    said = re.sub(r"meta mark & (0x\w+) == \1", r"meta mark & \1 != 0x0", said)
    return " ".join(said.split())


_NUMGEN = re.compile(r"numgen (random|inc) mod (\d+)(?: offset \d+)? (?:v?map) \{ (.*) \}")


def dice(text: str) -> tuple[tuple[str, float], ...]:
    """Return what a rule's dice choose from, each with its part from 0 to 1; () for a rule without dice.

    A choice is a chain's name, or an address in nft's words, `10.244.1.5 . 8080`.
    """
    found = _NUMGEN.search(text)
    if found is None:
        return ()
    count = int(found[2])
    parts: dict[str, float] = {}
    for each in found[3].split(", "):
        key, _, value = each.partition(" : ")
        low, _, high = key.partition("-")
        weight = (int(high) - int(low) + 1 if high.isdigit() else 1) / count
        name = value.removeprefix("goto ").removeprefix("jump ").strip()
        parts[name] = parts.get(name, 0.0) + weight
    return tuple(parts.items())


def joined(text: str) -> str:
    """Return `10.244.1.5:8080` for `10.244.1.5 . 8080`, `[fd00::5]:8080` for IPv6; other text unchanged."""
    address, dot, port = text.partition(" . ")
    if not dot:
        return text
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
