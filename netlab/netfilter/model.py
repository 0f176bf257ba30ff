"""Rules, chains and tables as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

TARGETS = frozenset({"ACCEPT", "DROP", "RETURN", "QUEUE", "REJECT", "DNAT", "SNAT", "MASQUERADE", "REDIRECT", "MARK",
                     "CONNMARK", "LOG", "NFLOG", "TRACE", "TCPMSS", "TPROXY", "NFQUEUE", "CT", "NOTRACK", "NETMAP",
                     "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "CHECKSUM", "SET", "AUDIT", "CONNSECMARK", "SECMARK"})
"""Names that follow -j and are no chains. A user chain cannot shadow one: iptables looks for a chain first, and
refuses to create a chain with the name of a target."""

HOOKS: Mapping[str, tuple[str, ...]] = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The built-in chains of each table (iptables(8), TABLES)."""


class Rule(NamedTuple):
    """One rule: `-A chain match -j target`.

    `match` is everything before the jump, `target` what follows `-j` (or `-g` when `goto`): a chain, or a target with
    its options; "" for a rule that only counts. `packets` and `bytes` are the counters, 0 when the text had none.
    """

    chain: str
    match: str = ""
    target: str = ""
    goto: bool = False
    packets: int = 0
    bytes: int = 0

    @property
    def jump(self) -> str:
        """Return the first word of the target: a chain's name or a target's."""
        return self.target.partition(" ")[0]

    @property
    def text(self) -> str:
        """Return the rule in the words of iptables-restore, without counters."""
        words = ["-A", self.chain]
        if self.match:
            words.append(self.match)
        if self.target:
            words += ["-g" if self.goto else "-j", self.target]
        return " ".join(words)


class Chain(NamedTuple):
    """A chain and its rules in order. `policy` is ACCEPT or DROP for a built-in chain, "" for a user's."""

    name: str
    rules: tuple[Rule, ...] = ()
    policy: str = ""
    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Table:
    """A table: its chains by name, in the order of the text."""

    name: str
    chains: Mapping[str, Chain] = field(default_factory=dict)

    def rules(self) -> Iterator[Rule]:
        """Yield every rule, chain after chain."""
        for chain in self.chains.values():
            yield from chain.rules

    def callers(self) -> dict[str, list[Rule]]:
        """Return for each chain the rules that jump to it."""
        result: dict[str, list[Rule]] = {}
        for rule in self.rules():
            if rule.jump in self.chains:
                result.setdefault(rule.jump, []).append(rule)
        return result


@dataclass(frozen=True)
class Ruleset:
    """All tables of one network namespace and one address family."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    generator: str = ""
    """What wrote the text: `iptables-save v1.8.9 (nf_tables)`, or ""."""

    def table(self, name: str) -> Table:
        """Return a table, an empty one when the text had none."""
        return self.tables.get(name) or Table(name)

    def chain(self, table: str, name: str) -> Chain:
        """Return a chain, an empty one when it is not there."""
        return self.table(table).chains.get(name) or Chain(name)

    @property
    def backend(self) -> str:
        """Return `nf_tables`, `legacy`, or "" when the text does not say."""
        return self.generator.partition("(")[2].rstrip(")")
