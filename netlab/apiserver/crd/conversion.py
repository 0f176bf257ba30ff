"""Conversion webhooks: objects of one version of a definition, asked for in another (apiextensions.k8s.io/v1).

Reading and encoding objects never waits, so conversions are made ahead: `ready` asks for all of a batch that is not in
the wanted version yet, and remembers the answers by what is stored.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from netlab.api.meta import Object
from netlab.apiserver import status
from netlab.apiserver.hooks import HookFailed, Hooks
from netlab.errors import ApiError

if TYPE_CHECKING:
    from netlab.store import KeyValue

_KEPT_BYTES = 8 << 20
_SECONDS, _ALL_SECONDS = 30.0, 60.0
"""Seconds for one call, as upstream has it, and for all calls that one reader has to wait for."""
_AT_ONCE, _AT_ONCE_BYTES = 250, 1 << 20
"""Objects, and bytes of them, that one call asks for: an answer may have 8 MiB, and a LIST may have many objects."""
_FIXED = ("name", "namespace", "uid")


class Converter:
    """The webhook of one definition, for one version that is served. `kind` is the definition's."""

    def __init__(self, hooks: Hooks, hook: Mapping[str, Any], kind: str, wanted: str, stored: str) -> None:
        self._hooks, self._config, self._kind = hooks, hook.get("clientConfig") or {}, kind
        self._versions = tuple(hook.get("conversionReviewVersions") or ())
        self.wanted, self.stored = wanted, stored
        self._known: dict[bytes, Object] = {}
        self._size = 0

    async def ready(self, kvs: Iterable[KeyValue]) -> None:
        """Have the objects at hand in the wanted version.

        Raises:
            ApiError: 500, the webhook did not convert them.
        """
        self._shrink()
        found: dict[bytes, Object] = {}
        missing = []
        for kv in kvs:
            if kv.value in self._known:
                found[kv.value] = self._known[kv.value]
            elif kv.value:
                obj = orjson.loads(kv.value)
                if obj.get("apiVersion") == self.wanted:
                    found[kv.value] = obj
                else:
                    missing.append((kv.value, obj))
        until = time.monotonic() + _ALL_SECONDS
        for part in _parts(missing):
            converted = await self._ask([obj for _, obj in part], self.wanted, until - time.monotonic())
            found |= {value: obj for (value, _), obj in zip(part, converted, strict=True)}
        for value, obj in found.items():  # what was known before, too: another reader may have made room meanwhile
            self._keep(value, obj)

    def view(self, kv: KeyValue) -> Object:
        """Return an object that is at hand, as of its revision."""
        found = self._known.get(kv.value)
        if found is None:  # a reader that did not say what it would read
            raise status.internal(f"conversion webhook for {self.wanted}, Kind={self._kind}: not asked yet")
        return {**found, "metadata": {**found["metadata"], "resourceVersion": str(kv.mod_revision)}}

    async def inward(self, obj: Object) -> Object:
        """Return what is stored of an object in the wanted version.

        Raises:
            ApiError: 500, the webhook did not convert it.
        """
        return obj if self.wanted == self.stored else (await self._ask([obj], self.stored))[0]

    async def outward(self, obj: Object) -> Object:
        """Return an object of any served version in the wanted one.

        Raises:
            ApiError: 500, the webhook did not convert it.
        """
        return obj if obj.get("apiVersion") == self.wanted else (await self._ask([obj], self.wanted))[0]

    def _keep(self, value: bytes, obj: Object) -> None:
        if value not in self._known:
            self._size += len(value)
        self._known[value] = obj

    def _shrink(self) -> None:
        """Forget the oldest half when what is known has grown large; `ready` does so before it looks, never after."""
        if self._size > _KEPT_BYTES:
            for value in list(self._known):
                if self._size <= _KEPT_BYTES // 2:
                    break
                self._size -= len(value)
                del self._known[value]

    async def _ask(self, objects: Sequence[Object], version: str, seconds: float = _SECONDS) -> list[Object]:
        identity = str(uuid.uuid4())
        said = await self._call({"uid": identity, "desiredAPIVersion": version, "objects": list(objects)}, objects,
                                seconds)
        response = said.get("response")
        if said.get("kind") != "ConversionReview" or not isinstance(response, dict) or response.get("uid") != identity:
            raise self._failed(objects, "expected a response to the ConversionReview that was sent")
        result = response.get("result")
        if not isinstance(result, dict):
            raise self._failed(objects, "response.result: expected an object")
        if result.get("status") != "Success":
            raise self._failed(objects, str(result.get("message") or "without explanation"))
        found = response.get("convertedObjects")
        if not isinstance(found, list) or len(found) != len(objects):
            raise self._failed(objects, f"webhook returned {len(found) if isinstance(found, list) else 'no'} objects, "
                                        f"expected {len(objects)}")
        for before, after in zip(objects, found, strict=True):
            self._check(before, after, version)
        return found

    async def _call(self, request: Object, objects: Sequence[Object], seconds: float) -> Object:
        if seconds <= 0:
            raise self._failed(objects, "context deadline exceeded")
        try:
            return await self._hooks.call(self._config, {
                "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "request": request},
                seconds=min(round(seconds, 3), _SECONDS))
        except HookFailed as error:
            raise self._failed(objects, str(error)) from None

    def _check(self, before: Object, after: Any, version: str) -> None:
        """Refuse an answer that is another object: only what the versions differ in may change."""
        metadata = after.get("metadata") if isinstance(after, dict) else None
        if not isinstance(metadata, dict) or (after.get("apiVersion"), after.get("kind")) != (version, self._kind):
            raise self._failed([before], f"webhook returned an object that is not of {version}, Kind={self._kind}")
        for part in _FIXED:
            if metadata.get(part) != before["metadata"].get(part):
                raise self._failed([before], f"must have the same {part}: {metadata.get(part)} != "
                                             f"{before['metadata'].get(part)}")
        for part in ("labels", "annotations"):
            texts = metadata.get(part) or {}
            if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
                raise self._failed([before], f"metadata.{part}: expected texts by name")
        kept = {part: before["metadata"][part] for part in before["metadata"] if part not in ("labels", "annotations")}
        after["metadata"] = {**kept, **{part: metadata[part] for part in ("labels", "annotations") if part in metadata}}

    def _failed(self, objects: Sequence[Object], said: str) -> ApiError:
        version = objects[0].get("apiVersion", self.stored) if objects else self.stored
        return status.internal(f"conversion webhook for {version}, Kind={self._kind} failed: {said}")


def _parts(missing: Sequence[tuple[bytes, Object]]) -> Iterator[list[tuple[bytes, Object]]]:
    part: list[tuple[bytes, Object]] = []
    size = 0
    for value, obj in missing:
        if part and (len(part) >= _AT_ONCE or size + len(value) > _AT_ONCE_BYTES):
            yield part
            part, size = [], 0
        part.append((value, obj))
        size += len(value)
    if part:
        yield part
