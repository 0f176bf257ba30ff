"""bbolt's file format, as far as etcd's snapshots need it (pure): `write` makes such a file, `read` looks into one.

A file is a row of pages of one size. Page 0 and 1 are meta pages: the valid one with the higher transaction number says
where the root bucket begins. A bucket is a B+tree of leaf pages (key and value) and branch pages (first key and page of
each child); the root bucket's values are the other buckets. All numbers are little-endian; checksums are 64-bit FNV-1a.
A page that holds one large value continues over the pages after it, which is its `overflow`.

page     id u64, flags u16, count u16, overflow u32, then `count` elements, then the bytes they point to
leaf     flags u32 (1: the value is a bucket), pos u32 (from the element's own place), key size u32, value size u32
branch   pos u32, key size u32, page u64
bucket   root page u64 (0: it is a page that follows at once), sequence u64
meta     magic u32, version u32, page size u32, flags u32, bucket, freelist page u64, pages u64, txid u64, checksum u64
"""

from __future__ import annotations

import struct

PAGE_BYTES = 4096
"""What is written; any power of two can be read."""
BRANCH, LEAF, META, FREELIST = 1, 2, 4, 16
IS_BUCKET = 1
MAGIC, FORMAT = 0xED0CDAED, 2
PAGE = struct.Struct("<QHHI")
LEAF_ELEMENT = struct.Struct("<IIII")
BRANCH_ELEMENT = struct.Struct("<IIQ")
BUCKET = struct.Struct("<QQ")
META_PAGE = struct.Struct("<IIIIQQQQQ")
CHECKSUM = struct.Struct("<Q")


def fnv(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash of some bytes."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
