"""What a bbolt file holds, read page by page."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from netlab.store.bolt import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    CHECKSUM,
    FORMAT,
    IS_BUCKET,
    LEAF,
    LEAF_ELEMENT,
    MAGIC,
    META_PAGE,
    PAGE,
    PAGE_BYTES,
    fnv,
)
from netlab.store.errors import Corrupt

_DEEPEST = 64
_PAGE_SIZES = tuple(1 << bits for bits in range(9, 17))


class File:
    """A bbolt file, open to read; `with` closes it."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            Corrupt: it is no bbolt file, or a damaged one.
            OSError: it can't be read.
        """
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._bytes = os.fstat(self._file).st_size
        try:
            self._page_bytes, self._root = self._meta()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:
        os.close(self._file)

    def bucket(self, name: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return the keys and values of a bucket, in order; none if there is no such bucket.

        Raises:
            Corrupt: a page is not what it should be.
        """
        try:
            for flags, key, value in self._walk(self._root, 0):
                if key == name and flags & IS_BUCKET:
                    root, _ = BUCKET.unpack_from(value)
                    rows = self._walk(root, 0) if root else self._leaf(value[BUCKET.size:])
                    yield from ((key, value) for flags, key, value in rows if not flags & IS_BUCKET)
        except struct.error as error:
            raise self._corrupt(str(error)) from None

    def _meta(self) -> tuple[int, int]:
        """Return the page size, and the page of the root bucket."""
        found: list[tuple[int, int, int]] = []
        size = PAGE_BYTES
        for at in (0, *_PAGE_SIZES):  # the second meta page lies one page behind the first, which may be damaged
            data = os.pread(self._file, META_PAGE.size + CHECKSUM.size, at + PAGE.size)
            if len(data) < META_PAGE.size + CHECKSUM.size:
                continue
            magic, version, size, _, root, _, _, _, txid = META_PAGE.unpack_from(data)
            checksum, = CHECKSUM.unpack_from(data, META_PAGE.size)
            if magic == MAGIC and version == FORMAT and checksum == fnv(data[:META_PAGE.size]) and at in (0, size):
                found.append((txid, size, root))
        if not found:
            raise self._corrupt("this is no bbolt database")
        _, size, root = max(found)
        return size, root

    def _page(self, number: int) -> bytes:
        at, size = number * self._page_bytes, self._page_bytes
        if at + size <= self._bytes:
            found, _, _, overflow = PAGE.unpack(os.pread(self._file, PAGE.size, at))
            if found == number and at + size * (1 + overflow) <= self._bytes:
                return os.pread(self._file, size * (1 + overflow), at)
        raise self._corrupt(f"page {number} is not whole")

    def _walk(self, number: int, depth: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Return flags, key and value of each element below a page."""
        data = self._page(number)
        _, flags, count, _ = PAGE.unpack_from(data)
        if flags & LEAF:
            yield from self._leaf(data)
        elif flags & BRANCH and depth < _DEEPEST:
            for at in range(count):
                yield from self._walk(BRANCH_ELEMENT.unpack_from(data, PAGE.size + at * BRANCH_ELEMENT.size)[2],
                                      depth + 1)
        else:
            raise self._corrupt(f"page {number} is neither leaf nor branch")

    def _leaf(self, data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        for number in range(PAGE.unpack_from(data)[2]):
            place = PAGE.size + number * LEAF_ELEMENT.size
            flags, offset, key_size, value_size = LEAF_ELEMENT.unpack_from(data, place)
            start, middle = place + offset, place + offset + key_size
            if middle + value_size > len(data):
                raise self._corrupt("an element points beyond its page")
            yield flags, data[start:middle], data[middle:middle + value_size]

    def _corrupt(self, words: str) -> Corrupt:
        return Corrupt(f"{self.path}: {words}")
