"""Port-forward over the channels of a WebSocket: for port number i of the request, channel 2i is data, 2i+1 errors.

Older than the SPDY tunnel and still served. Each channel's first message from here is its port, two bytes,
little-endian. k8s:staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiohttp import web

from netlab.errors import KernelError
from netlab.kubelet.streams.forward import both_ways, connect, refusal
from netlab.kubelet.streams.websocket import ChannelSocket

log = logging.getLogger(__name__)

PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
_QUEUE = 16
"""Messages that wait for one connection; who sends more waits, and with it the others, as upstream."""
_MOST_PORTS = 128
"""Two channels each, and a channel is one byte."""


def wanted_ports(texts: Sequence[str]) -> list[int]:
    """Return the ports that a request names.

    Raises:
        ValueError: none, too many, or one that is none.
    """
    if not texts:
        raise ValueError('query parameter "port" is required')
    ports = []
    for text in ",".join(texts).split(","):
        if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
            raise ValueError(f'unable to parse "{text}" as a port')
        ports.append(int(text))
    if len(ports) > _MOST_PORTS:
        raise ValueError(f"at most {_MOST_PORTS} ports can be forwarded at once")
    return ports


class _Lane:
    """The data channel of one port, as `both_ways` takes it."""

    def __init__(self, socket: ChannelSocket, channel: int) -> None:
        self._socket, self._channel = socket, channel
        self.queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        self.broken = asyncio.Event()

    async def read(self) -> bytes:
        return await self.queue.get()

    async def write(self, data: bytes) -> None:
        await self._socket.send(self._channel, data)

    async def take(self, data: bytes) -> None:
        """Take in what the client sent, when there is room."""
        if not self.broken.is_set():
            await self.queue.put(data)

    def end(self) -> None:
        """Take in no more, and let nobody wait for room."""
        self.broken.set()
        while not self.queue.empty():
            self.queue.get_nowait()


async def serve(request: web.BaseRequest, path: str, pod: str, ports: Sequence[int]) -> web.StreamResponse:
    """Carry one connection to each of these ports of a Pod until all are over or the client goes.

    Args:
        request: the upgrade.
        path: the Pod's network namespace.
        pod: its name, for messages.
        ports: as the request names them.
    """
    socket = ChannelSocket(request, PROTOCOLS)
    response = await socket.open()
    lanes = [_Lane(socket, 2 * at) for at in range(len(ports))]
    receiving = asyncio.create_task(_receive(socket, lanes), name="from the client")
    carrying = asyncio.create_task(_carry_all(socket, lanes, path, pod, ports), name=f"forward to {pod}")
    try:
        await asyncio.wait({receiving, carrying}, return_when=asyncio.FIRST_COMPLETED)
        if carrying.done():
            await socket.close()
    finally:
        receiving.cancel()
        carrying.cancel()
        await asyncio.gather(receiving, carrying, return_exceptions=True)
    return response


async def _receive(socket: ChannelSocket, lanes: Sequence[_Lane]) -> None:
    while (received := await socket.receive()) is not None:
        channel, data = received
        if channel % 2 == 0 and 0 <= channel // 2 < len(lanes) and data:
            await lanes[channel // 2].take(data)


async def _carry_all(socket: ChannelSocket, lanes: Sequence[_Lane], path: str, pod: str, ports: Sequence[int]) -> None:
    await asyncio.gather(*(_carry(socket, lane, 2 * at, path, pod, ports[at]) for at, lane in enumerate(lanes)))


async def _carry(socket: ChannelSocket, lane: _Lane, channel: int, path: str, pod: str, port: int) -> None:
    try:
        for each in (channel, channel + 1):
            await socket.send(each, port.to_bytes(2, "little"))
        try:
            peer = await connect(path, port)
        except (OSError, KernelError) as trouble:
            await socket.send(channel + 1, refusal(port, pod, trouble).encode())
            return
        with peer:
            await both_ways(peer, lane)
    except ConnectionError as gone:
        log.debug("a forwarded connection to %s: %s", pod, gone)
    finally:
        lane.end()
