"""What kubectl does over streams and with nodes, in a lab; with `-m soak` by the kubectl of every release."""

from __future__ import annotations

import datetime
import json
import os
import pty
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

    def terminal(*words, typed):
        """Run it on a terminal of its own, type something, and return what the terminal showed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen([binary, *words], env=netlab.env | {"HOME": str(tmp_path), "TERM": "dumb"}, stdin=theirs,
                                   stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        os.write(ours, typed)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # EIO: the last one has closed it
            pass
        finally:
            os.close(ours)
            code = process.wait(timeout=60)
        return code, shown.decode().replace("\r\n", "\n")

    run.popen, run.terminal, run.minor = popen, terminal, client_binaries.minor(binary)
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


def test_a_shell_runs_on_a_terminal(kubectl, web):
    code, shown = kubectl.terminal("exec", "-it", web, "--", "sh", "-c", "test -t 0 && read line && echo got $line; exit 3",
                                   typed=b"words\n")
    assert code == 3
    assert "got words" in shown
    name = f"shell-{kubectl.minor}"
    code, shown = kubectl.terminal("run", name, "--rm", "-it", "--image=busybox", "--restart=Never", "--", "sh", "-c",
                                   "read line; echo got $line", typed=b"more\n")
    assert code == 0, shown
    assert "got more" in shown
    assert kubectl("get", "pod", name, "--ignore-not-found") == ""


def test_a_running_program_is_attached_to(kubectl):
    name = f"running-{kubectl.minor}"
    kubectl("run", name, "--image=busybox", "--restart=Never", "-i", "--attach=false", "--", "sh", "-c",
            "while read line; do echo got $line; done; echo over")
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    said = kubectl("attach", "-i", name, stdin="one\ntwo\n")
    assert "got one" in said
    assert "got two" in said
    kubectl("delete", "pod", name, "--now")


def test_logs_are_read(kubectl, web):
    lines = kubectl("logs", web, "--timestamps", "--tail=2").splitlines()
    assert len(lines) <= 2
    assert all(line[:4].isdigit() for line in lines)
    kubectl("logs", "-l", "app=web", "--all-containers", "--prefix", "--since=1h", "--max-log-requests=9")
    assert len(kubectl("logs", "deploy/web", "--limit-bytes=10")) <= 10
    later = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert kubectl("logs", web, f"--since-time={later}") == ""
    kubectl("logs", web, "-c", "absent", code=1)
    if kubectl.minor >= 33:
        assert kubectl("logs", "deploy/web", "--all-pods").count("[pod/web-") >= 3


def test_logs_are_followed_and_those_before_are_kept(kubectl):
    name = f"speaks-{kubectl.minor}"
    kubectl("run", name, "--image=busybox", "--", "sh", "-c", "echo begun $HOSTNAME; sleep 2; echo over; exit 1")
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    followed = kubectl.popen("logs", "-f", name)
    said, _ = followed.communicate(timeout=60)
    assert said.splitlines()[-1] == "over"
    eventually(lambda: kubectl("get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}") != "0",
               "a second run of the container")
    assert kubectl("logs", "--previous", name).splitlines()[-1] == "over"
    kubectl("delete", "pod", name, "--now")


@pytest.mark.parametrize("where", ["pod", "svc", "deploy"])
def test_a_port_is_forwarded(kubectl, web, where):
    to = {"pod": (f"pod/{web}", ":8080"), "svc": ("svc/web", ":80"), "deploy": ("deploy/web", ":8080")}[where]
    process = kubectl.popen("port-forward", *to)
    try:
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].split()[0])
        for _ in range(3):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/hostname", timeout=20) as reply:
                assert reply.read().decode().startswith(web if where == "pod" else "web-")
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


def test_a_copy_and_a_node_are_looked_around_in(kubectl, web):
    if kubectl.minor < 27:
        pytest.skip("kubectl 1.20 has debug as alpha only")
    copy = f"copy-{kubectl.minor}"
    kubectl("debug", web, f"--copy-to={copy}", "--image=busybox", "--container=look", "--share-processes", "--", "sleep", "1000")
    kubectl("wait", "--for=condition=Ready", f"pod/{copy}", "--timeout=40s")
    assert kubectl("get", "pod", copy, "-o", "jsonpath={.spec.shareProcessNamespace},{.spec.containers[*].name}").endswith("look")
    assert "sleep" in kubectl("exec", copy, "-c", "look", "--", "ps")
    kubectl("delete", "pod", copy, "--now")
    made = kubectl("debug", "node/worker1", "--image=busybox", "--", "cat", "/host/etc/hostname")
    name = made.split()[-1] if "Creating debugging pod" not in made else made.split("pod ")[1].split()[0]
    eventually(lambda: kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}") == "Succeeded", "its end")
    assert kubectl("logs", name).strip() == "worker1"
    kubectl("delete", "pod", name)
