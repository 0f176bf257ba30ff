"""Keys in byte order: a sorted list in blocks, so that an insert moves hundreds of entries, not all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

_BLOCK = 512
"""Entries per block; a block is split at twice this. Found by measuring 1,000 to 100,000 keys."""


class SortedKeys:
    """A sorted set of byte strings; adding, removing and finding cost the logarithm of its size plus one block."""

    __slots__ = ("_blocks", "_firsts", "_size")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        ordered = sorted(set(keys))
        self._blocks = [ordered[at:at + _BLOCK] for at in range(0, len(ordered), _BLOCK)] or [[]]
        self._firsts = [block[0] if block else b"" for block in self._blocks]
        self._firsts[0] = b""
        self._size = len(ordered)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            yield from block

    def _block(self, key: bytes) -> int:
        """Return the index of the block where `key` is or would be."""
        return bisect_right(self._firsts, key) - 1

    def add(self, key: bytes) -> None:
        """Add a key that is not in the set."""
        at = self._block(key)
        block = self._blocks[at]
        insort(block, key)
        self._size += 1
        if len(block) > 2 * _BLOCK:
            self._blocks[at:at + 1] = [block[:_BLOCK], block[_BLOCK:]]
            self._firsts.insert(at + 1, block[_BLOCK])

    def remove(self, key: bytes) -> None:
        """Remove a key that is in the set."""
        at = self._block(key)
        block = self._blocks[at]
        del block[bisect_left(block, key)]
        self._size -= 1
        if not block and len(self._blocks) > 1:
            del self._blocks[at], self._firsts[at]
            self._firsts[0] = b""

    def between(self, start: bytes, end: bytes) -> list[bytes]:
        """Return the keys in [start, end), in order; `end` of one zero byte means to the last."""
        first = self._block(start)
        open_ended = end == b"\0"
        last = len(self._blocks) - 1 if open_ended else self._block(end)
        if last < first:
            return []
        block = self._blocks[first]
        head = bisect_left(block, start)
        if first == last:
            return block[head:] if open_ended else block[head:bisect_left(block, end)]
        found = block[head:]
        for middle in range(first + 1, last):
            found += self._blocks[middle]
        block = self._blocks[last]
        found += block if open_ended else block[:bisect_left(block, end)]
        return found
