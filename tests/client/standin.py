"""A stand-in for the API server that does what it is told: list, watch, write, and every way to fail a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from aiohttp import web

from netlab.client.client import Client
from netlab.client.config import Config


class StandIn:
    """Objects of any resource by URL path, one log of events, and switches for trouble."""

    def __init__(self) -> None:
        self.revision = 10
        self.objects: dict[str, dict] = {}
        self.log: list[tuple[int, str, str, dict]] = []
        self.compacted = 0
        self.refuse = 0
        """Answer so many requests with 503."""
        self.busy = 0
        """Answer so many requests with 429, to be asked again at once."""
        self.lists = self.watches = 0
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self._changed = asyncio.Condition()
        self._open: set[asyncio.Task] = set()
        self.port = 0

    def cut(self) -> None:
        """Break all watches in the middle."""
        for task in list(self._open):
            task.cancel()

    async def put(self, path: str, name: str, **fields: object) -> dict:
        """Create or change an object in the collection at `path`."""
        key = f"{path}/{name}"
        self.revision += 1
        old = self.objects.get(key)
        space = path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in path else ""
        obj = {"metadata": {"name": name, "uid": (old or {}).get("metadata", {}).get("uid", f"u{self.revision}"),
                            "resourceVersion": str(self.revision), **({"namespace": space} if space else {})}, **fields}
        self.objects[key] = obj
        await self._tell("MODIFIED" if old else "ADDED", path, obj)
        return obj

    async def drop(self, path: str, name: str) -> None:
        """Delete an object."""
        obj = self.objects.pop(f"{path}/{name}")
        self.revision += 1
        await self._tell("DELETED", path, {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision)}})

    async def _tell(self, kind: str, path: str, obj: dict) -> None:
        async with self._changed:
            self.log.append((self.revision, kind, path, obj))
            self._changed.notify_all()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        body = await request.read()
        self.bodies.append(body)
        if self.refuse:
            self.refuse -= 1
            return web.Response(status=503, text="not now")
        if self.busy:
            self.busy -= 1
            return web.Response(status=429, text="Too many requests, please try again later.", headers={"Retry-After": "0"})
        path, _, name = request.path.rpartition("/")
        if request.method == "GET" and request.query.get("watch"):
            return await self._watch(request)
        if request.method == "GET" and request.path in self.objects:
            return web.json_response(self.objects[request.path])
        if request.method == "GET" and any(request.path in ("/readyz", p) for p in self.collections()):
            self.lists += 1
            items = [obj for key, obj in self.objects.items() if key.rpartition("/")[0] == request.path]
            return web.json_response({"metadata": {"resourceVersion": str(self.revision)}, "items": items})
        if request.method == "POST":
            obj = orjson.loads(body)
            if f"{request.path}/{obj['metadata']['name']}" in self.objects:
                return self.status(409, "AlreadyExists", f"{obj['metadata']['name']} already exists")
            made = await self.put(request.path, obj["metadata"]["name"], **{k: v for k, v in obj.items()
                                                                           if k != "metadata"})
            return web.json_response(made, status=201)
        if request.path not in self.objects:
            return self.status(404, "NotFound", f'pods "{name}" not found')
        if request.method == "PUT":
            obj = orjson.loads(body)
            wanted = obj["metadata"].get("resourceVersion")
            if wanted and wanted != self.objects[request.path]["metadata"]["resourceVersion"]:
                return self.status(409, "Conflict", "the object has been modified")
            return web.json_response(await self.put(path, name, **{k: v for k, v in obj.items() if k != "metadata"}))
        if request.method == "PATCH":
            old = {k: v for k, v in self.objects[request.path].items() if k != "metadata"}
            return web.json_response(await self.put(path, name, **{**old, **orjson.loads(body)}))
        await self.drop(path, name)
        return web.json_response({"kind": "Status", "status": "Success"})

    def collections(self) -> list[str]:
        return ["/api/v1/pods", "/api/v1/events", *{key.rpartition("/")[0] for key in self.objects}]

    def status(self, code: int, reason: str, message: str) -> web.Response:
        return web.json_response({"kind": "Status", "status": "Failure", "code": code, "reason": reason,
                                  "message": message, "details": {"name": "x"}}, status=code)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watches += 1
        after = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if after < self.compacted:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(orjson.dumps({"type": "ERROR", "object": gone}) + b"\n")
            return response
        self._open.add(asyncio.current_task())
        try:
            while True:
                for revision, kind, path, obj in list(self.log):
                    if revision > after and path == request.path:
                        after = revision
                        await response.write(orjson.dumps({"type": kind, "object": obj}) + b"\n")
                async with self._changed:
                    if not self.log or self.log[-1][0] <= after:
                        await self._changed.wait()
        except asyncio.CancelledError:
            await response.write(b'{"type":"ADDED","obj')  # half a line, then the connection goes
            request.transport.abort()
            return response
        finally:
            self._open.discard(asyncio.current_task())


@asynccontextmanager
async def standin() -> AsyncIterator[tuple[StandIn, Client]]:
    """Run one on a free port of the loopback; yield it and a client of it."""
    server = StandIn()
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = site._server.sockets[0].getsockname()[1]
    try:
        async with Client(Config(f"http://127.0.0.1:{server.port}"), "kube-test") as client:
            yield server, client
    finally:
        server.cut()
        await runner.cleanup()


async def until(condition, seconds: float = 5.0) -> None:
    """Wait until a condition holds, turn by turn of the loop."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
