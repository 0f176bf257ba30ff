"""resolv.conf by dnsPolicy, /etc/hosts, host names."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.kubelet.netfiles import Resolver, hostname, hosts, parse_resolv_conf, resolver
from tests.kubelet.builders import a_pod

HOST = parse_resolv_conf("# mine\nnameserver 192.0.2.53\nsearch old\nsearch example.org\noptions timeout:1 rotate\n")
CLUSTER = Resolver(("10.96.0.10",), ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"),
                   ("ndots:5",))


@pytest.mark.parametrize(("fields", "found"), [
    ({}, CLUSTER),
    ({"dnsPolicy": "Default"}, HOST),
    ({"hostNetwork": True}, HOST),
    ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, CLUSTER),
    ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
                                         "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}},
     Resolver(("1.1.1.1",), ("a.b",), ("ndots:2", "edns0"))),
    ({"dnsConfig": {"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"], "options": [{"name": "ndots", "value": "1"}]}},
     Resolver(("10.96.0.10", "1.1.1.1", "2.2.2.2"), CLUSTER.searches, ("ndots:1",))),
])
def test_resolver(fields: dict[str, Any], found: Resolver) -> None:
    assert resolver(a_pod(**fields), ("10.96.0.10",), "cluster.local", HOST) == found


def test_no_cluster_dns() -> None:
    assert resolver(a_pod(), (), "cluster.local", HOST) == HOST


@pytest.mark.parametrize(("name", "fields", "found"), [
    ("web-1", {}, ("web-1", "")),
    ("web-1", {"hostname": "www"}, ("www", "")),
    ("web-1", {"hostname": "www", "subdomain": "sub"}, ("www", "www.sub.default.svc.cluster.local")),
    ("web-1", {"subdomain": "sub", "setHostnameAsFQDN": True}, ("web-1.sub.default.svc.cluster.local",) * 2),
    ("x" * 62 + "-yz", {}, ("x" * 62, "")),
])
def test_hostname(name: str, fields: dict[str, Any], found: tuple[str, str]) -> None:
    assert hostname(a_pod(name=name, **fields), "cluster.local") == found


def test_hosts() -> None:
    pod = a_pod(subdomain="sub", hostAliases=[{"ip": "1.2.3.4", "hostnames": ["a", "b"]}])
    text = hosts(pod, ("10.244.1.2",), "cluster.local", "")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.244.1.2\tweb-1.sub.default.svc.cluster.local\tweb-1\n" in text
    assert text.endswith("# Entries added by HostAliases.\n1.2.3.4\ta\tb\n")


def test_hosts_of_the_node() -> None:
    text = hosts(a_pod(hostNetwork=True), ("172.18.0.3",), "cluster.local", "127.0.0.1 localhost\n")
    assert text == "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n"
