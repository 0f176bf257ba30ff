"""A machine that is no lab: processes in namespaces with the control groups that a kubelet makes, and objects in a file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from netlab.cli.main import run
from netlab.kernel import netns
from tests.trace.topology import NODES, PODS, Network
from tests.trace.views.test_views import blocks, options

pytestmark = pytest.mark.root
UIDS = {pod: f"{n:08x}-aaaa-4bbb-8ccc-ddddeeeeffff" for n, pod in enumerate(PODS, 1)}


def objects() -> list[dict]:
    pods = [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": pod, "namespace": "default", "uid": UIDS[pod],
                                                           "labels": {"app": pod.split("-")[0]}},
             "spec": {"nodeName": node}, "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
            for pod, (node, ip) in PODS.items()]
    nodes = [{"kind": "Node", "apiVersion": "v1", "metadata": {"name": node},
              "status": {"addresses": [{"type": "InternalIP", "address": ip}]}} for node, (ip, _) in NODES.items()]
    service = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "default"},
               "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ports": [{"name": "http", "port": 80}]}}
    return [*pods, *nodes, service]


@dataclass
class Machine:
    """A machine with two nodes; everything runs below one process, so that others' labs here do not count."""

    net: Network
    root: int
    file: Path

    def argv(self, *words: str) -> list[str]:
        command, *rest = words
        return [sys.executable, "-P", "-m", "netlab.cli.main", command, "--attach", f"tree:{self.root}", "--attach",
                f"fabric=pid:{self.pids['fabric']}", "--objects", str(self.file), *rest]

    pids: dict[str, int]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=60, check=False)

    def without_fabric(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it with the nodes and Pods alone, as on a real node."""
        command, *rest = words
        known = [word for place, pid in self.pids.items() if place != "fabric" for word in ("--attach", f"pid:{pid}")]
        return subprocess.run([sys.executable, "-P", "-m", "netlab.cli.main", command, *known, "--objects", str(self.file),
                               *rest], capture_output=True, text=True, timeout=60, check=False)

    def left(self) -> list[str]:
        """Return what of a tracer's is in the namespaces."""
        found = []
        for place, fd in self.net.places.items():
            with netns.inside(fd):
                tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
                found += [f"{place}: {line}" for line in tables.splitlines() if "netlab" in line]
                with open("/proc/thread-self/net/packet") as file:
                    found += [f"{place}: a packet socket" for _ in file.readlines()[1:]]
        return found


@pytest.fixture
def machine(network: Network, tmp_path: Path) -> Iterator[Machine]:
    top = Path("/sys/fs/cgroup/pids" if Path("/sys/fs/cgroup/pids").is_dir() else "/sys/fs/cgroup") / f"t{os.getpid()}"
    kubelet = tmp_path / "kubelet"
    shutil.copy("/bin/sleep", kubelet)
    pids: dict[str, int] = {}
    children: list[subprocess.Popen[bytes]] = []

    def start(place: str, program: str, group: str = "") -> None:
        with netns.inside(network.places[place]):
            children.append(subprocess.Popen([program, "120"]))
        pids[place] = children[-1].pid
        if group:
            (top / group).mkdir(parents=True)
            (top / group / "cgroup.procs").write_text(str(pids[place]))

    try:
        start("fabric", "/bin/sleep")
        for node in NODES:
            start(f"node/{node}", str(kubelet))
        for n, pod in enumerate(PODS):
            uid = UIDS[pod]
            start(f"pod/default/{pod}", "/bin/sleep", f"kubepods/burstable/pod{uid}/c" if n else
                  f"kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice/cri-containerd-1.scope")
        file = tmp_path / "objects.yaml"
        file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": objects()}))
        yield Machine(network, os.getpid(), file, pids)
    finally:
        for child in children:
            child.kill()
            child.wait()
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def agrees(told: dict) -> bool:
    """Tell whether a trace went as predicted; one that lost events on a busy machine cannot say."""
    return told["prediction"]["status"] == ("skipped" if told["lost"] else "agrees")


def eventually(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_trace_there_is_as_in_a_lab(machine: Machine) -> None:
    machine.net.serve("pod/default/web-2", 8080)
    done = machine("trace", "pod/client", "svc/web", "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    places = list(dict.fromkeys(hop["place"] for hop in told["hops"] if hop["direction"] == "request"))
    assert places == ["pod/default/client", "node/node1", "fabric", "node/node2", "pod/default/web-2"]
    assert told["outcome"]["endpointPlace"] == "pod/default/web-2"
    assert next(hop["text"] for hop in told["hops"] if hop["kind"] == "nat") == "DNAT 10.96.0.10:80 → 10.244.2.3:8080"
    assert any(hop.get("comment") == "default/web:http cluster IP" for hop in told["hops"])
    assert told["links"]["node/node1 v-client"] == "pod/default/client"
    assert told["links"]["fabric node1"] == "node/node1"
    assert agrees(told), told["prediction"]
    assert machine.left() == []


def test_where_nobody_listens_between_the_nodes_their_subnet_joins_them(machine: Machine) -> None:
    machine.net.serve("pod/default/web-2", 8080)
    done = machine.without_fabric("trace", "pod/client", "svc/web", "-o", "json")
    told = json.loads(done.stdout)
    assert told["outcome"]["endpointPlace"] == "pod/default/web-2", done.stderr
    assert {hop["place"] for hop in told["hops"]} == {"pod/default/client", "node/node1", "node/node2",
                                                      "pod/default/web-2"}
    assert agrees(told), told["prediction"]


def test_what_leaves_the_known_namespaces_is_said_to(machine: Machine) -> None:
    """The router between the nodes answers for an address that none of them has."""
    with netns.inside(machine.net.places["fabric"]):
        subprocess.run(["ip", "address", "add", "172.18.0.1/16", "dev", "br0"], check=True)
    done = machine.without_fabric("trace", "node/node1", "172.18.0.1:9", "-o", "json", "--timeout", "2")
    told = json.loads(done.stdout)
    assert told["outcome"]["status"] == "refused", done.stderr
    assert told["outcome"]["why"].startswith("172.18.0.1 answered with a reset")
    assert [hop["text"] for hop in told["hops"] if hop["kind"] == "deliver"] == ["left node/node1 by eth0",
                                                                                 "back at node/node1"]
    assert agrees(told), told["prediction"]
    assert "as far as is known here" in told["prediction"]["words"]


def test_without_names_they_are_called_by_what_the_machine_knows(machine: Machine) -> None:
    argv = [word for word in machine.argv("trace", "pod/00000001", "pod/00000003:8080", "-o", "json")
            if word not in ("--objects", str(machine.file))]
    machine.net.serve("pod/default/web-2", 8080)
    told = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert told["outcome"]["status"] == "connected"
    assert [place for place in dict.fromkeys(hop["place"] for hop in told["hops"]) if place.startswith("pod/")] == [
        "pod/00000001", "pod/00000003"]


@pytest.mark.parametrize("words", [
    pytest.param(("trace", "pod/client", "10.244.2.3:7", "-p", "udp", "--data", "x", "--timeout", "60"), id="trace"),
    pytest.param(("capture", "-o", "json"), id="capture")])
def test_nothing_is_left_after_kill_9(machine: Machine, words: tuple[str, ...]) -> None:
    silent = netns.socket_in(machine.net.places["pod/default/web-2"], socket.AF_INET, socket.SOCK_DGRAM)
    machine.net.stops.append(silent)
    silent.bind(("0.0.0.0", 7))  # takes what comes and never answers
    process = subprocess.Popen(machine.argv(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        eventually(lambda: process.poll() is not None or len(machine.left()) >= 6, "it never listened")
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    eventually(lambda: not machine.left(), "something is left")


def test_capture_there_with_labels(machine: Machine, tmp_path: Path) -> None:
    machine.net.serve("pod/default/web-2", 8080)
    path = tmp_path / "a.pcapng"
    process = subprocess.Popen(machine.argv("capture", "-l", "app=web", "-w", str(path), "-f", "tcp port 8080"),
                               stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "listening in 2 places; Ctrl-C ends\n"
    assert machine("trace", "pod/client", "10.244.2.3:8080").returncode == 0
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0
    assert "none dropped; 1 interface of 2 places" in said
    names = [dict(options(body[8:]))[2].decode() for kind, body in blocks(path.read_bytes()) if kind == 1]
    assert names == ["pod/default/web-2:eth0"]
    assert machine.left() == []


@pytest.mark.parametrize(("words", "says"), [
    (("trace", "pod/nobody", "svc/web"), "no place pod/nobody among those attached to"),
    (("trace", "pod/client", "svc/nobody"), "no Service nobody"),
    (("capture", "pod/nobody"), "no place pod/nobody"),
    (("capture", "-l", "a in b"), "-l a in b"),
    (("trace", "pod/client", "svc/web", "--attach", "everything"), "no such way to find a namespace"),
    (("trace", "pod/client", "svc/web", "--attach", "pid:1073741823"), "no process 1073741823"),
    (("trace", "pod/client", "svc/web", "--attach", "netns:/nowhere"), "no network namespace at /nowhere"),
    (("trace", "pod/client", "svc/web", "--objects", "/nowhere.yaml"), "can't read /nowhere.yaml"),
])
def test_errors_name_what_is_wrong(machine: Machine, words: tuple[str, ...], says: str,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert run(machine.argv(*words)[4:]) != 0
    assert says in capsys.readouterr().err


def test_live_traffic_there_is_followed(machine: Machine) -> None:
    machine.net.serve("pod/default/web-2", 8080)
    process = subprocess.Popen(machine.argv("trace", "--follow", "svc/web", "--count", "1", "-o", "json"),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: process.poll() is not None or len({line for line in machine.left() if "table" in line}) ==
               len(machine.net.places), "it never listened")  # a namespace's packet socket comes before its table
    with netns.inside(machine.net.places["pod/default/client"]):
        client = socket.socket()
    with client:
        client.settimeout(10)
        client.connect(("10.96.0.10", 80))
    said, complaint = process.communicate(timeout=40)
    assert process.returncode == 0, complaint
    flow, end = (json.loads(line) for line in said.splitlines())
    assert (flow["status"], flow["sourceName"], flow["endpointName"]) == ("connected", "pod/default/client",
                                                                          "pod/default/web-2")
    assert end["shown"] == 1
    assert machine.left() == []
