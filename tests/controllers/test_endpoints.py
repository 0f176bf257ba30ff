from __future__ import annotations

import copy
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netlab.api import meta
from netlab.controllers import endpointslices as slices
from netlab.controllers import mirroring
from netlab.controllers.endpoints import subsets
from tests.controllers.builders import a_pod, a_service


def a_backend(number: int, **fields):
    fields.setdefault("ips", (f"10.244.1.{number}", f"fd00::{number:x}"))
    return a_pod(f"web-{number}", **fields)


def decide(service, pods, existing=(), *, zones=None, limit=100):
    return slices.decide(service, pods, zones or {}, list(existing), limit=limit, trigger="t")


class Api:
    """Slices as the API server would keep them."""

    def __init__(self):
        self.rows: dict[str, dict] = {}
        self.names = itertools.count()

    def carry_out(self, plan):
        for row in plan.create:
            name = f"web-{next(self.names)}"
            assert row["metadata"]["generateName"] == "web-"
            self.rows[name] = {**copy.deepcopy(row), "metadata": {**row["metadata"], "name": name, "uid": name}}
        for row in plan.update:
            assert row["metadata"]["name"] in self.rows
            self.rows[row["metadata"]["name"]] = copy.deepcopy(row)
        for row in plan.delete:
            del self.rows[row["metadata"]["name"]]


def test_one_slice_with_everything_said():
    (row,) = decide(a_service(), [a_backend(1), a_backend(2, ready=False), a_backend(3, deleting=True)],
                    zones={"n1": "z1"}).create
    assert row["addressType"] == "IPv4"
    assert row["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert row["metadata"]["labels"] == {"team": "a", "kubernetes.io/service-name": "web",
                                         "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}
    assert row["metadata"]["ownerReferences"][0]["kind"] == "Service"
    assert row["metadata"]["annotations"] == {"endpoints.kubernetes.io/last-change-trigger-time": "t"}
    assert row["endpoints"][0] == {
        "addresses": ["10.244.1.1"], "conditions": {"ready": True, "serving": True, "terminating": False},
        "targetRef": {"kind": "Pod", "namespace": "ns", "name": "web-1", "uid": "uid-web-1"}, "nodeName": "n1",
        "zone": "z1"}
    assert [part["conditions"] for part in row["endpoints"][1:]] == [
        {"ready": False, "serving": False, "terminating": False},
        {"ready": False, "serving": True, "terminating": True}]


@pytest.mark.parametrize("pod", [a_backend(1, ips=()), a_backend(1, phase="Succeeded"), a_backend(1, phase="Failed")])
def test_what_is_no_endpoint(pod):
    (row,) = decide(a_service(), [pod]).create
    assert (row["endpoints"], row["ports"]) == ([], [])


def test_published_although_not_ready():
    (row,) = decide(a_service(publishNotReadyAddresses=True), [a_backend(1, ready=False)]).create
    assert row["endpoints"][0]["conditions"] == {"ready": True, "serving": False, "terminating": False}


def test_both_families():
    plan = decide(a_service(ipFamilies=["IPv6", "IPv4"]), [a_backend(1)])
    assert [(row["addressType"], row["endpoints"][0]["addresses"]) for row in plan.create] == [
        ("IPv6", ["fd00::1"]), ("IPv4", ["10.244.1.1"])]


def test_named_ports_differ_from_pod_to_pod():
    service = a_service(ports=[{"name": "http", "port": 80, "targetPort": "web"}])

    def with_port(number, port):
        ports = [{"name": "web", "containerPort": port}] if port else []
        return a_backend(number, containers=[{"name": "c", "ports": ports}])

    plan = decide(service, [with_port(1, 80), with_port(2, 8080), with_port(3, 80), with_port(4, None)])
    assert sorted((tuple(port["port"] for port in row["ports"]), len(row["endpoints"])) for row in plan.create) == [
        ((), 1), ((80,), 2), ((8080,), 1)]


def test_headless_with_hostnames():
    service = a_service(clusterIP="None")
    (row,) = decide(service, [a_backend(1, hostname="h1", subdomain="web"), a_backend(2, hostname="h2",
                                                                                      subdomain="x")]).create
    assert [part.get("hostname") for part in row["endpoints"]] == ["h1", None]
    assert row["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_hints_of_traffic_distribution():
    (row,) = decide(a_service(trafficDistribution="PreferSameNode"), [a_backend(1)], zones={"n1": "z1"}).create
    assert row["endpoints"][0]["hints"] == {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}


def test_a_changed_pod_costs_one_write_and_no_change_none():
    api = Api()
    pods = [a_backend(number) for number in range(1, 6)]
    api.carry_out(decide(a_service(), pods, limit=2))
    assert sorted(len(row["endpoints"]) for row in api.rows.values()) == [1, 2, 2]
    assert decide(a_service(), pods, api.rows.values(), limit=2) == slices.Plan()
    pods[3] = a_backend(4, ready=False)
    plan = decide(a_service(), pods, api.rows.values(), limit=2)
    assert (len(plan.create), len(plan.update), len(plan.delete)) == (0, 1, 0)


def test_without_endpoints_one_empty_slice_stays():
    api = Api()
    api.carry_out(decide(a_service(), [a_backend(number) for number in range(1, 6)], limit=2))
    api.carry_out(decide(a_service(), [], api.rows.values(), limit=2))
    assert [(row["endpoints"]) for row in api.rows.values()] == [[]]
    assert decide(a_service(), [], api.rows.values(), limit=2) == slices.Plan()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.integers(1, 12), st.tuples(st.booleans(), st.sampled_from([80, 90]),
                                                              st.booleans()), max_size=12), min_size=1, max_size=6),
       st.integers(1, 4), st.booleans())
def test_slices_always_list_exactly_the_endpoints(states, limit, dual):
    """Whatever happens to the Pods: after each sync every endpoint is in one slice, and a second sync does nothing."""
    service = a_service(ports=[{"port": 80, "targetPort": "web"}],
                        ipFamilies=["IPv4", "IPv6"] if dual else ["IPv4"])
    api = Api()
    for state in states:
        pods = [a_backend(number, ready=ready, deleting=going,
                          containers=[{"name": "c", "ports": [{"name": "web", "containerPort": port}]}])
                for number, (ready, port, going) in state.items()]
        api.carry_out(decide(service, pods, api.rows.values(), limit=limit))
        listed = [(row["addressType"], part["addresses"][0], part["conditions"]["ready"], row["ports"][0]["port"])
                  for row in api.rows.values() for part in row["endpoints"]]
        expected = [(kind, address, ready and not going, port) for number, (ready, port, going) in state.items()
                    for kind, address in (("IPv4", f"10.244.1.{number}"), ("IPv6", f"fd00::{number:x}"))
                    if dual or kind == "IPv4"]
        assert sorted(listed) == sorted(expected)
        assert all(len(row["endpoints"]) <= limit for row in api.rows.values())
        assert decide(service, pods, api.rows.values(), limit=limit) == slices.Plan()


def test_endpoints_objects():
    service = a_service(ports=[{"name": "http", "port": 80, "targetPort": 8080}])
    found, over = subsets(service, [a_backend(2), a_backend(1), a_backend(3, ready=False), a_backend(4,
                                                                                                    deleting=True)])
    assert not over
    assert [(part.get("addresses") and [a["ip"] for a in part["addresses"]],
             [a["ip"] for a in part.get("notReadyAddresses", [])], part["ports"]) for part in found] == [
        (["10.244.1.1", "10.244.1.2"], ["10.244.1.3"], [{"name": "http", "port": 8080, "protocol": "TCP"}])]
    assert found[0]["addresses"][0]["targetRef"]["name"] == "web-1"


def test_endpoints_of_more_than_a_thousand_pods_are_cut_and_it_is_said():
    pods = [a_backend(number, ips=(f"10.{number // 250}.0.{number % 250 + 1}",), ready=number % 2 == 0)
            for number in range(1001)]
    found, over = subsets(a_service(), pods)
    assert over
    assert len(found[0]["addresses"]) == 501
    assert len(found[0]["notReadyAddresses"]) == 499


def test_headless_endpoints_without_ports():
    found, _ = subsets(a_service(clusterIP="None", ports=[]), [a_backend(1)])
    assert found == [{"addresses": [{"ip": "10.244.1.1", "nodeName": "n1", "targetRef": {
        "kind": "Pod", "namespace": "ns", "name": "web-1", "uid": "uid-web-1"}}]}]
    assert meta.name(a_backend(1)) == "web-1"


def by_hand(*subsets, **metadata):
    return {"apiVersion": "v1", "kind": "Endpoints", "subsets": list(subsets),
            "metadata": {"name": "db", "namespace": "ns", "uid": "uid-ep", **metadata}}


def test_hand_written_endpoints_become_slices():
    service = a_service(selector=None)
    endpoints = by_hand({"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}],
                         "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 5432}]})
    assert mirroring.mirrored(endpoints, service)
    plan = mirroring.decide(endpoints, [])
    assert [(row["addressType"], [(part["addresses"], part["conditions"]["ready"]) for part in row["endpoints"]])
            for row in plan.create] == [("IPv4", [(["192.0.2.1"], True), (["192.0.2.2"], False)]),
                                        ("IPv6", [(["2001:db8::1"], True)])]
    assert plan.create[0]["metadata"]["labels"][slices.MANAGED_BY] == "endpointslicemirroring-controller.k8s.io"
    kept = [{**row, "metadata": {**row["metadata"], "name": f"s{number}"}} for number, row in enumerate(plan.create)]
    assert mirroring.decide(endpoints, kept) == slices.Plan()
    double = {**kept[0], "metadata": {**kept[0]["metadata"], "name": "z"}}
    assert [row["metadata"]["name"] for row in mirroring.decide(endpoints, [double, *kept]).delete] == ["z"]
    changed = by_hand({"addresses": [{"ip": "192.0.2.9"}], "ports": [{"port": 5432}]})
    plan = mirroring.decide(changed, kept)
    assert [row["metadata"]["name"] for row in plan.update] == ["s0"]
    assert [row["metadata"]["name"] for row in plan.delete] == ["s1"]


@pytest.mark.parametrize(("endpoints", "service"), [
    (by_hand(), a_service()), (by_hand(), None),
    (by_hand(labels={"endpointslice.kubernetes.io/skip-mirror": "true"}), a_service(selector=None)),
    (by_hand(annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}), a_service(selector=None))])
def test_what_is_not_mirrored(endpoints, service):
    assert not mirroring.mirrored(endpoints, service)
