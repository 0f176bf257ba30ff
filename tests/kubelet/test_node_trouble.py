"""What a node lives through: killed kubelets and sandboxes, plugins that fail, an API server that is gone."""

from __future__ import annotations

import contextlib
import time

import pytest

from netlab.errors import ApiError
from netlab.kubelet.observe import POD_UID
from netlab.runtime.shimclient import ShimClient
from tests.kubelet.conftest import NETWORK, Api, Node, eventually, pod, ready, shell
from tests.kubelet.test_node import container_id

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("kubelet-node")]


def test_a_killed_kubelet_finds_everything_again(node: Node) -> None:
    async def body(api: Api) -> None:
        await api.create("stays", shell("sleep 60", readinessProbe={"exec": {"command": ["true"]}, "periodSeconds": 30}))
        await api.create("orphan", shell("sleep 60"))
        before = await api.running("stays")
        await api.running("orphan")
        await node.exec("kill", "-9", str(await node.pid_of("kubelet")))
        await api.client.delete("pods", "orphan", "default", grace=0)  # the kubelet that comes has never heard of it
        async with pod(api, "after", shell("sleep 60")):
            await api.running("after")
        after = await api.running("stays")
        assert container_id(after) == container_id(before)
        assert after["status"]["conditions"] == before["status"]["conditions"]  # never unready in between

        async def forgotten() -> bool:
            return "orphan" not in await node.exec("sh", "-c", "ls /var/log/pods")

        await eventually(forgotten)
        await api.delete("stays")

    node.run(body)


def test_a_dead_pause_is_a_dead_sandbox(node: Node) -> None:
    async def body(api: Api) -> None:
        async with pod(api, "sandbox", {"name": "c", "image": "netlab/agnhost", "args": ["pause"]}):
            before = await api.running("sandbox")
            async with ShimClient(node.base / "shim.sock") as shim:
                (sandbox,) = await shim.list_pod_sandboxes({POD_UID: before["metadata"]["uid"]})
            await node.exec("kill", "-9", str(sandbox.pid))
            after = await api.until("sandbox", lambda p: ready(p) and p["status"]["podIP"] != before["status"]["podIP"])
            assert after["status"]["containerStatuses"][0]["restartCount"] == 1
            await api.events("sandbox", "SandboxChanged")

    node.run(body)


def test_a_static_pod_goes_and_comes_with_its_file(node: Node) -> None:
    manifest = node.manifests / "still.yaml"

    async def body(api: Api) -> None:
        name = f"still-{node.name}"
        text = ("{apiVersion: v1, kind: Pod, metadata: {name: still, namespace: default}, spec: {hostNetwork: true, "
                "terminationGracePeriodSeconds: 1, containers: [{name: c, image: busybox, imagePullPolicy: IfNotPresent, "
                "command: [sleep, '60']}]}}")
        manifest.write_text(text)
        first = await api.running(name)
        with contextlib.suppress(ApiError):
            await api.client.delete("pods", name, "default")
        second = await api.until(name, lambda p: ready(p) and p["metadata"]["uid"] != first["metadata"]["uid"])
        assert container_id(second) == container_id(first)  # only the mirror was deleted
        manifest.write_text(text.replace("'60'", "'61'"))
        third = await api.until(name, lambda p: ready(p) and container_id(p) != container_id(first))
        assert third["spec"]["containers"][0]["command"] == ["sleep", "61"]
        manifest.unlink()
        await api.gone(name)

    node.run(body)


def test_the_end_by_force_and_what_is_left(node: Node) -> None:
    async def body(api: Api) -> None:
        await api.create("stubborn", shell("trap '' TERM; while :; do sleep 1; done"), terminationGracePeriodSeconds=60)
        found = await api.running("stubborn")
        await api.client.delete("pods", "stubborn", "default")
        await api.events("stubborn", "Killing")
        await api.delete("stubborn", grace=1)  # shortens the end that is under way
        uid, ip = found["metadata"]["uid"], found["status"]["podIP"]

        async def forgotten() -> bool:
            return uid not in await node.exec("sh", "-c", "ls /var/lib/kubelet/pods /var/log/pods /var/lib/kubelet/empty-dirs")

        await eventually(forgotten)
        assert ip not in await node.exec("ls", "/var/lib/cni/networks/netlab")
        assert uid not in await node.exec("sh", "-c", "find /sys/fs/cgroup -maxdepth 4 -name 'pod*'")

    node.run(body)


def test_a_hook_that_takes_its_time_does_not_hold_up_the_end(node: Node) -> None:
    async def body(api: Api) -> None:
        slow = {"exec": {"command": ["sleep", "50"]}}
        await api.create("hooked", shell("sleep 60", lifecycle={"postStart": slow}), terminationGracePeriodSeconds=50)
        await api.events("hooked", "Started")
        began = time.monotonic()
        await api.delete("hooked", grace=1)
        assert time.monotonic() - began < 10

    node.run(body)


def test_a_network_plugin_that_fails_is_tried_again_with_patience(node: Node) -> None:
    """And what it is given is what the specification says; a foreign executable may be anywhere in the chain."""
    plugin, calls = node.state / "opt/cni/bin/moody", node.state / "root/moody.log"
    plugin.write_text("#!/bin/sh\nread -r in\necho \"$CNI_COMMAND $CNI_IFNAME $CNI_ARGS $in\" >> /root/moody.log\n"
                      "[ $CNI_COMMAND = ADD ] || exit 0\n"
                      'echo \'{"cniVersion": "1.0.0", "code": 111, "msg": "not today"}\'; exit 1\n')
    plugin.chmod(0o755)
    network = {**NETWORK, "plugins": [*NETWORK["plugins"], {"type": "moody"}]}

    async def body(api: Api) -> None:
        node.write_network(network)
        async with pod(api, "patient", shell("sleep 60")):
            async def failed_twice() -> bool:
                found = await api.events("patient", "FailedCreatePodSandBox")
                return any(e["reason"] == "FailedCreatePodSandBox" and e["count"] > 1 for e in found)

            await eventually(failed_twice)
            adds = [line for line in calls.read_text().splitlines() if line.startswith("ADD")]
            assert len(adds) <= 3
            assert "K8S_POD_NAME=patient" in adds[0]
            assert '"prevResult"' in adds[0]
            node.write_network(NETWORK)  # the cure is noticed, not waited for
            await api.running("patient")

    try:
        node.run(body)
    finally:
        node.write_network(NETWORK)


def test_pods_that_the_node_can_not_have(node: Node) -> None:
    async def body(api: Api) -> None:
        huge = shell("sleep 1", resources={"requests": {"memory": "900Ti"}})
        async with pod(api, "huge", huge), pod(api, "elsewhere", shell("sleep 1"), nodeSelector={"no": "where"}):
            found = await api.until("huge", lambda p: p["status"].get("phase") == "Failed")
            assert found["status"]["reason"] == "OutOfmemory"
            found = await api.until("elsewhere", lambda p: p["status"].get("phase") == "Failed")
            assert found["status"]["reason"] == "NodeAffinity"

    node.run(body)


def test_the_api_server_may_die(node: Node) -> None:
    """It is a Pod of this kubelet: killed, it comes back; meanwhile all others run on."""
    async def body(api: Api) -> None:
        async with pod(api, "calm", shell("sleep 60")):
            before = await api.running("calm")
            await node.exec("kill", "-9", str(await node.pid_of("kube-apiserver")))
            name = f"kube-apiserver-{node.name}"
            await api.until(name, lambda p: ready(p) and p["status"]["containerStatuses"][0]["restartCount"] == 1,
                            namespace="kube-system")
            async with pod(api, "next", shell("sleep 60")):
                await api.running("next")
            assert container_id(await api.running("calm")) == container_id(before)

    node.run(body)
