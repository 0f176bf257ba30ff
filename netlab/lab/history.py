"""What a lab's nodes held at a revision, as netd recorded it (netlab.netd.recorder)."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netlab.inspect import holding
from netlab.inspect.holding import Holding
from netlab.lab.state import LabRecord
from netlab.netfilter import history, nft
from netlab.netfilter.history import Moment
from netlab.netfilter.model import Ruleset
from netlab.netfilter.nft_eval import Book
from netlab.netfilter.parse import parse
from netlab.netfilter.stations import Beside
from netlab.trace.routing import NextHop, Route, Rule
from netlab.trace.world import Link, Space

FOLDER = "var/lib/netd/history"


@dataclass(frozen=True)
class Held:
    """A node's state at a revision; `until` is the moment that ended it, None for one that still lasts."""

    moment: Moment
    until: Moment | None

    @property
    def words(self) -> str:
        """Return since when and until when it was held."""
        end = f"until {_clock(self.until.at)} (revision {self.until.revision})" if self.until else "and still is"
        return f"held from {_clock(self.moment.at)} (revision {self.moment.revision}) {end}"

    def holding(self, node: str, now: Holding) -> Holding:
        """Return the rules of one family as of a node that is read now, and the settings of the kernel."""
        family = "IPv6" if now.ipv6 else "IPv4"
        both = [self.moment.iptables(family, backend) for backend in ("nft", "legacy")]
        ordered = sorted(filter(None, both), key=lambda text: ":KUBE-SERVICES " not in text)
        found = holding.of_text("".join((*ordered[:1], self.moment.nft())), ipv6=now.ipv6)
        other = parse(ordered[1]) if ordered[1:] else None
        settings = self.settings()
        bridge = any(row[1] == "bridge" for row in self._part(history.LINKS, [])) if settings else now.bridge
        return replace(found, node=node, other=other, sysctls=settings["sysctls"] if settings else now.sysctls,
                       bridge=bridge)

    def rules(self, family: int, created: Sequence[str] = ()) -> tuple[Ruleset | None, Beside]:
        """Return the rules of family 4 or 6: iptables' first set of tables, and what there is beside it.

        `created` are the names of nftables' tables, the oldest first, where their order was not recorded.
        """
        texts = filter(None, (self.moment.iptables(f"IPv{family}", backend) for backend in ("nft", "legacy")))
        sets = [parse(text) for text in texts]
        listing = self.moment.nft()
        mine = ("inet", "ip" if family == 4 else "ip6")
        books = tuple(Book(table) for table in (nft.parse(listing) if listing else ()) if table.family in mine)
        return sets[0] if sets else None, Beside(tuple(sets[1:]), books, self.moment.tables() or tuple(created))

    def settings(self) -> Mapping[str, Any]:
        """Return the kernel's settings, see history.SETTINGS; {} where they were not recorded."""
        found: Mapping[str, Any] = self._part(history.SETTINGS, {})
        return found

    def space(self, now: Space, family: int) -> Space:
        """Return a node's namespace as it was: its rules of one family, routes, routing rules, links and settings.

        Cables are those of now. Links that came since are left out, but for those of Pods, which are those of now.
        """
        rules, beside = self.rules(family, (now.beside.get(family) or Beside()).created)
        settings = self.settings()
        policies = {int(version): tuple(_policy(row) for row in rows)
                    for version, rows in self._part(history.POLICIES, {}).items()} or now.policies
        links = {row[0]: _link(row, now.links.get(row[0])) for row in self._part(history.LINKS, [])}
        if links:
            links |= {name: link for name, link in now.links.items()
                      if name not in links and link.far and link.far.place.startswith("pod/")}
        return replace(
            now, rules={family: rules} if rules is not None else {}, beside={family: beside}, links=links or now.links,
            routes=tuple(_route(each) for each in self._part(history.ROUTES, [])), policies=policies,
            bridge_calls=frozenset(settings["bridge_calls"]) if settings else now.bridge_calls)

    def _part(self, name: str, otherwise: Any) -> Any:
        return json.loads(self.moment.parts[name]) if name in self.moment.parts else otherwise


def _route(row: Sequence[Any]) -> Route:
    dst, interface, gateway, source, metric, kind, table, origin, *more = row
    hops, grouped = more or ([], False)  # what was recorded before there were such
    return Route(dst, interface, gateway, source, metric, kind, table, origin,
                 hops=tuple(NextHop(*each) for each in hops), grouped=grouped)


def _policy(row: Sequence[Any]) -> Rule:
    fields: list[Any] = [tuple(each) if isinstance(each, list) else each for each in row]
    return Rule(*fields)


def _link(row: Sequence[Any], now: Link | None) -> Link:
    name, kind, up, mtu, master, hairpin, cidrs, rp_filter, forwards, *more = row
    return Link(name, kind, up, mtu, master, hairpin, now.far if now else None, tuple(cidrs), rp_filter,
                frozenset(forwards), bool(more[0]) if more else now is None or now.localnet)


def at(lab: LabRecord, revision: int) -> Mapping[str, Held]:
    """Return what was recorded for a revision, by node: the last state that was there when the store was at it.

    Nodes of which nothing so old was recorded are missing: without netd nothing is, and what it keeps is bounded.
    """
    found = {}
    for node in lab.nodes:
        held = _at(lab.state_dir / "nodes" / node.name / FOLDER, revision)
        if held is not None:
            found[node.name] = held
    return found


def _at(folder: Path, revision: int) -> Held | None:
    last: Moment | None = None
    with contextlib.suppress(OSError):
        for file in sorted(folder.iterdir()):
            for moment in history.moments(file.read_bytes()):
                if moment.revision > revision:
                    return Held(last, moment) if last is not None else None
                last = moment
    return Held(last, None) if last is not None else None


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}"
