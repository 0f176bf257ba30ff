"""The kernel's hash of a few bytes (<linux/jhash.h>, after Bob Jenkins' lookup3). Pure."""

from __future__ import annotations

from typing import Final

_MASK: Final = 0xFFFFFFFF
_INITIAL: Final = 0xDEADBEEF
_MIX: Final = (4, 6, 8, 16, 19, 4)
_FINAL: Final = (14, 11, 25, 16, 4, 14, 24)


def _turned(value: int, by: int) -> int:
    return (value << by | value >> (32 - by)) & _MASK


def jhash(data: bytes, seed: int) -> int:
    """Return the hash of bytes, as a little-endian machine has it."""
    a = b = c = (_INITIAL + len(data) + seed) & _MASK
    at = 0
    while len(data) - at > 12:
        x, y, z = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4, 8))
        a, b, c = a + x & _MASK, b + y & _MASK, c + z & _MASK
        for by in _MIX:
            a, c = (a - c & _MASK) ^ _turned(c, by), c + b & _MASK
            a, b, c = b, c, a  # the next step does the same one place further on
        at += 12
    if at == len(data):
        return c
    x, y, z = (int.from_bytes(data[at + n : at + n + 4], "little") for n in (0, 4, 8))
    a, b, c = a + x & _MASK, b + y & _MASK, c + z & _MASK
    for by in _FINAL:
        c = (c ^ b) - _turned(b, by) & _MASK
        a, b, c = b, c, a
    return b  # the last to be changed
