"""Objects as the API server sends them, and a client that has just them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

from netlab.api import meta
from netlab.api.meta import Object

_revisions = itertools.count(1)


def metadata(name: str, namespace: str = "", **more: Any) -> Object:
    number = str(next(_revisions))
    return {"name": name, "uid": f"uid-{number}", "resourceVersion": number, **more} \
        | ({"namespace": namespace} if namespace else {})


def a_namespace(name: str) -> Object:
    return {"metadata": metadata(name)}


def a_service(name: str, namespace: str = "default", *, ips: tuple[str, ...] = ("10.96.0.1",),
              ports: tuple[tuple[str, int, str], ...] = (("http", 80, "TCP"),), external: str = "") -> Object:
    spec: Object = {"clusterIP": ips[0], "clusterIPs": list(ips),
                    "ports": [{"name": n, "port": p, "protocol": protocol} for n, p, protocol in ports]}
    if external:
        spec = {"type": "ExternalName", "externalName": external}
    return {"metadata": metadata(name, namespace), "spec": spec}


def a_slice(service: str, namespace: str = "default", *, endpoints: tuple[Object, ...] = (),
            ports: tuple[tuple[str, int, str], ...] = (("http", 8080, "TCP"),)) -> Object:
    return {"metadata": metadata(f"{service}-{next(_revisions)}", namespace,
                                 labels={"kubernetes.io/service-name": service}),
            "addressType": "IPv4", "endpoints": list(endpoints),
            "ports": [{"name": n, "port": p, "protocol": protocol} for n, p, protocol in ports]}


def an_endpoint(*ips: str, hostname: str = "", ready: bool | None = True) -> Object:
    return {"addresses": list(ips), "conditions": {"ready": ready}} | ({"hostname": hostname} if hostname else {})


def a_pod(name: str, namespace: str = "default", *, ip: str) -> Object:
    return {"metadata": metadata(name, namespace), "status": {"podIPs": [{"ip": ip}]}}


class Api:
    """A client over these objects alone: lists them, and sends what `put` and `remove` are given to its watches."""

    def __init__(self, **objects: list[Object]) -> None:
        self.objects = {name: {meta.key(obj): obj for obj in listed} for name, listed in objects.items()}
        self._watches: dict[str, list[asyncio.Queue[tuple[str, Object]]]] = {}

    async def list(self, resource: Any, namespace: str = "", **_: Any) -> tuple[list[Object], str]:
        return list(self.objects.get(resource.plural, {}).values()), str(next(_revisions))

    async def watch(self, resource: Any, namespace: str = "", **_: Any) -> AsyncIterator[tuple[str, Object]]:
        queue: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        self._watches.setdefault(resource.plural, []).append(queue)
        while True:
            yield await queue.get()

    def put(self, plural: str, obj: Object) -> None:
        known = meta.key(obj) in self.objects.setdefault(plural, {})
        self.objects[plural][meta.key(obj)] = obj
        self._send(plural, "MODIFIED" if known else "ADDED", obj)

    def remove(self, plural: str, obj: Object) -> None:
        del self.objects[plural][meta.key(obj)]
        gone = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(next(_revisions))}}
        self._send(plural, "DELETED", gone)

    def _send(self, plural: str, kind: str, obj: Object) -> None:
        for queue in self._watches.get(plural, []):
            queue.put_nowait((kind, obj))
