"""May this user do that? One question, asked before every request and by SubjectAccessReviews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from netlab.apiserver.http import User

PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version")
"""What anybody may read (upstream's cluster role system:public-info-viewer)."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is asked for: an action on a resource, or a method on a path (`path` set)."""

    user: User
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, and by which rule."""

    allowed: bool
    reason: str = ""


class Authorizer(Protocol):
    """Decides. Must not fail: what it cannot tell it refuses."""

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the decision."""


class AlwaysAllow:
    """Everybody who is known may do everything; the unknown may read what is public."""

    def authorize(self, attributes: Attributes) -> Decision:
        """Return the decision."""
        if "system:unauthenticated" not in attributes.user.groups:
            return Decision(True)
        path = attributes.path.rstrip("/")
        public = any(path == known or path.startswith(known + "/") for known in PUBLIC_PATHS)
        return Decision(public and attributes.verb in ("get", "head"), "system:public-info-viewer" if public else "")
