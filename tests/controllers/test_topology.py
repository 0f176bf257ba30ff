"""Zone hints of topology-mode: each zone gets endpoints by its share of the CPU, and never far less."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.controllers import topology
from tests.controllers.builders import a_service
from tests.controllers.test_endpoints import Api, a_backend, decide


def a_node(zone: str, cpu: str = "2", *, ready: str = "True", labels: dict | None = None) -> dict:
    tags = ({topology.ZONE: zone} if zone else {}) | (labels or {})
    return {"metadata": {"name": "n", "labels": tags},
            "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": ready}]}}


@pytest.mark.parametrize(("nodes", "expected"), [
    pytest.param([a_node("a"), a_node("b", "6")], {"a": 0.25, "b": 0.75}, id="by CPU"),
    pytest.param([a_node("a"), a_node("a")], {}, id="one zone"),
    pytest.param([a_node("a"), a_node("b"), a_node("")], {}, id="a node without a zone spoils it"),
    pytest.param([a_node("a"), a_node("b"), a_node("", ready="False")], {"a": 0.5, "b": 0.5}, id="unless it is not ready"),
    pytest.param([a_node("a"), a_node("b"), a_node("c", labels={"node-role.kubernetes.io/control-plane": ""})],
                 {"a": 0.5, "b": 0.5}, id="control planes do not count"),
])
def test_shares(nodes, expected):
    assert topology.shares(nodes) == expected


@pytest.mark.parametrize(("zones", "ratios", "expected"), [
    pytest.param("aabb", {"a": 0.5, "b": 0.5}, {"a": 2, "b": 2}, id="even"),
    pytest.param("aaab", {"a": 0.5, "b": 0.5}, {"a": 2, "b": 2}, id="one moves"),
    pytest.param("aaa", {"a": 0.5, "b": 0.5}, "Unable to allocate", id="three cannot be halved"),
    pytest.param("aaaa", {"a": 0.25, "b": 0.75}, {"a": 1, "b": 3}, id="three move"),
    pytest.param("a", {"a": 0.5, "b": 0.5}, "Insufficient number of endpoints (1 endpoints, 2 zones)", id="too few"),
    pytest.param(["a", "", "b"], {"a": 0.3, "b": 0.7}, "do not have a zone", id="no zone"),
    pytest.param("ab", {}, "Insufficient Node information", id="no shares"),
])
def test_who_serves_whom(zones, ratios, expected):
    found = topology.decide([(str(number), zone) for number, zone in enumerate(zones)], ratios, {})
    if isinstance(expected, str):
        assert expected in found.why
        assert not found.zones
    else:
        assert Counter(found.zones.values()) == expected


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.lists(st.integers(1, 8), min_size=2, max_size=3))
def test_no_zone_gets_less_than_it_must_have(zones, cpu):
    ratios = {zone: amount / sum(cpu) for zone, amount in zip("abc", cpu, strict=False)}
    endpoints = [(str(number), zone if zone in ratios else "a") for number, zone in enumerate(zones)]
    found = topology.decide(endpoints, ratios, {})
    if found.why:
        return
    assert set(found.zones) == {key for key, _ in endpoints}
    again = topology.decide(endpoints, ratios, found.zones)
    assert again == found, "what is balanced stays"
    counts = Counter(found.zones.values())
    assert all(counts[zone] >= 1 for zone in ratios)


def test_slices_carry_hints_and_say_so_once():
    api, zones = Api(), {"n1": "a"}
    service = a_service()
    service["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "Auto"}
    pods = [a_backend(number) for number in range(1, 5)]

    def plan(shares, current=service):
        from netlab.controllers import endpointslices

        return endpointslices.decide(current, pods, zones, list(api.rows.values()), limit=100, shares=shares)

    first = plan({"a": 0.5, "b": 0.5})
    assert [note[1] for note in first.notes] == ["TopologyAwareHintsEnabled"]
    api.carry_out(first)
    (row,) = api.rows.values()
    assert Counter(part["hints"]["forZones"][0]["name"] for part in row["endpoints"]) == {"a": 2, "b": 2}
    second = plan({"a": 0.5, "b": 0.5})
    assert (second.create, second.update, second.notes) == ((), (), ())
    third = plan({})
    assert [note[1] for note in third.notes] == ["TopologyAwareHintsDisabled"]
    assert not [part for part in third.update[0]["endpoints"] if "hints" in part]
    assert [note[2] for note in plan({}, a_service()).notes] == [f"{topology.DISABLED}, addressType: IPv4"]


def test_the_annotation_wins_over_the_field():
    service = a_service(trafficDistribution="PreferClose")
    service["metadata"]["annotations"] = {"service.kubernetes.io/topology-mode": "auto"}
    (row,) = decide(service, [a_backend(1)], zones={"n1": "a"}).create
    assert "hints" not in row["endpoints"][0]
