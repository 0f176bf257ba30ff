from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import meta
from netlab.controllers.nodeipam import free
from netlab.controllers.nodes import eviction_time, silent_conditions, taints
from tests.controllers.builders import NOW, a_node, a_pod, at


def keys(node):
    return sorted((row["key"].rpartition("/")[2], row["effect"]) for row in taints(node, NOW))


@pytest.mark.parametrize(("conditions", "spec", "expected"), [
    ({"Ready": "True"}, {}, []),
    ({"Ready": "False"}, {}, [("not-ready", "NoExecute"), ("not-ready", "NoSchedule")]),
    ({"Ready": "Unknown"}, {}, [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]),
    ({"Ready": "True", "MemoryPressure": "True"}, {}, [("memory-pressure", "NoSchedule")]),
    ({"Ready": "True", "NetworkUnavailable": "True"}, {"unschedulable": True},
     [("network-unavailable", "NoSchedule"), ("unschedulable", "NoSchedule")]),
])
def test_taints_show_the_conditions(conditions, spec, expected):
    assert keys(a_node("n", conditions=conditions, **spec)) == expected


def test_foreign_taints_stay_and_ours_go_when_their_reason_goes():
    mine = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "timeAdded": at(-5)}
    theirs = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    kept = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoExecute"}
    assert taints(a_node("n", taints=[mine, theirs, kept]), NOW) == [theirs, kept]
    again = taints(a_node("n", taints=[theirs, mine], conditions={"Ready": "False"}), NOW)
    assert mine in again, "a taint that stays keeps its time"


def test_a_silent_node():
    found = {row["type"]: row for row in silent_conditions(a_node("n"), NOW)}
    assert found["Ready"]["reason"] == "NodeStatusUnknown"
    assert found["DiskPressure"]["reason"] == "NodeStatusNeverUpdated"
    assert {row["status"] for row in found.values()} == {"Unknown"}
    node = a_node("n")
    node["status"]["conditions"] = list(found.values())
    assert silent_conditions(node, NOW + 100) == node["status"]["conditions"]


def wish(seconds=None, key="node.kubernetes.io/not-ready"):
    row = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    return row if seconds is None else {**row, "tolerationSeconds": seconds}


NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "timeAdded": at(-100)}


@pytest.mark.parametrize(("tolerations", "rows", "leave"), [
    pytest.param([], [], None, id="no taint"),
    pytest.param([], [{"key": "x", "effect": "NoSchedule"}], None, id="NoSchedule is for newcomers"),
    pytest.param([], [NOT_READY], 0, id="not tolerated: now"),
    pytest.param([wish()], [NOT_READY], None, id="tolerated for ever"),
    pytest.param([wish(300)], [NOT_READY], 200, id="300 s from when the taint came"),
    pytest.param([wish(300), wish(30)], [NOT_READY], -70, id="the shortest counts"),
    pytest.param([wish(300)], [NOT_READY, {"key": "other", "effect": "NoExecute"}], 0, id="one is enough"),
    pytest.param([wish(-5)], [NOT_READY], -100, id="negative is zero"),
])
def test_when_a_pod_has_to_leave(tolerations, rows, leave):
    at_ = eviction_time(a_pod(tolerations=tolerations, born=-1000), rows, NOW)
    assert at_ == (None if leave is None else NOW + leave)


def test_a_pod_younger_than_the_taint_has_its_time_too():
    assert eviction_time(a_pod(tolerations=[wish(300)], born=-10), [NOT_READY], NOW) == NOW + 290


@given(st.lists(st.integers(0, 15), unique=True), st.integers(0, 15))
def test_networks_are_given_once_and_all_of_them(used, start):
    cluster = ipaddress.ip_network("10.244.0.0/20")
    parts = list(cluster.subnets(new_prefix=24))
    found = free(cluster, 24, [parts[number] for number in used], start)
    if len(used) == 16:
        assert found is None
    else:
        assert found == (parts[found[1]], found[1])
        assert found[1] not in used
        assert all(number % 16 in used for number in range(start, start + (found[1] - start) % 16))


def test_a_larger_network_in_use_blocks_all_that_it_covers():
    cluster = ipaddress.ip_network("10.244.0.0/16")
    assert free(cluster, 24, [ipaddress.ip_network("10.244.0.0/20")])[0] == ipaddress.ip_network("10.244.16.0/24")
    assert free(cluster, 24, [ipaddress.ip_network("192.168.0.0/24")])[0] == ipaddress.ip_network("10.244.0.0/24")
    assert free(ipaddress.ip_network("fd00::/56"), 64, [])[0] == ipaddress.ip_network("fd00::/64")
    assert meta.name(a_node("n")) == "n"
