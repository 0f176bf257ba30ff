"""What a batch of transactions will do, decided on top of the log before anything is written.

Each step sees what the steps before it decided. A step that raises has written nothing.
"""

from __future__ import annotations

from netlab.store.backend import Batch
from netlab.store.errors import Conflict, KeyExists, KeyMissing, LeaseExists, LeaseMissing, StoreError
from netlab.store.lease import Leases
from netlab.store.log import Log
from netlab.store.model import Event, KeyValue, Lease


class Draft:
    """Writes decided but not yet committed; `batch` is what the backend is asked to keep."""

    def __init__(self, log: Log, leases: Leases, now: float) -> None:
        self.log, self.leases, self.now = log, leases, now
        self.batch = Batch()
        self._changed: dict[bytes, KeyValue] = {}
        self._revision = log.revision + 1
        self._sub = 0

    @property
    def revision(self) -> int:
        """Return the newest revision as the step that runs sees it, its own writes included."""
        return self._revision if self._sub else self._revision - 1

    def end_step(self) -> None:
        """Close the revision of the step that ran, if it wrote."""
        if self._sub:
            self._revision += 1
            self._sub = 0

    def get(self, key: bytes) -> KeyValue | None:
        """Return what a key holds, after the steps so far."""
        kv = self._changed.get(key)
        if kv is None:
            return self.log.live(key)
        return kv if kv.version else None

    def range(self, key: bytes, end: bytes) -> list[KeyValue]:
        """Return what [key, end) holds, or only `key` if `end` is empty, after the steps so far."""
        if not end:
            kv = self.get(key)
            return [] if kv is None else [kv]
        found = {kv.key: kv for kv in self.log.range(key, end).kvs}
        found |= {kv.key: kv for kv in self._changed.values() if kv.key >= key and (end == b"\0" or kv.key < end)}
        return [kv for _, kv in sorted(found.items()) if kv.version]

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Event:
        """Write a key."""
        if type(value) is not bytes or type(key) is not bytes:
            raise StoreError(f"keys and values are bytes, not {type(key).__name__} and {type(value).__name__}")
        prev, at = self.get(key), self._revision
        if prev is None:
            return self._write(KeyValue(key, value, at, at, 1, lease, self._sub), None)
        created, version = prev.create_revision, prev.version + 1
        return self._write(KeyValue(prev.key, value, created, at, version, lease, self._sub), prev)  # one key for all

    def delete(self, prev: KeyValue) -> Event:
        """Delete a key that is there."""
        return self._write(KeyValue(prev.key, b"", 0, self._revision, 0, 0, self._sub), prev)

    def _write(self, kv: KeyValue, prev: KeyValue | None) -> Event:
        self._sub += 1
        self._changed[kv.key] = kv
        event = Event(kv, prev)
        self.batch.events.append(event)
        return event

    def lease_for(self, ttl: int) -> int:
        """Return a lease that lives at least `ttl` seconds; 0 for a ttl of 0."""
        if not ttl:
            return 0
        lease, new = self.leases.shared(ttl, self.now)
        if new:
            self.batch.leases.append(lease)
        return lease.id

    def grant(self, ttl: int, identity: int) -> Lease:
        """Make a lease."""
        if identity and self.leases.get(identity):
            raise LeaseExists(identity)
        lease = self.leases.grant(ttl, self.now, identity)
        self.batch.leases.append(lease)
        return lease

    def renew(self, identity: int) -> Lease:
        """Give a lease its whole time again. Nothing is written: whoever opens the store does the same for all."""
        self.known(identity)
        return self.leases.keep(identity, self.now)

    def expire(self, identity: int, now: float) -> None:
        """Revoke a lease whose time is up at `now`, unless somebody has revoked or renewed it meanwhile."""
        lease = self.leases.get(identity)
        if lease is not None and lease.expires <= now and identity not in self.batch.ended:
            self.revoke(identity)

    def revoke(self, identity: int) -> None:
        """End a lease and delete its keys."""
        self.known(identity)
        for key in self.leases.keys(identity):
            kv = self.get(key)
            if kv is not None and kv.lease == identity:
                self.delete(kv)
        self.batch.ended.append(identity)

    def compact(self, revision: int) -> None:
        """Forget what no read at `revision` or later needs, in the same commit."""
        if revision > max(self.batch.compacted, self.log.compacted):
            self.batch.compacted, self.batch.dead = revision, self.log.dead(revision)

    def settle(self) -> None:
        """Bring log and leases up to date, once the batch is kept."""
        batch = self.batch
        self.log.apply(batch.events)
        for event in batch.events:
            before = event.prev.lease if event.prev is not None else 0
            if before or event.kv.lease:
                self.leases.moved(before, event.kv.lease, event.kv.key)
        for identity in batch.ended:
            self.leases.drop(identity)
        if batch.compacted:
            self.log.compact(batch.compacted)

    def withdraw(self) -> None:
        """Undo what was done to the leases, since the batch was not kept."""
        for lease in self.batch.leases:
            self.leases.drop(lease.id)

    def known(self, identity: int) -> None:
        """Raise LeaseMissing if there is no such lease."""
        if self.leases.get(identity) is None or identity in self.batch.ended:
            raise LeaseMissing(identity)


def create(draft: Draft, key: bytes, value: bytes, ttl: int) -> KeyValue:
    """Write a key that is not there. Raises KeyExists."""
    current = draft.get(key)
    if current is not None:
        raise KeyExists(current)
    return draft.put(key, value, draft.lease_for(ttl)).kv


def update(draft: Draft, key: bytes, value: bytes, revision: int, ttl: int) -> KeyValue:
    """Write a key that is at `revision`. Raises Conflict, KeyMissing."""
    _at(draft, key, revision)
    return draft.put(key, value, draft.lease_for(ttl)).kv


def delete(draft: Draft, key: bytes, revision: int) -> Event:
    """Delete a key, if `revision` is not 0 only at that revision. Raises Conflict, KeyMissing."""
    return draft.delete(_at(draft, key, revision))


def _at(draft: Draft, key: bytes, revision: int) -> KeyValue:
    current = draft.get(key)
    if current is None:
        raise KeyMissing(key)
    if revision and current.mod_revision != revision:
        raise Conflict(current, revision)
    return current
