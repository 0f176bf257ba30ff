"""One served resource: its row, its folder in the store, its strategy, and how its objects look on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson

from netlab.api import schema
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver import always
from netlab.apiserver.crd.conversion import Converter
from netlab.apiserver.folder import Folder
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.table.columns import Columns
from netlab.store import KeyValue


@dataclass(frozen=True, slots=True)
class Conversion:
    """Between the stored version of a kind and the served one; both functions return a new object."""

    outward: Callable[[Object], Object]
    inward: Callable[[Object], Object]


@dataclass(frozen=True, slots=True)
class Custom:
    """What a definition tells of a custom resource's version. `converter` asks its webhook, if it has one; `embeds`
    says that its objects have other objects in them.
    """

    schema: Mapping[str, Any]
    columns: Columns
    warning: str = ""
    terminating: bool = False
    embeds: bool = False
    converter: Converter | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A resource as it is served. `conversion` is None where the stored form is the served one."""

    resource: Resource
    folder: Folder
    strategy: Strategy
    conversion: Conversion | None = None
    custom: Custom | None = None

    async def ready(self, kvs: Iterable[KeyValue]) -> None:
        """Do what has to wait before these objects can be read: only a conversion webhook has.

        Raises:
            ApiError: 500, it failed.
        """
        if self.custom is not None and self.custom.converter is not None:
            await self.custom.converter.ready(kvs)

    def plain(self, kvs: Iterable[KeyValue]) -> bool:
        """Tell whether `item` and `wire` of these are their stored bytes but for the revision."""
        return self._plain and self.folder.ours(kvs)

    @property
    def _plain(self) -> bool:
        return self.conversion is None and (self.custom is None or self.custom.converter is None)

    def wire(self, kv: KeyValue) -> bytes:
        """Return an object's JSON."""
        return self.folder.wire(kv) if self._plain else orjson.dumps(self.view(kv))

    def item(self, kv: KeyValue) -> bytes:
        """Return an object's JSON as a list holds it: without kind and apiVersion, unless it is a custom resource."""
        if self.custom is not None:
            return self.wire(kv)
        if self.conversion is None:
            return self.folder.item(kv)
        return orjson.dumps({name: part for name, part in self.view(kv).items() if name not in ("kind", "apiVersion")})

    def view(self, kv: KeyValue) -> Object:
        """Return the decoded object; never change it."""
        if self.custom is not None and self.custom.converter is not None:
            return self.custom.converter.view(kv)
        obj = self.folder.view(kv)
        return obj if self.conversion is None else _complete(self.resource, self.conversion.outward(obj))

    def fresh(self, kv: KeyValue) -> Object:
        """Return a decoded object that may be changed."""
        if self.custom is not None and self.custom.converter is not None:
            copy: Object = orjson.loads(orjson.dumps(self.custom.converter.view(kv)))
            return copy
        obj = self.folder.fresh(kv)
        return obj if self.conversion is None else self.conversion.outward(obj)

    def complete(self, obj: Object) -> Object:
        """Return an object with what Go writes of it though nobody has said it."""
        return obj if self.custom is not None else _complete(self.resource, obj)

    @property
    def nothing(self) -> Object:
        """Return an object of which nothing was said, complete; never change it."""
        return {} if self.custom is not None else _nothing(self.resource)

    async def stored(self, obj: Object) -> bytes:
        """Return what is stored of an object, also where that has to be asked of a webhook.

        Raises:
            ApiError: 500, it failed.
        """
        if self.custom is not None and self.custom.converter is not None:
            return self.folder.encode(await self.custom.converter.inward(obj))
        return self.encode(obj)

    def encode(self, obj: Object) -> bytes:
        """Return what is stored of an object."""
        return self.folder.encode(obj if self.conversion is None else _complete(
            self.folder.resource, self.conversion.inward(obj)))


def _complete(resource: Resource, obj: Object) -> Object:
    shape = schema.table().kind(resource.api_version, resource.kind)
    return obj if shape is None else always.filled(obj, shape)


@cache
def _nothing(resource: Resource) -> Object:
    return _complete(resource, {})


async def converted(obj: Object, source: Endpoint, target: Endpoint) -> Object:
    """Return an object of one served version in another of the same kind.

    Raises:
        ApiError: 500, the definition's webhook did not convert it.
    """
    if target is source:
        return obj
    if target.custom is not None and target.custom.converter is not None:
        return await target.custom.converter.outward(obj)
    stored = obj if source.conversion is None else source.conversion.inward(obj)
    return stored if target.conversion is None else target.conversion.outward(stored)
