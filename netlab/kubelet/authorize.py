"""Who may ask the kubelet for what: a question about the node's subresources, which the API server answers.

Authorization mode Webhook: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

from netlab.client.client import Client
from netlab.client.delegation import Asker, Rights

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PARTS = (("/stats", ("stats",)), ("/metrics", ("metrics",)), ("/logs", ("log",)), ("/checkpoint", ("checkpoint",)),
          ("/statusz", ("statusz",)), ("/flagz", ("flagz",)), ("/configz", ("configz", "proxy")),
          ("/healthz", ("healthz", "proxy")), ("/pods", ("pods", "proxy")), ("/runningpods", ("pods", "proxy")))
"""What lies under a path, and the subresources of which one must be allowed; all else is `proxy`."""
_ALLOWED_SECONDS, _REFUSED_SECONDS = 300.0, 30.0


def asked(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Return the verb that a request means, and the subresources of the node of which one has to be allowed."""
    for prefix, parts in _PARTS:
        if path == prefix or path.startswith(f"{prefix}/"):
            return _VERBS.get(method, ""), parts
    return _VERBS.get(method, ""), ("proxy",)


class Authorizer:
    """Asks the API server, and believes it for a while: upstream's cacheAuthorizedTTL and cacheUnauthorizedTTL."""

    def __init__(self, client: Client, node: str) -> None:
        self._rights, self._node = Rights(client, _ALLOWED_SECONDS, _REFUSED_SECONDS), node

    async def allows(self, asker: Asker, verb: str, parts: tuple[str, ...]) -> bool:
        """Tell whether somebody may do that.

        Raises:
            NetlabError: the API server does not answer.
        """
        for part in parts:
            if await self._rights.allows(asker, "resourceAttributes", {
                    "verb": verb, "version": "v1", "resource": "nodes", "subresource": part, "name": self._node}):
                return True
        return False
