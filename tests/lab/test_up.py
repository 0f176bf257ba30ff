"""A whole lab: brought up once, looked at from all sides, damaged in ways it has to mend by itself."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import signal
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from netlab.apiserver import version
from netlab.lab.state import LabRecord, Process
from netlab.lab.usage import processes
from tests.lab.labs import eventually

pytestmark = [pytest.mark.lab, pytest.mark.root]


@pytest.fixture
def lab(services):
    return services[0]


def test_a_pipe_gets_a_summary_and_no_progress(services, lab):
    done = services[1]
    assert done.stderr == ""
    assert re.match(rf'lab "{lab}" is up: 3 nodes, [\d.]+ s\n', done.stdout)
    assert "netlab trace pod/client svc/web" in done.stdout


def test_the_context_is_merged_and_current(netlab, lab):
    content = yaml.safe_load(netlab.kubeconfig.read_text())
    assert content["current-context"] == f"netlab-{lab}"
    done = subprocess.run(["kubectl", "get", "nodes", "-o", "name"], env=netlab.env, capture_output=True, text=True,
                          check=True)
    assert done.stdout.split() == ["node/control-plane", "node/worker1", "node/worker2"]


def test_everything_is_a_pod_that_kubectl_shows(netlab, lab):
    pods = json.loads(netlab.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]
    assert {pod["metadata"]["labels"].get("k8s-app") for pod in pods} == {"kube-proxy", "netd", "kube-dns", None}
    static = {pod["metadata"]["name"] for pod in pods
              if pod["metadata"].get("annotations", {}).get("kubernetes.io/config.source") == "file"}
    assert static == {f"{part}-control-plane" for part in ("kube-apiserver", "kube-controller-manager",
                                                           "kube-scheduler")}
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}


def test_the_server_knows_of_what_commit_it_is(netlab, lab):
    """Its Pod does not see the source tree; client programs insist on a commit."""
    said = json.loads(netlab.kubectl("version", "-o", "json"))["serverVersion"]
    assert (said["gitCommit"], said["gitTreeState"] == "archive") == (version.built()[0], version.built()[1] == "archive")


def test_the_pods_are_spread_over_the_workers(netlab, lab):
    pods = json.loads(netlab.kubectl("get", "pods", "-l", "app=web", "-o", "json"))["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"worker1", "worker2"}


def test_the_scenarios_own_checks_pass(netlab, lab):
    done = netlab("test", "services", "--name", lab, "-o", "json")
    assert [row["check"] for row in json.loads(done.stdout) if not row["passed"]] == []


def test_a_second_up_of_the_same_name_is_refused(netlab, lab):
    done = netlab("up", "services", "--name", lab, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f'error: lab "{lab}" runs already\nhint: ')


def test_status_and_ls_tell_the_same(netlab, lab):
    told = json.loads(netlab("status", "--name", lab, "-o", "json").stdout)
    assert [(node["name"], node["state"]) for node in told["nodes"]] == [
        ("control-plane", "Ready"), ("worker1", "Ready"), ("worker2", "Ready")]
    assert told["trouble"] == []
    assert told["memory"]["total"] > 0
    (row,) = [row for row in json.loads(netlab("ls", "-o", "json").stdout) if row["name"] == lab]
    assert (row["state"], row["nodes"], row["context"]) == ("Running", 3, f"netlab-{lab}")


@pytest.mark.parametrize("place", ["node/worker1", "pod/client", "outside", "fabric", "deploy/web",
                                   "pod/kube-system/kube-apiserver-control-plane"])
def test_commands_run_in_every_place(netlab, lab, place):
    done = netlab("exec", place, "--", "sh", "-c", "cat; echo oops >&2; exit 7", input="through", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "through", "oops\n")


def test_a_pod_shows_only_its_own(netlab, lab):
    def said(*words: str) -> str:
        return netlab("exec", "pod/client", "--", *words).stdout

    assert said("hostname") == "client\n"
    assert [line.split()[2] for line in said("ps").splitlines()[1:]] == ["sleep", "ps"]
    assert {line.split()[1].rstrip(":").partition("@")[0] for line in said("ip", "-o", "link").splitlines()} == {
        "lo", "eth0"}
    assert set(said("ls", "/").split()) <= {"bin", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "opt", "proc",
                                            "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"}
    assert str(netlab.home) not in said("mount")


def test_many_bytes_pass_both_ways_unchanged(netlab, lab):
    data = os.urandom(1 << 20).hex()
    assert netlab("exec", "pod/client", "--", "cat", input=data).stdout == data


@pytest.mark.parametrize(("place", "error"), [
    ("pod/nobody", 'error: there is no pod "nobody" in namespace default'),
    ("node/worker9", "has no node \"worker9\""),
    ("somewhere", 'error: "somewhere" is no place'),
    ("deploy/none", 'error: there is no deployment "none" in namespace default'),
])
def test_a_place_that_is_not_there(netlab, lab, place, error):
    done = netlab("exec", place, "--", "true", check=False)
    assert done.returncode == 1
    assert error in done.stderr.splitlines()[0]


@pytest.mark.parametrize(("bare", "place"), [("client", "pod/client"), ("worker1", "node/worker1")])
def test_a_bare_name_is_a_pod_or_a_node(netlab, lab, bare, place):
    inside = [netlab("exec", each, "--", "readlink", "/proc/self/ns/net").stdout for each in (bare, place)]
    assert inside[0] == inside[1]


def test_a_bare_name_that_is_nearly_one_is_told(netlab, lab):
    done = netlab("exec", "clien", "--", "true", check=False)
    assert (done.returncode, done.stderr.splitlines()[1]) == (1, "hint: did you mean pod/client?")


@pytest.mark.parametrize("place", ["pod/client", "node/worker1", "outside"])
def test_a_terminal_is_a_terminal_there_too(netlab, lab, place):
    controller, terminal = pty.openpty()
    child = subprocess.Popen(netlab.argv("shell", place), env=netlab.env, stdin=terminal, stdout=terminal,
                             stderr=terminal, start_new_session=True, cwd="/")
    os.close(terminal)
    seen = b""

    def until(pattern: bytes) -> None:
        nonlocal seen

        def found() -> bool:
            nonlocal seen
            seen += os.read(controller, 4096)
            return re.search(pattern, seen) is not None

        eventually(found, f"{pattern!r} in {seen!r}")

    until(re.escape(place.encode()))  # the prompt names the place
    os.write(controller, b"test -t 0 && echo is-a-$((1+1))-tty; exit 5\n")
    until(b"is-a-2-tty")
    assert child.wait(20) == 5
    os.close(controller)


def test_ip_netns_sees_the_nodes(netlab, lab):
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split()
    assert {f"{lab}-{place}" for place in ("control-plane", "worker1", "worker2", "fabric", "outside")} <= set(names)
    rules = subprocess.run(["ip", "netns", "exec", f"{lab}-worker1", "iptables", "-t", "nat", "-S"],
                           capture_output=True, text=True, check=True).stdout
    assert "KUBE-SERVICES" in rules


def test_only_the_owner_can_talk_to_a_lab(netlab, lab):
    for top in (netlab.run_dir / lab, netlab.home / "state" / lab):
        assert stat.S_IMODE(top.stat().st_mode) == 0o700
    sockets = [path for path in (netlab.run_dir / lab).rglob("*") if path.is_socket()]
    assert len(sockets) == 4
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in sockets)


def test_keys_are_in_no_command_line_and_not_in_the_template(netlab, lab):
    raw = netlab.record(lab)
    found = processes(LabRecord(lab, "", "", False, 0.0, holder=Process(**raw["holder"]), gate=Process(**raw["gate"])))
    node = netlab.home / "state" / lab / "nodes/control-plane"
    lines = [line.encode() for path in (node / "etc/kubernetes/pki").glob("*.key")
             for line in path.read_text().splitlines() if len(line) > 40 and "-" not in line]
    assert len(lines) >= 10
    for usage in found:
        for file in ("cmdline", "environ"):
            content = Path(f"/proc/{usage.pid}/{file}").read_bytes()
            assert not [line for line in lines if line in content]
    (template,) = [usage.pid for usage in found if usage.name == "netlab-template"]
    maps = Path(f"/proc/{template}/maps").read_text().splitlines()
    with open(f"/proc/{template}/mem", "rb", 0) as memory:
        for row in maps:
            begin, end = (int(part, 16) for part in row.split()[0].split("-"))
            if "w" in row.split()[1] and end - begin < 1 << 28:
                memory.seek(begin)
                content = memory.read(end - begin)
                assert not [line for line in lines if line in content]


def test_moving_a_manifest_away_stops_the_static_pod(netlab, lab):
    manifests = "/etc/kubernetes/manifests/kube-scheduler.yaml"

    def there() -> bool:
        return "kube-scheduler-control-plane" in netlab.kubectl("get", "pods", "-n", "kube-system")

    def runs() -> bool:
        return "kube-scheduler" in netlab("exec", "node/control-plane", "--", "ps", "ax").stdout

    netlab("exec", "node/control-plane", "--", "mv", manifests, "/root/")
    eventually(lambda: not there() and not runs(), "the scheduler stops")
    netlab("exec", "node/control-plane", "--", "mv", "/root/kube-scheduler.yaml", manifests)
    eventually(lambda: there() and runs(), "the scheduler starts")


def test_a_gate_that_is_killed_comes_back_on_its_port(netlab, lab):
    os.kill(netlab.record(lab)["gate"]["pid"], signal.SIGKILL)
    eventually(lambda: netlab("kubectl", "get", "--raw", "/readyz", "--request-timeout=2s",
                              check=False).stdout == "ok", "the API server answers at the same port")


@pytest.mark.parametrize(("node", "template_too"), [("worker2", True), ("control-plane", False)])
def test_a_crashed_node_boots_again(netlab, lab, node, template_too):
    raw = netlab.record(lab)
    found = processes(LabRecord(lab, "", "", False, 0.0, holder=Process(**raw["holder"])))
    victims = [usage.pid for usage in found if usage.name == "netlab-shim"
               and f"/{node}".encode() in Path(f"/proc/{usage.pid}/cmdline").read_bytes()]
    if template_too:  # then the node is forked from a new one
        victims += [usage.pid for usage in found if usage.name == "netlab-template"]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)

    def state() -> tuple[int, str]:
        told = json.loads(netlab("status", "--name", lab, "-o", "json", check=False).stdout)
        (one,) = [row for row in told["nodes"] if row["name"] == node]
        return one["boots"], one["state"]

    eventually(lambda: state()[0] == 2, "a second boot")

    def wrong() -> list[dict]:
        done = netlab("test", "services", "--name", lab, "-o", "json", check=False)
        return [row for row in json.loads(done.stdout) if not row["passed"]]

    eventually(lambda: wrong() == [], "everything is as before", 90)
    eventually(lambda: state() == (2, "Ready"), "the node is Ready")


def test_two_labs_run_side_by_side(netlab, lab):
    other = f"{lab}x"
    netlab("up", "--name", other, "--nodes", "1", "--no-kubeconfig", "-q")
    try:
        assert yaml.safe_load(netlab.kubeconfig.read_text())["current-context"] == f"netlab-{lab}"
        assert netlab("kubectl", "get", "nodes", check=False).stderr.startswith("error: several labs run: ")
        assert netlab("--name", other, "kubectl", "get", "nodes", "-o", "name").stdout == "node/control-plane\n"
        assert len(netlab("--name", lab, "kubectl", "get", "nodes", "-o", "name").stdout.split()) == 3
    finally:
        netlab("down", "--name", other)
    assert netlab.leftovers(other) == []


def test_manifests_from_standard_input_are_applied_too(netlab, lab):
    other = f"{lab}y"
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: mine}\nspec: {containers: [{name: a, image: netlab/pause}]}\n"
    netlab("up", "--name", other, "--nodes", "1", "--no-kubeconfig", "-q", "-f", "-", input=text)
    try:
        assert netlab("--name", other, "kubectl", "get", "pod", "mine", "-o", "jsonpath={.status.phase}"
                      ).stdout == "Running"
    finally:
        netlab("down", "--name", other)


def test_an_image_from_an_archive_runs(netlab, lab, tmp_path):
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
    digest = hashlib.sha256(layer.read_bytes()).hexdigest()
    config = {"architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine], "os": "linux",
              "config": {"Entrypoint": ["/bin/busybox"], "Cmd": ["echo", "from an archive"], "Env": ["A=1"]},
              "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "manifest.json").write_text(json.dumps(
        [{"Config": "config.json", "RepoTags": ["example.org/mine:1"], "Layers": ["layer.tar"]}]))
    archive = tmp_path / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("config.json", "manifest.json", "layer.tar"):
            tar.add(tmp_path / name, name)
    assert netlab("image", "load", "--name", lab, str(archive)).stdout == "loaded example.org/mine:1\n"
    assert "example.org/mine:1" in netlab("image", "ls", "--name", lab).stdout
    netlab("--name", lab, "kubectl", "run", "archived", "--image=example.org/mine:1", "--restart=Never")
    eventually(lambda: "from an archive" in netlab("--name", lab, "kubectl", "logs", "archived", check=False).stdout,
               "the log of the image's command")
    netlab("--name", lab, "kubectl", "delete", "pod", "archived", "--now")
