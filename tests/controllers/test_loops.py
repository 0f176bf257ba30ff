"""The loops against a real API server, as processes: what a user sees of them."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from netlab.api import meta
from netlab.controllers.pods import condition, is_ready
from tests.controllers.plane import a_deployment, api_server, cluster


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("plane")) as running:
        running.manager()
        running.component("kube-scheduler")

        async def nodes():
            async with cluster(running) as c:
                for name in ("n1", "n2", "n3"):
                    await c.kubelets.register(name)

        asyncio.run(nodes())
        yield running


def in_namespace(informer, space):
    return [obj for obj in informer.all() if meta.namespace(obj) == space]


def test_every_namespace_gets_an_account_and_the_root_ca(plane):
    async def body():
        async with cluster(plane) as c:
            accounts, maps = await c.see("serviceaccounts"), await c.see("configmaps")
            await c.namespace("fresh")
            for space in ("default", "kube-system", "fresh"):
                await c.until(f"account in {space}", lambda space=space: accounts.get(f"{space}/default"))
                found = await c.until(f"CA in {space}", lambda space=space: maps.get(f"{space}/kube-root-ca.crt"))
                assert found["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE")
            old = meta.uid(accounts.get("fresh/default"))
            await c.client.delete("serviceaccounts", "default", "fresh")
            await c.until("a new account", lambda: meta.uid(accounts.get("fresh/default") or {}) not in ("", old))
            await c.client.patch("configmaps", "kube-root-ca.crt", {"data": {"ca.crt": "forged"}}, "fresh")
            await c.until("the right CA again", lambda: maps.get("fresh/kube-root-ca.crt")["data"] == found["data"])
    asyncio.run(body())


def test_every_node_gets_its_network(plane):
    async def body():
        async with cluster(plane) as c:
            nodes = await c.see("nodes")
            await c.until("networks", lambda: all(node["spec"].get("podCIDRs") for node in nodes.all()))
            found = [node["spec"]["podCIDRs"][0] for node in nodes.all()]
            assert len(set(found)) == len(found)
            assert all(text.startswith("10.244.") and text.endswith("/24") for text in found)
    asyncio.run(body())


def test_a_deployment_from_creation_to_deletion(plane):
    async def body():
        async with cluster(plane) as c:
            deployments, sets, pods = await c.see("deployments.apps"), await c.see("replicasets.apps"), c.kubelets.pods
            space, events = await c.namespace("life"), await c.see("events")
            await c.client.create("deployments.apps", a_deployment("web", space, 4))

            def state():
                return deployments.get("life/web")["status"]

            await c.until("4 available", lambda: state().get("availableReplicas") == 4)
            assert {pod["spec"]["nodeName"] for pod in in_namespace(pods, space)} == {"n1", "n2", "n3"}
            (first,) = in_namespace(sets, space)
            assert meta.annotations(deployments.get("life/web"))["deployment.kubernetes.io/revision"] == "1"

            lowest, highest = [4], [0]

            def count(_key, _old, _new):
                alive = [pod for pod in in_namespace(pods, space) if not meta.deleting(pod)]
                lowest[0] = min(lowest[0], sum(map(is_ready, alive)))
                highest[0] = max(highest[0], len(alive))

            pods.add_handler(count)
            change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}}
            made = await c.client.patch("deployments.apps", "web", change, space, type="strategic")
            await c.until("the rollout", lambda: state()["observedGeneration"] >= made["metadata"]["generation"]
                          and state().get("updatedReplicas") == 4 and state()["replicas"] == 4
                          and state().get("availableReplicas") == 4
                          and condition(deployments.get("life/web"), "Progressing")["reason"]
                          == "NewReplicaSetAvailable")
            assert lowest[0] >= 3, "maxUnavailable of 25 %"
            assert highest[0] == 5, "maxSurge of 25 %"
            assert {row["spec"]["containers"][0]["image"] for row in in_namespace(pods, space)
                    if not meta.deleting(row)} == {"i:2"}

            change["spec"]["template"]["spec"]["containers"][0]["image"] = "i:1"
            await c.client.patch("deployments.apps", "web", change, space, type="strategic")
            await c.until("the way back", lambda: sets.get(meta.key(first))["status"].get("availableReplicas") == 4)
            assert meta.annotations(sets.get(meta.key(first)))["deployment.kubernetes.io/revision"] == "3"
            assert len(in_namespace(sets, space)) == 2

            await c.client.patch("deployments.apps", "web", {"spec": {"replicas": 1}}, space, subresource="scale")
            await c.until("1 left", lambda: len(in_namespace(pods, space)) == 1 and state()["replicas"] == 1)
            told = {(row["reason"], row["involvedObject"]["kind"]) for row in in_namespace(events, space)}
            assert {("ScalingReplicaSet", "Deployment"), ("SuccessfulCreate", "ReplicaSet"), ("Scheduled", "Pod"),
                    ("SuccessfulDelete", "ReplicaSet")} <= told

            await c.client.delete("deployments.apps", "web", space, propagation="Background")
            await c.until("all gone", lambda: not in_namespace(sets, space) and not in_namespace(pods, space))
    asyncio.run(body())


def test_a_deleted_pod_comes_back_and_a_stray_one_is_adopted(plane):
    async def body():
        async with cluster(plane) as c:
            pods, space = c.kubelets.pods, await c.namespace("children")
            await c.client.create("deployments.apps", a_deployment("web", space, 2))
            ready = lambda: [pod for pod in in_namespace(pods, space) if is_ready(pod) and not meta.deleting(pod)]  # noqa: E731
            await c.until("2 ready", lambda: len(ready()) == 2)
            victim = ready()[0]
            await c.client.delete("pods", meta.name(victim), space)
            await c.until("another one", lambda: len(ready()) == 2 and meta.uid(victim) not in map(meta.uid, ready()))
            stray = {"apiVersion": "v1", "kind": "Pod", "spec": victim["spec"],
                     "metadata": {"name": "stray", "namespace": space, "labels": meta.labels(victim)}}
            await c.client.create("pods", {**stray, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
            await c.until("no more than 2", lambda: len(in_namespace(pods, space)) == 2)
            assert all(meta.controller_of(pod) for pod in in_namespace(pods, space))
    asyncio.run(body())


def test_a_rollout_that_gets_stuck_keeps_serving_and_says_so(plane):
    async def body():
        async with cluster(plane) as c:
            deployments, pods, space = await c.see("deployments.apps"), c.kubelets.pods, await c.namespace("stuck")
            await c.client.create("deployments.apps", a_deployment("web", space, 4, progressDeadlineSeconds=2))
            await c.until("4 ready", lambda: deployments.get("stuck/web")["status"].get("availableReplicas") == 4)
            c.kubelets.holds = lambda pod: pod["spec"]["containers"][0]["image"] == "broken"
            change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "broken"}]}}}}
            await c.client.patch("deployments.apps", "web", change, space, type="strategic")
            await c.until("the deadline", lambda: condition(deployments.get("stuck/web"), "Progressing")["reason"]
                          == "ProgressDeadlineExceeded")
            assert sum(map(is_ready, in_namespace(pods, space))) == 3
            assert condition(deployments.get("stuck/web"), "Available")["status"] == "True"
    asyncio.run(body())


def test_a_hundred_pods_are_made_and_bound_quickly(plane):
    async def body():
        async with cluster(plane) as c:
            pods, space = c.kubelets.pods, await c.namespace("hundred")
            c.kubelets.holds = lambda pod: True
            started = time.monotonic()
            await c.client.create("deployments.apps", a_deployment("web", space, 100))
            await c.until("100 bound", lambda: sum(bool(pod["spec"].get("nodeName")) for pod in
                                                   in_namespace(pods, space)) == 100)
            assert time.monotonic() - started < 20, "0.6 s on an idle machine"
            by_node = [sum(pod["spec"]["nodeName"] == node for pod in in_namespace(pods, space))
                       for node in ("n1", "n2", "n3")]
            assert max(by_node) - min(by_node) <= 2
            await c.client.delete("deployments.apps", "web", space, propagation="Background")
            await c.until("gone", lambda: not in_namespace(pods, space), 20)
    asyncio.run(body())


def test_daemons_are_on_every_node_also_on_later_ones(plane):
    async def body():
        async with cluster(plane) as c:
            daemons, pods, space = await c.see("daemonsets.apps"), c.kubelets.pods, await c.namespace("daemons")
            body = a_deployment("agent", space, 0)
            body |= {"kind": "DaemonSet"}
            del body["spec"]["replicas"]
            body["spec"]["template"]["spec"]["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
            await c.client.create("daemonsets.apps", body)
            there = lambda: sorted(pod["spec"].get("nodeName", "") for pod in in_namespace(pods, space)  # noqa: E731
                                   if is_ready(pod) and not meta.deleting(pod))
            await c.until("3 daemons", lambda: there() == ["n1", "n2", "n3"])
            await c.kubelets.register("n4", taints=[{"key": "x", "effect": "NoSchedule"}])
            await c.until("a 4th", lambda: there() == ["n1", "n2", "n3", "n4"])
            await c.until("status", lambda: daemons.get("daemons/agent")["status"].get("numberAvailable") == 4)
            change = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}}
            await c.client.patch("daemonsets.apps", "agent", change, space, type="strategic")
            await c.until("the update", lambda: len(there()) == 4 and all(
                pod["spec"]["containers"][0]["image"] == "i:2" for pod in in_namespace(pods, space)))
            await c.until("status", lambda: daemons.get("daemons/agent")["status"].get("updatedNumberScheduled") == 4)
            history = await c.see("controllerrevisions.apps")
            assert sorted(row["revision"] for row in in_namespace(history, space)) == [1, 2]

            # Another controller manager was here, which writes templates with the nulls of Go: the same template again
            # with another hash. Its Pods stay, and one revision of the two.
            before = {meta.uid(pod) for pod in in_namespace(pods, space)}
            second = next(row for row in in_namespace(history, space) if row["revision"] == 2)
            again = {key: value for key, value in second.items() if key != "metadata"} | {"revision": 3, "metadata": {
                **{key: second["metadata"][key] for key in ("namespace", "ownerReferences")}, "name": "agent-again",
                "labels": {**second["metadata"]["labels"], "controller-revision-hash": "again"}}}
            again["data"]["spec"]["template"]["metadata"]["creationTimestamp"] = None
            await c.client.create("controllerrevisions.apps", again)
            await c.client.patch("daemonsets.apps", "agent", {"metadata": {"annotations": {"look": "again"}}}, space)
            await c.until("one of the two", lambda: [row["metadata"]["name"] for row in in_namespace(history, space)
                                                     if row["revision"] > 1] == ["agent-again"])
            await c.until("its Pods", lambda: {meta.labels(pod)["controller-revision-hash"]
                                               for pod in in_namespace(pods, space)} == {"again"})
            assert {meta.uid(pod) for pod in in_namespace(pods, space)} == before
            await c.client.delete("daemonsets.apps", "agent", space)
            await c.until("gone", lambda: not in_namespace(pods, space) and not in_namespace(history, space))
            await c.client.delete("nodes", "n4")
    asyncio.run(body())


def test_endpoints_follow_the_pods(plane):
    async def body():
        async with cluster(plane) as c:
            slices, endpoints = await c.see("endpointslices.discovery.k8s.io"), await c.see("endpoints")
            pods, space = c.kubelets.pods, await c.namespace("service")
            await c.client.create("services", {
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": space},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}})
            empty = await c.until("an empty slice", lambda: in_namespace(slices, space))
            assert empty[0].get("endpoints") in (None, [])
            await c.client.create("deployments.apps", a_deployment("web", space, 3))

            def ready():
                return sorted(part["addresses"][0] for row in in_namespace(slices, space)
                              for part in row.get("endpoints") or [] if part["conditions"]["ready"])

            def listed():
                row = endpoints.get("service/web")
                return sorted(a["ip"] for part in row.get("subsets") or [] for a in part.get("addresses") or [])

            addresses = lambda: sorted(pod["status"].get("podIP", "") for pod in in_namespace(pods, space)  # noqa: E731
                                       if is_ready(pod) and not meta.deleting(pod))
            await c.until("3 endpoints", lambda: len(ready()) == 3 and ready() == listed() == addresses())
            (row,) = in_namespace(slices, space)
            assert row["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
            assert "endpoints.kubernetes.io/last-change-trigger-time" in meta.annotations(row)
            await c.client.patch("deployments.apps", "web", {"spec": {"replicas": 1}}, space)
            await c.until("1 endpoint", lambda: len(ready()) == 1 and ready() == listed() == addresses())
            await c.client.delete("services", "web", space)
            await c.until("no slices", lambda: not in_namespace(slices, space) and not endpoints.get("service/web"))
    asyncio.run(body())


def test_a_secret_that_asks_for_a_token_gets_one(plane):
    async def body():
        async with cluster(plane) as c:
            secrets, accounts = await c.see("secrets"), await c.see("serviceaccounts")
            await c.until("the account", lambda: accounts.get("default/default"))
            await c.client.create("secrets", {
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                "metadata": {"name": "token", "namespace": "default",
                             "annotations": {"kubernetes.io/service-account.name": "default"}}})
            found = await c.until("a token", lambda: (secrets.get("default/token") or {}).get("data"))
            assert set(found) == {"token", "namespace", "ca.crt"}
    asyncio.run(body())


def test_a_manager_that_ends_hands_over_at_once_and_a_new_one_catches_up(plane):
    async def body():
        async with cluster(plane) as c:
            sets, leases, space = await c.see("replicasets.apps"), await c.see("leases.coordination.k8s.io"), \
                await c.namespace("restart")
            key = "kube-system/kube-controller-manager"
            await c.until("a leader", lambda: leases.get(key)["spec"].get("holderIdentity"))
            assert await asyncio.to_thread(plane.stop, "kube-controller-manager") == 0
            await c.until("nobody leads", lambda: not leases.get(key)["spec"].get("holderIdentity"))
            await c.client.create("deployments.apps", a_deployment("web", space, 1))
            plane.manager()
            await c.until("the work that waited", lambda: in_namespace(sets, space))
    asyncio.run(body())


def test_a_silent_node_is_tainted_and_left(plane):
    async def body():
        async with cluster(plane) as c:
            nodes, pods, space = await c.see("nodes"), c.kubelets.pods, await c.namespace("silence")
            await asyncio.to_thread(plane.stop, "kube-controller-manager", signal.SIGKILL)
            plane.manager("--leader-elect=false", "--node-monitor-grace-period=1s")
            accounts = await c.see("serviceaccounts")
            await c.until("the account", lambda: accounts.get("silence/default"))
            leave = [{"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
                      "tolerationSeconds": 1} for key in ("not-ready", "unreachable")]
            for name, wishes in (("leaves", leave), ("stays", [{"operator": "Exists"}])):
                await c.client.create("pods", {
                    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space},
                    "spec": {"nodeName": "n3", "tolerations": wishes, "containers": [{"name": "c", "image": "i"}]}})
            await c.until("n3 unknown", lambda: condition(nodes.get("n3"), "Ready")["status"] == "Unknown")
            assert condition(nodes.get("n3"), "Ready")["reason"] == "NodeStatusUnknown"
            await c.until("taints", lambda: {(row["key"], row["effect"]) for row in nodes.get("n3")["spec"].get(
                "taints") or []} == {("node.kubernetes.io/unreachable", "NoSchedule"),
                                     ("node.kubernetes.io/unreachable", "NoExecute")})
            await c.until("one Pod gone", lambda: not pods.get("silence/leaves"))
            assert pods.get("silence/stays")
            now = meta.timestamp(time.time())
            await c.client.patch("nodes", "n3", {"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}]}},
                subresource="status")
            await c.until("a clean node", lambda: not any(row["key"] == "node.kubernetes.io/unreachable"
                                                          for row in nodes.get("n3")["spec"].get("taints") or []))
    asyncio.run(body())
