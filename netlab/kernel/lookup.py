"""Ask the kernel what it would do: which route a packet would take, and is its next hop known (rtnetlink(7))."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from netlab.errors import KernelError
from netlab.kernel import link, rtnl
from netlab.kernel.rtnl import Message, Rtnl, attribute, attributes

_DST, _SRC, _IIF, _OIF, _GATEWAY, _MARK = 1, 2, 3, 4, 5, 16
_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_STATES = {1: "incomplete", 2: "reachable", 4: "stale", 8: "delay", 16: "probe", 32: "failed", 64: "noarp",
           128: "permanent"}


@dataclass(frozen=True)
class RouteAnswer:
    """The kernel's answer. `kind`: "unicast", "local", ..., or "" when it refused; `error` is then the errno."""

    kind: str = ""
    gateway: str = ""
    interface: str = ""
    error: int = 0

    @property
    def words(self) -> str:
        """Return the refusal in words; the kernel says EINVAL for both a blackhole and a source check."""
        return {errno.ENETUNREACH: "no route", errno.EHOSTUNREACH: "an `unreachable` route",
                errno.EACCES: "a `prohibit` route",
                errno.EINVAL: "a `blackhole` route or the reverse path filter (rp_filter)",
                errno.EXDEV: "the reverse path filter (rp_filter)"}.get(self.error, "")


def route(netns: int, destination: str, *, source: str = "", iif: str = "", mark: int = 0) -> RouteAnswer:
    """Return the route that a packet would take in a namespace; `iif` makes it one that comes in by an interface."""
    family, raw = link.pack_ip(destination)
    bits = len(raw) * 8
    with Rtnl(netns) as sock:
        names = {entry.ifindex: entry.name for entry in link.links(sock)}
        indexes = {name: index for index, name in names.items()}
        body = struct.pack("=BBBBBBBBI", family, bits, bits if source and iif else 0, 0, 0, 0, 0, 0, 0)
        body += attribute(_DST, raw)
        if source and iif:
            body += attribute(_SRC, link.pack_ip(source)[1])
        if iif in indexes:
            body += attribute(_IIF, struct.pack("=I", indexes[iif]))
        if mark:
            body += attribute(_MARK, struct.pack("=I", mark))
        try:
            answers = sock.ask(Message(rtnl.GETROUTE, 0, body, f"route to {destination}"))
        except KernelError as error:
            return RouteAnswer(error=error.errno)
    for answer in answers:
        found = attributes(answer, 12)
        gateway = found.get(_GATEWAY, b"")
        oif = struct.unpack("=I", found[_OIF])[0] if _OIF in found else 0
        kind = _TYPES.get(answer[7], str(answer[7]))
        refused = {"unreachable": errno.EHOSTUNREACH, "prohibit": errno.EACCES, "blackhole": errno.EINVAL}.get(kind, 0)
        return RouteAnswer("" if refused else kind, socket.inet_ntop(family, gateway) if gateway else "",
                           names.get(oif, ""), refused)
    return RouteAnswer(error=errno.ENETUNREACH)


def neighbor_state(netns: int, address: str) -> str:
    """Return the state of a neighbour entry ("failed", "incomplete", "reachable", ...), "" when there is none."""
    family, raw = link.pack_ip(address)
    with Rtnl(netns) as sock:
        request = Message(rtnl.GETNEIGH, rtnl.DUMP, struct.pack("=BxxxiHBB", family, 0, 0, 0, 0), "neighbours")
        for answer in sock.ask(request):
            if attributes(answer, 12).get(1) == raw:
                return _STATES.get(struct.unpack_from("=H", answer, 8)[0], "")
    return ""
