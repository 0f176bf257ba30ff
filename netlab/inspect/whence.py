"""`why` for a whole node, in whatever mode its kube-proxy runs, tables of others included. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netlab.errors import NotFound
from netlab.inspect import nft_provenance, nft_words, provenance, user_mode
from netlab.inspect.holding import NFTABLES, USERSPACE, Holding
from netlab.inspect.nft_world import NftWorld
from netlab.inspect.provenance import Origin
from netlab.inspect.world import World
from netlab.netfilter import nft


def why(asked: str, held: Holding, world: World, nft_world: NftWorld | None) -> tuple[Origin, ...]:
    """Return where what was asked for comes from; () when the node has no such thing.

    Raises:
        NotFound: a chain or set has no rule of that number.
        UsageError: nothing was asked for.
    """
    found: list[Origin] = []
    missing: NotFound | None = None
    try:
        for each in provenance.why(asked, held.rules, world):
            if held.mode == USERSPACE:
                each = user_mode.explained(each, held.rules, world)
            stale = held.mode == NFTABLES and each.maker in ("kube-proxy", "former") and each.chain.startswith("KUBE-")
            found.append(replace(each, maker="former", said=f"left from iptables mode, kube-proxy runs in nftables "
                                                            f"mode here: {each.said}") if stale else each)
    except NotFound as error:
        missing = error
    if held.nft is not None and nft_world is not None:
        found += nft_provenance.why(asked, held.nft, nft_world)
    found += _native(asked.strip(), held)
    if missing is not None and not found:
        raise missing
    return tuple(found)


def _native(asked: str, held: Holding) -> Iterator[Origin]:
    said = nft.meaning(asked)
    for table in held.native:
        place = f"{table.family} {table.name}"
        callers = table.callers()
        for chain in table.chains.values():
            standing = (f"at the hook {chain.hook}, priority {chain.priority}" if chain.hook
                        else f"called by {', '.join(callers.get(chain.name, ())) or 'nobody'}")
            if chain.name == asked:
                yield Origin(place, chain.name, 0, "foreign", "", f"{len(chain.rules)} rules",
                             f"foreign: a table that no part of Kubernetes made. It stands {standing}")
            for number, rule in enumerate(chain.rules, 1):
                if asked == f"{chain.name}:{number}" or said in nft.meaning(rule.text) or asked in rule.comment:
                    yield Origin(place, chain.name, number, "foreign", rule.line, nft_words.explain(rule.text),
                                 f"foreign: no object of the API explains it. It stands in {place} {chain.name}, "
                                 f"{standing}")
