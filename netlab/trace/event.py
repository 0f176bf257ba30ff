"""What a trace says: hops, the two ways of a connection, and how it ended. Frozen values, rendered elsewhere.

The JSON of `netlab trace -o json` is made from these by `render.as_json`; `netlab/docs/trace.md` describes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from netlab.trace.packet import Packet

Direction = Literal["request", "reply"]
Kind = Literal["iface", "rule", "policy", "nat", "route", "drop", "deliver"]


@dataclass(frozen=True)
class Hop:
    """One thing that happened to a packet at one place.

    `at` is the kernel's time in ns since the epoch, None where the kernel gives none (rules); the order of the list
    is the order of events all the same. `packet` is the packet as it was at this hop.

    - iface: it crossed `interface`, `way` "in" or "out".
    - rule: it matched a rule: `table`, `chain`, `rule` (the iptables-save line), `comment`, `verdict`, `target`.
    - policy: it came to the end of a base chain; `verdict` is the chain's policy.
    - nat: its addresses changed; `rule` is the rule that ordered it, or "" for conntrack's memory of an earlier one.
    - route: the kernel chose: forward through `interface`, or deliver here.
    - drop: it ended here; `text` says why.
    - deliver: it reached a socket's namespace and nothing stopped it.
    """

    at: int | None
    place: str
    direction: Direction
    kind: Kind
    text: str
    packet: Packet
    interface: str = ""
    way: str = ""
    table: str = ""
    chain: str = ""
    rule: str = ""
    comment: str = ""
    verdict: str = ""
    target: str = ""


@dataclass(frozen=True)
class Outcome:
    """How it ended. `status`: "connected" (TCP), "replied" (UDP, ICMP), "refused", "unreachable", "timeout".

    `endpoint` is the address that answered or was last aimed at; `place` and `why` say where and why it died and
    `fix` what would mend it (all "" when it lived); `seconds` is the time from the first packet to the answer.
    """

    status: str
    endpoint: str = ""
    endpoint_place: str = ""
    place: str = ""
    why: str = ""
    fix: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Trace:
    """One traced exchange.

    `packets` lists every packet of it, as the sender's interface had it: (ns since the epoch, direction, words).
    `lost` counts events that the kernel could not hand over: above 0, hops may be missing.
    """

    source: str
    target: str
    protocol: str
    destination: str
    request: tuple[Hop, ...]
    reply: tuple[Hop, ...]
    outcome: Outcome
    packets: tuple[tuple[int, Direction, str], ...] = ()
    lost: int = 0
    warnings: tuple[str, ...] = ()
