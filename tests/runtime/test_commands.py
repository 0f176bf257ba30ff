"""crictl and docker, run in a node's shell."""

import json
import os
import re

import pytest

from netlab.runtime import console
from tests.runtime.conftest import container, pod, read_all, read_until

pytestmark = pytest.mark.root


async def shell(client, *argv: str, code: int = 0) -> str:
    streams = await client.exec("node", argv)
    text, errors = await read_all(streams.stdout), await read_all(streams.stderr)
    assert await streams.wait() == code, errors
    streams.close()
    return (text or errors).decode()


def test_docker_shows_pause_first(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(name="web-1", uid="u-1"))
        main = await client.create_container(box.id, container("sh", "-c", "echo one; echo two; sleep 1000", name="web",
                                                               log_path="/var/log/pods/web-1/web/0.log"))
        await client.start_container(main)
        names = [line.split()[-1] for line in (await shell(client, "docker", "ps")).splitlines()]
        assert names[:3] == ["NAMES", "k8s_POD_web-1_default_u-1_0", "k8s_web_web-1_default_u-1_0"]
        streams = await client.attach(main)
        streams.close()
        while "two" not in (text := await shell(client, "docker", "logs", "k8s_web_web-1_default_u-1_0")):
            pass
        assert text == "one\ntwo\n"
        assert (await shell(client, "docker", "exec", main[:12], "echo", "hi")) == "hi\n"
        pid = (await shell(client, "docker", "inspect", "-f", "{{.State.Pid}}", main[:12])).strip()
        assert int(pid) == (await client.container_status(main)).pid
        assert "pause has neither" in await shell(client, "docker", "logs", box.id, code=1)
        assert "no such container: nosuch" in await shell(client, "docker", "logs", "nosuch", code=1)
        assert re.search(r"^netlab/agnhost +latest", await shell(client, "docker", "images"), re.MULTILINE)
        await client.remove_pod_sandbox(box.id)

    node.run(body)


def test_docker_exec_with_a_terminal(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod())
        main = await client.create_container(box.id, container("sleep", "1000"))
        await client.start_container(main)
        streams = await client.exec("node", ["docker", "exec", "-it", main, "sh"], tty=True, stdin=True)
        os.write(streams.stdin, b"hostname; exit 5\n")
        await read_until(streams.stdout, box.name.encode() + b"\r\n")
        await read_all(streams.stdout)
        assert await streams.wait() == 5
        streams.close()
        await client.remove_pod_sandbox(box.id)

    node.run(body)


def test_crictl(node):
    async def body(client):
        box = await client.run_pod_sandbox(pod(name="crictl-pod"))
        main = await client.create_container(box.id, container("sleep", "1000", name="app"))
        await client.start_container(main)
        pods = await shell(client, "crictl", "pods", "--name", "crictl-pod")
        assert re.search(rf"^{box.id[:13]} .* Ready +crictl-pod +default +0 ", pods, re.MULTILINE)
        listed = json.loads(await shell(client, "crictl", "ps", "-o", "json", "-p", box.id))
        assert [c["id"] for c in listed["containers"]] == [main]
        assert "busybox" in await shell(client, "crictl", "images")
        assert (await shell(client, "crictl", "exec", main[:10], "hostname")) == "crictl-pod\n"
        assert json.loads(await shell(client, "crictl", "inspectp", box.id))["status"]["name"] == "crictl-pod"
        assert main[:13] in await shell(client, "crictl", "stats")
        await shell(client, "crictl", "stop", main)
        assert main not in await shell(client, "crictl", "ps", "-q")
        assert main in await shell(client, "crictl", "ps", "-aq")
        await shell(client, "crictl", "rm", main)
        await shell(client, "crictl", "stopp", box.id)
        assert (await client.pod_sandbox_status(box.id)).state == "notready"
        await client.remove_pod_sandbox(box.id)

    node.run(body)


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 seconds"), (1, "1 second"), (59, "59 seconds"), (60, "1 minute"), (7200, "2 hours"), (86400 * 3, "3 days")])
def test_ages(seconds, text):
    assert console.age(10**18, 10**9 + seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0B"), (999, "999B"), (4_310_000, "4.31MB"), (2_000_000_000, "2GB")])
def test_sizes(count, text):
    assert console.size(count) == text
