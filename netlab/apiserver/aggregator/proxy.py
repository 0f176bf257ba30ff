"""One server behind an APIService: how it is reached, and requests passed on to it as the user who sent them.

https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import orjson

from netlab.api.meta import Object
from netlab.apiserver import status, words
from netlab.apiserver.hooks import whole
from netlab.apiserver.http import Request, Response, User
from netlab.apiserver.proxy.upstream import Upstream
from netlab.errors import ApiError, UsageError
from netlab.serving.shown import Shown

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

_SECONDS = 5.0
_SAFE = "/~!$&'()*+,;=:@-._"


class Unreachable(Exception):
    """Nobody answers behind the Service. `reason` is the condition's."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Backend:
    """The server behind one APIService; made anew when the APIService changes."""

    def __init__(self, api: Api, spec: Object) -> None:
        self._api, self.spec = api, spec
        service = spec["service"]
        self.host = f"{service.get('name', '')}.{service.get('namespace', '')}.svc"
        self._tls = _context(spec, api.to_backends)
        self._upstream = Upstream(self._tls)
        self.listed: Object = {}
        self.available = False

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()

    async def forward(self, request: Request) -> Response:
        """Pass a request on.

        Raises:
            ApiError: 503, it is not available.
        """
        try:
            base = await self.address()
        except Unreachable as error:
            raise status.unavailable(str(error)) from None
        query = f"?{request.raw_query}" if request.raw_query else ""
        return await self._upstream.forward(request, f"{base}{quote(request.path, safe=_SAFE)}{query}",
                                            server_name=self.host, headers=_identity(request.user))

    async def address(self) -> str:
        """Return the URL to dial: the Service's cluster IP.

        Raises:
            Unreachable: there is no such Service, port, or endpoint.
        """
        service = self.spec["service"]
        namespace, name, port = service.get("namespace", ""), service.get("name", ""), service.get("port", 443)
        found = await self._api.lookup("services", namespace, name)
        if found is None:
            raise Unreachable("ServiceNotFound", f'service/{name} in "{namespace}" is not present')
        spec = found.get("spec") or {}
        if spec.get("type") == "ExternalName":
            return f"https://{spec.get('externalName')}:{port}"
        if not any(entry.get("port") == port for entry in spec.get("ports") or []):
            raise Unreachable("ServicePortError", f'service/{name} in "{namespace}" is not listening on port {port}')
        endpoints = await self._api.lookup("endpoints", namespace, name)
        if spec.get("type") == "ClusterIP" and not any(
                subset.get("addresses") for subset in (endpoints or {}).get("subsets") or ()):
            raise Unreachable("MissingEndpoints", f'endpoints for service/{name} in "{namespace}" have no addresses')
        address = spec.get("clusterIP", "")
        return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"

    async def discover(self) -> Object:
        """Return the server's APIResourceList.

        Raises:
            Unreachable: it does not answer, or something else.
        """
        base = await self.address()
        path = f"/apis/{self.spec['group']}/{self.spec['version']}"
        user = User("system:kube-aggregator", ("system:masters",))
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session, session.get(
                    base + path, ssl=self._tls, server_hostname=self.host, timeout=timeout,
                    headers={"Accept": "application/json", "Host": self.host, **_identity(user)}) as answer:
                if answer.status != 200:
                    raise Unreachable("FailedDiscoveryCheck", f"failing or missing response from {base}{path}: bad "
                                                              f"status from {base}{path}: {answer.status}")
                found: Any = orjson.loads(await whole(answer))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            said = await words.explained(error, base, self.host)
            raise Unreachable("FailedDiscoveryCheck", f'failing or missing response from {base}{path}: Get '
                                                      f'"{base}{path}": {said}') from None
        if not isinstance(found, dict) or not _listing(found.get("resources")):
            raise Unreachable("FailedDiscoveryCheck", f"{base}{path} answers no APIResourceList")
        return found


def _listing(rows: Any) -> bool:
    """Tell whether rows are an APIResourceList's: discovery passes them on."""
    return isinstance(rows, list) and all(
        isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("kind", ""), str)
        and isinstance(row.get("verbs") or [], list) for row in rows)


def _identity(user: User) -> Mapping[str, str]:
    """Return the headers that tell a server behind who asks; their values are joined where there are several."""
    headers = {"X-Remote-User": user.name, "X-Remote-Group": "\0".join(user.groups)}
    if user.uid:
        headers["X-Remote-Uid"] = user.uid
    for key, values in user.extra.items():
        headers[f"X-Remote-Extra-{quote(key, safe='')}"] = "\0".join(values)
    return headers


def _context(spec: Object, shown: Shown) -> ssl.SSLContext:
    bundle = spec.get("caBundle") or ""
    context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode() if bundle else None)
    if spec.get("insecureSkipTLSVerify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        shown.put(context)
    except UsageError as error:
        raise ApiError(500, "InternalError", f"--proxy-client-cert-file: {error}") from None
    return context
