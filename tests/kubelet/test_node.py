"""The kubelet against a real runtime, real network plugins and a real API server, which it starts itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
import subprocess
import time
from typing import Any

import aiohttp
import pytest

from netlab.api.meta import Object
from netlab.client.tls import client_context
from netlab.lab.pki import Authority
from tests.kubelet.conftest import Api, Node, eventually, pod, ready, shell, state

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("kubelet-node")]


def container_id(found: Object, container: int = 0) -> str:
    return str(found["status"]["containerStatuses"][container]["containerID"])


def test_it_boots_its_own_control_plane_and_waits_for_a_network(booted: Node) -> None:
    async def body(api: Api) -> None:
        mirror = await api.running(f"kube-apiserver-{booted.name}", namespace="kube-system")
        node = await api.client.get("nodes", booted.name)
        assert mirror["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        assert mirror["status"]["podIP"] == booted.node.ip
        (condition,) = [c for c in node["status"]["conditions"] if c["type"] == "Ready"]
        assert condition["status"] == "False"
        assert condition["message"].endswith("Network plugin returns error: cni plugin not initialized")
        assert node["metadata"]["labels"]["kubernetes.io/hostname"] == booted.name
        assert int(node["status"]["capacity"]["cpu"]) == len(os.sched_getaffinity(0))
        lease = await api.client.get("leases.coordination.k8s.io", booted.name, "kube-node-lease")
        assert lease["spec"]["holderIdentity"] == booted.name

    booted.run(body)


def test_it_is_ready_as_soon_as_it_has_a_network(node: Node) -> None:
    async def body(api: Api) -> None:
        async def answer() -> bool:
            return ready(await api.client.get("nodes", node.name))

        await eventually(answer, 5)

    node.run(body)


def test_a_pod_and_all_that_kubectl_does_with_it(node: Node) -> None:
    async def start(api: Api) -> Object:
        await api.create("talk", {"name": "web", "image": "netlab/agnhost", "args": ["netexec", "--http-port=8080"],
                                  "readinessProbe": {"httpGet": {"port": 8080, "path": "/healthz"}},
                                  "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
                         shell("echo one; echo two >&2; while read line; do echo got $line; done", "box", stdin=True,
                               stdinOnce=True), restartPolicy="Never", volumes=[{"name": "scratch", "emptyDir": {}}])
        return await api.running("talk")

    found = node.run(start)
    assert found["status"]["podIP"].startswith("10.244.0.")
    out = node.kubectl("exec", "talk", "-c", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (out.returncode, out.stdout, out.stderr.splitlines()[0]) == (3, b"out\n", b"err")
    big = os.urandom(5_000_000)
    for env in ({}, {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false"}):
        out = node.kubectl("exec", "-i", "talk", "-c", "box", "--", "sha256sum", input=big, env=env)
        assert out.stdout.split()[0].decode() == hashlib.sha256(big).hexdigest(), out.stderr
        assert node.kubectl("exec", "talk", "-c", "web", "--", "head", "-c", "3000000", "/dev/zero", env=env
                            ).stdout == bytes(3_000_000)
    assert node.kubectl("logs", "talk", "-c", "box").stdout.splitlines() == [b"one", b"two"]
    assert node.kubectl("logs", "talk", "-c", "box", "--tail=1").stdout == b"two\n"
    assert node.kubectl("attach", "-i", "talk", "-c", "box", input=b"hello\n").stdout.splitlines()[-1:] == [b"got hello"]
    (node.base / "big").write_bytes(big)
    assert node.kubectl("cp", str(node.base / "big"), "talk:/scratch/big", "-c", "web").returncode == 0
    assert node.kubectl("cp", "talk:/scratch/big", str(node.base / "back"), "-c", "web").returncode == 0
    assert (node.base / "back").read_bytes() == big
    out = node.kubectl("exec", "talk", "-c", "nope", "--", "true")
    assert b"container nope" in out.stderr or b'"nope"' in out.stderr


@pytest.mark.parametrize("env", [{}, {"KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}], ids=["websocket", "spdy"])
def test_port_forward(node: Node, env: dict[str, str]) -> None:
    async def body(_: Api) -> str:
        forwarding = await asyncio.create_subprocess_exec(
            node.kubectl_path, "--kubeconfig", str(node.kubeconfig), "port-forward", "pod/talk", ":8080",
            stdout=subprocess.PIPE, env={**os.environ, "HOME": str(node.base), **env})
        try:
            assert forwarding.stdout is not None
            line = (await forwarding.stdout.readline()).decode()
            port = line.split("->")[0].rpartition(":")[2].strip()
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/hostname") as response:
                    return await response.text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                forwarding.terminate()
            await forwarding.wait()

    assert node.run(body).strip() == "talk"


def test_clients_without_a_certificate_are_nobody(node: Node) -> None:
    async def body(_: Api) -> int:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with aiohttp.ClientSession() as session:
            async with session.get(f"https://{node.node.ip}:10250/pods", ssl=context) as response:
                return response.status

    assert node.run(body) == 401


@pytest.mark.parametrize("kind", ["good", "foreign", "server-only"])
def test_a_bad_client_certificate_is_401_and_breaks_no_connection(node: Node, kind: str) -> None:
    keys = node.keys.ca if kind != "foreign" else Authority("foreign", now=time.time())
    pair = keys.server("admin", names=["admin"]) if kind == "server-only" else keys.client("admin", "system:masters")

    async def body(_: Api) -> tuple[int, str]:
        context = client_context(ca=node.keys.ca.pair.certificate, certificate=pair.certificate, key=pair.key,
                                 insecure=True)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"https://{node.node.ip}:10250/pods", ssl=context) as response:
                return response.status, await response.text()

    status, said = node.run(body)
    if kind == "good":
        assert status == 200
    else:
        assert (status, said) == (401, "Unauthorized\n")


def test_what_a_container_finds(node: Node) -> None:
    """Environment, files, host name, resolver, its own processes only; changes of a ConfigMap arrive."""
    async def body(api: Api) -> None:
        settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"COLOUR": "green"}}
        await api.client.create("configmaps", settings, "default")
        box = shell("env; cat /etc/config/COLOUR; echo; cat /etc/resolv.conf /etc/hosts; hostname; ls /proc | grep -c '^[0-9]'; "
                    "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; df -t tmpfs /memory | tail -1; "
                    "while [ $(cat /etc/config/COLOUR) = green ]; do sleep 0.05; done; echo changed; sleep 60",
                    env=[{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                         {"name": "BOTH", "value": "$(IP)-$(COLOUR)"}],
                    envFrom=[{"configMapRef": {"name": "settings"}}],
                    volumeMounts=[{"name": "config", "mountPath": "/etc/config"}, {"name": "memory", "mountPath": "/memory"}])
        async with pod(api, "finds", box, hostname="www", subdomain="sub", volumes=[
                {"name": "config", "configMap": {"name": "settings"}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}}]):
            found = await api.running("finds")
            ip = found["status"]["podIP"]

            async def logged() -> str:
                text = (await asyncio.to_thread(node.kubectl, "logs", "finds")).stdout.decode()
                return text if "/memory" in text else ""

            text = await eventually(logged)
            for line in (f"IP={ip}", f"BOTH={ip}-green", "nameserver 10.96.0.10", "www",
                         "KUBERNETES_SERVICE_HOST=10.96.0.1",
                         "search default.svc.cluster.local svc.cluster.local cluster.local", "options ndots:5",
                         f"{ip}\twww.sub.default.svc.cluster.local\twww", "default"):
                assert line in text.splitlines(), text
            assert int(next(line for line in text.splitlines() if line.isdigit())) < 6
            await api.client.patch("configmaps", "settings", {"data": {"COLOUR": "red"}}, "default")
            out = await asyncio.create_subprocess_exec(
                node.kubectl_path, "--kubeconfig", str(node.kubeconfig), "logs", "-f", "finds", stdout=subprocess.PIPE,
                env={**os.environ, "HOME": str(node.base)})
            assert out.stdout is not None
            async with asyncio.timeout(10):
                while await out.stdout.readline() != b"changed\n":
                    pass
            out.terminate()
            await out.wait()

    node.run(body)


def test_what_is_missing_is_waited_for(node: Node) -> None:
    async def body(api: Api) -> None:
        late = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"k": "v"}}
        async with pod(api, "no-env", shell("sleep 60", envFrom=[{"configMapRef": {"name": "late"}}])), \
                pod(api, "no-volume", shell("sleep 60", volumeMounts=[{"name": "v", "mountPath": "/v"}]),
                    volumes=[{"name": "v", "configMap": {"name": "late"}}]), \
                pod(api, "no-image", {"name": "c", "image": "example.org/nothing:1"}):
            waiting = await api.until("no-env", lambda p: state(p) == "CreateContainerConfigError")
            assert waiting["status"]["containerStatuses"][0]["state"]["waiting"]["message"] == 'configmap "late" not found'
            (event,) = [e for e in await api.events("no-volume", "FailedMount") if e["reason"] == "FailedMount"]
            assert event["message"] == 'MountVolume.SetUp failed for volume "v" : configmap "late" not found'
            failed = await api.until("no-image", lambda p: state(p) == "ImagePullBackOff")
            message = failed["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
            assert "netlab image load" in message
            began = time.monotonic()
            await api.client.create("configmaps", late, "default")
            await api.running("no-env")
            await api.running("no-volume")
            assert time.monotonic() - began < 5  # by the change, not by a back-off that happened to end

    node.run(body)


def test_crashes_back_off_and_ends_are_told(node: Node) -> None:
    async def body(api: Api) -> None:
        async with pod(api, "crash", shell("echo $((1+1)); echo why > /dev/termination-log; exit 5")), \
                pod(api, "done", shell("echo done"), restartPolicy="Never"), \
                pod(api, "failed", shell("echo sorry; exit 4", terminationMessagePolicy="FallbackToLogsOnError"),
                    restartPolicy="Never"), \
                pod(api, "no-command", {"name": "c", "image": "busybox", "command": ["/no/such"]}):
            found = await api.until("crash", lambda p: state(p) == "CrashLoopBackOff")
            row = found["status"]["containerStatuses"][0]
            assert row["lastState"]["terminated"]["exitCode"] == 5
            assert row["lastState"]["terminated"]["message"] == "why\n"
            assert row["restartCount"] == 1
            assert row["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=c pod=crash_default(")
            assert found["status"]["phase"] == "Running"
            done = await api.until("done", lambda p: p["status"].get("phase") == "Succeeded")
            assert state(done) == "Completed"
            assert (await asyncio.to_thread(node.kubectl, "logs", "done")).stdout == b"done\n"
            failed = await api.until("failed", lambda p: p["status"].get("phase") == "Failed")
            assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "sorry"
            await api.until("no-command", lambda p: state(p) in ("RunContainerError", "CrashLoopBackOff"))
            reasons = {e["reason"] for e in await api.events("crash", "BackOff", "Started")}
            assert {"Pulled", "Created", "Started", "BackOff"} <= reasons

    node.run(body)


def test_init_containers_sidecars_hooks_and_the_order_of_the_end(node: Node) -> None:
    async def body(api: Api) -> None:
        def logged(name: str, **fields: Any) -> Object:
            return shell(f"trap 'echo {name}-end >> /v/log; exit 0' TERM; echo {name} >> /v/log; while :; do sleep 0.05; done",
                         name, volumeMounts=[{"name": "v", "mountPath": "/v"}], imagePullPolicy="IfNotPresent", **fields)

        hooks = {"postStart": {"exec": {"command": ["sh", "-c", "echo post >> /v/log"]}},
                 "preStop": {"exec": {"command": ["sh", "-c", "echo pre >> /v/log"]}}}
        once = {**logged("once"), "command": ["sh", "-c", "echo once >> /v/log"]}
        await api.create("order", logged("main", lifecycle=hooks), terminationGracePeriodSeconds=10,
                         initContainers=[once, logged("side", restartPolicy="Always"), {**once, "name": "twice"}],
                         volumes=[{"name": "v", "hostPath": {"path": "/root/order", "type": "DirectoryOrCreate"}}])
        await api.running("order")
        await api.delete("order")
        assert (node.state / "root/order/log").read_text().split() == [
            "once", "side", "once", "main", "post", "pre", "main-end", "side-end"]

    node.run(body)


def test_probes(node: Node) -> None:
    async def body(api: Api) -> None:
        check = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
        async with pod(api, "live", shell("touch /tmp/ok; sleep 60", livenessProbe=check)), \
                pod(api, "flip", shell("touch /tmp/ok; sleep 60", readinessProbe=check)):
            first = await api.running("live")
            await api.running("flip")
            for name in ("live", "flip"):
                assert (await asyncio.to_thread(node.kubectl, "exec", name, "--", "rm", "/tmp/ok")).returncode == 0
            again = await api.until("live", lambda p: p["status"]["containerStatuses"][0]["restartCount"] == 1 and ready(p))
            assert container_id(again) != container_id(first)
            assert again["status"]["podIP"] == first["status"]["podIP"]
            await api.events("live", "Unhealthy", "Killing")
            unready = await api.until("flip", lambda p: not ready(p))
            assert unready["status"]["containerStatuses"][0]["restartCount"] == 0
            await asyncio.to_thread(node.kubectl, "exec", "flip", "--", "touch", "/tmp/ok")
            await api.running("flip")

    node.run(body)


def test_a_pod_that_is_going_is_probed_until_it_is_gone(node: Node) -> None:
    """Whether it still serves is what kube-proxy goes by when nobody else does."""
    async def body(api: Api) -> None:
        check = {"exec": {"command": ["test", "-e", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1}
        wait = {"preStop": {"exec": {"command": ["sh", "-c", "while :; do sleep 0.1; done"]}}}
        await api.create("going", shell("touch /tmp/ok; sleep 60", readinessProbe=check, lifecycle=wait),
                         terminationGracePeriodSeconds=60)
        await api.running("going")
        await api.client.delete("pods", "going", "default")
        going = await api.until("going", lambda p: "deletionTimestamp" in p["metadata"])
        assert ready(going)
        for command, expected in (("rm", False), ("touch", True)):
            await asyncio.to_thread(node.kubectl, "exec", "going", "--", command, "/tmp/ok")
            await api.until("going", lambda p, expected=expected: ready(p) is expected)
        await api.delete("going", grace=1)

    node.run(body)
