"""Keys and errors on their way to an etcd and back."""

from __future__ import annotations

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from netlab.errors import TemporaryError
from netlab.store.errors import (
    DuplicateKey,
    FutureRevision,
    LeaseExists,
    LeaseMissing,
    StorageFailed,
    StorageFull,
    StoreError,
)
from netlab.store.model import Compare, Delete, Event, Get, KeyValue, Op, Put, Range, Txn, TxnResult, prefix_end
from netlab.store.rpc import messages as pb

OWN = b"/registry"
"""What the API server's keys begin with."""


class Names:
    """Translates our keys, which begin with /registry, to those under another prefix, and back."""

    def __init__(self, prefix: str) -> None:
        self.prefix = ("/" + prefix.strip("/")).encode()
        self._same = self.prefix == OWN

    def out(self, key: bytes) -> bytes:
        """Return a key as the etcd has it."""
        return key if self._same or not key.startswith(OWN) else self.prefix + key[len(OWN):]

    def end(self, end: bytes) -> bytes:
        """Return the end of a range as the etcd has it: the end of all of ours is the end of all below the prefix."""
        return prefix_end(self.prefix) if end == prefix_end(OWN) else self.out(end)

    def back(self, key: bytes) -> bytes:
        """Return a key of the etcd as we have it."""
        return key if self._same else OWN + key[len(self.prefix):]

    def ours(self, key: bytes) -> bool:
        """Tell whether a key of the etcd lies under the prefix."""
        return key.startswith(self.prefix + b"/")

    def kv(self, kv: pb.KeyValue) -> KeyValue:
        """Return what the etcd holds under a key."""
        return KeyValue(self.back(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)

    def txn(self, txn: Txn) -> pb.TxnRequest:
        """Return a transaction as etcd takes it."""
        return pb.TxnRequest([self.compare(row) for row in txn.compares], [self._op(op) for op in txn.then],
                             [self._op(op) for op in txn.otherwise])

    def compare(self, row: Compare) -> pb.Compare:
        """Return a condition as etcd takes it."""
        found = pb.Compare({"=": 0, ">": 1, "<": 2, "!=": 3}[row.op],
                           ("version", "create", "mod", "value", "lease").index(row.target), self.out(row.key),
                           range_end=self.end(row.end))
        field = {"create": "create_revision", "mod": "mod_revision"}.get(row.target, row.target)
        setattr(found, field, row.operand)
        return found

    def _op(self, op: Op) -> pb.RequestOp:
        match op:
            case Put():
                return pb.RequestOp(request_put=pb.PutRequest(
                    self.out(op.key), op.value, op.lease, True, op.keep_value, op.keep_lease))
            case Delete():
                return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(
                    self.out(op.key), self.end(op.end), True))
            case Get():
                return pb.RequestOp(request_range=pb.RangeRequest(
                    self.out(op.key), self.end(op.end), op.limit, op.revision))
            case Txn():
                return pb.RequestOp(request_txn=self.txn(op))

    def result(self, txn: Txn, done: pb.TxnResponse) -> TxnResult:
        """Return what a transaction did."""
        revision = done.header.revision if done.header is not None else 0
        results: list[Event | list[Event] | Range | TxnResult] = []
        for op, row in zip(txn.then if done.succeeded else txn.otherwise, done.responses, strict=True):
            if isinstance(op, Put) and row.response_put is not None:
                results.append(self._put(op, row.response_put.prev_kv, revision))
            elif row.response_delete_range is not None:
                results.append([self._gone(kv, revision) for kv in row.response_delete_range.prev_kvs])
            elif row.response_range is not None:
                kvs = [self.kv(kv) for kv in row.response_range.kvs]
                results.append(Range(kvs, revision, row.response_range.count - len(kvs)))
            elif isinstance(op, Txn) and row.response_txn is not None:
                results.append(self.result(op, row.response_txn))
        return TxnResult(done.succeeded, results, revision)

    def _put(self, op: Put, before: pb.KeyValue | None, revision: int) -> Event:
        prev = None if before is None else self.kv(before)
        value = prev.value if prev is not None and op.keep_value else op.value
        lease = prev.lease if prev is not None and op.keep_lease else op.lease
        created, version = (prev.create_revision, prev.version + 1) if prev is not None else (revision, 1)
        return Event(KeyValue(op.key, value, created, revision, version, lease), prev)

    def _gone(self, before: pb.KeyValue, revision: int) -> Event:
        prev = self.kv(before)
        return Event(KeyValue(prev.key, b"", 0, revision, 0), prev)


def translated(error: GRPCError | TemporaryError, *, key: bytes = b"", lease: int = 0, revision: int = 0,
               current: int = 0) -> StoreError:
    """Return the store's word for what an etcd refused. Whether a write that got no answer was done is not known."""
    if isinstance(error, TemporaryError):
        return StorageFailed(str(error))
    words = error.message or ""
    if "database space exceeded" in words:
        return StorageFull(words, hint="free room: etcdctl compaction, defrag, alarm disarm")
    if "future revision" in words:
        return FutureRevision(revision, current)
    if "duplicate key" in words:
        return DuplicateKey(key)
    if "lease not found" in words:
        return LeaseMissing(lease)
    if "lease already exists" in words:
        return LeaseExists(lease)
    if error.status is Status.UNAVAILABLE or words.startswith("etcdserver:"):
        return StorageFailed(words or "etcd is not available")
    return StorageFailed(f"etcd: {words or error.status.name}")
