"""The store's errors in etcd's words and codes (api/v3rpc/rpctypes/error.go)."""

from __future__ import annotations

from typing import NoReturn

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from netlab.store.errors import (
    Compacted,
    Corrupt,
    DuplicateKey,
    FutureRevision,
    KeyMissing,
    LeaseExists,
    LeaseMissing,
    StorageFull,
    StoreClosed,
    StoreError,
)

_TABLE: tuple[tuple[type[StoreError], Status, str], ...] = (
    (Compacted, Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
    (FutureRevision, Status.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
    (DuplicateKey, Status.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
    (KeyMissing, Status.INVALID_ARGUMENT, "etcdserver: key not found"),
    (LeaseMissing, Status.NOT_FOUND, "etcdserver: requested lease not found"),
    (LeaseExists, Status.FAILED_PRECONDITION, "etcdserver: lease already exists"),
    (StorageFull, Status.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
    (StoreClosed, Status.UNAVAILABLE, "etcdserver: server stopped"),
    (Corrupt, Status.DATA_LOSS, "etcdserver: corrupt cluster"),
)


def translated(error: StoreError) -> GRPCError:
    """Return what etcd would say."""
    for kind, status, words in _TABLE:
        if isinstance(error, kind):
            return GRPCError(status, words)
    return GRPCError(Status.UNKNOWN, str(error))


def invalid(words: str) -> NoReturn:
    """Refuse a request that makes no sense."""
    raise GRPCError(Status.INVALID_ARGUMENT, f"etcdserver: {words}")


def unsupported(method: str, why: str) -> GRPCError:
    """Refuse a method by its name."""
    return GRPCError(Status.UNIMPLEMENTED, f"etcdserver: {method} is not supported by this store: {why}")


def too_many() -> NoReturn:
    """Refuse a write because too many wait already."""
    raise GRPCError(Status.RESOURCE_EXHAUSTED, "etcdserver: too many requests")


def too_large() -> NoReturn:
    """Refuse a request for its size."""
    invalid("request is too large")
