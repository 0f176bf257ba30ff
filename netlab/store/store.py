"""The store: etcd's contract over a log of revisions.

Every write is a transaction. Those that arrive during one step of the event loop are decided in order, committed
together and then, in one step, applied to memory, shown to the watches and acknowledged. So a write that was
acknowledged is on disk, a reader never sees one that is not, and all readers see the same order.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from netlab.store import draft as drafts
from netlab.store.backend import Backend, Batch, Memory
from netlab.store.compact import Retainer, Retention
from netlab.store.contract import Store
from netlab.store.draft import Draft
from netlab.store.errors import StorageFailed, StorageFull, StoreClosed, StoreError
from netlab.store.lease import Leases
from netlab.store.log import Log
from netlab.store.model import Compare, Event, KeyValue, Lease, Op, Txn, TxnResult
from netlab.store.sqlite import Sqlite, Synchronous
from netlab.store.txn import transact
from netlab.store.watch import Hub

log = logging.getLogger(__name__)

Result = TypeVar("Result")
TICK_SECONDS = 1.0
_COMPACT_PORTION = 1000  # revisions forgotten in one step of the event loop


class LocalStore(Store):
    """A store in a file of this machine, or in memory."""

    def __init__(self, backend: Backend, *, retention: Retention, clock: Callable[[], float]) -> None:
        """Use `open` instead."""
        kept = backend.load()
        self._backend, self._clock = backend, clock
        self._log = Log(revision=kept.compacted or 1, compacted=kept.compacted, live=kept.base)
        self._log.apply(kept.events)
        self._log.revision = kept.revision
        now = clock()  # nobody could renew a lease while the store was away: an etcd's new leader does so, too
        self._leases = Leases((lease._replace(expires=now + lease.ttl) for lease in kept.leases), self._log.leased())
        self._hub = Hub(self._log.revision)
        self._retainer = Retainer(retention)
        self._queue: list[tuple[Callable[[Draft], Any], asyncio.Future[Any]]] = []
        self._committing = self._closed = self._full = False
        self._idle: asyncio.Event = asyncio.Event()
        self._idle.set()
        self._loop = asyncio.get_running_loop()
        self._ticker: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(2, "store")
        self._checkpoint: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, path: Path | None, *, synchronous: Synchronous = "normal", retention: Retention | None = None,
                   clock: Callable[[], float] = time.monotonic) -> LocalStore:
        """Open the store in a file, made if it is not there; None keeps it in memory only.

        Args:
            path: the SQLite file.
            synchronous: see sqlite.py; both survive the death of the process.
            retention: how much history to keep.
            clock: seconds, for leases and retention; one that does not jump.

        Raises:
            Locked: another process has it open.
            Corrupt: it is damaged (salvage.py keeps what is whole).
            StorageFailed: it can't be read or made.
        """
        backend = Memory() if path is None else Sqlite(path, synchronous)
        try:
            store = cls(backend, retention=retention or Retention(), clock=clock)
        except StoreError:
            backend.close()
            raise
        store._ticker = store._loop.create_task(store._tick_forever())
        return store

    async def close(self) -> None:
        """Finish what was begun, end all watches, let go of the file. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        self._hub.close()
        if self._checkpoint is not None:
            await self._checkpoint
        self._threads.shutdown(wait=False)
        self._backend.close()

    @property
    def full(self) -> bool:
        """Tell whether the last write failed because the disk is full."""
        return self._full

    @property
    def waiting(self) -> int:
        """Return how many writes wait to be committed."""
        return len(self._queue)

    @property
    def trouble(self) -> str:
        """Return that the disk is full, when it is."""
        return "the disk is full" if self._full else ""

    def written_at_compaction(self, key: bytes, end: bytes) -> builtins.list[KeyValue]:
        """Return what the revision that the store is compacted to wrote, as far as it was not overwritten since."""
        log = self._log
        found = log.range(key, end, revision=log.compacted).kvs if end else [log.get(key, log.compacted)]
        return [kv for kv in found if kv is not None and kv.mod_revision == log.compacted]

    def size(self) -> int:
        """Return the bytes that the files take."""
        return self._backend.size()

    def image(self) -> Batch:
        """Return all that is kept, as one batch that makes the same store of an empty one."""
        log = self._log
        events = [Event(kv, None) for kv in log.base()] + log.since(log.compacted)
        return Batch(events, self._leases.all(), compacted=log.compacted)

    async def defragment(self) -> None:
        """Give the free room in the file back. Reads and writes wait meanwhile."""
        await self._idle.wait()
        self._backend.defragment()

    # -- writing ------------------------------------------------------------------------------------------------------

    async def create(self, key: bytes, value: bytes, *, ttl: int = 0) -> KeyValue:
        """Write a key that is not there; with a `ttl` it goes after so many seconds.

        Raises:
            KeyExists: it is there.
            StorageFailed: the disk refused; nothing changed. So do all other writes.
        """
        return await self._submit(lambda draft: drafts.create(draft, key, value, ttl))

    async def update(self, key: bytes, value: bytes, revision: int, *, ttl: int = 0) -> KeyValue:
        """Write a key that is still at this mod_revision.

        Raises:
            Conflict: it is at another one.
            KeyMissing: it is not there.
        """
        return await self._submit(lambda draft: drafts.update(draft, key, value, revision, ttl))

    async def put(self, key: bytes, value: bytes, *, ttl: int = 0) -> KeyValue:
        """Write a key, whatever it held."""
        return await self._submit(lambda draft: draft.put(key, value, draft.lease_for(ttl)).kv)

    async def delete(self, key: bytes, revision: int = 0) -> Event:
        """Delete a key, if `revision` is not 0 only at that mod_revision. The event's `prev` is what was there.

        Raises:
            KeyMissing: it is not there.
            Conflict: it is at another revision.
        """
        return await self._submit(lambda draft: drafts.delete(draft, key, revision))

    async def transact(self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (),
                       ) -> TxnResult:
        """Run `then` if all compares hold, `otherwise` if not; what it writes gets one revision (etcd's Txn).

        Raises:
            DuplicateKey, LeaseMissing, KeyMissing, Compacted, FutureRevision: see txn.py; nothing was written.
        """
        return await self._submit(lambda draft: transact(draft, Txn(compares, then, otherwise)))

    async def grant(self, ttl: int, identity: int = 0) -> Lease:
        """Make a lease of `ttl` seconds."""
        return await self._submit(lambda draft: draft.grant(ttl, identity))

    async def renew(self, identity: int) -> Lease:
        """Give a lease its whole time again. Raises LeaseMissing."""
        return await self._submit(lambda draft: draft.renew(identity))

    async def revoke(self, identity: int) -> None:
        """End a lease and delete its keys, in one revision. Raises LeaseMissing."""
        await self._submit(lambda draft: draft.revoke(identity))

    @property
    def now(self) -> float:
        """Return the time by the clock that leases end by."""
        return self._clock()

    def leases(self) -> Leases:
        """Return the leases, to look at."""
        return self._leases

    async def compact(self, revision: int) -> None:
        """Forget what no read at `revision` or later needs. Watches that run are not disturbed.

        Raises:
            Compacted: more than that is forgotten already.
            FutureRevision: not written yet.
        """
        self._log.check(revision)
        while (target := min(revision, self._log.compacted + _COMPACT_PORTION)) > self._log.compacted:
            await self._submit(partial(Draft.compact, revision=target))

    async def tick(self, now: float) -> None:
        """Do what time asks for: end leases, forget history, tidy the file. Runs by itself every second."""
        await asyncio.gather(*(self._submit(partial(Draft.expire, identity=identity, now=now))
                               for identity in self._leases.expired(now)))
        target = self._retainer.due(now, self.revision, self.compacted,
                                    self._log.revision_over(self._retainer.retention.bytes))
        if target:
            await self.compact(target)
        if self._backend.checkpoint_due():
            self._tidy()
        for _ in self._log.pack():
            await asyncio.sleep(0)

    def _tidy(self) -> asyncio.Future[None]:
        """Begin a checkpoint, unless one runs; returns it."""
        if self._checkpoint is None or self._checkpoint.done():
            self._checkpoint = self._loop.run_in_executor(self._threads, self._backend.checkpoint)
            self._checkpoint.add_done_callback(self._finish_checkpoint)
        return self._checkpoint

    def _finish_checkpoint(self, _: asyncio.Future[None]) -> None:
        if not self._committing and not self._closed:
            self._backend.finish_checkpoint()

    async def _tick_forever(self) -> None:
        while not self._closed:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.tick(self._clock())
            except StorageFailed:
                continue  # the disk is full: whoever writes is told

    # -- group commit -------------------------------------------------------------------------------------------------

    def _submit(self, step: Callable[[Draft], Result]) -> asyncio.Future[Result]:
        if self._closed:
            raise StoreClosed
        future: asyncio.Future[Result] = self._loop.create_future()
        if not self._queue and not self._committing:
            self._loop.call_soon(self._commit)
            self._idle.clear()
        self._queue.append((step, future))
        return future

    def _commit(self) -> None:
        """Decide and commit all that is queued."""
        if self._backend.ahead():
            self._tidy().add_done_callback(lambda _: self._commit())
            return
        queue, self._queue = self._queue, []
        draft = Draft(self._log, self._leases, self._clock())
        outcomes: list[tuple[asyncio.Future[Any], Any, StoreError | None]] = []
        for step, future in queue:
            if future.cancelled():  # its caller has gone before anything was done
                continue
            try:
                outcomes.append((future, step(draft), None))
            except StoreError as error:
                outcomes.append((future, None, error))
            except Exception as error:  # a fault of ours: of what it was decided with nothing can be trusted
                log.exception("a write failed in a way that it should not")
                draft.withdraw()
                self._finish(Draft(self._log, self._leases, draft.now), [(row[1], None, None) for row in queue], error)
                return
            draft.end_step()
        if not draft.batch:
            self._finish(draft, outcomes, None)
        elif self._backend.blocking:
            failure = _failure(self._backend.begin, draft.batch)
            if failure is not None:
                self._finish(draft, outcomes, failure)
                return
            self._committing = True

            def wait() -> None:  # in a thread; no future of asyncio's: two more turns of the loop for each commit
                done = _failure(self._backend.append, draft.batch)
                self._loop.call_soon_threadsafe(self._finish, draft, outcomes, done)

            self._threads.submit(wait)
        else:
            self._finish(draft, outcomes, _failure(self._backend.append, draft.batch))

    def _finish(self, draft: Draft, outcomes: Iterable[tuple[asyncio.Future[Any], Any, StoreError | None]],
                failure: BaseException | None) -> None:
        """Show what was committed and acknowledge it; after a failure take everything back."""
        if draft.batch:
            self._full = isinstance(failure, StorageFull)
        if failure is None:
            draft.settle()
            self._hub.publish(draft.batch.events, self._log.revision)
        else:
            draft.withdraw()
        for future, result, error in outcomes:
            if future.done():
                continue
            if failure is not None or error is not None:
                future.set_exception(failure or error or StoreClosed())
            else:
                future.set_result(result)
        self._committing = False
        if self._queue:
            self._loop.call_soon(self._commit)
        else:
            self._idle.set()


def _failure(work: Callable[[Batch], None], batch: Batch) -> Exception | None:
    """Do it; return what it failed with: StorageFailed, or a fault of ours. Whoever waits is told."""
    try:
        work(batch)
    except Exception as error:  # noqa: BLE001 - see above
        return error
    return None
