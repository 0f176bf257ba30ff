"""What REJECT answers with, ICMP's type and code by the words of iptables and of nft; and what closed ports want. Pure.

Sources: iptables-extensions(8), REJECT; nft(8), REJECT STATEMENT; net/netfilter/nft_reject.c for `icmpx`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from netlab.trace.event import Hop

RESET: Final = "tcp reset"

_FOUR: Final = {
    "net-unreachable": (3, 0),
    "host-unreachable": (3, 1),
    "proto-unreachable": (3, 2),
    "prot-unreachable": (3, 2),
    "port-unreachable": (3, 3),
    "net-prohibited": (3, 9),
    "host-prohibited": (3, 10),
    "admin-prohibited": (3, 13),
}
_SIX: Final = {
    "no-route": (1, 0),
    "adm-prohibited": (1, 1),
    "admin-prohibited": (1, 1),
    "addr-unreachable": (1, 3),
    "port-unreachable": (1, 4),
    "policy-fail": (1, 5),
    "reject-route": (1, 6),
}
_BOTH: Final[Mapping[str, tuple[tuple[int, int], tuple[int, int]]]] = {
    "no-route": ((3, 0), (1, 0)),
    "port-unreachable": ((3, 3), (1, 4)),
    "host-unreachable": ((3, 1), (1, 3)),
    "admin-prohibited": ((3, 13), (1, 1)),
}


def error(kind: str, family: int) -> tuple[int, int]:
    """Return ICMP's type and code for what a rule says behind `with`; port unreachable where it says nothing.

    Args:
        kind: `icmp-host-unreachable`, `icmp6-no-route`, `icmp host-unreachable`, `icmpx no-route`, ...
        family: of the packet, 4 or 6.
    """
    named = kind.removeprefix("icmp").removeprefix("v6").removeprefix("6")
    if named.startswith("x "):
        return _BOTH.get(named[2:], _BOTH["port-unreachable"])[family == 6]
    known, otherwise = (_FOUR, (3, 3)) if family == 4 else (_SIX, (1, 4))
    name = named.lstrip("- ")
    return (known["port-unreachable"][0], int(name)) if name.isdigit() else known.get(name, otherwise)


def resets(kind: str) -> bool:
    """Tell whether TCP is answered with a reset."""
    return kind in ("tcp-reset", RESET)


def closed(request: Sequence[Hop]) -> str:
    """Return what to do about a port that nobody listens on, from the packet's way there."""
    led = any(hop.kind == "nat" and hop.verdict == "DNAT" for hop in request)
    other = "mend the Service's targetPort" if led else "ask the port that it listens on"
    return f"start the program there, or {other}"
