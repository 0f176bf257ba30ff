"""The objects that make a cluster of a lab."""

from __future__ import annotations

import pytest
import yaml

from netlab.errors import UsageError
from netlab.lab import manifests, plan
from netlab.programs import PROGRAMS

LAB = plan.make("one", workers=2, backend="vxlan")


@pytest.mark.parametrize("name", ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
def test_static_pods_look_as_kubeadms(name):
    pod = manifests.static_pods(LAB, LAB.nodes[0])[f"{name}.yaml"]
    assert pod["metadata"]["labels"] == {"component": name, "tier": "control-plane"}
    spec = pod["spec"]
    assert (spec["hostNetwork"], spec["priorityClassName"]) == (True, "system-node-critical")
    (container,) = spec["containers"]
    assert container["command"][0] == name in PROGRAMS
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert container["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_add_ons_take_the_plans_values():
    objects = manifests.addons(LAB)
    by_key = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    assert "clusterCIDR: 10.244.0.0/16" in by_key["ConfigMap", "kube-proxy"]["data"]["config.conf"]
    netd = by_key["DaemonSet", "netd"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--backend=vxlan" in netd
    assert "--node-name=$(NODE_NAME)" in netd
    assert by_key["Service", "kube-dns"]["spec"]["clusterIP"] == plan.DNS_SERVICE
    assert not [obj for obj in objects if "$" in str(obj).replace("$(NODE_NAME)", "")]


def test_every_account_of_an_add_on_is_made_too():
    objects = manifests.addons(LAB)
    accounts = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "ServiceAccount"}
    used = {obj["spec"]["template"]["spec"]["serviceAccountName"] for obj in objects
            if obj["kind"] in ("DaemonSet", "Deployment")}
    assert used == accounts


def test_only_the_control_plane_is_tainted():
    assert "registerWithTaints" in manifests.kubelet_config(LAB, LAB.nodes[0])
    assert "registerWithTaints" not in manifests.kubelet_config(LAB, LAB.nodes[1])
    alone = plan.make("alone", workers=0)
    assert "registerWithTaints" not in manifests.kubelet_config(alone, alone.nodes[0])


def test_a_dual_stack_cluster_gets_both_families_everywhere():
    lab = plan.make("dual", workers=300 - 101, pod_cidrs=("10.244.0.0/18", "fd00:10:244::/56"),
                    service_cidrs=("10.96.0.0/16", "fd00:10:96::/112"), kube_proxy={"mode": "nftables"})
    pods = {name: pod["spec"]["containers"][0]["command"] for name, pod in
            manifests.static_pods(lab, lab.nodes[0]).items()}
    assert "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112" in pods["kube-apiserver.yaml"]
    assert {"--cluster-cidr=10.244.0.0/18,fd00:10:244::/56", "--node-cidr-mask-size-ipv4=26",
            "--node-cidr-mask-size-ipv6=64"} <= set(pods["kube-controller-manager.yaml"])
    (config,) = [obj["data"]["config.conf"] for obj in manifests.addons(lab)
                 if (obj["kind"], obj["metadata"]["name"]) == ("ConfigMap", "kube-proxy")]
    read = yaml.safe_load(config)
    assert (read["mode"], read["clusterCIDR"]) == ("nftables", "10.244.0.0/18,fd00:10:244::/56")


def test_a_range_that_is_too_small_is_refused():
    with pytest.raises(UsageError, match=r"the Pod range 10\.1\.0\.0/29 is too small for 5 nodes"):
        plan.make("small", workers=4, pod_cidrs=("10.1.0.0/29",))


def test_addresses_and_names_of_a_plan():
    assert [(node.name, node.ip) for node in LAB.nodes] == [
        ("control-plane", "172.18.0.2"), ("worker1", "172.18.0.3"), ("worker2", "172.18.0.4")]
    assert LAB.nodes[2].mac == "02:42:ac:12:00:04"
    assert LAB.api_url == "https://172.18.0.2:6443"
