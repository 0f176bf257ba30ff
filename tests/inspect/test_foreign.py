"""Whose is a namespace? Asked with process tables such as a node's and kind's, and with this machine's own /proc."""

from __future__ import annotations

import os
import subprocess

import pytest

from netlab.errors import NotFound, UsageError
from netlab.inspect import foreign, membership
from netlab.kernel import netns, procs
from netlab.kernel.procs import Process

UID = "2a9b1c3d-0000-4111-8222-333344445555"
OTHER = "77777777-1111-4222-8333-444455556666"
HASH = "0123456789abcdef0123456789abcdef"
CGROUPFS = f"/kubepods/burstable/pod{UID}/8f0c"
SYSTEMD = f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{OTHER.replace('-', '_')}.slice/cri-containerd-91.scope"
STATIC = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/cri-containerd-1.scope"


@pytest.mark.parametrize(("path", "uid"), [
    pytest.param(CGROUPFS, UID, id="cgroupfs"), pytest.param(SYSTEMD, OTHER, id="systemd"),
    pytest.param(STATIC, HASH, id="a static Pod"),
    pytest.param(f"/system.slice/docker-0a.scope/kubelet.slice/kubelet{SYSTEMD}", OTHER, id="in a node container"),
    pytest.param("/system.slice/podman.service", "", id="none"), pytest.param("/", "", id="the root"),
    pytest.param(f"/kubepods/pod{UID}0/1", "", id="longer than a uid"),
])
def test_uid_from_a_control_group(path: str, uid: str) -> None:
    assert foreign.pod_uid(["/", path]) == uid


NODE = [Process(1, 0, "systemd", 100), Process(50, 1, "kubelet", 100), Process(60, 1, "containerd-shim", 100),
        Process(61, 60, "pause", 200, (CGROUPFS,)), Process(62, 60, "nginx", 200, (CGROUPFS,)),
        Process(70, 1, "containerd-shim", 100), Process(71, 70, "kube-proxy", 100, (SYSTEMD,)),
        Process(90, 1, "dockerd", 300)]
"""A node: systemd and kubelet, a Pod with a network of its own, one on the node's, and a container of docker's."""
KIND = [Process(1, 0, "systemd", 100), Process(10, 1, "containerd-shim", 100), Process(11, 10, "systemd", 110),
        Process(12, 11, "kubelet", 110), Process(13, 11, "containerd-shim", 110),
        Process(14, 13, "pause", 210, (SYSTEMD,)),
        Process(20, 1, "containerd-shim", 100), Process(21, 20, "systemd", 120), Process(22, 21, "kubelet", 120),
        Process(23, 21, "containerd-shim", 120), Process(24, 23, "pause", 220, (CGROUPFS,))]
"""Two node containers on a machine that is no node."""


def inodes(spots: list[foreign.Spot]) -> dict[int, str]:
    return {spot.inode: spot.role for spot in spots}


def test_auto_on_a_node_finds_it_and_its_pods() -> None:
    found = foreign.choose([foreign.wish("auto")], NODE, own=100)
    assert inodes(found) == {100: "node", 200: "pod"}
    assert foreign._nodes(NODE, found) == {200: 100}


def test_auto_on_a_kind_machine_leaves_the_machine_itself_out() -> None:
    found = foreign.choose([foreign.wish("auto")], KIND, own=100)
    assert inodes(found) == {110: "node", 120: "node", 210: "pod", 220: "pod"}
    assert foreign._nodes(KIND, found) == {210: 110, 220: 120}


def test_a_tree_is_one_node_container_and_what_is_below() -> None:
    assert inodes(foreign.choose([foreign.wish("tree:11")], KIND, own=100)) == {110: "node", 210: "pod"}


@pytest.mark.parametrize("wish", ["auto", "tree:60"])
def test_a_namespace_is_opened_by_its_oldest_process(wish: str) -> None:
    """Process ids begin anew: a probe's may be the lowest, and it is over before anybody opens anything."""
    old = [Process(60, 1, "containerd-shim", 100), Process(900, 60, "pause", 200, (CGROUPFS,), started=5)]
    young = [Process(61, 60, "probe", 200, (CGROUPFS,), started=9), Process(901, 60, "probe", 200, (CGROUPFS,), started=9)]
    (spot,) = [each for each in foreign.choose([foreign.wish(wish)], [*young, *old], own=1) if each.role == "pod"]
    assert (spot.pid, spot.path, spot.others) == (900, "/proc/900/ns/net", (61, 901))


@pytest.mark.root
def test_a_namespace_is_opened_by_another_process_when_the_first_has_ended_or_moved() -> None:
    fd = netns.new_netns()
    with netns.inside(fd), subprocess.Popen(["sleep", "60"]) as child:
        inode = os.fstat(fd).st_ino
        for gone in (os.getppid(), 1 << 30):  # it is elsewhere, and it is no more
            spot = foreign.Spot("pod/a", "pod", f"/proc/{gone}/ns/net", inode, gone, others=(child.pid,))
            with foreign.opened([spot]) as found:
                assert [os.fstat(fd).st_ino for _, fd in found] == [inode]
        child.kill()
    os.close(fd)


def test_processes_tell_when_they_began() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = {process.pid: process for process in procs.scan()[0]}
        child.kill()
    assert found[os.getpid()].started <= found[child.pid].started
    assert found[child.pid].started > 0


def test_without_a_kubelet_two_pods_in_one_namespace_tell_a_node() -> None:
    found = foreign.choose([foreign.wish("auto")], [Process(5, 1, "a", 9, (CGROUPFS,)), Process(6, 1, "b", 9, (SYSTEMD,))],
                           own=1)
    assert inodes(found) == {9: "node"}


def test_nothing_of_kubernetes_here() -> None:
    with pytest.raises(NotFound, match="no kubelet and no Pod"):
        foreign.choose([foreign.wish("auto")], [Process(1, 0, "systemd", 100)], own=100)


@pytest.mark.parametrize("text", ["", "all", "pid:", "pid:x", "pid:-1", "netns:", "tree:0", "x=auto", "a b=pid:1", "../x=pid:1"])
def test_words_that_are_no_wish(text: str) -> None:
    with pytest.raises(UsageError, match="--attach"):
        foreign.wish(text)


def test_wishes() -> None:
    assert foreign.wish("node/w1=pid:7") == foreign.Wish("pid", "7", "node/w1")
    assert foreign.wish("netns:blue") == foreign.Wish("netns", "/run/netns/blue")
    assert foreign.wish("netns:/run/netns/a=b") == foreign.Wish("netns", "/run/netns/a=b")


def spot(role: str, inode: int, **more: object) -> foreign.Spot:
    return foreign.Spot("", role, f"/proc/{inode}/ns/net", inode, inode, **more)  # type: ignore[arg-type]


def a_pod(name: str, *, uid: str = "", ip: str = "", **annotations: str) -> dict:
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": uid, "annotations": annotations},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}]}}


def test_names_come_from_the_api_by_uid_then_by_address_then_from_the_machine() -> None:
    known = [a_pod("by-uid", uid=UID, ip="10.0.0.9"), a_pod("by-ip", ip="10.0.0.2"),
             a_pod("static", uid=OTHER, ip="10.0.0.8", **{"kubernetes.io/config.hash": HASH}),
             {"kind": "Node", "metadata": {"name": "w1"}, "status": {"addresses": [
                 {"type": "Hostname", "address": "w1"}, {"type": "InternalIP", "address": "172.18.0.3"}]}}]
    spots = [spot("node", 1, addresses=("172.18.0.3", "10.0.0.1")), spot("node", 2), spot("node", 3),
             spot("pod", 4, uid=UID), spot("pod", 5, uid="99999999-0", addresses=("10.0.0.2",)),
             spot("pod", 6, uid=HASH), spot("pod", 7, uid="abcdef01-2"), spot("other", 8)]
    found = foreign.named(spots, known, {2: "w2", 3: "../../x y"}, {4: 1})
    assert [each.place for each in found] == [
        "node/w1", "node/w2", "node/pid-3", "pod/default/by-uid", "pod/default/by-ip", "pod/default/static",
        "pod/abcdef01", "pid/8"]
    assert found[3].node == "node/w1"
    assert found[7].node == ""


def test_two_with_one_name_stay_apart() -> None:
    found = foreign.named([spot("node", 1), spot("node", 2)], [], {1: "w", 2: "w"}, {})
    assert [each.place for each in found] == ["node/w", "node/w@2"]


def a_node(name: str, ip: str) -> dict:
    return {"kind": "Node", "metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}


@pytest.mark.parametrize(("nodes", "uids", "strange"), [
    pytest.param([], {"a"}, set(), id="no Node is known"),
    pytest.param([a_node("x", "10.9.9.9")], {"z"}, set(), id="the API's nodes are all elsewhere"),
    pytest.param([a_node("one", "172.18.0.2")], {"a"}, {2, 3}, id="another address, or the same one and other Pods"),
    pytest.param([a_node("one", "172.18.0.2")], {"z"}, {3}, id="no Pod tells the two with one address apart"),
    pytest.param([a_node("one", "172.18.0.2"), a_node("two", "172.18.0.3")], {"b", "c"}, {1}, id="the second cluster's"),
])
def test_other_clusters_nodes_on_this_machine_are_told_apart(nodes: list[dict], uids: set[str], strange: set[int]) -> None:
    here = [membership.Here(1, ("172.18.0.2",), ("a",)), membership.Here(2, ("172.18.0.2",), ("b",)),
            membership.Here(3, ("172.18.0.3",), ("c",))]
    assert membership.strangers(here, nodes, uids) == strange


def test_pods_go_with_their_node() -> None:
    spots = [spot("node", 1, addresses=("172.18.0.2",)), spot("pod", 11, uid=UID),
             spot("node", 2, addresses=("172.18.0.2",)), spot("pod", 21, uid=OTHER), spot("pod", 31, uid=HASH)]
    known = [a_node("one", "172.18.0.2"), a_pod("mine", uid=UID)]
    assert [each.inode for each in foreign._members(spots, known, {11: 1, 21: 2})] == [1, 11, 31]


@pytest.mark.root
def test_a_process_of_this_machine_is_found_by_its_pid_and_its_namespace_opens() -> None:
    fd = netns.new_netns()
    with netns.inside(fd):
        sleeper = subprocess.Popen(["sleep", "60"])
    try:
        (found,) = foreign.discover([foreign.wish(f"lonely=pid:{sleeper.pid}")])
        assert (found.place, found.role, found.inode) == ("lonely", "other", os.fstat(fd).st_ino)
        with foreign.opened([found]) as places:
            assert os.fstat(places[0][1]).st_ino == os.fstat(fd).st_ino
        assert [p.pid for p in procs.scan()[0] if p.netns == found.inode] == [sleeper.pid]
    finally:
        sleeper.kill()
        sleeper.wait()
        os.close(fd)
    with foreign.opened([found]) as places:
        assert places == []
    with pytest.raises(NotFound, match="no process"):
        foreign.discover([foreign.wish(f"pid:{sleeper.pid}")])
