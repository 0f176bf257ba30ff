from __future__ import annotations

import pytest

from netlab.errors import NetlabError, NotFound, UsageError
from netlab.trace.ends import ends
from netlab.trace.target import Objects, Target, names, resolve

KNOWN = Objects(
    services=[
        {"metadata": {"name": "web", "namespace": "default"},
         "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"],
                  "ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}, {"port": 443}]}},
        {"metadata": {"name": "none", "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}},
    ],
    pods=[
        {"metadata": {"name": "web-1", "namespace": "default"}, "status": {"podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}]},
         "spec": {"containers": [{"ports": [{"containerPort": 8080}]}]}},
        {"metadata": {"name": "new", "namespace": "default"}, "status": {"phase": "Pending"}, "spec": {"containers": [{}]}},
    ],
    nodes=[{"metadata": {"name": "worker1"}, "status": {"addresses": [{"type": "InternalIP", "address": "172.18.0.3"}]}}],
    places={"outside": ["192.0.2.10", "2001:db8::10"]},
)


@pytest.mark.parametrize(("text", "protocol", "expected"), [
    ("svc/web", "tcp", ("10.96.0.10", 80)),
    ("svc/web", "udp", ("10.96.0.10", 53)),
    ("svc/default/web:443", "tcp", ("10.96.0.10", 443)),
    ("pod/web-1", "tcp", ("10.244.1.2", 8080)),
    ("pod/default/web-1:9", "tcp", ("10.244.1.2", 9)),
    ("node/worker1:30080", "tcp", ("172.18.0.3", 30080)),
    ("10.0.0.1:80", "tcp", ("10.0.0.1", 80)),
    ("[fd00::1]:80", "tcp", ("fd00::1", 80)),
    ("fd00::1", "icmp", ("fd00::1", 0)),
    ("outside:7", "tcp", ("192.0.2.10", 7)),
])
def test_resolve(text: str, protocol: str, expected: tuple[str, int]) -> None:
    found = resolve(text, KNOWN, protocol=protocol)
    assert (found.address, found.port, found.label, found.name) == (*expected, text, "")


@pytest.mark.parametrize(("text", "expected"), [
    ("web", ("10.96.0.10", 80)),
    ("web.default.svc.cluster.local:443", ("10.96.0.10", 443)),
    ("none.shop", ("", 80)),
    ("example.com:80", ("", 80)),
    ("lb/web", None), ("externalip/web", None), ("nodeport/web", None),
])
def test_a_name_is_left_to_the_resolver_with_the_services_port(text: str, expected: tuple[str, int] | None) -> None:
    if expected is None:
        with pytest.raises(NotFound):
            resolve(text, KNOWN)
        return
    found = resolve(text, KNOWN)
    assert (found.address, found.port, found.name) == (*expected, text.partition(":")[0])


def test_the_other_addresses_of_a_service() -> None:
    web = {"metadata": {"name": "web", "namespace": "default"},
           "spec": {"clusterIPs": ["10.96.0.10", "fd00::10"], "externalIPs": ["198.51.100.1"],
                    "ports": [{"port": 80, "nodePort": 30080, "name": "http"}, {"port": 443, "nodePort": 30443}]},
           "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}}
    known = Objects([web], nodes=KNOWN.nodes)
    assert resolve("lb/web", known) == Target("203.0.113.7", 80, "lb/web", http=True)
    assert resolve("externalip/web:443", known) == Target("198.51.100.1", 443, "externalip/web:443")
    assert resolve("nodeport/web:443", known) == Target("172.18.0.3", 30443, "nodeport/web:443")
    assert resolve("svc/web", known, ipv6=True).address == "fd00::10"
    assert names(known)["203.0.113.7"] == "svc/default/web"


def test_every_way_to_a_service_of_two_families_heeds_the_one_that_is_asked_for() -> None:
    node = {"metadata": {"name": "worker1"}, "status": {"addresses": [
        {"type": "InternalIP", "address": "172.18.0.3"}, {"type": "InternalIP", "address": "fd00:18::3"}]}}
    web = {"metadata": {"name": "web", "namespace": "default"},
           "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"],
                    "externalIPs": ["198.51.100.1", "2001:db8::1"], "ports": [{"port": 80, "nodePort": 30080}]},
           "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"ip": "2001:db8::7"}]}}}
    known = Objects([web], nodes=[node])
    for text, four, six in (("svc/web", "10.96.0.10", "fd00::10"), ("lb/web", "203.0.113.7", "2001:db8::7"),
                            ("externalip/web", "198.51.100.1", "2001:db8::1"), ("web.default", "10.96.0.10", "fd00::10"),
                            ("nodeport/web", "172.18.0.3", "fd00:18::3")):
        assert [resolve(text, known, ipv6=ipv6).address for ipv6 in (False, True)] == [four, six]


def test_who_asks_for_an_ipv6_address_gets_none_of_the_other_family() -> None:
    known = Objects([{"metadata": {"name": "web", "namespace": "default"},
                      "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}}])
    for text in ("svc/web", "10.96.0.10:80"):
        with pytest.raises(UsageError, match=f"{text} has no IPv6 address, only 10.96.0.10"):
            resolve(text, known, ipv6=True)
    assert resolve("web.default", known, ipv6=True).name == "web.default", "what DNS says of it is for the trace to show"


NAMED = Objects(
    [{"metadata": {"name": "web", "namespace": "default"},
      "spec": {"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80, "nodePort": 30080},
                                                    {"name": "dns", "port": 53, "protocol": "UDP"}]}}],
    [{"metadata": {"name": "web-1", "namespace": "shop"}, "status": {"podIPs": [{"ip": "10.244.1.2"}]},
      "spec": {"containers": [{}, {"ports": [{"name": "metrics", "containerPort": 9090}]}]}}], KNOWN.nodes)


@pytest.mark.parametrize(("text", "protocol", "expected"), [
    ("svc/web:http", "tcp", ("10.96.0.10", 80)), ("svc/default/web:dns", "udp", ("10.96.0.10", 53)),
    ("nodeport/web:http", "tcp", ("172.18.0.3", 30080)), ("pod/shop/web-1:metrics", "tcp", ("10.244.1.2", 9090)),
    ("web:http", "tcp", ("10.96.0.10", 80)), ("web.default.svc:http", "tcp", ("10.96.0.10", 80))])
def test_a_port_is_called_by_its_name(text: str, protocol: str, expected: tuple[str, int]) -> None:
    found = resolve(text, NAMED, protocol=protocol)
    assert (found.address, found.port, found.label) == (*expected, text)
    if not found.name and not text.startswith("nodeport"):
        assert {(end.address, end.port) for end in ends(text, NAMED)} >= {expected}


def test_a_deployment_is_its_first_running_pod() -> None:
    def pod(name: str, ip: str, owner: str, phase: str = "Running") -> dict[str, object]:
        return {"metadata": {"name": name, "namespace": "default", "ownerReferences": [{"kind": "ReplicaSet", "name": owner}]},
                "spec": {"containers": [{"ports": [{"containerPort": 8080}]}]}, "status": {"phase": phase, "podIPs": [{"ip": ip}]}}

    known = Objects(pods=[pod("web-a-3", "10.244.1.3", "web-a"), pod("web-a-2", "10.244.1.2", "web-a"),
                          pod("web-a-1", "10.244.1.1", "web-a", "Pending"), pod("web-b-c-1", "10.244.1.9", "web-b-c")])
    assert resolve("deploy/web", known) == Target("10.244.1.2", 8080, "deploy/web")
    assert resolve("deployment/default/web-b:9", known) == Target("10.244.1.9", 9, "deployment/default/web-b:9")
    with pytest.raises(NotFound, match="deploy/none has no running Pod"):
        resolve("deploy/none", known)


@pytest.mark.parametrize(("text", "words", "hint"), [
    ("svc/web:https", '"https" is no port', "it has http (80), dns (53)"), ("svc/web:dns", "this port is UDP", "add -p udp"),
    ("node/worker1:http", '"http" is no port', "a port is a number"), ("10.0.0.1:http", '"http" is no port', "a port is"),
    ("pod/shop/web-1:http", '"http" is no port', "it has metrics (9090)")])
def test_a_name_that_no_port_has(text: str, words: str, hint: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        resolve(text, NAMED)
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize(("text", "error", "words"), [
    ("svc/nobody", NotFound, "no Service nobody in namespace default"),
    ("svc/shop/none", UsageError, "headless"),
    ("pod/new", NotFound, "no address yet"),
    ("web:http", UsageError, '"http" is no port'),
    ("web:99999", UsageError, "no port"),
    ("what/is/this", UsageError, "not a destination"),
])
def test_what_cannot_be_resolved_says_why(text: str, error: type[NetlabError], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        resolve(text, KNOWN)
    assert raised.value.hint


def test_names() -> None:
    assert names(KNOWN) == {"10.96.0.10": "svc/default/web", "fd00::10": "svc/default/web", "172.18.0.3": "node/worker1",
                            "10.244.1.2": "pod/default/web-1", "192.0.2.10": "outside", "2001:db8::10": "outside"}
    assert resolve("outside:7", KNOWN, ipv6=True).address == "2001:db8::10"
