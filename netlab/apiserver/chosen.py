"""One object of a kind that stands for those who name none: the default class."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.endpoint import Endpoint
from netlab.store import Store, Watch, WatchCut

Pick = Callable[[Iterable[Object]], Object | None]

_BEHIND = 100
"""Changes that may pile up between two questions; more make the next one list all anew."""
_CLASSES = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_INGRESS = "ingressclass.kubernetes.io/is-default-class"


class Chosen:
    """The object that `pick` chooses among all of an endpoint; looked for again only when one of them has changed."""

    def __init__(self, store: Store, endpoint: Endpoint, pick: Pick) -> None:
        self._store, self._endpoint, self._pick = store, endpoint, pick
        self._watch: Watch | None = None
        self._found: Object | None = None

    async def __call__(self) -> Object | None:
        """Return it, to look at only."""
        try:
            changed = self._watch is None or bool(self._watch.take())
        except WatchCut:
            changed = True
        if changed:
            if self._watch is not None:
                self._watch.close()
            prefix = self._endpoint.folder.prefix
            part = await self._store.list(prefix)
            self._watch = self._store.watch(prefix, after=part.revision, limit=_BEHIND)
            self._found = self._pick(self._endpoint.view(kv) for kv in part.kvs)
        return self._found


def priority(classes: Iterable[Object]) -> Object | None:
    """Return the lowest PriorityClass of those that say globalDefault."""
    return min((obj for obj in classes if obj.get("globalDefault")), key=lambda obj: int(obj.get("value", 0)),
               default=None)


def storage(classes: Iterable[Object]) -> Object | None:
    """Return the newest StorageClass of those that are marked as the default."""
    return _newest(obj for obj in classes if any(meta.annotations(obj).get(name) == "true" for name in _CLASSES))


def ingress(classes: Iterable[Object]) -> Object | None:
    """Return the newest IngressClass of those that are marked as the default."""
    return _newest(obj for obj in classes if meta.annotations(obj).get(_INGRESS) == "true")


def _newest(classes: Iterable[Object]) -> Object | None:
    found = sorted(classes, key=meta.name)  # of those made in one second, the first by name
    return max(found, key=lambda obj: str(obj["metadata"].get("creationTimestamp", "")), default=None)
