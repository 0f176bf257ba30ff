"""What a prediction says: each way that the packet may take, with its probability, in the words of a trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from netlab.netfilter.matching import Packet as Flowing
from netlab.trace.event import Direction, Hop, Outcome
from netlab.trace.packet import ICMP, ICMPV6, SCTP, TCP, UDP, Packet
from netlab.trace.routing import Asked, Route

if TYPE_CHECKING:
    from netlab.netfilter.nft_eval import Learnt

NUMBERS: Final[Mapping[str, int]] = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6, "sctp": SCTP}
Role = Literal["request", "answer", "reset", "error"]
UNREACHABLE_PORT: Final = {4: (3, 3), 6: (1, 4)}
UNREACHABLE_HOST: Final = {4: (3, 1), 6: (1, 3)}
NO_HOST: Final = {4: (3, 1), 6: (1, 0)}
"""What an `unreachable` route is answered with; IPv6 has "no route" for it (ip6_pkt_discard)."""

NO_PROTOCOL: Final = {4: (3, 2), 6: (4, 1)}
UNREACHABLE_NET: Final = {4: (3, 0), 6: (1, 0)}
PROHIBITED: Final = {4: (3, 13), 6: (1, 1)}
EXPIRED: Final = {4: (11, 0), 6: (3, 0)}
TOO_BIG: Final = {4: (3, 4), 6: (2, 0)}

Said = tuple[int, int]
"""ICMP's type and code."""

Tuple = tuple[str, str, int, str, int]
"""Protocol, source, its port, destination, its port."""


@dataclass(frozen=True)
class Question:
    """The packet whose way is asked for: from `source`, a place, or come in there by `interface`.

    `address` and `port` are the destination, `source_address` "" what the kernel would choose. `length` in bytes with
    headers, 0 for a small one; `mark` as the packet would carry it.
    """

    source: str
    address: str
    port: int = 0
    protocol: str = "tcp"
    source_address: str = ""
    source_port: int = 0
    interface: str = ""
    mark: int = 0
    ttl: int = 64
    length: int = 0


@dataclass(frozen=True)
class Flow:
    """What one namespace's conntrack remembers: the tuple as it came, and what it was made into.

    `destined` and `sourced` tell whether its destination and its source are settled: nat chains are asked once. `mark`
    is the connection's.
    """

    original: Tuple
    now: Tuple
    destined: bool = False
    sourced: bool = False
    mark: int = 0


@dataclass(frozen=True)
class Going:
    """A packet on its way, and all that happened to it. `ended` holds the request's hops once the answer is on its way.

    `flow` is the conntrack entry in hand, `backward` whether the packet is its answer. `port` is the bridge's port that
    it came in by where br_netfilter is on. `asked` is what routing was last asked for a packet of the place's own.
    `learnt` are elements that rules added to nftables' sets, by place; `reject` is how REJECT answers. `picks` are the
    next hops that were taken of routes with several, by place, source, destination and route: what goes the same way
    again takes the same.
    """

    packet: Flowing
    role: Role = "request"
    icmp: tuple[int, int] = (0, 0)
    inner: Tuple | None = None
    hops: tuple[Hop, ...] = ()
    ended: tuple[Hop, ...] | None = None
    probability: float = 1.0
    certain: bool = True
    doubts: tuple[str, ...] = ()
    flows: Mapping[tuple[str, Tuple], Flow] = field(default_factory=dict)
    flow: Flow | None = None
    backward: bool = False
    ttl: int = 64
    length: int = 0
    tunnel: tuple[str, str, int] | None = None
    port: str = ""
    learnt: frozenset[tuple[str, Learnt]] = frozenset()
    reject: str = ""
    asked: Asked | None = None
    picks: Mapping[tuple[str, str, str, Route], Route] = field(default_factory=dict)

    @property
    def tos(self) -> int:
        """Return the type of service: ICMP errors are sent with precedence 6 (icmp_send)."""
        return 0xC0 if self.role == "error" and self.family == 4 else 0

    @property
    def turned(self) -> bool:
        """Tell whether a bridge has routed it already, as nat gave it another destination there (br_netfilter).

        IPv6 then takes the way out for the interface that it came in by (ip6_rcv_core).
        """
        if not self.port or self.flow is None:
            return False
        return self.packet.dst != (self.flow.now[1] if self.backward else self.flow.original[3])

    @property
    def direction(self) -> Direction:
        """Return which way it goes."""
        return "request" if self.ended is None else "reply"

    @property
    def family(self) -> int:
        """Return 4 or 6."""
        return 6 if ":" in self.packet.dst else 4

    @property
    def tuple(self) -> Tuple:
        """Return what conntrack knows the packet by."""
        packet = self.packet
        return packet.protocol, packet.src, packet.sport, packet.dst, packet.dport

    def seen(self) -> Packet:
        """Return the packet as a trace shows it."""
        return Packet(2 if self.family == 4 else 10, NUMBERS.get(self.packet.protocol, 0), self.packet.src,
                      self.packet.dst, self.packet.sport, self.packet.dport, self.flags, ttl=self.ttl,
                      length=self.length, payload=self._chunk, icmp=self.said, tunnel=self.tunnel)

    @property
    def flags(self) -> int:
        """Return TCP's flags, 0 for what is no TCP."""
        return {"request": 2, "answer": 18, "reset": 20}.get(self.role, 0) if self.packet.protocol == "tcp" else 0

    @property
    def _chunk(self) -> bytes:
        """Return the kind of SCTP's chunk: INIT, INIT ACK, ABORT."""
        return {"request": b"\1", "answer": b"\2", "reset": b"\6"}.get(self.role, b"") \
            if self.packet.protocol == "sctp" else b""

    @property
    def said(self) -> Said:
        """Return ICMP's type and code."""
        if self.packet.protocol == "icmp" and self.icmp == (0, 0):
            return (8, 0) if self.role == "request" else (0, 0)
        if self.packet.protocol == "icmpv6" and self.icmp == (0, 0):
            return (128, 0) if self.role == "request" else (129, 0)
        return self.icmp


@dataclass(frozen=True)
class Branch:
    """One way. `probability` is its share of all; with `certain` False a rule on the way could not be judged."""

    request: tuple[Hop, ...]
    reply: tuple[Hop, ...]
    outcome: Outcome
    probability: float = 1.0
    certain: bool = True
    doubts: tuple[str, ...] = ()

    @property
    def hops(self) -> tuple[Hop, ...]:
        """Return both ways."""
        return self.request + self.reply


@dataclass(frozen=True)
class Prediction:
    """All ways, the likeliest first. `left` counts those not followed; `notes` say what was assumed."""

    question: Question
    target: str
    branches: tuple[Branch, ...]
    left: int = 0
    notes: tuple[str, ...] = ()


def back(flow: Tuple) -> Tuple:
    """Return the tuple of an answer."""
    protocol, source, sport, destination, dport = flow
    return protocol, destination, dport, source, sport
