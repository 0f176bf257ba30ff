"""A few lines of API server for kube-proxy: list and watch of what it is given, over plain HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from aiohttp import web

from netlab.kernel import netns

PATHS = {"/api/v1/services": "Service", "/apis/discovery.k8s.io/v1/endpointslices": "EndpointSlice",
         "/api/v1/nodes": "Node", "/apis/networking.k8s.io/v1/servicecidrs": "ServiceCIDR"}


class ApiStub:
    """Objects by kind and key; `put` and `remove` reach every watcher."""

    def __init__(self) -> None:
        self.revision = 1
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in PATHS.values()}
        self.watchers: dict[str, list[asyncio.Queue[bytes]]] = {kind: [] for kind in PATHS.values()}
        self.url = ""
        self.gone: list[tuple[int, str, dict[str, Any]]] = []
        self.oldest = 0
        self.hung: asyncio.Event | None = None
        self.runner: web.AppRunner | None = None

    def hang(self) -> None:
        """Take connections and answer nothing, as a machine does that is out of memory, until `wake`."""
        self.hung = asyncio.Event()

    def wake(self) -> None:
        """Answer again. What happened meanwhile is history that is not kept: whoever watched has to list."""
        assert self.hung is not None
        self.oldest = self.revision
        self.hung.set()
        self.hung = None

    def put(self, *objects: dict[str, Any]) -> None:
        for obj in objects:
            kind = obj["kind"]
            key = obj["metadata"].get("namespace", "") + "/" + obj["metadata"]["name"]
            self.revision += 1
            verb = "MODIFIED" if key in self.objects[kind] else "ADDED"
            stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.revision),
                                          "uid": obj["metadata"].get("uid", key)}}
            self.objects[kind][key] = stored
            self.tell(kind, verb, stored)

    def remove(self, kind: str, key: str) -> None:
        self.revision += 1
        gone = self.objects[kind].pop(key)
        gone["metadata"]["resourceVersion"] = str(self.revision)
        self.gone.append((self.revision, kind, gone))
        self.tell(kind, "DELETED", gone)

    def tell(self, kind: str, verb: str, obj: dict[str, Any]) -> None:
        if self.hung is not None:
            return
        line = json.dumps({"type": verb, "object": obj}).encode() + b"\n"
        for queue in self.watchers[kind]:
            queue.put_nowait(line)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.hung is not None:
            await self.hung.wait()
        kind = PATHS[request.path]
        only = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        objects = [each for each in self.objects[kind].values() if only in ("", each["metadata"]["name"])]
        if request.query.get("watch") not in ("1", "true"):
            return web.json_response({"kind": f"{kind}List", "apiVersion": "v1",
                                      "metadata": {"resourceVersion": str(self.revision)},
                                      "items": objects})
        if int(request.query.get("resourceVersion") or 0) < self.oldest:
            return web.json_response({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}, status=410)
        response = web.StreamResponse()
        response.content_type = "application/json"
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        since = int(request.query.get("resourceVersion") or 0)
        for obj in objects:
            if int(obj["metadata"]["resourceVersion"]) > since:
                queue.put_nowait(json.dumps({"type": "MODIFIED", "object": obj}).encode() + b"\n")
        for revision, owner, obj in self.gone:  # who lists and then watches misses nothing in between
            key = obj["metadata"].get("namespace", "") + "/" + obj["metadata"]["name"]
            if owner == kind and revision > since and key not in self.objects[kind]:
                queue.put_nowait(json.dumps({"type": "DELETED", "object": obj}).encode() + b"\n")
        self.watchers[kind].append(queue)
        await response.prepare(request)
        try:
            while True:
                line = await queue.get()
                if not line:
                    return response
                await response.write(line)
        finally:
            self.watchers[kind].remove(queue)

    async def node(self, request: web.Request) -> web.StreamResponse:
        if self.hung is not None:
            await self.hung.wait()
        found = self.objects["Node"].get(f"/{request.match_info['name']}")
        return web.json_response(found or {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such node"},
                                 status=200 if found else 404)

    async def stop(self, runner: web.AppRunner) -> None:
        for queues in self.watchers.values():
            for queue in queues:
                queue.put_nowait(b"")
        await (self.runner or runner).cleanup()

    async def close(self) -> None:
        """Stop listening: connections are refused until `open`."""
        assert self.runner is not None
        await self.stop(self.runner)

    async def open(self, netns_fd: int | None = None) -> None:
        """Listen again where it was, as a new process without history."""
        self.oldest = self.revision
        with netns.within(netns_fd):
            sock = socket.create_server(("127.0.0.1", int(self.url.rpartition(":")[2])))
        await self.start(sock)

    async def start(self, sock: socket.socket | None = None, without: str = "") -> web.AppRunner:
        """Serve on loopback, or on a socket of another namespace; `without` is a kind that this server does not know."""
        app = web.Application()
        for path, kind in PATHS.items():
            if kind != without:
                app.router.add_get(path, self.answer)
        app.router.add_get("/api/v1/nodes/{name}", self.node)
        self.runner = runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        sock = sock or socket.create_server(("127.0.0.1", 0))
        site = web.SockSite(runner, sock)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner
