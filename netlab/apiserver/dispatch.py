"""From a request to its answer: who asks, may they, which page or which verb of which resource."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import orjson

from netlab.apiserver import audit, deadline, health, negotiate, openapi, reviews, status, version
from netlab.apiserver.api import Api
from netlab.apiserver.auth.authenticate import ANONYMOUS, NOBODY, attempted, authenticate
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.auth.impersonate import impersonated
from netlab.apiserver.auth.refuse import attributes, refused
from netlab.apiserver.call import Call
from netlab.apiserver.discovery import Discovery
from netlab.apiserver.flow.keeper import TooMany
from netlab.apiserver.http import Reply, Request, Response, Upgrade
from netlab.apiserver.metrics import Metrics
from netlab.apiserver.proxy import http as http_proxy
from netlab.apiserver.proxy import kubelet
from netlab.apiserver.route import Target, target
from netlab.apiserver.subresources import binding, components, connect, ephemeral, eviction, finalize, scale, token
from netlab.apiserver.verbs.create import create
from netlab.apiserver.verbs.delete import delete
from netlab.apiserver.verbs.deletecollection import deletecollection
from netlab.apiserver.verbs.get import get
from netlab.apiserver.verbs.list import list_
from netlab.apiserver.verbs.patch import patch
from netlab.apiserver.verbs.update import update
from netlab.apiserver.verbs.watch import watch
from netlab.errors import ApiError
from netlab.store import StorageFailed, StorageFull, StoreClosed

log = logging.getLogger(__name__)

_READING = ("GET", "HEAD")
_METRIC_VERBS = {"create": "POST", "update": "PUT"}

Verb = Callable[[Call], Awaitable[Response]]

_VERBS: dict[str, Verb] = {"get": get, "list": list_, "watch": watch, "create": create, "update": update,
                           "patch": patch, "delete": delete, "deletecollection": deletecollection}
_WITHOUT_STORE: dict[str, Verb] = {"ComponentStatus": components.get, "Binding": binding.of_any}
_DEPRECATED = {"endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
               "componentstatuses": "v1 ComponentStatus is deprecated in v1.19+"}
_STREAMING = {"exec": kubelet.exec_, "attach": kubelet.attach, "portforward": kubelet.portforward}
_PROXIES: dict[str, Verb] = {"nodes": kubelet.node, "pods": http_proxy.pod, "services": http_proxy.service}
_SUBRESOURCES: dict[tuple[str, str], Verb] = {
    ("status", "get"): get, ("status", "update"): update, ("status", "patch"): patch,
    ("scale", "get"): scale.get, ("scale", "update"): scale.update, ("scale", "patch"): scale.patch,
    ("binding", "create"): binding.create, ("eviction", "create"): eviction.create, ("token", "create"): token.create,
    ("finalize", "update"): finalize.update, ("log", "get"): kubelet.log,
    ("ephemeralcontainers", "get"): get, ("ephemeralcontainers", "update"): ephemeral.update,
    ("ephemeralcontainers", "patch"): ephemeral.patch,
    ("approval", "get"): get, ("approval", "update"): update, ("approval", "patch"): patch,
    ("resize", "get"): get, ("resize", "update"): ephemeral.update, ("resize", "patch"): ephemeral.patch,
}


class Dispatcher:
    """The server's handler."""

    def __init__(self, api: Api, git_version: str) -> None:
        self.api, self.metrics = api, Metrics()
        self._git_version = git_version
        self._records: dict[int, audit.Record] = {}
        self._discovery = Discovery(api.catalog, api.aggregator)

    async def __call__(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            ApiError: refused.
        """
        started = self.api.monotonic()
        asked = target(request, self.api.catalog)
        code = 500
        response: Response | None = None
        failed: ApiError | None = None
        try:
            limit = deadline.seconds(request, asked) if "timeout" in request.query else 0.0
            work = self._answer(request, asked, started)
            response = await (work if not limit else deadline.within(
                limit, request, work, whole=request.method not in _READING))
            code = 101 if isinstance(response, Upgrade) else response.status
            return response
        except ApiError as error:
            code, failed = error.code, error
            raise
        except TooMany as error:
            code, response = 429, error.reply()
            return response
        except RecursionError:
            code = 400
            raise status.bad_request("the body is nested too deeply") from None
        except StorageFull as error:
            code = 507
            raise ApiError(507, "InsufficientStorage", f"etcdserver: mvcc: database space exceeded: {error}") from None
        except (StorageFailed, StoreClosed) as error:
            code = 503
            raise status.unavailable(str(error)) from None
        finally:
            if request.seat is not None and (request.gone or request.method not in _READING):
                request.seat.leave()  # answers to reads may be large: they hold their seat until they are sent
            if self.api.audit is not None:
                record = self._records.pop(id(request), None)
                if record is not None:
                    record.finish(response, code, failed, now=self.api.clock())
                    if response is not None:
                        response.headers["Audit-ID"] = record.audit_id
            if asked is not None:
                verb = _METRIC_VERBS.get(asked.verb, asked.verb.upper())
                key = (verb, asked.resource.group, asked.resource.plural, asked.subresource)
                self.metrics.count(key, code, self.api.monotonic() - started)

    async def _answer(self, request: Request, asked: Target | None, started: float) -> Response:
        try:
            request.user = await authenticate(request, self.api.ways, now=self.api.clock())
        except ApiError:
            if self.api.audit is not None:
                request.user = NOBODY
                await self._audited(request, attributes(request, asked))
            raise
        authorizer = self.api.authorizer
        if self.api.audit is not None:
            await self._audited(request, attributes(request, asked))
        asking = request.user
        request.user = await impersonated(request, authorizer)
        if request.user is not asking and (record := self._records.get(id(request))):
            record.impersonated = request.user
        await authorizer.refresh(request.user)
        wanted = attributes(request, asked)
        if (waits := self.api.flows.enter(request, wanted, started)) is not None:
            await waits
        self._permit(request, wanted)
        if wanted.subresource in _STREAMING and wanted.verb == "get" \
                and request.headers.get("Upgrade", "").lower() == "websocket":
            self._permit(request, replace(wanted, verb="create"))  # a WebSocket can only GET what others POST
        elsewhere = self.api.aggregator.find(request.path)
        if elsewhere is not None:
            answer = await elsewhere.forward(request)
            if request.seat is not None and not isinstance(answer, Reply):
                request.seat.leave()
            return answer
        if asked is not None:
            return await self._resource(request, asked)
        return await self._page(request)

    async def _audited(self, request: Request, wanted: Attributes) -> None:
        assert self.api.audit is not None
        record = self.api.audit.start(request, wanted, now=self.api.clock())
        if record is None:
            return
        self._records[id(request)] = record
        if request.user is NOBODY:
            record.words = attempted(request)
            return
        if record.level in ("Request", "RequestResponse") and request.headers.get("Upgrade") is None:
            record.sent = await request.body()

    def _permit(self, request: Request, wanted: Attributes) -> None:
        decision = self.api.authorizer.authorize(wanted)
        request.note(audit.DECISION, "allow" if decision.allowed else "forbid")
        request.note(audit.REASON, decision.reason)
        if not decision.allowed:
            judged = self.api.options.anonymous_auth and self.api.authorizer.takes_anonymous
            if request.user is ANONYMOUS and not judged:
                raise status.unauthorized()
            raise refused(wanted, decision.reason)

    async def _resource(self, request: Request, asked: Target) -> Response:
        resource = asked.resource
        endpoint = self.api.endpoint(resource)
        call = Call(self.api, request, asked, endpoint, self.api.clock())
        if asked.subresource:
            return await self._subresource(call)
        if not asked.verb:
            raise status.method_not_allowed()
        if endpoint.custom is not None:
            if endpoint.custom.warning:
                request.warnings.append(endpoint.custom.warning)
            if endpoint.custom.terminating and asked.verb == "create":
                raise status.terminating(resource)
        if asked.verb not in resource.verbs:
            raise status.method_not_supported(resource, asked.verb)
        call.form = negotiate.accept(request.headers.get("Accept", ""), plain=resource.verbs == ("create",),
                                     custom=endpoint.custom is not None)
        if resource.group_resource in _DEPRECATED:
            request.warnings.append(_DEPRECATED[resource.group_resource])
        verb = reviews.create if resource.kind in reviews.KINDS else _WITHOUT_STORE.get(resource.kind) \
            or _VERBS[asked.verb]
        return negotiate.dumped(call.form, await verb(call))

    async def _subresource(self, call: Call) -> Response:
        asked = call.target
        if asked.subresource not in asked.resource.subresources:
            raise status.no_such_path()
        if asked.subresource in _STREAMING:
            if call.request.method not in ("GET", "POST"):
                raise status.method_not_allowed()
            await connect.admit(call)
            return await _STREAMING[asked.subresource](call)
        if asked.subresource == "proxy":
            await connect.admit(call)
            return await _PROXIES[asked.resource.plural](call)
        verb = _SUBRESOURCES.get((asked.subresource, asked.verb))
        if verb is None:
            raise status.method_not_supported(asked.resource, asked.verb or call.request.method.lower())
        if asked.subresource == "log":
            return await verb(call)
        whole = verb in (get, update, patch) or asked.subresource == "finalize"
        call.form = negotiate.accept(call.request.headers.get("Accept", ""), plain=not whole,
                                     custom=whole and call.endpoint.custom is not None)
        return negotiate.dumped(call.form, await verb(call))

    async def _page(self, request: Request) -> Response:
        first = request.path.strip("/").partition("/")[0]
        if request.method not in ("GET", "HEAD"):
            raise status.no_such_path()
        if first in health.PAGES:
            return health.health(self.api, request)
        if first == "version":
            return version.page(self._git_version)
        if first == "metrics" and request.path.strip("/") == "metrics":
            return health.metrics(self.api, self.metrics)
        if first == "debug" and (page := self.api.flows.page(request)) is not None:
            return page
        if first == "openapi" or request.path.startswith(("/.well-known/", "/openid/")):
            return openapi.page(self.api, request)
        found = self._discovery.page(request, address=f"{self.api.options.advertise}:{self.api.port}")
        if found is not None:
            packed = negotiate.only_protobuf(request.headers.get("Accept", ""))
            return negotiate.dumped(negotiate.Form(protobuf=packed), found)
        if not first:
            return Reply(orjson.dumps({"paths": openapi.paths(self.api)}))
        return self._discovery.nothing(request.path)
