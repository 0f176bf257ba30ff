"""The objects that a node's rules are made of, sorted by what they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from netlab.api import meta
from netlab.api.meta import Object
from netlab.proxy.endpoints import service_of
from netlab.proxy.services import ignored
from netlab.proxy.settings import Settings
from netlab.proxy.tracker import Tracker


@dataclass(frozen=True)
class Known:
    """`services` by `namespace/name`, `slices` by their Service, the `node` itself, and kube-proxy's view of them."""

    tracker: Tracker
    services: dict[str, Object]
    slices: dict[str, tuple[Object, ...]]
    node: Object | None

    @classmethod
    def of(cls, objects: Iterable[Object], settings: Settings) -> Known:
        """Sort objects. Services, EndpointSlices and Nodes matter."""
        tracker = Tracker(settings.family)
        services: dict[str, Object] = {}
        slices: dict[str, tuple[Object, ...]] = {}
        node: Object | None = None
        for each in objects:
            kind, key = each.get("kind"), meta.key(each)
            if kind == "Service":
                services[key] = each
                if not ignored(each):
                    tracker.service(key, each)
            elif kind == "EndpointSlice":
                tracker.slice(key, each)
                slices[service_of(each)] = (*slices.get(service_of(each), ()), each)
            elif kind == "Node" and key == settings.node:
                node = each
        return cls(tracker, services, slices, node)
