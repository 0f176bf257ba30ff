"""What a store is, wherever it keeps its keys: etcd's contract.

Reads and watches are answered from a log in memory. `LocalStore` writes to a disk and then to the log, `EtcdStore`
writes to an etcd and has the log follow it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from netlab.store.compact import Retention
from netlab.store.errors import StoreClosed
from netlab.store.log import Log
from netlab.store.model import Compare, Event, KeyValue, Lease, Op, Range, TxnResult, prefix_end
from netlab.store.watch import Hub, Watch

if TYPE_CHECKING:
    from netlab.store.sqlite import Synchronous
    from netlab.store.store import LocalStore

WATCH_LIMIT = 10_000
REACH_SECONDS = 3.0
"""How long a read waits for a revision that is not there yet (upstream's watch cache: blockTimeout)."""


class Store(ABC):
    """The keys of a cluster at every retained revision. All methods belong to the event loop that opened it."""

    _log: Log
    _hub: Hub
    _closed: bool = False

    @staticmethod
    async def open(path: Path | None, *, synchronous: Synchronous = "normal", retention: Retention | None = None,
                   clock: Callable[[], float] = time.monotonic) -> LocalStore:
        """Open the store in a file; see `LocalStore.open`."""
        from netlab.store.store import LocalStore

        return await LocalStore.open(path, synchronous=synchronous, retention=retention, clock=clock)

    @abstractmethod
    async def close(self) -> None:
        """Finish what was begun, end all watches, let go of everything. Twice is fine."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    @property
    def trouble(self) -> str:
        """Return why writes fail at present, in words; "" when they do not."""
        return ""

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Return the newest committed revision; 1 for an empty store."""
        return self._log.revision

    @property
    def compacted(self) -> int:
        """Return the oldest revision that can still be read; 0 if all can."""
        return self._log.compacted

    @property
    def closed(self) -> bool:
        """Tell whether the store is closed, or about to be."""
        return self._closed

    @property
    def watchers(self) -> int:
        """Return how many watches run."""
        return len(self._hub)

    def __len__(self) -> int:
        return len(self._log)

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        """Return what a key holds now or held at a revision.

        Raises:
            Compacted, FutureRevision: that revision can't be read.
        """
        return self._log.get(key, revision)

    async def list(self, prefix: bytes, *, revision: int = 0, limit: int = 0, after: bytes = b"") -> Range:
        """Return the keys with a prefix, in byte order, as they were at one revision (0: now).

        The next page of the same snapshot: `revision` of the page, `after` its last key.

        Raises:
            Compacted, FutureRevision: that revision can't be read.
        """
        return self._log.range(prefix, prefix_end(prefix), revision=revision, limit=limit, after=after)

    async def range(self, start: bytes, end: bytes, *, revision: int = 0, limit: int = 0) -> Range:
        """Return the keys in [start, end); `end` of one zero byte means to the last key. Raises as `list`."""
        return self._log.range(start, end, revision=revision, limit=limit)

    def known(self, key: bytes) -> KeyValue | None:
        """Return what a key holds as far as it is known here without asking, as an informer would tell it.

        Known is all that was written through this store, and what others have written but for the last moment.
        """
        return self._log.live(key)

    def known_under(self, prefix: bytes) -> Sequence[KeyValue]:
        """Return the keys with a prefix as far as they are `known`."""
        return self._log.range(prefix, prefix_end(prefix)).kvs

    async def recent(self, key: bytes, since: int = 0) -> tuple[KeyValue | None, bool]:  # noqa: ARG002 - always so
        """Return what a key holds, at revision `since` or later, for who is about to write it.

        The second is whether that is certain. If not, it is what was `known`: whoever refuses a write, or finds it not
        needed, asks with `get` before he says so; who writes is told by `Conflict`.
        """
        return self._log.live(key), True

    async def count(self, prefix: bytes) -> int:
        """Return how many keys have a prefix now."""
        return self._log.count(prefix, prefix_end(prefix))

    def watch(self, prefix: bytes, *, end: bytes | None = None, after: int = 0, limit: int = WATCH_LIMIT) -> Watch:
        """Return every event of the keys with a prefix after revision `after` (0: from now on), each once, in order.

        Args:
            prefix: with `end` the first key instead.
            end: None for a prefix, b"" for the one key, else the keys in [prefix, end).
            after: a revision that was seen, for example that of a `list`.
            limit: events that may wait for the reader before the watch is cut off.

        Raises:
            Compacted, FutureRevision: the events after that revision can't be told.
        """
        if self._closed:
            raise StoreClosed
        history = self._log.since(after) if after else ()
        return self._hub.add(prefix, end, history=history, revision=after or self._log.revision, limit=limit)

    async def reach(self, revision: int, seconds: float = REACH_SECONDS) -> bool:
        """Wait until a revision is there, but no longer than so many seconds. Returns whether it is."""
        return await self._hub.reach(revision, seconds)

    # -- writing ------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def create(self, key: bytes, value: bytes, *, ttl: int = 0) -> KeyValue:
        """Write a key that is not there; with a `ttl` it goes after so many seconds.

        Raises:
            KeyExists: it is there.
            StorageFailed: the disk refused; nothing changed. So do all other writes.
        """

    @abstractmethod
    async def update(self, key: bytes, value: bytes, revision: int, *, ttl: int = 0) -> KeyValue:
        """Write a key that is still at this mod_revision.

        Raises:
            Conflict: it is at another one.
            KeyMissing: it is not there.
        """

    @abstractmethod
    async def put(self, key: bytes, value: bytes, *, ttl: int = 0) -> KeyValue:
        """Write a key, whatever it held."""

    @abstractmethod
    async def delete(self, key: bytes, revision: int = 0) -> Event:
        """Delete a key, if `revision` is not 0 only at that mod_revision. The event's `prev` is what was there.

        Raises:
            KeyMissing: it is not there.
            Conflict: it is at another revision.
        """

    @abstractmethod
    async def transact(self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (),
                       ) -> TxnResult:
        """Run `then` if all compares hold, `otherwise` if not; what it writes gets one revision (etcd's Txn).

        Raises:
            DuplicateKey, LeaseMissing, KeyMissing, Compacted, FutureRevision: see txn.py; nothing was written.
        """

    @abstractmethod
    async def grant(self, ttl: int, identity: int = 0) -> Lease:
        """Make a lease of `ttl` seconds."""

    @abstractmethod
    async def renew(self, identity: int) -> Lease:
        """Give a lease its whole time again. Raises LeaseMissing."""

    @abstractmethod
    async def revoke(self, identity: int) -> None:
        """End a lease and delete its keys, in one revision. Raises LeaseMissing."""

    @abstractmethod
    async def compact(self, revision: int) -> None:
        """Forget what no read at `revision` or later needs. Watches that run are not disturbed.

        Raises:
            Compacted: more than that is forgotten already.
            FutureRevision: not written yet.
        """
