"""The log in memory: what every key holds now, and what it held at each revision since the last compaction.

`Log` is the state that the events of all revisions add up to. It decides nothing and touches no disk: the store writes
events to the disk first and applies them here afterwards, so a reader never sees what is not yet kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from netlab.store.errors import Compacted, FutureRevision
from netlab.store.index import SortedKeys
from netlab.store.model import Event, KeyValue, Range
from netlab.store.packing import Press, room

_LOOSE = 1 << 20
"""Bytes of old values that are kept as they are: the newest, which watchers that come back ask for."""
_PACKED_AT_ONCE = 50  # 20 us each


def _revision_of(event: Event) -> int:
    return event.kv.mod_revision


class Log:
    """All keys at every retained revision.

    `revision` is the newest one, 1 for an empty store as in etcd; `compacted` is the oldest that can still be read.
    `history_bytes` counts the values that only history needs, as they are kept: the older ones compressed.
    """

    def __init__(self, *, revision: int = 1, compacted: int = 0, live: Iterable[KeyValue] = ()) -> None:
        self.revision, self.compacted, self.history_bytes = revision, compacted, 0
        self._live = {kv.key: kv for kv in live}
        self._older: dict[bytes, list[KeyValue]] = {}  # versions before the live one; of deleted keys, with tombstone
        self._keys = SortedKeys(self._live)            # of _live and _older
        self._events: list[Event] = []                 # of all revisions after `compacted`, in order
        self._packed = 0                               # how many of them have their old value compressed
        self._loose = 0                                # bytes of the old values that are not
        self._press = Press()

    def live(self, key: bytes) -> KeyValue | None:
        """Return what the key holds now."""
        return self._live.get(key)

    def __len__(self) -> int:
        return len(self._live)

    def apply(self, events: Sequence[Event]) -> None:
        """Add the events of whole revisions, in order."""
        live, older = self._live, self._older
        for event in events:
            kv, prev = event.kv, event.prev
            key = kv.key
            if prev is not None:
                self.history_bytes += len(prev.value)
                self._loose += len(prev.value)
                older.setdefault(key, []).append(prev)
            elif key not in older:
                self._keys.add(key)
            if kv.version:
                live[key] = kv
            else:
                older[key].append(kv)
                del live[key]
        self._events += events
        if events:
            self.revision = events[-1].kv.mod_revision

    def get(self, key: bytes, revision: int = 0) -> KeyValue | None:
        """Return what the key held at a revision; 0 is now.

        Raises:
            Compacted: that history is gone.
            FutureRevision: that revision is not written yet.
        """
        if revision:
            self.check(revision)
            return self._at(key, revision)
        return self._live.get(key)

    def range(self, start: bytes, end: bytes, *, revision: int = 0, limit: int = 0, after: bytes = b"") -> Range:
        """Return the keys in [start, end) as they were at a revision; see `Store.range`."""
        keys = self._keys.between(after + b"\0" if after >= start else start, end)
        if revision and revision != self.revision:
            self.check(revision)
            found = [kv for key in keys if (kv := self._at(key, revision)) is not None]
        else:
            revision = self.revision
            found = list(filter(None, map(self._live.get, keys)))
        if 0 < limit < len(found):
            return Range(found[:limit], revision, len(found) - limit)
        return Range(found, revision)

    def count(self, start: bytes, end: bytes) -> int:
        """Return how many keys of [start, end) hold something now."""
        return sum(map(self._live.__contains__, self._keys.between(start, end)))

    def leased(self) -> list[KeyValue]:
        """Return the keys that have a lease now."""
        return [kv for kv in self._live.values() if kv.lease]

    def check(self, revision: int) -> None:
        """Raise Compacted or FutureRevision if this revision can't be read."""
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)

    def base(self) -> list[KeyValue]:
        """Return the state at the revision that is compacted to: what history starts from."""
        if not self.compacted:
            return []
        return [kv for key in self._keys if (kv := self._at(key, self.compacted)) is not None]

    def since(self, revision: int) -> list[Event]:
        """Return all events after a revision, in order.

        Raises:
            Compacted: some of them are gone.
            FutureRevision: that revision is not written yet.
        """
        self.check(revision)
        return self._events[bisect_right(self._events, revision, key=_revision_of):]

    def revision_over(self, history_bytes: int) -> int:
        """Return the revision to compact to so that history takes at most so many bytes."""
        surplus, revision = self.history_bytes - history_bytes, self.compacted
        for event in self._events:
            if surplus <= 0:
                break
            surplus -= room(event.prev) if event.prev else 0
            revision = event.kv.mod_revision
        return revision

    def dead(self, revision: int) -> list[KeyValue]:
        """Return the versions that no read at `revision` or later needs: what compacting to it would drop."""
        found: list[KeyValue] = []
        for event in self._events[:bisect_right(self._events, revision, key=_revision_of)]:
            if event.prev is not None:
                found.append(event.prev)
            if not event.kv.version:
                found.append(event.kv)
        return found

    def compact(self, revision: int) -> None:
        """Forget what no read at `revision` or later needs; `check` has passed it."""
        count = bisect_right(self._events, revision, key=_revision_of)
        for kv in self.dead(revision):
            versions = self._older[kv.key]
            del versions[0]  # the oldest: events come in order
            self.history_bytes -= room(kv)
            if not versions:
                del self._older[kv.key]
                if kv.key not in self._live:
                    self._keys.remove(kv.key)
        self._loose -= sum(len(event.prev.value) for event in self._events[self._packed:count] if event.prev)
        del self._events[:count]
        self._packed = max(self._packed - count, 0)
        self.compacted = revision

    def pack(self) -> Iterator[None]:
        """Compress old values while there are many, the oldest first; yields now and then, to let others go on.

        What comes meanwhile is left for the next time: writers can be faster.
        """
        done, surplus = 0, self._loose - _LOOSE
        while surplus > 0 and self._loose > _LOOSE and self._packed < len(self._events):
            old = self._events[self._packed].prev
            self._packed += 1
            if old is not None:
                before = room(old)
                self._press.pack(old)
                surplus -= before
                self._loose -= before
                self.history_bytes -= before - room(old)
            done += 1
            if done % _PACKED_AT_ONCE == 0:
                yield

    def _at(self, key: bytes, revision: int) -> KeyValue | None:
        kv = self._live.get(key)
        if kv is not None and kv.mod_revision <= revision:
            return kv
        for kv in reversed(self._older.get(key, ())):
            if kv.mod_revision <= revision:
                return kv if kv.version else None
        return None
