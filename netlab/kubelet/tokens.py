"""Service account tokens for Pods: asked for by TokenRequest, renewed when four fifths of their time are over."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.errors import ApiError, TemporaryError
from netlab.kubelet.volumes.payload import TokenRequest, service_account

_LONGEST = 24 * 3600.0
_SHARE = 0.8
_AT_ONCE = 8
"""Requests under way at once: more only open more connections."""


@dataclass(frozen=True)
class Token:
    """A token, when it ends, and when to ask for its successor (Unix seconds)."""

    text: str
    ends: float
    renew: float


class Tokens:
    """The tokens of this node's Pods."""

    def __init__(self, client: Client | None) -> None:
        self._client = client
        self._tokens: dict[tuple[str, TokenRequest], Token] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def get(self, pod: Object, request: TokenRequest) -> Token:
        """Return a token that is still good for a while.

        Raises:
            ApiError: the API server refused, e.g. because the service account is gone.
            TemporaryError: it does not answer, and no token that still holds is at hand.
        """
        key, now = (meta.uid(pod), request), time.time()
        known = self._tokens.get(key)
        if known is not None and now < known.renew:
            return known
        try:
            async with self._gate:
                made = await self._ask(pod, request, now)
        except (ApiError, TemporaryError):
            if known is not None and now < known.ends:
                return known
            raise
        self._tokens[key] = made
        return made

    def renew_at(self, uid: str) -> float:
        """Return when the first of a Pod's tokens wants renewal, 0.0 when it has none."""
        return min((token.renew for (owner, _), token in self._tokens.items() if owner == uid), default=0.0)

    def drop(self, uid: str) -> None:
        """Forget a Pod's tokens."""
        for key in [key for key in self._tokens if key[0] == uid]:
            del self._tokens[key]

    async def _ask(self, pod: Object, request: TokenRequest, now: float) -> Token:
        if self._client is None:
            raise TemporaryError("this kubelet has no API server to ask for a token")
        body: Object = {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"audiences": [request.audience] if request.audience else [],
                     "expirationSeconds": request.seconds,
                     "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": meta.name(pod),
                                        "uid": meta.uid(pod)}}}
        answer = await self._client.create("serviceaccounts", body, meta.namespace(pod), name=service_account(pod),
                                           subresource="token")
        status = answer.get("status") or {}
        stamp = status.get("expirationTimestamp")
        ends = meta.parse_timestamp(stamp) if stamp else now + request.seconds
        return Token(str(status.get("token", "")), ends, now + min((ends - now) * _SHARE, _LONGEST))
