"""Keeping a node's kubelet alive, as systemd does on a real node: restart with back-off, whatever it died of."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path

from netlab.kernel import process
from netlab.runtime import launch
from netlab.runtime.context import Context

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LAST_PAUSE = 0.1, 10.0
LOG = Path("/var/log/kubelet.log")


class Kubelet:
    """The node's kubelet. `pid` is 0 between two lives."""

    def __init__(self, node: Context, argv: tuple[str, ...]) -> None:
        self.node, self.argv, self.pid = node, argv, 0

    async def run(self) -> None:
        """Start it, wait for its end, pause, and again. The pause doubles while it does not live 10 s."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            self.pid = self._start()
            code, number = await self.node.reaper.watch(self.pid)
            self.pid = 0
            if time.monotonic() - began > _LAST_PAUSE:
                pause = _FIRST_PAUSE
            how = f"signal {number}" if number else f"code {code}"
            log.warning("kubelet ended with %s; again in %.1f s", how, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_PAUSE)

    def stop(self) -> None:
        """Ask it to end."""
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)

    def _start(self) -> int:
        argv = ("kubelet", *self.argv)

        def body() -> int:
            os.setsid()
            LOG.parent.mkdir(parents=True, exist_ok=True)
            out = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            process.set_stdio(-1, out, out)
            process.close_descriptors()
            os.environ.clear()
            os.environ.update(self.node.env)
            if "kubelet" in self.node.use:
                launch.execute(argv, self.node.env, path=self.node.use["kubelet"])
            return launch.call(self.node.programs["kubelet"], argv)

        return process.fork(body, keep=())
