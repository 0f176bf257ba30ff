"""Calls of webhooks: by URL, or by a Service, whose cluster IP is dialled and whose name the certificate must have."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

import aiohttp
import orjson

from netlab.api.meta import Object

_LIMIT = 8 << 20
Lookup = Callable[[str, str, str], Awaitable[Object | None]]
"""(plural, namespace, name) → the object."""


class HookFailed(Exception):
    """A webhook could not be called, or its answer is none. Not a refusal: that is an answer."""


class Hooks:
    """The client of all webhooks."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def call(self, config: Mapping[str, Any], review: Object, *, seconds: float) -> Object:
        """Post a review to where a clientConfig says, and return the answer's object.

        Raises:
            HookFailed: nobody is there, it took too long, or the answer is no JSON object.
        """
        url, host = await self._where(config)
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        shown = f"https://{host}/{url.partition('://')[2].partition('/')[2]}" if host else url
        try:
            async with self._session.post(
                    url, data=orjson.dumps(review), ssl=_trust(str(config.get("caBundle") or "")),
                    server_hostname=host.partition(":")[0] or None, allow_redirects=False,
                    headers={"Content-Type": "application/json", "Accept": "application/json",
                             **({"Host": host} if host else {})},
                    timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
                if answer.status != 200:
                    raise HookFailed(f"the server answered {answer.status} {answer.reason}")
                raw = await whole(answer)
        except TimeoutError:
            raise HookFailed(f'failed to call webhook: Post "{shown}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HookFailed(f'failed to call webhook: Post "{shown}": {error or type(error).__name__}') from None
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise HookFailed(f"expected a review in JSON: {error}") from None
        if not isinstance(found, dict):
            raise HookFailed("expected a review in JSON, got something else")
        return found

    async def _where(self, config: Mapping[str, Any]) -> tuple[str, str]:
        """Return the URL to dial, and the host name to ask for when it is not the URL's."""
        if config.get("url"):
            return str(config["url"]), ""
        service = config.get("service") or {}
        namespace, name = service.get("namespace", ""), service.get("name", "")
        found = await self._lookup("services", namespace, name)
        if found is None:
            raise HookFailed(f'failed to call webhook: service "{name}" not found')
        spec, port = found.get("spec") or {}, service.get("port", 443)
        if not any(entry.get("port") == port for entry in spec.get("ports") or []):
            raise HookFailed(f'failed to call webhook: no service port {port} found for service "{name}"')
        address = spec.get("clusterIP", "")
        if spec.get("type") == "ExternalName":
            address = spec.get("externalName", "")
        if not address or address == "None":
            raise HookFailed(f'failed to call webhook: service "{name}" has no cluster IP')
        host = f"{name}.{namespace}.svc"
        place = f"[{address}]" if ":" in address else address
        return f"https://{place}:{port}{service.get('path') or '/'}", f"{host}:{port}"


async def whole(answer: aiohttp.ClientResponse) -> bytes:
    """Return an answer's body.

    Raises:
        ValueError: it is larger than anybody has use for.
    """
    pieces, size = [], 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > _LIMIT:
            answer.close()
            raise ValueError(f"the answer is larger than {_LIMIT} bytes")
    return b"".join(pieces)


@lru_cache(maxsize=64)
def _trust(bundle: str) -> ssl.SSLContext:
    if not bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
