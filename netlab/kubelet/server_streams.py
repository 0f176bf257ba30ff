"""/exec, /attach and /portForward: from a request to a conversation, over whichever protocol the client offers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from netlab.api import meta
from netlab.errors import NetlabError
from netlab.kubelet import spec
from netlab.kubelet.records import Container
from netlab.kubelet.server_logs import find
from netlab.kubelet.streams import forward_channels, remote, spdy_exec
from netlab.kubelet.streams.carriers import Tunnel, Upgraded
from netlab.kubelet.streams.forward import PROTOCOL, TUNNEL, Forwarder
from netlab.kubelet.streams.remote import Channel
from netlab.kubelet.streams.spdy_exec import SpdyCarrier
from netlab.kubelet.streams.websocket import WebSocketCarrier
from netlab.runtime.shimclient import Streams

if TYPE_CHECKING:
    from netlab.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)

_NAMES = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


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
        tty = _wants(request, "tty")

        async def begin() -> Streams:
            return await self._kubelet.shim.exec(found.id, command, tty=tty, stdin=_wants(request, "stdin"),
                                                 stderr=_wants(request, "stderr"))

        return await _converse(request, begin, tty=tty, attached=False)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """Join the streams of a container's first process."""
        found = self._container(request)
        if isinstance(found, web.Response):
            return found

        async def begin() -> Streams:
            return await self._kubelet.shim.attach(found.id, stdin=_wants(request, "stdin"),
                                                   stdout=_wants(request, "stdout"), stderr=_wants(request, "stderr"))

        return await _converse(request, begin, tty=_wants(request, "tty"), attached=True)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        """Carry connections to a Pod's ports, over SPDY or SPDY inside WebSocket."""
        name = request.match_info["pod"]
        worker = find(self._kubelet, request.match_info["namespace"], name)
        sandbox = self._kubelet.observer.record(worker.uid).sandbox if worker else None
        if worker is None or sandbox is None or not sandbox.ready:
            return web.Response(status=404, text=f'pod "{name}" is not running\n')
        forwarder = Forwarder(sandbox.netns, meta.key(worker.pod))
        below: Tunnel | Upgraded
        if _upgrade(request) == "websocket":
            if TUNNEL not in _words(request, "Sec-WebSocket-Protocol"):
                try:
                    ports = forward_channels.wanted_ports(request.query.getall("port", []))
                except ValueError as error:
                    return web.Response(status=400, text=f"{error}\n")
                return await forward_channels.serve(request, forwarder.path, forwarder.pod, ports)
            below = Tunnel(request, TUNNEL)
        elif _upgrade(request) == "spdy/3.1":
            below = Upgraded(request, {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": PROTOCOL})
        else:
            return web.Response(status=400, text="unable to upgrade: SPDY/3.1 or WebSocket expected\n")
        response = await below.open()
        await forwarder.serve(below)
        return response

    def _container(self, request: web.Request) -> Container | web.Response:
        name, container = request.match_info["pod"], request.match_info["container"]
        worker = find(self._kubelet, request.match_info["namespace"], name)
        if worker is None:
            return web.Response(status=404, text="pod does not exist\n")
        found = self._kubelet.observer.record(worker.uid).latest(container)
        if found is None or not found.running or spec.container(worker.pod, container) is None:
            return web.Response(status=500, text=f'container not found ("{container}")\n')
        return found


async def _converse(request: web.Request, begin: Callable[[], Awaitable[Streams]], *, tty: bool,
                    attached: bool) -> web.StreamResponse:
    """Upgrade, then start the streams, so that a failed start is told inside the protocol."""
    if _upgrade(request) == "websocket":
        socket = WebSocketCarrier(request, _channels(request, tty=tty))
        response: web.StreamResponse = await socket.open()
        await _begin(socket, begin, attached=attached)
        return response
    if _upgrade(request) != "spdy/3.1":
        return web.Response(status=400, text="unable to upgrade: WebSocket or SPDY/3.1 expected\n")
    protocol = next((p for p in spdy_exec.PROTOCOLS if p in _words(request, "X-Stream-Protocol-Version")), "")
    if not protocol:
        return web.Response(status=403, text="unable to upgrade: unable to negotiate protocol: client supports "
                                             f"{_words(request, 'X-Stream-Protocol-Version')}\n")
    below = Upgraded(request, {"Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol})
    response = await below.open()
    try:
        async with SpdyCarrier(below, _channels(request, tty=tty)) as carrier:
            await _begin(carrier, begin, attached=attached)
    except ConnectionError as error:
        log.debug("exec over SPDY: %s", error)
    return response


async def _begin(carrier: remote.Carrier, begin: Callable[[], Awaitable[Streams]], *, attached: bool) -> None:
    try:
        streams = await begin()
    except NetlabError as error:
        await carrier.finish(remote.failed(str(error)))
        return
    await remote.converse(streams, carrier, attached=attached)


def _channels(request: web.Request, *, tty: bool) -> list[Channel]:
    """Return the streams that the client is going to open."""
    wanted = [channel for channel in (Channel.STDIN, Channel.STDOUT) if _wants(request, channel.name.lower())]
    if _wants(request, "stderr") and not tty:
        wanted.append(Channel.STDERR)
    return [*wanted, Channel.RESIZE] if tty else wanted


def _wants(request: web.Request, stream: str) -> bool:
    """Read a stream's flag: the API server's name for it, or the kubelet's own older one."""
    return any(request.query.get(name, "").lower() in ("1", "true") for name in (stream, _NAMES[stream]))


def _upgrade(request: web.Request) -> str:
    return request.headers.get("Upgrade", "").lower()


def _words(request: web.Request, header: str) -> list[str]:
    """Return the words of a header that is a list, on one line or several."""
    return [word.strip() for line in request.headers.getall(header, []) for word in line.split(",") if word.strip()]
