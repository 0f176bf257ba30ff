"""A bbolt file, written front to back.

The trees are laid out first, for which only the sizes of keys and values are needed, and then written page by page:
what is held is the first key of each page, and the page at hand. So the buckets are read twice, and must say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from netlab.store.bolt import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    CHECKSUM,
    FORMAT,
    FREELIST,
    IS_BUCKET,
    LEAF,
    LEAF_ELEMENT,
    MAGIC,
    META,
    META_PAGE,
    PAGE,
    PAGE_BYTES,
    fnv,
)

Item: TypeAlias = tuple[bytes, bytes]
"""A key and its value."""
Bucket: TypeAlias = Callable[[], Iterable[Item]]
"""Gives the items of a bucket in the order of their keys, each time anew."""
_FREELIST_PAGE, _FIRST_PAGE = 2, 3


@dataclass(slots=True)
class _Page:
    """A page of a tree that is planned: its number, its first key, and how many elements it has."""

    id: int
    key: bytes
    count: int = 0
    overflow: int = 0

    @property
    def next(self) -> int:
        return self.id + 1 + self.overflow


@dataclass(frozen=True)
class _Tree:
    """The pages of a bucket: its leaves, then its branches level by level; the last page is the root."""

    leaves: Sequence[_Page]
    levels: Sequence[Sequence[_Page]]

    @property
    def root(self) -> _Page:
        return self.levels[-1][-1] if self.levels else self.leaves[0]


class File:
    """A file that has these buckets."""

    def __init__(self, buckets: Mapping[bytes, Bucket]) -> None:
        self._buckets = dict(sorted(buckets.items()))
        self._trees: list[_Tree] = []
        at = _FIRST_PAGE
        for bucket in self._buckets.values():
            tree = _plan(bucket(), at)
            self._trees.append(tree)
            at = tree.root.next
        self._root = _plan(self._names(), at)

    @property
    def size(self) -> int:
        """Return how many bytes it has."""
        return self._root.root.next * PAGE_BYTES

    def pages(self) -> Iterator[bytes]:
        """Return its bytes, some pages at a time."""
        for number in (0, 1):
            yield self._meta(number)
        yield _page(_FREELIST_PAGE, FREELIST, [], PAGE_BYTES)
        for bucket, tree in zip(self._buckets.values(), self._trees, strict=True):
            yield from _write(tree, bucket(), 0)
        yield from _write(self._root, self._names(), IS_BUCKET)

    def _names(self) -> Iterator[Item]:
        for name, tree in zip(self._buckets, self._trees, strict=True):
            yield name, BUCKET.pack(tree.root.id, 0)

    def _meta(self, number: int) -> bytes:
        """Return a meta page. The two may differ only in their transaction, which is even on page 0 and odd on 1."""
        meta = META_PAGE.pack(MAGIC, FORMAT, PAGE_BYTES, 0, self._root.root.id, 0, _FREELIST_PAGE,
                              self.size // PAGE_BYTES, 2 - number)
        return (PAGE.pack(number, META, 0, 0) + meta + CHECKSUM.pack(fnv(meta))).ljust(PAGE_BYTES, b"\0")


def _plan(items: Iterable[Item], at: int) -> _Tree:
    """Lay a bucket out from page `at` on."""
    leaves: list[_Page] = []
    used = PAGE_BYTES
    for key, value in items:
        size = LEAF_ELEMENT.size + len(key) + len(value)
        if used + size > PAGE_BYTES:
            at = leaves[-1].next if leaves else at
            leaves.append(_Page(at, key))
            used = PAGE.size
        used += size
        leaves[-1].count += 1
        leaves[-1].overflow = (used - 1) // PAGE_BYTES
    if not leaves:
        leaves.append(_Page(at, b""))
    levels: list[list[_Page]] = []
    below = leaves
    while len(below) > 1:
        below = _branches(below)
        levels.append(below)
    return _Tree(leaves, levels)


def _branches(children: Sequence[_Page]) -> list[_Page]:
    """Return the level above some pages. No branch has a single child: bbolt never leaves one."""
    at, used = children[-1].next, PAGE_BYTES
    found: list[_Page] = []
    for child in children:
        size = BRANCH_ELEMENT.size + len(child.key)
        if used + size > PAGE_BYTES:
            found.append(_Page(at + len(found), child.key))
            used = PAGE.size
        used += size
        found[-1].count += 1
    if len(found) > 1 and found[-1].count == 1:
        found[-2].count, found[-1].count, found[-1].key = found[-2].count - 1, 2, children[-2].key
    return found


def _write(tree: _Tree, items: Iterable[Item], flags: int) -> Iterator[bytes]:
    """Return the pages of a tree, in order."""
    left = iter(items)
    for page in tree.leaves:
        rows = list(islice(left, page.count))
        place = PAGE.size + LEAF_ELEMENT.size * len(rows)
        head: list[bytes] = []
        data: list[bytes] = []
        for number, (key, value) in enumerate(rows):
            here = PAGE.size + LEAF_ELEMENT.size * number
            head.append(LEAF_ELEMENT.pack(flags, place - here, len(key), len(value)))
            data += (key, value)
            place += len(key) + len(value)
        yield _page(page.id, LEAF, head, (1 + page.overflow) * PAGE_BYTES, data, page.overflow)
    below = iter(tree.leaves)
    for level in tree.levels:
        for page in level:
            yield _branch(page, list(islice(below, page.count)))
        below = iter(level)


def _branch(page: _Page, children: Sequence[_Page]) -> bytes:
    place = BRANCH_ELEMENT.size * len(children)
    head: list[bytes] = []
    for number, child in enumerate(children):
        head.append(BRANCH_ELEMENT.pack(place - BRANCH_ELEMENT.size * number, len(child.key), child.id))
        place += len(child.key)
    return _page(page.id, BRANCH, head, PAGE_BYTES, [child.key for child in children])


def _page(number: int, flags: int, head: Sequence[bytes], size: int, data: Sequence[bytes] = (),
          overflow: int = 0) -> bytes:
    return b"".join((PAGE.pack(number, flags, len(head), overflow), *head, *data)).ljust(size, b"\0")
