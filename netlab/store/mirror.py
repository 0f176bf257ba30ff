"""Follows an etcd: one watch over all keys, so that every revision is seen, in order, as soon as it is there.

All keys, and not only those under our prefix, since a revision that wrote elsewhere would otherwise leave us unable to
tell "not there yet" from "nothing of ours"; progress notes could tell, but come before events in etcd 3.4 (etcd#15220).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from grpclib.exceptions import GRPCError

from netlab.errors import TemporaryError
from netlab.store.model import Event, KeyValue
from netlab.store.remote import Names
from netlab.store.rpc import messages as pb
from netlab.store.rpc.client import UNREACHABLE, Client

log = logging.getLogger(__name__)

PAGE = 1000
QUIET_SECONDS = 10.0
"""After so long without a word the etcd is asked for one; after twice as long another member is tried."""
_PAUSE = 0.2


class Follower:
    """The task that keeps a log up to date.

    Args:
        client: of its own, since it is closed when the member is silent.
        names: which keys are ours.
        apply: takes the events of whole revisions and the newest of these.
        restart: takes a whole new state after history was compacted away, and its revision.
        live: returns what a key held last.
    """

    def __init__(self, client: Client, names: Names, *, apply: Callable[[list[Event], int], None],
                 restart: Callable[[list[KeyValue], int], None], live: Callable[[bytes], KeyValue | None]) -> None:
        self._client, self._names = client, names
        self._apply, self._restart, self._live = apply, restart, live
        self.trouble = ""
        self._heard = 0.0

    async def read(self) -> tuple[list[KeyValue], int]:
        """Return all keys of ours as they are at one revision.

        Raises:
            GRPCError, TemporaryError: the etcd refuses or does not answer.
        """
        prefix = self._names.prefix + b"/"
        start, end, revision = prefix, self._names.prefix + b"0", 0
        found: list[KeyValue] = []
        while True:
            page = await self._client.call("KV/Range", pb.RangeRequest(start, end, PAGE, revision), pb.RangeResponse,
                                           timeout=30.0)
            if not revision:
                assert page.header is not None
                revision = page.header.revision
            found += [self._names.kv(kv) for kv in page.kvs]
            if not page.more:
                return found, revision
            start = page.kvs[-1].key + b"\0"

    async def run(self, revision: int) -> None:
        """Follow from after a revision until cancelled."""
        while True:
            try:
                revision = await self._follow(revision)
                self._restart_from(*await self.read())
                continue
            except (*UNREACHABLE, GRPCError, TemporaryError) as error:
                revision = max(revision, self._seen)
                said = str(getattr(error, "message", "") or error) or type(error).__name__
                if not self.trouble:
                    log.warning("etcd at %s: the watch broke off: %s", self._client.endpoint, said)
                self.trouble = f"etcd at {self._client.endpoint}: {said}"
                self._client.turn()
            await asyncio.sleep(_PAUSE)

    _seen = 0

    def _restart_from(self, kvs: list[KeyValue], revision: int) -> None:
        log.warning("etcd has compacted what was not seen yet: beginning anew at revision %d", revision)
        self._seen = revision
        self._restart(kvs, revision)

    async def _follow(self, revision: int) -> int:
        """Apply what comes after a revision; returns when history was compacted away."""
        revision = max(revision, self._seen)
        async with self._client.stream("Watch/Watch", pb.WatchRequest, pb.WatchResponse) as stream:
            await stream.send_message(pb.WatchRequest(create_request=pb.WatchCreateRequest(
                b"\0", b"\0", revision + 1, prev_kv=False)))
            loop = asyncio.get_running_loop()
            self._heard = loop.time()
            watchdog = asyncio.create_task(self._watch_over(stream))
            try:
                async for response in stream:
                    self._heard = loop.time()
                    if response.canceled:
                        if response.compact_revision:
                            return revision
                        raise TemporaryError(response.cancel_reason or "the watch was ended")
                    self.trouble = ""
                    if response.events:
                        self._take(response.events)
                raise TemporaryError("the watch ended")
            finally:
                watchdog.cancel()
                with suppress(Exception):
                    await stream.cancel()

    async def _watch_over(self, stream: object) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(QUIET_SECONDS / 2)
            silence = loop.time() - self._heard
            if silence > 2 * QUIET_SECONDS:
                self._client.close()
                return
            if silence > QUIET_SECONDS:
                await stream.send_message(  # type: ignore[attr-defined]
                    pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def _take(self, rows: list[pb.Event]) -> None:
        events: list[Event] = []
        changed: dict[bytes, KeyValue] = {}
        newest = sub = 0
        for row in rows:
            kv = row.kv
            assert kv is not None
            if kv.mod_revision > newest:
                newest, sub = kv.mod_revision, 0
            if not self._names.ours(kv.key):
                continue
            key = self._names.back(kv.key)
            prev = changed.get(key) or self._live(key)
            if prev is not None and not prev.version:
                prev = None
            now = KeyValue(key, b"", 0, kv.mod_revision, 0, 0, sub) if row.type == 1 else KeyValue(
                key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease, sub)
            sub += 1
            changed[key] = now
            if now.version or prev is not None:
                events.append(Event(now, prev))
        self._seen = newest
        self._apply(events, newest)
