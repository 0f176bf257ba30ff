"""What the API server itself keeps in place: four namespaces, two priority classes, its own Service and endpoints.

A loop looks again every few seconds, so that what somebody deleted comes back (upstream: kubernetesservice controller,
systemnamespaces controller).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging

import orjson

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver import own
from netlab.apiserver.admission.priority import SYSTEM_CLASSES
from netlab.apiserver.api import Api
from netlab.apiserver.auth import aggregate, defaults
from netlab.apiserver.auth.policy import RBAC
from netlab.apiserver.health import ADDRESSES, NAMESPACES_MADE, OWN_SERVICE, PRIORITIES, ROLES, TRACKING, TRUST
from netlab.apiserver.strategies.service import ServiceStrategy
from netlab.errors import NetlabError

log = logging.getLogger(__name__)

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SECONDS = 10.0
_TRACKING_MAP = "kube-apiserver-legacy-service-account-token-tracking"
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


async def restore(api: Api) -> None:
    """Hold the addresses and ports of all stored Services; say which are held twice."""
    endpoint = api.endpoints[("", "v1", "services")]
    strategy = endpoint.strategy
    assert isinstance(strategy, ServiceStrategy)
    for kv in (await api.store.list(endpoint.folder.prefix)).kvs:
        obj = endpoint.view(kv)
        for complaint in strategy.restore(obj):
            log.warning("service %s/%s: %s", obj["metadata"].get("namespace"), obj["metadata"]["name"], complaint)


async def namespaces(api: Api) -> None:
    """Make the namespaces that are missing.

    Raises:
        ApiError: the store or a check refused it.
    """
    for name in NAMESPACES:
        await own.create(api, "", "namespaces", "", {"kind": "Namespace", "apiVersion": "v1",
                                                     "metadata": {"name": name}})
    api.ready.add(NAMESPACES_MADE)


async def roles(api: Api) -> None:
    """With RBAC on, put the default roles and bindings in place; to be done before anybody is answered.

    Raises:
        ApiError: the store or a check refused it.
    """
    if api.rbac is None:
        return
    await namespaces(api)

    async def put(plural: str, wanted: Object, change: defaults.Change) -> None:
        endpoint = api.endpoints[(RBAC, "v1", plural)]
        there = await own.create(api, RBAC, plural, wanted["metadata"].get("namespace", ""), wanted)
        new = None if there is None else change(endpoint.view(there))
        if there is not None and new is not None:
            await api.store.update(there.key, endpoint.encode(new), there.mod_revision)

    await defaults.ensure(put)
    await aggregate.settle(api)
    api.ready.add(ROLES)


async def ensure(api: Api) -> None:
    """Make what is missing, once.

    Raises:
        ApiError: the store or a check refused it.
    """
    await namespaces(api)
    for name, value in SYSTEM_CLASSES.items():
        await own.create(api, "scheduling.k8s.io", "priorityclasses", "", {
            "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name}, "value": value,
            "description": f"Used for {name.removeprefix('system-').replace('-', ' ')} pods of the system."})
    api.ready.add(PRIORITIES)
    await api.flows.ensure()
    if trusted := _trusted(api):
        await own.put(api, "", "configmaps", {
            "kind": "ConfigMap", "apiVersion": "v1", "data": trusted,
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}}, ("data",))
    api.ready.add(TRUST)
    await _tracking(api)
    api.ready.add(TRACKING)
    address = api.stock.addresses[api.stock.families[0]].first_address()
    await own.create(api, "", "services", "default", {
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "kubernetes", "namespace": "default",
                                                            "labels": _LABELS},
        "spec": {"type": "ClusterIP", "clusterIP": address, "sessionAffinity": "None", "ports": [
            {"name": "https", "port": 443, "protocol": "TCP", "targetPort": api.port}]}})
    api.ready.add(ADDRESSES)
    await _endpoints(api)
    api.ready.add(OWN_SERVICE)


async def keep(api: Api) -> None:
    """Do so for ever."""
    while True:
        await asyncio.sleep(SECONDS)
        try:
            await ensure(api)
        except NetlabError as error:
            log.warning("cannot keep the kubernetes service in place: %s", error)


async def _tracking(api: Api) -> None:
    """Tell since which day the use of long-lived tokens is noted; upstream's legacytokentracking controller."""
    today = meta.timestamp(api.clock())[:10]
    there = await own.create(api, "", "configmaps", "kube-system", {
        "kind": "ConfigMap", "apiVersion": "v1", "data": {"since": today},
        "metadata": {"name": _TRACKING_MAP, "namespace": "kube-system"}})
    if there is None:
        return
    data = api.endpoints[("", "v1", "configmaps")].view(there).get("data") or {}
    if not meta.is_date(data.get("since", "")):
        await own.merge(api, "configmaps", "kube-system", _TRACKING_MAP, {"data": {"since": today}})


async def _endpoints(api: Api) -> None:
    ip, port = api.options.advertise, api.port
    if ipaddress.ip_address(ip).is_loopback:  # upstream refuses such an endpoint, too: nobody else could reach it
        if OWN_SERVICE not in api.ready:
            log.info("the advertise address %s is a loopback address: the kubernetes service gets no endpoint", ip)
        return
    ports: list[Object] = [{"name": "https", "port": port, "protocol": "TCP"}]
    endpoints: Object = {"kind": "Endpoints", "apiVersion": "v1", "metadata": {
        "name": "kubernetes", "namespace": "default",
        "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip}], "ports": ports}]}
    kind = f"IPv{ipaddress.ip_address(ip).version}"
    slice_: Object = {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": {
        "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": kind, "endpoints": [{"addresses": [ip], "conditions": {"ready": True}}], "ports": ports}
    await own.put(api, "", "endpoints", endpoints, ("subsets",))
    await own.put(api, "discovery.k8s.io", "endpointslices", slice_, ("endpoints", "ports"))


def _trusted(api: Api) -> dict[str, str]:
    """Return whom upstream's components, and servers behind APIServices, are to trust: client certificates, proxies."""
    clients, authorities, proxies = api.serving.clients, api.serving.proxies, api.options.request_header
    data = {"client-ca-file": clients.pem.decode(errors="replace")} if clients is not None else {}
    if authorities is not None:
        data["requestheader-client-ca-file"] = authorities.pem.decode(errors="replace")
        for name, words in (("allowed-names", proxies.names), ("username-headers", proxies.user),
                            ("uid-headers", proxies.uid), ("group-headers", proxies.group),
                            ("extra-headers-prefix", proxies.extra)):
            if words or name != "uid-headers":
                data[f"requestheader-{name}"] = orjson.dumps(words).decode()
    return data
