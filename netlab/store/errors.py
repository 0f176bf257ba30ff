"""What the store refuses.

StoreError
├─ KeyExists        create: the key is there already (`current`)
├─ KeyMissing       update or delete: nothing is there
├─ Conflict         update or delete: the key's revision is another one (`current`)
├─ DuplicateKey     a transaction would write a key twice
├─ LeaseMissing     no such lease
├─ LeaseExists      there is one with this number already
├─ Compacted        that revision's history is gone (`compacted`: the oldest that can still be read)
├─ FutureRevision   that revision has not been written yet
├─ WatchCut         this watch ended: its reader was too slow, or the store closed
├─ StoreClosed      the store is closed
├─ StorageFailed    the disk refused a write; neither memory nor disk changed
│  └─ StorageFull   ... because it is full
├─ Locked           another process has this database open
└─ Corrupt          the database on disk is damaged
"""

from __future__ import annotations

from netlab.errors import NetlabError
from netlab.store.model import KeyValue


class StoreError(NetlabError):
    """Base of what the store raises."""


class KeyExists(StoreError):
    """`create` met a key that is there already: `current`."""

    def __init__(self, current: KeyValue) -> None:
        super().__init__(f"{printable(current.key)}: already exists")
        self.current = current


class KeyMissing(StoreError):
    """`update` or `delete` met no such key."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"{printable(key)}: not found")
        self.key = key


class Conflict(StoreError):
    """The key is at another revision than the writer believed: `current`."""

    def __init__(self, current: KeyValue, wanted: int) -> None:
        super().__init__(f"{printable(current.key)}: is at revision {current.mod_revision}, not {wanted}")
        self.current, self.wanted = current, wanted


class DuplicateKey(StoreError):
    """A transaction would write `key` twice."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"duplicate key given in txn request: {printable(key)}")
        self.key = key


class LeaseMissing(StoreError):
    """There is no lease of this number."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"lease {lease} is not there")
        self.lease = lease


class LeaseExists(StoreError):
    """There is a lease of this number already."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"lease {lease} is there already")
        self.lease = lease


class Compacted(StoreError):
    """History up to `compacted` is gone; `revision` was asked for."""

    def __init__(self, revision: int, compacted: int) -> None:
        super().__init__(f"revision {revision} has been compacted (up to {compacted})")
        self.revision, self.compacted = revision, compacted


class FutureRevision(StoreError):
    """Revision `revision` was asked for; the store is at `current`."""

    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} is a future revision (now at {current})")
        self.revision, self.current = revision, current


class WatchCut(StoreError):
    """This watch is over: its reader was too slow, or the store closed. Events after `revision` were not delivered."""

    def __init__(self, reason: str, revision: int) -> None:
        super().__init__(f"watch ended after revision {revision}: {reason}")
        self.reason, self.revision = reason, revision


class StoreClosed(StoreError):
    """The store is closed."""

    def __init__(self) -> None:
        super().__init__("the store is closed")


class StorageFailed(StoreError):
    """The disk refused a write. Nothing of the batch is kept, in memory or on disk."""


class StorageFull(StorageFailed):
    """The disk is full. Reads go on; writes pass again once there is room."""


class Locked(StoreError):
    """Another process has this database open."""


class Corrupt(StoreError):
    """The database is damaged. `last_good` is the newest revision up to which every row is whole (0: none)."""

    def __init__(self, message: str, *, last_good: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.last_good = last_good


def printable(key: bytes) -> str:
    """Return a key as text for messages."""
    return key.decode("utf-8", "backslashreplace")
