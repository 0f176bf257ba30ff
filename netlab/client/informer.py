"""A local, always current copy of a resource: list once, then watch (client-go's reflector and shared informer).

What holds, whatever the connection does: the copy moves from one revision of the server to the next; each change
reaches each handler once and in order; changes that happened unseen come as the difference of two lists.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

from netlab.api import meta
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.client.client import Client, row
from netlab.errors import ApiError, NetlabError

log = logging.getLogger(__name__)

Handler = Callable[[str, Object | None, Object | None], None]
"""Called with (key, old, new): old is None for a new object, new is None for a deleted one."""
IndexFunction = Callable[[Object], Iterable[str]]

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0


class Informer:
    """The copy of one resource. Objects in it are shared: treat them as frozen."""

    def __init__(self, client: Client, resource: str | Resource, namespace: str = "", labels: str = "",
                 fields: str = "", *, transform: Callable[[Object], Object] | None = None) -> None:
        """Make the copy, empty until `run`.

        Args:
            client: what to read with.
            resource: what.
            namespace: "" for all namespaces.
            labels: a label selector's text.
            fields: a field selector's text.
            transform: what to keep of each object (metadata is needed), to save memory.
        """
        self.resource = row(resource)
        self.synced = asyncio.Event()
        """Set once the first list is in and every handler has seen it."""
        self.listening_since = time.monotonic()
        """When the server last could not be reached, or when this copy was made: since then nothing was missed."""
        self._client, self._namespace, self._labels, self._fields = client, namespace, labels, fields
        self._objects: dict[str, Object] = {}
        self._handlers: list[Handler] = []
        self._indexers: dict[str, IndexFunction] = {}
        self._indices: dict[str, dict[str, dict[str, Object]]] = {}
        self._revision = ""
        self._transform = transform
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def revision(self) -> str:
        """Return the resourceVersion that the copy stands at, "" before the first list."""
        return self._revision

    def get(self, key: str) -> Object | None:
        """Return the object of a key (`namespace/name` or `name`), None if there is none."""
        return self._objects.get(key)

    def all(self) -> list[Object]:
        """Return all objects, in no particular order."""
        return list(self._objects.values())

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return list(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def add_index(self, index: str, function: IndexFunction) -> None:
        """Keep the objects sorted by what `function` returns for each. Adding the same name again is harmless."""
        if index in self._indexers:
            return
        self._indexers[index] = function
        self._indices[index] = {}
        for key, obj in self._objects.items():
            for value in set(function(obj)):
                self._indices[index].setdefault(value, {})[key] = obj

    def by_index(self, index: str, value: str) -> list[Object]:
        """Return the objects for which the function of `index` gave `value`."""
        return list(self._indices[index].get(value, {}).values())

    def add_handler(self, handler: Handler) -> None:
        """Call `handler` for every object there is, then for every change. It must be quick and must not raise."""
        self._handlers.append(handler)
        for key, obj in list(self._objects.items()):
            _call(handler, key, None, obj)

    async def reach(self, revision: int, seconds: float = 5.0) -> bool:
        """Wait until the copy contains what the server's revision `revision` does; False if that takes too long.

        Resource versions are ordered numbers (KEP-5504), so whoever waits for the resourceVersion that a write of its
        own returned never acts on a copy that lacks this write.
        """
        if _number(self._revision) >= revision:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((revision, waiter))
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters = [entry for entry in self._waiters if entry[1] is not waiter]
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the copy current until `stop` is set. Never raises for trouble with the server: it tries again."""
        loop = asyncio.ensure_future(self._loop())
        ended = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({loop, ended}, return_when=asyncio.FIRST_COMPLETED)
            if loop in done:
                loop.result()  # only a bug ends the loop: let it be seen
        finally:
            loop.cancel()
            ended.cancel()
            await asyncio.gather(loop, ended, return_exceptions=True)

    async def _loop(self) -> None:
        delay, complained = _FIRST_DELAY, False
        while True:
            before = self._revision
            try:
                if not self._revision:
                    await self._list()
                else:
                    await self._watch()
                if complained:
                    log.info("%s: the API server answers again", self.resource.group_resource)
                delay, complained = _FIRST_DELAY, False
                continue
            except ApiError as error:
                if error.code == 410:
                    log.info("%s: revision %s is too old, listing anew", self.resource.group_resource, self._revision)
                    self._revision = ""
                    continue
                trouble: NetlabError = error
            except NetlabError as error:
                trouble = error
            self.listening_since = time.monotonic()
            if self._revision != before:  # the stream carried something before it broke
                delay, complained = _FIRST_DELAY, False
            (log.debug if complained else log.warning)("%s: %s", self.resource.group_resource, trouble)
            complained = True
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _list(self) -> None:
        items, revision = await self._client.list(self.resource, self._namespace, labels=self._labels,
                                                  fields=self._fields)
        keep = self._transform or _whole
        found = {meta.key(item): keep(item) for item in items}
        for key in [key for key in self._objects if key not in found]:
            self._set(key, None)
        for key, item in found.items():
            self._set(key, item)
        self._reached(revision)
        self.synced.set()

    async def _watch(self) -> None:
        keep = self._transform or _whole
        seconds = random.randint(300, 600)  # as client-go: spread the renewals of many watchers
        async for kind, obj in self._client.watch(self.resource, self._namespace, labels=self._labels,
                                                  fields=self._fields, revision=self._revision, seconds=seconds,
                                                  bookmarks=True):
            if kind != "BOOKMARK":
                obj.setdefault("apiVersion", self.resource.api_version)
                obj.setdefault("kind", self.resource.kind)
                obj = keep(obj)
                self._set(meta.key(obj), None if kind == "DELETED" else obj, last=obj)
            self._reached(str(obj["metadata"].get("resourceVersion") or self._revision))

    def _reached(self, revision: str) -> None:
        self._revision = revision
        if self._waiters:
            number = _number(revision)
            for wanted, waiter in self._waiters:
                if wanted <= number and not waiter.done():
                    waiter.set_result(None)

    def _set(self, key: str, new: Object | None, *, last: Object | None = None) -> None:
        """Put one change into the copy, then tell the handlers. `last` is a deleted object's final state."""
        old = self._objects.get(key)
        if old is None and new is None:
            return
        if old is not None and new is not None:
            if meta.uid(old) != meta.uid(new):  # deleted and made again while we did not look
                self._set(key, None)
                old = None
            elif old["metadata"].get("resourceVersion") == new["metadata"].get("resourceVersion"):
                return
        for index, function in self._indexers.items():
            rows = self._indices[index]
            for value in set(function(old)) if old is not None else ():
                rows[value].pop(key, None)
                if not rows[value]:
                    del rows[value]
            for value in set(function(new)) if new is not None else ():
                rows.setdefault(value, {})[key] = new  # type: ignore[assignment]
        if new is None:
            del self._objects[key]
            old = last or old
        else:
            self._objects[key] = new
        for handler in list(self._handlers):
            _call(handler, key, old, new)


def _number(revision: str) -> int:
    return int(revision) if revision.isdigit() else 0


def _whole(obj: Object) -> Object:
    return obj


def _call(handler: Handler, key: str, old: Object | None, new: Object | None) -> None:
    try:
        handler(key, old, new)
    except Exception:  # one component's mistake must not stop the copy that the others live on
        log.exception("a handler failed for %s", key)
