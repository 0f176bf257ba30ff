"""What the container runtime has, as frozen values: the shape that decisions and statuses are made from.

`observe.py` fills them from the runtime's own answers, so nothing else here depends on its wire form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["created", "running", "exited", "unknown"]
RUNTIME = "netlab"
"""The scheme of container ids in statuses, and the runtime's name in nodeInfo."""


@dataclass(frozen=True)
class Container:
    """One container that the runtime knows. Times are Unix seconds, 0.0 when it has not come to that."""

    id: str
    name: str
    sandbox_id: str
    attempt: int
    state: State
    image: str = ""
    image_id: str = ""
    hash: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""

    @property
    def running(self) -> bool:
        """Tell whether its process runs."""
        return self.state == "running"

    @property
    def url(self) -> str:
        """Return the id as statuses show it."""
        return f"{RUNTIME}://{self.id}"


@dataclass(frozen=True)
class Sandbox:
    """One sandbox: the pause process and the namespaces that it holds. `ips` is empty until the network is made."""

    id: str
    attempt: int
    ready: bool
    created_at: float = 0.0
    netns: str = ""
    ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class PodRecord:
    """All that the runtime has of one Pod: newest sandbox and newest containers first."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def sandbox(self) -> Sandbox | None:
        """Return the newest sandbox."""
        return self.sandboxes[0] if self.sandboxes else None

    def latest(self, name: str, *, sandbox_id: str = "") -> Container | None:
        """Return the newest container of that name, optionally only one of that sandbox."""
        return next((c for c in self.containers if c.name == name and sandbox_id in ("", c.sandbox_id)), None)

    def previous(self, name: str) -> Container | None:
        """Return the container before the newest of that name."""
        found = [c for c in self.containers if c.name == name]
        return found[1] if len(found) > 1 else None

    def running(self) -> tuple[Container, ...]:
        """Return the containers that run or are about to."""
        return tuple(c for c in self.containers if c.state in ("running", "created", "unknown"))

    @property
    def gone(self) -> bool:
        """Tell whether nothing of the Pod runs any more."""
        return not self.running() and not any(s.ready for s in self.sandboxes)


def ordered(uid: str, name: str, namespace: str, sandboxes: Iterable[Sandbox],
            containers: Iterable[Container]) -> PodRecord:
    """Return a record with the newest first, which is what its readers rely on."""
    return PodRecord(uid, name, namespace,
                     tuple(sorted(sandboxes, key=lambda s: (s.created_at, s.attempt), reverse=True)),
                     tuple(sorted(containers, key=lambda c: (c.attempt, c.created_at), reverse=True)))
