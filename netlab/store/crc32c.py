"""CRC-32C (Castagnoli, RFC 3720), which etcd hashes its database with; the standard library has only the other one."""

from __future__ import annotations


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_row, range(256)))


def crc32c(data: bytes, value: int = 0) -> int:
    """Return the checksum of some bytes, behind those that `value` is the checksum of. About 10 MB/s."""
    table, value = _TABLE, value ^ 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ table[value & 0xFF ^ byte]
    return value ^ 0xFFFFFFFF
