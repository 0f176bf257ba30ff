"""Which endpoints a node uses (the cases of upstream's topology tests, in our words)."""

from __future__ import annotations

import pytest

from netlab.proxy.endpoints import Endpoint
from netlab.proxy.services import ServicePort
from netlab.proxy.topology import choose

PLAIN = ServicePort("default/web", "default/web", "", "tcp", "10.96.0.1", 80)
ITP_LOCAL = PLAIN._replace(internal_local=True)
ETP_LOCAL = PLAIN._replace(external_local=True, node_port=30080)
BOTH_LOCAL = ETP_LOCAL._replace(internal_local=True)


def ep(number: int, *, node: str = "", zones: str = "", nodes: str = "", ready: bool = True, serving: bool = True,
       terminating: bool = False) -> Endpoint:
    return Endpoint(f"10.0.0.{number}", 80, f"10.0.0.{number}:80", node, ready, serving, terminating,
                    frozenset(zones.split()), frozenset(nodes.split()))


def dying(number: int, **fields) -> Endpoint:
    return ep(number, ready=False, terminating=True, **fields)


def chosen(endpoints, port=PLAIN, *, node="here", zone="a"):
    found = choose(endpoints, port, node=node, zone=zone)
    numbers = [[int(each.ip.rpartition(".")[2]) for each in group] for group in (found.cluster, found.local, found.reachable)]
    return (*numbers, found.any)


@pytest.mark.parametrize(("endpoints", "expected"), [
    pytest.param([], ([], [], [], False), id="none"),
    pytest.param([ep(1), ep(2)], ([1, 2], [], [1, 2], True), id="no hints: all"),
    pytest.param([ep(1, zones="a"), ep(2, zones="b")], ([1], [], [1], True), id="all hinted: own zone"),
    pytest.param([ep(1, zones="a"), ep(2)], ([1, 2], [], [1, 2], True), id="one without a hint: all"),
    pytest.param([ep(1, zones="b"), ep(2, zones="c")], ([1, 2], [], [1, 2], True), id="no hint for this zone: all"),
    pytest.param([ep(1, zones="a b"), ep(2, zones="b")], ([1], [], [1], True), id="an endpoint for two zones"),
    pytest.param([ep(1, zones="a", nodes="here"), ep(2, zones="a", nodes="there")], ([1], [], [1], True),
                 id="own node before own zone"),
    pytest.param([ep(1, zones="a", nodes="there"), ep(2, zones="b", nodes="there")], ([1], [], [1], True),
                 id="no hint for this node: own zone"),
    pytest.param([ep(1, zones="a", nodes="here"), ep(2, zones="a")], ([1, 2], [], [1, 2], True),
                 id="node hints not on all: zone"),
    pytest.param([ep(1, zones="a"), ep(2, zones="b", ready=False)], ([1], [], [1], True),
                 id="hints of endpoints that are not ready do not count"),
    pytest.param([ep(1, zones="a"), ep(2, ready=False)], ([1], [], [1], True), id="nor does their lack"),
    pytest.param([ep(1, ready=False), ep(2, ready=False)], ([], [], [], False), id="none ready"),
    pytest.param([ep(1), dying(2)], ([1], [], [1], True), id="one ready, one terminating"),
    pytest.param([ep(1, ready=False), dying(2)], ([2], [], [2], True), id="only terminating ones serve"),
    pytest.param([dying(1, serving=False)], ([], [], [], False), id="terminating and not serving"),
    pytest.param([dying(1, zones="b")], ([1], [], [1], True), id="hints do not narrow the fallback"),
])
def test_cluster_policy(endpoints, expected):
    assert chosen(endpoints) == expected


@pytest.mark.parametrize(("port", "endpoints", "expected"), [
    pytest.param(ITP_LOCAL, [ep(1, node="here"), ep(2)], ([], [1], [1], True), id="internal local"),
    pytest.param(ITP_LOCAL, [ep(1), ep(2)], ([], [], [], True), id="internal local, none here"),
    pytest.param(ITP_LOCAL, [dying(1, node="here"), ep(2)], ([], [1], [1], True), id="internal local, only a dying one here"),
    pytest.param(ETP_LOCAL, [ep(1, node="here"), ep(2)], ([1, 2], [1], [1, 2], True), id="external local"),
    pytest.param(ETP_LOCAL, [ep(1), ep(2)], ([1, 2], [], [1, 2], True), id="external local, none here"),
    pytest.param(ETP_LOCAL, [dying(1, node="here"), ep(2)], ([2], [1], [1, 2], True), id="each policy falls back by itself"),
    pytest.param(ETP_LOCAL, [ep(1, node="here", zones="b"), ep(2, zones="a")], ([2], [1], [1, 2], True),
                 id="hints do not narrow local"),
    pytest.param(BOTH_LOCAL, [ep(1, node="here"), ep(2)], ([1, 2], [1], [1, 2], True),
                 id="both local: Pods still reach all by external addresses"),
    pytest.param(ITP_LOCAL._replace(external_ips=("1.2.3.4",)), [ep(1, node="here"), ep(2)], ([1, 2], [1], [1, 2], True),
                 id="internal local, external cluster"),
    pytest.param(PLAIN._replace(external_local=True), [ep(1), ep(2)], ([1, 2], [], [1, 2], True),
                 id="external local without an external address"),
    pytest.param(ETP_LOCAL, [ep(1, ready=False, node="here")], ([], [], [], False), id="nothing usable"),
])
def test_local_policies(port, endpoints, expected):
    assert chosen(endpoints, port) == expected


def test_a_node_without_a_zone_uses_all():
    assert chosen([ep(1, zones="a"), ep(2, zones="b")], zone="") == ([1, 2], [], [1, 2], True)
