"""The cluster as DNS sees it: small views of API objects, in the order that questions come in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from netlab.api import meta
from netlab.api.meta import Object
from netlab.client.informer import Informer
from netlab.dns.names import Endpoint, Port, Service, label_of

SERVICE_NAME = "kubernetes.io/service-name"


def service_view(obj: Object) -> Service:
    """Read a Service."""
    spec = obj.get("spec", {})
    ips = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
    external = str(spec.get("externalName") or "") if spec.get("type") == "ExternalName" else ""
    return Service(namespace=meta.namespace(obj), name=meta.name(obj),
                   cluster_ips=() if external else tuple(ip for ip in ips if ip and ip != "None"),
                   ports=tuple(_port(port) for port in spec.get("ports") or ()), external_name=external)


def endpoint_views(slice: Object) -> tuple[Endpoint, ...]:
    """Read the ready endpoints of an EndpointSlice; ready unknown counts as ready."""
    service = meta.labels(slice).get(SERVICE_NAME, "")
    if not service or slice.get("addressType") == "FQDN":
        return ()
    ports = tuple(_port(port) for port in slice.get("ports") or ())
    found = []
    for endpoint in slice.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        found += [Endpoint(meta.namespace(slice), service, ip, str(endpoint.get("hostname") or label_of(ip)).lower(),
                           ports) for ip in endpoint.get("addresses") or ()]
    return tuple(found)


class Cluster:
    """The API server's objects, kept current by informers; answers what `names.World` asks."""

    def __init__(self, services: Informer, slices: Informer, namespaces: Informer, pods: Informer | None,
                 served: Collection[str] = ()) -> None:
        self._services, self._slices, self._namespaces, self._pods = services, slices, namespaces, pods
        self._served = frozenset(served)
        services.add_index("ip", lambda obj: service_view(obj).cluster_ips)
        slices.add_index("service", lambda obj: [f"{meta.namespace(obj)}/{meta.labels(obj).get(SERVICE_NAME, '')}"])
        slices.add_index("ip", lambda obj: [endpoint.ip for endpoint in endpoint_views(obj)])
        if pods is not None:
            pods.add_index("ip", lambda obj: [item.get("ip", "") for item in obj.get("status", {}).get("podIPs") or ()])

    @property
    def synced(self) -> bool:
        """Tell whether everything has been listed once."""
        return all(informer.synced.is_set() for informer in self.informers())

    def informers(self) -> list[Informer]:
        """Return the informers, to be run."""
        return [one for one in (self._services, self._slices, self._namespaces, self._pods) if one is not None]

    def on_change(self, call: Callable[[], None]) -> None:
        """Call a function at every change of anything."""
        for informer in self.informers():
            informer.add_handler(lambda _key, _old, _new: call())

    def has_namespace(self, name: str) -> bool:
        """Tell whether the namespace exists and is served."""
        return (not self._served or name in self._served) and self._namespaces.get(name) is not None

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service."""
        obj = self._services.get(f"{namespace}/{name}")
        return service_view(obj) if obj is not None else None

    def endpoints(self, namespace: str, name: str) -> Sequence[Endpoint]:
        """Return the ready endpoints of a Service, in the order of slices' names, each once."""
        slices = sorted(self._slices.by_index("service", f"{namespace}/{name}"), key=meta.name)
        return list(dict.fromkeys(endpoint for obj in slices for endpoint in endpoint_views(obj)))

    def services_at(self, ip: str) -> Sequence[Service]:
        """Return the Services with this cluster address."""
        found = [service_view(obj) for obj in self._services.by_index("ip", ip)]
        return [service for service in found if self.has_namespace(service.namespace)]

    def endpoints_at(self, ip: str) -> Sequence[Endpoint]:
        """Return the endpoints with this address."""
        found = [endpoint for obj in self._slices.by_index("ip", ip) for endpoint in endpoint_views(obj)]
        return [endpoint for endpoint in found if endpoint.ip == ip and self.has_namespace(endpoint.namespace)]

    def has_pod(self, namespace: str, ip: str) -> bool:
        """Tell whether a Pod of the namespace has this address."""
        return self._pods is not None and any(meta.namespace(obj) == namespace for obj in self._pods.by_index("ip", ip))


def slim_service(obj: Object) -> Object:
    """Keep of a Service what DNS needs."""
    spec = obj.get("spec", {})
    return {"metadata": _metadata(obj), "spec": {key: spec.get(key) for key in
                                                 ("clusterIP", "clusterIPs", "ports", "type", "externalName")}}


def slim_slice(obj: Object) -> Object:
    """Keep of an EndpointSlice what DNS needs."""
    endpoints = [{key: item.get(key) for key in ("addresses", "conditions", "hostname")}
                 for item in obj.get("endpoints") or ()]
    return {"metadata": _metadata(obj), "addressType": obj.get("addressType"), "ports": obj.get("ports"),
            "endpoints": endpoints}


def slim_pod(obj: Object) -> Object:
    """Keep of a Pod what DNS needs."""
    return {"metadata": _metadata(obj), "status": {"podIPs": obj.get("status", {}).get("podIPs")}}


def slim_namespace(obj: Object) -> Object:
    """Keep of a Namespace its name."""
    return {"metadata": _metadata(obj)}


def _metadata(obj: Object) -> Object:
    return {key: value for key, value in obj["metadata"].items()
            if key in ("name", "namespace", "uid", "resourceVersion", "labels")}


def _port(raw: Object) -> Port:
    return Port(str(raw.get("name") or ""), int(raw.get("port") or 0), str(raw.get("protocol") or "TCP"))
