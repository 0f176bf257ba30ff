"""The store: a log of revisions with the etcd contract, on SQLite, in memory or in an etcd.

A write makes a new revision of the whole store; a reader asks for the state at one, a watch for what came after one.
`model` has the values, `log` the state in memory, `draft` decides writes, `store` commits them, `sqlite` keeps them,
`watch` tells them, `packing` compresses the old ones. `contract` is what all stores have in common; `etcd` is the one
that is kept elsewhere.
"""

from netlab.store.compact import Retention
from netlab.store.contract import Store
from netlab.store.errors import (
    Compacted,
    Conflict,
    Corrupt,
    DuplicateKey,
    FutureRevision,
    KeyExists,
    KeyMissing,
    LeaseExists,
    LeaseMissing,
    Locked,
    StorageFailed,
    StorageFull,
    StoreClosed,
    StoreError,
    WatchCut,
)
from netlab.store.model import Compare, Delete, Event, Get, KeyValue, Lease, Put, Range, Txn, TxnResult
from netlab.store.store import LocalStore
from netlab.store.watch import Watch

__all__ = [
    "Compacted", "Compare", "Conflict", "Corrupt", "Delete", "DuplicateKey", "Event", "FutureRevision", "Get",
    "KeyExists", "KeyMissing", "KeyValue", "Lease", "LeaseExists", "LeaseMissing", "LocalStore", "Locked", "Put",
    "Range", "Retention", "StorageFailed", "StorageFull", "Store", "StoreClosed", "StoreError", "Txn", "TxnResult",
    "Watch", "WatchCut",
]
