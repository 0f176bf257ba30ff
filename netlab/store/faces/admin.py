"""etcd's service Maintenance, as far as one member has it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from netlab.store import snapshot as snapshots
from netlab.store.errors import Compacted, FutureRevision
from netlab.store.faces.face import CLUSTER_VERSION, TERM, VERSION, Face
from netlab.store.rpc import admin as pb

if TYPE_CHECKING:
    from grpclib.server import Stream

_CHUNK = 64 * 1024
_NOSPACE = 1
QUOTA = 2 * 1024 ** 3


async def status(face: Face, _: pb.StatusRequest) -> pb.StatusResponse:
    """Answer Status."""
    store = face.store
    size = store.size()
    complaints = ["etcdserver: no space"] if store.full else []
    return pb.StatusResponse(
        face.header(), VERSION, size, face.member, store.revision, TERM, store.revision, complaints, size,
        storageVersion=CLUSTER_VERSION, dbSizeQuota=QUOTA)


async def alarm(face: Face, request: pb.AlarmRequest) -> pb.AlarmResponse:
    """Answer Alarm. The one alarm there is ends by itself, with the first write that finds room again."""
    raised = face.store.full and request.alarm in (0, _NOSPACE) and request.memberID in (0, face.member)
    return pb.AlarmResponse(face.header(), [pb.AlarmMember(face.member, _NOSPACE)] if raised else [])


async def defragment(face: Face, _: pb.DefragmentRequest) -> pb.DefragmentResponse:
    """Answer Defragment."""
    await face.store.defragment()
    return pb.DefragmentResponse()


async def hash_(face: Face, _: pb.HashRequest) -> pb.HashResponse:
    """Answer Hash."""
    return pb.HashResponse(face.header(), await _hash(face, face.store.revision))


async def hash_kv(face: Face, request: pb.HashKVRequest) -> pb.HashKVResponse:
    """Answer HashKV: of every version that is kept, up to a revision. An etcd of the same history has the same."""
    store = face.store
    revision = max(request.revision, 0)
    if 0 < revision <= store.compacted:
        raise Compacted(revision, store.compacted)
    if revision > store.revision:
        raise FutureRevision(revision, store.revision)
    header, compacted, revision = face.header(), store.compacted, revision or store.revision
    return pb.HashKVResponse(header, await _hash(face, revision), compacted, revision)


async def _hash(face: Face, revision: int) -> int:
    image = face.store.image()
    return await asyncio.get_running_loop().run_in_executor(None, snapshots.hash_kv, image, revision)


async def snapshot(face: Face, stream: Stream[pb.SnapshotRequest, pb.SnapshotResponse]) -> None:
    """Answer Snapshot: the database that an etcd would have, then its SHA-256. It is made while it is sent."""
    await stream.recv_message()
    header, image, loop = face.header(), face.store.image(), asyncio.get_running_loop()
    member = snapshots.Member(face.member, face.name, face.peer_urls, face.client_urls, CLUSTER_VERSION, TERM)
    file = await loop.run_in_executor(None, snapshots.database, image, member)
    digest, left, pages = hashlib.sha256(), file.size, file.pages()
    while part := await loop.run_in_executor(None, _part, pages):
        digest.update(part)
        left -= len(part)
        await stream.send_message(pb.SnapshotResponse(header, left, part, VERSION))
    await stream.send_message(pb.SnapshotResponse(header, 0, digest.digest(), VERSION))


def _part(pages: Iterator[bytes]) -> bytes:
    """Return the next pages, enough to be worth a message; nothing at the end."""
    found: list[bytes] = []
    while sum(map(len, found)) < _CHUNK and (page := next(pages, b"")):
        found.append(page)
    return b"".join(found)
