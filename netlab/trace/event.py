"""What a trace says: hops, the two ways of a connection, and how it ended. Frozen values, rendered elsewhere.

The JSON of `netlab trace -o json` is made from these by `document.as_json`; `netlab/docs/trace.md` describes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from netlab.trace.packet import Packet

Direction = Literal["request", "reply"]
Way = Literal["in", "out"]
Kind = Literal["iface", "rule", "policy", "nat", "route", "conntrack", "drop", "deliver"]
Role = Literal["resolution", "proxied"]
PERHAPS: Final = "PERHAPS"
"""The verdict of a predicted rule that may have matched, and of which nothing depends."""


@dataclass(frozen=True)
class RouteUsed:
    """The routing decision behind a `route` hop, as the kernel answers for such a packet right after the trace.

    `type`: "unicast", "local", ..., `table`: "main", "local" or a number, `prefix`: the route's destination, `gateway`:
    "" on the link itself, `interface`: where to. `neighbor` is the next hop's address and `state` that of its entry
    ("reachable", "permanent", "failed", ..., "" when there is none), `mac` its link-layer address.
    """

    type: str
    table: str = ""
    prefix: str = ""
    gateway: str = ""
    interface: str = ""
    neighbor: str = ""
    state: str = ""
    mac: str = ""

    @property
    def words(self) -> str:
        """Return `10.244.2.0/24 via 172.18.0.3, table main; 172.18.0.3 is reachable`."""
        via = f" via {self.gateway}" if self.gateway else ""
        table = f", table {self.table}" if self.table else ""
        known = f"; {self.neighbor} is {self.state or 'unknown yet'}" if self.neighbor else ""
        return f"{self.prefix or self.type}{via}{table}{known}"


@dataclass(frozen=True)
class Entry:
    """A conntrack entry as it was made: the packet's own addresses, and those that an answer is expected with.

    Each is `10.0.0.1:80`, for ICMP the address alone. `protocol` is "tcp", "udp", ..., `status` what was said of it.
    """

    protocol: str
    source: str
    destination: str
    reply_source: str
    reply_destination: str
    status: str = "NEW"


@dataclass(frozen=True)
class Hop:
    """One thing that happened to a packet at one place.

    `at` is the kernel's time in ns since the epoch, None where the kernel gives none (rules); the order of the list
    is the order of events all the same. `packet` is the packet as it was at this hop.

    - iface: it crossed `interface`, `way` "in" or "out".
    - rule: it matched a rule: `table`, `chain`, `rule` (the iptables-save line, or nft's words), `comment`, `verdict`,
      `target`; `element` is the map element that nftables chose for it.
    - policy: it came to the end of a base chain; `verdict` is the chain's policy.
    - nat: its addresses changed; `rule` is the rule that ordered it, or "" for conntrack's memory of an earlier one.
    - route: the kernel chose: forward through `interface`, or deliver here; `route` has the table, route, neighbour.
    - conntrack: an `entry` was made for its flow.
    - drop: it ended here; `text` says why, `reason` and `function` are the kernel's own words where BPF told them.
    - deliver: it reached a socket's namespace and nothing stopped it.
    """

    at: int | None
    place: str
    direction: Direction
    kind: Kind
    text: str
    packet: Packet
    interface: str = ""
    way: Way | Literal[""] = ""
    table: str = ""
    chain: str = ""
    rule: str = ""
    comment: str = ""
    verdict: str = ""
    target: str = ""
    element: str = ""
    route: RouteUsed | None = None
    entry: Entry | None = None
    reason: str = ""
    function: str = ""


@dataclass(frozen=True)
class Crossing:
    """One packet on one interface; `data` holds its bytes from the network header on, as many as were captured."""

    at: int
    place: str
    interface: str
    way: Way
    packet: Packet
    data: bytes = b""


@dataclass(frozen=True)
class Passage:
    """One packet of the exchange, with every interface that it crossed, in order.

    `again` marks one that was sent before (a retransmission); `payload` counts its bytes behind the transport header.
    """

    at: int
    direction: Direction
    what: str
    payload: int = 0
    again: bool = False
    crossed: tuple[Crossing, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How it ended. `status`: "connected" (TCP, SCTP), "replied" (UDP, ICMP), "refused", "unreachable", "timeout".

    `endpoint` is the address that answered or was last aimed at; `place` and `why` say where and why it died and
    `fix` what would mend it (all "" when it lived); `reason` is the kernel's name for the drop where BPF told it;
    `seconds` is the time from the first packet to the answer, `answer` the payload that came back, as text.
    """

    status: str
    endpoint: str = ""
    endpoint_place: str = ""
    place: str = ""
    why: str = ""
    fix: str = ""
    seconds: float | None = None
    reason: str = ""
    answer: str = ""


@dataclass(frozen=True)
class Part:
    """Another exchange that belongs to this one: the name's resolution before it, a proxy's own connection behind it.

    `words` say how: `web.default.svc.cluster.local A → 10.96.0.10`.
    """

    role: Role
    words: str
    trace: Trace


@dataclass(frozen=True)
class Trace:
    """One traced exchange.

    `passages` lists every packet of it in the order of their first appearance; `request` and `reply` are all that
    happened to the first of each direction. `crafted` says in words what a hand-made first packet was ("" for the
    kernel's own). `lost` counts events that the kernel could not hand over: above 0, hops may be missing.
    """

    source: str
    target: str
    protocol: str
    destination: str
    request: tuple[Hop, ...]
    reply: tuple[Hop, ...]
    outcome: Outcome
    passages: tuple[Passage, ...] = ()
    parts: tuple[Part, ...] = ()
    crafted: str = ""
    bpf: bool = False
    lost: int = 0
    warnings: tuple[str, ...] = ()
