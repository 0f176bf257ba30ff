"""A packet on its way through rules, and what became of it: the values of walk.py and nft_walk.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from netlab.netfilter.matching import Packet
from netlab.netfilter.model import Rule

if TYPE_CHECKING:  # many a trace meets no nftables
    from netlab.netfilter.nft import NftElement, NftRule
    from netlab.netfilter.nft_eval import Learnt

Verdict = Literal["DELIVER", "SEND", "DROP", "REJECT", "NO ROUTE", "PASS"]
"""What becomes of a packet: handed to a socket of this host, sent out, one of three ways to die; or past a chain."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that a packet matched. `number` counts from 1 in its chain, as `iptables -L --line-numbers` does.

    With `sure` False it may have matched, and nothing depends on it: a LOG with a limit.
    """

    table: str
    chain: str
    number: int
    rule: Rule
    sure: bool = True


@dataclass(frozen=True, slots=True)
class NftHit:
    """A rule of nftables that a packet matched. `verdict` as a kernel's trace has it, `element` what its map said.

    `target` is the chain that it led to, or what nat or reject did.
    """

    table: str
    chain: str
    rule: NftRule
    verdict: str
    target: str = ""
    element: NftElement | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way that a packet may go. `packet` is what it is in the end, `where` the table and chain that killed it.

    `probability` is that of this way among all; `certain` is False when a rule on the way could not be judged, and
    `doubts` say which. `bound` tells that a rule decided about the connection's addresses, `reject` how REJECT
    answers, in iptables' words. `learnt` are the elements that rules added to nftables' sets.
    """

    verdict: Verdict
    packet: Packet
    hits: tuple[Hit | NftHit, ...] = ()
    probability: float = 1.0
    certain: bool = True
    where: str = ""
    doubts: tuple[str, ...] = ()
    bound: bool = False
    reject: str = ""
    learnt: frozenset[Learnt] = frozenset()

    @classmethod
    def of(cls, verdict: Verdict, going: Walking, where: str = "") -> Outcome:
        """Return how a packet on its way ended."""
        return cls(verdict, going.packet, going.hits, going.probability, going.certain, where, going.doubts,
                   going.bound, going.reject, going.learnt)

    @property
    def chains(self) -> tuple[str, ...]:
        """Return the chains whose rules were hit, in order, each once."""
        return tuple(dict.fromkeys(hit.chain for hit in self.hits))


@dataclass(frozen=True, slots=True)
class Walking:
    """A packet on its way through a table."""

    packet: Packet
    hits: tuple[Hit | NftHit, ...] = ()
    probability: float = 1.0
    certain: bool = True
    doubts: tuple[str, ...] = ()
    bound: bool = False
    reject: str = ""
    learnt: frozenset[Learnt] = frozenset()

    def doubtful(self, words: str, table: str, chain: str) -> Walking:
        """Return this with a doubt: words of a rule that could not be judged."""
        said = f"{words} ({table} {chain})"
        return replace(self, certain=False, doubts=self.doubts if said in self.doubts else (*self.doubts, said))
