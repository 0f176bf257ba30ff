"""How kube-proxy says that it is well: /healthz and /livez (kubernetes: pkg/proxy/healthcheck/proxy_health.go)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from netlab.api.meta import Object, deleting
from netlab.proxy.metrics import Metrics

AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"


@dataclass
class ProxyHealth:
    """When each family last had a change to write, and when it last wrote.

    A family is healthy when it wrote at least once and no change has waited longer than `patience` seconds. What has
    waited is told by the monotonic clock (`now`), because a clock that is set must not make a proxy ill;
    `last_updated`, for people, is in seconds since the Unix epoch (`at`).
    """

    patience: float
    last_updated: dict[str, float] = field(default_factory=dict)
    oldest_pending: dict[str, float] = field(default_factory=dict)
    node_eligible: bool = True

    def expect(self, *families: str) -> None:
        """Say which families there are; none of them is healthy before its first sync."""
        self.last_updated |= dict.fromkeys(families, 0.0)

    def queued(self, family: str, now: float) -> None:
        """A family has something to write."""
        self.oldest_pending.setdefault(family, now)

    def updated(self, family: str, at: float) -> None:
        """A family wrote everything that it had."""
        self.oldest_pending.pop(family, None)
        self.last_updated[family] = at

    def see_node(self, node: Object | None) -> None:
        """Take in the node: load balancers are to leave one that is going away."""
        taints = ((node or {}).get("spec") or {}).get("taints") or ()
        self.node_eligible = (node is not None and not deleting(node)
                              and not any(taint.get("key") == AUTOSCALER_TAINT for taint in taints))

    def families(self, now: float) -> Mapping[str, bool]:
        """Return whether each family is healthy."""
        return {name: at > 0 and now - self.oldest_pending.get(name, now) <= self.patience
                for name, at in self.last_updated.items()}

    def healthy(self, now: float) -> bool:
        """Tell whether every family is healthy."""
        found = self.families(now)
        return bool(found) and all(found.values())

    def body(self, now: float, at: float, *, with_node: bool) -> dict[str, Any]:
        """Return the JSON answer."""
        families = self.families(now)
        result: dict[str, Any] = {
            "lastUpdated": _rfc3339(max(self.last_updated.values(), default=0.0)), "currentTime": _rfc3339(at)}
        if with_node:
            result["nodeEligible"] = self.node_eligible
        result["healthy"] = self.healthy(now)
        result["status"] = {name: {"lastUpdated": _rfc3339(self.last_updated[name]), "healthy": well}
                            for name, well in families.items()}
        return result


def application(health: ProxyHealth, metrics: Metrics) -> web.Application:
    """Return the HTTP server of /healthz (also about the node) and /livez (about the proxy alone)."""

    async def healthz(_: web.Request) -> web.Response:
        now = time.monotonic()
        well = health.healthy(now) and health.node_eligible
        return answer("proxy_healthz_total", well, health.body(now, time.time(), with_node=True))

    async def livez(_: web.Request) -> web.Response:
        now = time.monotonic()
        return answer("proxy_livez_total", health.healthy(now), health.body(now, time.time(), with_node=False))

    def answer(metric: str, well: bool, body: dict[str, Any]) -> web.Response:
        code = 200 if well else 503
        metrics.add(metric, str(code))
        return web.json_response(body, status=code, headers={"X-Content-Type-Options": "nosniff"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/livez", livez)
    return app


def _rfc3339(at: float) -> str:
    if not at:
        return "0001-01-01T00:00:00Z"  # Go's zero time, which is what upstream prints before the first sync
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e9):09d}Z"
