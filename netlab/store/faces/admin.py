"""etcd's services Maintenance, Cluster and Auth, as far as one member without users of its own has them."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from netlab.store.backend import Batch
from netlab.store.faces.face import TERM, VERSION, Face
from netlab.store.model import KeyValue
from netlab.store.rpc import admin as pb
from netlab.store.sqlite import Sqlite

if TYPE_CHECKING:
    from grpclib.server import Stream

_CHUNK = 32 * 1024
_NOSPACE = 1
QUOTA = 2 * 1024 ** 3


async def status(face: Face, _: pb.StatusRequest) -> pb.StatusResponse:
    """Answer Status."""
    store = face.store
    size = store.size()
    complaints = ["etcdserver: no space"] if store.full else []
    return pb.StatusResponse(
        face.header(), VERSION, size, face.member, store.revision, TERM, store.revision, complaints, size,
        storageVersion=VERSION.rpartition(".")[0] + ".0", dbSizeQuota=QUOTA)


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
    return pb.HashResponse(face.header(), await _hash(face, 0))


async def hash_kv(face: Face, request: pb.HashKVRequest) -> pb.HashKVResponse:
    """Answer HashKV: of all that can be read at a revision."""
    revision = max(request.revision, 0)
    return pb.HashKVResponse(face.header(), await _hash(face, revision), face.store.compacted,
                             revision or face.store.revision)


async def _hash(face: Face, revision: int) -> int:
    found = await face.store.range(b"\0", b"\0", revision=revision)
    value = 0
    for kv in found.kvs:
        value = zlib.crc32(_line(kv), value)
    return value


def _line(kv: KeyValue) -> bytes:
    return b"%d %d %d %d %b %b\n" % (kv.create_revision, kv.mod_revision, kv.version, kv.lease, kv.key, kv.value)


async def snapshot(face: Face, stream: Stream[pb.SnapshotRequest, pb.SnapshotResponse]) -> None:
    """Answer Snapshot: a database file like this store's own, then its SHA-256, as etcdctl expects at the end."""
    await stream.recv_message()
    header, image = face.header(), face.store.image()
    blob = await asyncio.get_running_loop().run_in_executor(None, _file, image)
    left = len(blob)
    for at in range(0, len(blob), _CHUNK):
        part = blob[at:at + _CHUNK]
        left -= len(part)
        await stream.send_message(pb.SnapshotResponse(header, left, part, VERSION))
    await stream.send_message(pb.SnapshotResponse(header, 0, hashlib.sha256(blob).digest(), VERSION))


def _file(image: Batch) -> bytes:
    with tempfile.TemporaryDirectory(prefix="netlab-snapshot-") as folder:
        path = Path(folder) / "store.db"
        backend = Sqlite(path, "normal")
        try:
            backend.load()
            backend.append(image)
        finally:
            backend.close()
        return path.read_bytes()


async def member_list(face: Face, _: pb.MemberListRequest) -> pb.MemberListResponse:
    """Answer MemberList."""
    return pb.MemberListResponse(face.header(), [
        pb.Member(face.member, face.name, list(face.peer_urls), list(face.client_urls))])


async def auth_status(face: Face, _: pb.AuthStatusRequest) -> pb.AuthStatusResponse:
    """Answer AuthStatus: client certificates are all there is."""
    return pb.AuthStatusResponse(face.header(), False, 1)
