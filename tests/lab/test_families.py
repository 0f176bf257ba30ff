"""Address families with the other choices a lab has: the other backend, the other mode of kube-proxy, IPv6 alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from netlab.lab import scenario

pytestmark = [pytest.mark.lab, pytest.mark.root]

LESSON = Path(scenario.find("dual-stack"))


def written(folder: Path, *, networking: dict, backend: str, keep) -> str:
    """Write the lesson dual-stack for another cluster, with those of its checks that are to hold there."""
    document = yaml.safe_load(LESSON.read_text())
    manifests = yaml.safe_load_all((LESSON.parent / "manifests/both.yaml").read_text())
    both = () if networking["ipFamily"] == "dual" else ("both", "six-first")  # those that ask for two families
    objects = [obj for obj in manifests if obj["kind"] != "Service" or obj["metadata"]["name"] not in both]
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    worker = {"role": "worker", "labels": {"tier": "front"},
              "taints": [{"key": "dedicated", "value": "lesson", "effect": "PreferNoSchedule"}]}
    document |= {"networking": networking, "network": {"backend": backend}, "manifests": ["objects.yaml"],
                 "kubeProxy": {"metricsBindAddress": "[::1]:10249"}, "nodes": [{"role": "control-plane"}, worker],
                 "checks": [one for one in document["checks"] if keep(one)]}
    (folder / "scenario.yaml").write_text(yaml.safe_dump(document))
    return str(folder / "scenario.yaml")


def failed(netlab, file: str, name: str) -> list[str]:
    done = netlab("test", file, "--name", name, "-o", "json", check=False)
    rows = json.loads(done.stdout)
    assert len(rows) >= 4
    return [f"{row['check']}: {row['seen']}" for row in rows if not row["passed"]]


@pytest.mark.soak
def test_both_families_by_nftables_over_vxlan(netlab, tmp_path):
    name = f"f{os.getpid() % 100000}"
    file = written(tmp_path, networking={"ipFamily": "dual", "kubeProxyMode": "nftables"}, backend="vxlan",
                   keep=lambda one: "rule" not in one and "fd00:172:18::4" not in one.get("run", ""))
    netlab("up", file, "--name", name, "--no-kubeconfig", "-q")
    try:
        assert failed(netlab, file, name) == []
        for family in ("ip", "ip6"):
            listing = netlab("--name", name, "exec", "node/worker1", "--", "nft", "list", "table", family, "kube-proxy")
            assert "default/both/tcp/http" in listing.stdout
    finally:
        netlab("down", "--name", name)
    assert netlab.leftovers(name) == []


def test_ipv6_alone(netlab, tmp_path):
    name = f"s{os.getpid() % 100000}"
    def kept(one):
        text = str(one)
        return "NETLAB-MASQ" in text or ("six" in text and "six-first" not in text and one.get("family") != "IPv4")

    file = written(tmp_path, networking={"ipFamily": "ipv6"}, backend="host-gw", keep=kept)
    netlab("up", file, "--name", name, "--no-kubeconfig", "-q")

    def said(*words: str) -> str:
        return netlab("--name", name, *words).stdout

    try:
        ips = json.loads(said("kubectl", "get", "nodes,pods,services", "-A", "-o", "json"))["items"]
        texts = json.dumps([(obj["spec"], obj["status"]) for obj in ips])
        assert "10.244." not in texts
        assert "172.18." not in texts
        assert "fd00:10:96::a" in said("exec", "pod/guest", "--", "cat", "/etc/resolv.conf")
        assert "inet " not in said("exec", "node/worker1", "--", "ip", "-4", "addr", "show", "dev", "eth0")
        assert said("exec", "node/worker1", "--", "curl", "-sg", "http://[::1]:10256/healthz").startswith("{")
        assert said("exec", "node/worker1", "--", "curl", "-sg", "http://[::1]:10249/proxyMode") == "iptables"
        node = json.loads(said("kubectl", "get", "node", "worker1", "-o", "json"))
        assert node["metadata"]["labels"]["tier"] == "front"
        assert node["spec"]["taints"] == [{"key": "dedicated", "value": "lesson", "effect": "PreferNoSchedule"}]
        assert "deployed" in said("exec", "pod/guest", "--", "sh", "-c", "wget -qO- http://six/echo?msg=deployed")
        assert failed(netlab, file, name) == []
        refused = netlab("--name", name, "kubectl", "create", "-f", "-", check=False, input=json.dumps(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "both"},
             "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]}}))
        assert "dual-stack" in refused.stderr
    finally:
        netlab("down", "--name", name)
    assert netlab.leftovers(name) == []
