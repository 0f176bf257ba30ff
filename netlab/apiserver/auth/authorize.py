"""May this user do that? One question, asked before every request and by SubjectAccessReviews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from netlab.apiserver.auth.rules import EVERYTHING, Rule
from netlab.apiserver.http import User

PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version")
"""What anybody may read (upstream's cluster role system:public-info-viewer)."""
MASTERS = "system:masters"
"""The group that may do everything, whatever the modes say."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for: an action on a resource, or a method on a path (`path` set).

    `fields` are the equalities of the field selector, for authorizers that let somebody list only what is his.
    """

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, and by which rule."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a user may do in a namespace. `incomplete`: more may be allowed than can be listed; `error` says why."""

    rules: tuple[Rule, ...] = ()
    incomplete: bool = False
    error: str = ""


class Authorizer(Protocol):
    """Decides. Must not fail: what it cannot tell it refuses."""

    @property
    def takes_anonymous(self) -> bool:
        """Tell whether requests without credentials are judged like others (403), not turned away (401)."""

    async def refresh(self, user: User) -> None:
        """Take in what was written since, as far as it concerns this user; to be awaited before the questions."""

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the decision."""

    def granted(self, user: User, namespace: str) -> Granted:
        """Return the rules that hold for a user in a namespace, cluster-wide ones included."""


class AlwaysAllow:
    """Everybody who is known may do everything; the unknown may read what is public."""

    takes_anonymous = False

    async def refresh(self, user: User) -> None:
        """Nothing to take in."""

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the decision."""
        if "system:unauthenticated" not in attributes.user.groups:
            return Decision(True)
        path = attributes.path.rstrip("/")
        public = any(path == known or path.startswith(known + "/") for known in PUBLIC_PATHS)
        return Decision(public and attributes.verb in ("get", "head"), "system:public-info-viewer" if public else "")

    def granted(self, user: User, namespace: str) -> Granted:  # noqa: ARG002 - the interface's
        """Return everything."""
        return Granted(EVERYTHING)


class AlwaysDeny:
    """Nobody may do anything."""

    takes_anonymous = True

    async def refresh(self, user: User) -> None:
        """Nothing to take in."""

    def authorize(self, attributes: Attributes) -> Decision:  # noqa: ARG002 - the interface's
        """Return the decision."""
        return Decision(False, "Everything is forbidden.")

    def granted(self, user: User, namespace: str) -> Granted:  # noqa: ARG002 - the interface's
        """Return nothing."""
        return Granted()
