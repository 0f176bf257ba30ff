"""From what should be to restore texts: all of it, or only what changed since the last one.

A text is cut into transactions of some hundred chains, because the nft backend is quadratic in the size of one. The
order keeps every Service whole at every moment: a chain comes after those it jumps to, KUBE-SERVICES after all of
them, and chains that nobody needs any more are deleted at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netlab.netfilter import normalise
from netlab.netfilter.model import HOOKS, Chain, Rule, Ruleset, Table
from netlab.proxy import layout, names
from netlab.proxy.rules import Block, TableChain
from netlab.proxy.settings import Settings

PIECE = 400
"""Chains of one transaction: past this, the nft backend's cost per chain grows (1.1 s against 14 s for 20,000)."""


def piece_size(there: int) -> int:
    """Return how many chains to put into one transaction of the nft backend when a table has that many already.

    Each transaction first reads the names of all chains, and its own part costs the square of its size: what is
    cheapest together grows with the root (20,000 chains written again: 3.4 s by 400, 2.3 s by 1,100).
    """
    return max(PIECE, round(8 * math.sqrt(there)))

_FIRST = ("nat", names.MARK_MASQ)
"""The shared chain that chains of Services jump to."""

_WORTH_EDITING = 64
"""Rules from which on a shared chain is edited in place: at 5,000 rules an edit takes 0.1 s, writing it anew 1.4 s."""

_CALLING_ORDER = ("KUBE-FW-", "KUBE-EXT-", names.FORMER_EXTERNAL, "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-")


@dataclass(frozen=True)
class Edit:
    """Rules of a chain that go, and rules that come on its top."""

    removed: tuple[Rule, ...]
    added: tuple[Rule, ...]


@dataclass(frozen=True)
class Change:
    """What to write. `chains` are chains of Services in nat, as lines, dependencies first; `shared` whole shared ones.

    `edits` are changes inside a long shared chain. `stale` are chains of nat to delete. `inserts` are jumps to put on
    top of built-in chains, given from top to bottom. `missing` are chains that have to exist and whose rules are not
    ours to touch.
    """

    chains: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[TableChain, tuple[Rule, ...]] = field(default_factory=dict)
    edits: Mapping[TableChain, Edit] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    inserts: Mapping[TableChain, tuple[Rule, ...]] = field(default_factory=dict)
    missing: tuple[TableChain, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.chains or self.shared or self.edits or self.stale or self.inserts or self.missing)

    def rules(self, table: str) -> int:
        """Return how many rules of a table are written."""
        count = sum(len(rules) for (owner, _), rules in self.shared.items() if owner == table)
        count += sum(len(edit.added) for (owner, _), edit in self.edits.items() if owner == table)
        return count + (sum(map(_count, self.chains.values())) if table == "nat" else 0)


class Wanted:
    """The rules that a node should have, Service by Service, and which of them changed since they were last taken."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._blocks: dict[str, tuple[Block, ...]] = {}
        self._before: dict[str, tuple[Block, ...]] = {}
        self._shared: dict[TableChain, tuple[Rule, ...]] = {}

    def set(self, service: str, blocks: Sequence[Block]) -> None:
        """Say what a Service needs, one block per port; none when it is gone."""
        self._before.setdefault(service, self._blocks.get(service, ()))
        if blocks:
            self._blocks[service] = tuple(blocks)
        else:
            self._blocks.pop(service, None)

    def services(self) -> Iterable[str]:
        """Return the keys of the Services that need something."""
        return self._blocks.keys()

    def blocks_of(self, services: Iterable[str]) -> Iterator[Block]:
        """Yield the blocks of some Services."""
        for service in services:
            yield from self._blocks.get(service, ())

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks of all Services, in a stable order."""
        for service in sorted(self._blocks):
            yield from self._blocks[service]

    def shared(self) -> dict[TableChain, tuple[Rule, ...]]:
        """Return the shared chains as they should be now."""
        found: dict[TableChain, list[Rule]] = {place: [] for place in layout.SHARED}
        for place, rule in layout.fixed_rules(self.settings):
            found.setdefault(place, []).append(rule)
        for block in self.blocks():
            for place, rule in block.shared:
                found[place].append(rule)
        found["nat", names.SERVICES] += layout.node_port_tail(self.settings)
        last = ("nat", names.SERVICES)
        return {place: tuple(found[place]) for place in (*(p for p in found if p != last), last)}

    def take_changes(self) -> Change:
        """Return what changed since the last take, for a kernel that holds what was taken so far."""
        before, self._before = self._before, {}
        chains: dict[str, str] = {}
        stale: list[str] = []
        again = not self._shared
        for service, old_blocks in before.items():
            new_blocks = self._blocks.get(service, ())
            old = _chains(old_blocks)
            new = _chains(new_blocks)
            chains |= {name: lines for name, lines in new.items() if old.get(name) != lines}
            stale += [name for name in old if name not in new]
            again = again or [b.shared for b in old_blocks] != [b.shared for b in new_blocks]
        if not again:
            return Change(chains, stale=tuple(stale))
        former, self._shared = self._shared, self.shared()
        changed = {place: rules for place, rules in self._shared.items() if former.get(place) != rules}
        edits = {place: edit for place, rules in changed.items() if (edit := edit_of(former.get(place, ()), rules))}
        rewritten = {place: rules for place, rules in changed.items() if place not in edits}
        return Change(chains, rewritten, edits, tuple(stale))

    def take_all(self, kernel: Ruleset) -> Change:
        """Return everything, for a kernel that holds `kernel` (only names of chains and built-in chains are read)."""
        self._before = {}
        self._shared = self.shared()
        chains = _chains(self.blocks())
        return Change(chains, dict(self._shared), stale=tuple(stale_chains(kernel, chains)),
                      inserts=dict(missing_jumps(kernel)), missing=tuple(missing_chains(kernel, self._shared)))

    def rules(self, table: str) -> int:
        """Return how many rules of a table the node should have, jumps in built-in chains not counted."""
        count = sum(len(rules) for (owner, _), rules in self._shared.items() if owner == table)
        if table == "nat":
            count += sum(_count(lines) for block in self.blocks() for lines in block.chains.values())
        return count


def _chains(blocks: Iterable[Block]) -> dict[str, str]:
    return {name: lines for block in blocks for name, lines in block.chains.items()}


def _count(lines: str) -> int:
    """Return how many rules some lines write; there is no chain of a Service without any."""
    return lines.count("\n") + 1


def edit_of(before: Sequence[Rule], after: Sequence[Rule]) -> Edit | None:
    """Return how to make one state of a chain out of another by a few rules; None when writing it anew is better.

    The order of Services in a shared chain is free, so what comes is put on top. The last rule stays the last.
    """
    if len(after) < _WORTH_EDITING or not before or before[-1] != after[-1]:
        return None
    old, new = dict.fromkeys(before), dict.fromkeys(after)
    removed = tuple(rule for rule in old if rule not in new)
    added = tuple(rule for rule in new if rule not in old)
    few = len(removed) + len(added) <= len(after) // 8
    return Edit(removed, added) if few and len(old) == len(before) and len(new) == len(after) else None


def stale_chains(kernel: Ruleset, wanted: Mapping[str, object]) -> Iterator[str]:
    """Yield the Services' chains in nat that nothing needs."""
    for name in kernel.table("nat").chains:
        if name.startswith(names.SERVICE_PREFIXES) and name not in wanted:
            yield name


def missing_jumps(kernel: Ruleset) -> Iterator[tuple[TableChain, tuple[Rule, ...]]]:
    """Yield the jumps that built-in chains lack."""
    for (table, chain), jumps in layout.JUMPS.items():
        there = {normalise.canonical(rule) for rule in kernel.chain(table, chain).rules}
        lacking = tuple(rule for rule in jumps if normalise.canonical(rule) not in there)
        if lacking:
            yield (table, chain), lacking


def missing_chains(kernel: Ruleset, shared: Mapping[TableChain, object]) -> Iterator[TableChain]:
    """Yield the canaries that are gone, and KUBE-FIREWALL where only the kubelet writes it and has not done so."""
    wanted = [(table, names.CANARY) for table in layout.CANARY_TABLES]
    wanted.append(("filter", names.KUBELET_FIREWALL))
    for table, chain in wanted:
        if (table, chain) not in shared and chain not in kernel.table(table).chains:
            yield table, chain


def texts(change: Change, *, size: int = PIECE) -> Iterator[str]:
    """Yield the transactions of a change, one per table at a time, in the order in which they have to run."""
    head: dict[str, list[str]] = {}
    for table, chain in change.missing:
        head.setdefault(table, []).append(f":{chain} - [0:0]")
    for table in ("mangle",):  # no rule of ours ever goes there: the canary comes alone
        if table in head:
            yield _transaction(table, head.pop(table), ())
    own, shared = dict(change.chains), dict(change.shared)
    if _FIRST in shared:
        own = {_FIRST[1]: _text(shared.pop(_FIRST)), **own}
    names_ = list(own)
    while len(names_) > size:
        piece, names_ = names_[:size], names_[size:]
        yield _transaction("nat", [f":{name} - [0:0]" for name in piece],
                           (own[name] for name in piece))
    stale = sorted(change.stale, key=_callers_first)
    with_last = stale if len(names_) + len(stale) <= size else []
    for table in ("filter", "nat"):
        heads = head.get(table, [])
        heads += [f":{name} - [0:0]" for owner, name in shared if owner == table]
        body = [rule.text for (owner, _), rules in shared.items() if owner == table for rule in rules]
        body += [f"-I {rule.chain} {at} {rule.text.partition(' ')[2].partition(' ')[2]}"
                 for (owner, _), rules in change.inserts.items() if owner == table for at, rule in enumerate(rules, 1)]
        for (owner, _), edit in change.edits.items():
            if owner == table:
                body += [f"-D {rule.text[3:]}" for rule in edit.removed]
                body += [f"-I {rule.chain} 1 {rule.text.removeprefix(f'-A {rule.chain} ')}" for rule in edit.added]
        if table == "nat":
            heads = [f":{name} - [0:0]" for name in (*names_, *with_last)] + heads
            body = [own[name] for name in names_] + body
            body += [f"-X {name}" for name in with_last]
        if heads or body:
            yield _transaction(table, heads, body)
    if not with_last:
        for at in range(0, len(stale), size):
            piece = stale[at:at + size]
            yield _transaction("nat", [f":{name} - [0:0]" for name in piece], (f"-X {name}" for name in piece))


def opening(settings: Settings) -> str:
    """Return the lines of nat's chain that chains of Services jump to, which has to come before them."""
    return _lines({place[1]: rule.text for place, rule in layout.fixed_rules(settings) if place == _FIRST})


def service_lines(blocks: Iterable[Block]) -> tuple[str, int]:
    """Return the lines of nat for the own chains of some Service ports, each behind those it jumps to; and how many."""
    chains = _chains(blocks)
    return _lines(chains), len(chains)


def transaction(table: str, lines: str) -> str:
    """Return lines as one transaction."""
    return f"*{table}\n{lines}COMMIT\n"


def closing_texts(change: Change) -> Iterator[str]:
    """Yield what is left to write of all rules when the own chains of all Services are written; nat comes first."""
    shared = {place: rules for place, rules in change.shared.items() if place != _FIRST}
    rest = list(texts(replace(change, chains={}, shared=shared), size=len(change.stale) + 1))
    yield from sorted(rest, key=lambda text: not text.startswith("*nat"))


def _lines(chains: Mapping[str, str]) -> str:
    return "".join([f":{name} - [0:0]\n{lines}\n" for name, lines in chains.items()])


def _text(rules: Iterable[Rule]) -> str:
    return "\n".join(rule.text for rule in rules)


def deletions(change: Change) -> Iterator[str]:
    """Yield a transaction for each stale chain alone: one that a foreign rule holds then keeps no other in place."""
    for name in sorted(change.stale, key=_callers_first):
        yield _transaction("nat", [f":{name} - [0:0]"], [f"-X {name}"])


def _callers_first(chain: str) -> int:
    """Sort chains so that each comes before those that it jumps to: what is jumped to cannot be deleted."""
    return next((at for at, prefix in enumerate(_CALLING_ORDER) if chain.startswith(prefix)), 0)


def _transaction(table: str, heads: Iterable[str], body: Iterable[str]) -> str:
    return "\n".join((f"*{table}", *heads, *body, "COMMIT\n"))


def whole(wanted: Wanted) -> Ruleset:
    """Return the tables of a node that has nothing but these rules, its built-in chains and canaries included."""
    shared = wanted.shared()
    tables: dict[str, Table] = {}
    for table in layout.CANARY_TABLES:
        chains = {hook: Chain(hook, layout.JUMPS.get((table, hook), ()), "ACCEPT") for hook in HOOKS[table]}
        chains[names.CANARY] = Chain(names.CANARY)
        if table == "filter":
            chains[names.KUBELET_FIREWALL] = Chain(names.KUBELET_FIREWALL)
        if table == "nat":
            chains |= {name: Chain(name, rules) for block in wanted.blocks() for name, rules in block.rules()}
        chains |= {name: Chain(name, rules) for (owner, name), rules in shared.items() if owner == table}
        tables[table] = Table(table, chains)
    return Ruleset(tables)
