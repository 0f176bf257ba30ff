"""FlowSchemas and priority levels: those that the server brings along are made, all are followed, gaps are told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver import own
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.flow import shown
from netlab.apiserver.flow.gate import Gate, Plain, Refused
from netlab.apiserver.flow.level import Flow, Level
from netlab.apiserver.flow.match import counted, matches
from netlab.apiserver.flow.objects import AUTOUPDATE, GROUP, LEVELS, MANDATORY, SCHEMAS
from netlab.apiserver.flow.shares import limits
from netlab.apiserver.flow.sizes import Sizes
from netlab.apiserver.following import forever
from netlab.apiserver.health import FLOWS, FLOWS_MADE
from netlab.apiserver.http import Reply, Request
from netlab.errors import ApiError

if TYPE_CHECKING:
    from netlab.apiserver.api import Api

_SCHEMAS, _LEVELS = "flowschemas", "prioritylevelconfigurations"
_KNOWN = 4096
_DANGLING = "Dangling"
_ADJUST_SECONDS = 10
_WIDE = frozenset(("list", "watch"))
_READING = frozenset(("get", "list", "head", "watch"))
Waits = Coroutine[Any, Any, None]


class TooMany(Exception):
    """A request may not go on: there are too many. It may come again after some seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def reply(self) -> Reply:
        """Return the answer."""
        return Reply(b"Too many requests, please try again later.\n", 429, "text/plain; charset=utf-8", {
            "Retry-After": str(self.seconds), "X-Content-Type-Options": "nosniff"})


class Flows:
    """One per API server."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._objects: dict[str, dict[str, Object]] = {_SCHEMAS: {}, _LEVELS: {}}
        self._order: list[tuple[Object, Flow]] = []
        self._known: dict[tuple[object, ...], Flow | None] = {}
        self._levels: dict[str, Level] = {}
        self._flows: dict[str, Flow] = {}
        options = api.options
        self._total = options.reading + options.writing
        self._plain = None if options.fair else Plain(options.reading, options.writing)
        self._gate = Gate(api.monotonic)
        self._sizes = Sizes(api)

    def enter(self, request: Request, asked: Attributes, now: float) -> Waits | None:
        """Give a request its seat, or return what it has to wait for; `now`: when it came.

        Raises:
            TooMany: it may not even wait.
        """
        if self._plain is not None:
            self._enter_plainly(self._plain, request, asked)
            return None
        flow = self.classify(asked)
        if flow is None:
            return None
        request.flow = flow.uids
        width = 1
        if asked.verb in _WIDE and not asked.path:
            width = self._sizes.width(asked, request, flow.level.widest)
        by = flow.distinguisher
        who = asked.user.name if by == "ByUser" else asked.namespace if by else ""
        request.seat = self._gate.enter(flow, width, now, asked, who)
        return None if request.seat is not None else self._wait(request, flow, width, asked, who)

    async def _wait(self, request: Request, flow: Flow, width: int, asked: Attributes, who: str) -> None:
        try:
            seat = await self._gate.wait(flow, width, asked, who)
        except Refused:
            raise TooMany(flow.level.retry.refused(self._api.clock())) from None
        if request.gone:
            seat.leave()
            raise TooMany(1)
        request.seat = seat

    def _enter_plainly(self, plain: Plain, request: Request, asked: Attributes) -> None:
        if asked.verb == "watch" or not counted(asked):
            return
        request.seat = plain.enter(reads=asked.verb in _READING, privileged="system:masters" in asked.user.groups)
        if request.seat is None:
            raise TooMany(1)

    def metrics(self) -> Iterator[str]:
        """Yield what is told of all levels, in Prometheus' text form."""
        if self._plain is None:
            yield from shown.metrics(self._sorted(), [flow for _, flow in sorted(self._flows.items())])

    def page(self, request: Request) -> Reply | None:
        """Answer one of the pages of /debug/api_priority_and_fairness; None where there is none."""
        if self._plain is not None or not request.path.startswith(shown.ROOT):
            return None
        return shown.page(request.path, self._sorted(), details=request.flag("includeRequestDetails"),
                          since=self._api.monotonic() - self._api.clock())

    def _sorted(self) -> list[Level]:
        return [self._levels[name] for name in sorted(self._levels)]

    def classify(self, asked: Attributes) -> Flow | None:
        """Return the flow of a request; None for one that is not counted."""
        if not counted(asked):
            return None
        key = (asked.user.name, asked.user.groups, asked.verb, asked.group, asked.resource, asked.subresource,
               asked.namespace, asked.path)
        if key not in self._known:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            self._known[key] = next((flow for spec, flow in self._order if matches(spec, asked)), None)
        return self._known[key]

    async def ensure(self) -> None:
        """Make what is missing of what the server brings along, and mend what nobody may change.

        Raises:
            ApiError: the store or a check refused it.
        """
        for plural, wanted in ((_LEVELS, LEVELS), (_SCHEMAS, SCHEMAS)):
            for obj in wanted:
                await self._ensure(plural, obj)
        self._api.ready.add(FLOWS_MADE)

    async def _ensure(self, plural: str, wanted: Object) -> None:
        name = wanted["metadata"]["name"]
        there = self._objects[plural].get(name)
        if there is None:
            endpoint = self._api.endpoints[(GROUP, "v1", plural)]
            kv = await own.create(self._api, GROUP, plural, "", own.copy_of(wanted))
            if kv is None:
                return
            there = endpoint.view(kv)
        change = mending(there, wanted)
        if change is not None:
            await own.merge(self._api, plural, "", name, change, group=GROUP)

    async def load(self) -> None:
        """Take in all that is stored, and make what is missing, before the first request.

        Raises:
            ApiError: the store or a check refused it.
        """
        await self.ensure()
        for plural in self._objects:
            await self._list(plural)
        self._sort()

    async def _list(self, plural: str) -> int:
        endpoint = self._api.endpoints[(GROUP, "v1", plural)]
        part = await self._api.store.list(endpoint.folder.prefix)
        found = (endpoint.view(kv) for kv in part.kvs)
        self._objects[plural] = {meta.name(obj): obj for obj in found}
        return part.revision

    async def run(self) -> None:
        """Follow both kinds for ever."""
        await asyncio.gather(self._adjust(), *(
            forever(self._api, plural, lambda plural=plural: self._follow(plural))  # type: ignore[misc]
            for plural in self._objects))

    async def _adjust(self) -> None:
        """Now and then let levels lend each other seats, and look how large collections are."""
        while True:
            for _ in range(_ADJUST_SECONDS):
                await asyncio.sleep(1.0)
                self._gate.expire(self._sorted())
            self._gate.adjust(self._sorted(), self._total)
            await self._sizes.measure()

    async def _follow(self, plural: str) -> None:
        endpoint = self._api.endpoints[(GROUP, "v1", plural)]
        with self._api.store.watch(endpoint.folder.prefix, after=await self._list(plural)) as watch:
            while not self._api.stopping:
                self._sort()
                await self._tell()
                self._api.ready.add(FLOWS)
                for event in await watch.next(3600.0):
                    name = event.kv.key.decode().rpartition("/")[2]
                    if event.deleted:
                        self._objects[plural].pop(name, None)
                    else:
                        self._objects[plural][name] = endpoint.view(event.kv)

    def _sort(self) -> None:
        """Take up levels and schemas, in the order in which they are tried; one without a level is passed over."""
        specs = {name: obj["spec"] for name, obj in self._objects[_LEVELS].items()}
        found = limits(specs, self._total)
        self._levels = {name: self._levels.get(name) or Level(name) for name in specs}
        for name, level in self._levels.items():
            level.configure(specs[name], found[name])
        schemas = sorted(self._objects[_SCHEMAS].values(), key=lambda obj: (
            int(obj["spec"].get("matchingPrecedence", 0)), meta.name(obj)))
        before, self._flows = self._flows, {}
        self._order = []
        for obj in schemas:
            if level_of(obj) not in self._levels:
                continue
            level = self._levels[level_of(obj)]
            uids = meta.uid(obj), meta.uid(self._objects[_LEVELS][level.name])
            by = str((obj["spec"].get("distinguisherMethod") or {}).get("type", ""))
            flow = before.get(meta.name(obj))
            if flow is None or (flow.level, flow.uids, flow.distinguisher) != (level, uids, by):
                flow = Flow(meta.name(obj), uids, level, by)
            self._flows[flow.name] = flow
            self._order.append((obj["spec"], flow))
        self._known.clear()

    async def _tell(self) -> None:
        """Write on each schema whether its level is there."""
        for name, obj in tuple(self._objects[_SCHEMAS].items()):
            wanted = dangling(obj, level_of(obj) in self._objects[_LEVELS], meta.timestamp(self._api.clock()))
            if wanted is None:
                continue
            try:
                await own.merge(self._api, _SCHEMAS, "", name, {"status": {"conditions": wanted}}, uid=meta.uid(obj),
                                group=GROUP, subresource="status")
            except ApiError as error:
                if error.code not in (404, 409):
                    raise


def level_of(schema: Object) -> str:
    """Return the name of a schema's level."""
    return str((schema["spec"].get("priorityLevelConfiguration") or {}).get("name", ""))


def mending(there: Object, wanted: Object) -> Object | None:
    """Return the merge patch that puts an object in order that the server brings along; None where it is.

    Those that are mandatory are as they are; of the others, those whose annotation says so, or that nobody has touched.
    """
    name, said = meta.name(wanted), meta.annotations(there).get(AUTOUPDATE, "").lower()
    ours = name in MANDATORY or (said == "true" if said in ("true", "false") else there["metadata"].get(
        "generation", 1) == 1)
    change: Object = {}
    if said != ("true" if ours else "false"):
        change["metadata"] = {"annotations": {AUTOUPDATE: "true" if ours else "false"}}
    spec = wanted["spec"]
    if spec.get("type") == "Exempt" and there["spec"].get("type") == "Exempt":
        spec = there["spec"] | {"type": "Exempt"}  # its shares are anybody's to say
    if ours and there["spec"] != spec:
        change["spec"] = {key: None for key in there["spec"] if key not in spec} | spec
    return change or None


def dangling(schema: Object, there: bool, now: str) -> list[Object] | None:
    """Return the conditions of a schema with the one that tells whether its level is there; None if they are right."""
    level = level_of(schema)
    wanted = {"type": _DANGLING, "status": "False" if there else "True", "reason": "Found" if there else "NotFound",
              "message": f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" '
                         + ("and it exists" if there else "but there is no such object")}
    conditions = (schema.get("status") or {}).get("conditions") or []
    before: Object = next((row for row in conditions if row.get("type") == _DANGLING), {})
    if all(before.get(part) == text for part, text in wanted.items()):
        return None
    since = before.get("lastTransitionTime") if before.get("status") == wanted["status"] else None
    return [*(row for row in conditions if row.get("type") != _DANGLING), wanted | {"lastTransitionTime": since or now}]
