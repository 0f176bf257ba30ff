"""A node's table as `nft list ruleset` prints it; `nft -f` reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netlab.api import meta
from netlab.api.meta import Object
from netlab.proxy import nft_names as names
from netlab.proxy.nft_layout import TABLE_COMMENT
from netlab.proxy.nft_plan import NftWanted, affinity_kind, rebuild
from netlab.proxy.nft_rules import ip_word
from netlab.proxy.services import ignored
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import Tracker


def nft_wanted_for(objects: Iterable[Object], settings: Settings) -> NftWanted:
    """Return the table of a node for a set of API objects, of which only Services and EndpointSlices matter."""
    tracker = Tracker(settings.family)
    for each in objects:
        if each.get("kind") == "Service" and not ignored(each):
            tracker.service(meta.key(each), each)
        elif each.get("kind") == "EndpointSlice":
            tracker.slice(meta.key(each), each)
    wanted = NftWanted(settings)
    rebuild(tracker, wanted, tracker.services())
    wanted.forget_changes()
    return wanted


def text(wanted: NftWanted) -> str:
    """Return the whole table."""
    return "\n".join((f"table {ip_word(wanted.settings)} {names.TABLE} {{", f'\tcomment "{TABLE_COMMENT}"',
                      *_body(wanted), "}\n"))


def _body(wanted: NftWanted) -> Iterator[str]:
    elements: dict[str, list[str]] = {}
    for (where, key), value in wanted.elements().items():
        elements.setdefault(where, []).append(key + value)
    for name, kind in wanted.fixed.sets.items():
        lines = [f"type {kind.type}", f'comment "{kind.comment}"']
        if name in elements:
            lines.append("elements = { " + ",\n\t\t\t     ".join(elements[name]) + " }")
        yield from _section(f"{kind.word} {name}", lines)
    for name, seconds in wanted.sets().items():
        yield from _section(f"set {name}", [*affinity_kind(wanted.settings).split(" ; "),
                                            f"timeout {_duration(seconds)}"])
    for name, rules in wanted.fixed.chains.items():
        head = [wanted.fixed.hooks[name]] if name in wanted.fixed.hooks else []
        if name in wanted.fixed.comments:
            head.append(f'comment "{wanted.fixed.comments[name]}"')
        yield from _section(f"chain {name}", (*head, *rules))
    for name, rules in wanted.chains().items():
        yield from _section(f"chain {name}", rules)


def _section(head: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"\t{head} {{"
    yield from (f"\t\t{line}" for line in lines)
    yield "\t}\n"


def _duration(seconds: int) -> str:
    """Return seconds in nft's words.

    >>> _duration(90061)
    '1d1h1m1s'
    """
    parts = ((seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
