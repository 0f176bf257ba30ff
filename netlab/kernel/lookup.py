"""Ask the kernel what it would do: which route a packet would take, and is its next hop known (rtnetlink(7))."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import Final

from netlab.errors import KernelError
from netlab.kernel import link, rtnl
from netlab.kernel.rtnl import Message, Rtnl, attribute, attributes

_DST, _SRC, _IIF, _OIF, _GATEWAY, _PREFSRC, _TABLE, _MARK, _VIA = 1, 2, 3, 4, 5, 7, 15, 16, 18
_PROTOCOL, _SPORT, _DPORT = 27, 28, 29
_FIB_MATCH: Final = 0x2000
_TYPES: Final = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable",
                 8: "prohibit", 9: "throw"}
_STATES: Final = {1: "incomplete", 2: "reachable", 4: "stale", 8: "delay", 16: "probe", 32: "failed", 64: "noarp",
                  128: "permanent"}
_TABLES: Final = {253: "default", 254: "main", 255: "local"}
_REFUSED: Final = {"unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES, "blackhole": errno.EINVAL}


@dataclass(frozen=True)
class RouteAnswer:
    """The kernel's answer. `kind`: "unicast", "local", ..., or "" when it refused; `error` is then the errno.

    `table` and `prefix` name the route itself, where the kernel tells (Linux 5.2).
    """

    kind: str = ""
    gateway: str = ""
    interface: str = ""
    error: int = 0
    table: str = ""
    prefix: str = ""
    source: str = ""

    @property
    def words(self) -> str:
        """Return the refusal in words; the kernel says EINVAL for both a blackhole and a source check."""
        return {errno.ENETUNREACH: "no route", errno.EHOSTUNREACH: "an `unreachable` route",
                errno.EACCES: "a `prohibit` route",
                errno.EINVAL: "a `blackhole` route or the reverse path filter (rp_filter)",
                errno.EXDEV: "the reverse path filter (rp_filter)"}.get(self.error, "")


@dataclass(frozen=True)
class Neighbor:
    """A neighbour entry: `state` is "reachable", "failed", ..., `mac` its link-layer address or ""."""

    address: str
    interface: str
    state: str
    mac: str


class Lookup:
    """Questions to the kernel of one namespace; links and neighbours are read once."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._links: dict[int, link.Link] | None = None
        self._neighbors: dict[int, list[Neighbor]] = {}

    @property
    def links(self) -> dict[int, link.Link]:
        """Return the interfaces by index."""
        if self._links is None:
            with Rtnl(self._netns) as sock:
                self._links = {entry.ifindex: entry for entry in link.links(sock)}
        return self._links

    def route(self, destination: str, *, source: str = "", iif: str = "", mark: int = 0, oif: str = "", tos: int = 0,
              protocol: int = 0, sport: int = 0, dport: int = 0) -> RouteAnswer:
        """Return the route that a packet would take; `iif` makes it one that comes in by an interface."""
        indexes = {entry.name: index for index, entry in self.links.items()}
        family, raw = link.pack_ip(destination)
        bits = len(raw) * 8
        given = attribute(_DST, raw)
        sourced = bool(source) and bool(iif or oif or protocol or tos)
        if sourced:
            given += attribute(_SRC, link.pack_ip(source)[1])
        if oif in indexes:
            given += attribute(_OIF, struct.pack("=I", indexes[oif]))
        if protocol:
            given += attribute(_PROTOCOL, bytes((protocol,)))
        for kind, port in ((_SPORT, sport), (_DPORT, dport)):
            given += attribute(kind, struct.pack("!H", port)) if port else b""
        if iif in indexes:
            given += attribute(_IIF, struct.pack("=I", indexes[iif]))
        if mark:
            given += attribute(_MARK, struct.pack("=I", mark))

        def ask(flags: int) -> list[bytes]:
            body = struct.pack("=BBBBBBBBI", family, bits, bits if sourced else 0, tos, 0, 0, 0, 0, flags) + given
            return sock.ask(Message(rtnl.GETROUTE, 0, body, f"ask for the route to {destination}"))

        with Rtnl(self._netns) as sock:
            try:
                answers = ask(0)
            except KernelError as error:
                return RouteAnswer(error=error.errno)
            if not answers:
                return RouteAnswer(error=errno.ENETUNREACH)
            try:
                matched = ask(_FIB_MATCH)
            except KernelError:
                matched = []
        return self._answer(family, answers[0], matched[0] if matched else b"")

    def _answer(self, family: int, answer: bytes, matched: bytes) -> RouteAnswer:
        found = attributes(answer, 12)
        oif = struct.unpack("=I", found[_OIF])[0] if _OIF in found else 0
        kind = _TYPES.get(answer[7], str(answer[7]))
        refused = _REFUSED.get(kind, 0)
        table = prefix = ""
        if matched:
            fib = attributes(matched, 12)
            number = struct.unpack("=I", fib[_TABLE])[0] if _TABLE in fib else matched[4]
            table = _TABLES.get(number, str(number))
            any_address = bytes(4 if family == socket.AF_INET else 16)
            prefix = str(ipaddress.ip_network((fib.get(_DST, any_address), matched[1]), strict=False))
            prefix = "default" if matched[1] == 0 else prefix
        return RouteAnswer("" if refused else kind, _gateway(family, found),
                           self.links[oif].name if oif in self.links else "", refused, table, prefix,
                           socket.inet_ntop(family, found[_PREFSRC]) if _PREFSRC in found else "")

    def neighbor(self, address: str, interface: str = "") -> Neighbor | None:
        """Return the entry of a neighbour, None when there is none."""
        family, _ = link.pack_ip(address)
        if family not in self._neighbors:
            self._neighbors[family] = self._read_neighbors(family)
        return next((entry for entry in self._neighbors[family] if entry.address == address
                     and interface in ("", entry.interface)), None)

    def _read_neighbors(self, family: int) -> list[Neighbor]:
        request = Message(rtnl.GETNEIGH, rtnl.DUMP, struct.pack("=BxxxiHBB", family, 0, 0, 0, 0), "list the neighbours")
        entries = []
        with Rtnl(self._netns) as sock:
            answers = sock.ask(request)
        for answer in answers:
            found = attributes(answer, 12)
            index, state = struct.unpack_from("=iH", answer, 4)
            if 1 in found:
                name = self.links[index].name if index in self.links else str(index)
                entries.append(Neighbor(socket.inet_ntop(family, found[1]), name, _STATES.get(state, ""),
                                        found.get(2, b"").hex(":")))
        return entries


def _gateway(family: int, found: dict[int, bytes]) -> str:
    if _GATEWAY in found:
        return socket.inet_ntop(family, found[_GATEWAY])
    if _VIA in found:  # an IPv4 route by an IPv6 router: the family comes before the address
        kind = struct.unpack_from("=H", found[_VIA])[0]
        return socket.inet_ntop(kind, found[_VIA][2:])
    return ""


def route(netns: int, destination: str, *, source: str = "", iif: str = "", mark: int = 0) -> RouteAnswer:
    """Return the route that a packet would take in a namespace; `iif` makes it one that comes in by an interface."""
    return Lookup(netns).route(destination, source=source, iif=iif, mark=mark)


def neighbor_state(netns: int, address: str) -> str:
    """Return the state of a neighbour entry ("failed", "incomplete", "reachable", ...), "" when there is none."""
    found = Lookup(netns).neighbor(address)
    return found.state if found is not None else ""
