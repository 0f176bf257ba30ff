"""Volumes, claims and classes that are used stay until nobody uses them."""

from __future__ import annotations

import asyncio

import pytest

from netlab.api import meta
from tests.controllers.plane import api_server, cluster


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("protection")) as running:
        running.manager()
        yield running


def claim(name: str, space: str, **spec) -> dict:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": space}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}}


def pod(name: str, space: str, claims, node: str = "") -> dict:
    spec = {"containers": [{"name": "c", "image": "x"}], "volumes": [
        {"name": f"v{at}", "persistentVolumeClaim": {"claimName": one}} for at, one in enumerate(claims)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space},
            "spec": spec | ({"nodeName": node} if node else {})}


def test_a_claim_waits_for_its_pods(plane):
    async def body():
        async with cluster(plane) as c:
            claims, accounts = await c.see("persistentvolumeclaims"), await c.see("serviceaccounts")
            space = await c.namespace("claims")
            await c.until("an account", lambda: accounts.get(f"{space}/default"))
            await c.kubelets.register("held")
            for name in ("free", "waited", "used"):
                await c.client.create("persistentvolumeclaims", claim(name, space))
            await c.client.create("pods", pod("runs", space, ["used"], "held"))
            await c.client.create("pods", pod("waits", space, ["waited"]))
            for name in ("free", "waited", "used"):
                await c.client.delete("persistentvolumeclaims", name, space)
            for name in ("free", "waited"):
                await c.until(f"{name} has gone", lambda name=name: claims.get(f"{space}/{name}") is None)
            assert meta.deleting(claims.get(f"{space}/used"))
            await c.client.delete("pods", "runs", space, grace=0)
            await c.until("used has gone after its Pod", lambda: claims.get(f"{space}/used") is None)
    asyncio.run(body())


def test_a_volume_waits_for_its_claim_and_gets_its_finalizer_back(plane):
    async def body():
        async with cluster(plane) as c:
            volumes = await c.see("persistentvolumes")
            await c.client.create("persistentvolumes", {
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "nfs": {"server": "s", "path": "/p"}}})
            await c.client.patch("persistentvolumes", "v", {"metadata": {"finalizers": None}})
            await c.until("the finalizer is back", lambda: (volumes.get("v") or {"metadata": {}})["metadata"].get("finalizers"))
            await c.client.patch("persistentvolumes", "v", {"status": {"phase": "Bound"}}, subresource="status")
            await c.client.delete("persistentvolumes", "v")
            await c.until("it is to go", lambda: meta.deleting(volumes.get("v")))
            await c.client.patch("persistentvolumes", "v", {"status": {"phase": "Released"}}, subresource="status")
            await c.until("it has gone", lambda: volumes.get("v") is None)
    asyncio.run(body())


def test_a_class_waits_for_its_claims(plane):
    async def body():
        async with cluster(plane) as c:
            kind = "volumeattributesclasses.storage.k8s.io"
            classes = await c.see(kind)
            space = await c.namespace("classes")
            for name in ("gold", "lead"):
                await c.client.create(kind, {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass",
                                             "metadata": {"name": name}, "driverName": "d.io", "parameters": {"a": "b"}})
            await c.client.create("persistentvolumeclaims", claim("c", space, volumeAttributesClassName="gold"))
            for name in ("gold", "lead"):
                await c.client.delete(kind, name)
            await c.until("the free one has gone", lambda: classes.get("lead") is None)
            assert meta.deleting(classes.get("gold"))
            await c.client.delete("persistentvolumeclaims", "c", space)
            await c.until("the used one has gone after its claim", lambda: classes.get("gold") is None)
    asyncio.run(body())
