"""What every controller is made of: shared copies of the API's state, a queue of keys, and a reconcile function."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.client.events import Recorder
from netlab.client.informer import Handler, Informer
from netlab.client.worker import run_workers
from netlab.client.workqueue import WorkQueue
from netlab.errors import NetlabError

log = logging.getLogger(__name__)

Item = TypeVar("Item")


@dataclass(frozen=True)
class Options:
    """Settings of the controllers, from the flags of the same names. Times are seconds."""

    cluster_cidrs: tuple[str, ...] = ()
    allocate_node_cidrs: bool = False
    node_masks: dict[int, int] = field(default_factory=lambda: {4: 24, 6: 64})
    """Prefix length of a node's Pod network by IP version."""
    root_ca: str = ""
    service_account_key: bytes = b""
    legacy_token_seconds: float = 365 * 86400.0
    node_monitor_grace: float = 50.0
    node_startup_grace: float = 60.0
    terminated_pod_threshold: int = 12500
    max_endpoints_per_slice: int = 100
    signing_certificate: bytes = b""
    signing_key: bytes = b""
    signing_seconds: float = 365 * 86400.0


class Context:
    """What the controllers of one process share."""

    def __init__(self, client: Client, options: Options) -> None:
        self.client, self.options = client, options
        self._informers: dict[tuple[str, str], Informer] = {}
        self._recorders: dict[str, Recorder] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop: asyncio.Event | None = None

    def informer(self, resource: str, namespace: str = "") -> Informer:
        """Return the shared copy of a resource; one asked for after `start` starts at once."""
        found = self._informers.get((resource, namespace))
        if found is None:
            found = self._informers[resource, namespace] = Informer(self.client, resource, namespace)
            if self._stop is not None:
                self._launch(found, self._stop)
        return found

    def existing(self, resource: str) -> Informer | None:
        """Return the shared copy of a resource if some controller has asked for it, with all its namespaces."""
        return self._informers.get((resource, ""))

    def recorder(self, component: str) -> Recorder:
        """Return what tells events in the name of `component`."""
        return self._recorders.setdefault(component, Recorder(self.client, component))

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Keep the copies current while the body runs."""
        self._stop = asyncio.Event()
        for informer in self._informers.values():
            self._launch(informer, self._stop)
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(recorder.close() for recorder in self._recorders.values()))

    def _launch(self, informer: Informer, stop: asyncio.Event) -> None:
        task = asyncio.ensure_future(informer.run(stop))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Controller:
    """One loop of the controller manager. `name` is what --controllers calls it."""

    name: ClassVar[str]
    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        self.context, self.client, self.options = context, context.client, context.options
        self.queue: WorkQueue[str] = WorkQueue()
        self._sources: list[Informer] = []
        self._written: dict[str, dict[Informer, int]] = {}

    def source(self, resource: str, handler: Handler | None = None, namespace: str = "") -> Informer:
        """Return the shared copy of a resource, with `handler` attached; work starts when all sources are synced."""
        informer = self.context.informer(resource, namespace)
        self._sources.append(informer)
        if handler is not None:
            informer.add_handler(handler)
        return informer

    def enqueue(self, key: str, _old: Object | None, _new: Object | None) -> None:
        """Ask for a look at the object of an event: the handler of a controller's own resource."""
        self.queue.add(key)

    def wrote(self, key: str, informer: Informer, obj: Object) -> None:
        """Remember what a write returned: the next look at `key` waits until `informer` has seen it."""
        written = self._written.setdefault(key, {})
        written[informer] = max(written.get(informer, 0), meta.revision(obj))

    async def reconcile(self, key: str) -> float | None:
        """Bring the world in line with the object of `key`; return the seconds until another look is due."""
        raise NetlabError(f"{self.name} has no reconcile for {key}")

    async def synced(self) -> None:
        """Wait until all sources hold their first list."""
        for informer in self._sources:
            await informer.synced.wait()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        await self.synced()
        log.info("controller %s runs", self.name)
        await run_workers(self.queue, self._look, stop=stop, workers=self.workers, name=self.name)

    async def _look(self, key: str) -> float | None:
        for informer, revision in self._written.pop(key, {}).items():
            await informer.reach(revision)
        return await self.reconcile(key)


async def slow_start(items: Sequence[Item], act: Callable[[Item], Awaitable[object]]) -> int:
    """Run `act` for the items in batches of 1, 2, 4, ... and stop after the first batch with a failure.

    So a quota that refuses the first Pod is asked once and not a hundred times. Returns how many went well; raises
    the first error of the batch that failed.
    """
    done, size = 0, 1
    while done < len(items):
        batch = items[done:done + size]
        results = await asyncio.gather(*(act(item) for item in batch), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        if errors:
            raise errors[0]
        done += len(batch)
        size *= 2
    return done


async def all_of(items: Iterable[Item], act: Callable[[Item], Awaitable[object]]) -> None:
    """Run `act` for all items at once; raise the first error after all have ended."""
    results = await asyncio.gather(*(act(item) for item in items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
