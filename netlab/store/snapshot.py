"""A store as the database of an etcd, and back: the file that `etcdctl snapshot save` writes and `restore` reads.

Buckets and keys are those of etcd 3.4 to 3.6 (server/storage/schema): `key` has each version of each key by its
revision, `lease` the leases, `meta` where history begins and what raft has applied, `members` and `cluster` who was
there. The SHA-256 of it all follows at the end.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from netlab.store.backend import Batch
from netlab.store.bolt import read, write
from netlab.store.crc32c import crc32c
from netlab.store.errors import Corrupt
from netlab.store.model import Event, KeyValue, Lease
from netlab.store.rpc import codec
from netlab.store.rpc import messages as pb
from netlab.store.sqlite import Sqlite

_REVISION = struct.Struct(">QcQ")
_NUMBER = struct.Struct(">Q")
_MASK = (1 << 64) - 1
_TOMBSTONE = b"t"
_COMPACTED = (b"finishedCompactRev", b"scheduledCompactRev")
_AT_ONCE = 1000
_HASHED_AT_ONCE = 1 << 20


@dataclass(slots=True)
class _LeaseRow:
    ID: Annotated[int, 1] = 0
    TTL: Annotated[int, 2] = 0


@dataclass(frozen=True)
class Member:
    """Who the snapshot is of: the only member. `version` is that of the cluster."""

    id: int
    name: str
    peer_urls: Sequence[str]
    client_urls: Sequence[str]
    version: str
    term: int


def database(image: Batch, member: Member) -> write.File:
    """Return the etcd database of a store's image, laid out; writing it needs no more than a page of memory."""
    versions = _in_order(image)
    leases = sorted(image.leases, key=lambda lease: lease.id & _MASK)
    newest = versions[-1].mod_revision if versions else 1
    return write.File({
        b"key": partial(_versions, versions), b"lease": partial(_leases, leases),
        b"meta": partial(iter, _meta(image.compacted, newest, member)),
        b"members": partial(iter, [(b"%x" % member.id, _member(member))]),
        b"cluster": partial(iter, [(b"clusterVersion", member.version.encode())]),
        **{name: partial(iter, ()) for name in (b"alarm", b"auth", b"authRoles", b"authUsers", b"members_removed")}})


def hash_kv(image: Batch, revision: int) -> int:
    """Return etcd's hash of all versions up to a revision; of those from before the compaction only what is live then.

    Also where nothing is live etcd is followed: it takes them all (mvcc/kvstore.go, hashByRev).
    """
    versions = [kv for kv in _in_order(image) if kv.mod_revision <= revision]
    live = {kv.key: kv for kv in versions}
    every = not any(kv.version for kv in live.values())
    chosen = [kv for kv in versions if every or kv.mod_revision > image.compacted or live[kv.key] is kv]
    value, pieces, size = 0, [b"key"], 0
    for key, record in _versions(chosen):
        pieces += (key, record)
        size += len(record)
        if size > _HASHED_AT_ONCE:
            value, pieces, size = crc32c(b"".join(pieces), value), [], 0
    return crc32c(b"".join(pieces), value)


def _in_order(image: Batch) -> list[KeyValue]:
    return sorted((event.kv for event in image.events), key=lambda kv: (kv.mod_revision, kv.sub))


def _versions(versions: Sequence[KeyValue]) -> Iterator[write.Item]:
    for kv in versions:
        revision = _REVISION.pack(kv.mod_revision, b"_", kv.sub)
        if kv.version:
            yield revision, codec.encode(pb.KeyValue(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value,
                                                     kv.lease))
        else:
            yield revision + _TOMBSTONE, codec.encode(pb.KeyValue(kv.key))


def _leases(leases: Sequence[Lease]) -> Iterator[write.Item]:
    for lease in leases:
        yield _NUMBER.pack(lease.id & _MASK), codec.encode(_LeaseRow(lease.id, lease.ttl))


def _meta(compacted: int, revision: int, member: Member) -> list[write.Item]:
    rows = {b"consistent_index": _NUMBER.pack(revision), b"term": _NUMBER.pack(member.term),
            b"confState": json.dumps({"voters": [member.id], "auto_leave": False}).encode()}
    if compacted:
        rows |= dict.fromkeys(_COMPACTED, _REVISION.pack(compacted, b"_", 0))
    return sorted(rows.items())


def _member(member: Member) -> bytes:
    return json.dumps({"id": member.id, "peerURLs": list(member.peer_urls), "name": member.name,
                       "clientURLs": list(member.client_urls)}).encode()


def restore(snapshot: Path, path: Path) -> int:
    """Make a store's file `path` of an etcd's database. Returns its revision.

    Raises:
        Corrupt: the snapshot is damaged, or no database of an etcd.
        OSError: a file can't be read or made.
    """
    _verify(snapshot)
    with read.File(snapshot) as file:
        compacted = _beginning(file)
        backend = Sqlite(path, "full")
        try:
            backend.load()
            for events in _batches(file, compacted):
                backend.append(Batch(events))
            leases = [codec.decode(value, _LeaseRow) for _, value in file.bucket(b"lease")]
            backend.append(Batch([], [Lease(row.ID, row.TTL, 0.0) for row in leases], compacted=compacted))
            return backend.load().revision
        except (codec.Malformed, struct.error) as error:
            raise Corrupt(f"{snapshot}: {error}") from None
        finally:
            backend.close()


def _verify(snapshot: Path) -> None:
    """Check the SHA-256 behind a snapshot; an etcd's own file, which is whole sectors, has none."""
    with snapshot.open("rb") as file:
        left = snapshot.stat().st_size - 32
        if (left + 32) % 512 != 32:
            return
        digest = hashlib.sha256()
        while left and (part := file.read(min(left, 1 << 20))):
            digest.update(part)
            left -= len(part)
        if file.read() != digest.digest():
            raise Corrupt(f"{snapshot}: its checksum does not fit", hint="take the snapshot anew")


def _beginning(file: read.File) -> int:
    """Return the revision up to which only what is live counts: compacted, or before a gap (`--bump-revision`)."""
    compacted = 0
    for key, value in file.bucket(b"meta"):
        if key in _COMPACTED:
            compacted = max(compacted, _REVISION.unpack_from(value)[0])
    newest = max(compacted, 1)
    for key, _ in file.bucket(b"key"):
        revision = _REVISION.unpack_from(key)[0]
        if revision > newest + 1:
            compacted = revision - 1
        newest = max(newest, revision)
    return compacted


def _batches(file: read.File, compacted: int) -> Iterator[list[Event]]:
    """Return the events of an etcd: first the state at its compaction, for what is before is rubbish."""
    base: dict[bytes, KeyValue] = {}
    events: list[Event] = []
    for key, value in file.bucket(b"key"):
        kv = _version(key, value)
        if kv.mod_revision > compacted:
            events.append(Event(kv, None))
            if len(events) == _AT_ONCE:
                yield events
                events = []
        elif kv.version:
            base[kv.key] = kv
        else:
            base.pop(kv.key, None)
    yield [Event(kv, None) for kv in base.values()]
    yield events


def _version(revision: bytes, value: bytes) -> KeyValue:
    main, _, sub = _REVISION.unpack_from(revision)
    kv = codec.decode(value, pb.KeyValue)
    if revision[_REVISION.size:] == _TOMBSTONE:
        return KeyValue(kv.key, b"", 0, main, 0, 0, sub)
    return KeyValue(kv.key, kv.value, kv.create_revision, main, kv.version, kv.lease, sub)
