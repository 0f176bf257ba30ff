"""What kubectl does over streams and with nodes, in a lab; with `-m soak` by the kubectl of every release."""

from __future__ import annotations

import json
import subprocess
import urllib.request

import pytest

from tests import client_binaries
from tests.lab.conftest import new_netlab
from tests.lab.labs import eventually

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture(scope="module")
def netlab(tmp_path_factory):
    """`netlab` with a lab of its own: a drained node leaves its Pods elsewhere."""
    for one in new_netlab(tmp_path_factory, "streams"):
        one("up", "services")
        yield one


@pytest.fixture(params=client_binaries.matrix())
def kubectl(netlab, request, tmp_path):
    """Run a kubectl in the lab; returns what it says, and fails with it unless `code` is its exit code."""
    binary = client_binaries.kubectl(request.param)

    def run(*words, code=0, stdin=""):
        done = subprocess.run([binary, *words], env=netlab.env | {"HOME": str(tmp_path)}, input=stdin, capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def popen(*words):
        return subprocess.Popen([binary, *words], env=netlab.env | {"HOME": str(tmp_path)}, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)

    run.popen, run.minor = popen, client_binaries.minor(binary)
    return run


@pytest.fixture
def web(kubectl):
    return next(each["metadata"] for each in json.loads(kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
                if "deletionTimestamp" not in each["metadata"])["name"]


def test_commands_run_in_a_pod(kubectl, web, tmp_path):
    assert kubectl("exec", web, "--", "echo", "hello") == "hello\n"
    assert kubectl("exec", "-i", web, "--", "cat", stdin="there and back") == "there and back"
    kubectl("exec", web, "--", "sh", "-c", "exit 7", code=7)
    (tmp_path / "in").write_text("a file\n" * 1000)
    kubectl("cp", str(tmp_path / "in"), f"{web}:/tmp/in")
    kubectl("cp", f"{web}:/tmp/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == (tmp_path / "in").read_text()


def test_a_program_is_attached_to(kubectl):
    name = f"attached-{kubectl.minor}"
    said = kubectl("run", name, "--rm", "-i", "--image=netlab/agnhost", "--restart=Never", "--command", "--", "cat",
                   stdin="in and out\n")
    assert "in and out" in said
    assert kubectl("get", "pod", name, "--ignore-not-found") == ""


def test_logs_are_read(kubectl, web):
    lines = kubectl("logs", web, "--timestamps", "--tail=2").splitlines()
    assert len(lines) <= 2
    assert all(line[:4].isdigit() for line in lines)
    kubectl("logs", "-l", "app=web", "--all-containers", "--prefix", "--since=1h", "--max-log-requests=9")
    kubectl("logs", "deploy/web", "--limit-bytes=10")


def test_a_port_is_forwarded(kubectl, web):
    process = kubectl.popen("port-forward", f"pod/{web}", ":8080")
    try:
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].split()[0])
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/hostname", timeout=20) as reply:
                assert reply.read().decode().strip() == web
    finally:
        process.terminate()
        process.communicate()


def test_a_node_is_drained(kubectl):
    node = "worker1"
    words = ["--ignore-daemonsets", "--force", "--timeout=50s",
             "--delete-emptydir-data" if kubectl.minor >= 20 else "--delete-local-data"]
    try:
        said = kubectl("drain", node, *words)
        assert f"node/{node} drained" in said or (kubectl.minor < 27 and f"node/{node} evicted" in said)
        left = json.loads(kubectl("get", "pods", "--field-selector", f"spec.nodeName={node}", "-o", "json"))["items"]
        assert left == []
        assert "SchedulingDisabled" in kubectl("get", "node", node)
    finally:
        kubectl("uncordon", node)

    def ready():
        return kubectl("get", "deploy", "web", "-o", "jsonpath={.status.readyReplicas}") == "3"

    eventually(ready, "three ready Pods of web")


def test_a_container_is_added_to_look_around(kubectl, web, request):
    if kubectl.minor < 27:
        pytest.skip("kubectl 1.20 has debug as alpha only")
    name = "look-" + request.node.callspec.id.replace(".", "-")
    kubectl("debug", web, "--image=netlab/agnhost", f"--container={name}", "--", "/agnhost", "pause")
    eventually(lambda: name in kubectl("get", "pod", web, "-o", "jsonpath={.status.ephemeralContainerStatuses[*].name}"),
               "the container's status")
