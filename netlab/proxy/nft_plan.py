"""From what should be to one nft transaction: the whole table, or only what changed since the last one.

An element of a shared set may be wanted by more than one Service (two with one external IP, endpoints that serve
both); it stays as long as somebody wants it, and says what the first of them by name says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from netlab.proxy import nft_names as names
from netlab.proxy.nft_layout import TABLE_COMMENT, Fixed, fixed
from netlab.proxy.nft_rules import Key, NftBlock, block, ip_word
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import Tracker

PIECE = 100
"""Chains of one transaction: the kernel looks for what a transaction made from its beginning, again and again."""


ELEMENTS = 1000
"""Elements of one transaction: without root the kernel takes 400 KiB at a time (net.core.wmem_max)."""


@dataclass(frozen=True)
class Change:
    """What to write: new sets, chains with their rules, elements that go, elements that come.

    `stale_chains` are emptied and `stale_sets` deleted; one that is in `sets` as well has another timeout now.
    """

    sets: Mapping[str, int] = field(default_factory=dict)
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: Mapping[Key, str] = field(default_factory=dict)
    added: Mapping[Key, str] = field(default_factory=dict)
    stale_chains: tuple[str, ...] = ()
    stale_sets: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sets or self.chains or self.removed or self.added or self.stale_chains or self.stale_sets)


class NftWanted:
    """The table that a node should have, Service by Service, and what of it changed since it was last taken."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fixed = fixed(settings)
        self._blocks: dict[str, tuple[NftBlock, ...]] = {}
        self._before: dict[str, tuple[NftBlock, ...]] = {}
        self._owners: dict[Key, dict[str, str]] = {}
        self._elements_before: dict[Key, str | None] = {}

    def set(self, service: str, blocks: Sequence[NftBlock]) -> None:
        """Say what a Service needs, one block per port; none when it is gone."""
        old = self._blocks.get(service, ())
        self._before.setdefault(service, old)
        for key in _elements(old):
            self._remember(key)
            owners = self._owners[key]
            del owners[service]
            if not owners:
                del self._owners[key]
        for key, value in _elements(blocks).items():
            self._remember(key)
            self._owners.setdefault(key, {})[service] = value
        if blocks:
            self._blocks[service] = tuple(blocks)
        else:
            self._blocks.pop(service, None)

    def _remember(self, key: Key) -> None:
        if key not in self._elements_before:
            self._elements_before[key] = self._element(key)

    def _element(self, key: Key) -> str | None:
        owners = self._owners.get(key)
        return owners[min(owners)] if owners else None

    def services(self) -> list[str]:
        """Return the keys of the Services that need something, in a stable order."""
        return sorted(self._blocks)

    def blocks_of(self, service: str) -> tuple[NftBlock, ...]:
        """Return the blocks of a Service, one per port."""
        return self._blocks.get(service, ())

    def blocks(self) -> Iterator[NftBlock]:
        """Yield the blocks of all Services, in a stable order."""
        for service in self.services():
            yield from self._blocks[service]

    def chains(self) -> dict[str, tuple[str, ...]]:
        """Return the chains of all Services, each behind those that it jumps to."""
        return _chains(self.blocks())

    def sets(self) -> dict[str, int]:
        """Return the affinity sets of all Services with their timeouts."""
        return {name: seconds for each in self.blocks() for name, seconds in each.sets.items()}

    def elements(self) -> dict[Key, str]:
        """Return the elements of all shared sets and maps."""
        found = dict(self.fixed.elements)
        found |= {key: owners[min(owners)] for key, owners in self._owners.items()}
        return found

    def take_changes(self) -> Change:
        """Return what changed since the last take, for a kernel that holds what was taken so far."""
        before, self._before = self._before, {}
        elements, self._elements_before = self._elements_before, {}
        new_sets: dict[str, int] = {}
        chains: dict[str, tuple[str, ...]] = {}
        stale_chains: list[str] = []
        stale_sets: list[str] = []
        for service, old in before.items():
            new = self._blocks.get(service, ())
            old_chains, now_chains, old_sets, now_sets = _chains(old), _chains(new), _sets(old), _sets(new)
            chains |= {name: rules for name, rules in now_chains.items() if old_chains.get(name) != rules}
            stale_chains += [name for name in old_chains if name not in now_chains]
            retimed = {name for name, seconds in now_sets.items() if old_sets.get(name, seconds) != seconds}
            new_sets |= {name: seconds for name, seconds in now_sets.items() if name not in old_sets or name in retimed}
            stale_sets += [name for name in old_sets if name not in now_sets or name in retimed]
            if retimed:  # a set can be deleted only when no rule names it, so all rules around it are written again
                chains |= now_chains
        removed: dict[Key, str] = {}
        added: dict[Key, str] = {}
        for key, was in elements.items():
            now = self._element(key)
            if was == now:
                continue
            if was is not None:
                removed[key] = was
            if now is not None:
                added[key] = now
        return Change(new_sets, chains, removed, added, tuple(stale_chains), tuple(stale_sets))

    def forget_changes(self) -> None:
        """Take it that the kernel holds everything: it was just written."""
        self._before, self._elements_before = {}, {}


def _elements(blocks: Iterable[NftBlock]) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for each in blocks:
        for key, value in each.elements.items():
            found.setdefault(key, value)
    return found


def _chains(blocks: Iterable[NftBlock]) -> dict[str, tuple[str, ...]]:
    return {name: rules for each in blocks for name, rules in each.chains.items()}


def _sets(blocks: Iterable[NftBlock]) -> dict[str, int]:
    return {name: seconds for each in blocks for name, seconds in each.sets.items()}


def rebuild(tracker: Tracker, wanted: NftWanted, services: Iterable[str]) -> None:
    """Work out anew what some Services need."""
    for service in services:
        wanted.set(service, [block(port, choice, wanted.settings)
                             for port, choice in tracker.choice(service, wanted.settings)])


def change_text(change: Change, settings: Settings) -> str:
    """Return the commands of a change, to be run as one transaction."""
    table = _table(settings)
    again = [name for name in change.stale_sets if name in change.sets]
    lines = [f"flush chain {table} {name}" for name in change.stale_chains]
    if again:  # rules that name a set go before it does
        lines += [f"add chain {table} {name}\nflush chain {table} {name}" for name in change.chains]
        lines += [f"delete set {table} {name}" for name in again]
    lines += _set_lines(change.sets, settings)
    lines += _chain_lines(change.chains, settings)
    lines += _element_lines("delete", change.removed, settings)
    lines += _element_lines("add", change.added, settings)
    lines += [f"delete set {table} {name}" for name in change.stale_sets if name not in change.sets]
    return "\n".join(lines)


def full_texts(wanted: NftWanted, chains: Collection[str], sets: Mapping[str, int],
               elements: Mapping[Key, str] | None = None, *, services: Iterable[str] = (),
               size: int = PIECE) -> Iterator[str]:
    """Yield the transactions that make the kernel's table into the wanted one, whatever it holds.

    Chains of Services come first, some hundred at a time, and then the elements that lead there; those that are right
    are left alone. The chains that all Services share come last. Affinity sets that are there keep what they remember.

    Args:
        wanted: what should be.
        chains: the chains that the kernel's table has.
        sets: its sets and maps, with their timeouts in seconds.
        elements: the elements of its sets and maps that do not time out, as `NftWanted.elements` has them.
        services: the keys of all Services. Where none of the kernel's sets has a timeout, a Service may be worked out
            when its key is asked for: it is written right behind.
        size: chains of one transaction.
    """
    settings, table = wanted.settings, _table(wanted.settings)
    lines = [f'add table {table} {{ comment "{TABLE_COMMENT}" ; }}']
    affinity = wanted.sets() if any(sets.values()) else {}
    retimed = {name for name, seconds in affinity.items() if sets.get(name, seconds) != seconds}
    if retimed:  # rules that name a set go before it does, so that all has to happen at once
        own = wanted.chains()
        size = len(own)
        lines += [f"add chain {table} {name}\nflush chain {table} {name}" for name in own]
        lines += [f"flush chain {table} {name}" for name in chains if not (name in own or name in wanted.fixed.chains)]
        lines += [f"delete set {table} {name}" for name in sorted(retimed)]
    written: set[str] = set()
    count = 0
    for service in services or wanted.services():
        blocks = wanted.blocks_of(service)
        made, own = _sets(blocks), _chains(blocks)
        lines += _set_lines({name: seconds for name, seconds in made.items()
                             if name not in sets or name in retimed}, settings)
        lines += _chain_lines(own, settings)
        written.update(made, own)
        count += len(own)
        if count >= size:
            yield "\n".join(lines)
            lines, count = [], 0
    stale = [name for name in chains if name not in written and name not in wanted.fixed.chains]
    gone = [name for name in sets if name not in written and name not in wanted.fixed.sets]
    lines += (f'add {kind.word} {table} {name} {{ type {kind.type} ; comment "{kind.comment}" ; }}'
              for name, kind in wanted.fixed.sets.items())
    lines += _helper_lines(wanted.fixed, settings)
    for piece_of in _element_pieces(wanted, elements or {}):
        yield "\n".join((*lines, *piece_of))
        lines = []
    lines += _fixed_lines(wanted.fixed, settings)
    lines += [f"flush chain {table} {name}" for name in stale]
    lines += [f"delete set {table} {name}" for name in gone]
    yield "\n".join(lines)


def _element_pieces(wanted: NftWanted, held: Mapping[Key, str]) -> Iterator[list[str]]:
    """Yield the commands for the elements that are not as they should be; what is exchanged is so in one piece."""
    now = wanted.elements()
    keys = [key for key, value in now.items() if held.get(key) != value]
    keys += [key for key in held if key not in now and key[0] in wanted.fixed.sets]
    for at in range(0, len(keys), ELEMENTS):
        piece = keys[at:at + ELEMENTS]
        yield [*_element_lines("delete", {key: "" for key in piece if key in held}, wanted.settings),
               *_element_lines("add", {key: now[key] for key in piece if key in now}, wanted.settings)]


def _helper_lines(made: Fixed, settings: Settings) -> Iterator[str]:
    """Yield the chain that elements lead to besides chains of Services."""
    name = names.REJECT
    yield f'add chain {_table(settings)} {name} {{ comment "{made.comments[name]}" ; }}'


def deletions(chains: Iterable[str], settings: Settings) -> str:
    """Return the commands that delete chains that were emptied before."""
    return "\n".join(f"delete chain {_table(settings)} {name}" for name in chains)


def _table(settings: Settings) -> str:
    return f"{ip_word(settings)} {names.TABLE}"


def _fixed_lines(made: Fixed, settings: Settings) -> Iterator[str]:
    table = _table(settings)
    for name in made.chains:
        said = f'comment "{made.comments[name]}" ; ' if name in made.comments else ""
        hook = made.hooks.get(name, "")
        yield f"add chain {table} {name}" + (f" {{ {hook} {said}}}" if hook or said else "")
        yield f"flush chain {table} {name}"
    for name, rules in made.chains.items():
        for rule in rules:
            yield f"add rule {table} {name} {rule}"


def _set_lines(sets: Mapping[str, int], settings: Settings) -> Iterator[str]:
    for name, seconds in sets.items():
        yield f"add set {_table(settings)} {name} {{ {affinity_kind(settings)} ; timeout {seconds}s ; }}"


def affinity_kind(settings: Settings) -> str:
    """Return the declaration of an affinity set without its timeout."""
    address = "ipv6_addr" if settings.family == "IPv6" else "ipv4_addr"
    return f"type {address} ; size 65535 ; flags dynamic,timeout"


def _chain_lines(chains: Mapping[str, tuple[str, ...]], settings: Settings) -> Iterator[str]:
    table = _table(settings)
    for name, rules in chains.items():
        yield f"add chain {table} {name}"
        yield f"flush chain {table} {name}"
        for rule in rules:
            yield f"add rule {table} {name} {rule}"


def _element_lines(verb: str, elements: Mapping[Key, str], settings: Settings) -> Iterator[str]:
    by_set: dict[str, list[str]] = {}
    for (where, key), value in elements.items():
        by_set.setdefault(where, []).append(key + (value if verb == "add" else ""))
    for where, each in by_set.items():
        yield f"{verb} element {_table(settings)} {where} {{ {', '.join(each)} }}"
