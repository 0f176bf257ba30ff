"""The base chains of all tables in the order in which the kernel asks them at a hook. Pure.

Chains run by priority, whoever made them; of two with the same one the newer runs first (nf_hook_entries_grow inserts
before its equals). All nat chains run at one place, where nat has its own hook, in the order of their priorities, until
one of them has decided about the connection (nf_nat_inet_fn).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from netlab.netfilter import walk
from netlab.netfilter.going import Outcome, Walking
from netlab.netfilter.matching import Host
from netlab.netfilter.model import HOOKS, Ruleset

if TYPE_CHECKING:
    from netlab.netfilter.nft_eval import Book

CONNTRACK: Final = -200
"""Where a packet gets its connection; chains up to here see none (NF_IP_PRI_CONNTRACK, asked after its equals)."""

_NAMED: Final = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_HOOKS: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_NAT: Final = {"PREROUTING": -100, "OUTPUT": -100, "INPUT": 100, "POSTROUTING": 100}

Run = Callable[[Walking, Host], Iterator[Outcome]]


@dataclass(frozen=True)
class BaseChain:
    """One base chain: `table` and `name` as a trace says them, and how a packet is led through it."""

    table: str
    name: str
    run: Run


@dataclass(frozen=True)
class Station:
    """What runs at one place of a hook. `kind` is filter, nat, or route: what it changes is routed again."""

    priority: int
    kind: str
    chains: tuple[BaseChain, ...] = ()


@dataclass(frozen=True)
class Beside:
    """What a namespace has beside one set of iptables' tables.

    `others` are iptables' tables of the other backend, `books` nftables' own tables. `created` are the names of all
    tables of nftables, `ip filter`, the oldest first.
    """

    others: tuple[Ruleset, ...] = ()
    books: tuple[Book, ...] = ()
    created: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Found:
    priority: int
    age: tuple[int, int]
    kind: str
    chain: BaseChain
    idle: bool = False


@dataclass
class Order:
    """All base chains of one namespace and family (4, 6), by hook."""

    rules: Ruleset
    family: int
    beside: Beside = field(default_factory=Beside)
    _kept: dict[str, tuple[Station, ...]] = field(default_factory=dict)

    def at(self, hook: str) -> tuple[Station, ...]:
        """Return what runs at a hook (PREROUTING, ...), in order; where nat has its hook, always a station for it."""
        if hook not in self._kept:
            found = sorted(
                (*self._iptables(hook), *self._native(hook)),
                key=lambda each: (each.priority, [-part for part in each.age]),
            )
            stations = [Station(each.priority, each.kind, (each.chain,)) for each in found if each.kind != "nat"]
            if hook in _NAT:
                nat = Station(_NAT[hook], "nat", tuple(each.chain for each in found if each.kind == "nat"))
                after = next((at for at, each in enumerate(stations) if each.priority > nat.priority), len(stations))
                stations.insert(after, nat)
            self._kept[hook] = tuple(stations)
        return self._kept[hook]

    def ties(self) -> tuple[str, ...]:
        """Return the hooks at which the order is not known, in words.

        nftables' tables tell their age, those of iptables-legacy do not: they came when they were first asked for.
        """
        told: dict[str, None] = {}
        for hook in _HOOKS:
            found = [each for each in (*self._iptables(hook), *self._native(hook)) if not each.idle]
            dated = {each.priority for each in found if each.age[0] >= 0}
            told |= dict.fromkeys(f"{hook} of iptables-legacy's {each.chain.table} and of nftables have one priority, "
                                  "and the kernel does not tell which is asked first"
                                  for each in found if each.age[0] < 0 and each.priority in dated)
        return tuple(told)

    def _iptables(self, hook: str) -> Iterator[_Found]:
        for which, rules in enumerate((self.rules, *self.beside.others)):
            for table, hooks in HOOKS.items():
                if hook not in hooks or hook not in rules.table(table).chains:
                    continue
                priority = _NAT[hook] if table == "nat" else _NAMED[table]
                kind = "nat" if table == "nat" else "route" if (table, hook) == ("mangle", "OUTPUT") else "filter"
                age = self._age(f"{'ip' if self.family == 4 else 'ip6'} {table}") if which == 0 else -1
                chain = rules.table(table).chains[hook]
                yield _Found(priority, (age, 0), kind, BaseChain(table, hook, _through(rules, table, hook)),
                             idle=not chain.rules and chain.policy != "DROP")

    def _native(self, hook: str) -> Iterator[_Found]:
        wanted = ("ip" if self.family == 4 else "ip6", "inet")
        for book in self.beside.books:
            table = book.table
            for number, chain in enumerate(table.chains.values()):
                if chain.hook.upper() == hook and table.family in wanted:
                    yield _Found(
                        priority(chain.priority),
                        (self._age(f"{table.family} {table.name}"), number),
                        chain.type,
                        BaseChain(table.name, chain.name, _native_run(book, chain.name)),
                        idle=not chain.rules and chain.policy != "drop",
                    )

    def _age(self, name: str) -> int:
        return self.beside.created.index(name) if name in self.beside.created else -1


def not_known(rules: Ruleset | None, family: int, beside: Beside) -> tuple[str, ...]:
    """Return words for what a walk through a namespace's rules of one family does not know."""
    return (*not_followed(beside), *Order(rules or Ruleset(), family, beside).ties())


def not_followed(beside: Beside) -> tuple[str, ...]:
    """Return words for those of nftables' tables whose family is not followed, and chains whose hook is not."""
    tables = (f"the nftables table {name} is not followed here" for name in beside.created
              if name.startswith(("bridge ", "netdev ")))
    chains = (f"the chain {chain.name} of the nftables table {book.table.family} {book.table.name} is not followed "
              f"here: its hook is {chain.hook}" for book in beside.books for chain in book.table.chains.values()
              if book.table.family == "inet" and chain.hook in ("ingress", "egress"))
    return (*tables, *chains)


def _through(rules: Ruleset, table: str, hook: str) -> Run:
    return lambda going, host: walk.through(rules, table, hook, going, host)


def _native_run(book: Book, name: str) -> Run:
    from netlab.netfilter import nft_walk  # where there are nftables only: it takes as long to import as all the rest

    return lambda going, host: nft_walk.base_chain(book, name, going, host)


def priority(text: str) -> int:
    """Return a priority in nft's words, `dstnat - 10`, as a number."""
    found = re.fullmatch(r"([a-z]+)?\s*([+-]?)\s*(\d+)?", text.strip())
    if found is None or (found[1] and found[1] not in _NAMED):
        return 0
    number = int(found[3] or 0)
    return _NAMED.get(found[1] or "", 0) + (-number if found[2] == "-" else number)


def bindings(chains: tuple[BaseChain, ...], going: Walking, host: Host) -> Iterator[Outcome]:
    """Lead the first packet of a connection through nat chains until one has decided about it."""
    if not chains:
        yield Outcome.of("PASS", going)
        return
    for each in chains[0].run(going, host):
        if each.verdict != "PASS" or each.bound:
            yield each
        else:
            yield from bindings(chains[1:], onward(each), host)


def onward(outcome: Outcome) -> Walking:
    """Return a packet that passed a chain, on its way to the next."""
    return Walking(
        outcome.packet,
        outcome.hits,
        outcome.probability,
        outcome.certain,
        outcome.doubts,
        outcome.bound,
        outcome.reject,
        outcome.learnt,
    )


__all__ = ["CONNTRACK", "BaseChain", "Beside", "Order", "Station", "bindings", "not_followed", "not_known", "onward",
           "priority"]
