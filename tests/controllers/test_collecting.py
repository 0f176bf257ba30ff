"""What goes with what: owners and dependents, namespaces and what is in them, quotas and what they count."""

from __future__ import annotations

import asyncio

import pytest

from netlab.api import meta
from netlab.api.kinds import Resource
from netlab.controllers.pods import is_ready
from netlab.errors import ApiError
from tests.controllers.plane import a_deployment, cluster
from tests.controllers.test_loops import in_namespace, plane

__all__ = ["plane"]  # the fixture


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_deleting_an_owner(plane, policy):
    async def body():
        async with cluster(plane) as c:
            sets, maps = await c.see("replicasets.apps"), await c.see("configmaps")
            space = await c.namespace(f"gc-{policy.lower()}")
            owner = await c.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap",
                                                         "metadata": {"name": "owner", "namespace": space}})
            body = a_deployment("child", space, 0) | {"kind": "ReplicaSet"}
            body["metadata"]["ownerReferences"] = [meta.owner_reference(owner, controller=False)
                                                   | {"blockOwnerDeletion": True}]
            await c.client.create("replicasets.apps", body)
            await c.until("both", lambda: sets.get(f"{space}/child") and maps.get(f"{space}/owner"))
            order: list[str] = []
            sets.add_handler(lambda key, old, new: order.append("child") if new is None else None)
            maps.add_handler(lambda key, old, new: order.append("owner") if new is None else None)
            await c.client.delete("configmaps", "owner", space, propagation=policy)
            await c.until("the owner gone", lambda: not maps.get(f"{space}/owner"))
            if policy == "Orphan":
                await c.until("a free child", lambda: not sets.get(f"{space}/child")["metadata"].get("ownerReferences"))
            else:
                await c.until("the child gone", lambda: not sets.get(f"{space}/child"))
                assert order == (["child", "owner"] if policy == "Foreground" else ["owner", "child"])
    asyncio.run(body())


def test_owners_in_a_circle_do_not_wait_for_each_other(plane):
    async def body():
        async with cluster(plane) as c:
            maps, space = await c.see("configmaps"), await c.namespace("circle")
            made = [await c.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": f"m{at}", "namespace": space}}) for at in range(3)]
            for at, one in enumerate(made):
                owner = meta.owner_reference(made[at - 1]) | {"blockOwnerDeletion": True}
                await c.client.patch("configmaps", meta.name(one), {"metadata": {"ownerReferences": [owner]}}, space)
            await c.until("all owned", lambda: all((maps.get(f"{space}/m{at}") or {}).get("metadata", {}).get("ownerReferences")
                                                   for at in range(3)))
            await c.client.delete("configmaps", "m0", space, propagation="Foreground")
            await c.until("none left", lambda: not any(maps.get(f"{space}/m{at}") for at in range(3)), 20)
    asyncio.run(body())


def test_a_child_of_nobody_is_collected(plane):
    async def body():
        async with cluster(plane) as c:
            maps, space = await c.see("configmaps"), await c.namespace("gc-nobody")
            await c.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": "child", "namespace": space, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "never-was"}]}})
            await c.until("it gone", lambda: maps.synced.is_set() and not maps.get("gc-nobody/child"))
    asyncio.run(body())


def test_custom_resources_own_and_are_owned(plane):
    kind = Resource("example.com", "v1", "Owner", "owners", namespaced=True)
    definition = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "owners.example.com"},
                  "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "owners", "kind": "Owner"}, "versions": [
                      {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}

    async def body():
        async with cluster(plane) as c:
            definitions, maps = await c.see("customresourcedefinitions.apiextensions.k8s.io"), await c.see("configmaps")
            space = await c.namespace("custom")
            await c.client.create("customresourcedefinitions.apiextensions.k8s.io", definition)
            await c.until("it is served", lambda: any(
                one["type"] == "Established" for one in (definitions.get("owners.example.com") or {}).get("status", {}).get("conditions", [])))
            owner = await c.client.create(kind, {"apiVersion": "example.com/v1", "kind": "Owner", "metadata": {"name": "o", "namespace": space}})
            await c.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": "owned", "namespace": space, "ownerReferences": [
                    {"apiVersion": "example.com/v1", "kind": "Owner", "name": "o", "uid": owner["metadata"]["uid"]}]}})
            await c.until("the child is there", lambda: maps.get(f"{space}/owned"))
            await c.client.delete(kind, "o", space)
            await c.until("the child is collected", lambda: maps.get(f"{space}/owned") is None, 20)
            await c.client.delete("customresourcedefinitions.apiextensions.k8s.io", "owners.example.com")

    asyncio.run(body())


def test_a_namespace_goes_with_all_that_is_in_it(plane):
    async def body():
        async with cluster(plane) as c:
            spaces, pods, space = await c.see("namespaces"), c.kubelets.pods, await c.namespace("doomed")
            await c.client.create("deployments.apps", a_deployment("web", space, 3))
            await c.client.create("secrets", {"apiVersion": "v1", "kind": "Secret",
                                              "metadata": {"name": "s", "namespace": space}})
            await c.until("3 ready", lambda: sum(map(is_ready, in_namespace(pods, space))) == 3)
            await c.client.delete("namespaces", space)
            await c.until("it gone", lambda: not spaces.get(space))
            assert in_namespace(pods, space) == []
            with pytest.raises(ApiError) as caught:
                await c.client.get("secrets", "s", space)
            assert caught.value.code == 404
    asyncio.run(body())


def test_pods_go_before_all_else_of_a_namespace(plane):
    async def body():
        async with cluster(plane) as c:
            spaces, pods, space = await c.see("namespaces"), c.kubelets.pods, await c.namespace("ordered")
            accounts = await c.see("serviceaccounts")
            await c.until("an account for the Pod", lambda: accounts.get(f"{space}/default"))
            await c.client.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": space}})
            await c.client.create("pods", {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "c", "image": "i"}]},
                                           "metadata": {"name": "p", "namespace": space, "finalizers": ["example.com/wait"]}})
            await c.client.delete("namespaces", space)
            remaining = lambda: next((row for row in ((spaces.get(space) or {}).get("status") or {}).get("conditions") or []  # noqa: E731
                                      if row["type"] == "NamespaceContentRemaining" and row["status"] == "True"), None)
            assert "pods. has 1 resource instances" in (await c.until("it waits for the Pod", remaining))["message"]
            assert pods.get(f"{space}/p")["metadata"]["deletionTimestamp"]
            assert "deletionTimestamp" not in (await c.client.get("configmaps", "m", space))["metadata"]
            await c.client.patch("pods", "p", {"metadata": {"finalizers": None}}, space)
            await c.until("it gone", lambda: not spaces.get(space))
    asyncio.run(body())


def test_a_quota_hears_of_the_end_of_all_that_it_counts(plane):
    async def body():
        async with cluster(plane) as c:
            quotas, space = await c.see("resourcequotas"), await c.namespace("counted")
            used = lambda: (quotas.get(f"{space}/q") or {}).get("status", {}).get("used")  # noqa: E731
            await c.client.create("resourcequotas", {"kind": "ResourceQuota", "apiVersion": "v1", "metadata": {
                "name": "q", "namespace": space}, "spec": {"hard": {"count/replicasets.apps": "3", "count/leases.coordination.k8s.io": "3"}}})
            await c.until("the first count", lambda: used() == {"count/replicasets.apps": "0", "count/leases.coordination.k8s.io": "0"})
            await c.client.create("replicasets.apps", a_deployment("r", space, 0) | {"kind": "ReplicaSet"})
            await c.client.create("leases.coordination.k8s.io", {
                "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "l", "namespace": space}})
            await c.until("both", lambda: used() == {"count/replicasets.apps": "1", "count/leases.coordination.k8s.io": "1"})
            await c.client.delete("replicasets.apps", "r", space)
            await c.client.delete("leases.coordination.k8s.io", "l", space)
            await c.until("none", lambda: used() == {"count/replicasets.apps": "0", "count/leases.coordination.k8s.io": "0"})
    asyncio.run(body())
