"""What an admission step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver import audit, status
from netlab.apiserver.http import User
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
        if (changed.get("kind"), changed.get("apiVersion")) != (self.resource.kind, self.resource.api_version):
            raise status.internal(f"{by}: the change makes an object of another kind")
        fresh = orjson.loads(orjson.dumps(changed))
        self.obj.clear()
        self.obj.update(fresh)
        self.call.endpoint.strategy.default(self.obj)
        return True


class Step:
    """One admission plugin, named as upstream's. Both hooks raise ApiError to refuse."""

    name = ""

    async def mutate(self, attempt: Attempt) -> None:
        """Change the object, before the strategy and its checks."""

    async def validate(self, attempt: Attempt) -> None:
        """Accept or refuse what will be stored."""


class Chain:
    """All steps that are switched on, in order."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps

    async def mutate(self, attempt: Attempt) -> None:
        """Run every step's `mutate`."""
        if attempt.call.request.notes is not None:
            await self._told(attempt)
            return
        for step in self.steps:
            await step.mutate(attempt)

    async def _told(self, attempt: Attempt) -> None:
        """Do so, and note for the audit log who changed what, or refused."""
        found: dict[str, list[Object]] = {}
        before = orjson.dumps(attempt.obj)
        for step in self.steps:
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
        for step in self.steps:
            try:
                await step.validate(attempt)
            except ApiError:
                attempt.call.request.note(audit.REFUSED, step.name or type(step).__name__)
                raise
