"""Who may see what on a component's own port: certificates and tokens as upstream's components take them.

/healthz, /livez and /readyz are everybody's. For the rest the API server is asked whose a token is and what he may do;
whose certificates are good, and whose word counts for somebody else's name, is in files, or in the ConfigMap
kube-system/extension-apiserver-authentication, which is followed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import orjson
from aiohttp import web

from netlab.api.meta import Object
from netlab.client import config
from netlab.client.client import Client
from netlab.client.delegation import ANONYMOUS, Asker, Rights, Tokens
from netlab.client.doors import Doors
from netlab.client.informer import Informer
from netlab.errors import NetlabError, UsageError
from netlab.flags import Flag, Flags
from netlab.serving.headers import RequestHeader

log = logging.getLogger(__name__)

FLAGS: tuple[Flag, ...] = (
    Flag("authentication-kubeconfig", help="Kubeconfig of the API server that knows whose a token is, for who asks "
         "this program's own port; without it tokens are good for nothing outside a Pod."),
    Flag("authorization-kubeconfig", help="Kubeconfig of the API server that knows who may do what there."),
    Flag("authorization-always-allow-paths", "list", ["/healthz", "/readyz", "/livez"],
         "Paths that everybody may see; one that ends in * stands for all that begin so."),
    Flag("authentication-skip-lookup", "bool", False,
         "Don't look into the cluster for the authority of clients' certificates."),
    Flag("authentication-tolerate-lookup-failure", "bool", True, "Go on without it when that fails."),
    Flag("client-ca-file", help="The authority of clients' certificates."),
    Flag("requestheader-client-ca-file", help="The authority of proxies that tell in headers who asks."),
    Flag("requestheader-allowed-names", "list", [], "Common names that these proxies may have; none: any."),
    Flag("requestheader-username-headers", "list", ["x-remote-user"], "Headers that name the user."),
    Flag("requestheader-uid-headers", "list", [], "Headers that have the user's uid."),
    Flag("requestheader-group-headers", "list", ["x-remote-group"], "Headers that name the user's groups."),
    Flag("requestheader-extra-headers-prefix", "list", ["x-remote-extra-"], "Headers that tell more begin so."),
    *(Flag(name, ignored=True) for name in (
        "authentication-token-webhook-cache-ttl",
        "authorization-webhook-cache-authorized-ttl", "authorization-webhook-cache-unauthorized-ttl")))

_SECONDS = 10.0
"""How long the API server's answers are believed."""
_PRIVILEGED = "system:masters"
_LOOKUP = "extension-apiserver-authentication"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """The middleware of one port."""

    def __init__(self, given: Flags, authentication: Client | None, authorization: Client | None) -> None:
        """Read the flags.

        Raises:
            UsageError: a file of an authority can't be read.
        """
        self._open: Sequence[str] = given["authorization-always-allow-paths"]
        self._tolerant: bool = given["authentication-tolerate-lookup-failure"]
        self._client = authentication if not given["authentication-skip-lookup"] else None
        self._tokens = Tokens(authentication, _SECONDS) if authentication is not None else None
        self._rights = Rights(authorization, _SECONDS, _SECONDS) if authorization is not None else None
        self._doors: Doors | None = None
        self._clients, self._proxies = (_read(given[f"{kind}-ca-file"]) for kind in ("client", "requestheader-client"))
        self._told = RequestHeader(*(tuple(given[f"requestheader-{what}"]) for what in (
            "allowed-names", "username-headers", "uid-headers", "group-headers", "extra-headers-prefix")))

    def stand(self, doors: Doors) -> None:
        """Ask those who come in by these doors for a certificate.

        Raises:
            UsageError: the file of an authority holds none.
        """
        self._doors = doors
        self._doors.believe(self._clients, self._proxies, self._told)

    async def look_up(self) -> None:
        """Learn from the cluster whose certificates are good, as far as no flag says that.

        Raises:
            NetlabError: the cluster does not tell, and that is not tolerated.
        """
        if self._client is None or self._doors is None or (self._clients and self._proxies):
            return
        try:
            self._learn(await self._client.get("configmaps", _LOOKUP, "kube-system"))
        except NetlabError as error:
            if not self._tolerant:
                raise
            log.warning('"Unable to get configmap/%s in kube-system. Usually fixed by \'kubectl create rolebinding -n '
                        'kube-system ROLEBINDING_NAME --role=%s-reader --serviceaccount=YOUR_NS:YOUR_SA\'" err="%s"',
                        _LOOKUP, _LOOKUP, error)

    @asynccontextmanager
    async def informed(self) -> AsyncIterator[None]:
        """Do as `look_up`, and so again whenever what the cluster says changes, while the body runs.

        Raises:
            NetlabError: the cluster does not tell at first, and that is not tolerated.
        """
        await self.look_up()
        if self._client is None or self._doors is None or (self._clients and self._proxies):
            yield
            return
        stop = asyncio.Event()
        informer = Informer(self._client, "configmaps", "kube-system", fields=f"metadata.name={_LOOKUP}")
        informer.add_handler(self._changed)
        following = asyncio.ensure_future(informer.run(stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(following, return_exceptions=True)

    def _changed(self, _key: str, _old: Object | None, new: Object | None) -> None:
        try:
            if new is not None:
                self._learn(new)
        except NetlabError as error:
            log.error('"Unable to use configmap/%s in kube-system" err="%s"', _LOOKUP, error)

    def _learn(self, found: Object) -> None:
        assert self._doors is not None
        data: dict[str, str] = found.get("data") or {}
        proxies, told = self._proxies, self._told
        if not proxies:
            proxies = data.get("requestheader-client-ca-file", "").encode()
            told = RequestHeader(*(_names(data.get(f"requestheader-{what}", "")) for what in (
                "allowed-names", "username-headers", "uid-headers", "group-headers", "extra-headers-prefix")))
        self._doors.believe(self._clients or data.get("client-ca-file", "").encode(), proxies, told)

    @web.middleware
    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer 401 or 403, or let the request through."""
        asker = await self._who(request)
        if asker is None:
            return _status(401, "Unauthorized", "Unauthorized")
        verb, path = request.method.lower(), request.path
        if not self._everybodys(path) and _PRIVILEGED not in asker.groups:
            allowed = False
            if self._rights is not None:
                try:
                    allowed = await self._rights.allows(asker, "nonResourceAttributes", {"verb": verb, "path": path})
                except NetlabError as error:
                    return web.Response(status=500, text=f'Internal Server Error: "{path}": {error}\n')
            if not allowed:
                return _status(403, "Forbidden", f'forbidden: User "{asker.name}" cannot {verb} path "{path}"')
        return await handler(request)

    def _everybodys(self, path: str) -> bool:
        return any(path == one or (one.endswith("*") and path.startswith(one[:-1])) for one in self._open)

    async def _who(self, request: web.Request) -> Asker | None:
        """Return who asks; None when nothing that he shows is good."""
        complaints: list[str] = []
        chain = request.transport.get_extra_info("peercert") if request.transport is not None else None
        if chain and self._doors is not None:
            asker = self._doors.who(chain, request.headers, time.time(), complaints)
            if asker is not None:
                return asker
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip() and self._tokens is not None:
            try:
                asker = await self._tokens.whose(token.strip())
                if asker is not None:
                    return asker
                complaints.append("invalid bearer token")
            except NetlabError as error:
                complaints.append(str(error))
        if not complaints:
            return ANONYMOUS
        said = complaints[0] if len(complaints) == 1 else f"[{', '.join(dict.fromkeys(complaints))}]"
        log.error('"Unable to authenticate the request" err=%s', json.dumps(said))
        return None


async def guarding(stack: AsyncExitStack, given: Flags, client: Client, program: str) -> Guard:
    """Return the guard that the flags describe; `client` is the program's own one, of --kubeconfig.

    Raises:
        NetlabError: a file can't be used.
    """
    async def of(name: str) -> Client | None:
        if given[name] and given[name] != given["kubeconfig"]:
            return await stack.enter_async_context(Client(config.load(given[name]), program))
        if given[name] or not given["kubeconfig"]:
            return client
        try:
            return await stack.enter_async_context(Client(config.in_cluster(), program))
        except NetlabError:
            log.warning('"No %s provided, so what it is for won\'t work"', name)
            return None

    return Guard(given, await of("authentication-kubeconfig"), await of("authorization-kubeconfig"))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise UsageError(f"can't use the client CA {path}: {error}") from error


def _names(text: str) -> tuple[str, ...]:
    """Return the strings of a JSON list. Raises UsageError."""
    try:
        found = json.loads(text or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise UsageError(f"{text!r} is no list of names")
    return tuple(str(one) for one in found)


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, **({"details": {}} if code == 403 else {}), "code": code}
    return web.Response(status=code, body=orjson.dumps(body) + b"\n", content_type="application/json")
