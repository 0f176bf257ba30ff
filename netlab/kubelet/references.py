"""ConfigMaps and Secrets that Pods of this node refer to: each watched by name while a Pod needs it.

As upstream's watch-based managers, no kubelet ever lists the Secrets of a namespace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.client.informer import Informer
from netlab.errors import TemporaryError

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""(resource, namespace, name)."""

_LINGER = 30.0
_PATIENCE = 10.0


@dataclass
class _Watched:
    informer: Informer
    stop: asyncio.Event
    task: asyncio.Task[None]
    holders: set[str] = field(default_factory=set)
    ending: asyncio.TimerHandle | None = None


class References:
    """The watched objects. `wake(uid)` is called when one that a Pod holds has changed."""

    def __init__(self, client: Client | None, wake: Callable[[str], None]) -> None:
        self._client, self._wake = client, wake
        self._watched: dict[Key, _Watched] = {}

    async def hold(self, uid: str, keys: Iterable[Key]) -> None:
        """Note that a Pod needs these objects, and wait until each is known to be there or not.

        Raises:
            TemporaryError: the API server does not answer.
        """
        wanted = set(keys)
        for key in wanted:
            row = self._watched.get(key) or self._watch(key)
            row.holders.add(uid)
            if row.ending is not None:
                row.ending.cancel()
                row.ending = None
        waiting = [synced for key in wanted if not (synced := self._watched[key].informer.synced).is_set()]
        if not waiting:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                for synced in waiting:
                    await synced.wait()
        except TimeoutError:
            raise TemporaryError("failed to sync configmap and secret caches: timed out waiting for the API server"
                                 ) from None

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return a held object, None when it does not exist."""
        row = self._watched.get((resource, namespace, name))
        return row.informer.get(f"{namespace}/{name}") if row else None

    def drop(self, uid: str) -> None:
        """Forget what a Pod needed. Its objects stay watched for a while: the next Pod may need the same."""
        for key, row in list(self._watched.items()):
            row.holders.discard(uid)
            if not row.holders and row.ending is None:
                row.ending = asyncio.get_running_loop().call_later(_LINGER, self._end, key)

    async def close(self) -> None:
        """Stop all watches."""
        rows = list(self._watched.values())
        for key in list(self._watched):
            self._end(key)
        await asyncio.gather(*(row.task for row in rows), return_exceptions=True)

    def _watch(self, key: Key) -> _Watched:
        if self._client is None:
            raise TemporaryError("this kubelet has no API server to read from")
        resource, namespace, name = key
        informer, stop = Informer(self._client, resource, namespace, fields=f"metadata.name={name}"), asyncio.Event()
        row = _Watched(informer, stop, asyncio.create_task(informer.run(stop), name=f"watch {resource} {name}"))
        self._watched[key] = row

        def changed(_key: str, _old: Object | None, _new: Object | None) -> None:
            for uid in row.holders:
                self._wake(uid)

        informer.add_handler(changed)
        return row

    def _end(self, key: Key) -> None:
        row = self._watched.pop(key, None)
        if row is not None:
            row.stop.set()
            row.task.cancel()
