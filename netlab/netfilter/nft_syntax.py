"""nft's language as values: expressions that a packet is asked for, and the statements of a rule. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab.netfilter.nft import NftElement

# --- expressions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Select:
    """What a packet, its connection or the routes are asked: `ip daddr`, `ct original ip saddr`, `fib daddr type`."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Constant:
    """A word that is a value; its type is that of what it is compared with."""

    word: str


@dataclass(frozen=True)
class Binary:
    """`left & right`, and so on: `&`, `|`, `^`, `<<`, `>>`."""

    op: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Concat:
    """`ip saddr . tcp dport`."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Dice:
    """`numgen random mod N`, `numgen inc mod N`, `symhash mod N`: any number below `count`, from `offset` on."""

    count: int
    offset: int = 0


@dataclass(frozen=True)
class Hash:
    """`jhash KEY mod N seed S offset O`; `seed` None where the kernel chose one and keeps it to itself."""

    key: Expression
    count: int
    seed: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Where:
    """A set or map: a named one, or one of the rule's own with its elements."""

    name: str = ""
    elements: Mapping[str, NftElement] | None = None


@dataclass(frozen=True)
class Mapped:
    """`KEY map { ... }`."""

    key: Expression
    where: Where


Expression = Select | Constant | Binary | Concat | Dice | Hash | Mapped


# --- statements ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """`left op right`; `op` "" for nft's own choice. `right` is a value, or a set. `mask`: of `flags VALUE / MASK`."""

    left: Expression
    op: str
    right: Expression | Where
    mask: Constant | None = None
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class Verdict:
    """accept, drop, continue, return, jump, goto."""

    verb: str
    chain: str = ""


@dataclass(frozen=True)
class VerdictMap:
    """`KEY vmap ...`."""

    key: Expression
    where: Where
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class SetMark:
    """`meta mark set ...` or `ct mark set ...`."""

    of: str
    value: Expression
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class Nat:
    """dnat, snat, masquerade, redirect. `to` is an address, an address with a port, or a map that gives them.

    `family` is 4 or 6, 0 where nothing says it; `port` is `80` or `80-90`, or a map that gives it.
    """

    verb: str
    family: int = 0
    to: Expression | None = None
    port: str | Expression = ""
    flags: frozenset[str] = frozenset()
    prefix: bool = False
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class Reject:
    """`reject with ...`: `kind` as nft says it, such as `icmp host-unreachable` or `tcp reset`; "" without words."""

    kind: str = ""


@dataclass(frozen=True)
class Update:
    """`add`, `update` or `delete` of an element of a set; `more` are words on a limit or counter of the element's."""

    verb: str
    name: str
    key: Expression
    more: str = ""


@dataclass(frozen=True)
class NoTrack:
    """`notrack`."""


@dataclass(frozen=True)
class Harmless:
    """A statement that moves no packet: counter, log, and so on."""

    words: str


@dataclass(frozen=True)
class Unsaid:
    """Words that are not known here, or ask what nobody here can tell. `stops`: they may end the packet's way."""

    words: str
    stops: bool = False


Statement = Match | Verdict | VerdictMap | SetMark | Nat | Reject | Update | NoTrack | Harmless | Unsaid
