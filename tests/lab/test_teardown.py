"""However a lab ends, nothing is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.lab.conftest import new_netlab
from tests.lab.labs import ROOT, Netlab, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root]

STAGES = {
    "the name is taken": lambda netlab, name: netlab.record(name),
    "the holder runs": lambda netlab, name: netlab.record(name).get("holder", {}).get("pid"),
    "a node runs": lambda netlab, name: (netlab.run_dir / name / "nodes/control-plane.sock").exists(),
    "the API server has written": lambda netlab, name: list(
        (netlab.home / "state" / name / "nodes/control-plane/var/lib").glob("apiserver/*")),
}


@pytest.fixture(scope="module")
def netlab(tmp_path_factory):
    yield from new_netlab(tmp_path_factory, "ends")


@pytest.fixture
def name(netlab):
    chosen = f"e{os.getpid() % 100000}"
    yield chosen
    netlab("down", "--name", chosen)


@pytest.mark.parametrize("stage", list(STAGES))
def test_ctrl_c_leaves_nothing(netlab, name, stage):
    child = netlab.start("up", "services", "--name", name, "--no-kubeconfig")
    eventually(lambda: STAGES[stage](netlab, name), stage)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=30)[0].decode()
    assert (child.returncode, said.strip()) == (130, "error: interrupted")
    assert netlab.leftovers(name) == []


@pytest.mark.parametrize("stage", ["the holder runs", "a node runs"])
def test_a_launcher_that_is_killed_takes_the_lab_along(netlab, name, stage):
    child = netlab.start("up", "services", "--name", name, "--no-kubeconfig")
    eventually(lambda: STAGES[stage](netlab, name), stage)
    child.kill()
    child.communicate()
    eventually(lambda: not [left for left in netlab.leftovers(name) if left.startswith("process")], "no process")
    eventually(lambda: "Dead" in netlab("ls").stdout, "known to be dead")  # a holder that just began has no name yet
    netlab("down", "--name", name)
    assert netlab.leftovers(name) == []


def test_a_holder_that_is_killed_ends_the_lab_and_down_clears_it_away(netlab, name):
    netlab("up", "--name", name, "--nodes", "1", "-q")
    os.kill(netlab.record(name)["holder"]["pid"], signal.SIGKILL)
    eventually(lambda: not [left for left in netlab.leftovers(name) if left.startswith("process")], "no process")
    done = netlab("status", "--name", name, check=False)
    assert done.stderr.startswith(f'error: lab "{name}" has died\nhint: netlab down --name {name}')
    assert (netlab.home / "state" / name / "nodes").is_dir()  # the database, keys and logs stay until `down`
    netlab("down", "--name", name)
    assert netlab.leftovers(name) == []
    assert f"netlab-{name}" not in netlab.kubeconfig.read_text()
    netlab("down", "--name", name)


def test_what_does_not_come_up_says_why_and_leaves_nothing(netlab, name):
    text = ("apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: [{name: a, image: busybox, "
            "command: [sleep, infinity], readinessProbe: {exec: {command: ['false']}}}]}\n")
    done = netlab("up", "--name", name, "--nodes", "1", "--wait", "8", "-f", "-", input=text, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: not ready after 8 s: Pod default/bad: NotReady")
    assert netlab.leftovers(name) == []


def test_a_pod_without_image_is_no_reason_to_fail_since_it_can_be_loaded_only_now(netlab, name):
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: mine}\nspec: {containers: [{name: a, image: no/such:1}]}\n"
    done = netlab("up", "--name", name, "--nodes", "1", "-f", "-", input=text)
    assert done.stderr.startswith("note: Pod default/mine waits for its image: ")
    assert "netlab image load FILE" in done.stderr


def test_an_object_that_the_api_server_refuses_is_named(netlab, name):
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n"
    done = netlab("up", "--name", name, "--nodes", "1", "-f", "-", input=text, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard input:4: Service bad: the API server refuses it: ")
    assert netlab.leftovers(name) == []


@pytest.fixture
def user():
    """`netlab` as an ordinary user, who has to be able to read this checkout and this Python."""
    uid = 41234
    home = Path(tempfile.mkdtemp(prefix="netlab-rootless-"))  # pytest's own folder is root's alone
    os.chown(home, uid, uid)
    one = Netlab(home, uid=uid)
    if subprocess.run(one.argv("version"), env=one.env, capture_output=True, cwd="/", check=False).returncode:
        pytest.skip(f"an ordinary user can't read {ROOT}")
    if one("doctor", check=False).returncode:
        pytest.skip("this kernel lets no ordinary user make a lab")
    yield one
    one("down", "--all", check=False)
    shutil.rmtree(home, ignore_errors=True)


def test_an_ordinary_user_has_a_whole_lab(user):
    name = f"r{os.getpid() % 100000}"
    user("up", "services", "--name", name, "-q")
    try:
        done = user("test", "services", "--name", name, check=False)
        assert "0 failed" in done.stdout, done.stdout
        traced = user("trace", "pod/client", "svc/web")
        assert "KUBE-SERVICES" in traced.stdout
        assert "connected to 10.244." in traced.stdout
        assert user("exec", "outside", "--", "sh", "-c", "ip -o -4 address show eth0").stdout.split()[3] == "192.0.2.10/24"
        assert user("exec", "node/worker1", "--", "iptables", "-t", "nat", "-S", "KUBE-SERVICES").returncode == 0
    finally:
        user("down", "--name", name)
    assert user.leftovers(name) == []
