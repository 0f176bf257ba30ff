"""The API server's verbs over HTTP/1.1, JSON and TLS.

Objects are plain dicts; a resource is a row of `netlab.api.kinds` or its text (`pods`, `deployments.apps`).
Paths and parameters: https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import orjson

from netlab.api import kinds, meta
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.client.config import Config, TokenSource
from netlab.client.wire import lines, watchful_socket
from netlab.errors import ApiError, NotFound, TemporaryError
from netlab.imports import without_system_roots

with without_system_roots():
    import aiohttp

log = logging.getLogger(__name__)

VERSION = "v1.36.0"
Objects: TypeAlias = list[Object]
PatchType = Literal["merge", "strategic", "json", "apply"]
_CONTENT_TYPES = {"merge": "application/merge-patch+json", "strategic": "application/strategic-merge-patch+json",
                  "json": "application/json-patch+json", "apply": "application/apply-patch+yaml"}
_SECONDS = 30.0
_QUIET_SECONDS = 100.0
_TRIES = 11
_SOON, _PATIENCE = 0.025, 10.0
"""Seconds between two questions whether a server is ready, for as long as one takes to start."""


def user_agent(component: str) -> str:
    """Return the User-Agent of a component as client-go builds it: `kube-scheduler/v1.36.0 (linux/amd64) …`."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return f"{component}/{VERSION} (linux/{machine}) kubernetes/netlab"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, for whoever counts them.

    `code` is the answer's status, 0 when none came. `sent` and `received` are bytes of bodies. `seconds` go by until
    the whole answer is there; of a `watch` until its head is, and its bytes are not counted.
    """

    method: str
    code: int
    seconds: float
    sent: int = 0
    received: int = 0
    watch: bool = False


class Client:
    """A connection pool to one API server; an async context manager.

    Every verb raises `errors.ApiError` for a Status that the server sent, and `errors.TemporaryError` when the
    server could not be reached or the connection broke (the write may then have happened).
    """

    def __init__(
        self,
        config: Config,
        user_agent: str = "netlab",
        *,
        parallel: int = 8,
        tell: Callable[[Exchange], None] = lambda _: None,
    ) -> None:
        """Make a client; nothing is opened yet.

        Args:
            config: where and who.
            user_agent: a component's name, from which the full header is made, or the full header. What stands
                before its slash is the field manager of all writes.
            parallel: how many requests may be under way at once, watches apart: each costs a connection of its own.
            tell: called after every request, whatever became of it.
        """
        self.config = config
        self.user_agent = user_agent if "/" in user_agent else _user_agent(user_agent)
        self.manager = self.user_agent.partition("/")[0]
        self._tokens = TokenSource(config)
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(parallel)
        self._tell = tell

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- verbs ---------------------------------------------------------------------------------------------------

    async def get(self, resource: str | Resource, name: str, namespace: str = "", *, subresource: str = "") -> Object:
        """Return one object (or its subresource, e.g. `scale`)."""
        return await self._json("GET", row(resource).path(namespace, name, subresource))

    async def list(self, resource: str | Resource, namespace: str = "", *, labels: str = "", fields: str = "",
                   limit: int = 0, revision: str = "", exact: bool = False) -> tuple[Objects, str]:
        """Return (objects, resourceVersion of the list).

        Args:
            resource: what.
            namespace: "" for all namespaces.
            labels: a label selector's text.
            fields: a field selector's text.
            limit: size of the pages to fetch the list in, 0 for one page; all pages are returned.
            revision: "" for the newest state, "0" for any that the server has at hand.
            exact: the state at `revision` and no later one; 410 when that is compacted.
        """
        kind = row(resource)
        query = {"labelSelector": labels, "fieldSelector": fields, "limit": str(limit) if limit else "",
                 "resourceVersion": revision, "resourceVersionMatch": "Exact" if exact else ""}
        items: Objects = []
        while True:
            page = await self._json("GET", kind.path(namespace), query)
            items += page.get("items") or []
            token = page["metadata"].get("continue")
            if not token:
                break
            query = {**query, "continue": token, "resourceVersion": "", "resourceVersionMatch": ""}
        for item in items:  # upstream leaves these two out inside lists, and owner references need them
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return items, str(page["metadata"].get("resourceVersion", ""))

    async def create(self, resource: str | Resource, obj: Object, namespace: str = "", *, name: str = "",
                     subresource: str = "", strict: bool = False) -> Object:
        """Create an object, or post to a subresource of `name` (`binding`, `eviction`, `token`).

        `strict`: unknown and doubled fields are an error, as with kubectl; else they are dropped.
        """
        path = row(resource).path(namespace or meta.namespace(obj), name, subresource)
        query = {"fieldManager": self.manager, "fieldValidation": "Strict" if strict else ""}
        return await self._json("POST", path, query, obj)

    async def update(self, resource: str | Resource, obj: Object, *, subresource: str = "") -> Object:
        """Replace an object; with its resourceVersion inside, only if nobody else has changed it meanwhile."""
        path = row(resource).path(meta.namespace(obj), meta.name(obj), subresource)
        return await self._json("PUT", path, {"fieldManager": self.manager}, obj)

    async def patch(self, resource: str | Resource, name: str, body: Any, namespace: str = "", *,
                    type: PatchType = "merge", subresource: str = "", manager: str = "", force: bool = False) -> Object:
        """Patch an object. `force` takes over fields of other managers (type "apply" only)."""
        query = {"fieldManager": manager or self.manager, "force": "true" if force else ""}
        return await self._json("PATCH", row(resource).path(namespace, name, subresource), query, body,
                                content_type=_CONTENT_TYPES[type])

    async def delete(self, resource: str | Resource, name: str, namespace: str = "", *, uid: str = "",
                     grace: int | None = None, propagation: str = "", revision: str = "") -> Object:
        """Delete an object.

        Args:
            resource: what.
            name: its name.
            namespace: its namespace.
            uid: delete only the object with this uid, not a namesake made since.
            grace: seconds, None for the object's own.
            propagation: Background, Foreground or Orphan; "" for the resource's default.
            revision: delete only in this resourceVersion.
        """
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        conditions = {name: value for name, value in (("uid", uid), ("resourceVersion", revision)) if value}
        if conditions:
            options["preconditions"] = conditions
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        if propagation:
            options["propagationPolicy"] = propagation
        return await self._json("DELETE", row(resource).path(namespace, name), body=options)

    async def apply(self, obj: Object, *, strict: bool = False) -> Object:
        """Create `obj`, or apply it (server-side, by force) to the object of that name. `strict` as for `create`."""
        kind = await self.resource_of(str(obj.get("apiVersion", "")), str(obj.get("kind", "")))
        space = (meta.namespace(obj) or self.config.namespace) if kind.namespaced else ""
        try:
            return await self.create(kind, obj, space, strict=strict)
        except ApiError as refused:
            if refused.reason not in ("AlreadyExists", "Invalid"):  # a Service's address is looked at before its name
                raise
            try:
                return await self.patch(kind, meta.name(obj), obj, space, type="apply", force=True)
            except ApiError as error:
                raise (refused if error.code == 404 else error) from None

    async def resource_of(self, api_version: str, kind: str) -> Resource:
        """Return the resource of a kind, from our own table or from the server's discovery.

        Raises:
            NotFound: the server knows no such kind.
        """
        try:
            return kinds.by_kind(api_version, kind)
        except KeyError:
            pass
        group, _, version = api_version.rpartition("/")
        try:
            found = await self._json("GET", f"/apis/{api_version}" if group else f"/api/{version}")
        except ApiError as error:
            if error.code != 404:
                raise
            found = {}
        for entry in found.get("resources") or []:
            if entry["kind"] == kind and "/" not in entry["name"]:
                return Resource(group, version, kind, entry["name"], bool(entry["namespaced"]))
        raise NotFound(f'the server has no kind "{kind}" in version "{api_version}"')

    async def watch(self, resource: str | Resource, namespace: str = "", *, labels: str = "", fields: str = "",
                    revision: str = "", seconds: int = 0, bookmarks: bool = False) -> AsyncIterator[tuple[str, Object]]:
        """Yield (ADDED | MODIFIED | DELETED | BOOKMARK, object) for each change after `revision`.

        Ends when the server ends the stream, after `seconds` if that is not 0. Bookmarks come only if asked for. A
        stream with bookmarks on which nothing came for long ends too: they are due every minute, so the server hangs,
        or the cable is cut.

        Raises:
            ApiError: the server refused, or sent an ERROR event; code 410 when `revision` is too old.
            TemporaryError: the connection broke.
        """
        kind = row(resource)
        query = {"watch": "true", "labelSelector": labels, "fieldSelector": fields, "resourceVersion": revision,
                 "timeoutSeconds": str(seconds) if seconds else "", "allowWatchBookmarks": "true" if bookmarks else ""}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SECONDS,
                                        sock_read=_QUIET_SECONDS if bookmarks else None)
        open_, began = False, time.perf_counter()
        try:
            async with self._open().request("GET", self.config.server + kind.path(namespace), params=_full(query),
                                            headers=self._headers(), timeout=timeout,
                                            **self._server_name()) as response:
                self._tell(Exchange("GET", response.status, time.perf_counter() - began, watch=True))
                if response.status != 200:
                    raise _refusal(response.status, await response.read())
                open_ = True
                async for line in lines(response.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise _refusal(int(event["object"].get("code", 500)), orjson.dumps(event["object"]))
                    yield event["type"], event["object"]
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            if open_ and isinstance(error, aiohttp.SocketTimeoutError):
                return  # whoever asks again will be told
            if not open_:
                self._tell(Exchange("GET", 0, time.perf_counter() - began, watch=True))
            raise TemporaryError(f"watch of {kind.group_resource} broke: {_words(error)}") from error

    async def ready(self, stop: asyncio.Event) -> bool:
        """Wait until the server answers and says it is ready, or until `stop` is set; tell whether it is ready.

        Asking one small thing often brings a whole control plane up faster than many watches that each back off.
        """
        complained, began = False, time.monotonic()
        while not stop.is_set():
            try:
                status, _, _ = await self.raw("GET", "/readyz", seconds=5.0)
                if status < 500:
                    return True
            except TemporaryError as error:
                if not complained:
                    log.info("waiting for the API server: %s", error)
                    complained = True
            try:
                async with asyncio.timeout(_SOON if time.monotonic() - began < _PATIENCE else 0.5):
                    await stop.wait()
            except TimeoutError:
                pass
        return False

    async def raw(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: bytes = b"",
                  headers: Mapping[str, str] | None = None,
                  seconds: float = _SECONDS) -> tuple[int, Mapping[str, str], bytes]:
        """Send any request; return (status, headers, body) whatever the status is."""
        began = time.perf_counter()
        try:
            async with self._open().request(method, self.config.server + path, params=_full(query or {}),
                                            data=body or None, headers={**self._headers(), **(headers or {})},
                                            timeout=aiohttp.ClientTimeout(total=seconds),
                                            **self._server_name()) as response:
                reply = await response.read()
                self._tell(Exchange(method, response.status, time.perf_counter() - began, len(body), len(reply)))
                return response.status, response.headers, reply
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            self._tell(Exchange(method, 0, time.perf_counter() - began, len(body)))
            raise TemporaryError(f"{method} {self.config.server}{path}: {_words(error)}") from error

    # -- inside --------------------------------------------------------------------------------------------------

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = self.config.ssl_context()
            connector = aiohttp.TCPConnector(limit=0, ssl=context or True, socket_factory=watchful_socket)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=True, read_bufsize=1 << 20)
        return self._session

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": self.user_agent, "Accept": "application/json"}
        token = self._tokens.token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _server_name(self) -> dict[str, Any]:
        return {"server_hostname": self.config.tls_server_name} if self.config.tls_server_name else {}

    async def _patiently(self, method: str, path: str, query: Mapping[str, str] | None, data: bytes,
                         content_type: str) -> tuple[int, bytes]:
        """Return status and body; a server that has too much to do is asked again when it says, as client-go does."""
        for last in (*[False] * (_TRIES - 1), True):
            async with self._slots:
                status, headers, reply = await self.raw(method, path, query=query, body=data,
                                                        headers={"Content-Type": content_type} if data else None)
            later = headers.get("Retry-After", "")
            if last or status != 429 or not later.isdecimal():
                break
            await asyncio.sleep(int(later))
        return status, reply

    async def _json(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None, *,
                    content_type: str = "application/json") -> Object:
        data = orjson.dumps(body) if body is not None else b""
        status, reply = await self._patiently(method, path, query, data, content_type)
        if status >= 300:
            raise _refusal(status, reply)
        try:
            return dict(orjson.loads(reply))
        except (orjson.JSONDecodeError, TypeError, ValueError) as error:
            raise TemporaryError(f"{method} {path}: the reply is no JSON object") from error


_user_agent = user_agent  # the constructor's argument has the same name


def row(resource: str | Resource) -> Resource:
    """Return the resource that a text names.

    Raises:
        NotFound: no such resource.
    """
    if isinstance(resource, Resource):
        return resource
    try:
        return kinds.resource(resource)
    except KeyError:
        raise NotFound(f'no resource "{resource}"') from None


def _refusal(status: int, body: bytes) -> ApiError:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict) and found.get("kind") == "Status":
        return ApiError(int(found.get("code") or status), str(found.get("reason", "")),
                        str(found.get("message", "")), details=found.get("details"))
    text = body[:200].decode(errors="replace").strip()
    return ApiError(status, "", f"the server answered {status}" + (f": {text}" if text else ""))


def _full(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
