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
from netlab.apiserver import words

_LIMIT = 8 << 20
Lookup = Callable[[str, str, str], Awaitable[Object | None]]
"""(plural, namespace, name) → the object."""


class HookFailed(Exception):
    """A webhook could not be called, or its answer is none. Not a refusal: that is an answer."""


class NoClient(HookFailed):
    """What says how it is called can't be used."""


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
        service = config.get("service") or {}
        host = "" if config.get("url") else f"{service.get('name', '')}.{service.get('namespace', '')}.svc"
        port = service.get("port", 443)
        base = str(config.get("url") or f"https://{host}:{port}{service.get('path') or '/'}")
        shown = f"{base}{'&' if '?' in base else '?'}timeout={seconds:g}s"
        url = shown
        if self._session is None:
            self._session = aiohttp.ClientSession(  # no limit of connections: those that hang would hold up all others
                cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0))
        try:
            trust = _trust(str(config.get("caBundle") or ""))
        except (ValueError, ssl.SSLError):
            raise NoClient("unable to load root certificates: unable to parse bytes as PEM block") from None
        try:
            if host:
                url = shown.replace(f"{host}:{port}", f"{await self._address(service, port)}:{port}", 1)
            async with self._session.post(
                    url, data=orjson.dumps(review), ssl=trust, server_hostname=host or None, allow_redirects=False,
                    headers={"Content-Type": "application/json", "Accept": "application/json",
                             **({"Host": f"{host}:{port}"} if host else {})},
                    timeout=aiohttp.ClientTimeout(total=seconds)) as answer:
                raw = await whole(answer)
                if answer.status != 200:
                    raise HookFailed(_refused(answer.status, raw))
        except LookupError as error:
            raise HookFailed(f'Post "{shown}": {error.args[0]}') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HookFailed(f'Post "{shown}": {await words.explained(error, url, host)}') from None
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise HookFailed(f"expected a review in JSON: {error}") from None
        if not isinstance(found, dict):
            raise HookFailed("expected a review in JSON, got something else")
        return found

    async def _address(self, service: Mapping[str, Any], port: Any) -> str:
        """Return what to dial for a Service.

        Raises:
            LookupError: there is no such Service, port, or address.
        """
        namespace, name = service.get("namespace", ""), service.get("name", "")
        found = await self._lookup("services", namespace, name)
        if found is None:
            raise LookupError(f'service "{name}" not found')
        spec = found.get("spec") or {}
        if not any(entry.get("port") == port for entry in spec.get("ports") or []):
            raise LookupError(f'no service port {port} found for service "{name}"')
        address = str(spec.get("externalName" if spec.get("type") == "ExternalName" else "clusterIP") or "None")
        if address == "None":
            raise LookupError(f'service "{name}" has no cluster IP')
        return f"[{address}]" if ":" in address else address


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


_STATUS = {400: "the server rejected our request for an unknown reason",
           401: "the server has asked for the client to provide credentials",
           403: "the server does not allow this method on the requested resource",
           404: "the server could not find the requested resource",
           429: "the server has received too many requests and has asked us to try again later"}


def _refused(code: int, body: bytes) -> str:
    """Say what a status other than 200 means, as client-go does."""
    if code >= 500:
        said = body[:2048].decode(errors="replace").strip()
        return f'an error on the server ("{said}") has prevented the request from succeeding'
    return _STATUS.get(code, f"the server responded with the status code {code} but did not return more information")


@lru_cache(maxsize=64)
def _trust(bundle: str) -> ssl.SSLContext:
    if not bundle:
        return ssl.create_default_context()
    return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
