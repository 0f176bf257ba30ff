"""One resource's folder in the store: keys, and objects as bytes that need no re-encoding to be sent.

A stored value is the object without metadata.resourceVersion, behind a head that is the same for all of its kind, so
that the revision can be spliced in (and kind and apiVersion left out in lists, as upstream does).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.errors import ApiError
from netlab.store import KeyValue, Store

_OPTIONS = orjson.OPT_NON_STR_KEYS


class Decoded:
    """Remembers the objects that were decoded last, so that many readers of one revision decode it once.

    `limit` is in bytes of encoded values; what is decoded takes about eight times as much.
    """

    def __init__(self, limit: int = 1 << 18) -> None:
        self._limit, self._size = limit, 0
        self._kept: deque[KeyValue] = deque()

    def keep(self, kv: KeyValue, obj: Object) -> None:
        """Remember `obj` as what this revision holds."""
        kv.memo = obj
        self._kept.append(kv)
        self._size += len(kv.value)
        while self._size > self._limit:
            old = self._kept.popleft()
            self._size -= len(old.value)
            old.memo = None


class Folder:
    """The objects of one resource."""

    def __init__(self, store: Store, resource: Resource, decoded: Decoded, *,
                 settle: Callable[[Object], Object] | None = None, since: int = 0) -> None:
        """Take the objects of `resource`.

        `settle` brings what was stored up to the revision `since`, or by another version of the kind, into this one's
        shape; None where there is but one shape.
        """
        self.store, self.resource, self._decoded = store, resource, decoded
        self._settle, self._since = settle, since
        self.prefix = f"{resource.storage_prefix()}/".encode()
        kind = f'{{"kind":"{resource.kind}","apiVersion":"{resource.api_version}",'
        self._head = f'{kind}"metadata":{{'.encode()

    def key(self, namespace: str, name: str) -> bytes:
        """Return the key of an object."""
        path = f"{namespace}/{name}" if self.resource.namespaced else name
        return self.prefix + path.encode()

    def within(self, namespace: str) -> bytes:
        """Return the prefix of a namespace's keys; of all keys when it is "" or the resource is cluster-scoped."""
        return self.prefix + f"{namespace}/".encode() if namespace and self.resource.namespaced else self.prefix

    def encode(self, obj: Object) -> bytes:
        """Return what is stored of an object: a copy, since orjson leaves twice or more of the room that it needs."""
        ordered: Object = {"kind": self.resource.kind, "apiVersion": self.resource.api_version}
        ordered["metadata"] = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
        ordered |= {name: value for name, value in obj.items() if name not in ordered}
        return memoryview(orjson.dumps(ordered, option=_OPTIONS)).tobytes()

    def wire(self, kv: KeyValue) -> bytes:
        """Return the object's JSON with its resourceVersion."""
        value, head = kv.value, self._head
        if value.startswith(head) and kv.mod_revision > self._since:
            return b'%s"resourceVersion":"%d",%s' % (head, kv.mod_revision, value[len(head):])
        return orjson.dumps(self.fresh(kv), option=_OPTIONS)  # written by another hand than ours

    def item(self, kv: KeyValue) -> bytes:
        """Return the object's JSON as it stands in a list: without kind and apiVersion."""
        value, head = kv.value, self._head
        if value.startswith(head) and kv.mod_revision > self._since:
            return b'{"metadata":{"resourceVersion":"%d",%s' % (kv.mod_revision, value[len(head):])
        obj = self.fresh(kv)
        return orjson.dumps({name: part for name, part in obj.items() if name not in ("kind", "apiVersion")})

    def ours(self, kvs: Iterable[KeyValue]) -> bool:
        """Tell whether all of these were written by our hand, so that their bytes can be sent without a look."""
        head, since = self._head, self._since
        return all(kv.value.startswith(head) and kv.mod_revision > since for kv in kvs)

    def view(self, kv: KeyValue) -> Object:
        """Return the decoded object, shared by all who look at this revision: never change it."""
        if kv.mod_revision <= self._since:
            return self.fresh(kv)  # what is remembered may have another shape
        obj: Any = kv.memo
        if obj is None:
            obj = self.fresh(kv)
            self._decoded.keep(kv, obj)
        return obj  # type: ignore[no-any-return]

    def fresh(self, kv: KeyValue) -> Object:
        """Return a decoded copy that the caller may change.

        Raises:
            ApiError: 500, another hand than ours has written what is no object.
        """
        try:
            obj: Object = orjson.loads(kv.value)
            obj.setdefault("metadata", {})["resourceVersion"] = str(kv.mod_revision)
        except (ValueError, TypeError, AttributeError) as error:
            raise self._unreadable(kv, error) from None
        if "kind" not in obj or "apiVersion" not in obj:
            obj = {"kind": self.resource.kind, "apiVersion": self.resource.api_version} | obj
        return obj if self._settle is None else self._settle(obj)

    def _unreadable(self, kv: KeyValue, error: Exception) -> ApiError:
        key = kv.key.decode(errors="backslashreplace")
        return ApiError(500, "InternalError", f"Internal error occurred: unable to decode the object at revision "
                                              f"{kv.mod_revision} of {key}: {error} (etcdctl del {key} removes it)")
