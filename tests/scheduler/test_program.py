"""kube-scheduler as a process against a real API server."""

from __future__ import annotations

import asyncio
import time

import pytest

from netlab.api import meta
from netlab.controllers.pods import condition
from tests.controllers.plane import api_server, cluster


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with api_server(tmp_path_factory.mktemp("plane")) as running:
        config = running.directory / "scheduler.yaml"
        config.write_text("apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
                          "podInitialBackoffSeconds: 10\n"
                          "profiles: [{schedulerName: default-scheduler}, {schedulerName: second}]\n")
        running.component("kube-scheduler", f"--config={config}")
        yield running


def a_pod(name, space, *, cpu="", **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": space},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu} if cpu
                                                                              else {}}}], **spec}}


def test_waits_for_a_node_says_why_and_binds_at_once_when_it_may(plane):
    async def body():
        async with cluster(plane) as c:
            pods, events, space = c.kubelets.pods, await c.see("events"), await c.namespace("waits", account=True)
            c.kubelets.holds = lambda pod: True
            await c.client.create("pods", a_pod("p", space))
            await c.until("the reason", lambda: (condition(pods.get("waits/p"), "PodScheduled") or {}).get("message")
                          == "no nodes available to schedule pods")
            taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
            await c.kubelets.register("n1", taints=[taint])
            words = ("0/1 nodes are available: 1 node(s) had untolerated taint(s). preemption: 0/1 nodes are "
                     "available: 1 Preemption is not helpful for scheduling.")
            await c.until("another reason", lambda: condition(pods.get("waits/p"), "PodScheduled")["message"] == words)
            await c.until("the event", lambda: any(
                (row["reason"], row["message"], row["type"], row["source"]["component"])
                == ("FailedScheduling", words, "Warning", "default-scheduler") for row in events.all()))
            started = time.monotonic()
            await c.client.patch("nodes", "n1", {"spec": {"taints": None}})
            await c.until("bound", lambda: pods.get("waits/p")["spec"].get("nodeName") == "n1")
            assert time.monotonic() - started < 8, "not after a back-off of ten seconds"
            assert condition(pods.get("waits/p"), "PodScheduled")["status"] == "True"
            await c.until("the event", lambda: any(
                (row["reason"], row["message"]) == ("Scheduled", "Successfully assigned waits/p to n1")
                for row in events.all()))
    asyncio.run(body())


def test_only_its_own_pods_and_in_turns(plane):
    async def body():
        async with cluster(plane) as c:
            pods, space = c.kubelets.pods, await c.namespace("turns", account=True)
            c.kubelets.holds = lambda pod: True
            for name in ("n2", "n3"):
                await c.kubelets.register(name)
            await c.client.create("pods", a_pod("other", space, schedulerName="somebody-else"))
            for number in range(4):
                await c.client.create("pods", a_pod(f"p{number}", space, schedulerName="second"))
                await c.until("bound", lambda number=number: pods.get(f"turns/p{number}")["spec"].get("nodeName"))
            assert len({pods.get(f"turns/p{number}")["spec"]["nodeName"] for number in (2, 3)}) == 2
            assert not pods.get("turns/other")["spec"].get("nodeName")
    asyncio.run(body())


def test_a_full_node_has_room_again_when_a_pod_goes(plane):
    async def body():
        async with cluster(plane) as c:
            pods, space = c.kubelets.pods, await c.namespace("room", account=True)
            c.kubelets.holds = lambda pod: True
            here = {"nodeSelector": {"kubernetes.io/hostname": "small"}}
            await c.kubelets.register("small", cpu="1")
            await c.client.create("pods", a_pod("first", space, cpu="800m", **here))
            await c.until("bound", lambda: pods.get("room/first")["spec"].get("nodeName"))
            await c.client.create("pods", a_pod("second", space, cpu="800m", **here))
            await c.until("the reason", lambda: "1 Insufficient cpu" in (condition(
                pods.get("room/second"), "PodScheduled") or {}).get("message", ""))
            await c.client.delete("pods", "first", space)
            await c.until("bound", lambda: pods.get("room/second")["spec"].get("nodeName") == "small")
    asyncio.run(body())


def test_the_important_push_the_unimportant_out(plane):
    async def body():
        async with cluster(plane) as c:
            pods, events, space = c.kubelets.pods, await c.see("events"), await c.namespace("vip", account=True)
            c.kubelets.holds = lambda pod: True
            here = {"nodeSelector": {"kubernetes.io/hostname": "tiny"}}
            await c.kubelets.register("tiny", cpu="1")
            await c.client.create("priorityclasses.scheduling.k8s.io", {
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "vip"},
                "value": 1000})
            await c.client.create("pods", a_pod("plain", space, cpu="600m", **here))
            await c.until("bound", lambda: pods.get("vip/plain")["spec"].get("nodeName"))
            await c.client.create("pods", a_pod("vip", space, cpu="600m", priorityClassName="vip", priority=1000,
                                                **here))
            await c.until("bound", lambda: pods.get("vip/vip")["spec"].get("nodeName") == "tiny")
            assert pods.get("vip/plain") is None
            assert pods.get("vip/vip")["status"].get("nominatedNodeName") in (None, "tiny")
            await c.until("the event", lambda: any(row["reason"] == "Preempted" and row["involvedObject"]["name"]
                                                   == "plain" for row in events.all()))
    asyncio.run(body())


def test_a_killed_scheduler_knows_all_again(plane):
    async def body():
        async with cluster(plane) as c:
            pods, space = c.kubelets.pods, await c.namespace("again", account=True)
            c.kubelets.holds = lambda pod: True
            assert await asyncio.to_thread(plane.stop, "kube-scheduler") == 0
            here = {"nodeSelector": {"kubernetes.io/hostname": "tight"}}
            await c.kubelets.register("tight", cpu="1")
            for number in range(3):
                await c.client.create("pods", a_pod(f"p{number}", space, cpu="400m", **here))
            plane.component("kube-scheduler")
            await c.until("two bound", lambda: sum(bool(pods.get(f"again/p{n}")["spec"].get("nodeName"))
                                                   for n in range(3)) == 2)
            await c.until("one refused", lambda: any((condition(pods.get(f"again/p{n}"), "PodScheduled") or {}).get(
                "reason") == "Unschedulable" for n in range(3)))
            assert meta.namespace(pods.get("again/p0")) == "again"
    asyncio.run(body())
