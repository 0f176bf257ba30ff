"""Cluster addresses and node ports: given, kept, shared by nobody, given back."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from netlab.apiserver.allocator import Addresses, Full, OutOfRange, Ports, Taken
from tests.apiserver.conftest import Client, Server


def path(ns: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{ns}/services" + (f"/{name}" if name else "")


def service(name: str, kind: str = "ClusterIP", *, port: int = 80, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"type": kind, "selector": {"a": "b"}, "ports": [{"port": port}], **spec}}


def test_a_service_is_completed(client: Client, ns: str) -> None:
    spec = client.post(path(ns), service("s")).json["spec"]
    assert ipaddress.ip_address(spec["clusterIP"]) in ipaddress.ip_network("10.96.0.0/16")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert (spec["sessionAffinity"], spec["internalTrafficPolicy"]) == ("None", "Cluster")
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert "externalTrafficPolicy" not in spec


def test_a_node_port_service(client: Client, ns: str) -> None:
    spec = client.post(path(ns), service("s", "NodePort")).json["spec"]
    assert 30000 <= spec["ports"][0]["nodePort"] <= 32767
    assert spec["externalTrafficPolicy"] == "Cluster"


def test_headless_and_external_name_need_no_address(client: Client, ns: str) -> None:
    headless = client.post(path(ns), service("h", clusterIP="None")).json["spec"]
    assert (headless["clusterIP"], headless["clusterIPs"], headless["ipFamilies"]) == ("None", ["None"], ["IPv4"])
    lonely = service("l", clusterIP="None")
    del lonely["spec"]["selector"]
    spec = client.post(path(ns), lonely).json["spec"]
    assert (spec["ipFamilyPolicy"], spec["ipFamilies"]) == ("RequireDualStack", ["IPv4", "IPv6"])
    named = client.post(path(ns), {"metadata": {"name": "e"}, "spec": {"type": "ExternalName", "externalName": "x.org"}})
    assert "clusterIP" not in named.json["spec"]


def test_a_wanted_address(client: Client, ns: str) -> None:
    assert client.post(path(ns), service("a", clusterIP="10.96.0.77")).json["spec"]["clusterIP"] == "10.96.0.77"
    taken = client.post(path(ns), service("b", clusterIP="10.96.0.77"))
    assert taken.status == 422
    assert taken.json["message"] == ('Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.77"]: failed to '
                                     "allocate IP 10.96.0.77: provided IP is already allocated")
    outside = client.post(path(ns), service("b", clusterIP="10.97.0.1"))
    assert "is not in the valid range. The range of valid IPs is 10.96.0.0/16" in outside.json["message"]
    client.delete(path(ns, "a"))
    assert client.post(path(ns), service("b", clusterIP="10.96.0.77")).status == 201


def test_a_wanted_port(client: Client, ns: str) -> None:
    def wanting(name: str, port: int) -> dict[str, Any]:
        return service(name, "NodePort", ports=[{"port": 80, "nodePort": port}])

    assert client.post(path(ns), wanting("a", 30555)).status == 201
    taken = client.post(path(ns), wanting("b", 30555))
    assert taken.json["message"] == ('Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30555: provided port '
                                     "is already allocated")
    outside = client.post(path(ns), wanting("b", 80))
    assert "The range of valid ports is 30000-32767" in outside.json["message"]
    refused = client.post(path(ns), service("b", ports=[{"port": 80, "nodePort": 30556}]))
    assert "may not be used when `type` is 'ClusterIP'" in refused.json["message"]
    assert client.post(path(ns), wanting("b", 30556)).status == 201


def test_a_refused_service_holds_nothing(client: Client, ns: str) -> None:
    """The address is taken before the node port is refused; both must be free again."""
    body = service("a", "NodePort", clusterIP="10.96.1.1", ports=[{"port": 80, "nodePort": 1}])
    assert client.post(path(ns), body).status == 422
    assert client.post(path(ns) + "?dryRun=All", service("a", clusterIP="10.96.1.1")).status == 201
    assert client.post(path(ns), service("a", clusterIP="10.96.1.1")).status == 201
    assert client.post(path(ns), service("a", clusterIP="10.96.1.2")).status == 409
    assert client.post(path(ns), service("b", clusterIP="10.96.1.2")).status == 201


def test_changing_the_type(client: Client, ns: str) -> None:
    made = client.post(path(ns), service("s")).json
    address = made["spec"]["clusterIP"]
    grown = client.patch(path(ns, "s"), {"spec": {"type": "NodePort"}}).json["spec"]
    assert grown["clusterIP"] == address
    port = grown["ports"][0]["nodePort"]
    shrunk = client.patch(path(ns, "s"), {"spec": {"type": "ClusterIP"}}).json["spec"]
    assert "nodePort" not in shrunk["ports"][0]
    again = client.post(path(ns), service("t", "NodePort", ports=[{"port": 80, "nodePort": port}]))
    assert again.status == 201
    away = client.patch(path(ns, "s"), {"spec": {"type": "ExternalName", "externalName": "x.org", "internalTrafficPolicy": None,
                                                 "ports": None}})
    assert away.status == 200, away.body
    assert "clusterIP" not in away.json["spec"]
    assert client.post(path(ns), service("u", clusterIP=address)).status == 201


def test_a_replacement_keeps_what_it_does_not_name(client: Client, ns: str) -> None:
    made = client.post(path(ns), service("s", "NodePort")).json["spec"]
    blind = client.put(path(ns, "s"), service("s", "NodePort")).json["spec"]
    assert blind["clusterIP"] == made["clusterIP"]
    assert blind["ports"][0]["nodePort"] == made["ports"][0]["nodePort"]
    moved = client.patch(path(ns, "s"), {"spec": {"clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"]}})
    assert moved.status == 422
    assert "spec.clusterIPs[0]: Invalid value" in moved.json["message"]
    assert "may not change once set" in moved.json["message"]


def test_no_two_services_share(client: Client, ns: str) -> None:
    """Many writers at once, deleting and making: what is stored never holds an address or port twice."""
    def work(worker: int) -> None:
        mine = client.again()
        for step in range(12):
            name = f"s{worker}-{step % 4}"
            if mine.post(path(ns), service(name, "NodePort")).status == 409:
                mine.delete(path(ns, name))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    specs = [item["spec"] for item in client.get("/api/v1/services").json["items"]]
    addresses = [ip for spec in specs for ip in spec.get("clusterIPs") or [] if ip != "None"]
    ports = [port["nodePort"] for spec in specs for port in spec.get("ports") or [] if port.get("nodePort")]
    assert len(addresses) == len(set(addresses))
    assert len(ports) == len(set(ports))


def test_a_restart_remembers_who_holds_what(servers: Callable[..., Server]) -> None:
    server = servers("--service-cluster-ip-range=10.7.0.0/28", "--service-node-port-range=31000-31001")
    client = server.client()
    made = [client.post(path("default"), service(f"s{number}", "NodePort")).json["spec"] for number in range(2)]
    assert client.post(path("default"), service("full", "NodePort")).status == 500
    server.stop()
    server.start()
    client = server.client()
    assert client.post(path("default"), service("s9", clusterIP=made[0]["clusterIP"])).status == 422
    assert client.post(path("default"), service("s9", "NodePort")).status == 500
    client.delete(path("default", "s0"))
    assert client.post(path("default"), service("s9", "NodePort")).status == 201


def test_the_kubernetes_service_comes_back(servers: Callable[..., Server]) -> None:
    server = servers("--advertise-address=10.0.0.5")
    client = server.client()
    endpoints = client.get("/api/v1/namespaces/default/endpoints/kubernetes").json
    assert endpoints["subsets"][0]["addresses"] == [{"ip": "10.0.0.5"}]
    slice_ = client.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").json
    assert slice_["endpoints"][0]["addresses"] == ["10.0.0.5"]
    assert slice_["ports"][0]["port"] == server.port
    assert client.delete(path("default", "kubernetes")).status == 200
    server.stop()
    server.start()
    assert server.client().get(path("default", "kubernetes")).json["spec"]["clusterIP"] == "10.96.0.1"


def test_one_port_serves_two_protocols(client: Client, ns: str) -> None:
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    spec = client.post(path(ns), service("dns", "NodePort", ports=ports)).json["spec"]
    assert spec["ports"][0]["nodePort"] == spec["ports"][1]["nodePort"]


def test_a_local_load_balancer_gets_a_health_port(client: Client, ns: str) -> None:
    spec = client.post(path(ns), service("lb", "LoadBalancer", externalTrafficPolicy="Local")).json["spec"]
    assert spec["healthCheckNodePort"] not in (0, spec["ports"][0]["nodePort"])
    assert spec["allocateLoadBalancerNodePorts"] is True


@pytest.mark.parametrize(("network", "usable"), [("10.0.0.0/29", 6), ("10.0.0.0/24", 254), ("fd00::/120", 255)])
def test_all_addresses_once(network: str, usable: int) -> None:
    pool = Addresses(ipaddress.ip_network(network))
    found = {pool.pick() for _ in range(usable)}
    assert len(found) == usable
    with pytest.raises(Full):
        pool.pick()
    some = found.pop()
    pool.give_back(some)
    assert pool.pick() == some
    with pytest.raises(Taken):
        pool.take(some)
    with pytest.raises(OutOfRange):
        pool.take("192.0.2.1")


def test_low_numbers_are_left_for_those_who_ask() -> None:
    pool = Addresses(ipaddress.ip_network("10.96.0.0/16"))
    low = {f"10.96.0.{number}" for number in range(1, 256)}
    assert not low & {pool.pick() for _ in range(500)}
    ports = Ports(30000, 32767)
    assert min(ports.pick() for _ in range(500)) >= 30086


def test_two_families(servers: Callable[..., Server]) -> None:
    client = servers("--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112").client()
    single = client.post(path("default"), service("a")).json["spec"]
    assert (single["ipFamilies"], len(single["clusterIPs"])) == (["IPv4"], 1)
    both = client.post(path("default"), service("b", ipFamilyPolicy="PreferDualStack")).json["spec"]
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert [ipaddress.ip_address(text).version for text in both["clusterIPs"]] == [4, 6]
    six = client.post(path("default"), service("c", ipFamilies=["IPv6"])).json["spec"]
    assert ipaddress.ip_address(six["clusterIP"]) in ipaddress.ip_network("fd00:96::/112")
    grown = client.patch(path("default", "a"), {"spec": {"ipFamilyPolicy": "RequireDualStack"}}).json["spec"]
    assert (grown["clusterIPs"][0], len(grown["clusterIPs"])) == (single["clusterIP"], 2)
    shrunk = client.patch(path("default", "b"), {"spec": {"ipFamilyPolicy": "SingleStack"}}).json["spec"]
    assert (shrunk["clusterIPs"], shrunk["ipFamilies"]) == (both["clusterIPs"][:1], ["IPv4"])
    assert client.post(path("default"), service("d", clusterIPs=[both["clusterIPs"][1]], clusterIP=both["clusterIPs"][1],
                                                ipFamilies=["IPv6"])).status == 201
