from __future__ import annotations

import pytest

from netlab.proxy.services import bad_addresses, ignored, service_ports
from tests.proxy.builders import a_port, a_service


def one(**fields):
    (port,) = service_ports(a_service(**fields), "IPv4")
    return port


@pytest.mark.parametrize("fields", [
    pytest.param({"ip": "None"}, id="headless"), pytest.param({"ip": ""}, id="no address yet"),
    pytest.param({"type": "ExternalName"}, id="external name"),
    pytest.param({"labels": {"service.kubernetes.io/service-proxy-name": "other"}}, id="another proxy's"),
])
def test_ignored_services(fields):
    assert ignored(a_service(**fields))
    assert service_ports(a_service(**fields), "IPv4") == ()


def test_names_with_and_without_port_name():
    assert one(ports=[a_port(name="http")]).name == "default/web:http"
    assert one(ports=[a_port(name="")]).name == "default/web"


def test_families_are_kept_apart():
    service = a_service(ip="10.96.0.10", clusterIPs=["10.96.0.10", "fd00::10"], externalIPs=["192.0.2.1", "2001:db8::1"],
                        loadBalancerSourceRanges=["10.0.0.0/8", "2001:db8::/32"], ingress=["192.0.2.9", "2001:db8::9"])
    (v4,), (v6,) = service_ports(service, "IPv4"), service_ports(service, "IPv6")
    assert (v4.cluster_ip, v4.external_ips, v4.load_balancer_ips, v4.source_ranges) == (
        "10.96.0.10", ("192.0.2.1",), ("192.0.2.9",), ("10.0.0.0/8",))
    assert (v6.cluster_ip, v6.external_ips, v6.load_balancer_ips, v6.source_ranges) == (
        "fd00::10", ("2001:db8::1",), ("2001:db8::9",), ("2001:db8::/32",))


def test_a_service_of_one_family_has_no_port_in_the_other():
    assert service_ports(a_service(ip="10.96.0.10"), "IPv6") == ()


@pytest.mark.parametrize(("written", "meant"), [
    ("172.30.0.041", "172.30.0.41"), ("0192.0.2.010", "192.0.2.10"), ("::ffff:1.2.3.4", "1.2.3.4")])
def test_odd_spellings_of_addresses(written: str, meant: str):
    assert one(externalIPs=[written]).external_ips == (meant,)


def test_odd_spellings_of_networks():
    assert one(loadBalancerSourceRanges=["203.0.113.000/025", " 10.0.0.1/8 "]).source_ranges == (
        "203.0.113.0/25", "10.0.0.0/8")


def test_what_is_no_address_is_left_out_and_told():
    service = a_service(externalIPs=["1.2.3.4", "bogus"], loadBalancerSourceRanges=["10.0.0.0/8", "10.0.0.0"])
    assert service_ports(service, "IPv4")[0].external_ips == ("1.2.3.4",)
    assert bad_addresses(service) == ("bogus", "10.0.0.0")


def test_a_source_range_of_everything_is_no_restriction():
    assert one(loadBalancerSourceRanges=["10.0.0.0/8", "0.0.0.0/0"]).source_ranges == ()


@pytest.mark.parametrize(("mode", "kept"), [(None, True), ("VIP", True), ("Proxy", False)])
def test_load_balancer_addresses_by_mode(mode, kept: bool):
    ingress = {"ip": "192.0.2.9"} | ({"ipMode": mode} if mode else {})
    assert bool(one(type="LoadBalancer", ingress=[ingress]).load_balancer_ips) is kept


def test_a_load_balancer_known_by_name_only():
    assert one(type="LoadBalancer", ingress=[{"hostname": "lb.example.com"}]).load_balancer_ips == ()


@pytest.mark.parametrize(("spec", "seconds"), [
    ({}, 0), ({"sessionAffinity": "ClientIP"}, 10800),
    ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 42}}}, 42)])
def test_affinity(spec, seconds: int):
    assert one(**spec).affinity_seconds == seconds


@pytest.mark.parametrize(("spec", "local"), [
    pytest.param({"type": "NodePort"}, True, id="node port"), pytest.param({"type": "LoadBalancer"}, True, id="balancer"),
    pytest.param({"type": "ClusterIP"}, False, id="nothing external"),
    pytest.param({"type": "ClusterIP", "externalIPs": ["1.2.3.4"]}, True, id="external address"),
])
def test_external_policy_counts_only_where_something_is_external(spec, local: bool):
    assert one(externalTrafficPolicy="Local", **spec).external_local is local


def test_health_check_node_port_only_for_local_load_balancers():
    spec = {"healthCheckNodePort": 30999, "externalTrafficPolicy": "Local"}
    assert one(type="LoadBalancer", **spec).health_check_node_port == 30999
    assert one(type="NodePort", **spec).health_check_node_port == 0
    assert one(type="LoadBalancer", healthCheckNodePort=30999).health_check_node_port == 0
