"""Who may see what on a component's own port: certificates and tokens as upstream's components take them.

/healthz, /livez and /readyz are everybody's. For the rest the API server is asked whose a token is and what he may do;
whose certificates are good is in a file, or in the ConfigMap kube-system/extension-apiserver-authentication.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
from aiohttp import web

from netlab.client import config
from netlab.client.client import Client
from netlab.client.delegation import ANONYMOUS, Asker, Rights, Tokens
from netlab.errors import NetlabError, UsageError
from netlab.flags import Flag, Flags

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
    *(Flag(name, ignored=True) for name in (
        "requestheader-client-ca-file", "requestheader-allowed-names", "requestheader-extra-headers-prefix",
        "requestheader-group-headers", "requestheader-username-headers", "authentication-token-webhook-cache-ttl",
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
            UsageError: the file of the clients' authority can't be read.
        """
        self._open: Sequence[str] = given["authorization-always-allow-paths"]
        self._lookup, self._tolerant = (not given["authentication-skip-lookup"] and not given["client-ca-file"],
                                        given["authentication-tolerate-lookup-failure"])
        self._client = authentication
        self._tokens = Tokens(authentication, _SECONDS) if authentication is not None else None
        self._rights = Rights(authorization, _SECONDS, _SECONDS) if authorization is not None else None
        self._context: ssl.SSLContext | None = None
        try:
            self._authorities = Path(given["client-ca-file"]).read_text() if given["client-ca-file"] else ""
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"can't use the client CA {given['client-ca-file']}: {error}") from error

    def stand(self, context: ssl.SSLContext) -> None:
        """Ask those who come in by these TLS settings for a certificate.

        Raises:
            UsageError: the file of the clients' authority holds none.
        """
        self._context = context
        self._believe()

    async def look_up(self) -> None:
        """Learn from the cluster whose certificates are good, if no flag says that.

        Raises:
            NetlabError: the cluster does not tell, and that is not tolerated.
        """
        if not self._lookup or self._client is None or self._context is None:
            return
        try:
            found = await self._client.get("configmaps", _LOOKUP, "kube-system")
            self._authorities = str((found.get("data") or {}).get("client-ca-file") or "")
            self._believe()
        except NetlabError as error:
            if not self._tolerant:
                raise
            log.warning('"Unable to get configmap/%s in kube-system. Usually fixed by \'kubectl create rolebinding -n '
                        'kube-system ROLEBINDING_NAME --role=%s-reader --serviceaccount=YOUR_NS:YOUR_SA\'" err="%s"',
                        _LOOKUP, _LOOKUP, error)

    def _believe(self) -> None:
        if self._context is not None and self._authorities:
            try:
                self._context.load_verify_locations(cadata=self._authorities)
            except (ssl.SSLError, ValueError) as error:
                raise UsageError(f"the client CA can't be used: {error}") from error
            self._context.verify_mode = ssl.CERT_OPTIONAL

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
        """Return who asks; None when he shows a token that is not good."""
        shown = request.transport.get_extra_info("peercert") if request.transport is not None else None
        parts = [part for row in (shown or {}).get("subject") or () for part in row]
        names, groups = ([value for kind, value in parts if kind == wanted]
                         for wanted in ("commonName", "organizationName"))
        if names and names[-1]:
            return Asker(names[-1], (*groups, "system:authenticated"))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip() or self._tokens is None:
            return ANONYMOUS
        try:
            return await self._tokens.whose(token.strip())
        except NetlabError as error:
            log.error('"Unable to authenticate the request" err="%s"', error)
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


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, **({"details": {}} if code == 403 else {}), "code": code}
    return web.Response(status=code, body=orjson.dumps(body) + b"\n", content_type="application/json")
