"""Waiting for children, as pid 1 has to: ours, and every orphan that is handed down to us."""

from __future__ import annotations

import asyncio
import os
import signal

from netlab.kernel import process


class Reaper:
    """Collects every dead child of this process. Register a pid before the loop runs again after its fork."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[tuple[int, int]]] = {}

    def start(self) -> None:
        """Begin; SIGCHLD is ours from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)
        self.reap()

    def watch(self, pid: int) -> asyncio.Future[tuple[int, int]]:
        """Return a future of (exit code, signal or 0)."""
        future: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self._waiting[pid] = future
        return future

    def reap(self) -> None:
        """Collect what is dead by now."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            future = self._waiting.pop(pid, None)
            if future is not None and not future.done():
                future.set_result(process.exit_code(status))
