"""Service account tokens: made for TokenRequest, checked on every request that bears one.

A token names its issuer, audiences, expiry, service account and, when bound, the object that it dies with
(KEP-1205); whoever is named must still be there, with the same uid.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from netlab.api.meta import Object
from netlab.apiserver.auth import legacy
from netlab.apiserver.auth.legacy import Identity, Lookup, Mark, Rejected, account_user
from netlab.apiserver.http import User

if TYPE_CHECKING:
    from netlab.apiserver.auth.jwt import PrivateKey, PublicKey

__all__ = ["Identity", "Lookup", "Rejected", "ServiceAccountTokens"]

_CACHE_SECONDS = 10.0
_CACHE_LIMIT = 4096
_LEEWAY = 10.0


class ServiceAccountTokens:
    """Makes and checks tokens. The first issuer signs; all of them are accepted."""

    def __init__(self, *, issuers: Sequence[str], audiences: Sequence[str], signing_key: str, key_files: Sequence[str],
                 lookup: Lookup, mark: Mark) -> None:
        self.issuers, self.audiences = tuple(issuers), tuple(audiences or issuers[:1])
        self._signing_file, self._key_files, self._lookup = signing_key, list(key_files), lookup
        self._mark = mark
        self._private: PrivateKey | None = None
        self._keys: list[PublicKey] | None = None
        self._cache: dict[tuple[str, tuple[str, ...]], tuple[float, Identity]] = {}

    def verifiers(self) -> list[PublicKey]:
        """Return the keys that verify. Read at the first use: the library takes 35 ms to import."""
        if self._keys is None:
            from netlab.apiserver.auth import jwt

            self._keys = [key for path in self._key_files for key in jwt.load_public(path)]
            if not self._key_files and self._signing_file:
                self._keys = jwt.load_public(self._signing_file)
        return self._keys

    def mint(self, *, account: Object, audiences: Sequence[str], seconds: int, now: float,
             bound: tuple[str, Object] | None = None, node: Object | None = None) -> str:
        """Return a new token of `account`, good for `seconds`; `bound` is ("pod" | "secret" | "node", object)."""
        if self._private is None:
            from netlab.apiserver.auth import jwt

            self._private = jwt.load_private(self._signing_file)
        metadata = account["metadata"]
        claims: dict[str, Any] = {"namespace": metadata["namespace"],
                                  "serviceaccount": {"name": metadata["name"], "uid": metadata.get("uid", "")}}
        for kind, obj in ((bound,) if bound else ()) + ((("node", node),) if node else ()):
            claims[kind] = {"name": obj["metadata"]["name"], "uid": obj["metadata"].get("uid", "")}
        return self._private.sign({
            "aud": list(audiences or self.audiences), "exp": int(now) + seconds, "iat": int(now), "nbf": int(now),
            "iss": self.issuers[0], "jti": str(uuid.uuid4()), "kubernetes.io": claims,
            "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}"})

    async def check(self, token: str, *, now: float, audiences: Sequence[str] = ()) -> Identity:
        """Return whom the token stands for. `audiences` are acceptable ones; none means the API server's own.

        Raises:
            Rejected: not signed by us, out of its time, for others, or its owner is gone.
        """
        wanted = tuple(audiences) or self.audiences
        known = self._cache.get((token, wanted))
        if known is not None and known[0] > now:
            return known[1]
        identity, until = await self._check(token, now, wanted)
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        self._cache[(token, wanted)] = (min(now + _CACHE_SECONDS, until), identity)
        return identity

    async def _check(self, token: str, now: float, wanted: tuple[str, ...]) -> tuple[Identity, float]:
        from netlab.apiserver.auth import jwt

        issuer = jwt.claims_of(token).get("iss")
        if issuer != legacy.ISSUER and issuer not in self.issuers:
            raise Rejected("the token's issuer is not ours")
        try:
            claims = jwt.verify(token, self.verifiers())
        except jwt.Invalid as error:
            raise Rejected(str(error)) from error
        if issuer == legacy.ISSUER:
            shared = _shared(claims.get("aud") or self.audiences, wanted)  # without any they are for the API server
            return await legacy.identify(token, claims, shared, lookup=self._lookup, mark=self._mark,
                                         now=now), now + _CACHE_SECONDS
        expires, not_before = claims.get("exp"), claims.get("nbf", 0)
        if not isinstance(expires, (int, float)) or not isinstance(not_before, (int, float)):
            raise Rejected("the token's times are no numbers")
        if now > expires:
            raise Rejected("service account token has expired")
        if now < not_before - _LEEWAY:
            raise Rejected("service account token is not valid yet")
        shared = _shared(claims.get("aud") or [], wanted)
        own = claims.get("kubernetes.io")
        if not isinstance(own, dict):
            raise Rejected("the token lacks its kubernetes.io claims")
        return Identity(await self._user(own, str(claims.get("jti", ""))), shared), float(expires)

    async def _user(self, own: dict[str, Any], token_id: str) -> User:
        namespace, account = str(own.get("namespace", "")), own.get("serviceaccount") or {}
        uid = await self._alive("serviceaccounts", namespace, account)
        extra: dict[str, tuple[str, ...]] = {}
        if token_id:
            extra["authentication.kubernetes.io/credential-id"] = (f"JTI={token_id}",)
        if own.get("secret"):
            await self._alive("secrets", namespace, own["secret"])
        if own.get("pod"):
            await self._alive("pods", namespace, own["pod"])
            extra["authentication.kubernetes.io/pod-name"] = (own["pod"]["name"],)
            extra["authentication.kubernetes.io/pod-uid"] = (own["pod"].get("uid", ""),)
        if own.get("node"):
            if not own.get("pod"):  # beside a Pod the node is only told, not required
                await self._alive("nodes", "", own["node"])
            extra["authentication.kubernetes.io/node-name"] = (own["node"]["name"],)
            extra["authentication.kubernetes.io/node-uid"] = (own["node"].get("uid", ""),)
        return account_user(namespace, account.get("name", ""), uid, extra)

    async def _alive(self, plural: str, namespace: str, reference: dict[str, Any]) -> str:
        name, uid = str(reference.get("name", "")), str(reference.get("uid", ""))
        obj = await self._lookup(plural, namespace, name) if name else None
        if obj is None or str(obj["metadata"].get("uid", "")) != uid:
            raise Rejected(f"{plural} {namespace}/{name} of the token is gone")
        return uid


def _shared(theirs: Any, wanted: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(item for item in ([theirs] if isinstance(theirs, str) else theirs) if item in wanted)
    if not found:
        raise Rejected(f"token audiences {theirs} is invalid for the target audiences {list(wanted)}")
    return found
