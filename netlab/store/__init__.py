"""The store: a log of revisions with the etcd contract, on SQLite.

A write makes a new revision of the whole store; a reader asks for the state at one, a watch for what came after one.
`model` has the values, `log` the state in memory, `draft` decides writes, `store` commits them, `sqlite` keeps them,
`watch` tells them.
"""

from netlab.store.compact import Retention
from netlab.store.errors import (
    Compacted,
    Conflict,
    Corrupt,
    FutureRevision,
    KeyExists,
    KeyMissing,
    Locked,
    StorageFailed,
    StorageFull,
    StoreClosed,
    StoreError,
    WatchCut,
)
from netlab.store.model import Compare, Delete, Event, Get, KeyValue, Lease, Put, Range, TxnResult
from netlab.store.store import Store
from netlab.store.watch import Watch

__all__ = [
    "Compacted", "Compare", "Conflict", "Corrupt", "Delete", "Event", "FutureRevision", "Get", "KeyExists",
    "KeyMissing", "KeyValue", "Lease", "Locked", "Put", "Range", "Retention", "StorageFailed", "StorageFull", "Store",
    "StoreClosed", "StoreError", "TxnResult", "Watch", "WatchCut",
]
