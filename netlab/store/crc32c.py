"""CRC-32C (Castagnoli, RFC 3720), which etcd hashes its database with; the standard library has only the other one.

A byte at a time is slow in Python, so long data is cut into lanes of one length that take their steps together: one
`translate` looks the next byte of all lanes up, one exclusive-or of two long numbers joins them. The sum being linear,
a lane's part of it then only has to be moved on by the length of the lanes after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

_ONES = 0xFFFFFFFF
_LANE = 512
_ENOUGH = 16
"""Lanes that make the effort worth it."""


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_row, range(256)))
_BYTES = tuple(bytes(row >> shift & 0xFF for row in _TABLE) for shift in (0, 8, 16, 24))


def crc32c(data: bytes, value: int = 0) -> int:
    """Return the checksum of some bytes, behind those that `value` is the checksum of. Long pieces go fastest."""
    register, lanes = value ^ _ONES, len(data) // _LANE
    if lanes >= _ENOUGH:
        low, second, third, high = _moves()
        for part in _parts(data, lanes):
            register = part ^ (low[register & 0xFF] ^ second[register >> 8 & 0xFF] ^ third[register >> 16 & 0xFF]
                               ^ high[register >> 24])
        data = data[lanes * _LANE:]
    return _steps(data, register) ^ _ONES


def _steps(data: bytes, register: int) -> int:
    for byte in data:
        register = register >> 8 ^ _TABLE[register & 0xFF ^ byte]
    return register


def _parts(data: bytes, lanes: int) -> Iterator[int]:
    """Return what each lane makes of a register of zeros; `low` has the lowest byte of every lane's, and so on."""
    low = second = third = high = 0
    for at in range(_LANE):
        step = int.from_bytes(data[at:lanes * _LANE:_LANE], "little")
        index = (low ^ step).to_bytes(lanes, "little")
        added = [int.from_bytes(index.translate(table), "little") for table in _BYTES]
        low, second, third, high = second ^ added[0], third ^ added[1], high ^ added[2], added[3]
    rows = [register.to_bytes(lanes, "little") for register in (low, second, third, high)]
    return (a | b << 8 | c << 16 | d << 24 for a, b, c, d in zip(*rows, strict=True))


@cache
def _moves() -> tuple[tuple[int, ...], ...]:
    """Return, for each byte of a register and each of its values, what a lane of zeros makes of it."""
    bits = [_steps(bytes(_LANE), 1 << bit) for bit in range(32)]
    tables = []
    for first in (0, 8, 16, 24):
        table = [0]
        for bit in bits[first:first + 8]:
            table += [row ^ bit for row in table]
        tables.append(tuple(table))
    return tuple(tables)
