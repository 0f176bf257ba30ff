"""What sandboxes and containers share of their node."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from netlab.kernel.cgroup import Group
from netlab.runtime.cri import Event
from netlab.runtime.image import Images
from netlab.runtime.nodespec import Programs
from netlab.runtime.reaper import Reaper


@dataclass(kw_only=True)
class Context:
    """The node, as its Pods need it. `directory` is /run/netlab; `use` names binaries that stand in for programs."""

    lab: str
    name: str
    hostname: str
    directory: Path
    programs: Programs
    images: Images
    group: Group
    reaper: Reaper
    emit: Callable[[Event], None]
    env: Mapping[str, str]
    use: Mapping[str, str]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def background(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def discard_group(self, parent: Group, name: str) -> None:
        """Remove a cgroup, now or within some seconds: killed processes take a moment to leave it."""

        async def later() -> None:
            for attempt in range(60):
                if parent.discard(name):
                    return
                await asyncio.sleep(min(0.002 * 2 ** attempt, 0.1))

        if parent and not parent.discard(name):
            self.background(asyncio.get_running_loop().create_task(later()))

    def happened(self, type: str, *, sandbox: str, container: str = "", exit_code: int = 0, reason: str = "") -> None:
        """Tell the subscribers."""
        with contextlib.suppress(RuntimeError):  # no subscriber left at the very end
            self.emit(Event(type=type, at=time.time_ns(), sandbox_id=sandbox,  # type: ignore[arg-type]
                            container_id=container, exit_code=exit_code, reason=reason))
