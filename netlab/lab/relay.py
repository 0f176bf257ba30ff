"""The relay: from a lab to an external etcd, which is reached from the host's network.

The mirror of the gate: its listening sockets belong to the lab's networks, where the holder opens them, while the
process stays in the host's. It is two processes: the one that works, and one that starts it again, since nobody of the
lab could: the host's network is out of their reach. Both end with the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time

from netlab import klog
from netlab.errors import TemporaryError
from netlab.kernel.process import set_title
from netlab.lab import control
from netlab.lab.gate import Gate

log = logging.getLogger(__name__)

_PAUSE = 1.0


class Relay:
    """Passes connections on; what it listens on comes from the holder, and anew when a node has booted."""

    def __init__(self, holder: socket.socket) -> None:
        self._holder = holder
        self._stops: dict[str, list[asyncio.Event]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = asyncio.Event()

    async def run(self) -> None:
        """Serve until the holder is gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end.set)
        loop.add_reader(self._holder.fileno(), self._heard)
        with contextlib.suppress(OSError):
            control.send(self._holder, {"op": "ways"})
        await self._end.wait()

    def _heard(self) -> None:
        try:
            got = control.receive(self._holder)
        except (TemporaryError, OSError):
            got = None
        if got is None:
            self._end.set()
            return
        message, fds = got
        stops = self._stops.setdefault(message["place"], [])
        for stop in stops:  # these belong to a network that is gone, which they would keep
            stop.set()
        stops.clear()
        for (host, port), fd in zip(message["targets"], fds, strict=True):
            stops.append(asyncio.Event())
            task = asyncio.get_running_loop().create_task(Gate([(host, port)]).run(socket.socket(fileno=fd), stops[-1]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def main(argv: list[str]) -> int:
    """Run a relay: argv is the lab's name and the descriptor of its end of the holder's socket."""
    set_title(["netlab-relay", argv[0]])
    klog.setup()
    holder = socket.socket(fileno=int(argv[1]))
    while True:
        pid = os.fork()
        if not pid:
            asyncio.run(Relay(holder).run())
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            return 0
        log.warning("the relay is gone, starting another")
        time.sleep(_PAUSE)
