"""What `netlab trace --follow` looks at: whose flows, which of them, and how the kernel is told so. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from netlab.errors import UsageError
from netlab.trace.packet import ICMP, ICMPV6, SCTP, TCP, UDP, Packet

Addresses = tuple[str, int, str, int]
SEED: Final = 0x6E65746C


@dataclass(frozen=True)
class End:
    """One end of a flow that is asked for: an address ("" for any) and a port (0 for any).

    `side` "destination" counts only what goes there (a Service), "any" also what comes from there (a Pod).
    """

    address: str = ""
    port: int = 0
    side: Literal["any", "destination"] = "any"

    def fits(self, spelling: Addresses) -> bool:
        """Tell whether a flow with these addresses has this end."""
        source, sport, destination, dport = spelling
        if self.address in ("", destination) and self.port in (0, dport):
            return True
        return self.side == "any" and self.address in ("", source) and self.port in (0, sport)


@dataclass(frozen=True)
class Watch:
    """What is asked for: flows that have an end of every group in `ends`; no group is everything.

    `near` holds further addresses that such a flow may be seen with (a Service's endpoints), so that the kernel traces
    its rules behind the NAT too. `sample` 16 looks at one flow in 16; `drops_only` leaves out what was answered.
    """

    ends: tuple[tuple[End, ...], ...] = ()
    near: frozenset[str] = frozenset()
    sample: int = 1
    drops_only: bool = False
    protocols: frozenset[int] = frozenset()

    def wants(self, spellings: Collection[Addresses], protocol: int) -> bool:
        """Tell whether a flow is asked for, by all the spellings of its addresses."""
        if self.protocols and protocol not in self.protocols:
            return False
        return all(any(end.fits(spelling) for end in group for spelling in spellings) for group in self.ends)

    def sampled(self, packet: Packet) -> bool:
        """Tell whether a flow's first packet belongs to the sample: the same as what `matches` says to the kernel."""
        if self.sample == 1:
            return True
        if packet.protocol == TCP:
            return packet.seq & 0xFFFF < 0x10000 // self.sample
        return reduced(packet.sport, self.sample) == 0

    def matches(self) -> list[str]:
        """Return nft matches for the packets whose rules are to be traced: those that begin or answer such flows."""
        limit = 0x10000 // self.sample
        few = self.sample > 1
        tcp = [f"tcp flags & (syn | ack) == syn{f' @th,48,16 < {limit}' if few else ''}",
               f"tcp flags & ack == ack tcp flags & (syn | rst) != 0{f' @th,80,16 1-{limit}' if few else ''}",
               "tcp flags & (rst | ack) == rst"]
        there, back = (f" jhash @th,{at},16 mod {self.sample} seed {SEED} == 0" if few else "" for at in (0, 16))
        upper = [f"meta l4proto {{ {UDP}, {SCTP} }}{part}" for part in dict.fromkeys((there, back))]
        errors = [f"meta l4proto {{ {ICMP}, {ICMPV6} }}"]
        wanted = [*tcp, *upper]
        where = self._where()
        return [*(f"{place}{match}" for place in where for match in wanted), *errors]

    def _where(self) -> list[str]:
        """Return prefixes that keep to the addresses asked for; one empty prefix when any address will do."""
        if not self.ends or any(not end.address for end in self.ends[0]):
            return [""]
        asked = {end.address for end in self.ends[0]} | self.near
        found = []
        for word, six in (("ip", False), ("ip6", True)):
            some = ", ".join(sorted(address for address in asked if (":" in address) == six))
            found += [f"{word} {side} {{ {some} }} " for side in ("saddr", "daddr") if some]
        return found


def parse_sample(text: str) -> int:
    """Return N of `1/N`.

    Raises:
        UsageError: it is something else.
    """
    found = re.fullmatch(r"1/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= 65536:
        raise UsageError(f'--sample: "{text}" is no share', hint="write 1/N, such as 1/16; N is at most 65536")
    return int(found[1])


def reduced(number: int, modulus: int) -> int:
    """Return what nftables' `jhash ... mod` gives for a 16-bit field (the kernel's jhash, scaled, not divided)."""
    return _jhash(number.to_bytes(2, "big")) * modulus >> 32


def _jhash(data: bytes) -> int:
    """Return the kernel's jhash (<linux/jhash.h>) of up to twelve bytes."""
    a, b, c = ((0xDEADBEEF + len(data) + SEED + int.from_bytes(data[at:at + 4], "little")) & 0xFFFFFFFF
               for at in (0, 4, 8))
    turning = [c, a, b]
    for step, shift in enumerate((14, 11, 25, 16, 4, 14, 24)):
        one, other = step % 3, turning[(step - 1) % 3]
        rotated = (other << shift | other >> (32 - shift)) & 0xFFFFFFFF
        turning[one] = ((turning[one] ^ other) - rotated) & 0xFFFFFFFF
    return turning[0]
