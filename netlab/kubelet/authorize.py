"""Who may ask the kubelet for what: a question about the node's subresources, which the API server answers.

Authorization mode Webhook: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from netlab.api.meta import Object
from netlab.client.client import Client

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PARTS = (("/stats", ("stats",)), ("/metrics", ("metrics",)), ("/logs", ("log",)), ("/checkpoint", ("checkpoint",)),
          ("/statusz", ("statusz",)), ("/flagz", ("flagz",)), ("/configz", ("configz", "proxy")),
          ("/healthz", ("healthz", "proxy")), ("/pods", ("pods", "proxy")), ("/runningpods", ("pods", "proxy")))
"""What lies under a path, and the subresources of which one must be allowed; all else is `proxy`."""
_ALLOWED_SECONDS, _REFUSED_SECONDS = 300.0, 30.0
_REMEMBERED = 1024


@dataclass(frozen=True)
class Asker:
    """Who asks: the subject of a certificate or of a token, or nobody."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


ANONYMOUS = Asker("system:anonymous", ("system:unauthenticated",))


def asked(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Return the verb that a request means, and the subresources of the node of which one has to be allowed."""
    for prefix, parts in _PARTS:
        if path == prefix or path.startswith(f"{prefix}/"):
            return _VERBS.get(method, ""), parts
    return _VERBS.get(method, ""), ("proxy",)


class Authorizer:
    """Asks the API server, and believes it for a while: upstream's cacheAuthorizedTTL and cacheUnauthorizedTTL."""

    def __init__(self, client: Client, node: str) -> None:
        self._client, self._node = client, node
        self._known: dict[tuple[object, ...], tuple[float, bool]] = {}

    async def allows(self, asker: Asker, verb: str, parts: tuple[str, ...]) -> bool:
        """Tell whether somebody may do that.

        Raises:
            NetlabError: the API server does not answer.
        """
        for part in parts:
            if await self._allows(asker, verb, part):
                return True
        return False

    async def _allows(self, asker: Asker, verb: str, part: str) -> bool:
        key, now = (asker, verb, part), time.monotonic()
        known = self._known.get(key)
        if known is not None and known[0] > now:
            return known[1]
        spec: Object = {"user": asker.name, "groups": list(asker.groups), "uid": asker.uid,
                        "extra": {name: list(values) for name, values in asker.extra.items()},
                        "resourceAttributes": {"verb": verb, "version": "v1", "resource": "nodes", "subresource": part,
                                               "name": self._node}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": spec}
        answer = await self._client.create("subjectaccessreviews.authorization.k8s.io", review)
        good = bool((answer.get("status") or {}).get("allowed"))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[key] = (now + (_ALLOWED_SECONDS if good else _REFUSED_SECONDS), good)
        return good
