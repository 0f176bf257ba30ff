"""All objects of one resource as they are now, kept decoded: for what every write has to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from netlab.api.meta import Object
from netlab.apiserver.endpoint import Endpoint
from netlab.store import Watch, WatchCut

Made = TypeVar("Made")
_BEHIND = 100
"""Changes that may pile up between two looks; after more the next look lists anew."""


class Mirror(Generic[Made]):
    """What `make` makes of the sorted objects of a resource; made anew only when one of them has changed."""

    def __init__(self, endpoint: Endpoint, make: Callable[[Sequence[Object]], Made]) -> None:
        self._endpoint, self._make = endpoint, make
        self._watch: Watch | None = None
        self._made: Made | None = None

    async def now(self) -> Made:
        """Return it as of this moment."""
        if self._made is not None and not self._changed():
            return self._made
        folder = self._endpoint.folder
        if self._watch is not None:
            self._watch.close()
        part = await folder.store.list(folder.prefix)
        self._watch = folder.store.watch(folder.prefix, after=part.revision, limit=_BEHIND)
        self._made = self._make([self._endpoint.view(kv) for kv in part.kvs])
        return self._made

    def _changed(self) -> bool:
        try:
            return self._watch is None or bool(self._watch.take())
        except WatchCut:
            return True
