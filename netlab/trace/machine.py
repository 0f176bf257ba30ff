"""The world of a prediction from saved text of one machine: rules, and `ip route` or `ip -j route`. Pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from netlab.errors import UsageError
from netlab.netfilter import nft, nft_json
from netlab.netfilter.matching import UNKNOWN_INTERFACE
from netlab.netfilter.model import HOOKS, Ruleset
from netlab.netfilter.nft import NftTable
from netlab.netfilter.nft_eval import Book
from netlab.netfilter.parse import parse
from netlab.netfilter.stations import Beside, not_followed
from netlab.trace.routing import Route
from netlab.trace.world import Link, Space, World

PLACE = "the node"
_KINDS = ("blackhole", "unreachable", "prohibit", "throw", "local", "broadcast", "multicast", "unicast", "anycast")
_FLAGS = frozenset({"onlink", "linkdown", "dead", "pervasive", "offload", "trap", "rt_offload"})


def world(rules: str, *, routes: str | None = None, file: str = "the routes", addresses: Sequence[str] = (),
          names: Mapping[str, str] | None = None) -> World:
    """Return the world of one machine, whose neighbours are not known.

    Args:
        rules: the text of iptables-save, of ip6tables-save, of `nft list ruleset` with or without -j, or that of
            iptables-save and that of nft behind it.
        routes: the text of `ip route` or `ip -j route`; None when there is none.
        file: its name, for errors.
        addresses: the machine's own, beside those that its routes tell.
        names: names by IP address.

    Raises:
        NotIptables, NotNft, NotNftJson: the rules are none. UsageError: the routes are none, or an address is none.
    """
    saved, tables = parse_rules(rules)
    listed = parse_routes(routes, file) if routes is not None else ()
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise UsageError(f"--address {address}: no IP address") from None
    links: dict[str, Link] = {}
    own = [*((route.interface, f"{route.source}/{route.dst.partition('/')[2]}") for route in listed if route.source),
           *((route.interface, route.dst) for route in listed if route.kind == "local"),
           *(("lo", f"{address}/{128 if ':' in address else 32}") for address in addresses)]
    for route in listed:
        if route.interface:
            links.setdefault(route.interface, Link(route.interface))
    for name, cidr in own:
        link = links.get(name, Link(name))
        links[name] = replace(link, cidrs=(*link.cidrs, cidr))
    notes = []
    if routes is None:
        listed = (Route("0.0.0.0/0", UNKNOWN_INTERFACE), Route("::/0", UNKNOWN_INTERFACE))
        notes.append("routes are not known (--routes FILE): rules that ask for the outgoing interface may hold or not")
    if not own:
        notes.append("the machine's own addresses are not known (--address IP): what asks for them may hold or not")
    beside = Beside((), tuple(Book(each) for each in tables), tuple(f"{each.family} {each.name}" for each in tables))
    if tables:
        notes.append("of base chains with the same priority the one listed later runs first, and iptables' run last")
    space = Space(PLACE, links, tuple(route for route in listed if route.kind != "local"), rules={4: saved, 6: saved},
                  beside={4: beside, 6: beside}, edge=True, complete=bool(own), doubts=not_followed(beside.created))
    return World({PLACE: space}, names or {}, tuple(notes))


def parse_rules(text: str) -> tuple[Ruleset, tuple[NftTable, ...]]:
    """Return iptables' tables and nftables' own of a saved text. What iptables-nft wrote counts in iptables' words.

    Raises:
        NotIptables, NotNft, NotNftJson: it is neither.
    """
    if nft_json.looks_like(text):
        return Ruleset(), nft_json.parse(text)
    if not nft.looks_like(text):
        return parse(text), ()
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("table "))
    before = "\n".join(lines[:first])
    saved = parse(before) if "\n*" in f"\n{before}" else Ruleset()
    tables = nft.parse("\n".join(lines[first:]))
    return saved, tuple(each for each in tables if not (saved.tables and each.name in HOOKS and each.family in
                                                        ("ip", "ip6")))


def interface_of(made: World, address: str) -> str:
    """Return the interface that a packet from this address comes in by, as far as the routes tell."""
    route = made.spaces[PLACE].route(address)
    return route.interface if route is not None and route.interface else UNKNOWN_INTERFACE


def parse_routes(text: str, file: str = "the routes") -> tuple[Route, ...]:
    """Return the routes of `ip route`, with or without -j; also those of `ip route show table all`.

    Raises:
        UsageError: at the first line that is no route.
    """
    if text.lstrip().startswith("["):
        try:
            entries = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{file}: not the JSON of ip -j route: {error}") from None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UsageError(f"{file}: not the JSON of ip -j route: want a list of objects")
        rows: list[tuple[int, Mapping[str, Any]]] = list(enumerate(entries, 1))
    else:
        rows = [(number, _words(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    six = any(":" in str(row.get("dst", "")) + str(row.get("gateway", "")) for _, row in rows)
    found = []
    for number, row in rows:
        kind = str(row.get("type", "unicast"))
        if kind in ("broadcast", "multicast", "anycast"):
            continue
        hops = row.get("nexthops") or ()
        first: Mapping[str, Any] = hops[0] if hops else row
        dst = str(row.get("dst", ""))
        dst = ("::/0" if six else "0.0.0.0/0") if dst == "default" else dst
        try:
            network = str(ipaddress.ip_network(dst, strict=False))
            metric = int(row.get("metric") or 0)
        except ValueError:
            raise UsageError(f"{file}, line {number}: {dst!r} is no destination of a route",
                             hint="want what `ip route` or `ip -j route` prints") from None
        found.append(Route(network, str(first.get("dev") or ""), str(first.get("gateway") or ""),
                           str(row.get("prefsrc") or ""), metric, kind))  # type: ignore[arg-type]
    return tuple(found)


def _words(line: str) -> dict[str, Any]:
    """Return a line of `ip route` as the fields of its JSON."""
    words = line.split()
    row: dict[str, Any] = {}
    if words[0] == "nexthop":
        return {"type": "multicast"}  # a second way of the route above, whose first counts
    if words[0] in _KINDS:
        row["type"] = words.pop(0)
    row["dst"] = words.pop(0) if words else ""
    names = {"via": "gateway", "dev": "dev", "src": "prefsrc", "metric": "metric"}
    while words:
        word = words.pop(0)
        if word in _FLAGS:
            continue
        if word == "inet6" or not words:
            continue
        value = words.pop(0)
        if word == "via" and value == "inet6" and words:
            value = words.pop(0)
        if word in names:
            row[names[word]] = value
    return row


__all__ = ["PLACE", "interface_of", "parse_routes", "world"]
