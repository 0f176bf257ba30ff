"""All routes of a network namespace, in one dump (rtnetlink(7), <linux/rtnetlink.h>, <linux/nexthop.h>)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from netlab.kernel import rtnl
from netlab.kernel.rtnl import Message, Rtnl, attributes

_RTMSG = struct.Struct("=BBBBBBBBI")
_RTNEXTHOP = struct.Struct("=HBBi")
_MEMBER = struct.Struct("=IBBxx")  # struct nexthop_grp: the object's number, its weight less one in two parts
_KINDS: Final = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_DST, _SRC, _OIF, _GATEWAY, _METRIC, _PREFSRC, _MULTIPATH, _TABLE, _VIA, _NH_ID = 1, 2, 4, 5, 6, 7, 9, 15, 18, 30
_CLONED: Final = 0x200
_DEAD: Final = 1
_GETNEXTHOP: Final = 106
_NH_GROUP, _NH_BLACKHOLE, _NH_OIF, _NH_GATEWAY, _NH_ID_ITSELF = 2, 4, 5, 6, 1

Hop = tuple[int, str, int]
"""A next hop: ifindex, gateway, weight."""


class Entry(NamedTuple):
    """One route of the main and other tables, whatever its kind; `ifindex` 0 for one that refuses.

    `origin` is the network that packets must come from, "" for any. `hops` are the next hops as (ifindex, gateway,
    weight) where there are several, of which `gateway` and `ifindex` are the first; `grouped`: they are a group of
    nexthop objects.
    """

    dst: str
    kind: str
    gateway: str
    ifindex: int
    table: int
    metric: int
    source: str
    origin: str
    hops: tuple[tuple[int, str, int], ...] = ()
    grouped: bool = False


def routing_table(sock: Rtnl) -> Iterator[Entry]:
    """Yield the routes of both families, but for those of the local table.

    Raises:
        KernelError: the kernel refused.
    """
    answers = sock.ask(Message(rtnl.GETROUTE, rtnl.DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list the routes"))
    objects: Mapping[int, tuple[Hop, ...]] | None = None
    for answer in answers:
        found = _entry(answer)
        if found is None:
            continue
        number = int.from_bytes(attributes(answer, _RTMSG.size).get(_NH_ID, b""), "little")
        if number and not found.ifindex and found.kind == "unicast":  # net.ipv4.nexthop_compat_mode is 0
            objects = _objects(sock) if objects is None else objects
            yield _led(found, objects.get(number, ()))
        else:
            yield found


def _entry(answer: bytes) -> Entry | None:
    family, prefix, origin, tos, table, _, _, kind, flags = _RTMSG.unpack_from(answer)
    parts = attributes(answer, _RTMSG.size)
    number = int.from_bytes(parts[_TABLE], "little") if _TABLE in parts else table
    if kind not in _KINDS or family not in (socket.AF_INET, socket.AF_INET6) or flags & _CLONED or number == 255 or tos:
        return None  # what is for packets of another type of service only is for none that is asked for here
    dst = parts.get(_DST, bytes(4 if family == socket.AF_INET else 16))
    found = Entry(f"{socket.inet_ntop(family, dst)}/{prefix}", _KINDS[kind], _gateway(parts),
                  int.from_bytes(parts.get(_OIF, b""), "little"), number,
                  int.from_bytes(parts.get(_METRIC, b""), "little"),
                  socket.inet_ntop(family, parts[_PREFSRC]) if _PREFSRC in parts else "",
                  f"{socket.inet_ntop(family, parts[_SRC])}/{origin}" if origin and _SRC in parts else "",
                  grouped=_NH_ID in parts)
    return _led(found, tuple(_several(parts[_MULTIPATH]))) if kind == 1 and _MULTIPATH in parts else found


def _led(found: Entry, hops: tuple[Hop, ...]) -> Entry:
    if not hops:
        return found
    return found._replace(ifindex=hops[0][0], gateway=hops[0][1], hops=hops if len(hops) > 1 else ())


def _several(raw: bytes) -> Iterator[Hop]:
    """Yield the next hops of RTA_MULTIPATH that are alive; where none is, all."""
    found: list[tuple[int, Hop]] = []
    at = 0
    while at + _RTNEXTHOP.size <= len(raw):
        length, flags, weight, index = _RTNEXTHOP.unpack_from(raw, at)
        if length < _RTNEXTHOP.size:
            break
        inner = attributes(raw[at + _RTNEXTHOP.size:at + length])
        found.append((flags & _DEAD, (index, _gateway(inner), weight + 1)))
        at += (length + 3) & ~3
    alive = [hop for dead, hop in found if not dead]
    yield from alive or [hop for _, hop in found]


def _gateway(parts: Mapping[int, bytes]) -> str:
    raw = parts.get(_GATEWAY, parts.get(_VIA, b"  ")[2:])  # RTA_VIA: of the other family, which stands before it
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw) if raw else ""


def _objects(sock: Rtnl) -> dict[int, tuple[Hop, ...]]:
    """Return the next hops of the namespace's nexthop objects and of their groups, by number."""
    single: dict[int, tuple[Hop, ...]] = {}
    groups: dict[int, list[tuple[int, int]]] = {}
    for answer in sock.ask(Message(_GETNEXTHOP, rtnl.DUMP, bytes(8), "list the nexthop objects")):
        parts = attributes(answer, 8)
        number = int.from_bytes(parts.get(_NH_ID_ITSELF, b""), "little")
        if _NH_GROUP in parts:
            groups[number] = [(member, (high << 8 | low) + 1)
                              for member, low, high in _MEMBER.iter_unpack(parts[_NH_GROUP])]
        elif _NH_BLACKHOLE not in parts:
            raw = parts.get(_NH_GATEWAY, b"")
            gateway = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw) if raw else ""
            single[number] = ((int.from_bytes(parts.get(_NH_OIF, b""), "little"), gateway, 1),)
    for number, members in groups.items():
        single[number] = tuple((index, gateway, weight) for member, weight in members
                               for index, gateway, _ in single.get(member, ()))
    return single
