"""What the workers of one kubelet share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from netlab.api.meta import Object
from netlab.client.client import Client
from netlab.kubelet.backoff import Backoff
from netlab.kubelet.containers import Means
from netlab.kubelet.reporter import Reporter
from netlab.kubelet.sandboxes import Sandboxes
from netlab.kubelet.volumes.setup import Volumes


@dataclass(frozen=True)
class Node:
    """What the workers of one kubelet share."""

    means: Means
    sandboxes: Sandboxes
    volumes: Volumes
    reporter: Reporter
    client: Client | None
    crashes: Backoff
    host_ips: Callable[[], tuple[str, ...]]
    allocatable: Callable[[], dict[str, str]]
    services_known: Callable[[], Awaitable[None]]
    """Returns when all Services have been read, so that containers get their variables; raises TemporaryError."""
    admit: Callable[[Object], tuple[str, str] | None]
    """(reason, message) when a Pod that is new here can't be taken, else None."""
    may_start: Callable[[Object], bool]
    """False while an older static Pod of the same name is still ending."""
