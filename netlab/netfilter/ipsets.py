"""Sets of ipset, as `ipset save` prints them, and whether a packet is in one (ipset(8)). Pure."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from netlab.errors import UsageError
from netlab.netfilter.matching import Packet, within

_KNOWN: Final = frozenset({"ip", "net", "port", "iface", "set"})
_MOST: Final = 8
"""Sets within sets that are followed: the kernel allows no such set in another, so one would do."""


@dataclass(frozen=True)
class Member:
    """One element: its parts in the order of the set's type; with `nomatch` what is in it counts as outside."""

    parts: tuple[str, ...]
    nomatch: bool = False


@dataclass(frozen=True)
class IpSet:
    """A set. `kinds` are the parts of its type: ("net", "port") of hash:net,port; `six` of IPv6 alone."""

    name: str
    kinds: tuple[str, ...]
    six: bool = False
    netmask: str = ""
    members: tuple[Member, ...] = ()

    @cached_property
    def plain(self) -> frozenset[str] | None:
        """Return the addresses of a set that has nothing else."""
        return frozenset(each.parts[0] for each in self.members) if self.kinds == ("ip",) and not self.netmask and \
            not any(set("-/") & set(each.parts[0]) for each in self.members) else None


Sets = Mapping[str, IpSet]


def parse(text: str, file: str = "the sets") -> dict[str, IpSet]:
    """Return the sets of what `ipset save` printed, by name.

    Raises:
        UsageError: at the first line that is none of it.
    """
    found: dict[str, IpSet] = {}
    members: dict[str, list[Member]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            words = ["?"]
        if not words:
            continue
        if words[0] in ("create", "-N") and len(words) > 2:
            name, kind, options = words[1], words[2], words[3:]
            given = dict(itertools.pairwise(options))
            found[name] = IpSet(name, tuple(kind.rpartition(":")[2].split(",")), given.get("family") == "inet6",
                                given.get("netmask", ""))
            members[name] = []
        elif words[0] in ("add", "-A") and len(words) > 2 and words[1] in found:
            members[words[1]].append(Member(tuple(words[2].split(",")), "nomatch" in words[3:]))
        else:
            raise UsageError(f"{file}, line {number}: {line.strip()[:60]!r} is not of ipset save",
                             hint="want what `ipset save` prints: create NAME TYPE …, add NAME ELEMENT …")
    return {name: IpSet(each.name, each.kinds, each.six, each.netmask, tuple(members[name]))
            for name, each in found.items()}


def holds(sets: Sets, name: str, directions: Sequence[str], packet: Packet, depth: int = 0) -> bool | None:
    """Tell whether a packet is in a set; None where nobody here can tell.

    Args:
        sets: all that are known.
        name: the set's.
        directions: for each part of an element, whether the packet's source (src) or destination (dst) is looked at.
        packet: the packet.
        depth: of sets that are in sets.
    """
    found = sets.get(name)
    if found is None or depth > _MOST or not set(found.kinds) <= _KNOWN:
        return None
    if found.kinds == ("set",):
        held = [holds(sets, each.parts[0], directions, packet, depth + 1) for each in found.members]
        return True if True in held else None if None in held else False
    if len(directions) < len(found.kinds):
        return False  # what a set asks for and a rule does not say is in none
    addressed = any(kind in ("ip", "net") for kind in found.kinds)
    if addressed and found.six != (":" in packet.dst):
        return False
    if found.plain is not None:
        return (packet.src if directions[0] == "src" else packet.dst) in found.plain
    fits = [(each, size) for each in found.members if (size := _fits(found, each, directions, packet)) is not None]
    if not fits:
        return False
    if len(found.kinds) > 1 and any(each.nomatch for each, _ in fits):
        return None
    return not max(fits, key=lambda entry: entry[1])[0].nomatch


def _fits(of: IpSet, member: Member, directions: Sequence[str], packet: Packet) -> int | None:
    """Return how many bits of addresses an element that a packet is in asks for; None when it is not."""
    bits = 0
    for kind, part, direction in zip(of.kinds, member.parts, directions, strict=False):
        source = direction == "src"
        if kind == "port":
            if not _port(part, packet.sport if source else packet.dport, packet.protocol, typed=len(of.kinds) > 1):
                return None
        elif kind == "iface":
            if part != (packet.iif if source else packet.oif):
                return None
        else:
            network = f"{part}/{of.netmask}" if of.netmask and "/" not in part else part
            if not within(packet.src if source else packet.dst, network):
                return None
            bits += int(network.partition("/")[2] or 128)
    return bits


def _port(part: str, port: int, protocol: str, *, typed: bool) -> bool:
    """Tell whether a port is an element's: `tcp:80`, or a number, which in a bitmap is of any protocol."""
    wanted, colon, number = part.rpartition(":")
    if protocol not in ("tcp", "udp", "sctp") or (typed and (wanted if colon else "tcp") != protocol):
        return False
    low, _, high = number.partition("-")
    return low.isdigit() and int(low) <= port <= int(high or low)
