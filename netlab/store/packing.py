"""The values of history: compressed where they lie, each against an example out of its folder.

They are most of what the store weighs after a burst, and few are ever read again. Objects of one kind have most of
their bytes in common, so that one of them as the dictionary makes the others seven times smaller than each by itself
is, in a third of the time.
"""

from __future__ import annotations

import zlib
from typing import Any

from netlab.store.model import KeyValue

_EXAMPLE = 16 << 10
"""Bytes of an example, at most: deflate takes them in anew for each value, at 2 us a KiB."""
_WINDOW, _MEMORY = 14, 7
"""A window of 16 KiB, as much as an example has: with deflate's own 32 KiB its room is so large that malloc may ask the
kernel for it anew each time, which takes longer than the work."""
_FOLDERS = 256
_PATIENCE = 100
"""Values that an example has to serve, well or badly, before another one takes its place: those that are compressed
against it keep it alive."""
_value: Any = KeyValue.__dict__["value"]


class Packed(KeyValue):
    """A KeyValue of history: its value is kept compressed, as (bytes, example), and unpacked at each look."""

    __slots__ = ()

    @property
    def value(self) -> bytes:  # type: ignore[override]
        """Return the value."""
        kept = _value.__get__(self)
        if type(kept) is bytes:
            return kept
        packed, example = kept
        return zlib.decompressobj(zdict=example).decompress(packed)


class Press:
    """Compresses values, and remembers an example of each folder to do it by."""

    def __init__(self) -> None:
        self._examples: dict[bytes, tuple[bytes, int]] = {}  # by folder: with how many values it has served

    def pack(self, kv: KeyValue) -> None:
        """Compress the value in place, for all who hold this KeyValue, also in other threads.

        One that gets no smaller stays.
        """
        if type(kv) is not KeyValue:
            return
        value, folder = kv.value, kv.key[:kv.key.rfind(b"/") + 1]
        example, served = self._examples.get(folder, (b"", 0))
        deflate = zlib.compressobj(1, zlib.DEFLATED, _WINDOW, _MEMORY, zdict=example)
        packed = deflate.compress(value) + deflate.flush()
        if not example or (served >= _PATIENCE and len(packed) > len(value) // 4):
            if len(self._examples) >= _FOLDERS:
                self._examples.clear()
            self._examples[folder] = value[:_EXAMPLE], 0
        else:
            self._examples[folder] = example, served + 1
        if len(packed) < len(value):
            kv.__class__ = Packed
            _value.__set__(kv, (packed, example))


def room(kv: KeyValue) -> int:
    """Return the bytes that the value takes in memory."""
    kept = _value.__get__(kv)
    return len(kept if type(kept) is bytes else kept[0])
