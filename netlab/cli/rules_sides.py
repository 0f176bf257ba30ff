"""The sides of `netlab rules diff`: nodes, files, revisions, and what kube-proxy would write in either mode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from netlab.cli import rules_source
from netlab.cli.rules_source import Asked, Source

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.inspect.holding import Holding
    from netlab.inspect.names import Names

_MODES = ("iptables", "nftables")


def pairs(one: str, other: str, asked: Asked) -> Iterator[tuple[str, Holding, Holding]]:
    """Yield what is compared, in words, and both sides; several times when it is compared on each node.

    Raises:
        NotFound: no such node, file or revision; UsageError: a side is none of the words.
    """
    if not (_made(one) or _made(other)):
        yield f"{one} → {other}", _fixed(one, asked), _fixed(other, asked)
        return
    place = next((each for each in (one, other) if each.startswith("node/")), "")
    source = replace(asked, node=asked.node or place).source()
    ipv6 = asked.families == (True,)
    listed = {side: source.objects(side[1:] if side.startswith("@") else "") for side in (one, other) if _made(side)}
    recorded = {side: source.recorded(side[1:]) for side in listed
                if side.startswith("@") and isinstance(source, rules_source.LabSource)}
    from netlab.inspect import expected

    for held in rules_source.holdings(source, ipv6=ipv6):
        then = {side: found[held.node] for side, found in recorded.items() if held.node in found}
        sides = [then[side].holding(held.node, held) if side in then else
                 _expected(side, held, listed[side]) if _made(side) else
                 (held if side.startswith("node/") else _fixed(side, asked)) for side in (one, other)]
        if any(_made(side) and side not in then for side in (one, other)):
            sides = [expected.only_proxys(side) for side in sides]  # what others wrote is no difference there
        called = [f"{side} ({then[side].words})" if side in then else
                  f"{side} (recomputed)" if side.startswith("@") else side for side in (one, other)]
        yield f"{' → '.join(called)}{'' if place else f' on node/{held.node}'}", sides[0], sides[1]


def names(sides: Sequence[str], asked: Asked) -> Names:
    """Return what the API calls addresses; nothing when only files are compared."""
    from netlab.inspect.names import Names

    if all(not _made(each) and not each.startswith("node/") for each in sides):
        return Names()
    return asked.source().names()


def _made(side: str) -> bool:
    return side in _MODES or side == "api" or (side.startswith("@") and side[1:].isdigit())


def _fixed(side: str, asked: Asked) -> Holding:
    from netlab.errors import NotFound
    from netlab.inspect import holding

    ipv6 = asked.families == (True,)
    if side.startswith("node/"):
        source: Source = replace(asked, node=side).source()
        return next(rules_source.holdings(source, ipv6=ipv6))
    try:
        with click.open_file(side, encoding="utf-8", errors="replace") as file:
            return holding.of_text(file.read(), ipv6=ipv6)
    except OSError as error:
        raise NotFound(f"cannot read {side}: {error.strerror}",
                       hint="a side is node/NAME, a file, api, @REVISION, iptables or nftables") from None


def _expected(side: str, held: Holding, objects: Sequence[Object]) -> Holding:
    """Return what the kube-proxy of a node would write: in its own mode, or in the one that the side names."""
    from netlab.inspect import expected

    return expected.expected(held, objects, side if side in _MODES else held.mode or "iptables")
