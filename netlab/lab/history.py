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
        """Return the rules of one family as of a node that is read now; settings of the kernel are those of now."""
        family = "IPv6" if now.ipv6 else "IPv4"
        both = [self.moment.iptables(family, backend) for backend in ("nft", "legacy")]
        ordered = sorted(filter(None, both), key=lambda text: ":KUBE-SERVICES " not in text)
        found = holding.of_text("".join((*ordered[:1], self.moment.nft())), ipv6=now.ipv6)
        other = parse(ordered[1]) if ordered[1:] else None
        return replace(found, node=node, other=other, sysctls=now.sysctls, bridge=now.bridge)

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

    def routes(self) -> list[list[Any]]:
        """Return the routes: destination, interface, gateway, source, metric, kind, table."""
        found: list[list[Any]] = json.loads(self.moment.parts.get(history.ROUTES, "[]"))
        return found


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
