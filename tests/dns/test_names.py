"""What names mean: the table of the specification, asked row by row."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from netlab.dns import names
from netlab.dns.names import Endpoint, Port, Service, label_of

ZONE = "cluster.local"
HTTP = Port("http", 80, "TCP")


class World:
    """A small cluster by hand."""

    services = (Service("default", "web", ("10.96.0.10", "fd00:96::10"), (HTTP, Port("dns", 53, "UDP"))),
                Service("default", "set", (), (HTTP,)), Service("default", "empty", (), (HTTP,)),
                Service("default", "away", external_name="example.org."),
                Service("default", "number", external_name="192.0.2.7"),
                Service("kube-system", "six", ("fd00:96::6",), (HTTP,)))
    backs = (Endpoint("default", "set", "10.244.1.2", "set-0", (Port("http", 8080, "TCP"),)),
             Endpoint("default", "set", "10.244.2.2", label_of("10.244.2.2"), (Port("http", 8080, "TCP"),)),
             Endpoint("default", "web", "10.244.1.9", label_of("10.244.1.9"), (Port("http", 8080, "TCP"),)))

    def has_namespace(self, name: str) -> bool:
        return name in ("default", "kube-system", "bare")

    def service(self, namespace: str, name: str) -> Service | None:
        return next((one for one in self.services if (one.namespace, one.name) == (namespace, name)), None)

    def endpoints(self, namespace: str, name: str) -> Sequence[Endpoint]:
        return [one for one in self.backs if (one.namespace, one.service) == (namespace, name)]

    def services_at(self, ip: str) -> Sequence[Service]:
        return [one for one in self.services if ip in one.cluster_ips]

    def endpoints_at(self, ip: str) -> Sequence[Endpoint]:
        return [one for one in self.backs if one.ip == ip]

    def has_pod(self, namespace: str, ip: str) -> bool:
        return (namespace, ip) == ("default", "10.244.1.2")


def ask(name: str, type: str = "A", **options: str) -> names.Answer:
    return names.lookup(World(), name, type, ZONE, **options)  # type: ignore[arg-type]


def data(answer: names.Answer) -> set[object]:
    assert answer.outcome == "found", answer
    return {record.data for record in answer.records}


@pytest.mark.parametrize(("name", "type", "expected"), [
    pytest.param("web.default.svc.cluster.local", "A", {"10.96.0.10"}, id="cluster IP"),
    pytest.param("web.default.svc.cluster.local", "AAAA", {"fd00:96::10"}, id="cluster IP of the other family"),
    pytest.param("_http._tcp.web.default.svc.cluster.local", "A", {"10.96.0.10"}, id="port's name has the address too"),
    pytest.param("set.default.svc.cluster.local", "A", {"10.244.1.2", "10.244.2.2"}, id="headless: all endpoints"),
    pytest.param("set-0.set.default.svc.cluster.local", "A", {"10.244.1.2"}, id="endpoint by hostname"),
    pytest.param("10-244-2-2.set.default.svc.cluster.local", "A", {"10.244.2.2"}, id="endpoint by address"),
    pytest.param("10-244-1-9.web.default.svc.cluster.local", "A", {"10.244.1.9"}, id="endpoint of a Service with address"),
    pytest.param("away.default.svc.cluster.local", "CNAME", {"example.org"}, id="external name"),
    pytest.param("away.default.svc.cluster.local", "A", {"example.org"}, id="external name, asked for an address"),
    pytest.param("number.default.svc.cluster.local", "A", {"192.0.2.7"}, id="external name that is an address"),
    pytest.param("_http._tcp.web.default.svc.cluster.local", "SRV", {(0, 100, 80, "web.default.svc.cluster.local")},
                 id="SRV of a cluster IP"),
    pytest.param("_http._tcp.set.default.svc.cluster.local", "SRV",
                 {(0, 50, 8080, "set-0.set.default.svc.cluster.local"),
                  (0, 50, 8080, "10-244-2-2.set.default.svc.cluster.local")}, id="SRV of a headless Service"),
    pytest.param("web.default.svc.cluster.local", "SRV", {(0, 50, 80, "web.default.svc.cluster.local"),
                                                          (0, 50, 53, "web.default.svc.cluster.local")},
                 id="SRV without a port's name: all ports"),
    pytest.param("dns-version.cluster.local", "TXT", {"1.1.0"}, id="version of the schema"),
])
def test_found(name: str, type: str, expected: set[object]) -> None:
    assert data(ask(name, type)) == expected


@pytest.mark.parametrize(("name", "type", "outcome"), [
    pytest.param("nope.default.svc.cluster.local", "A", "no name", id="unknown Service"),
    pytest.param("web.nope.svc.cluster.local", "A", "no name", id="unknown namespace"),
    pytest.param("nope.svc.cluster.local", "A", "no name", id="unknown namespace, alone"),
    pytest.param("default.svc.cluster.local", "A", "no data", id="a namespace is a name"),
    pytest.param("svc.cluster.local", "A", "no data", id="svc is a name"),
    pytest.param("cluster.local", "A", "no data", id="the zone is a name"),
    pytest.param("default.cluster.local", "A", "no name", id="no svc in between"),
    pytest.param("web.default.svc.cluster.local", "TXT", "no data", id="a type that Services never have"),
    pytest.param("six.kube-system.svc.cluster.local", "A", "no data", id="only the other family"),
    pytest.param("_nope._tcp.web.default.svc.cluster.local", "SRV", "no name", id="unknown port"),
    pytest.param("_http._udp.web.default.svc.cluster.local", "SRV", "no name", id="other protocol"),
    pytest.param("a.b.c.web.default.svc.cluster.local", "A", "no name", id="too long"),
    pytest.param("empty.default.svc.cluster.local", "A", "no name", id="headless without endpoints"),
    pytest.param("1-2-3-4.away.default.svc.cluster.local", "A", "no name", id="endpoint of an external name"),
    pytest.param("10-244-1-2.default.pod.cluster.local", "A", "no name", id="Pods are off"),
])
def test_not_found(name: str, type: str, outcome: str) -> None:
    assert ask(name, type).outcome == outcome


def test_a_followed_name_is_told() -> None:
    assert ask("away.default.svc.cluster.local", "A").follow == "example.org"
    assert not ask("away.default.svc.cluster.local", "CNAME").follow


def test_srv_brings_addresses_along() -> None:
    answer = ask("_http._tcp.web.default.svc.cluster.local", "SRV")
    assert {(record.type, record.data) for record in answer.extra} == {("A", "10.96.0.10"), ("AAAA", "fd00:96::10")}


@pytest.mark.parametrize(("name", "mode", "outcome"), [
    pytest.param("10-244-1-2.default.pod.cluster.local", "insecure", "found", id="any address"),
    pytest.param("1-2-3-4.default.pod.cluster.local", "insecure", "found", id="any address, even a wrong one"),
    pytest.param("fd00--7.default.pod.cluster.local", "insecure", "no data", id="IPv6, asked for IPv4"),
    pytest.param("not-an-ip.default.pod.cluster.local", "insecure", "no name", id="no address"),
    pytest.param("1-2-3-4.nope.pod.cluster.local", "insecure", "no name", id="no namespace"),
    pytest.param("10-244-1-2.default.pod.cluster.local", "verified", "found", id="a living Pod"),
    pytest.param("10-244-1-2.kube-system.pod.cluster.local", "verified", "no name", id="a Pod of elsewhere"),
    pytest.param("1-2-3-4.default.pod.cluster.local", "verified", "no name", id="no such Pod"),
])
def test_pods(name: str, mode: str, outcome: str) -> None:
    assert ask(name, pods=mode).outcome == outcome


@pytest.mark.parametrize(("ip", "expected"), [
    pytest.param("10.96.0.10", {"web.default.svc.cluster.local"}, id="a Service"),
    pytest.param("fd00:96::10", {"web.default.svc.cluster.local"}, id="a Service, IPv6"),
    pytest.param("10.244.1.2", {"set-0.set.default.svc.cluster.local"}, id="an endpoint"),
    pytest.param("9.9.9.9", None, id="nobody"),
])
def test_reverse(ip: str, expected: set[object] | None) -> None:
    answer = names.reverse(World(), ip_address(ip).reverse_pointer, "PTR", ZONE)
    assert (data(answer) if answer.outcome == "found" else None) == expected


@pytest.mark.parametrize("name", ["1.in-addr.arpa", "x.0.96.10.in-addr.arpa", "in-addr.arpa", "a.ip6.arpa"])
def test_no_address(name: str) -> None:
    assert names.address_of(name) == ""
