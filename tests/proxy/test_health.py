from __future__ import annotations

import pytest

from netlab.client.client import Exchange
from netlab.proxy.health import ProxyHealth
from netlab.proxy.metrics import KINDS, Metrics
from tests.proxy.builders import a_node


def health() -> ProxyHealth:
    made = ProxyHealth(patience=60.0)
    made.expect("IPv4", "IPv6")
    return made


def test_not_healthy_before_every_family_wrote_once():
    made = health()
    assert not made.healthy(100)
    made.updated("IPv4", 100)
    assert not made.healthy(101)
    made.updated("IPv6", 101)
    assert made.healthy(102)
    assert made.healthy(10_000), "with nothing to write, silence is health"


def test_a_change_that_waits_too_long():
    made = health()
    for family in ("IPv4", "IPv6"):
        made.updated(family, 100)
    made.queued("IPv4", 200)
    made.queued("IPv4", 250)
    assert made.healthy(260)
    assert not made.healthy(261)
    made.updated("IPv4", 262)
    assert made.healthy(263)


def test_a_clock_that_is_set_makes_nobody_ill():
    made = health()
    for family in ("IPv4", "IPv6"):
        made.updated(family, 4_000_000_000.0)  # the wall clock was a century ahead
        made.queued(family, 50.0)
    assert made.healthy(51.0)
    made.updated("IPv4", 1_700_000_000.0)
    made.updated("IPv6", 1_700_000_000.0)
    assert made.healthy(52.0)


@pytest.mark.parametrize(("node", "eligible"), [
    (a_node(), True), (None, False), (a_node(taints=[{"key": "ToBeDeletedByClusterAutoscaler"}]), False),
    (a_node(taints=[{"key": "other"}]), True),
    (a_node() | {"metadata": {"name": "node1", "deletionTimestamp": "2026-01-01T00:00:00Z"}}, False)])
def test_load_balancers_leave_a_node_that_goes(node, eligible: bool):
    made = health()
    made.see_node(node)
    assert made.node_eligible is eligible


def test_the_answer_s_shape():
    made = health()
    made.updated("IPv4", 1_700_000_000.5)
    body = made.body(5.0, 1_700_000_001, with_node=True)
    assert body["lastUpdated"] == "2023-11-14T22:13:20.500000000Z"
    assert (body["healthy"], body["nodeEligible"]) == (False, True)
    assert body["status"]["IPv4"]["healthy"] is True
    assert body["status"]["IPv6"] == {"lastUpdated": "0001-01-01T00:00:00Z", "healthy": False}
    assert "nodeEligible" not in made.body(1, 1, with_node=False)


def test_metrics_text():
    metrics = Metrics()
    metrics.observe("sync_proxy_rules_duration_seconds", 0.003, "IPv4")
    metrics.observe("sync_proxy_rules_duration_seconds", 99.0, "IPv4")
    metrics.put("sync_proxy_rules_iptables_total", 42, "nat", "IPv4")
    metrics.add("proxy_healthz_total", "200")
    lines = metrics.text().splitlines()
    assert 'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 42' in lines
    assert 'kubeproxy_proxy_healthz_total{code="200"} 1' in lines
    assert 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.002"} 0' in lines
    assert 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"} 1' in lines
    assert 'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 2' in lines
    assert 'kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 99.003' in lines
    assert 'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2' in lines


def test_every_metric_has_a_help_and_counters_end_in_total():
    for name, kind in KINDS.items():
        assert kind.help
        assert kind.type != "counter" or name.endswith("_total"), name


def test_names_of_upstream():
    """Section by section what kube-proxy v1.36 registers (kubernetes: pkg/proxy/metrics/metrics.go)."""
    sync = [f"sync_proxy_rules_{name}" for name in (
        "duration_seconds", "last_timestamp_seconds", "last_queued_timestamp_seconds", "endpoint_changes_pending",
        "endpoint_changes_total", "service_changes_pending", "service_changes_total", "iptables_total", "iptables_last",
        "iptables_restore_failures_total", "iptables_partial_restore_failures_total", "no_local_endpoints_total",
        "nftables_sync_failures_total", "nftables_cleanup_failures_total")]
    others = ["sync_full_proxy_rules_duration_seconds", "sync_partial_proxy_rules_duration_seconds",
              "network_programming_duration_seconds", "iptables_ct_state_invalid_dropped_packets_total",
              "iptables_localhost_nodeports_accepted_packets_total", "conntrack_reconciler_sync_duration_seconds",
              "conntrack_reconciler_deleted_entries_total", "proxy_healthz_total", "proxy_livez_total"]
    client = ["rest_client_requests_total", "rest_client_request_duration_seconds", "rest_client_request_size_bytes",
              "rest_client_response_size_bytes"]
    assert set(KINDS) == {*sync, *others, *client}
    bare = {name for name, kind in KINDS.items() if not kind.labels}
    assert bare == {name for name in KINDS if "_changes_" in name or "_packets_total" in name}


def test_requests_to_the_api_server_are_counted_as_by_client_go():
    metrics = Metrics()
    tell = metrics.exchanges("10.96.0.1:443")
    for each in (Exchange("GET", 200, 0.02, 0, 300), Exchange("GET", 200, 9.0, watch=True), Exchange("POST", 0, 0.3, 70)):
        tell(each)
    lines = set(metrics.text().splitlines())
    assert {'rest_client_requests_total{code="200",host="10.96.0.1:443",method="GET"} 2',
            'rest_client_requests_total{code="<error>",host="10.96.0.1:443",method="POST"} 1',
            'rest_client_request_duration_seconds_bucket{host="10.96.0.1:443",verb="GET",le="0.025"} 1',
            'rest_client_request_duration_seconds_count{host="10.96.0.1:443",verb="GET"} 1',
            'rest_client_request_size_bytes_bucket{host="10.96.0.1:443",verb="POST",le="64"} 0',
            'rest_client_request_size_bytes_bucket{host="10.96.0.1:443",verb="POST",le="256"} 1',
            'rest_client_response_size_bytes_sum{host="10.96.0.1:443",verb="GET"} 300'} <= lines
    assert not any(line.startswith("rest_client_response") and "POST" in line for line in lines)
    assert KINDS["rest_client_request_size_bytes"].bounds == (64, 256, 512, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304,
                                                              16777216)


def test_buckets_of_network_programming():
    bounds = KINDS["network_programming_duration_seconds"].bounds
    assert bounds[:5] == (0, 0.25, 0.5, 1, 2)
    assert bounds[-8:] == (115, 120, 150, 180, 210, 240, 270, 300)
    assert len(bounds) == 1 + 2 + 59 + 12 + 7


@pytest.mark.parametrize(("mode", "other"), [("iptables", "nftables"), ("nftables", "iptables")])
def test_a_mode_tells_of_itself_only(mode: str, other: str):
    metrics = Metrics(mode)
    for name, kind in KINDS.items():
        if kind.type != "histogram":
            metrics.add(name, *("x" for _ in kind.labels))
    text = metrics.text()
    assert f"_{mode}_" in text
    assert f"_{other}_" not in text
