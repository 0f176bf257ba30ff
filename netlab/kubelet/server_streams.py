"""/exec, /attach and /portForward: from a request to a conversation, over whichever protocol the client offers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from netlab.errors import NetlabError
from netlab.kubelet import spec
from netlab.kubelet.records import Container
from netlab.kubelet.server_logs import find
from netlab.kubelet.streams import remote
from netlab.kubelet.streams.websocket import WebSocketCarrier
from netlab.runtime.shimclient import Streams

if TYPE_CHECKING:
    from netlab.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)


class StreamServer:
    """Serves conversations with containers."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Run a command in a container."""
        command = request.query.getall("command", [])
        if not command:
            return web.Response(status=400, text="you must specify at least 1 command\n")
        found = self._container(request)
        if isinstance(found, web.Response):
            return found

        async def begin() -> Streams:
            return await self._kubelet.shim.exec(
                found.id, command, tty=_wants(request, "tty"), stdin=_wants(request, "stdin"),
                stderr=_wants(request, "stderr"))

        return await self._converse(request, begin, attached=False)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Join the streams of a container's first process."""
        found = self._container(request)
        if isinstance(found, web.Response):
            return found

        async def begin() -> Streams:
            return await self._kubelet.shim.attach(
                found.id, stdin=_wants(request, "stdin"), stdout=_wants(request, "stdout"),
                stderr=_wants(request, "stderr"))

        return await self._converse(request, begin, attached=True)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        """Carry connections to a Pod's ports."""
        log.debug("port-forward to %s", request.match_info["pod"])
        return web.Response(status=400, text="unable to upgrade connection\n")

    def _container(self, request: web.Request) -> Container | web.Response:
        name, container = request.match_info["pod"], request.match_info["container"]
        worker = find(self._kubelet, request.match_info["namespace"], name)
        if worker is None:
            return web.Response(status=404, text="pod does not exist\n")
        found = self._kubelet.observer.record(worker.uid).latest(container)
        if found is None or not found.running or spec.container(worker.pod, container) is None:
            return web.Response(status=500, text=f'container not found ("{container}")\n')
        return found

    async def _converse(self, request: web.Request, begin: Callable[[], Awaitable[Streams]], *,
                        attached: bool) -> web.StreamResponse:
        """Upgrade, then start the streams, so that a failed start is told inside the protocol."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=400, text="unable to upgrade: WebSocket expected\n")
        carrier = WebSocketCarrier(request)
        response = await carrier.open()
        try:
            streams = await begin()
        except NetlabError as error:
            await carrier.finish(remote.failed(str(error)))
            return response
        await remote.converse(streams, carrier, attached=attached)
        return response


_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


def _wants(request: web.Request, stream: str) -> bool:
    """Read a stream's flag: the API server's name for it, or the kubelet's own older one."""
    return any(request.query.get(name, "").lower() in ("1", "true") for name in (stream, _NAMES[stream]))
