"""Who asks a component, and what he may: both are questions that the API server answers, and are believed a while.

https://kubernetes.io/docs/reference/access-authn-authz/ (TokenReview and SubjectAccessReview)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab.api.meta import Object
from netlab.client.client import Client

_REMEMBERED = 1024


@dataclass(frozen=True)
class Asker:
    """Who asks: the subject of a certificate or of a token, or nobody."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


ANONYMOUS = Asker("system:anonymous", ("system:unauthenticated",))


class Tokens:
    """Asks whose a token is; what is good is believed for some seconds."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._client, self._seconds = client, seconds
        self._known: dict[str, tuple[float, Asker]] = {}

    async def whose(self, token: str) -> Asker | None:
        """Return who has the token; None: nobody.

        Raises:
            NetlabError: the API server does not answer.
        """
        now = time.monotonic()
        known = self._known.get(token)
        if known is not None and known[0] > now:
            return known[1]
        review: Object = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
                          "spec": {"token": token}}
        answer = await self._client.create("tokenreviews.authentication.k8s.io", review)
        state = answer.get("status") or {}
        if not state.get("authenticated"):
            return None
        user = state.get("user") or {}
        asker = Asker(user.get("username", ""), tuple(user.get("groups") or ()), user.get("uid", ""),
                      {name: tuple(values) for name, values in (user.get("extra") or {}).items()})
        self._known = {t: row for t, row in self._known.items() if row[0] > now} | {token: (now + self._seconds, asker)}
        return asker


class Rights:
    """Asks whether somebody may do something; each answer is believed for some seconds."""

    def __init__(self, client: Client, allowed: float, refused: float) -> None:
        self._client, self._seconds = client, {True: allowed, False: refused}
        self._known: dict[tuple[object, ...], tuple[float, bool]] = {}

    async def allows(self, asker: Asker, what: str, attributes: Mapping[str, str]) -> bool:
        """Tell whether somebody may do that: `what` is the review's field that has the attributes.

        Raises:
            NetlabError: the API server does not answer.
        """
        key, now = (asker, what, *attributes.items()), time.monotonic()
        known = self._known.get(key)
        if known is not None and known[0] > now:
            return known[1]
        spec: Object = {"user": asker.name, "groups": list(asker.groups), "uid": asker.uid,
                        "extra": {name: list(values) for name, values in asker.extra.items()}, what: dict(attributes)}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": spec}
        answer = await self._client.create("subjectaccessreviews.authorization.k8s.io", review)
        good = bool((answer.get("status") or {}).get("allowed"))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (now + self._seconds[good], good)
        return good
