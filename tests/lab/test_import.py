"""`netlab import`: another cluster's network as a scenario; the rules in the lab are those of that cluster."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from ipaddress import ip_network

import pytest
import yaml

from netlab.errors import UsageError
from netlab.inspect.objects import read
from netlab.lab import importing, networking, plan, source
from tests.proxy.builders import a_node, a_port, a_service, a_slice, an_endpoint
from tests.trace.test_predict import a_pod

API = a_service("kubernetes", "10.43.0.1", ports=[a_port(443, "https")])
MANAGED = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}


def cluster() -> list[dict]:
    nodes = [a_node("cp.example", "192.168.7.1", labels={importing.ROLE: "", "topology.kubernetes.io/zone": "a"},
                    podCIDRs=["10.42.0.0/24"]),
             a_node("w1", "172.18.0.9", podCIDRs=["10.42.1.0/24"])]
    return [*nodes, API, a_pod("web-1", "10.42.1.7", "w1", app="web"), a_pod("old", "10.42.0.8", "cp.example", app="old"),
            a_service("web", "10.43.7.7", type="LoadBalancer", selector={"app": "web"}, ingress=["198.51.100.7"],
                      ports=[a_port(80, node_port=31000) | {"targetPort": 8080}]),
            a_slice("web", [an_endpoint("10.42.1.7", "w1", ready=True)]),
            a_service("old", "10.43.7.8", selector={"app": "old"}),
            a_slice("old", [an_endpoint("10.42.0.8", "cp.example", ready=False)])]


def test_names_ranges_and_addresses_are_kept_where_a_lab_can_have_them() -> None:
    made = importing.convert(cluster())
    control, worker = made.scenario["nodes"]
    assert control == {"role": "control-plane", "name": "cp.example", "labels": {"topology.kubernetes.io/zone": "a"},
                       "taints": [], "podSubnet": "10.42.0.0/24", "dynamicFrom": "10.42.0.9"}
    assert (worker["address"], worker["podSubnet"]) == ("172.18.0.9", "10.42.1.0/24")
    assert made.scenario["networking"] == {"ipFamily": "ipv4", "serviceSubnet": "10.43.0.0/16",
                                           "podSubnet": "10.42.0.0/16"}
    assert any("192.168.7.1" in note for note in made.notes)


def test_pods_answer_at_their_addresses_and_services_keep_theirs() -> None:
    made = importing.convert(cluster())
    by_name = {(each["kind"], each["metadata"]["name"]): each for each in made.manifests}
    pod = by_name["Pod", "web-1"]
    assert pod["metadata"]["annotations"] == {"netlab.io/ips": "10.42.1.7"}
    assert pod["spec"]["nodeName"] == "w1"
    assert pod["spec"]["containers"][0]["args"] == ["netexec", "--http-port=8080", "--udp-port=-1"]
    web = by_name["Service", "web"]
    assert (web["spec"]["clusterIP"], web["spec"]["ports"][0]["nodePort"]) == ("10.43.7.7", 31000)
    assert web["status"] == {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}
    assert web["spec"]["selector"] == {"app": "web"}
    assert ("EndpointSlice", "web-1") not in by_name, "the lab's controllers find these"
    assert "selector" not in by_name["Service", "old"]["spec"]
    assert by_name["EndpointSlice", "old-1"]["endpoints"][0]["nodeName"] == "cp.example"
    assert ("Service", "kubernetes") not in by_name


def test_the_scenario_is_one_that_a_lab_takes() -> None:
    files = importing.texts(importing.convert(cluster()))
    count, wishes, asked = reread(importing.convert(cluster()))
    assert (count, wishes[0].pod_cidrs, wishes[1].addresses) == (2, ("10.42.0.0/24",), ("172.18.0.9",))
    assert asked.service_cidrs() == ("10.43.0.0/16",)
    assert len(list(yaml.safe_load_all(files["manifests.yaml"]))) == len(importing.convert(cluster()).manifests)


class Counted(list):
    """A list that counts how often it is gone through."""

    rounds = 0

    def __iter__(self):
        self.rounds += 1
        return super().__iter__()


def test_the_objects_are_gone_through_as_often_for_many_pods_as_for_few() -> None:
    def rounds(pods: int) -> int:
        objects = Counted(cluster())
        for n in range(pods):
            objects += [a_pod(f"p{n}", f"10.42.1.{n + 20}", "w1", app=f"p{n}"),
                        a_service(f"p{n}", f"10.43.8.{n}", selector={"app": f"p{n}"}, ports=[a_port(80)]),
                        a_slice(f"p{n}", [an_endpoint(f"10.42.1.{n + 20}", "w1", ready=True)])]
        importing.convert(objects)
        return objects.rounds

    assert rounds(5) == rounds(50)


def test_every_control_plane_node_keeps_its_role_and_taint() -> None:
    more = a_node("cp2", "172.18.0.10", labels={importing.ROLE: "", "kops.k8s.io/instancegroup": "masters", "a": "b"},
                  podCIDRs=["10.42.2.0/24"])
    more["spec"]["taints"] = [{"key": importing.ROLE, "effect": "NoSchedule"}]
    made = importing.convert([*cluster(), more])
    assert any("cp2" in note for note in made.notes)
    _, wishes, _ = reread(made)
    lab = plan.make("x", workers=2, wishes=wishes)
    second = next(each for each in lab.nodes if each.name == "cp2")
    assert not second.control
    assert second.given_labels == {importing.ROLE: "", "kops.k8s.io/instancegroup": "masters"}
    assert second.own_labels == {"a": "b"}, "a kubelet that claims the others is refused"
    assert second.taints == (plan.Taint(importing.ROLE, "NoSchedule"),)


def test_a_cluster_whose_control_plane_is_not_among_its_nodes_gets_one() -> None:
    objects = [each for each in cluster() if each["metadata"]["name"] != "cp.example"]
    made = importing.convert(objects)
    assert made.scenario["nodes"][0] == {"role": "control-plane", "name": "control-plane", "podSubnet": "10.42.2.0/24"}


def test_a_pod_whose_address_is_not_of_its_nodes_range_gets_another_one_and_it_is_said() -> None:
    made = importing.convert([*cluster(), a_pod("far", "10.99.0.1", "w1")])
    far = next(each for each in made.manifests if each["metadata"]["name"] == "far")
    assert far["metadata"]["annotations"] == {}
    assert any("Pod default/far has another address than 10.99.0.1" in note for note in made.notes)


def test_nodes_keep_addresses_of_a_network_of_their_own() -> None:
    objects = [a_node("ip-10-0-1-7.ec2.internal", "10.0.1.7", podCIDRs=["10.42.0.0/24"]),
               a_node("ip-10-0-2-9.ec2.internal", "10.0.2.9", podCIDRs=["10.42.1.0/24"]), API]
    made = importing.convert(objects)
    assert made.scenario["networking"]["nodeSubnet"] == "10.0.0.0/22"
    assert [(row["name"], row.get("address")) for row in made.scenario["nodes"]] == [
        ("control-plane", None), ("ip-10-0-1-7.ec2.internal", "10.0.1.7"), ("ip-10-0-2-9.ec2.internal", "10.0.2.9")]
    assert not any("other addresses" in note for note in made.notes)
    _, wishes, asked = reread(made)
    lab = plan.make("x", workers=2, wishes=wishes, pod_cidrs=asked.pod_cidrs(), service_cidrs=asked.service_cidrs(),
                    node_cidrs=asked.node_cidrs())
    assert (lab.numbers[0].router, lab.nodes[0].ip, lab.nodes[2].ip) == ("10.0.0.1", "10.0.0.2", "10.0.2.9")


def test_pods_out_of_blocks_beside_the_podcidr_keep_their_addresses() -> None:
    """Calico and Cilium take blocks of a pool and leave podCIDR as it is."""
    objects = [a_node("cp", "172.18.0.2", labels={importing.ROLE: ""}, podCIDRs=["192.168.0.0/24"]),
               a_node("a", "172.18.0.3", podCIDRs=["192.168.1.0/24"]),
               a_node("b", "172.18.0.4", podCIDRs=["192.168.2.0/24"]), API,
               a_pod("a1", "192.168.131.65", "a"), a_pod("a2", "192.168.131.66", "a"),
               a_pod("b1", "192.168.131.194", "b"), a_pod("b2", "192.168.7.1", "b")]
    made = importing.convert(objects)
    rows = {row["name"]: ip_network(row["podSubnet"]) for row in made.scenario["nodes"]}
    assert rows["a"] == ip_network("192.168.131.0/25"), "the /26 begins with a Pod: its bridge could have no address"
    assert rows["b"] == ip_network("192.168.131.128/25")
    assert not any(one.overlaps(other) for one, other in itertools.combinations(rows.values(), 2))
    assert made.scenario["networking"]["podSubnet"] == "192.168.0.0/16"
    pods = {each["metadata"]["name"]: each["metadata"]["annotations"] for each in made.manifests if each["kind"] == "Pod"}
    assert pods["a1"] == {"netlab.io/ips": "192.168.131.65"}
    assert pods["b2"] == {}
    assert any("Pod default/b2 has another address than 192.168.7.1" in note for note in made.notes)
    reread(made)


def test_pods_among_their_nodes_addresses_are_told_of() -> None:
    """A cloud's network gives Pods addresses of the nodes' own: one of both has to move."""
    objects = [a_node("a", "10.0.1.7"), a_node("b", "10.0.1.8"), API, a_pod("a1", "10.0.1.50", "a"),
               a_pod("b1", "10.0.1.51", "b")]
    made = importing.convert(objects)
    assert any("Pods get others" in note for note in made.notes)
    assert all(each["metadata"]["annotations"] == {} for each in made.manifests if each["kind"] == "Pod")
    assert made.scenario["networking"] == {"ipFamily": "ipv4", "serviceSubnet": "10.43.0.0/16",
                                           "nodeSubnet": "10.0.1.0/24"}
    reread(made)


def reread(made: importing.Imported) -> tuple[int, tuple[plan.NodeWish, ...], networking.Networking]:
    """Return the scenario as a lab reads it."""
    fields = source.parse(importing.texts(made)["scenario.yaml"], "scenario.yaml").fields(
        ("title", "nodes", "networking", "manifests", "next"))
    return (*networking.nodes(fields["nodes"]), networking.parse(fields["networking"], None))


@pytest.mark.parametrize("kind", ["Node", "Service"])
def test_what_is_missing_is_named(kind: str) -> None:
    with pytest.raises(UsageError, match=f"no {kind}"):
        importing.convert([each for each in cluster() if each["kind"] != kind])


@pytest.mark.lab
@pytest.mark.root
def test_a_lab_exported_and_imported_has_the_same_rules(netlab, services) -> None:
    lab = services[0]
    text = netlab.kubectl("--context", f"netlab-{lab}", "get", "svc,endpointslices,nodes,pods", "-A", "-o", "json")
    assert read(text, "export")
    (netlab.home / "export.json").write_text(text)
    copy = f"{lab}i"
    folder = netlab.home / "imported"
    before = netlab.kubeconfig.read_text()
    said = netlab("import", str(netlab.home / "export.json"), "-d", str(folder), "--up", "--no-kubeconfig", "--name", copy)
    assert netlab.kubeconfig.read_text() == before, "the other lab stays the current one"
    try:
        assert (folder / "scenario.yaml").exists()
        assert "note:" in said.stderr
        for node in ("control-plane", "worker1", "worker2"):
            until = time.monotonic() + 20  # Pods are ready a moment before the proxies hear of it
            while (elsewhere := differing(netlab, lab, copy, node)) - {"kube-system/kube-dns"}:
                assert time.monotonic() < until, f"{node}: only the lab's own DNS is elsewhere, not {elsewhere}"
                time.sleep(0.2)
        answer = json.loads(netlab("trace", "pod/client", "svc/web", "--name", copy, "-o", "json").stdout)
        assert answer["outcome"]["status"] == "connected"
        assert answer["prediction"]["status"] == "agrees"
    finally:
        netlab("down", "--name", copy)
    assert netlab.leftovers(copy) == []


def differing(netlab, lab: str, copy: str, node: str) -> set[str]:
    """Return the Services whose rules differ between the same node of two labs."""
    for name in (lab, copy):
        saved = subprocess.run(["ip", "netns", "exec", f"{name}-{node}", "iptables-save"], capture_output=True, text=True,
                               check=True).stdout
        (netlab.home / f"{name}.txt").write_text(saved)
    found = json.loads(netlab("rules", "diff", str(netlab.home / f"{lab}.txt"), str(netlab.home / f"{copy}.txt"),
                              "-o", "json").stdout)
    return {part["service"] for each in found["differences"] for part in each["services"]}
