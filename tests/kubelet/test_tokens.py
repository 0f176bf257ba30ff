"""Service account tokens: kept, renewed in time, and used up when the API server is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from netlab.api import meta
from netlab.api.meta import Object
from netlab.errors import TemporaryError
from netlab.kubelet import tokens
from netlab.kubelet.tokens import Tokens
from netlab.kubelet.volumes.payload import TokenRequest
from tests.kubelet.builders import UID, a_pod

REQUEST = TokenRequest("vault", 1000)


class Issuer:
    """Issues numbered tokens."""

    def __init__(self, clock: list[float]) -> None:
        self.clock, self.requests, self.away = clock, [], False

    async def create(self, resource: str, body: Object, namespace: str, *, name: str, subresource: str) -> Object:
        assert (resource, namespace, name, subresource) == ("serviceaccounts", "default", "robot", "token")
        if self.away:
            raise TemporaryError("away")
        self.requests.append(body["spec"])
        return {"status": {"token": f"t{len(self.requests)}",
                           "expirationTimestamp": meta.timestamp(self.clock[0] + body["spec"]["expirationSeconds"])}}


def test_the_life_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(tokens.time, "time", lambda: clock[0])

    async def main() -> None:
        issuer = Issuer(clock)
        found: Any = Tokens(issuer)  # type: ignore[arg-type]
        pod = a_pod(serviceAccountName="robot")

        async def text() -> str:
            return str((await found.get(pod, REQUEST)).text)

        assert await text() == await text() == "t1"
        assert issuer.requests == [{"audiences": ["vault"], "expirationSeconds": 1000, "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": UID}}]
        assert found.renew_at(UID) == 1800
        clock[0] = 1799
        assert await text() == "t1"
        issuer.away = True
        clock[0] = 1999
        assert await text() == "t1"  # still good, so better than none
        clock[0] = 2000
        with pytest.raises(TemporaryError):
            await text()
        issuer.away = False
        assert await text() == "t2"
        found.drop(UID)
        assert found.renew_at(UID) == 0
        assert await text() == "t3"

    asyncio.run(main())
