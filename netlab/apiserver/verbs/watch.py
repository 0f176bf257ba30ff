"""WATCH: every change of a collection after a revision, each once, in order: a line of JSON, or a frame of protobuf."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence

import orjson

from netlab.api import pack
from netlab.api.meta import Object
from netlab.api.protobuf import CONTENT_TYPE
from netlab.apiserver import negotiate, render, status
from netlab.apiserver.call import Call
from netlab.apiserver.endpoint import Endpoint
from netlab.apiserver.http import Response, Sink, Stream
from netlab.apiserver.selection import Selection, key_prefix, selection
from netlab.apiserver.verbs import listing
from netlab.errors import ApiError
from netlab.store import Compacted, Event, KeyValue, Range, Watch, WatchCut

_SHORTEST, _LONGEST = 1800.0, 3600.0
_BOOKMARK_SECONDS = 60.0
_QUEUE = 10_000
"""Events that a watcher may lag behind before it is cut off."""
_PORTION = 256 * 1024
_PIECE = 500
"""Objects of a snapshot that are made ready at a time."""

Line = Callable[[str, KeyValue, int], bytes]
"""(type, object's revision, resourceVersion to show) → one line, or one frame."""

_SHARED = 256
_recent: deque[Event] = deque()
"""The events whose line is kept (`Event.memo`), for the other watchers that are about to ask for it."""
_last: tuple[object, bytes] = None, b""
"""Which events were sent last, and as what: the next watcher of the same keys mostly gets the same."""


async def watch(call: Call) -> Response:
    """Answer the stream of events.

    Raises:
        ApiError: 400, 422 for options that do not go together.
    """
    chosen = selection(call)
    prefix = key_prefix(call, chosen)
    store = call.endpoint.folder.store
    initial = call.request.flag("sendInitialEvents") if "sendInitialEvents" in call.request.query else None
    bookmarks = call.request.flag("allowWatchBookmarks")
    wanted = _options(call)
    seconds = _seconds(listing.number(call.request, "timeoutSeconds"))
    snapshot: Range | None = None
    if initial or (initial is None and wanted == 0):
        if not await store.reach(wanted):
            raise status.too_large_resource_version(wanted, store.revision)
        snapshot = await store.list(prefix)
    start = snapshot.revision if snapshot is not None else wanted
    try:
        source = store.watch(prefix, after=min(start, store.revision) or store.revision, limit=_QUEUE)
    except Compacted as error:
        gone = status.Expired(f"too old resource version: {wanted} ({error.compacted + 1})")
        return _stream(call, lambda sink: sink.write(_error_line(call, gone)))
    if call.api.stopping:
        source.close()
        raise status.unavailable("the API server is shutting down")
    line = _table_lines(call) if call.form.shape == "table" else _partial_lines(call) if call.form.shape == "partial" \
        else _ObjectLines(call.endpoint, packed=call.form.protobuf)

    async def run(sink: Sink) -> None:
        call.api.watches.add(source)
        try:
            with source:
                if snapshot is not None:
                    await _send_snapshot(call, sink, snapshot, chosen, line)
                    if initial and bookmarks:
                        await sink.write(_bookmark(call, snapshot.revision, initial_end=True))
                if call.request.seat is not None:
                    call.request.seat.leave()  # it was needed for what there was already
                await _follow(call, sink, source, chosen, line, start=start, seconds=seconds, bookmarks=bookmarks)
        except ApiError as error:  # an object that can't be read: say so, and end
            await sink.write(_error_line(call, error))
        except WatchCut:
            return  # too slow, or the server stops: the client comes back with what it has seen last
        finally:
            call.api.watches.discard(source)

    return _stream(call, run)


def _stream(call: Call, run: Callable[[Sink], Awaitable[None]]) -> Stream:
    if call.form.protobuf:
        return Stream(run, f"{CONTENT_TYPE};stream=watch")
    return Stream(run, messages="lines")


async def _send_snapshot(call: Call, sink: Sink, snapshot: Range, chosen: Selection, line: Line) -> None:
    for start in range(0, len(snapshot.kvs), _PIECE):
        piece = snapshot.kvs[start:start + _PIECE]
        await call.endpoint.ready(piece)
        lines = [line("ADDED", kv, kv.mod_revision) for kv in piece
                 if chosen.empty or chosen.matches(call.endpoint.view(kv))]
        for text in _joined(lines):
            await sink.write(text)


def _joined(lines: list[bytes]) -> Iterator[bytes]:
    batch, size = [], 0
    for one in lines:
        batch.append(one)
        size += len(one)
        if size > _PORTION:
            yield b"".join(batch)
            batch, size = [], 0
    if batch:
        yield b"".join(batch)


async def _follow(call: Call, sink: Sink, source: Watch, chosen: Selection, line: Line, *, start: int, seconds: float,
                  bookmarks: bool) -> None:
    clock = call.api.monotonic
    if isinstance(line, _ObjectLines) and (call.endpoint.custom is None or call.endpoint.custom.converter is None):
        source.eager = _eager(call.endpoint, sink, source.key, chosen, line, start)
    end = clock() + seconds
    mark = clock() + min(_BOOKMARK_SECONDS, max(seconds - 2, 1)) if bookmarks else end
    while (now := clock()) < end:
        events = await source.next(min(mark, end) - now if min(mark, end) > now else 0.001)
        await call.endpoint.ready(kv for event in events for kv in (event.kv, event.prev) if kv is not None)
        lines = [text for event in events if event.revision > start
                 for text in (_event_line(call.endpoint, event, chosen, line),) if text]
        if bookmarks and clock() >= mark:
            lines.append(_bookmark(call, max(source.revision, start)))
            mark = clock() + _BOOKMARK_SECONDS
        if lines:
            await sink.write(b"".join(lines))


def _eager(endpoint: Endpoint, sink: Sink, key: bytes, chosen: Selection, line: _ObjectLines, start: int,
           ) -> Callable[[Sequence[Event]], bool]:
    """Return what sends events right when they come, so that the watch's task sleeps on, and tells whether it did.

    What is out of the ordinary (a slow client, much at once, an object that can't be read) is the task's.
    """
    def send(events: Sequence[Event]) -> bool:
        global _last
        if events[0].revision <= start:
            return False
        mark = (endpoint, key, events[0].revision, events[-1].revision, len(events), line.packed) if chosen.empty \
            else None
        if mark is not None and _last[0] == mark:
            text = _last[1]
        else:
            try:
                text = b"".join([_event_line(endpoint, event, chosen, line) for event in events])
            except ApiError:
                return False
            if mark is not None:
                _last = mark, text
        if not text:  # of others, for most watchers with a selector
            return True
        if len(text) > _PORTION or not sink.free():
            return False
        sink.post(text)
        return True

    return send


def _event_line(endpoint: Endpoint, event: Event, chosen: Selection, line: Line) -> bytes:
    """Return the line of one change: a change may carry an object into or out of the selection."""
    before = event.prev is not None and event.prev.value != b"" and (
        chosen.empty or chosen.matches(endpoint.view(event.prev)))
    after = not event.deleted and (chosen.empty or chosen.matches(endpoint.view(event.kv)))
    kv = event.kv if after else event.prev if before else None
    if kv is None:
        return b""
    kind = "DELETED" if not after else "MODIFIED" if before else "ADDED"
    if not isinstance(line, _ObjectLines):
        return line(kind, kv, event.revision)
    for kept, as_, packed, text in event.memo or ():
        if kept is endpoint and as_ == kind and packed == line.packed:
            return text  # type: ignore[no-any-return]
    made = line(kind, kv, event.revision)
    if event.memo is None:
        event.memo = []
        _recent.append(event)
        if len(_recent) > _SHARED:
            _recent.popleft().memo = None
    event.memo.append((endpoint, kind, line.packed, made))
    return made


class _ObjectLines:
    """Lines with whole objects: the same for all who watch them."""

    def __init__(self, endpoint: Endpoint, *, packed: bool) -> None:
        self._endpoint, self.packed = endpoint, packed

    def __call__(self, kind: str, kv: KeyValue, revision: int) -> bytes:
        if self.packed:
            return pack.event(kind, negotiate.packed(_at(self._endpoint, kv, revision)))
        if revision != kv.mod_revision:
            kv = KeyValue(kv.key, kv.value, kv.create_revision, revision, kv.version)
        return b'{"type":"%s","object":%s}\n' % (kind.encode(), self._endpoint.wire(kv))


def _partial_lines(call: Call) -> Line:
    def line(kind: str, kv: KeyValue, revision: int) -> bytes:
        obj = _at(call.endpoint, kv, revision)
        return _event(call, kind, render.partial(obj, call.form))

    return line


def _table_lines(call: Call) -> Line:
    include = render.include_object(call)
    first = True

    def line(kind: str, kv: KeyValue, revision: int) -> bytes:
        nonlocal first
        obj = _at(call.endpoint, kv, revision)
        shown = render.table_of(call.endpoint, call.form, [obj], now=call.api.clock(), include=include,
                                revision=str(revision), headers=first)
        first = False
        return _event(call, kind, shown)

    return line


def _at(endpoint: Endpoint, kv: KeyValue, revision: int) -> Object:
    obj = endpoint.view(kv)
    if revision == kv.mod_revision:
        return obj
    return obj | {"metadata": obj["metadata"] | {"resourceVersion": str(revision)}}


def _bookmark(call: Call, revision: int, *, initial_end: bool = False) -> bytes:
    resource = call.endpoint.resource
    metadata: Object = {"resourceVersion": str(revision)}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    kind, version = resource.kind, resource.api_version
    if call.form.shape != "object":
        kind = "Table" if call.form.shape == "table" else "PartialObjectMetadata"
        version = f"meta.k8s.io/{call.form.version}"
    obj: Object = {"kind": kind, "apiVersion": version, "metadata": metadata}
    if call.form.shape == "table":
        obj |= {"columnDefinitions": [], "rows": [{"cells": [], "object": {
            "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata}}]}
    return _event(call, "BOOKMARK", obj)


def _error_line(call: Call, error: ApiError) -> bytes:
    return _event(call, "ERROR", error.status())


def _event(call: Call, kind: str, obj: Object) -> bytes:
    if call.form.protobuf:
        return pack.event(kind, negotiate.packed(obj))
    return orjson.dumps({"type": kind, "object": obj}) + b"\n"


def _seconds(asked: int | None) -> float:
    """Return how long a watch lasts: one without a wish an hour or less, one that wishes less than nothing no time."""
    return min(float(asked), 86_400.0) if asked else random.uniform(_SHORTEST, _LONGEST)


def _options(call: Call) -> int:
    listing.check(call.request, watch=True)
    wanted = call.request.arg("resourceVersion")
    if wanted and not (wanted.isascii() and wanted.isdigit()):
        raise status.bad_request(f'resourceVersion: Invalid value: "{wanted}": strconv.ParseUint: parsing "{wanted}": '
                                 "invalid syntax")
    return int(wanted or 0)
