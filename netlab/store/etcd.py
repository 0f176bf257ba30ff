"""The store in an etcd: writes go there, reads come from a log that follows it.

A read of "now" asks the etcd which revision now is and waits until the log is there, so it is as fresh as a read of
the etcd itself (upstream's consistent reads from cache); readers that come meanwhile share the question.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from grpclib.exceptions import GRPCError

from netlab.errors import TemporaryError
from netlab.store.compact import Retainer, Retention
from netlab.store.contract import Store
from netlab.store.errors import (
    Compacted,
    Conflict,
    KeyExists,
    KeyMissing,
    LeaseMissing,
    StorageFailed,
    StoreClosed,
    StoreError,
)
from netlab.store.lease import REUSE_KEYS, REUSE_SECONDS, REUSE_SHARE
from netlab.store.log import Log
from netlab.store.mirror import Follower
from netlab.store.model import Compare, Delete, Event, Get, KeyValue, Lease, Op, Put, Range, Txn, TxnResult, prefix_end
from netlab.store.remote import Names, translated
from netlab.store.rpc import messages as pb
from netlab.store.rpc.client import UNREACHABLE, Client
from netlab.store.rpc.tls import tls
from netlab.store.watch import Hub

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
FOLLOW_SECONDS = 5.0
"""How long a reader or writer waits for the log to come up to a revision that the etcd has."""
_COMPACT_KEY = b"compact_rev_key"
"""By this key the API servers of one etcd agree on who compacts (storage/etcd3/compact.go)."""


class EtcdStore(Store):
    """The keys under a prefix of an etcd."""

    def __init__(self, calls: Client, watching: Client, names: Names, *, retention: Retention,
                 clock: Callable[[], float]) -> None:
        """Use `connect` instead."""
        self._calls, self._names, self._clock = calls, names, clock
        self._log, self._hub = Log(), Hub(1)
        self._retainer = Retainer(retention)
        self._follower = Follower(watching, names, apply=self._apply, restart=self._restart,
                                  live=self._live)
        self._watching = watching
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None
        self._shared: dict[int, tuple[float, int, int]] = {}  # by ttl: reusable until, lease, keys

    @classmethod
    async def connect(cls, servers: Sequence[str], *, prefix: str = "/registry", ca: str = "", certificate: str = "",
                      key: str = "", retention: Retention | None = None, compact_seconds: float = 300.0,
                      clock: Callable[[], float] = time.monotonic) -> EtcdStore:
        """Open the store in an etcd; waits until it answers.

        Args:
            servers: URLs of its members.
            prefix: our keys lie below it.
            ca, certificate, key: files.
            retention: how much history to keep here for watches.
            compact_seconds: how much history the etcd keeps; 0 leaves that to others.

        Raises:
            UsageError: a URL or a file is wrong.
            StorageFailed: it refuses us.
        """
        context = tls(ca=ca, certificate=certificate, key=key) if any(url.startswith("https") for url in servers) \
            else None
        store = cls(Client(servers, context), Client(servers, context), Names(prefix),
                    retention=retention or Retention(), clock=clock)
        said = ""
        while True:
            try:
                kvs, revision = await store._follower.read()
                break
            except TemporaryError as error:
                if str(error) != said:
                    log.warning("waiting for the store: %s", error)
                said = str(error)
                store._calls.turn()
                await asyncio.sleep(0.1)
            except GRPCError as error:
                raise translated(error) from None
        store._restart(kvs, revision)
        store._tasks = [asyncio.create_task(store._follower.run(revision)), asyncio.create_task(store._tick_forever())]
        if compact_seconds:
            store._tasks.append(asyncio.create_task(store._compact_forever(compact_seconds)))
        return store

    async def close(self) -> None:
        """End all watches and the connections. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._hub.close()
        self._calls.close()
        self._watching.close()

    @property
    def trouble(self) -> str:
        """Return why the etcd can't be followed; "" when it can."""
        return self._follower.trouble

    # -- following ----------------------------------------------------------------------------------------------------

    def _apply(self, events: list[Event], revision: int) -> None:
        self._log.apply(events)
        self._log.revision = max(revision, self._log.revision)
        self._hub.publish(events, self._log.revision)

    def _live(self, key: bytes) -> KeyValue | None:
        return self._log.live(key)

    def _restart(self, kvs: list[KeyValue], revision: int) -> None:
        """Begin anew: whoever watches has missed something and must list again."""
        hub = self._hub
        self._log = Log(revision=revision, compacted=revision, live=kvs)
        hub.close("the store's history was compacted away")
        hub.publish((), revision)

    async def _fresh(self) -> None:
        """Wait until the log has all that was written before this call.

        Raises:
            StorageFailed: the etcd can't be asked, or followed.
        """
        if self._closed:
            raise StoreClosed
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(None))
            task = self._asking
        else:  # a question that was put earlier does not count
            if self._next is None or self._next.done():
                self._next = asyncio.create_task(self._ask(self._asking))
            task = self._next
        await self._follow(await asyncio.shield(task))

    async def _ask(self, before: asyncio.Task[int] | None) -> int:
        if before is not None:
            await asyncio.wait([before])
            self._asking, self._next = self._next, None
        done = await self._call("KV/Range", pb.RangeRequest(_COMPACT_KEY, count_only=True), pb.RangeResponse)
        assert done.header is not None
        return done.header.revision

    async def _follow(self, revision: int) -> None:
        if not await self.reach(revision, FOLLOW_SECONDS):
            raise StorageFailed(self.trouble or f"etcd is at revision {revision}, but tells nothing after "
                                                f"{self._log.revision}")

    async def _call(self, method: str, request: object, kind: type[pb.Reply], *, key: bytes = b"", lease: int = 0,
                    revision: int = 0) -> pb.Reply:
        try:
            return await self._calls.call(method, request, kind)
        except GRPCError as error:
            if "compacted" in (error.message or ""):
                raise Compacted(revision, max(self._log.compacted, revision + 1)) from None
            raise translated(error, key=key, lease=lease, revision=revision, current=self._log.revision) from None
        except (TemporaryError, *UNREACHABLE) as error:
            raise StorageFailed(str(error)) from None

    # -- reading ------------------------------------------------------------------------------------------------------

    async def get(self, key: bytes, *, revision: int = 0) -> KeyValue | None:
        """Return what a key holds; see `Store.get`."""
        if 0 < revision < self._log.compacted:
            found = await self._old(key, b"", revision, 0)
            return found.kvs[0] if found.kvs else None
        if not revision:
            await self._fresh()
        return await super().get(key, revision=revision)

    async def recent(self, key: bytes, since: int = 0) -> tuple[KeyValue | None, bool]:
        """Return what a key holds, for who is about to write it; see `Store.recent`.

        So that a write is one call of the etcd and no more, as upstream's from its watch cache.
        """
        kv = self._log.live(key)
        if kv is None or kv.mod_revision < since:
            return await self.get(key), True
        return kv, False

    async def list(self, prefix: bytes, *, revision: int = 0, limit: int = 0, after: bytes = b"") -> Range:
        """Return the keys with a prefix; see `Store.list`."""
        if 0 < revision < self._log.compacted:
            return await self._old(after + b"\0" if after >= prefix else prefix, prefix_end(prefix), revision, limit)
        if not revision:
            await self._fresh()
        return await super().list(prefix, revision=revision, limit=limit, after=after)

    async def range(self, start: bytes, end: bytes, *, revision: int = 0, limit: int = 0) -> Range:
        """Return the keys in [start, end); see `Store.range`."""
        if 0 < revision < self._log.compacted:
            return await self._old(start, end, revision, limit)
        if not revision:
            await self._fresh()
        return await super().range(start, end, revision=revision, limit=limit)

    async def count(self, prefix: bytes) -> int:
        """Return how many keys have a prefix now."""
        await self._fresh()
        return await super().count(prefix)

    async def _old(self, start: bytes, end: bytes, revision: int, limit: int) -> Range:
        """Read at a revision from before this log began, from the etcd itself."""
        names = self._names
        done = await self._call("KV/Range", pb.RangeRequest(names.out(start), names.end(end), limit, revision),
                                pb.RangeResponse, revision=revision)
        return Range([names.kv(kv) for kv in done.kvs], revision, done.count - len(done.kvs))

    # -- writing ------------------------------------------------------------------------------------------------------

    async def create(self, key: bytes, value: bytes, *, ttl: int = 0) -> KeyValue:
        """Write a key that is not there; see `Store.create`."""
        current = await self._put(key, value, ttl, [self._names.compare(Compare(key, "mod", "=", 0))])
        if isinstance(current, KeyValue):
            raise KeyExists(current)
        return await self._written(key, current)

    async def update(self, key: bytes, value: bytes, revision: int, *, ttl: int = 0) -> KeyValue:
        """Write a key that is still at this mod_revision; see `Store.update`."""
        current = await self._put(key, value, ttl, [self._names.compare(Compare(key, "mod", "=", revision)),
                                                    self._names.compare(Compare(key, "version", ">", 0))])
        if isinstance(current, KeyValue):
            raise Conflict(current, revision)
        return await self._written(key, current)

    async def put(self, key: bytes, value: bytes, *, ttl: int = 0) -> KeyValue:
        """Write a key, whatever it held."""
        done = await self._put(key, value, ttl, [])
        assert isinstance(done, int)
        return await self._written(key, done)

    async def _put(self, key: bytes, value: bytes, ttl: int, compares: builtins.list[pb.Compare]) -> KeyValue | int:
        """Write a key if these hold. Returns the revision, or what is there when they do not. Raises KeyMissing.

        What was there before is not asked for: the log tells it.
        """
        if self._closed:
            raise StoreClosed
        lease, out = await self._lease(ttl), self._names.out(key)
        request = pb.TxnRequest(compares, [pb.RequestOp(request_put=pb.PutRequest(out, value, lease))],
                                [pb.RequestOp(request_range=pb.RangeRequest(out))])
        done = await self._call("KV/Txn", request, pb.TxnResponse, key=key, lease=lease)
        assert done.header is not None
        with suppress(StorageFailed):  # it is written; that the news is late is the readers' matter
            await self._follow(done.header.revision)
        if done.succeeded:
            return done.header.revision
        found = done.responses[0].response_range
        if found is None or not found.kvs:
            raise KeyMissing(key)
        return self._names.kv(found.kvs[0])

    async def delete(self, key: bytes, revision: int = 0) -> Event:
        """Delete a key; see `Store.delete`."""
        compares = [Compare(key, "mod", "=", revision)] if revision else []
        done = await self.transact(compares, [Delete(key)], [Get(key)])
        if not done.succeeded:
            raise Conflict(_only(done, key), revision)
        events = done.results[0]
        if not isinstance(events, list) or not events:
            raise KeyMissing(key)
        return events[0]

    async def transact(self, compares: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = (),
                       ) -> TxnResult:
        """Run a transaction; see `Store.transact`. It returns when readers of this store see what was written."""
        if self._closed:
            raise StoreClosed
        asked = Txn(compares, then, otherwise)
        lease = next((op.lease for op in (*then, *otherwise) if isinstance(op, Put) and op.lease), 0)
        key = next((op.key for op in (*then, *otherwise) if isinstance(op, Put)), b"")
        done = self._names.result(asked, await self._call("KV/Txn", self._names.txn(asked), pb.TxnResponse, key=key,
                                                          lease=lease))
        with suppress(StorageFailed):  # it is written; that the news is late is the readers' matter
            await self._follow(done.revision)
        return done

    async def _written(self, key: bytes, revision: int) -> KeyValue:
        """Return what was written: the log's own value, if it has it already, so that all share what is derived."""
        with suppress(StoreError):
            kv = self._log.get(key, revision)
            if kv is not None and kv.mod_revision == revision:
                return kv
        return (await self._old(key, b"", revision, 0)).kvs[0]

    async def _lease(self, ttl: int) -> int:
        """Return a lease that lives at least `ttl` seconds, shared by what is written soon after each other."""
        if not ttl:
            return 0
        now = self._clock()
        until, lease, keys = self._shared.get(ttl, (0.0, 0, 0))
        if not lease or now > until or keys >= REUSE_KEYS:
            span = min(ttl * REUSE_SHARE, REUSE_SECONDS)
            lease, until, keys = (await self.grant(ttl + int(span) + 1)).id, now + span, 0
        self._shared[ttl] = (until, lease, keys + 1)
        return lease

    async def grant(self, ttl: int, identity: int = 0) -> Lease:
        """Make a lease of `ttl` seconds."""
        done = await self._call("Lease/LeaseGrant", pb.LeaseGrantRequest(ttl, identity), pb.LeaseGrantResponse,
                                lease=identity)
        return Lease(done.ID, done.TTL, self._clock() + done.TTL)

    async def renew(self, identity: int) -> Lease:
        """Give a lease its whole time again. Raises LeaseMissing."""
        try:
            async with self._calls.stream("Lease/LeaseKeepAlive", pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse,
                                          timeout=5.0) as stream:
                await stream.send_message(pb.LeaseKeepAliveRequest(identity), end=True)
                answer = await stream.recv_message()
        except (GRPCError, *UNREACHABLE) as error:
            raise StorageFailed(f"etcd: {error}") from None
        if answer is None or answer.TTL <= 0:
            raise LeaseMissing(identity)
        return Lease(identity, answer.TTL, self._clock() + answer.TTL)

    async def revoke(self, identity: int) -> None:
        """End a lease and delete its keys, in one revision. Raises LeaseMissing."""
        done = await self._call("Lease/LeaseRevoke", pb.LeaseRevokeRequest(identity), pb.LeaseRevokeResponse,
                                lease=identity)
        if done.header is not None:
            await self._follow(done.header.revision)

    async def compact(self, revision: int) -> None:
        """Forget what no read at `revision` or later needs; see `Store.compact`."""
        if revision and revision == self._log.compacted:
            return
        await self._call("KV/Compact", pb.CompactionRequest(revision), pb.CompactionResponse, revision=revision)
        if self._log.compacted < revision <= self._log.revision:
            self._log.compact(revision)

    # -- time ---------------------------------------------------------------------------------------------------------

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            local = self._log
            target = self._retainer.due(self._clock(), local.revision, local.compacted,
                                        local.revision_over(self._retainer.retention.bytes))
            if target:
                local.compact(target)
            for _ in local.pack():
                await asyncio.sleep(0)

    async def _compact_forever(self, seconds: float) -> None:
        """Have the etcd forget what is older than two rounds, if no other API server has done so."""
        turn = revision = 0
        while True:
            await asyncio.sleep(seconds)
            with suppress(StoreError):
                turn, revision = await self._compact_round(turn, revision)

    async def _compact_round(self, turn: int, revision: int) -> tuple[int, int]:
        request = pb.TxnRequest(
            [pb.Compare(0, 0, _COMPACT_KEY, version=turn)],
            [pb.RequestOp(request_put=pb.PutRequest(_COMPACT_KEY, str(revision).encode()))],
            [pb.RequestOp(request_range=pb.RangeRequest(_COMPACT_KEY))])
        done = await self._call("KV/Txn", request, pb.TxnResponse)
        assert done.header is not None
        if not done.succeeded:
            found = done.responses[0].response_range
            return (found.kvs[0].version if found is not None and found.kvs else 0), done.header.revision
        if revision:
            with suppress(Compacted):
                await self._call("KV/Compact", pb.CompactionRequest(revision), pb.CompactionResponse,
                                 revision=revision)
        return turn + 1, done.header.revision


def _only(done: TxnResult, key: bytes) -> KeyValue:
    """Return what a Get found. Raises KeyMissing."""
    found = done.results[0]
    if not isinstance(found, Range) or not found.kvs:
        raise KeyMissing(key)
    return found.kvs[0]
