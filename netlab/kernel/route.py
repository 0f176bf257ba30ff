"""Routes, neighbours and bridge forwarding entries, through the same sockets as `link.py`.

Who made a route is told by its protocol number (rtm_protocol, shown by `ip route` as `proto N`): a component removes
the routes of its own number and no other.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from netlab.kernel import rtnl
from netlab.kernel.link import pack_cidr, pack_ip
from netlab.kernel.rtnl import Message, Rtnl, attribute, attributes

STATIC: Final = 4
MAIN_TABLE: Final = 254

SCOPE_GLOBAL: Final = 0
SCOPE_LINK: Final = 253

_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _METRICS, _TABLE = 1, 4, 5, 6, 7, 8, 15
_METRIC_MTU, _METRIC_ADVMSS = 2, 8
_ONLINK = 4
_UNICAST = 1
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_PERMANENT = 0x80
_SELF = 0x02


class Route(NamedTuple):
    """One route. `dst` is a prefix ("0.0.0.0/0" for the default), `gateway` "" when on the link itself."""

    dst: str
    gateway: str
    ifindex: int
    protocol: int = STATIC
    metric: int = 0
    table: int = MAIN_TABLE
    scope: int = SCOPE_GLOBAL
    source: str = ""
    mtu: int = 0
    advmss: int = 0
    onlink: bool = False


class Neighbor(NamedTuple):
    """A permanent neighbour entry: `ip` is at `mac` on interface `index`."""

    ip: str
    mac: str
    ifindex: int
    protocol: int = 0


class Forward(NamedTuple):
    """A permanent forwarding entry of a vxlan device: frames to `mac` go to the host `dst`."""

    mac: str
    dst: str
    ifindex: int


def new_route(route: Route, *, replace: bool = False) -> Message:
    """Add a route; `replace` changes the one with the same prefix and metric instead of failing."""
    return Message(rtnl.NEWROUTE, rtnl.CREATE | (rtnl.REPLACE if replace else rtnl.EXCLUDE), _pack(route),
                   f"add the route to {route.dst}" + (f" via {route.gateway}" if route.gateway else ""))


def delete_route(route: Route) -> Message:
    """Delete exactly this route: prefix, gateway, interface, metric and protocol must agree."""
    return Message(rtnl.DELROUTE, 0, _pack(route), f"delete the route to {route.dst}")


def routes(sock: Rtnl, family: int = socket.AF_UNSPEC) -> list[Route]:
    """Return the unicast routes of all tables but the local one; routes with several next hops are left out."""
    request = Message(rtnl.GETROUTE, rtnl.DUMP, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "list the routes")
    return [route for answer in sock.ask(request) if (route := _parse(answer)) is not None and route.table != 255]


def new_neighbor(entry: Neighbor) -> Message:
    """Put a permanent entry into the neighbour table; such entries do not count against gc_thresh3."""
    family, packed = pack_ip(entry.ip)
    protocol = attribute(12, bytes([entry.protocol])) if entry.protocol else b""
    return Message(rtnl.NEWNEIGH, rtnl.CREATE | rtnl.REPLACE, _NDMSG.pack(family, entry.ifindex, _PERMANENT, 0, 0)
                   + attribute(1, packed) + attribute(2, bytes.fromhex(entry.mac.replace(":", ""))) + protocol,
                   f"add the neighbour {entry.ip}")


def delete_neighbor(entry: Neighbor) -> Message:
    """Delete a neighbour entry."""
    family, packed = pack_ip(entry.ip)
    return Message(rtnl.DELNEIGH, 0, _NDMSG.pack(family, entry.ifindex, 0, 0, 0) + attribute(1, packed),
                   f"delete the neighbour {entry.ip}")


def neighbors(sock: Rtnl, index: int) -> list[Neighbor]:
    """Return the permanent neighbour entries of one interface."""
    found = []
    for family, at, state, parts in _neighbor_dump(sock, socket.AF_UNSPEC):
        if at == index and state & _PERMANENT and family in (socket.AF_INET, socket.AF_INET6) and 1 in parts:
            protocol = parts[12][0] if parts.get(12) else 0
            found.append(Neighbor(socket.inet_ntop(family, parts[1]), parts.get(2, b"").hex(":"), at, protocol))
    return found


def new_forward(entry: Forward) -> Message:
    """Put a permanent entry into a vxlan device's forwarding table."""
    _, packed = pack_ip(entry.dst)
    return Message(rtnl.NEWNEIGH, rtnl.CREATE | rtnl.REPLACE,
                   _NDMSG.pack(socket.AF_BRIDGE, entry.ifindex, _PERMANENT, _SELF, 0)
                   + attribute(1, packed) + attribute(2, bytes.fromhex(entry.mac.replace(":", ""))),
                   f"add the forwarding entry {entry.mac} to {entry.dst}")


def delete_forward(entry: Forward) -> Message:
    """Delete a vxlan forwarding entry."""
    _, packed = pack_ip(entry.dst)
    return Message(rtnl.DELNEIGH, 0, _NDMSG.pack(socket.AF_BRIDGE, entry.ifindex, 0, _SELF, 0)
                   + attribute(1, packed) + attribute(2, bytes.fromhex(entry.mac.replace(":", ""))),
                   f"delete the forwarding entry {entry.mac}")


def forwards(sock: Rtnl, index: int) -> list[Forward]:
    """Return the permanent forwarding entries of one vxlan device that name a host."""
    return [Forward(parts[2].hex(":"), socket.inet_ntop(socket.AF_INET if len(parts[1]) == 4 else socket.AF_INET6,
                                                        parts[1]), at)
            for _, at, state, parts in _neighbor_dump(sock, socket.AF_BRIDGE)
            if at == index and state & _PERMANENT and 1 in parts and 2 in parts]


def replace_all(sock: Rtnl, wanted: Iterable[Route], *, protocol: int) -> tuple[int, int]:
    """Make the routes with this protocol number exactly the wanted ones; return (added, removed).

    Level-triggered: right whatever was there before. Foreign routes to the same prefix stay, and win or lose by metric.
    """
    target = {_place(route): route._replace(protocol=protocol) for route in wanted}
    there = {_place(route): route for route in routes(sock) if route.protocol == protocol}
    missing = [route for place, route in target.items() if place not in there]
    surplus = [route for place, route in there.items() if place not in target]
    sock.send(*(delete_route(route) for route in surplus), ignore=(errno.ESRCH,))
    sock.send(*(new_route(route, replace=True) for route in missing))
    return len(missing), len(surplus)


def _place(route: Route) -> tuple[str, str, int, int]:
    # not the metric: IPv6 routes come back with 1024 when none was asked for
    return route.dst, route.gateway, route.ifindex, route.table


def _pack(route: Route) -> bytes:
    family, packed, prefix = pack_cidr(route.dst)
    table = route.table if route.table < 256 else 0
    body = [_RTMSG.pack(family, prefix, 0, 0, table, route.protocol, route.scope, _UNICAST,
                        _ONLINK if route.onlink else 0)]
    if prefix:
        body.append(attribute(_DST, packed))
    if route.gateway:
        body.append(attribute(_GATEWAY, pack_ip(route.gateway)[1]))
    if route.ifindex:
        body.append(attribute(_OIF, route.ifindex))
    if route.metric:
        body.append(attribute(_PRIORITY, route.metric))
    if route.source:
        body.append(attribute(_PREFSRC, pack_ip(route.source)[1]))
    if route.table >= 256:
        body.append(attribute(_TABLE, route.table))
    metrics = [attribute(kind, value)
               for kind, value in ((_METRIC_MTU, route.mtu), (_METRIC_ADVMSS, route.advmss)) if value]
    if metrics:
        body.append(rtnl.nested(_METRICS, *metrics))
    return b"".join(body)


def _parse(answer: bytes) -> Route | None:
    family, prefix, _, _, table, protocol, scope, kind, flags = _RTMSG.unpack_from(answer)
    parts = attributes(answer, _RTMSG.size)
    if kind != _UNICAST or family not in (socket.AF_INET, socket.AF_INET6) or flags & 0x200 or _OIF not in parts:
        return None
    dst = parts.get(_DST, bytes(4 if family == socket.AF_INET else 16))
    metrics = attributes(parts.get(_METRICS, b""))
    return Route(dst=f"{_ip(family, dst)}/{prefix}", gateway=_ip(family, parts.get(_GATEWAY)),
                 ifindex=_number(parts.get(_OIF)), protocol=protocol, metric=_number(parts.get(_PRIORITY)),
                 table=_number(parts.get(_TABLE)) or table, scope=scope, source=_ip(family, parts.get(_PREFSRC)),
                 mtu=_number(metrics.get(_METRIC_MTU)), advmss=_number(metrics.get(_METRIC_ADVMSS)),
                 onlink=bool(flags & _ONLINK))


def _ip(family: int, raw: bytes | None) -> str:
    return socket.inet_ntop(family, raw) if raw else ""


def _number(raw: bytes | None) -> int:
    return int.from_bytes(raw, "little") if raw else 0


def _neighbor_dump(sock: Rtnl, family: int) -> list[tuple[int, int, int, dict[int, bytes]]]:
    request = Message(rtnl.GETNEIGH, rtnl.DUMP, _NDMSG.pack(family, 0, 0, 0, 0), "list the neighbours")
    found = []
    for answer in sock.ask(request):
        of, index, state, _, _ = _NDMSG.unpack_from(answer)
        found.append((of, index, state, attributes(answer, _NDMSG.size)))
    return found
