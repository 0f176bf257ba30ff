"""Flags and the KubeletConfiguration file together, as upstream's kubelet takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab import flags
from netlab.errors import ManifestError, NotFound, UsageError
from netlab.kubelet import addresses, config
from netlab.kubelet.config import Config

FILE = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: /pki/ca.crt}}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
staticPodPath: /etc/kubernetes/manifests
port: 10251
registerWithTaints: [{key: a, effect: NoSchedule}]
containerLogMaxSize: 1Mi
nodeStatusReportFrequency: 1m30s
systemReserved: {memory: 100Mi}
kubeReserved: {cpu: 100m}
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
"""


def loaded(tmp_path: Path, *argv: str, file: str = FILE) -> Config:
    (tmp_path / "config.yaml").write_text(file)
    return config.load(flags.parse("kubelet", [f"--config={tmp_path}/config.yaml", *argv], config.FLAGS))


def test_the_file(tmp_path: Path) -> None:
    found = loaded(tmp_path, "--hostname-override=Node1", "--node-ip=172.18.0.3", "--node-labels=a=b,c=d")
    assert (found.node_name, found.node_ips, found.node_labels) == ("node1", ("172.18.0.3",), {"a": "b", "c": "d"})
    assert (found.cluster_dns, found.cluster_domain, found.manifests) == (("10.96.0.10",), "cluster.local",
                                                                          "/etc/kubernetes/manifests")
    assert (found.port, found.client_ca, found.anonymous) == (10251, "/pki/ca.crt", False)
    assert (found.taints, found.log_max_bytes, found.status_seconds) == (({"key": "a", "effect": "NoSchedule"},), 1 << 20, 90)
    assert (found.reserved, found.backoff_limit) == ({"memory": "100Mi", "cpu": "100m"}, 5)


def test_a_given_flag_wins_over_the_file(tmp_path: Path) -> None:
    found = loaded(tmp_path, "--port=1", "--cluster-dns=1.1.1.1", "--client-ca-file=/x", "--register-with-taints=k=v:NoExecute",
                   "--container-runtime-endpoint=unix:///run/x.sock", "--eviction-hard=memory.available<1Gi")
    assert (found.port, found.cluster_dns, found.client_ca) == (1, ("1.1.1.1",), "/x")
    assert found.taints == ({"key": "k", "value": "v", "effect": "NoExecute"},)
    assert found.runtime == Path("/run/x.sock")


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        config.load(flags.parse("kubelet", ["--config=/no/such"], config.FLAGS))
    with pytest.raises(ManifestError):
        loaded(tmp_path, file="kind: Pod")
    with pytest.raises(UsageError, match="invalid taint"):
        loaded(tmp_path, "--register-with-taints=nonsense")
    with pytest.raises(UsageError, match="unknown flag"):
        flags.parse("kubelet", ["--no-such-flag"], config.FLAGS)
    with pytest.raises(UsageError, match="bad --node-ip"):
        addresses.of_node(["nonsense"])


def test_addresses() -> None:
    assert addresses.of_node(["172.18.0.3", "fd00::0:3"]) == ("172.18.0.3", "fd00::3")


def test_who_decides_what_clients_may_do(tmp_path: Path) -> None:
    assert loaded(tmp_path).webhook is True  # a file's default
    assert loaded(tmp_path, "--authorization-mode=AlwaysAllow").webhook is False
    with pytest.raises(UsageError, match="unknown authorization mode"):
        loaded(tmp_path, "--authorization-mode=Maybe")
