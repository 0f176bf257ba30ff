"""What an admission step is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from netlab.api import validate
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver import audit, status
from netlab.apiserver.endpoint import converted
from netlab.apiserver.http import User
from netlab.apiserver.subresources.kinds import kind_of
from netlab.errors import ApiError

if TYPE_CHECKING:
    from netlab.apiserver.call import Call


@dataclass(slots=True)
class Attempt:
    """A write that wants in. `operation` is CREATE, UPDATE, DELETE or CONNECT; `obj` may be changed by `mutate`."""

    call: Call
    operation: str
    obj: Object
    old: Object | None
    resource: Resource
    namespace: str
    name: str
    subresource: str = ""
    _views: dict[Resource, tuple[Object, Object | None]] = field(default_factory=dict)

    async def seen(self, resource: Resource) -> tuple[Object, Object | None]:
        """Return the object and the one before it in another version of the kind: for who asked for that.

        Raises:
            ApiError: 500, a conversion webhook failed.
        """
        if resource is self.resource or self._apart:
            return self.obj, self.old
        if resource not in self._views:
            self._views[resource] = (await self._converted(self.obj, resource) or self.obj,
                                     await self._converted(self.old, resource))
        return self._views[resource]

    async def _converted(self, obj: Object | None, resource: Resource) -> Object | None:
        return await converted(obj, self.call.endpoint, self.call.api.endpoint(resource)) if obj else obj

    async def replace_seen(self, changed: object, resource: Resource, by: str) -> bool:
        """Put a changed object in place of what was sent; it is of the version that `seen` showed.

        Raises:
            ApiError: 500, it is no object of the kind, or a conversion webhook failed.
        """
        if resource is not self.resource and not self._apart:
            if changed == (await self.seen(resource))[0]:
                return False
            if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
                raise status.internal(f"{by}: the change makes something that is no object")
            changed = await converted(changed, self.call.api.endpoint(resource), self.call.endpoint)
        return self.replace(changed, by)

    @property
    def _apart(self) -> bool:
        """Tell whether what was sent is of a kind of its own: an Eviction, a Scale, the options of an exec."""
        return kind_of(self.resource, self.subresource)[2] != self.resource.kind

    @property
    def user(self) -> User:
        """Return who writes."""
        return self.call.request.user

    def replace(self, changed: object, by: str) -> bool:
        """Put a changed object in place of what was sent; tell whether it is another one.

        Raises:
            ApiError: 500, what it was changed to is no object of the kind; `by` is who did that.
        """
        if not isinstance(changed, dict) or not isinstance(changed.get("metadata"), dict):
            raise status.internal(f"{by}: the change makes something that is no object")
        if changed == self.obj:
            return False
        group, version, kind = kind_of(self.resource, self.subresource)
        if (changed.get("kind"), changed.get("apiVersion")) != (kind, f"{group}/{version}" if group else version):
            raise status.internal(f"{by}: the change makes an object of another kind")
        fresh = orjson.loads(orjson.dumps(changed))
        try:
            if self._apart:
                validate.handle(b"", fresh, fresh["apiVersion"], kind, mode="Ignore")
            fresh = validate.prune(fresh, fresh["apiVersion"], kind) if self._apart else self.call.reread(fresh)
        except ApiError as error:
            raise status.internal(f"{by}: {error}") from None
        self.obj.clear()
        self.obj.update(fresh)
        self._views.clear()
        if not self._apart:
            self.call.endpoint.strategy.default(self.obj)
        return True


class Step:
    """One admission plugin, named as upstream's. Both hooks raise ApiError to refuse."""

    name = ""
    kinds: frozenset[str] | None = None
    """The names of the kinds that it looks at, in whatever group; None: any."""

    async def mutate(self, attempt: Attempt) -> None:
        """Change the object, before the strategy and its checks."""

    async def validate(self, attempt: Attempt) -> None:
        """Accept or refuse what will be stored."""


class _Steps:
    """Those that have something to do, by kind: most are about one or two of them."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._about: dict[str, tuple[Step, ...]] = {}

    def about(self, kind: str) -> tuple[Step, ...]:
        """Return those that look at objects of a kind."""
        found = self._about.get(kind)
        if found is None:
            found = self._about[kind] = tuple(step for step in self._steps if step.kinds is None or kind in step.kinds)
        return found


class Chain:
    """All steps that are switched on, in order."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self._mutating = _Steps([step for step in steps if type(step).mutate is not Step.mutate])
        self._validating = _Steps([step for step in steps if type(step).validate is not Step.validate])

    async def mutate(self, attempt: Attempt) -> None:
        """Run every step's `mutate`."""
        if attempt.call.request.notes is not None:
            await self._told(attempt)
            return
        for step in self._mutating.about(attempt.resource.kind):
            await step.mutate(attempt)

    async def _told(self, attempt: Attempt) -> None:
        """Do so, and note for the audit log who changed what, or refused."""
        found: dict[str, list[Object]] = {}
        before = orjson.dumps(attempt.obj)
        for step in self._mutating.about(attempt.resource.kind):
            try:
                await step.mutate(attempt)
            except ApiError:
                attempt.call.request.note(audit.REFUSED, step.name)
                raise
            after = orjson.dumps(attempt.obj)
            if after != before:
                found[step.name] = audit.changes(orjson.loads(before), attempt.obj)
                before = after
        if found:
            attempt.call.request.note(audit.CHANGED, orjson.dumps(found).decode())

    async def validate(self, attempt: Attempt) -> None:
        """Run every step's `validate`."""
        for step in self._validating.about(attempt.resource.kind):
            try:
                await step.validate(attempt)
            except ApiError:
                attempt.call.request.note(audit.REFUSED, step.name or type(step).__name__)
                raise

    async def admit(self, attempt: Attempt) -> None:
        """Run both, for what is not stored as it was sent."""
        await self.mutate(attempt)
        await self.validate(attempt)
