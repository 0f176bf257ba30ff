"""Userspace mode's choice among endpoints: in turn, or the one that a client had before.

(kubernetes: pkg/proxy/userspace/roundrobin.go, until v1.25)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Balancer:
    """The endpoints of one Service port, `ip:port` each, and whose turn it is.

    `affinity_seconds` is how long a client address keeps its endpoint after it was last seen, 0 for no affinity.
    """

    affinity_seconds: int = 0
    endpoints: tuple[str, ...] = ()
    _turn: int = 0
    _clients: dict[str, tuple[str, float]] = field(default_factory=dict)

    def update(self, endpoints: Sequence[str], affinity_seconds: int) -> None:
        """Take other endpoints; clients of those that are gone are free again."""
        self.affinity_seconds = affinity_seconds
        if not affinity_seconds:
            self._clients.clear()
        if set(endpoints) == set(self.endpoints):
            return
        self.endpoints, self._turn = tuple(endpoints), 0
        self._clients = {client: seen for client, seen in self._clients.items() if seen[0] in self.endpoints}

    def next(self, client: str, now: float, *, anew: bool = False) -> str:
        """Return the endpoint of a client address, "" when there is none.

        Args:
            client: its address.
            now: seconds of a steady clock.
            anew: forget where it was before: that endpoint did not answer.
        """
        if not self.endpoints:
            return ""
        if self.affinity_seconds and not anew:
            endpoint, at = self._clients.get(client, ("", 0.0))
            if endpoint and now - at < self.affinity_seconds:
                self._clients[client] = endpoint, now
                return endpoint
        endpoint = self.endpoints[self._turn % len(self.endpoints)]
        self._turn = (self._turn + 1) % len(self.endpoints)
        if self.affinity_seconds:
            self._clients[client] = endpoint, now
        return endpoint

    def forget_idle(self, now: float) -> None:
        """Drop the clients whose time is over, so that their number stays bounded by who is active."""
        self._clients = {client: seen for client, seen in self._clients.items()
                         if now - seen[1] < self.affinity_seconds}
