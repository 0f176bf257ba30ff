"""etcd's service Watch: many watches on one stream, each with its number.

Each watch has a task that waits for events; whoever sends holds the stream's lock while it takes and sends them, so
that a message about progress never overtakes an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from netlab.store import watch as stores
from netlab.store.errors import Compacted, WatchCut
from netlab.store.faces import kv as kvs
from netlab.store.faces.face import Face
from netlab.store.model import Event
from netlab.store.rpc import messages as pb

if TYPE_CHECKING:
    from grpclib.server import Stream

    Wire: TypeAlias = Stream[pb.WatchRequest, pb.WatchResponse]

_NOPUT, _NODELETE = 0, 1
_BROADCAST = -1
PART_BYTES = 2 * 1024 * 1024
"""A message is no larger, unless what it may not be cut within is: gRPC's clients take 4 MiB unless told otherwise."""
_EVENT_BYTES = 100
"""What an event has besides keys and values, at most."""


async def serve(face: Face, stream: Wire) -> None:
    """Answer Watch until the client has ended the stream."""
    session = _Session(face, stream)
    try:
        await session.run()
    finally:
        session.close()


@dataclass
class _Watch:
    """One watch of a stream. `next` is the first revision not sent yet; `quiet`: nothing was since the last note.

    `source` is None until it is subscribed, also again; `first` is what then comes before all that `source` has.
    """

    id: int
    request: pb.WatchCreateRequest
    next: int
    source: stores.Watch | None = None
    first: list[Event] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    quiet: bool = True


class _Session:
    def __init__(self, face: Face, stream: Wire) -> None:
        self._face, self._stream = face, stream
        self._watches: dict[int, _Watch] = {}
        self._lock = asyncio.Lock()
        self._last = -1
        self._notifier: asyncio.Task[None] | None = None

    async def run(self) -> None:
        async for request in self._stream:
            if request.create_request is not None:
                await self._create(request.create_request)
            elif request.cancel_request is not None:
                await self._cancel(request.cancel_request.watch_id)
            elif request.progress_request is not None:
                await self._progress()

    def close(self) -> None:
        for watch in self._watches.values():
            if watch.task is not None:
                watch.task.cancel()
            if watch.source is not None:
                watch.source.close()
        if self._notifier is not None:
            self._notifier.cancel()

    async def _create(self, request: pb.WatchCreateRequest) -> None:
        store = self._face.store
        key, end = request.key or b"\0", request.range_end
        said = ""
        if request.watch_id and request.watch_id in self._watches:
            said = "mvcc: duplicate watch ID provided on the WatchStream"
        elif end and end != b"\0" and end <= key:
            said = "mvcc: watcher range is empty"
        if said:
            await self._send(pb.WatchResponse(self._face.header(), _BROADCAST, created=True, canceled=True,
                                              cancel_reason=said))
            return
        watch_id = request.watch_id or self._free()
        start = request.start_revision or store.revision + 1
        watch = self._watches[watch_id] = _Watch(watch_id, request, start)
        await self._send(pb.WatchResponse(self._face.header(), watch_id, created=True))
        if self._runs(watch):
            with suppress(Compacted):  # which the task tells
                self._subscribe(watch)  # before the next request, which may ask how far this watch is
            watch.task = asyncio.create_task(self._pump(watch))
        if request.progress_notify and self._notifier is None:
            self._notifier = asyncio.create_task(self._notify())

    def _free(self) -> int:
        while True:
            self._last += 1
            if self._last not in self._watches:
                return self._last

    def _runs(self, watch: _Watch) -> bool:
        return self._watches.get(watch.id) is watch

    async def _cancel(self, watch_id: int) -> None:
        watch = self._watches.pop(watch_id, None)
        if watch is not None:
            if watch.source is not None:
                watch.source.close()  # its task ends by itself: a message that is cut off would end the whole stream
            await self._send(pb.WatchResponse(self._face.header(), watch_id, canceled=True))

    async def _pump(self, watch: _Watch) -> None:
        """Send what a watch sees; begin again from history when it was cut off for being slow."""
        while self._runs(watch):
            try:
                source = watch.source or self._subscribe(watch)
                async with self._lock:
                    await self._events(watch, source)
                await source.ready()
            except WatchCut:
                if self._face.store.closed or not self._runs(watch):
                    return
                watch.source = None
            except Compacted as gone:
                self._watches.pop(watch.id, None)
                await self._send(pb.WatchResponse(
                    self._face.header(), watch.id, canceled=True, compact_revision=gone.compacted))
                return

    def _subscribe(self, watch: _Watch) -> stores.Watch:
        """Subscribe to all from `next` on. Raises Compacted."""
        store, request = self._face.store, watch.request
        key, end = request.key or b"\0", request.range_end
        watch.first = []
        after = watch.next - 1
        if watch.next == store.compacted > 0:  # what was written there is still known, if it was not overwritten
            watch.first = [Event(kv, None) for kv in store.written_at_compaction(key, end)]
            after = watch.next
        elif watch.next <= store.compacted:
            raise Compacted(watch.next, store.compacted)
        watch.source = store.watch(key, end=end, after=max(min(after, store.revision), 1))
        return watch.source

    async def _events(self, watch: _Watch, source: stores.Watch) -> None:
        """Send what there is; the lock is held. Raises WatchCut."""
        events, watch.first = watch.first + source.take(), []
        chosen = [event for event in events if event.revision >= watch.next
                  and (_NODELETE if event.deleted else _NOPUT) not in watch.request.filters]
        if events:
            watch.next = max(watch.next, events[-1].revision + 1)
        if not chosen:
            return
        watch.quiet = False
        rows = [_event(event, prev=watch.request.prev_kv) for event in chosen]
        header = self._face.header()
        for part, more in _parts(rows, within_revisions=watch.request.fragment):
            if not self._runs(watch):
                return
            await self._stream.send_message(pb.WatchResponse(header, watch.id, fragment=more, events=part))

    async def _progress(self) -> None:
        """Tell that all up to now was sent, on all watches of the stream at once."""
        async with self._lock:
            revision = self._face.store.revision
            try:
                for watch in list(self._watches.values()):
                    if watch.source is None:
                        return
                    await self._events(watch, watch.source)
            except WatchCut:
                return  # it catches up first; the client asks again
            await self._stream.send_message(pb.WatchResponse(self._face.header(revision), _BROADCAST))

    async def _notify(self) -> None:
        while True:
            await asyncio.sleep(self._face.notify)
            for watch in list(self._watches.values()):
                if watch.request.progress_notify and watch.source is not None:
                    await self._note(watch, watch.source)

    async def _note(self, watch: _Watch, source: stores.Watch) -> None:
        async with self._lock:
            revision = self._face.store.revision
            try:
                await self._events(watch, source)
            except WatchCut:
                return
            if watch.quiet:
                await self._stream.send_message(pb.WatchResponse(self._face.header(revision), watch.id))
            watch.quiet = True

    async def _send(self, response: pb.WatchResponse) -> None:
        async with self._lock:
            await self._stream.send_message(response)


def _event(event: Event, *, prev: bool) -> pb.Event:
    before = kvs.message(event.prev) if prev and event.prev is not None else None
    if event.deleted:
        return pb.Event(1, pb.KeyValue(event.kv.key, mod_revision=event.revision), before)
    return pb.Event(0, kvs.message(event.kv), before)


def _parts(rows: list[pb.Event], *, within_revisions: bool) -> Iterator[tuple[list[pb.Event], bool]]:
    """Cut events into messages, and tell of each whether it is a fragment that another one follows.

    Who did not ask for fragments finds all that a revision wrote in one message, however large.
    """
    part: list[pb.Event] = []
    size = newest = 0
    for row in rows:
        kv, before = row.kv, row.prev_kv
        assert kv is not None
        length = _EVENT_BYTES + len(kv.key) + len(kv.value) + (len(kv.key) + len(before.value) if before else 0)
        if part and size + length > PART_BYTES and (within_revisions or kv.mod_revision > newest):
            yield part, within_revisions
            part, size = [], 0
        part.append(row)
        size, newest = size + length, kv.mod_revision
    yield part, False
