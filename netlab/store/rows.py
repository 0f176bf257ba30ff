"""The rows of the log on disk, and what shows that they are whole (pure).

- Each row has a checksum over all of it.
- Revisions after the compacted one have no gaps, nor have the places within one; each version follows that before it.
- Of the state at the compacted revision, and of the leases, there is a `Sum`: rows that are missing or from another
  time, each whole in itself (half of a file is an older one, a WAL is another file's), do not add up to it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from netlab.store.backend import Kept
from netlab.store.model import Event, KeyValue, Lease

FORMAT = 2
BITS = {1: 16, 2: 24}
"""By format: bits of a row's number that say its place in its transaction. For one deletion 65,536 were too few."""
_SUM = 0xFFFFFFFF


@dataclass(frozen=True)
class Sum:
    """What a set of rows adds up to, in whatever order they come: how many, and their checksums' sum."""

    count: int = 0
    total: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.count + other.count, self.total + other.total & _SUM)

    def __sub__(self, other: Sum) -> Sum:
        return Sum(self.count - other.count, self.total - other.total & _SUM)

    @property
    def number(self) -> int:
        """Return it as one number of at most 63 bits."""
        return (self.count & 0x7FFFFFFF) << 32 | self.total


def of_rows(identities: Iterable[int]) -> Sum:
    """Return what rows of these numbers add up to; their content has checksums of its own."""
    found = [zlib.crc32(b"%d" % identity) for identity in identities]
    return Sum(len(found), sum(found) & _SUM)


def of_leases(leases: Iterable[Lease]) -> Sum:
    """Return what leases add up to."""
    found = [zlib.crc32(b"%d %d %a" % (lease.id, lease.ttl, lease.expires)) for lease in leases]
    return Sum(len(found), sum(found) & _SUM)


def number(kv: KeyValue) -> int:
    """Return the number of a row."""
    return kv.mod_revision << BITS[FORMAT] | kv.sub


def limit(revision: int) -> int:
    """Return the first number after the rows of a revision."""
    return revision + 1 << BITS[FORMAT]


def row(kv: KeyValue) -> tuple[int, bytes, bytes, int, int, int, int]:
    """Return a row as it is kept."""
    identity = number(kv)
    return (identity, kv.key, kv.value, kv.create_revision, kv.version, kv.lease,
            _crc(identity, kv.key, kv.value, kv.create_revision, kv.version, kv.lease))


def _crc(identity: int, key: bytes, value: bytes, created: int, version: int, lease: int) -> int:
    return zlib.crc32(value, zlib.crc32(b"%d %d %d %d %b" % (identity, created, version, lease, key)))


def leases(found: Iterable[tuple[Any, ...]]) -> tuple[list[Lease], int]:
    """Return the leases among these rows, and how many are none."""
    rows = list(found)
    whole = [Lease(*one) for one in rows if tuple(map(type, one)) == (int, int, float)]
    return whole, len(rows) - len(whole)


def assemble(rows: Iterable[tuple[Any, ...]], meta: Mapping[str, int], found: list[Lease], bits: int,
             ) -> tuple[Kept, str]:
    """Turn rows, in order, into the state at the compacted revision and the events since; check that they are whole.

    Returns what is whole, and what is wrong after that ("" if nothing). A damage of the state itself leaves nothing
    whole: revision 0.
    """
    compacted = meta.get("compacted", 0)
    base: dict[bytes, KeyValue] = {}
    state: dict[bytes, KeyValue] = {}
    events: list[Event] = []
    numbers: list[int] = []
    revision, damage = max(compacted, 1), ""
    at, last = 0, -1
    try:
        for identity, key, value, created, version, lease, crc in rows:
            at, sub = identity >> bits, identity & (1 << bits) - 1
            if type(key) is not bytes or type(value) is not bytes or \
                    crc != _crc(identity, key, value, created, version, lease):
                damage = f"the row of revision {at} fails its checksum"
                break
            kv, prev = KeyValue(key, value, created, at, version, lease, sub), state.get(key)
            if identity <= last or (at <= compacted and (prev is not None or not version)):
                damage = f"the row of revision {at} does not belong there"
                break
            if at <= compacted:
                numbers.append(identity)
                base[key] = state[key] = kv
                last = identity
                continue
            if at > revision + 1:
                damage = f"revisions {revision + 1} to {at - 1} are missing"
                break
            if sub != (0 if last >> bits < at else (last & (1 << bits) - 1) + 1) or not _follows(kv, prev):
                damage = f"the row of revision {at} does not follow what was there before"
                break
            events.append(Event(kv, prev))
            revision, last = at, identity
            if version:
                state[key] = kv
            else:
                del state[key]
    except sqlite3.DatabaseError as error:
        damage = str(error)
    if meta.get("base", of_rows(numbers).number) != of_rows(numbers).number and (not damage or at > compacted):
        return Kept(revision=0), f"the rows up to revision {compacted} are not those that were written"
    if damage:
        if at <= compacted:
            return Kept(revision=0), damage
        revision = min(revision, at - 1)
        while events and events[-1].kv.mod_revision > revision:
            events.pop()
    elif meta.get("leases", of_leases(found).number) != of_leases(found).number:
        damage = "the leases fail their checksum"
    return Kept(revision, compacted, tuple(base.values()), events, found), damage


def _follows(kv: KeyValue, prev: KeyValue | None) -> bool:
    """Tell whether this can have been written when `prev` was there."""
    if not kv.version:
        return prev is not None
    if prev is None:
        return kv.version == 1 and kv.create_revision == kv.mod_revision
    return kv.version == prev.version + 1 and kv.create_revision == prev.create_revision
