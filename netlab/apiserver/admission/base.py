"""What an admission step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver.http import User

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
        for step in self.steps:
            await step.mutate(attempt)

    async def validate(self, attempt: Attempt) -> None:
        """Run every step's `validate`."""
        for step in self.steps:
            await step.validate(attempt)
